//! Plain data: what a meter hands over and what the exporters read. No I/O, no clock.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::{Header, Totals};
use smtp_common::packet::Address;

mod bins;
pub mod complaint;
mod counts;
mod flow;
pub mod mail;
pub mod notice;
pub mod owner;
pub mod period;
pub mod person;
pub mod prefix;
pub mod proportion;
pub mod relay;
pub mod relay_test;
pub mod sample;
pub mod session;
pub mod verdict;

pub use self::bins::{Bin, Bins};
pub use self::counts::{Counts, Folded, PairKey};
pub use self::flow::Flow;
use self::session::FlowSummary;
use self::verdict::{Verdict, VerdictNews, VerdictSummary};

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

    /// From its name; what is not in the driver is in the generic path.
    pub fn named(name: &str) -> Self {
        if name == Self::Driver.name() {
            Self::Driver
        } else {
            Self::Skb
        }
    }
}

/// Whether a configured interface is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PointState {
    /// The program is on it.
    Attached,
    /// It is gone. It is attached to when an interface of the configured name is there again.
    Missing,
    /// An interface of the configured name is there, but the program cannot be put on it; that is
    /// tried again.
    Refused,
    /// Somebody ended the link (`smtpflow detach`). It is not attached to again until a restart.
    Detached,
}

impl PointState {
    /// As in JSON and on the page.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Detached => "detached",
        }
    }
}

/// Where packets are seen, or should be: a configured interface and the mode in which it hands them
/// over. It is listed as long as the agent runs, whatever becomes of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationPoint {
    /// The name in the configuration. No two points have the same.
    pub configured: String,
    /// The name now: another one after the interface was renamed, which ends no counting.
    pub interface: String,
    /// Interface index in its network namespace; the last one if the interface is gone.
    pub index: u32,
    /// Whether it is counted on.
    pub state: PointState,
    /// Why it is not attached, or what else the operator should know about it.
    pub reason: Option<String>,
    /// Whether the interface is there and set up.
    pub up: bool,
    /// The largest layer-3 packet that it carries, in bytes.
    pub mtu: u32,
    /// How often its state, name, MTU or being up was seen to have changed.
    pub changes: u64,
    /// How the program is attached, or was.
    pub mode: AttachMode,
    /// The section that is attached, or was: `xdp` or `xdp.frags`.
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
    /// The same by the family of their addresses.
    pub families: ByFamily,
    /// Sources by what they opened in a window.
    pub bins: Bins,
    /// What found no place in the table.
    pub overflow: Totals,
    /// Counts of own hosts that went to the spill, because their set was full.
    pub spilled: u64,
    /// Counts of own hosts that went to overflow, because the spill was full as well.
    pub spill_refused: u64,
    /// The account of flows; all zero where they are not counted.
    pub flows: FlowTally,
}

/// Counts by the family of the source's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByFamily {
    /// Of IPv4 addresses.
    pub ipv4: Totals,
    /// Of IPv6 addresses.
    pub ipv6: Totals,
}

/// The meter's account of flows: where every segment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTally {
    /// Segments that had to be counted for a flow: all of them.
    pub segments: u64,
    /// Layer-3 bytes of these.
    pub segment_bytes: u64,
    /// Sum over all flows.
    pub packets: u64,
    /// Layer-3 bytes of these.
    pub bytes: u64,
    /// Segments that found no line.
    pub refused_packets: u64,
    /// Layer-3 bytes of these.
    pub refused_bytes: u64,
}

impl FlowTally {
    /// By how much `segments = sum over flows + refused` is broken, in packets and bytes.
    pub const fn conservation_error(&self) -> u64 {
        let placed = self.packets.saturating_add(self.refused_packets);
        let placed_bytes = self.bytes.saturating_add(self.refused_bytes);
        let error = self.segments.abs_diff(placed);
        error.saturating_add(self.segment_bytes.abs_diff(placed_bytes))
    }

    /// Adds another stretch of time.
    pub const fn merge(&mut self, other: &Self) {
        let Self {
            segments,
            segment_bytes,
            packets,
            bytes,
            refused_packets,
            refused_bytes,
        } = self;
        *segments = segments.saturating_add(other.segments);
        *segment_bytes = segment_bytes.saturating_add(other.segment_bytes);
        *packets = packets.saturating_add(other.packets);
        *bytes = bytes.saturating_add(other.bytes);
        *refused_packets = refused_packets.saturating_add(other.refused_packets);
        *refused_bytes = refused_bytes.saturating_add(other.refused_bytes);
    }
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
        let skipped = Skip::ALL.iter().map(|skip| self.skipped(*skip));
        skipped.fold(0, u64::saturating_add)
    }

    /// By how much the conservation law is broken, in packets and bytes; 0 means that nothing was
    /// lost and nothing was counted twice: `frames = segments + skips`,
    /// `segments = sum over sources + overflow` and `segments = sum over flows + refused`.
    pub fn conservation_error(&self) -> u64 {
        let ended = self.segments().saturating_add(self.all_skipped());
        let placed = self
            .sources
            .packets()
            .saturating_add(self.overflow.packets());
        let placed_bytes = self.sources.bytes().saturating_add(self.overflow.bytes());
        [
            self.frames.abs_diff(ended),
            self.segments().abs_diff(placed),
            self.segment_bytes.abs_diff(placed_bytes),
            self.flows.conservation_error(),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Adds what a CPU says about a half.
    pub fn add_header(&mut self, header: &Header) {
        let mut of_cpu = Self {
            frames: header.frames,
            segment_bytes: header.segment_bytes,
            overflow: Totals::from(&header.overflow),
            spilled: header.spilled,
            spill_refused: header.spill_refused,
            ..Self::default()
        };
        let outcomes = &header.outcomes[..Counter::COUNT];
        of_cpu.outcomes.copy_from_slice(outcomes);
        of_cpu.flows.refused_packets = header.flow_refused_packets;
        of_cpu.flows.refused_bytes = header.flow_refused_bytes;
        self.merge(&of_cpu);
    }

    /// Adds where the segments are: the sources, and the flows if they are counted.
    pub fn place(&mut self, sources: &[Source], flows: Option<&[Flow]>) {
        // By the family, without a branch: the order of the tables is that of a hash.
        let mut families = [Totals::default(); 2];
        for Source { address, totals } in sources {
            families[usize::from(address.is_mapped())].merge(totals);
            self.bins.add(totals.connections, totals.c2s_bytes);
        }
        let [ipv6, ipv4] = families;
        self.families.ipv4.merge(&ipv4);
        self.families.ipv6.merge(&ipv6);
        self.sources.merge(&ipv4);
        self.sources.merge(&ipv6);
        let Some(flows) = flows else {
            return;
        };
        let mut placed = FlowTally {
            segments: self.segments(),
            segment_bytes: self.segment_bytes,
            ..FlowTally::default()
        };
        for flow in flows {
            let packets = flow.c2s_packets.saturating_add(flow.s2c_packets);
            let bytes = flow.c2s_bytes.saturating_add(flow.s2c_bytes);
            placed.packets = placed.packets.saturating_add(packets);
            placed.bytes = placed.bytes.saturating_add(bytes);
        }
        self.flows.merge(&placed);
    }

    /// Adds another stretch of time.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            frames,
            outcomes,
            segment_bytes,
            sources,
            families: ByFamily { ipv4, ipv6 },
            bins,
            overflow,
            spilled,
            spill_refused,
            flows,
        } = self;
        *frames = frames.saturating_add(other.frames);
        for (mine, others) in outcomes.iter_mut().zip(other.outcomes) {
            *mine = mine.saturating_add(others);
        }
        *segment_bytes = segment_bytes.saturating_add(other.segment_bytes);
        sources.merge(&other.sources);
        ipv4.merge(&other.families.ipv4);
        ipv6.merge(&other.families.ipv6);
        bins.merge(&other.bins);
        overflow.merge(&other.overflow);
        *spilled = spilled.saturating_add(other.spilled);
        *spill_refused = spill_refused.saturating_add(other.spill_refused);
        flows.merge(&other.flows);
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
    /// One entry per flow, in no order; none where flows are not counted.
    pub flows: Vec<Flow>,
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

impl Scope {
    /// As in JSON and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Unknown => "unknown",
        }
    }
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

/// A point in time of which both is to be known: when it was, and how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock, which somebody may set: a label.
    pub wall: SystemTime,
    /// Since the machine was booted, sleep included: by this, ages are told.
    pub since_boot: Duration,
}

impl Moment {
    /// How long before `now` it was; nothing is in the future.
    pub const fn age(&self, now: &Self) -> Duration {
        now.since_boot.saturating_sub(self.since_boot)
    }
}

/// The last drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it ended.
    pub at: Moment,
    /// Flip, scan, merge and clear together.
    pub duration: Duration,
    /// How long the flip alone took.
    pub flip: Duration,
    /// How long its window was.
    pub length: Duration,
    /// Sources in its window.
    pub sources: u64,
    /// Connections opened in its window.
    pub connections: u64,
    /// Lines of the table in use in its window, over all CPUs.
    pub lines_used: u64,
}

/// What does not change while an agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// When the agent started.
    pub started_at: Moment,
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
    /// Lines of the flow table, likewise; 0 where flows are not counted.
    pub flow_lines: u64,
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
    /// Bytes of history that wait.
    pub pending_bytes: u64,
    /// Windows of which history has no pairs, because too much had to wait, since the agent started.
    pub coarsened_pairs: u64,
    /// Likewise of which it has no sources one by one.
    pub coarsened_sources: u64,
    /// Chunks of history that were found damaged and left out since the agent started.
    pub damaged_chunks: u64,
    /// Damaged files that were set aside and are still beside the store.
    pub set_aside: u64,
    /// Why the last step of merging history failed; `None` if it did not.
    pub history_failure: Option<String>,
    /// Notices to owners in each of `NoticeState::ALL`, when somebody else has written to the file last.
    pub notices: [u64; notice::NoticeState::ALL.len()],
}

/// What became of what was to be told to an Alertmanager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// Times that all alerts were sent and taken.
    pub sent: u64,
    /// Times that they could not be sent, or were refused.
    pub failed: u64,
    /// When they were taken last.
    pub last_success: Option<SystemTime>,
    /// Alerts at the last try.
    pub alerts: u64,
    /// Open verdicts that were left out of it, because there were too many.
    pub omitted: u64,
}

/// All that exporters read, but for the sources themselves ([`crate::source_list`]): made by the
/// agent after every drain, shared, never changed.
#[derive(Clone, Debug, PartialEq)]
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
    /// Whether the last one was one of these.
    pub drain_failing: bool,
    /// The account of all windows, see [`Identity::counting_since`].
    pub account: Tally,
    /// The account of the last window.
    pub last_window: Tally,
    /// Sources in the agent's list.
    pub sources_kept: u64,
    /// Counts of sources that came when the agent's own list was full.
    pub untracked: Totals,
    /// What became of the connections since the agent started.
    pub flows: FlowSummary,
    /// What was found about own hosts.
    pub verdicts: VerdictSummary,
    /// The open verdicts, by their numbers.
    pub open: Arc<[Verdict]>,
    /// What an Alertmanager was told; all 0 where there is none.
    pub notifications: Notifications,
    /// The store; `None` where the agent runs without one.
    pub store: Option<StoreState>,
    /// The configuration.
    pub config: ConfigState,
}

/// How the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigState {
    /// Whether what was read last is in force, and not what was before.
    pub successful: bool,
    /// When what is in force was read.
    pub loaded_at: SystemTime,
    /// How many times it was read since the start, which is the first.
    pub reads: u64,
    /// Keys whose values in the file take a restart, as SECTION.KEY.
    pub restart: Arc<[String]>,
}

impl ConfigState {
    /// All of it is in force since then.
    pub fn loaded(at: SystemTime) -> Self {
        Self {
            successful: true,
            loaded_at: at,
            reads: 1,
            restart: Arc::default(),
        }
    }
}

/// What has just happened, for those who wait for it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A window was drained: this is the snapshot after it.
    Drained(Arc<Snapshot>),
    /// The state of a verdict has changed.
    Verdict(Arc<VerdictNews>),
    /// The configuration was read anew: this is the snapshot after it.
    Reloaded(Arc<Snapshot>),
}
