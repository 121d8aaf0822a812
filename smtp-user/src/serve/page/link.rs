//! Links with a query, percent-encoded.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// `path?name=value&...`; what has no value is left out.
pub(super) fn link(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut link = path.to_owned();
    let mut separator = '?';
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        link.push(separator);
        separator = '&';
        encode(&mut link, name);
        link.push('=');
        encode(&mut link, value);
    }
    link
}

/// All but the unreserved characters of RFC 3986, section 2.3, and `:` and `/`, which a query may have as
/// they are and filters are full of.
fn encode(link: &mut String, text: &str) {
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                link.push(char::from(octet));
            }
            b' ' => link.push('+'),
            _ => {
                let _ = write!(link, "%{octet:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_comes_back_as_it_was() {
        let text = "net:10.0.0.0/8 connections>30&a=\"\u{e9}<+%";
        let link = link(
            "/sources",
            &[("filter", text), ("sort", ""), ("limit", "50")],
        );
        assert_eq!(
            link,
            "/sources?filter=net:10.0.0.0/8+connections%3E30%26a%3D%22%C3%A9%3C%2B%25&limit=50"
        );
        let uri: axum::http::Uri = link.parse().expect("a target");
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        assert_eq!(pairs.expect("pairs").0[0].1, text);
    }
}
