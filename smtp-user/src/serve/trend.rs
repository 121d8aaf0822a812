//! How the last day went, beside the day before: totals by five minutes, verdicts, the distribution.
//!
//! Contract: bins of which nothing was counted are `None`, never 0. A closed bin is read once and kept as long
//! as it is shown; only what grew is read again, once for each window. A look stops reading after
//! `PATIENCE` and says how many bins are left: the next one goes on, so the first look after a start
//! does not wait for two days of a large network. The distribution is made anew for each bin.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::archive::Archive;
use crate::failure::Failure;
use crate::model::period::{Period, Tier};
use crate::model::verdict::{Verdict, VerdictEvent, VerdictFilter, VerdictState};
use crate::report::distribution::{Item, ItemDistribution};
use crate::report::month;
use crate::store::Reader;

/// Bins of a day.
pub(super) const DAY: usize = 288;
/// Milliseconds of a bin.
pub(super) const BIN: u64 = Tier::Bin.length().expect("a bin has a length");
/// How long a look reads bins that are not kept here yet.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Most verdicts whose events are read.
const VERDICTS: usize = 2000;

/// What was counted in a bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bin {
    /// For how long packets were counted, in milliseconds.
    pub(super) up: u64,
    /// Connections.
    pub(super) connections: u64,
    /// Addresses that opened any.
    pub(super) sources: u64,
}

impl Bin {
    /// Connections per minute of the time that was counted.
    pub(super) fn rate(&self) -> f64 {
        self.connections as f64 * 60_000.0 / self.up.max(1) as f64
    }
}

/// A verdict with what happened to it, the earliest first.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) verdict: Verdict,
    pub(super) events: Vec<VerdictEvent>,
}

impl Life {
    /// When it was open, up to `now`.
    pub(super) fn open(&self, now: u64) -> Vec<Period> {
        let mut periods = Vec::new();
        let mut since = None;
        for event in &self.events {
            match (since, event.to.is_open()) {
                (None, true) => since = Some(event.at),
                (Some(from), false) => {
                    periods.push(Period { from, to: event.at });
                    since = None;
                }
                _ => {}
            }
        }
        periods.extend(since.map(|from| Period {
            from,
            to: now.max(from),
        }));
        periods
    }

    fn is_open_in(&self, bin: Period, now: u64) -> bool {
        self.open(now)
            .iter()
            // One that is open now has no end yet.
            .any(|open| open.from < bin.to && (open.to > bin.from || open.to == now))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Trend {
    /// The end of the newest window, in milliseconds since 1970.
    pub(super) now: u64,
    /// Two days of bins, the oldest first; the last one is under way.
    pub(super) bins: Vec<Option<Bin>>,
    /// Bins that were counted but are not read yet; they are `None` above.
    pub(super) unread: usize,
    /// Verdicts that were open in these days, the latest first.
    pub(super) lives: Vec<Life>,
    /// Sources by connections, in the day up to the bin under way.
    pub(super) distribution: ItemDistribution,
    /// The day of which it is.
    pub(super) distribution_period: Period,
}

impl Trend {
    /// When a bin begins.
    pub(super) fn start(&self, bin: usize) -> u64 {
        newest(self.now).saturating_sub((2 * DAY - 1 - bin) as u64 * BIN)
    }

    /// The bin that tells best how it is now: the one under way, unless it has just begun.
    pub(super) fn present(&self) -> Option<(usize, Bin)> {
        let last = 2 * DAY - 1;
        let at = |bin: usize| self.bins[bin].map(|found| (bin, found));
        let whole = at(last).filter(|(_, bin)| bin.up >= BIN / 2);
        whole.or_else(|| at(last - 1)).or_else(|| at(last))
    }

    /// In each bin: hosts with an open verdict, and open verdicts; `None` where nothing was counted.
    pub(super) fn open(&self) -> Vec<Option<(usize, usize)>> {
        let count = |bin: usize| {
            let from = self.start(bin);
            let period = Period {
                from,
                to: from + BIN,
            };
            let open = self
                .lives
                .iter()
                .filter(|life| life.is_open_in(period, self.now));
            let hosts: HashSet<_> = open.clone().map(|life| life.verdict.subject).collect();
            (hosts.len(), open.count())
        };
        let counted = self.bins.iter().enumerate();
        counted
            .map(|(bin, found)| found.as_ref().map(|_| count(bin)))
            .collect()
    }
}

/// The begin of the bin of the newest window.
const fn newest(now: u64) -> u64 {
    Tier::Bin.start_of(now.saturating_sub(1))
}

/// What is kept between looks.
#[derive(Debug, Default)]
pub(super) struct Trends {
    kept: Mutex<Kept>,
    /// Held by who reads bins: others are content with what is there.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    bins: BTreeMap<u64, Bin>,
    distribution: Option<(Period, ItemDistribution)>,
    latest: Option<Arc<Trend>>,
}

impl Trends {
    /// As of the newest window.
    pub(super) fn look(&self, archive: &Archive) -> Result<Arc<Trend>, Failure> {
        archive.read(|reader| {
            let now = reader.now();
            if let Some(latest) = self.latest(now) {
                return Ok(latest);
            }
            let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have read it meanwhile.
            if let Some(latest) = self.latest(now) {
                return Ok(latest);
            }
            let trend = Arc::new(self.read(reader, now)?);
            self.kept().latest = Some(trend.clone());
            drop(reading);
            Ok(trend)
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing panics while it is held.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one, if it is complete and no window came since.
    fn latest(&self, now: u64) -> Option<Arc<Trend>> {
        let kept = self.kept();
        let latest = kept.latest.as_ref()?;
        (latest.now == now && latest.unread == 0).then(|| latest.clone())
    }

    fn read(&self, reader: &Reader, now: u64) -> Result<Trend, Failure> {
        let last = newest(now);
        let from = last.saturating_sub((2 * DAY - 1) as u64 * BIN);
        let period = Period {
            from,
            to: last + BIN,
        };
        let mut up: BTreeMap<u64, u64> = BTreeMap::new();
        // A bin that came twice, because the clock was set back, is of two segments.
        for covered in reader.coverage(Tier::Bin, period)? {
            let milliseconds = u64::try_from(covered.up.as_millis()).unwrap_or(u64::MAX);
            *up.entry(covered.bucket.start).or_default() += milliseconds;
        }
        let begun = Instant::now();
        let (mut bins, mut unread) = (vec![None; 2 * DAY], 0);
        for (place, found) in bins.iter_mut().enumerate().rev() {
            let start = from + place as u64 * BIN;
            let Some(up) = up.get(&start).copied().filter(|up| *up > 0) else {
                continue;
            };
            let kept = self.kept().bins.get(&start).copied();
            *found = match kept.filter(|kept| kept.up == up) {
                Some(kept) => Some(kept),
                None if begun.elapsed() > PATIENCE => {
                    unread += 1;
                    None
                }
                None => {
                    let bin = bin(reader, start, up)?;
                    self.kept().bins.insert(start, bin);
                    Some(bin)
                }
            };
        }
        let (distribution_period, distribution) = self.distribution(reader, last)?;
        let mut kept = self.kept();
        kept.bins = kept.bins.split_off(&from);
        drop(kept);
        Ok(Trend {
            now,
            bins,
            unread,
            lives: lives(reader, from)?,
            distribution,
            distribution_period,
        })
    }

    fn distribution(
        &self,
        reader: &Reader,
        end: u64,
    ) -> Result<(Period, ItemDistribution), Failure> {
        let period = Period {
            from: end.saturating_sub(DAY as u64 * BIN),
            to: end,
        };
        let kept = self.kept().distribution;
        if let Some(kept) = kept.filter(|(of, _)| *of == period) {
            return Ok(kept);
        }
        let made = (period, month::distribution(reader, Item::Source, period)?);
        self.kept().distribution = Some(made);
        Ok(made)
    }
}

fn bin(reader: &Reader, start: u64, up: u64) -> Result<Bin, Failure> {
    let period = Period {
        from: start,
        to: start + BIN,
    };
    let mut bin = Bin {
        up,
        connections: 0,
        sources: 0,
    };
    reader.sources(period, &mut |_, counts| {
        bin.connections += counts.totals.connections;
        bin.sources += u64::from(counts.totals.connections > 0);
    })?;
    Ok(bin)
}

/// The verdicts that may have been open since then.
fn lives(reader: &Reader, since: u64) -> Result<Vec<Life>, Failure> {
    let open = VerdictFilter {
        states: VerdictState::ALL
            .into_iter()
            .filter(|state| state.is_open())
            .collect(),
        ..VerdictFilter::default()
    };
    let recent = VerdictFilter {
        since: Some(since),
        ..VerdictFilter::default()
    };
    let mut seen = HashSet::new();
    let mut verdicts = reader.verdicts(&open)?;
    verdicts.extend(reader.verdicts(&recent)?);
    verdicts.retain(|verdict| seen.insert(verdict.id));
    verdicts.truncate(VERDICTS);
    let live = |verdict: Verdict| {
        let events = reader.verdict_events(verdict.id)?;
        Ok(Life { verdict, events })
    };
    verdicts.into_iter().map(live).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::person::SMTPFLOW;
    use crate::report::cases::tests::verdict;
    use crate::report::tests::Scene;

    fn archive(path: &std::path::Path) -> Archive {
        let mut config = crate::config::Config::default();
        path.clone_into(&mut config.store.path);
        Archive::new(&config).expect("with a store")
    }

    #[test]
    fn bins_are_counted_once_and_gaps_are_gaps() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let archive = archive(&path);
        let trends = Trends::default();
        assert!(trends.look(&archive).is_err(), "there is no store yet");
        let scene = Scene::in_file(&path);
        let trend = trends.look(&archive).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!((trend.bins.len(), trend.unread), (2 * DAY, 0));
        let counted = trend.bins.iter().flatten().count();
        assert!((1..2 * DAY).contains(&counted), "{counted}");
        // The same by another way: all connections of these days.
        let (mut sum, mut all) = (0, 0);
        for bin in trend.bins.iter().flatten() {
            sum += bin.connections;
        }
        let period = Period {
            from: trend.start(0),
            to: trend.now,
        };
        archive
            .read(|reader| {
                reader.sources(period, &mut |_, counts| all += counts.totals.connections)
            })
            .unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(sum, all);
        assert!(sum > 0);
        let open = trend.open();
        for (bin, open) in trend.bins.iter().zip(&open) {
            assert_eq!(bin.is_some(), open.is_some());
        }
        assert!(trend.lives.iter().any(|life| !life.events.is_empty()));
        // Nothing has come since: nothing is read again.
        let again = trends.look(&archive).unwrap_or_else(|f| panic!("{f}"));
        assert!(Arc::ptr_eq(&trend, &again));
        drop(scene);
    }

    #[test]
    fn the_present_is_no_bin_that_has_just_begun() {
        let bin = |up, connections| {
            Some(Bin {
                up,
                connections,
                sources: 1,
            })
        };
        let mut trend = Trend {
            now: 1_795_531_669_000,
            bins: vec![None; 2 * DAY],
            unread: 0,
            lives: Vec::new(),
            distribution: ItemDistribution::empty(Item::Source),
            distribution_period: Period { from: 0, to: 0 },
        };
        assert_eq!(trend.present(), None);
        trend.bins[2 * DAY - 1] = bin(10_000, 5);
        let (place, present) = trend.present().expect("the only one");
        assert_eq!((place, present.rate()), (2 * DAY - 1, 30.0));
        trend.bins[2 * DAY - 2] = bin(300_000, 50);
        assert_eq!(trend.present().map(|(place, _)| place), Some(2 * DAY - 2));
        trend.bins[2 * DAY - 1] = bin(200_000, 5);
        assert_eq!(trend.present().map(|(place, _)| place), Some(2 * DAY - 1));
        assert_eq!(trend.start(2 * DAY - 1), 1_795_531_500_000);
    }

    #[test]
    fn a_verdict_is_open_from_its_opening_to_its_end_and_again() {
        use VerdictState::{Acknowledged, New, Resolved};
        let event = |at, from, to| VerdictEvent {
            verdict: 1,
            at,
            who: SMTPFLOW.to_owned(),
            from,
            to,
            why: "because".to_owned(),
        };
        let life = Life {
            verdict: verdict(1, "192.0.2.1/32", "volume", 10),
            events: vec![
                event(10, None, New),
                event(20, Some(New), Acknowledged),
                event(30, Some(Acknowledged), Resolved),
                event(50, Some(Resolved), New),
            ],
        };
        let period = |from, to| Period { from, to };
        assert_eq!(life.open(70), [period(10, 30), period(50, 70)]);
        assert!(life.is_open_in(period(0, 11), 70));
        assert!(!life.is_open_in(period(30, 50), 70));
        assert!(life.is_open_in(period(69, 80), 70));
    }
}
