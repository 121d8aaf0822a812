//! Status, and the parts that answers share: JSON.
//!
//! Contract: names in snake_case, counts as integers, durations in seconds, times in RFC 3339 UTC,
//! addresses as text. A field is always there; what is not known yet is null or 0. Fields may be
//! added within one `schema`, never renamed, removed or given another meaning.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value};
use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::Totals;

use super::App;
use super::document::{Field, Schema, Schemas, answer, counts, field, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::Params;
use super::session::Flows;
use crate::clock;
use crate::model::verdict::{Severity, VerdictSummary};
use crate::model::{AttachMode, Moment, ObservationPoint, PointState, Snapshot, StoreState, Tally};

/// Version of the form of all answers.
pub(super) const SCHEMA: u32 = 1;
/// A drain is overdue when this many windows have passed since the last one.
pub(super) const LATE_WINDOWS: u32 = 3;

answer! {
    /// Eight counts, of a source or of all together.
    pub(super) struct Counts {
        /// Connections opened: pure SYNs that were not seen before.
        connections: u64,
        /// SYNs that were sent again, with the same sequence number.
        syn_retx: u64,
        /// Packets sent to a mail port.
        c2s_packets: u64,
        /// Layer-3 bytes of these.
        c2s_bytes: u64,
        /// Packets sent from a mail port.
        s2c_packets: u64,
        /// Layer-3 bytes of these.
        s2c_bytes: u64,
        /// SYN-ACKs that came back.
        answered: u64,
        /// Resets that came back for a SYN.
        refused: u64,
    }
}

impl From<&Totals> for Counts {
    fn from(totals: &Totals) -> Self {
        // In full, so that a new count cannot be forgotten here.
        let Totals {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        } = *totals;
        Self {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
        }
    }
}

answer! {
    /// Packets and bytes.
    pub(super) struct Volume {
        /// Packets.
        packets: u64,
        /// Layer-3 bytes.
        bytes: u64,
    }
}

impl From<&Totals> for Volume {
    fn from(totals: &Totals) -> Self {
        Self {
            packets: totals.packets(),
            bytes: totals.bytes(),
        }
    }
}

answer! {
    /// A configured interface.
    pub(super) struct Interface {
        /// Its name now.
        name: String,
        /// Its name in the configuration, which is another one after it was renamed.
        configured: String,
        /// Its index in its network namespace; the last one if it is gone.
        index: u32,
        /// Whether it is counted on: attached, missing (it is gone), refused (it is there, but the program could not be put on it) or detached (somebody ended the link).
        state: PointState,
        /// Why it is not attached or what else is to be known about it, or null.
        reason: Option<String>,
        /// Whether it is there and set up.
        up: bool,
        /// The largest layer-3 packet that it carries, in bytes.
        mtu: u32,
        /// How often its state, name, MTU or being up has changed since the start.
        changes: u64,
        /// How the program is attached, or was: driver or skb.
        mode: AttachMode,
        /// The section that is attached, or was: xdp or xdp.frags.
        program: &'static str,
        /// Why it is not in driver mode although nobody asked for skb, or null.
        fallback: Option<String>,
    }
}

impl From<&ObservationPoint> for Interface {
    fn from(point: &ObservationPoint) -> Self {
        let ObservationPoint {
            configured,
            interface,
            index,
            state,
            reason,
            up,
            mtu,
            changes,
            mode,
            program,
            fallback,
        } = point;
        Self {
            name: interface.clone(),
            configured: configured.clone(),
            index: *index,
            state: *state,
            reason: reason.clone(),
            up: *up,
            mtu: *mtu,
            changes: *changes,
            mode: *mode,
            program,
            fallback: fallback.clone(),
        }
    }
}

answer! {
    /// The last drain.
    pub(super) struct LastDrain {
        /// When it ended.
        at: String,
        /// How long ago that is.
        age_seconds: f64,
        /// How long flip, scan, merge and clear took together.
        duration_seconds: f64,
        /// How long the flip alone took.
        flip_seconds: f64,
        /// How long its window was.
        length_seconds: f64,
        /// Sources in its window.
        sources: u64,
        /// Connections opened in its window.
        connections: u64,
    }
}

answer! {
    /// The law that no packet is lost or counted twice, since counting_since: frames = segments + skipped,
    /// segments = source_packets + overflow_packets, and the same for bytes.
    pub(super) struct Conservation {
        /// Frames seen.
        frames: u64,
        /// Frames that were segments from or to a mail port.
        segments: u64,
        /// Frames that were skipped, for any reason.
        skipped: u64,
        /// Segments counted for a source.
        source_packets: u64,
        /// Layer-3 bytes of these.
        source_bytes: u64,
        /// Layer-3 bytes of all segments, summed apart from the sources.
        segment_bytes: u64,
        /// Segments that found no place in the table.
        overflow_packets: u64,
        /// Layer-3 bytes of these.
        overflow_bytes: u64,
        /// By how much the law is broken, in packets and bytes; anything but 0 is a fault of
        /// smtpflow.
        error: u64,
    }
}

impl From<&Tally> for Conservation {
    fn from(tally: &Tally) -> Self {
        Self {
            frames: tally.frames,
            segments: tally.segments(),
            skipped: tally.all_skipped(),
            source_packets: tally.sources.packets(),
            source_bytes: tally.sources.bytes(),
            segment_bytes: tally.segment_bytes,
            overflow_packets: tally.overflow.packets(),
            overflow_bytes: tally.overflow.bytes(),
            error: tally.conservation_error(),
        }
    }
}

answer! {
    /// The kernel's table of sources.
    pub(super) struct Table {
        /// Lines in one half, over all CPUs.
        lines: u64,
        /// Lines in use in the last window.
        lines_used: u64,
        /// Counts of own hosts that went to the spill, because their set was full.
        spilled: u64,
        /// Counts of own hosts that went to overflow, because the spill was full as well.
        spill_refused: u64,
        /// Kernel memory of all tables together, in bytes.
        memory_bytes: u64,
        /// Possible CPUs, each of which has its own part.
        cpus: u32,
    }
}

/// Frames that were not counted, by reason.
#[derive(Debug)]
pub(super) struct Skipped([u64; Counter::COUNT]);

impl Serialize for Skipped {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(Skip::ALL.len()))?;
        for skip in Skip::ALL {
            map.serialize_entry(skip.name(), &self.0[Counter::Skip(skip).index()])?;
        }
        map.end()
    }
}

static SKIP_MEANINGS: [[&str; 1]; Skip::ALL.len()] = {
    let mut meanings = [[""]; Skip::ALL.len()];
    let mut i = 0;
    while i < meanings.len() {
        meanings[i] = [Skip::ALL[i].meaning()];
        i += 1;
    }
    meanings
};

impl Skipped {
    const FIELDS: &[Field] = &{
        let mut fields = [Field {
            name: "",
            docs: &[],
            inner: &[],
            serde: "",
        }; Skip::ALL.len()];
        let mut i = 0;
        while i < fields.len() {
            fields[i].name = Skip::ALL[i].name();
            fields[i].docs = &SKIP_MEANINGS[i];
            i += 1;
        }
        fields
    };
}

impl Schema for Skipped {
    fn schema(all: &mut Schemas) -> Value {
        let about = &["Frames that were not counted, by reason."];
        all.object::<Self>("Skipped", module_path!(), about)
    }

    fn properties(all: &mut Schemas) -> Map<String, Value> {
        counts(Self::FIELDS, all)
    }
}

answer! {
    /// The file that keeps the counts.
    pub(super) struct Store {
        /// Its path.
        path: String,
        /// When it was begun.
        since: String,
        /// The number of the last window of the kernel's tables that is in it; null before the first.
        committed_epoch: Option<u64>,
        /// Writes that failed since the agent started; their counts came with the next one.
        errors: u64,
        /// Sources whose counts wait in memory because the file could not be written.
        pending_sources: u64,
        /// How long the last commit took; null before the first.
        commit_seconds: Option<f64>,
        /// Why the last write failed, or null.
        failure: Option<String>,
        /// Bytes of history that wait in memory, likewise.
        pending_bytes: u64,
        /// Windows of which history has no pairs, because too much had to wait, since the agent
        /// started.
        coarsened_pairs: u64,
        /// Likewise of which it has no sources one by one.
        coarsened_sources: u64,
        /// Chunks of history that were found damaged and left out since the agent started.
        damaged_chunks: u64,
        /// Damaged files of the store that were set aside, as long as they are there.
        set_aside: u64,
        /// Why history could not be merged into coarser buckets at the last try, or null.
        history_failure: Option<String>,
    }
}

impl From<&StoreState> for Store {
    fn from(state: &StoreState) -> Self {
        let StoreState {
            path,
            since,
            committed_epoch,
            errors,
            pending_sources,
            commit_duration,
            failure,
            pending_bytes,
            coarsened_pairs,
            coarsened_sources,
            damaged_chunks,
            set_aside,
            history_failure,
            // The page /metrics and /api/v1/notices have them.
            notices: _,
        } = state;
        Self {
            path: path.display().to_string(),
            since: rfc3339(*since),
            committed_epoch: *committed_epoch,
            errors: *errors,
            pending_sources: *pending_sources,
            commit_seconds: commit_duration.map(|duration| duration.as_secs_f64()),
            failure: failure.clone(),
            pending_bytes: *pending_bytes,
            coarsened_pairs: *coarsened_pairs,
            coarsened_sources: *coarsened_sources,
            damaged_chunks: *damaged_chunks,
            set_aside: *set_aside,
            history_failure: history_failure.clone(),
        }
    }
}

/// Open verdicts by severity.
#[derive(Debug)]
pub(super) struct BySeverity([u64; Severity::ALL.len()]);

impl Serialize for BySeverity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(
            Severity::ALL
                .iter()
                .map(|severity| severity.name())
                .zip(self.0),
        )
    }
}

impl BySeverity {
    const FIELDS: &[Field] = &[
        field("notice", &["Worth a look."]),
        field("warning", &["Probably abuse."]),
        field("critical", &["Abuse that goes on."]),
    ];
}

impl Schema for BySeverity {
    fn schema(all: &mut Schemas) -> Value {
        all.object::<Self>(
            "BySeverity",
            module_path!(),
            &["Open verdicts by severity."],
        )
    }

    fn properties(all: &mut Schemas) -> Map<String, Value> {
        counts(Self::FIELDS, all)
    }
}

answer! {
    /// What was found about own hosts.
    pub(super) struct Verdicts {
        /// Whether own hosts are judged; they are not without a list of own prefixes.
        judged: bool,
        /// Open verdicts by severity.
        open: BySeverity [BySeverity],
        /// Verdicts that were opened, or opened again, since the agent started.
        opened: u64,
        /// Own hosts that are watched.
        subjects: u64,
        /// Own hosts, each counted once a window, that were not judged because there was no place.
        unjudged: u64,
        /// Changes of verdicts that wait in memory because the store could not be written.
        unwritten: u64,
    }
}

impl From<&VerdictSummary> for Verdicts {
    fn from(summary: &VerdictSummary) -> Self {
        let VerdictSummary {
            judged,
            open,
            flagged: _,
            opened,
            subjects,
            unjudged,
            unwritten,
        } = summary;
        Self {
            judged: *judged,
            open: BySeverity(*open),
            opened: *opened,
            subjects: *subjects,
            unjudged: *unjudged,
            unwritten: *unwritten,
        }
    }
}

answer! {
    /// `/api/v1/status`.
    pub(super) struct Status {
        /// Version of the form of this answer.
        schema: u32,
        /// Version of smtpflow.
        version: &'static str,
        /// Release of the kernel.
        kernel: String,
        /// When the agent started.
        started_at: String,
        /// How long ago that is.
        uptime_seconds: f64,
        /// Since when counts add up: since the store was begun, or since the agent started if it has
        /// none.
        counting_since: String,
        /// Mail ports.
        ports: Vec<u16>,
        /// Length of a window.
        window_seconds: f64,
        /// Where packets are seen.
        interfaces: Vec<Interface> [Interface],
        /// The last drain of the kernel's tables; null before the first.
        last_drain: Option<LastDrain> [LastDrain],
        /// Drains since the agent started.
        drains: u64,
        /// Drains that failed; their counts came with the next one.
        drain_failures: u64,
        /// Whether every packet is accounted for.
        conservation: Conservation [Conservation],
        /// Segments that found no place in the table: their sources are not known.
        overflow: Volume [Volume],
        /// Frames that were not counted, by reason.
        skipped: Skipped [Skipped],
        /// All segments, sources and overflow together.
        totals: Counts [Counts],
        /// The kernel's table of sources.
        table: Table [Table],
        /// Sources in the list of sources.
        sources_kept: u64,
        /// Segments of sources that came when the list of sources was full.
        untracked: Volume [Volume],
        /// Flows and what became of connections.
        flows: Flows [Flows],
        /// What was found about own hosts.
        verdicts: Verdicts [Verdicts],
        /// The file that keeps the counts; null where the agent runs without one.
        store: Option<Store> [Store],
    }
}

impl Status {
    pub(super) fn new(snapshot: &Snapshot, now: &Moment) -> Self {
        let Snapshot {
            identity,
            points,
            last_drain,
            drains,
            drain_failures,
            drain_failing: _,
            account,
            last_window: _,
            sources_kept,
            untracked,
            flows,
            verdicts,
            open: _,
            notifications: _,
            store,
            config: _,
        } = snapshot;
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kernel: identity.kernel.clone(),
            started_at: rfc3339(identity.started_at.wall),
            uptime_seconds: identity.started_at.age(now).as_secs_f64(),
            counting_since: rfc3339(identity.counting_since),
            ports: identity.ports.clone(),
            window_seconds: identity.window.as_secs_f64(),
            interfaces: points.iter().map(Interface::from).collect(),
            last_drain: last_drain.map(|drain| LastDrain {
                at: rfc3339(drain.at.wall),
                age_seconds: drain.at.age(now).as_secs_f64(),
                duration_seconds: drain.duration.as_secs_f64(),
                flip_seconds: drain.flip.as_secs_f64(),
                length_seconds: drain.length.as_secs_f64(),
                sources: drain.sources,
                connections: drain.connections,
            }),
            drains: *drains,
            drain_failures: *drain_failures,
            conservation: account.into(),
            overflow: (&account.overflow).into(),
            skipped: Skipped(account.outcomes),
            totals: (&all_segments(account)).into(),
            table: Table {
                lines: identity.table_lines,
                lines_used: last_drain.map_or(0, |drain| drain.lines_used),
                spilled: account.spilled,
                spill_refused: account.spill_refused,
                memory_bytes: identity.table_bytes,
                cpus: identity.cpus,
            },
            sources_kept: *sources_kept,
            untracked: untracked.into(),
            flows: Flows::new(&account.flows, flows),
            verdicts: verdicts.into(),
            store: store.as_ref().map(Store::from),
        }
    }
}

/// Path and meaning of every field of `/api/v1/status`, for documentation and tests. Fields of the
/// objects in a list stand behind the name of the list.
pub fn status_fields() -> Vec<(String, String)> {
    flatten(Status::FIELDS)
}

/// Sources and overflow together: every segment.
pub(super) fn all_segments(tally: &Tally) -> Totals {
    let mut totals = tally.sources;
    totals.merge(&tally.overflow);
    totals
}

/// RFC 3339, UTC, in milliseconds.
pub(super) fn rfc3339(time: SystemTime) -> String {
    // Outside the years -9999 to 9999 there is no such form, and no such clock.
    Timestamp::try_from(time).map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.3}"))
}

pub(super) async fn status(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    Ok(Json(Status::new(&app.snapshot(), &clock::now())).into_response())
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/status",
            "status",
            "How the agent is, and what it has counted in all",
        )
        .json::<Status>(),
    ]
}
