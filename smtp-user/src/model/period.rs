//! Stretches of time in history: plain data.
//!
//! Times are milliseconds since 1970, UTC, by the wall clock. A *segment* is a stretch of time in
//! which that clock never went back by more than a second; every step back begins the next one. So a
//! bucket, which is of one segment, never holds more time than its length, even when an hour comes
//! twice.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How finely time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// As drained from the kernel.
    Window,
    /// Five minutes.
    Bin,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Tier {
    /// From the finest to the coarsest.
    pub const ALL: [Self; 4] = [Self::Window, Self::Bin, Self::Hour, Self::Day];

    /// How long a bucket of this tier is, in milliseconds; `None` for windows, which differ.
    pub const fn length(self) -> Option<u64> {
        match self {
            Self::Window => None,
            Self::Bin => Some(300_000),
            Self::Hour => Some(3_600_000),
            Self::Day => Some(86_400_000),
        }
    }

    /// As in JSON, text and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Bin => "bin",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The tier whose buckets are made from those of this one.
    pub const fn coarser(self) -> Option<Self> {
        match self {
            Self::Window => Some(Self::Bin),
            Self::Bin => Some(Self::Hour),
            Self::Hour => Some(Self::Day),
            Self::Day => None,
        }
    }

    /// The tier that buckets of this one are made from.
    pub const fn finer(self) -> Option<Self> {
        match self {
            Self::Window => None,
            Self::Bin => Some(Self::Window),
            Self::Hour => Some(Self::Bin),
            Self::Day => Some(Self::Hour),
        }
    }

    /// When the bucket of this tier begins that holds this time; a window begins when it does.
    pub const fn start_of(self, time: u64) -> u64 {
        match self.length() {
            Some(length) => time - time % length,
            None => time,
        }
    }
}

/// A bucket of time. Their order is that in which they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Which segment it is of.
    pub segment: u32,
    /// When it began, in milliseconds since 1970.
    pub start: u64,
    /// How long it is.
    pub tier: Tier,
}

/// For how much of a bucket packets were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Which bucket.
    pub bucket: Bucket,
    /// For how long, by a clock that only goes forward and goes on while the machine sleeps.
    pub up: Duration,
}

impl Coverage {
    /// Less of a bucket's time than this, and it is partial.
    pub const FULL: f64 = 0.9;

    /// The covered share of the bucket up to `now`, from 0 to 1.
    pub fn share(&self, now: u64) -> f64 {
        let Some(length) = self.bucket.tier.length() else {
            return 1.0;
        };
        let past = now.saturating_sub(self.bucket.start).min(length);
        if past == 0 {
            return 0.0;
        }
        (self.up.as_millis() as f64 / past as f64).min(1.0)
    }

    /// Whether packets were counted for less than 90 % of the bucket: then it proves no absence.
    pub fn is_partial(&self) -> bool {
        self.share(u64::MAX) < Self::FULL
    }
}

/// From a time to another, which is not in it: milliseconds since 1970, and in JSON RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Period {
    /// The first millisecond.
    #[serde(with = "text")]
    pub from: u64,
    /// The first millisecond after it.
    #[serde(with = "text")]
    pub to: u64,
}

/// RFC 3339, UTC, in milliseconds; the epoch for times that have no such form, thousands of years
/// from now.
pub fn rfc3339(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

/// A time such as `2026-11-24`, `2026-11-24T14:00` (both UTC) or RFC 3339, in milliseconds.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let time = text.parse::<Timestamp>().or_else(|_| {
        let local: DateTime = text.parse()?;
        TimeZone::UTC.to_timestamp(local)
    });
    time.ok()
        .and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is no time: expected one such as 2026-11-24, 2026-11-24T14:00 (UTC) or \
                 2026-11-24T14:00:00Z"
            )
        })
}

/// Milliseconds as text.
mod text {
    use jiff::Timestamp;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
    pub(super) fn serialize<S: Serializer>(milliseconds: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::rfc3339(*milliseconds))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        let time: Timestamp = text.parse().map_err(D::Error::custom)?;
        u64::try_from(time.as_millisecond()).map_err(D::Error::custom)
    }
}

impl Period {
    /// Whether the time is in it.
    pub const fn contains(&self, time: u64) -> bool {
        self.from <= time && time < self.to
    }

    /// How long it is, in milliseconds.
    pub const fn length(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// Milliseconds since 1970; 0 for a time before that.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time that [`milliseconds`] gives this number for.
pub fn system_time(milliseconds: u64) -> SystemTime {
    // The clocks of Unix end at 2^63 seconds, which no number of milliseconds reaches.
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_aligned_to_utc() {
        // 2026-11-24T14:47:49Z
        let time = 1_795_531_669_000;
        assert_eq!(Tier::Bin.start_of(time), 1_795_531_500_000);
        assert_eq!(Tier::Hour.start_of(time), 1_795_528_800_000);
        assert_eq!(Tier::Day.start_of(time), 1_795_478_400_000);
        assert_eq!(Tier::Window.start_of(time), time);
    }

    #[test]
    fn a_period_is_read_back_from_its_text() {
        let period = Period {
            from: 1_795_531_669_001,
            to: 1_795_531_670_000,
        };
        let json = serde_json::to_string(&period).expect("JSON");
        assert_eq!(
            json,
            r#"{"from":"2026-11-24T14:47:49.001Z","to":"2026-11-24T14:47:50.000Z"}"#
        );
        assert_eq!(
            serde_json::from_str::<Period>(&json).expect("a period"),
            period
        );
        assert!(serde_json::from_str::<Period>(r#"{"from":"x","to":"y"}"#).is_err());
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_bucket_is_partial_below_nine_tenths() {
        let hour = |seconds| Coverage {
            bucket: Bucket {
                segment: 0,
                start: 0,
                tier: Tier::Hour,
            },
            up: Duration::from_secs(seconds),
        };
        assert!(hour(3239).is_partial());
        assert!(!hour(3240).is_partial());
        assert_eq!(hour(600).share(1_200_000), 0.5);
        assert_eq!(hour(600).share(0), 0.0);
    }
}
