//! What of a log may be kept and shown.
//!
//! Contract: of a mail address only what the operator chose leaves this file, in at most [`LIMIT`] octets and
//! `...`, and it is printable: control characters, octets that are no UTF-8, what turns the direction of a line or
//! cannot be seen and backslashes are escaped, so that nothing can end a line or drive a terminal. A domain is
//! one by its letters: behind an `@` may stand a command with people's names in it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::model::mail::KeptAddresses;

/// Most octets of a text that is kept, as it is shown: the longest mail address (RFC 5321, section 4.5.3.1.3).
const LIMIT: usize = 254;

/// What is kept of an address: nothing, or a text.
pub fn kept(choice: KeptAddresses, address: &[u8]) -> Option<String> {
    match choice {
        KeptAddresses::None => None,
        // The sender of a bounce is nobody.
        _ if address.is_empty() => Some("<>".to_owned()),
        KeptAddresses::Full => Some(shown(address)),
        KeptAddresses::Domain => Some(domain(address)),
    }
}

/// What is kept by one choice of what was kept by another; never more than that.
pub fn narrowed(from: KeptAddresses, to: KeptAddresses, text: &str) -> Option<String> {
    match (from, to) {
        (_, KeptAddresses::None) => None,
        // It is nobody, whatever is kept.
        (KeptAddresses::Full, KeptAddresses::Domain) if text != "<>" => {
            Some(domain(text.as_bytes()))
        }
        _ => Some(text.to_owned()),
    }
}

/// What is behind the last `@`.
fn domain(address: &[u8]) -> String {
    let Some(at) = address.iter().rposition(|octet| *octet == b'@') else {
        // A user of the server, or a file.
        return "(local)".to_owned();
    };
    let domain = &address[at + 1..];
    let is_domain = |octet: &u8| octet.is_ascii_alphanumeric() || b".-_:[]".contains(octet);
    if domain.is_empty()
        || !domain
            .iter()
            .all(|octet| is_domain(octet) || *octet >= 0x80)
    {
        return "(other)".to_owned();
    }
    shown(&domain.to_ascii_lowercase())
}

/// A text from outside as it may be shown.
pub fn shown(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len().min(LIMIT));
    let fits = |shown: &String, length: usize| shown.len() + length <= LIMIT;
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let escaped = character.escape_default();
            let escape = character == '\\' || character.is_control() || hides(character);
            let length = match escape {
                true => escaped.len(),
                false => character.len_utf8(),
            };
            if !fits(&shown, length) {
                return shown + "...";
            }
            match escape {
                true => shown.extend(escaped),
                false => shown.push(character),
            }
        }
        for octet in chunk.invalid() {
            if !fits(&shown, r"\xff".len()) {
                return shown + "...";
            }
            let _ = write!(shown, "\\x{octet:02x}");
        }
    }
    shown
}

/// What turns the direction of a line (Unicode, UAX 9), ends one, or cannot be seen (its category Cf, and fillers).
const fn hides(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_operator_chooses_what_is_kept() {
        for (address, domain, full) in [
            (&b"ann@example.org"[..], "example.org", "ann@example.org"),
            (b"", "<>", "<>"),
            (b"root", "(local)", "root"),
            (b"\"a@b\"@example.org", "example.org", "\"a@b\"@example.org"),
            (b"ann@Example.ORG", "example.org", "ann@Example.ORG"),
            (b"ann@[192.0.2.1]", "[192.0.2.1]", "ann@[192.0.2.1]"),
            // Deliveries to programs, as sendmail and Exim log them.
            (
                b"\"|vacation -a ann@example.org bob\"",
                "(other)",
                "\"|vacation -a ann@example.org bob\"",
            ),
            (b"ann@", "(other)", "ann@"),
        ] {
            assert_eq!(kept(KeptAddresses::None, address), None);
            assert_eq!(
                kept(KeptAddresses::Domain, address).as_deref(),
                Some(domain)
            );
            assert_eq!(kept(KeptAddresses::Full, address).as_deref(), Some(full));
        }
    }

    #[test]
    fn another_choice_takes_away_and_brings_nothing_back() {
        use KeptAddresses::{Domain, Full, None as Nothing};
        for (from, to, text, expected) in [
            (Full, Domain, "ann@example.org", Some("example.org")),
            (Full, Domain, "<>", Some("<>")),
            (Full, Nothing, "ann@example.org", None),
            (Domain, Nothing, "example.org", None),
            (Domain, Domain, "example.org", Some("example.org")),
            (Domain, Full, "example.org", Some("example.org")),
        ] {
            assert_eq!(narrowed(from, to, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_drives_a_terminal() {
        assert_eq!(shown(b"a\x1b[31m\r\n\0"), "a\\u{1b}[31m\\r\\n\\u{0}");
        assert_eq!(shown(b"a\xff\xc3"), "a\\xff\\xc3");
        assert_eq!(shown("\u{202e}gro".as_bytes()), "\\u{202e}gro");
        assert_eq!(shown("a\u{ad}b\u{e0041}".as_bytes()), "a\\u{ad}b\\u{e0041}");
        assert_eq!(shown("j\u{fc}rgen".as_bytes()), "j\u{fc}rgen");
        assert_eq!(shown(b"\\n"), "\\\\n");
        assert_eq!(shown(&[b'x'; 300]).len(), LIMIT + 3);
        assert_eq!(shown(&[0xff; 300]).len(), LIMIT / 4 * 4 + 3);
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable_and_bounded(text in prop::collection::vec(any::<u8>(), 0..600)) {
            let shown = shown(&text);
            prop_assert!(!shown.chars().any(|c| c.is_control() || hides(c)));
            prop_assert!(shown.len() <= LIMIT + 3);
        }
    }
}
