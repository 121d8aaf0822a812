//! Bursts of messages that look alike.
//!
//! Contract: two messages of a client look alike if their sizes differ by less than a thirty-second part (or by
//! [`LEAST`] octets) and the second comes no later than [`PAUSE`] after the first. [`MANY`] such messages in a
//! row are a burst. At most [`RUNS`] rows of a client are followed at a time; the one that was quiet for longest
//! gives way. The size is what the server counted, so that nobody can disguise it by what is in the headers.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// A row is over after so many seconds without another message.
pub const PAUSE: i64 = 60;
/// So many messages are a burst.
pub const MANY: u32 = 20;
/// Rows of a client at a time.
const RUNS: usize = 4;
/// Names of different lengths make no other message.
const LEAST: u64 = 64;

/// A row of messages that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// The size of the first.
    size: u64,
    last: i64,
    count: u32,
}

/// What is known of the rows of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bursts {
    runs: Vec<Run>,
    /// Bursts so far.
    pub count: u64,
    /// Messages of the longest row.
    pub longest: u32,
}

impl Bursts {
    /// Takes a message.
    pub fn message(&mut self, time: i64, size: u64) {
        let alike = |run: &&mut Run| {
            let near = run.size.abs_diff(size) <= LEAST.max(run.size / 32);
            // Logs of several servers are not quite in order.
            near && (time - run.last).abs() <= PAUSE
        };
        let count = match self.runs.iter_mut().find(alike) {
            Some(run) => {
                run.last = run.last.max(time);
                run.count = run.count.saturating_add(1);
                run.count
            }
            None => {
                let run = Run {
                    size,
                    last: time,
                    count: 1,
                };
                if self.runs.len() < RUNS {
                    self.runs.push(run);
                } else if let Some(oldest) = self.runs.iter_mut().min_by_key(|run| run.last) {
                    *oldest = run;
                }
                1
            }
        };
        self.count += u64::from(count == MANY);
        self.longest = self.longest.max(count);
    }

    /// Takes what came of other messages of this client.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bursts(messages: impl IntoIterator<Item = (i64, u64)>) -> (u64, u32) {
        let mut bursts = Bursts::default();
        for (time, size) in messages {
            bursts.message(time, size);
        }
        (bursts.count, bursts.longest)
    }

    #[test]
    fn twenty_in_a_row_are_a_burst_and_nineteen_are_none() {
        let row = |count: i64| (0..count).map(|i| (10 * i, 3000 + i.unsigned_abs() % 50));
        assert_eq!(bursts(row(19)), (0, 19));
        assert_eq!(bursts(row(20)), (1, 20));
        assert_eq!(bursts(row(500)), (1, 500));
    }

    #[test]
    fn other_sizes_and_pauses_end_a_row() {
        // A newsletter's pauses.
        assert_eq!(bursts((0..50).map(|i| (61 * i, 3000))), (0, 1));
        assert_eq!(bursts((0..50).map(|i| (60 * i, 3000))), (1, 50));
        // People's messages.
        let sizes = (0..50).map(|i: i64| (i, 1000 * (1 + (i.unsigned_abs() * 37) % 50)));
        assert_eq!(bursts(sizes).0, 0);
        // Two bursts side by side, and one after the other.
        let two = (0..40).map(|i: i64| (i, if i % 2 == 0 { 3000 } else { 9000 }));
        assert_eq!(bursts(two), (2, 20));
        let again = (0..20).chain(500..520).map(|i| (i, 3000));
        assert_eq!(bursts(again), (2, 20));
    }

    #[test]
    fn rows_are_bounded() {
        let mut bursts = Bursts::default();
        for i in 0..10_000_u64 {
            bursts.message(0, i * i * 1000);
        }
        assert_eq!(bursts.runs.len(), RUNS);
    }
}
