//! Values that are written as text in a configuration.
#![forbid(unsafe_code)]

use std::fmt;

use serde::de::Visitor;

/// Reads a value from text, or says what was expected.
pub(crate) struct Written<T> {
    pub(crate) expected: &'static str,
    pub(crate) parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}
