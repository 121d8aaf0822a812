//! When packets were not counted.
//!
//! Contract: pure, but for [`before`]. Hours without coverage count as not covered at all, so a report of a time before
//! smtpflow was there says so.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::{Table, number, text};
use super::time;
use super::verdicts::JsonPeriod;
use crate::answer::{Field, Schema, Schemas, answer};
use crate::distribution::percent;
use crate::failure::Failure;
use crate::model::period::{Coverage, Period, Tier};
use crate::store::Reader;

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");
/// Less than this missing in an hour is no gap: windows do not begin on the millisecond.
const TOLERANCE: u64 = 1000;
/// Gaps that are listed.
const LISTED: usize = 50;

answer! {
    /// Hours in a row in which packets were not counted all the time.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Gap {
        /// The hours.
        #[serde(flatten)]
        period: Period [Period],
        /// For how long packets were not counted in them, in milliseconds.
        missing_milliseconds: u64,
    }
}

answer! {
    /// For how much of a period packets were counted.
    #[derive(Clone, Default, PartialEq, Eq)]
    pub struct Gaps {
        /// The length of the period so far, in milliseconds.
        milliseconds: u64,
        /// For how much of it packets were not counted.
        missing_milliseconds: u64,
        /// The gaps, the earliest first.
        gaps: Vec<Gap> [Gap],
    }
}

impl Period {
    /// The fields with their documentation.
    pub(crate) const FIELDS: &[Field] = JsonPeriod::FIELDS;
}

impl Schema for Period {
    fn schema(all: &mut Schemas) -> Value {
        JsonPeriod::schema(all)
    }

    fn properties(all: &mut Schemas) -> Map<String, Value> {
        JsonPeriod::properties(all)
    }
}

/// The period of the same length before one, if all of it is kept and anything was counted in it.
///
/// # Errors
///
/// The store cannot be read.
pub fn before(reader: &Reader, period: Period) -> Result<Option<Period>, Failure> {
    let Some(from) = period.from.checked_sub(period.length()) else {
        return Ok(None);
    };
    let before = Period {
        from,
        to: period.from,
    };
    let kept = reader.span().is_some_and(|span| span.from <= before.from);
    let counted = kept
        && reader
            .coverage(Tier::Hour, before)?
            .iter()
            .any(|coverage| !coverage.up.is_zero());
    Ok(counted.then_some(before))
}

impl Gaps {
    /// Of a period as far as it is over `now`, from the coverage of its hours.
    pub fn of(coverage: &[Coverage], period: Period, now: u64) -> Self {
        let period = Period {
            from: period.from,
            to: period.to.min(now).max(period.from),
        };
        // An hour that came twice, because the clock was set back, is of two segments.
        let mut up: BTreeMap<u64, u64> = BTreeMap::new();
        for hour in coverage {
            let milliseconds = u64::try_from(hour.up.as_millis()).unwrap_or(u64::MAX);
            let of_hour = up.entry(hour.bucket.start).or_default();
            *of_hour = of_hour.saturating_add(milliseconds);
        }
        let mut found = Self {
            milliseconds: period.length(),
            ..Self::default()
        };
        let mut hour = Tier::Hour.start_of(period.from);
        while hour < period.to {
            let part = Period {
                from: hour.max(period.from),
                to: (hour + HOUR).min(period.to),
            };
            let missing = part
                .length()
                .saturating_sub(up.get(&hour).copied().unwrap_or(0));
            if missing >= TOLERANCE {
                found.missing_milliseconds += missing;
                match found.gaps.last_mut() {
                    Some(last) if last.period.to == part.from => {
                        last.period.to = part.to;
                        last.missing_milliseconds += missing;
                    }
                    _ => found.gaps.push(Gap {
                        period: part,
                        missing_milliseconds: missing,
                    }),
                }
            }
            hour += HOUR;
        }
        found
    }

    /// The covered share in percent.
    pub fn percent(&self) -> String {
        percent(
            self.milliseconds - self.missing_milliseconds,
            self.milliseconds,
        )
    }

    /// In one sentence.
    pub fn sentence(&self) -> String {
        format!(
            "packets were counted for {} % of {}; {} minutes are missing",
            self.percent(),
            time::span(self.milliseconds),
            self.missing_milliseconds.div_ceil(60_000)
        )
    }

    /// As a table.
    pub fn table(&self) -> Table {
        let mut notes = vec![self.sentence()];
        if self.gaps.len() > LISTED {
            notes.push(format!(
                "the first {LISTED} of {} gaps; JSON has all of them",
                self.gaps.len()
            ));
        }
        Table {
            name: "gaps",
            title: "when packets were not counted all the time, by UTC hours".to_owned(),
            notes,
            columns: vec![text("from"), text("to"), number("missing_minutes")],
            rows: self
                .gaps
                .iter()
                .take(LISTED)
                .map(|gap| {
                    vec![
                        time::minutes(gap.period.from),
                        time::minutes(gap.period.to),
                        gap.missing_milliseconds.div_ceil(60_000).to_string(),
                    ]
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::period::Bucket;

    fn hour(segment: u32, number: u64, seconds: u64) -> Coverage {
        Coverage {
            bucket: Bucket {
                segment,
                start: number * HOUR,
                tier: Tier::Hour,
            },
            up: Duration::from_secs(seconds),
        }
    }

    fn hours(from: u64, to: u64) -> Period {
        Period {
            from: from * HOUR,
            to: to * HOUR,
        }
    }

    #[test]
    fn neighbouring_hours_with_gaps_are_one_gap() {
        let coverage = [
            hour(0, 0, 3600),
            hour(0, 1, 3000),
            hour(0, 3, 3600),
            hour(0, 4, 3540),
        ];
        let gaps = Gaps::of(&coverage, hours(0, 5), u64::MAX);
        let expected = [(1, 3, 600_000 + HOUR), (4, 5, 60_000)];
        let expected = expected.map(|(from, to, missing_milliseconds)| Gap {
            period: hours(from, to),
            missing_milliseconds,
        });
        assert_eq!(gaps.gaps, expected);
        assert_eq!(gaps.percent(), "76.333");
        assert_eq!(
            gaps.sentence(),
            "packets were counted for 76.333 % of 5h; 71 minutes are missing"
        );
    }

    #[test]
    fn what_is_still_to_come_is_no_gap() {
        let gaps = Gaps::of(&[hour(0, 0, 1800)], hours(0, 24), HOUR / 2);
        assert_eq!(
            (gaps.missing_milliseconds, gaps.milliseconds),
            (0, HOUR / 2)
        );
        assert_eq!(gaps.percent(), "100.000");
        let nothing = Gaps::of(&[], hours(5, 6), HOUR);
        assert_eq!((nothing.milliseconds, nothing.gaps.len()), (0, 0));
    }

    #[test]
    fn an_hour_that_came_twice_is_covered_once_at_most() {
        let gaps = Gaps::of(&[hour(0, 0, 2400), hour(1, 0, 3600)], hours(0, 1), u64::MAX);
        assert!(gaps.gaps.is_empty(), "{gaps:?}");
    }

    #[test]
    fn a_tenth_of_a_second_is_no_gap() {
        let mut nearly = hour(0, 0, 3599);
        nearly.up += Duration::from_millis(900);
        assert_eq!(Gaps::of(&[nearly], hours(0, 1), u64::MAX).gaps, []);
    }
}
