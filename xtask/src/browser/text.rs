//! Small pieces of the protocol's text.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A field of an answer that must be text.
pub(super) fn field(answer: &Value, name: &str) -> Result<String> {
    let value = answer[name].as_str();
    let value = value.with_context(|| format!("the answer has no text {name}: {answer}"))?;
    Ok(value.to_owned())
}

/// What an exception says, in a line.
pub(super) fn exception(said: &Value) -> String {
    let details = &said["exceptionDetails"];
    let thrown = details["exception"]["description"].as_str();
    thrown.map_or_else(|| details.to_string(), str::to_owned)
}

/// The octets of base64 (RFC 4648 section 4) as Chromium writes it.
pub(super) fn base64(text: &str) -> Result<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => bail!("{other} is no octet of base64"),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push((bits >> held) as u8);
        }
    }
    Ok(octets)
}

/// The text as a string of JavaScript.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (text, octets) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).expect("base64"), octets.as_bytes());
        }
        assert_eq!(base64("+/+/").expect("base64"), [0xfb, 0xff, 0xbf]);
        assert!(base64("Zm9v!").is_err());
    }
}
