//! Where windows are put in time.
//!
//! Contract: within a segment, time never goes back and no two windows overlap, so no bucket of a
//! segment holds more time than its length. A window whose start lies before the end of the one
//! before it begins where that one ended, if the difference is at most [`STEP`], as after a small
//! correction of the clock; else it is the first of the next segment.

use std::time::Duration;

use crate::model::Window;
use crate::model::period::{Tier, milliseconds};

/// Larger steps back begin the next segment: in milliseconds.
const STEP: u64 = 1_000;
/// How much faster than windows pass retention follows the wall clock: in milliseconds a window. So
/// a clock that is wrong by years deletes nothing before somebody has set it right.
const CATCH_UP: u64 = 3_600_000;

/// The wall clock of the windows; it is kept in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The running segment.
    pub segment: u32,
    /// The end of the newest window, in milliseconds since 1970.
    pub end: u64,
    /// The time that ages are measured from.
    pub horizon: u64,
}

/// A stretch of time in which packets were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which segment it is of.
    pub segment: u32,
    /// When it began, in milliseconds since 1970.
    pub start: u64,
    /// When it ended.
    pub end: u64,
}

impl Clock {
    /// Puts the next window in its place.
    pub fn place(&mut self, window: &Window) -> Span {
        let length = window.length.as_millis().try_into().unwrap_or(u64::MAX);
        let start = milliseconds(window.started_at);
        let end = milliseconds(
            window
                .started_at
                .checked_add(window.length)
                .unwrap_or(window.started_at),
        );
        if start.saturating_add(STEP) < self.end {
            self.segment += 1;
            self.end = start;
        }
        let span = Span {
            segment: self.segment,
            start: start.max(self.end),
            end: end.max(self.end),
        };
        self.end = span.end;
        let caught_up = self.horizon.saturating_add(length).saturating_add(CATCH_UP);
        self.horizon = if self.horizon == 0 {
            self.end
        } else {
            self.end.min(caught_up)
        };
        span
    }
}

/// How long history is kept, by how finely it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bins of five minutes.
    pub bins: Duration,
    /// Hours.
    pub hours: Duration,
    /// Days.
    pub days: Duration,
}

impl Retention {
    /// For how long buckets of this tier are kept, in milliseconds.
    pub fn of(&self, tier: Tier) -> u64 {
        let kept = match tier {
            Tier::Window => Duration::ZERO,
            Tier::Bin => self.bins,
            Tier::Hour => self.hours,
            Tier::Day => self.days,
        };
        u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Retention {
    /// 48 hours, 90 days, 2 years.
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            bins: Duration::from_secs(2 * DAY),
            hours: Duration::from_secs(90 * DAY),
            days: Duration::from_secs(730 * DAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn window(start: u64, length: u64) -> Window {
        Window {
            epoch: 1,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(start),
            length: Duration::from_millis(length),
            tally: Default::default(),
            sources: Vec::new(),
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        }
    }

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn a_small_step_back_is_in_the_open_bucket_and_a_large_one_begins_a_segment() {
        let mut clock = Clock::default();
        let first = clock.place(&window(NOW, 10_000));
        assert_eq!(
            (first.segment, first.start, first.end),
            (0, NOW, NOW + 10_000)
        );
        // 900 ms back: no time is covered twice.
        let small = clock.place(&window(NOW + 9_100, 10_000));
        assert_eq!(
            (small.segment, small.start, small.end),
            (0, NOW + 10_000, NOW + 19_100)
        );
        // Small steps do not add up unseen: each is measured against the end.
        let large = clock.place(&window(NOW + 18_099, 10_000));
        assert_eq!((large.segment, large.start), (1, NOW + 18_099));
        assert_eq!(clock.end, NOW + 28_099);
    }

    #[test]
    fn a_clock_that_is_years_ahead_does_not_age_history() {
        let mut clock = Clock::default();
        clock.place(&window(NOW, 10_000));
        let years = 73 * 365 * 86_400_000;
        for i in 0..100 {
            clock.place(&window(NOW + years + i * 10_000, 10_000));
        }
        assert!(clock.horizon < NOW + 101 * (CATCH_UP + 10_000));
        let back = clock.place(&window(NOW + 2_000_000, 10_000));
        assert_eq!((back.segment, clock.horizon), (1, NOW + 2_010_000));
    }
}
