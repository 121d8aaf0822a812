//! Rows of sources as tables show them, made from the answer of the API.
#![forbid(unsafe_code)]

use jiff::Timestamp;

use super::super::sources::Source;
use super::svg::{Svg, heat};
use super::words;
use crate::model::period::Period;
use crate::report::verdicts::JsonPeriod;

/// A source beside what has to be worked out of it.
pub(super) struct Row<'a> {
    pub(super) source: &'a Source,
    /// Against the period before.
    pub(super) change: Option<Change>,
    /// The last 24 hours; `None` where they are not known.
    pub(super) hours: Option<Svg>,
    /// When it was first and last seen, in milliseconds since 1970.
    pub(super) first_seen: Option<u64>,
    pub(super) last_seen: Option<u64>,
}

/// How a count has changed.
pub(super) struct Change {
    /// `up` where it is new or has doubled, else `level`.
    pub(super) class: &'static str,
    pub(super) text: String,
    /// What it was.
    pub(super) before: u64,
}

impl Change {
    fn of(now: u64, before: u64) -> Self {
        let (class, text) = if before == 0 && now > 0 {
            ("up", "\u{25b2} new".to_owned())
        } else if now == before {
            ("level", "=".to_owned())
        } else if now >= before.saturating_mul(2) {
            let times = now as f64 / before as f64;
            let times = if times < 10.0 {
                format!("{times:.1}")
            } else {
                words::grouped(times.round())
            };
            ("up", format!("\u{25b2} \u{d7}{times}"))
        } else {
            let percent = (now as f64 / before as f64 - 1.0) * 100.0;
            let sign = if now > before {
                "\u{25b2} +"
            } else {
                "\u{25bc} \u{2212}"
            };
            // What has changed is never said to have changed by nothing.
            ("level", format!("{sign}{:.0} %", percent.abs().max(1.0)))
        };
        Self {
            class,
            text,
            before,
        }
    }
}

impl<'a> Row<'a> {
    pub(super) fn of(source: &'a Source) -> Self {
        let hours = source.hours.as_ref();
        Self {
            change: source
                .previous_connections
                .map(|before| Change::of(source.total.connections, before)),
            hours: hours.map(|hours| heat(hours, &hours_in_words(hours))),
            first_seen: source.first_seen.as_deref().and_then(time_of),
            last_seen: source.last_seen.as_deref().and_then(time_of),
            source,
        }
    }

    /// The share of its connections that were answered, as people read it.
    pub(super) fn answered(&self) -> String {
        let total = &self.source.total;
        if total.connections == 0 {
            return "\u{2013}".to_owned();
        }
        let share = total.answered as f64 / total.connections as f64;
        words::figure(share.min(1.0), "share")
    }

    /// Mean size of its packets.
    pub(super) fn bytes_per_packet(&self) -> String {
        let mean = self.source.bytes_per_packet;
        mean.map_or_else(
            || "\u{2013}".to_owned(),
            |mean| words::grouped(mean.round()),
        )
    }

    /// How far the worst figure is beyond its limit.
    pub(super) fn score(&self) -> String {
        let score = self.source.score;
        if score == 0.0 {
            "\u{2013}".to_owned()
        } else {
            format!("\u{d7}{}", words::figure((score * 10.0).round() / 10.0, ""))
        }
    }
}

/// Milliseconds since 1970 of a time in an answer.
pub(super) fn time_of(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// A period of an answer, likewise.
pub(super) fn period_of(period: &JsonPeriod) -> Option<Period> {
    Some(Period {
        from: time_of(&period.from)?,
        to: time_of(&period.to)?,
    })
}

fn hours_in_words(hours: &[Option<u64>]) -> String {
    let counted = hours.iter().flatten();
    let active = counted.clone().filter(|count| **count > 0).count();
    let most = counted.clone().copied().max().unwrap_or(0);
    let gaps = hours.len() - counted.count();
    let mut text = format!(
        "active in {active} of the last {} hours, at most {} an hour",
        hours.len(),
        words::count(most, "connection", "connections")
    );
    if gaps > 0 {
        text.push_str(&format!(
            ", {} not counted",
            words::count(gaps as u64, "hour was", "hours were")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_a_sign_and_a_word() {
        let text = |now, before| Change::of(now, before).text;
        assert_eq!(text(5, 0), "\u{25b2} new");
        assert_eq!(text(0, 0), "=");
        assert_eq!(text(110, 100), "\u{25b2} +10 %");
        assert_eq!(text(1001, 1000), "\u{25b2} +1 %");
        assert_eq!(text(0, 100), "\u{25bc} \u{2212}100 %");
        assert_eq!(text(250, 100), "\u{25b2} \u{d7}2.5");
        assert_eq!(text(123_400, 100), "\u{25b2} \u{d7}1,234");
        assert_eq!(Change::of(1, 2).class, "level");
        assert_eq!(Change::of(2, 1).class, "up");
    }

    #[test]
    fn hours_that_were_not_counted_are_said_to_be_so() {
        assert_eq!(
            hours_in_words(&[Some(0), Some(1), None]),
            "active in 1 of the last 3 hours, at most 1 connection an hour, 1 hour was not counted"
        );
    }
}
