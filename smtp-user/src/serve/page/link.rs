//! Links with a query.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// A path with these parameters.
pub(super) fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut link = path.to_owned();
    let mut sign = '?';
    for (name, value) in parameters {
        let _ = write!(link, "{sign}{name}=");
        sign = '&';
        for octet in value.bytes() {
            match octet {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                    link.push(octet.into());
                }
                b' ' => link.push('+'),
                other => {
                    let _ = write!(link, "%{other:02X}");
                }
            }
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_a_value() {
        assert_eq!(link("/a", &[]), "/a");
        assert_eq!(link("/a", &[("x", ""), ("y", "")]), "/a?x=&y=");
        let hostile = "a&b=c#\"><\u{e9} net:10.0.0.0/8 n>=3+4%";
        let made = link("/a", &[("x", hostile), ("y", "1")]);
        assert!(
            made.starts_with("/a?x=a%26b%3Dc%23%22%3E%3C%C3%A9+net:10.0.0.0%2F8+n%3E%3D3%2B4%25")
        );
        assert!(made.ends_with("&y=1"));
        let uri: axum::http::Uri = made.parse().expect("a target");
        let axum::extract::Query(read) =
            axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).expect("a query");
        assert_eq!(read[0].1, hostile);
    }
}
