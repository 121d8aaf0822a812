//! Whether the gateway is counted on, in one sentence and by interface.
#![forbid(unsafe_code)]

use super::super::api::LATE_WINDOWS;
use super::words;
use crate::model::{Moment, ObservationPoint, PointState, Snapshot};

/// How good that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Good,
    Warn,
    Bad,
}

/// Whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) level: Level,
    pub(super) text: String,
}

impl State {
    /// The worst comes first: what stands behind it may follow from it.
    pub(super) fn of(snapshot: &Snapshot, now: &Moment) -> Self {
        let tally = &snapshot.account;
        let age = snapshot.last_drain.map(|drain| drain.at.age(now));
        let fallen = names(snapshot, |point| point.fallback.is_some());
        let missed = names(snapshot, |point| point.state != PointState::Attached);
        let down = names(snapshot, |point| !point.up);
        let unwritten = snapshot
            .store
            .as_ref()
            .is_some_and(|store| store.failure.is_some());
        let (level, text) = match age {
            _ if snapshot.points.is_empty() => (
                Level::Bad,
                "Not counting: attached to no interface".to_owned(),
            ),
            _ if !missed.is_empty() => (Level::Bad, format!("Not counting on {missed}")),
            None => (
                Level::Warn,
                "Counting; the first window is not over yet".to_owned(),
            ),
            Some(age) if age > snapshot.identity.window * LATE_WINDOWS => (
                Level::Bad,
                format!(
                    "No drain for {}: these figures are old",
                    words::duration(age.as_secs())
                ),
            ),
            _ if tally.conservation_error() != 0 => (
                Level::Bad,
                "Counts do not add up: this is a fault of smtpflow".to_owned(),
            ),
            _ if unwritten => (
                Level::Warn,
                "Counting; the store cannot be written, so counts wait in memory".to_owned(),
            ),
            _ if tally.overflow.packets() != 0 => (
                Level::Warn,
                "Counting; the table was full, so some sources are not known".to_owned(),
            ),
            _ if !down.is_empty() => (Level::Warn, format!("Counting; {down} is down")),
            _ if !fallen.is_empty() => (
                Level::Warn,
                format!("Counting; driver mode was refused on {fallen}"),
            ),
            _ => (
                Level::Good,
                "Counting; every packet is accounted for".to_owned(),
            ),
        };
        Self { level, text }
    }

    pub(super) const fn class(&self) -> &'static str {
        match self.level {
            Level::Good => "good",
            Level::Warn => "warn",
            Level::Bad => "bad",
        }
    }

    /// Beside the colour, and different in shape.
    pub(super) const fn symbol(&self) -> &'static str {
        match self.level {
            Level::Good => "\u{2713}",
            Level::Warn => "!",
            Level::Bad => "\u{2715}",
        }
    }
}

/// The interfaces of which this holds.
fn names(snapshot: &Snapshot, holds: impl Fn(&ObservationPoint) -> bool) -> String {
    let points = snapshot.points.iter().filter(|point| holds(point));
    let names: Vec<_> = points.map(|point| point.interface.as_str()).collect();
    names.join(", ")
}

/// An interface and how it is counted on, or why it is not.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) manner: String,
    pub(super) class: &'static str,
}

impl From<&ObservationPoint> for Point {
    fn from(point: &ObservationPoint) -> Self {
        let mode = point.mode.name();
        let (class, manner) = match point.state {
            PointState::Attached if point.up => ("up", mode.to_owned()),
            PointState::Attached => ("down", format!("{mode}, down")),
            state => ("off", state.name().to_owned()),
        };
        Self {
            name: point.interface.clone(),
            manner,
            class,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::fixture;
    use super::*;
    use crate::clock;

    #[test]
    fn the_state_says_the_worst_first() {
        let second = Duration::from_secs(1);
        let state_of = |change: &dyn Fn(&mut Snapshot)| {
            let mut snapshot = fixture::snapshot(&fixture::rows());
            change(&mut snapshot);
            let mut now = clock::now();
            now.since_boot += second;
            State::of(&snapshot, &now)
        };
        assert_eq!(state_of(&|s| s.points.clear()).level, Level::Bad);
        let missing = state_of(&|s| s.points[1].state = PointState::Missing);
        assert_eq!(missing.text, "Not counting on eth1");
        assert_eq!(missing.level, Level::Bad);
        assert_eq!(state_of(&|s| s.last_drain = None).level, Level::Warn);
        assert!(state_of(&|_| {}).text.contains("table was full"));
        let full_disk = state_of(&|s| {
            let store = s.store.as_mut().expect("a store");
            store.failure = Some("database or disk is full".to_owned());
        });
        assert!(full_disk.text.contains("store cannot be written"));
        let clean = |s: &mut Snapshot| {
            let overflow = std::mem::take(&mut s.account.overflow);
            s.account.frames -= overflow.packets();
            s.account.outcomes[0] -= overflow.packets();
            s.account.segment_bytes -= overflow.bytes();
        };
        assert!(state_of(&clean).text.contains("refused on eth1"));
        let down = state_of(&|s| {
            clean(s);
            s.points[0].up = false;
        });
        assert_eq!(down.text, "Counting; eth0 is down");
        let good = state_of(&|s| {
            clean(s);
            s.points.pop();
        });
        assert_eq!(good.level, Level::Good, "{}", good.text);
        let late = state_of(&|s| s.identity.window = Duration::from_millis(1));
        assert!(late.text.starts_with("No drain for 1 s"), "{}", late.text);
        let broken = state_of(&|s| s.account.frames += 1);
        assert!(broken.text.contains("do not add up"), "{}", broken.text);
    }
}
