//! Reads fields of a message from left to right.
//!
//! Contract: each function takes exactly what it names off the front, or takes nothing and says `None`.
//! None of them searches, so what somebody put into a field cannot be taken for the next one.
#![forbid(unsafe_code)]

use std::net::IpAddr;

/// What is left of a message.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// This text.
    pub fn text(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// As many of these octets as there are, which may be none.
    pub fn while_is(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|octet| !is(*octet));
        let (part, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        part
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let before = *self;
        let number = number(self.while_is(|octet| octet.is_ascii_digit()));
        if number.is_none() {
            *self = before;
        }
        number
    }

    /// A mail address in angle brackets, without them. In quotes a bracket is a letter (RFC 5321, section 4.1.2).
    pub fn path(&mut self) -> Option<&'a [u8]> {
        let inner = self.0.strip_prefix(b"<")?;
        let end = outside_quotes(inner, b'>')?;
        self.0 = &inner[end + 1..];
        Some(&inner[..end])
    }

    /// An address of the Internet in square brackets, perhaps with a port behind it; a `None` inside is one
    /// that is not known, as in `unknown[unknown]`.
    pub fn bracketed(&mut self) -> Option<Option<IpAddr>> {
        let inner = self.0.strip_prefix(b"[")?;
        let end = inner.iter().take(64).position(|octet| *octet == b']')?;
        let address = match &inner[..end] {
            b"unknown" => None,
            text => Some(address(text)?),
        };
        self.0 = &inner[end + 1..];
        if let Some(port) = self.0.strip_prefix(b":") {
            let digits = port
                .iter()
                .take_while(|octet| octet.is_ascii_digit())
                .count();
            if (1..=5).contains(&digits) {
                self.0 = &port[digits..];
            }
        }
        Some(address)
    }

    /// The name of a host as a mail server takes it from the DNS: it cannot hold what ends a field. It may
    /// be empty.
    pub fn host_name(&mut self) -> &'a [u8] {
        self.while_is(is_host)
    }

    /// Up to this text, which is taken as well.
    pub fn until(&mut self, text: &[u8]) -> Option<&'a [u8]> {
        let at = find(self.0, text)?;
        let part = &self.0[..at];
        self.0 = &self.0[at + text.len()..];
        Some(part)
    }
}

const fn is_host(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_')
}

/// Where this octet is first, not inside of quotes.
pub fn outside_quotes(text: &[u8], wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter().position(|octet| {
        if escaped {
            escaped = false;
            return false;
        }
        match octet {
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        *octet == wanted && !quoted
    })
}

/// Where this text is first.
pub fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

/// Where this text is last.
pub fn find_last(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).rposition(|part| part == wanted)
}

/// A number of digits alone.
pub fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = digits.iter();
    Some(digits.fold(0, |number, digit| 10 * number + u64::from(digit - b'0')))
}

/// An address of the Internet as servers write it, IPv4 in IPv6 as IPv4.
pub fn address(text: &[u8]) -> Option<IpAddr> {
    let text = text.strip_prefix(b"IPv6:").unwrap_or(text);
    if text.len() > 45 {
        return None;
    }
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// The mail addresses of a list such as `<a@example.org>,<b@example.org>`, without brackets.
pub fn list(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = outside_quotes(text, b',').unwrap_or(text.len());
        rest = text.get(end + 1..);
        let one = &text[..end];
        let inner = one
            .strip_prefix(b"<")
            .and_then(|one| one.strip_suffix(b">"));
        Some(inner.unwrap_or(one))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_its_quotes_let_it() {
        for (text, path, rest) in [
            (&b"<a@b>, size=1"[..], &b"a@b"[..], &b", size=1"[..]),
            (b"<>x", b"", b"x"),
            (b"<\"a> b, size=9\"@c> ", b"\"a> b, size=9\"@c", b" "),
            (b"<\"a\\\"> b\"@c>", b"\"a\\\"> b\"@c", b""),
        ] {
            let mut fields = Fields(text);
            assert_eq!(fields.path(), Some(path));
            assert_eq!(fields.0, rest);
        }
        for text in [&b"a@b"[..], b"<a@b", b"<\"a>", b""] {
            let mut fields = Fields(text);
            assert_eq!(fields.path(), None);
            assert_eq!(fields.0, text);
        }
    }

    #[test]
    fn addresses_are_read_as_each_server_writes_them() {
        for (text, expected, rest) in [
            ("[192.0.2.1]:2525 x", "192.0.2.1", " x"),
            ("[IPv6:2001:db8::1] x", "2001:db8::1", " x"),
            ("[2001:db8::1]: 550", "2001:db8::1", ": 550"),
            ("[::ffff:192.0.2.1]", "192.0.2.1", ""),
        ] {
            let mut fields = Fields(text.as_bytes());
            let found = fields
                .bracketed()
                .flatten()
                .map(|address| address.to_string());
            assert_eq!(found.as_deref(), Some(expected));
            assert_eq!(fields.0, rest.as_bytes());
        }
        assert_eq!(Fields(b"[unknown]").bracketed(), Some(None));
        for text in ["192.0.2.1", "[192.0.2]", "[]", "[192.0.2.1", "[x]"] {
            assert_eq!(Fields(text.as_bytes()).bracketed(), None, "{text}");
        }
    }

    #[test]
    fn a_list_is_cut_outside_of_quotes() {
        let found: Vec<_> = list(b"<a@b>,<\"c,d\"@e>,root").collect();
        assert_eq!(found, [&b"a@b"[..], b"\"c,d\"@e", b"root"]);
    }
}
