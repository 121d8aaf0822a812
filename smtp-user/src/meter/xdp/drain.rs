//! Flipping, reading and clearing the tables.
//!
//! Contract: a half is read and cleared only while it is silent: the flip to the other half has
//! returned. Reading changes nothing, so a half can be read as often as need be until its counts are
//! in safety; clearing it in part and again later clears it. An address, and likewise a flow, stands
//! in the set of the same index on every CPU, so that the parts of all CPUs are merged set by set,
//! without a table in between.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use nix::time::{ClockId, clock_getres, clock_gettime};
use smtp_common::flow::{FLOW_WAYS, FlowSet, Header, SourceStats, SpillKey, Totals, notice};
use smtp_common::table::{Set, WAYS};

use super::tables::Tables;
use crate::model::{Flow, Source};

/// The word of a header that holds its epoch.
const EPOCH_WORD: usize = std::mem::offset_of!(Header, epoch) / 8;

/// Which sets there are to clear in a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// Those whose first line is taken: lines are taken in order.
    Taken,
    /// All: somebody may have been killed while it cleared a set, and then only its first line may be
    /// empty.
    All,
}

impl Tables {
    /// Makes programs write to this half. When it returns, none writes to the other any more:
    /// updating an array of maps waits for RCU (kernel/bpf/syscall.c, maybe_wait_bpf_programs).
    pub fn flip_to(&mut self, half: u32) -> anyhow::Result<()> {
        self.epoch
            .set(0, &self.header_maps[half as usize], 0)
            .with_context(|| format!("cannot flip to half {half}"))
    }

    /// The number of the window of this half, whether programs write it or not: they leave the
    /// number alone.
    pub fn epoch_of(&self, half: u32) -> anyhow::Result<u64> {
        let words = self.header_maps[half as usize]
            .get(&0, 0)
            .with_context(|| format!("cannot read the epoch of half {half}"))?;
        Ok(words[EPOCH_WORD])
    }

    /// Gives a silent half that was cleared the number of its next window.
    pub fn begin(&mut self, half: u32, epoch: u64) {
        for header in self.silent_headers(half) {
            header.epoch = epoch;
        }
    }

    /// The headers of a silent half, one per possible CPU.
    #[expect(unsafe_code, reason = "borrows from mapped memory")]
    pub fn silent_headers(&mut self, half: u32) -> &mut [Header] {
        let cpus = self.geometry.cpus as usize;
        // SAFETY: all that call this, here and in the meter, do so for a half that the last flip has
        // silenced.
        unsafe { self.headers[half as usize].silent(0, cpus) }
    }

    /// The sets of sources of a silent half: all of the first CPU, then all of the second.
    #[expect(unsafe_code, reason = "borrows from mapped memory")]
    fn silent_sets(&mut self, half: u32) -> &mut [Set] {
        let first = self.geometry.segment(half, 0) as usize;
        let count = (self.geometry.cpus * self.geometry.sets) as usize;
        // SAFETY: as in `silent_headers`.
        unsafe { self.sources.silent(first, count) }
    }

    /// The sets of flows of a silent half, likewise.
    #[expect(unsafe_code, reason = "borrows from mapped memory")]
    fn silent_flow_sets(&mut self, half: u32) -> &mut [FlowSet] {
        let first = self.geometry.flow_segment(half, 0) as usize;
        let count = (self.geometry.cpus * self.geometry.flow_sets) as usize;
        // SAFETY: as in `silent_headers`.
        unsafe { self.flows.silent(first, count) }
    }

    /// The sources of a silent half, see [`sources_of`].
    pub fn read_sources(&mut self, half: u32) -> (Vec<Source>, u64) {
        let cpus = self.geometry.cpus as usize;
        sources_of(self.silent_sets(half), cpus)
    }

    /// The flows of a silent half, see [`flows_of`].
    pub fn read_flows(&mut self, half: u32) -> anyhow::Result<Vec<Flow>> {
        let headers = self.silent_headers(half).iter();
        let clocks = headers.map(TickClock::new).collect::<Result<Vec<_>, _>>()?;
        Ok(flows_of(self.silent_flow_sets(half), &clocks))
    }

    /// The spill of a silent half.
    pub fn read_spill(&self, half: u32) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for key in self.spilled(half)? {
            let values = self
                .spill
                .get(&key, 0)
                .context("cannot read from the spill")?;
            let mut totals = Totals::default();
            for words in values.iter() {
                totals.merge(&Totals::from(&SourceStats::from_words(*words)));
            }
            let (_, address) = SpillKey::from_words(key);
            sources.push(Source { address, totals });
        }
        Ok(sources)
    }

    fn spilled(&self, half: u32) -> anyhow::Result<Vec<super::tables::SpillKeyWords>> {
        let mut keys = Vec::new();
        for key in self.spill.keys() {
            let key = key.context("cannot list the spill")?;
            if SpillKey::from_words(key).0 == half {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Clears a silent half. It keeps its epoch, by which the next start knows what it was, should
    /// this one end here.
    pub fn clear(&mut self, half: u32, sets: Sets) -> anyhow::Result<()> {
        let all = sets == Sets::All;
        for key in self.spilled(half)? {
            self.spill
                .remove(&key)
                .context("cannot remove from the spill")?;
        }
        for set in self.silent_sets(half) {
            const { assert!(WAYS > 0) }
            if all || !set.lines[0].stats.is_empty() {
                *set = Set::default();
            }
        }
        crate::crash::point("mid_clear");
        for set in self.silent_flow_sets(half) {
            const { assert!(FLOW_WAYS > 0) }
            if all || !set.lines[0].is_empty() {
                *set = FlowSet::default();
            }
        }
        let geometry = self.geometry;
        for (cpu, header) in (0..).zip(self.silent_headers(half)) {
            let mut cleared = Header::new(half).of(&geometry, cpu);
            cleared.notices = header.notices & notice::STARTED;
            cleared.due &= !cleared.notices;
            cleared.epoch = header.epoch;
            *header = cleared;
        }
        Ok(())
    }
}

/// The sources in the sets of one half, each address once, in the order of the sets, and the number of
/// lines that they have. `sets` has all sets of the first CPU, then as many of each further one.
pub(super) fn sources_of(sets: &[Set], cpus: usize) -> (Vec<Source>, u64) {
    let per_cpu = sets.len() / cpus;
    let mut sources: Vec<Source> = Vec::new();
    let mut lines = 0;
    for index in 0..per_cpu {
        let of_set = sources.len();
        for cpu in 0..cpus {
            for line in &sets[cpu * per_cpu + index].lines {
                if line.stats.is_empty() {
                    // Lines are taken in order: the rest of the set is empty as well.
                    break;
                }
                lines += 1;
                let totals = Totals::from(&line.stats);
                let known = sources[of_set..]
                    .iter_mut()
                    .find(|source| source.address == line.address);
                match known {
                    Some(source) => source.totals.merge(&totals),
                    None => sources.push(Source {
                        address: line.address,
                        totals,
                    }),
                }
            }
        }
    }
    (sources, lines)
}

/// The flows in the sets of one half, each once; `sets` as in [`sources_of`], `clocks` has one for each
/// CPU.
pub(super) fn flows_of(sets: &[FlowSet], clocks: &[TickClock]) -> Vec<Flow> {
    let per_cpu = sets.len() / clocks.len();
    let mut flows: Vec<Flow> = Vec::new();
    for index in 0..per_cpu {
        let of_set = flows.len();
        for (cpu, clock) in clocks.iter().enumerate() {
            for line in &sets[cpu * per_cpu + index].lines {
                if line.is_empty() {
                    break;
                }
                let flow = Flow::from_line(line, |tick| clock.time_of(tick));
                let known = flows[of_set..]
                    .iter_mut()
                    .find(|known| known.key == flow.key);
                match known {
                    Some(known) => known.merge(&flow),
                    None => flows.push(flow),
                }
            }
        }
    }
    flows
}

/// Turns ticks of the kernel's clock interrupt, as one CPU has noted them, into times.
///
/// Only differences of ticks matter, so what the kernel counted them from does not.
pub(super) struct TickClock {
    /// A tick, and when it was.
    tick: u32,
    at: SystemTime,
    /// Length of a tick.
    length: Duration,
}

impl TickClock {
    pub(super) fn new(header: &Header) -> anyhow::Result<Self> {
        let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .context("cannot read the monotonic clock")?
            .into();
        // The coarse clocks go on by one tick at a time: 1/HZ (kernel/time/posix-timers.c).
        let length: Duration = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .context("cannot read the length of a tick")?
            .into();
        let ago = now.saturating_sub(Duration::from_nanos(header.clock_nanoseconds));
        Ok(Self {
            tick: header.clock_ticks as u32,
            at: SystemTime::now()
                .checked_sub(ago)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            length,
        })
    }

    /// When this tick was; it lies within 2^31 ticks of the noted one, which is 24 days at 1,000 Hz.
    fn time_of(&self, tick: u32) -> SystemTime {
        let ticks = tick.wrapping_sub(self.tick) as i32;
        let distance = self.length * ticks.unsigned_abs();
        let time = if ticks < 0 {
            self.at.checked_sub(distance)
        } else {
            self.at.checked_add(distance)
        };
        time.unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_before_and_after_the_noted_one_are_told() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let clock = TickClock {
            tick: 5,
            at,
            length: Duration::from_millis(4),
        };
        assert_eq!(clock.time_of(5), at);
        assert_eq!(clock.time_of(6), at + Duration::from_millis(4));
        // Before the counter turned over.
        assert_eq!(clock.time_of(u32::MAX), at - Duration::from_millis(24));
    }
}
