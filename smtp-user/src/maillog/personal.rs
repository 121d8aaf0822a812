//! What of a log may be kept and shown.
//!
//! Contract: of a mail address only what the operator chose leaves this file, and it is printable: control
//! characters, octets that are no UTF-8, what turns the direction of a line and backslashes are escaped, so that
//! two different texts are never shown alike, and none can end a line or drive a terminal.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::model::mail::KeptAddresses;

/// Most characters of a text that is kept, before they are escaped: the longest mail address (RFC 5321, section
/// 4.5.3.1.3).
const LIMIT: usize = 254;

/// What is kept of an address: nothing, or a text.
pub fn kept(choice: KeptAddresses, address: &[u8]) -> Option<String> {
    match choice {
        KeptAddresses::None => None,
        // The sender of a bounce is nobody.
        _ if address.is_empty() => Some("<>".to_owned()),
        KeptAddresses::Full => Some(shown(address)),
        KeptAddresses::Domain => {
            let at = address.iter().rposition(|octet| *octet == b'@');
            // A name without a domain is a user of the server.
            Some(at.map_or_else(|| "(local)".to_owned(), |at| shown(&address[at + 1..])))
        }
    }
}

/// A text from outside as it may be shown, of at most [`LIMIT`] characters and `...` for the rest.
pub fn shown(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len().min(LIMIT));
    let mut left = LIMIT;
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if left == 0 {
                shown.push_str("...");
                return shown;
            }
            left -= 1;
            if character == '\\' || character.is_control() || turns(character) {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for octet in chunk.invalid() {
            if left == 0 {
                shown.push_str("...");
                return shown;
            }
            left -= 1;
            let _ = write!(shown, "\\x{octet:02x}");
        }
    }
    shown
}

/// What turns the direction of a line or cannot be seen (Unicode, UAX 9), and its own ends of lines.
const fn turns(character: char) -> bool {
    matches!(character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
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
    fn nothing_drives_a_terminal() {
        assert_eq!(shown(b"a\x1b[31m\r\n\0"), "a\\u{1b}[31m\\r\\n\\u{0}");
        assert_eq!(shown(b"a\xff\xc3"), "a\\xff\\xc3");
        assert_eq!(shown("\u{202e}gro".as_bytes()), "\\u{202e}gro");
        assert_eq!(shown("j\u{fc}rgen".as_bytes()), "j\u{fc}rgen");
        assert_eq!(shown(b"\\n"), "\\\\n");
        assert_eq!(shown(&[b'x'; 300]).len(), LIMIT + 3);
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable_and_bounded(text in prop::collection::vec(any::<u8>(), 0..600)) {
            let shown = shown(&text);
            prop_assert!(!shown.chars().any(|c| c.is_control() || turns(c)));
            prop_assert!(shown.len() <= 10 * LIMIT + 3);
        }
    }
}
