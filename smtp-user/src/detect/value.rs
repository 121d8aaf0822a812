//! Values of the detectors' parameters: those that make no sense cannot be written.
//!
//! Contract: each type reads what it writes, and an error says what is there and what was expected.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::written::Written;

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    /// This number.
    ///
    /// # Panics
    ///
    /// It is out of range.
    pub const fn new(number: u32) -> Self {
        assert!(MIN <= number && number <= MAX, "out of range");
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as a limit that is reached: one below it, since limits are compared strictly.
    pub fn reached(self) -> f64 {
        f64::from(self.0) - 1.0
    }
}

impl<const MIN: u32, const MAX: u32> Serialize for Within<MIN, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(self.0)
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(from)?;
        if MIN <= number && number <= MAX {
            return Ok(Self(number));
        }
        Err(D::Error::custom(format!(
            "{number} is out of range: expected {MIN} to {MAX}"
        )))
    }
}

/// A part of a whole, in thousandths, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// So many thousandths.
    ///
    /// # Panics
    ///
    /// They are more than the whole.
    pub const fn thousandths(number: u32) -> Self {
        assert!(number <= 1000, "more than the whole");
        Self(number)
    }

    /// As a number from 0 to 1. A quotient of two counts that is this share is this number exactly,
    /// because division rounds both alike (IEEE 754, section 4.3).
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.get())
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(from)?;
        let thousandths = (share * 1000.0).round();
        // What is read must be what is written; NaN is in no range.
        if (0.0..=1.0).contains(&share) && (thousandths - share * 1000.0).abs() < 1e-6 {
            return Ok(Self(thousandths as u32));
        }
        Err(D::Error::custom(format!(
            "{share} is no share: expected 0.0 to 1.0 in steps of 0.001"
        )))
    }
}

/// A long time, from an hour to ten years, written as `24h` or `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(u64);

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

impl Span {
    /// So many hours.
    ///
    /// # Panics
    ///
    /// They are none, or more than ten years.
    pub const fn hours(number: u64) -> Self {
        assert!(1 <= number && number <= 87_600, "out of range");
        Self(number * HOUR)
    }

    /// So many days.
    pub const fn days(number: u64) -> Self {
        Self::hours(24 * number)
    }

    /// In milliseconds.
    pub const fn milliseconds(self) -> u64 {
        self.0 * 1000
    }

    fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected a time such as \"24h\" or \"30d\"";
        let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
        let seconds = if let Some(days) = days {
            DAY.checked_mul(days)
        } else {
            let duration: SignedDuration = text
                .parse()
                .map_err(|_| format!("{text:?} is no duration: {expected}"))?;
            let duration = Duration::try_from(duration)
                .map_err(|_| format!("{text:?} lies in the past: {expected}"))?;
            (duration.subsec_nanos() == 0).then_some(duration.as_secs())
        };
        match seconds {
            Some(seconds) if (HOUR..=3650 * DAY).contains(&seconds) => Ok(Self(seconds)),
            _ => Err(format!(
                "{text:?} is out of range: expected whole seconds from 1h to 3650d"
            )),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 2 * DAY && self.0.is_multiple_of(DAY) {
            return write!(f, "{}d", self.0 / DAY);
        }
        let duration = SignedDuration::from_secs(self.0.cast_signed());
        write!(f, "{duration:#}")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Written {
            expected: "a time as text, such as \"24h\" or \"30d\"",
            parse: Self::parse,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_written() {
        for (text, seconds, written) in [
            ("1h", 3600, "1h"),
            ("24h", 86_400, "24h"),
            ("1d", 86_400, "24h"),
            ("90m", 5400, "1h 30m"),
            ("7d", 604_800, "7d"),
            ("3650d", 315_360_000, "3650d"),
        ] {
            let span = Span::parse(text).expect(text);
            assert_eq!((span.0, span.to_string().as_str()), (seconds, written));
            assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }
        for text in [
            "59m",
            "3651d",
            "",
            "d",
            "-1h",
            "1h 1ms",
            "9999999999999999d",
        ] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_what_a_quotient_of_counts_gives() {
        for thousandths in 0..=1000 {
            let share = Share::thousandths(thousandths).get();
            for part in [1_u32, 3, 7, 20, 1_000_003] {
                let quotient =
                    f64::from(thousandths) * f64::from(part) / (1000.0 * f64::from(part));
                assert_eq!(quotient.to_bits(), share.to_bits());
            }
        }
    }
}
