//! Why something was refused, by the words of the refusal.
//!
//! Contract: words between angle brackets do not count, since that is where servers put what the client
//! said; so an address such as `virus@example.org` makes no virus. Only the first [`LIMIT`] octets do.
#![forbid(unsafe_code)]

use super::event::Reason;
use super::field::outside_quotes;

/// Octets that are looked at.
const LIMIT: usize = 512;

/// Words in lower case, the most telling first.
const WORDS: &[(&[u8], Reason)] = &[
    (b"virus", Reason::Virus),
    (b"malware", Reason::Virus),
    (b"infected", Reason::Virus),
    (b"eicar", Reason::Virus),
    (b"greylist", Reason::Greylisted),
    (b"graylist", Reason::Greylisted),
    (b"try again later", Reason::Greylisted),
    (b"relaying denied", Reason::Relay),
    (b"relay access denied", Reason::Relay),
    (b"relay not permitted", Reason::Relay),
    (b"user unknown", Reason::Recipient),
    (b"unknown user", Reason::Recipient),
    (b"no such user", Reason::Recipient),
    (b"unknown recipient", Reason::Recipient),
    (b"unrouteable address", Reason::Recipient),
    (b"undeliverable address", Reason::Recipient),
    (b"mailbox unavailable", Reason::Recipient),
    (b"blocked using", Reason::Listed),
    (b"blacklist", Reason::Listed),
    (b"blocklist", Reason::Listed),
    (b"dnsbl", Reason::Listed),
    (b"listed at", Reason::Listed),
    (b"listed in", Reason::Listed),
    (b"spam", Reason::Spam),
    (b"rate limit", Reason::Rate),
    (b"too many", Reason::Rate),
    (b"too much mail", Reason::Rate),
    (b"does not exist", Reason::Name),
    (b"does not resolve", Reason::Name),
    (b"domain not found", Reason::Name),
    (b"cannot find your", Reason::Name),
    (b"name lookup failed", Reason::Name),
    (b"need fully-qualified", Reason::Name),
    (b"host not found", Reason::Name),
    (b"verify failed", Reason::Name),
];

/// The reason that a text gives.
pub fn of(text: &[u8]) -> Reason {
    let mut plain = Vec::with_capacity(LIMIT);
    let mut rest = &text[..text.len().min(LIMIT)];
    while let Some(begin) = rest.iter().position(|octet| *octet == b'<') {
        plain.extend(rest[..begin].iter().map(u8::to_ascii_lowercase));
        // What is not closed is the client's up to the end.
        let end = outside_quotes(&rest[begin..], b'>').map_or(rest.len(), |end| begin + end + 1);
        rest = &rest[end..];
    }
    plain.extend(rest.iter().map(u8::to_ascii_lowercase));
    let has = |word: &[u8]| plain.windows(word.len()).any(|part| part == word);
    WORDS
        .iter()
        .find(|(word, _)| has(word))
        .map_or(Reason::Other, |(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_real_refusals_are_known() {
        for (text, reason) in [
            (
                "554 5.7.1 <x@y.example>: Relay access denied",
                Reason::Relay,
            ),
            ("550 5.7.1 <x@y.example>... Relaying denied", Reason::Relay),
            ("relay not permitted", Reason::Relay),
            ("550 5.1.1 <x@y.example>... User unknown", Reason::Recipient),
            (
                "550 5.1.1 <x@y>: Recipient address rejected: User unknown in virtual mailbox table",
                Reason::Recipient,
            ),
            (
                "This message contains a virus (Eicar-Test-Signature)",
                Reason::Virus,
            ),
            (
                "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.example",
                Reason::Listed,
            ),
            (
                "450 4.2.0 <x@y>: Recipient address rejected: Greylisted",
                Reason::Greylisted,
            ),
            (
                "553 5.1.8 <a@b>... Domain of sender address a@b does not exist",
                Reason::Name,
            ),
            ("452 4.5.3 Error: too many recipients", Reason::Rate),
            ("550 5.7.1 Command rejected", Reason::Other),
            ("", Reason::Other),
        ] {
            assert_eq!(of(text.as_bytes()), reason, "{text}");
        }
    }

    #[test]
    fn what_the_client_said_does_not_count() {
        for text in [
            "554 5.7.1 <virus@spam.example>: refused",
            "554 5.7.1 <\"> virus\"@spam.example>: refused",
            "554 5.7.1 refused; helo=<virus",
        ] {
            assert_eq!(of(text.as_bytes()), Reason::Other, "{text}");
        }
    }
}
