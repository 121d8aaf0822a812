//! The header of the message that a complaint is about, as it may be kept and handed on.
//!
//! Contract: written by a spammer, and by servers of strangers: whatever is in it, what is kept is whole fields in
//! visible ASCII, of lines that any relay takes, and at most [`MOST`] octets. Of the addresses of people only what the
//! operator chose is in it, in the place of the rest a word that stands for the same one each time (RFC 6590): made with
//! a key that nobody else has, so that nobody can try names. Where not everything is kept, only those fields are that are
//! known to say where a message came from; who is named without an address is left out.
#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::{HeaderName, MessageParser};
use sha2::{Digest as _, Sha256};

use crate::model::mail::KeptAddresses;

/// Most octets that are kept of a header.
const MOST: usize = 8 << 10;
/// Octets of a header that are looked at.
const LOOKED_AT: usize = 64 << 10;
/// A field that is longer than this, in octets, is left out.
const LONGEST: usize = 4 << 10;
/// Most octets of the value of a field; a line is not longer, whatever is in it (RFC 5322, section 2.1.1).
const VALUE: usize = 900;
/// Most octets of the name of a field.
const NAME: usize = 64;
/// Octets of a line that is folded.
const LINE: usize = 76;
/// Addresses of one field.
const ADDRESSES: usize = 20;
/// Octets of an encoded word, before it is encoded (RFC 2047, section 2).
const WORD: usize = 42;

/// Fields that say where a message came from and what it is, as they are but for addresses.
const PLAIN: &[&str] = &[
    "received",
    "date",
    "mime-version",
    "user-agent",
    "x-mailer",
    "x-php-originating-script",
    "x-originating-ip",
    "auto-submitted",
    "precedence",
    "received-spf",
    "authentication-results",
];
/// Fields of addresses.
const ADDRESSED: &[&str] = &[
    "return-path",
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "resent-from",
    "resent-to",
];

/// How headers are kept.
#[derive(Clone)]
pub struct Keep {
    /// What of the addresses of people.
    pub addresses: KeptAddresses,
    /// What makes the words in their places those of this store.
    pub key: [u8; 32],
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Keep {
    /// What is kept of the header that this begins with; `None` if there is nothing.
    pub(super) fn header(&self, message: &[u8]) -> Option<String> {
        let mut header = String::new();
        for (name, value) in fields(message) {
            let Some(value) = self.value(&name, &value) else {
                continue;
            };
            let field = folded(&name, &value);
            if header.len() + field.len() <= MOST {
                header.push_str(&field);
            }
        }
        (!header.is_empty()).then_some(header)
    }

    /// What is kept of a field; `None` if nothing is.
    fn value(&self, name: &str, raw: &[u8]) -> Option<String> {
        if raw.len() > LONGEST {
            return None;
        }
        let text: String = raw.iter().map(|octet| visible(*octet)).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = name.to_ascii_lowercase();
        let mut kept = match (self.addresses, &*lower) {
            (KeptAddresses::Full, _) => text,
            (_, of) if ADDRESSED.contains(&of) => self.addressed(&text)?,
            (_, of) if PLAIN.contains(&of) => self.redacted(&without_users(&text)),
            (KeptAddresses::Domain, "subject") => encoded(&self.redacted(&decoded(raw)?)),
            // It is by this that the message is found again in a log.
            (KeptAddresses::Domain, "message-id") => text,
            _ => return None,
        };
        kept.truncate(VALUE);
        kept.truncate(kept.trim_end().len());
        (!kept.is_empty()).then_some(kept)
    }

    /// A list of addresses, without the names of people.
    fn addressed(&self, text: &str) -> Option<String> {
        if text == "<>" {
            return Some(text.to_owned());
        }
        let found: Vec<String> = pieces(text)
            .filter_map(|piece| match piece {
                Piece::Word(word) if domain(word).is_some() => {
                    Some(format!("<{}>", self.word(word)))
                }
                // A name, or what is none of these.
                _ => None,
            })
            .take(ADDRESSES)
            .collect();
        (!found.is_empty()).then(|| found.join(", "))
    }

    /// A text with what the operator chose of the addresses in it.
    fn redacted(&self, text: &str) -> String {
        pieces(text)
            .map(|piece| match piece {
                Piece::Between(between) => between.to_owned(),
                // It may hold anything.
                Piece::Word(word) if word.contains("=?") => "...".to_owned(),
                Piece::Word(word) if is_address(word) => self.word(word),
                Piece::Word(word) => word.to_owned(),
            })
            .collect()
    }

    /// What stands in the place of an address.
    fn word(&self, address: &str) -> String {
        match self.addresses {
            KeptAddresses::Full => address.to_owned(),
            KeptAddresses::None => format!("{}@redacted.invalid", self.token(address)),
            KeptAddresses::Domain => match address.rsplit_once(AT) {
                Some((local, _)) => {
                    format!(
                        "{}@{}",
                        self.token(local),
                        domain(address).unwrap_or_default()
                    )
                }
                None => self.token(address),
            },
        }
    }

    /// RFC 6590, section 3: the same for the same text, and nothing that leads back to it.
    fn token(&self, text: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(text.as_bytes());
        let hash = hash.finalize();
        let hex: String = hash[..8]
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        format!("redacted-{hex}")
    }
}

/// What an address has in it: also as Unicode has it for wide letters.
const AT: [char; 2] = ['@', '\u{ff20}'];

/// Whether a word is an address, or may hide one as an URL or quoted-printable would.
fn is_address(word: &str) -> bool {
    word.contains(AT) || word.contains("%40") || word.contains("=40")
}

/// The domain of an address.
fn domain(word: &str) -> Option<&str> {
    let (_, domain) = word.rsplit_once(AT)?;
    // What stands behind that is no part of it, and may be anything.
    let end = domain
        .find(|c: char| !c.is_ascii_alphanumeric() && !".-_".contains(c))
        .unwrap_or(domain.len());
    (end > 0).then(|| &domain[..end])
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// What can be part of an address: no space, no bracket.
    Word(&'a str),
    /// All else.
    Between(&'a str),
}

/// The parts of a text. What is in quotes belongs to the word that it stands in.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let of_word = !is_border(first);
        let mut quoted = false;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                if of_word && *c == '"' {
                    quoted = !quoted;
                }
                !quoted && is_border(*c) == of_word
            })
            .map_or(rest.len(), |(at, _)| at);
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        Some(match of_word {
            true => Piece::Word(piece),
            false => Piece::Between(piece),
        })
    })
}

fn is_border(c: char) -> bool {
    c.is_whitespace() || "<>()[],;:\\".contains(c)
}

/// A trace without the comments that name who has logged in to send it, which need not be by an address.
fn without_users(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('(') {
        kept.push_str(before);
        let mut depth = 1_u32;
        let end = behind.find(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let (comment, after) = match end {
            Some(end) => (&behind[..end], &behind[end + 1..]),
            None => (behind, ""),
        };
        let comment = match comment.to_ascii_lowercase().contains("authenticated") {
            true => "authenticated",
            false => comment,
        };
        kept.push('(');
        kept.push_str(comment);
        kept.push(')');
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// An octet of a header as a character of a line.
fn visible(octet: u8) -> char {
    match octet {
        b'\t' | b'\r' | b'\n' => ' ',
        0x20..=0x7e => char::from(octet),
        _ => '?',
    }
}

/// The text of a field with encoded words (RFC 2047), in one line.
fn decoded(raw: &[u8]) -> Option<String> {
    let mut field = b"Subject: ".to_vec();
    field.extend(raw.iter().map(|octet| match octet {
        b'\r' | b'\n' => b' ',
        octet => *octet,
    }));
    field.extend_from_slice(b"\r\n\r\n");
    let parsed = MessageParser::new()
        .header_text(HeaderName::Subject)
        .default_header_ignore()
        .parse_headers(&field)?;
    let text = parsed.subject()?;
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    Some(words.join(" "))
}

/// A text as encoded words, where it is not plain.
fn encoded(text: &str) -> String {
    let plain = |c: char| c == ' ' || c.is_ascii_graphic();
    if text.chars().all(plain) && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    // What the value is cut to must end with one of them.
    let words = words.iter().take(VALUE / LINE);
    let words: Vec<String> = words
        .map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)))
        .collect();
    words.join(" ")
}

/// The fields of the header that a message begins with, unfolded.
fn fields(message: &[u8]) -> Vec<(String, Vec<u8>)> {
    let message = &message[..message.len().min(LOOKED_AT)];
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    // Whether a line that goes on belongs to the last of them.
    let mut open = false;
    for line in message.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let Some((_, value)) = fields.last_mut().filter(|_| open) {
                value.push(b' ');
                value.extend_from_slice(line);
            }
            continue;
        }
        let field = name(line);
        open = field.is_some();
        fields.extend(field.map(|(name, value)| (name, value.to_vec())));
    }
    fields
}

/// The name of the field that a line begins, and the rest of the line.
fn name(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|octet| *octet == b':')?;
    let name = line[..colon].trim_ascii_end();
    let good = (1..=NAME).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    let name = std::str::from_utf8(name).ok().filter(|_| good)?;
    Some((name.to_owned(), &line[colon + 1..]))
}

/// A field in lines that end with CRLF. Each begins with a name or a space, so that none is the border of a part.
fn folded(name: &str, value: &str) -> String {
    let mut field = format!("{name}:");
    let mut line = field.len();
    for (number, word) in value.split(' ').enumerate() {
        // The first one stays beside the name.
        if number > 0 && line + 1 + word.len() > LINE {
            field.push_str("\r\n");
            line = 0;
        }
        field.push(' ');
        field.push_str(word);
        line += 1 + word.len();
    }
    field.push_str("\r\n");
    field
}

#[cfg(test)]
mod tests;
