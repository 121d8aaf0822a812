//! What is known of one subject: all that a rule may look at.
//!
//! Contract: the same facts come from windows as they arrive ([`Judge`](super::Judge)) and from what
//! history has kept of them ([`Facts::from_history`]), so that a verdict and the answer to the question
//! why agree. An hour is a bucket of history: a UTC hour of one segment.

use std::borrow::Cow;
use std::sync::Arc;

use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_common::speech::Speech;

use super::hour::Hour;
use crate::model::period::{Bucket, Coverage, Period, Tier};
use crate::model::session::{Said, Servers};
use crate::model::{Counts, PairKey};

/// Hours that are looked back at most, the running one included: half as many again as the longest
/// look-back that can be configured, because hours with gaps are passed over.
pub const REACH: usize = 108;

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");

/// An hour before the running one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// When it began, in milliseconds since 1970.
    pub start: u64,
    /// The share of it in which packets were counted.
    pub covered: f64,
}

impl Frame {
    /// Whether packets were counted for less than 90 % of it.
    pub fn is_partial(&self) -> bool {
        self.covered < Coverage::FULL
    }
}

/// What is kept of a subject's hour when it is over. Counts stay at the end of 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Connections.
    pub connections: u32,
    /// 5xx replies.
    pub rejected: u32,
    /// Messages that servers took.
    pub accepted: u32,
}

impl Past {
    /// What is kept of these counts.
    pub fn of(counts: &Counts) -> Self {
        let kept = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            connections: kept(counts.totals.connections),
            rejected: kept(counts.sessions.said.of(Speech::PERMANENT)),
            accepted: kept(counts.sessions.accepted),
        }
    }

    /// Nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds others.
    pub const fn merge(&mut self, other: &Self) {
        let Self {
            connections,
            rejected,
            accepted,
        } = self;
        *connections = connections.saturating_add(other.connections);
        *rejected = rejected.saturating_add(other.rejected);
        *accepted = accepted.saturating_add(other.accepted);
    }
}

/// The servers of a subject in the running hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Servers that it opened connections to.
    pub servers: Servers,
    /// The one with the most connections, and these. Of several, the first by its octets.
    pub busiest: Option<(Address, u64)>,
    /// Connections whose server is known, which are all where flows are counted.
    pub paired: u64,
    /// Connections of which it is known whether they were answered, see
    /// [`failure`](super::failure).
    pub decided: u64,
    /// Those of them that were.
    pub answered: u64,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            servers: Servers {
                count: 0,
                exact: true,
            },
            busiest: None,
            paired: 0,
            decided: 0,
            answered: 0,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// When the last window ended, in milliseconds since 1970.
    pub now: u64,
    /// When the running hour began.
    pub hour: u64,
    /// The share of the hour up to now in which packets were counted.
    pub covered: f64,
    /// Counts of the hour as a client. `peak` is the highest of a single address.
    pub counts: Counts,
    /// Its servers in the hour.
    pub peers: Peers,
    /// The hours before, the latest first; hours without a window are there with nothing covered.
    pub frames: Arc<[Frame]>,
    /// Which of them the subject has counts in, in their order.
    pub past: Vec<(usize, Past)>,
}

/// What history has kept of a subject, for [`Facts::from_history`].
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// When the newest window ended, in milliseconds since 1970.
    pub now: u64,
    /// The hour that this is in.
    pub running: Coverage,
    /// The hours before it in the order in which they were counted, at least [`REACH`] if there are
    /// so many.
    pub closed: &'a [Coverage],
    /// Counts of these hours and of the running one, of every address of the subject.
    pub hours: &'a [(Bucket, Counts)],
    /// Pairs of the running hour, of every address of the subject. Server `::` stands for others.
    pub pairs: &'a [(PairKey, Counts)],
    /// How many servers there were in the running hour, where not all pairs are kept.
    pub servers: Option<Servers>,
}

impl Facts {
    /// The facts of a subject from history.
    pub fn from_history(kept: &Kept<'_>) -> Self {
        let mut hour = Hour::default();
        let mut room = usize::MAX;
        for (bucket, counts) in kept.hours {
            if *bucket == kept.running.bucket {
                hour.add(counts);
            }
        }
        for (pair, counts) in kept.pairs {
            hour.add_pair(pair.server, counts, 1, &mut room);
        }
        let line = Line::new(kept.running.bucket, kept.closed.iter().rev());
        let mut past: Vec<(usize, Past)> = Vec::new();
        for (closed, place) in kept.closed.iter().rev().zip(&line.places) {
            let mut sum = Past::default();
            for (bucket, counts) in kept.hours {
                if *bucket == closed.bucket {
                    sum.merge(&Past::of(counts));
                }
            }
            if !sum.is_empty() {
                past.push((*place, sum));
            }
        }
        let mut facts = Self::new(kept.now, kept.running, Some(&hour), &line, past);
        if let Some(servers) = kept.servers
            && !facts.peers.servers.exact
            && servers.count > facts.peers.servers.count
        {
            facts.peers.servers = servers;
        }
        facts
    }

    pub(super) fn new(
        now: u64,
        running: Coverage,
        hour: Option<&Hour>,
        line: &Line,
        past: Vec<(usize, Past)>,
    ) -> Self {
        Self {
            now,
            hour: running.bucket.start,
            covered: running.share(now),
            counts: hour.map_or_else(Counts::default, |hour| hour.counts),
            peers: hour.map_or_else(Peers::default, Hour::peers),
            frames: Arc::clone(&line.frames),
            past,
        }
    }

    /// The running hour as far as it has come.
    pub fn hour_so_far(&self) -> Period {
        Period {
            from: self.hour,
            to: self.now.max(self.hour),
        }
    }

    /// Why rules about flows cannot be applied, where connections were counted but no flow was.
    pub(super) fn without_flows(&self) -> Option<Cow<'static, str>> {
        let nothing_said = self.counts.sessions.said == Said::default();
        let unseen = self.counts.totals.connections > 0 && self.peers.paired == 0 && nothing_said;
        unseen.then(|| "flows are not counted (table.flow_sets_per_cpu)".into())
    }

    /// What the subject did in the hour at this place.
    pub fn past_at(&self, place: usize) -> Past {
        let found = self.past.binary_search_by_key(&place, |(place, _)| *place);
        found.map_or_else(|_| Past::default(), |i| self.past[i].1)
    }

    /// The last so many hours together, the running one included: their counts, when they began,
    /// and the share of them in which packets were counted.
    pub fn last_hours(&self, number: usize) -> (Past, Period, f64) {
        let mut sum = Past::of(&self.counts);
        let mut covered = self.covered;
        let mut period = self.hour_so_far();
        for (place, frame) in self.frames.iter().enumerate().take(number - 1) {
            sum.merge(&self.past_at(place));
            covered += frame.covered;
            period.from = frame.start.min(period.from);
        }
        (sum, period, covered / number as f64)
    }
}

/// The hours before the running one, for all subjects alike.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) frames: Arc<[Frame]>,
    /// Where the closed hours are among them, the latest first.
    pub(super) places: Vec<usize>,
}

impl Line {
    /// No hour.
    pub(super) fn none() -> Self {
        Self {
            frames: Arc::default(),
            places: Vec::new(),
        }
    }

    /// Puts the closed hours, the latest first, in a line before the running one. Between two hours
    /// are those in which there was no window; where the clock was set back in between, the later one
    /// does not begin later, and there are none.
    pub(super) fn new<'a>(running: Bucket, closed: impl Iterator<Item = &'a Coverage>) -> Self {
        let mut frames = Vec::new();
        let mut places = Vec::new();
        let mut later = running;
        for coverage in closed {
            let bucket = coverage.bucket;
            let mut start = later.start;
            while start > bucket.start.saturating_add(HOUR) && frames.len() < REACH - 1 {
                start -= HOUR;
                frames.push(Frame {
                    start,
                    covered: 0.0,
                });
            }
            if frames.len() >= REACH - 1 {
                break;
            }
            places.push(frames.len());
            frames.push(Frame {
                start: bucket.start,
                covered: coverage.share(u64::MAX),
            });
            later = bucket;
        }
        Self {
            frames: frames.into(),
            places,
        }
    }
}

/// The counts of an address as a client. The other ones say nothing about what it sends.
pub(super) const fn as_client(counts: &Counts) -> Counts {
    Counts {
        totals: Totals {
            s2c_packets: 0,
            s2c_bytes: 0,
            ..counts.totals
        },
        ..*counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hour(segment: u32, number: u64, minutes: u64) -> Coverage {
        Coverage {
            bucket: Bucket {
                segment,
                start: number * HOUR,
                tier: Tier::Hour,
            },
            up: Duration::from_secs(60 * minutes),
        }
    }

    #[test]
    fn hours_without_a_window_are_in_the_line_with_nothing_covered() {
        let closed = [hour(0, 10, 60), hour(0, 13, 30)];
        let line = Line::new(hour(0, 15, 1).bucket, closed.iter().rev());
        let have: Vec<_> = line
            .frames
            .iter()
            .map(|frame| (frame.start / HOUR, frame.covered))
            .collect();
        assert_eq!(
            have,
            [(14, 0.0), (13, 0.5), (12, 0.0), (11, 0.0), (10, 1.0)]
        );
        assert_eq!(line.places, [1, 4]);
    }

    #[test]
    fn an_hour_that_came_twice_is_in_the_line_twice() {
        let closed = [hour(0, 10, 60), hour(0, 11, 60), hour(1, 10, 60)];
        let line = Line::new(hour(1, 11, 1).bucket, closed.iter().rev());
        let have: Vec<_> = line.frames.iter().map(|frame| frame.start / HOUR).collect();
        assert_eq!(have, [10, 11, 10]);
    }

    #[test]
    fn the_line_ends_where_nobody_looks() {
        let closed = [hour(0, 1, 60), hour(0, 2, 60), hour(0, 5000, 60)];
        let line = Line::new(hour(0, 5001, 1).bucket, closed.iter().rev());
        assert_eq!((line.frames.len(), line.places.len()), (REACH - 1, 1));
    }
}
