//! Plain data: what a meter hands over and what the exporters read. No I/O, no clock.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::Totals;
use smtp_common::packet::Address;

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// In the driver, before the kernel has made a packet buffer.
    Driver,
    /// In the kernel's generic path, on a packet buffer.
    Skb,
}

impl AttachMode {
    /// As in configuration, JSON and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Skb => "skb",
        }
    }
}

/// Where packets are seen: an interface and the mode in which it hands them over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationPoint {
    /// Interface name.
    pub interface: String,
    /// Interface index in its network namespace.
    pub index: u32,
    /// How the program is attached.
    pub mode: AttachMode,
    /// The section that is attached: `xdp` or `xdp.frags`.
    pub program: &'static str,
    /// Why it is not in driver mode although nobody asked for `skb`.
    pub fallback: Option<String>,
}

/// The meter's account of a stretch of time: how every frame ended, and where every segment is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames seen.
    pub frames: u64,
    /// How they ended, by [`Counter::index`].
    pub outcomes: [u64; Counter::COUNT],
    /// Layer-3 bytes of the segments among them, as summed where they were counted.
    pub segment_bytes: u64,
    /// Sum over all sources.
    pub sources: Totals,
    /// What found no place in the table.
    pub overflow: Totals,
    /// Counts of own hosts that went to the spill, because their set was full.
    pub spilled: u64,
    /// Counts of own hosts that went to overflow, because the spill was full as well.
    pub spill_refused: u64,
}

impl Tally {
    /// Segments counted.
    pub const fn segments(&self) -> u64 {
        self.outcomes[Counter::Segment.index()]
    }

    /// Frames skipped for this reason.
    pub const fn skipped(&self, skip: Skip) -> u64 {
        self.outcomes[Counter::Skip(skip).index()]
    }

    /// Frames skipped for any reason.
    pub fn all_skipped(&self) -> u64 {
        Skip::ALL.iter().map(|skip| self.skipped(*skip)).sum()
    }

    /// By how much the conservation law is broken, in packets and bytes; 0 means that nothing was
    /// lost and nothing was counted twice:
    /// `frames = segments + skips` and `segments = sum over sources + overflow`.
    pub fn conservation_error(&self) -> u64 {
        let placed = self.sources.packets() + self.overflow.packets();
        let placed_bytes = self.sources.bytes() + self.overflow.bytes();
        self.frames.abs_diff(self.segments() + self.all_skipped())
            + self.segments().abs_diff(placed)
            + self.segment_bytes.abs_diff(placed_bytes)
    }

    /// Adds another stretch of time.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            frames,
            outcomes,
            segment_bytes,
            sources,
            overflow,
            spilled,
            spill_refused,
        } = self;
        *frames += other.frames;
        for (mine, others) in outcomes.iter_mut().zip(other.outcomes) {
            *mine += others;
        }
        *segment_bytes += other.segment_bytes;
        sources.merge(&other.sources);
        overflow.merge(&other.overflow);
        *spilled += other.spilled;
        *spill_refused += other.spill_refused;
    }
}

/// One source address and its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whose counts these are.
    pub address: Address,
    /// The counts.
    pub totals: Totals,
}

impl Source {
    /// The address as the standard library has it; mapped addresses are IPv4.
    pub fn ip(&self) -> IpAddr {
        self.address.into()
    }
}

/// The counts between two flips, merged over CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of the flip that ended it: larger than that of every window before it that came
    /// from the same tables.
    pub epoch: u64,
    /// Wall clock at its start; a label, never used for rates.
    pub started_at: SystemTime,
    /// Its length by a clock that only goes forward.
    pub length: Duration,
    /// The account of the window.
    pub tally: Tally,
    /// One entry per address, in the order of the tables that they come from.
    pub sources: Vec<Source>,
    /// Lines of the table that were in use, over all CPUs.
    pub lines_used: u64,
    /// How long the flip waited for the last program to leave the old half.
    pub flip: Duration,
}

/// Whether an address is the operator's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Inside a prefix of `[networks] local`.
    Local,
    /// Outside all of them.
    Remote,
    /// There is no prefix list, so nobody can say.
    Unknown,
}

/// A source as exporters show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRow {
    /// Whose counts these are.
    pub address: IpAddr,
    /// Whether it is the operator's own.
    pub scope: Scope,
    /// Counts of all windows, see [`Identity::counting_since`].
    pub total: Totals,
    /// Counts of the last window.
    pub window: Totals,
}

/// The last drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it ended.
    pub at: SystemTime,
    /// Flip, scan, merge and clear together.
    pub duration: Duration,
    /// How long the flip alone took.
    pub flip: Duration,
    /// Sources in its window.
    pub sources: u64,
    /// Lines of the table in use in its window, over all CPUs.
    pub lines_used: u64,
}

/// What does not change while an agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// When the agent started.
    pub started_at: SystemTime,
    /// Since when counts add up: since the store was made, or since the agent started where there is
    /// none.
    pub counting_since: SystemTime,
    /// Kernel release.
    pub kernel: String,
    /// Mail ports.
    pub ports: Vec<u16>,
    /// Length of a window.
    pub window: Duration,
    /// Lines of the source table, over all CPUs, in one half.
    pub table_lines: u64,
    /// Possible CPUs.
    pub cpus: u32,
    /// Bytes of kernel memory in all tables together.
    pub table_bytes: u64,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// Its file.
    pub path: PathBuf,
    /// When the file was begun.
    pub since: SystemTime,
    /// The last window of this agent's tables that is in the file.
    pub committed_epoch: Option<u64>,
    /// Writes that failed since the agent started; their counts wait in memory for the next.
    pub errors: u64,
    /// Sources whose counts wait.
    pub pending_sources: u64,
    /// How long the last commit took, whether it succeeded or not; `None` before the first.
    pub commit_duration: Option<Duration>,
    /// Why the last write failed; `None` if it did not.
    pub failure: Option<String>,
}

/// All that exporters read, but for the sources themselves ([`crate::source_list`]): made by the
/// agent after every drain, shared, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What does not change.
    pub identity: Identity,
    /// Where packets are seen now.
    pub points: Vec<ObservationPoint>,
    /// `None` before the first drain.
    pub last_drain: Option<Drain>,
    /// Drains so far.
    pub drains: u64,
    /// Drains that failed so far; their counts stay in the kernel until one succeeds.
    pub drain_failures: u64,
    /// The account of all windows, see [`Identity::counting_since`].
    pub account: Tally,
    /// The account of the last window.
    pub last_window: Tally,
    /// Sources in the agent's list.
    pub sources_kept: u64,
    /// Counts of sources that came when the agent's own list was full.
    pub untracked: Totals,
    /// The store; `None` where the agent runs without one.
    pub store: Option<StoreState>,
}
