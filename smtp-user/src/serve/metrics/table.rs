//! The table of metrics: name, help, type, labels, and where the samples come from.
//!
//! Contract: a metric is here or it is nowhere; the page, its tests and its documentation are made
//! from this table.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use smtp_common::counter::Skip;
use smtp_common::flow::Totals;

use super::sample::{Buckets, Metric, Scrape, counter, gauge, histogram};
use crate::detect::DETECTORS;
use crate::distribution::Distribution;
use crate::model::notice::NoticeState;
use crate::model::session::{COMMANDS, Outcome, REPLIES};
use crate::model::verdict::Severity;
use crate::model::{AttachMode, Bin, ByFamily, PointState};

/// Every metric, in the order of the page.
pub const METRICS: &[Metric] = &[
    gauge(
        "smtpflow_build_info",
        "Always 1; the version is a label, and the revision that it was built from.",
        &["version", "revision"],
        |_, to| to.with(&[env!("CARGO_PKG_VERSION"), REVISION], 1),
    ),
    gauge(
        "smtpflow_config_last_reload_successful",
        "1 if the configuration that was read last is in force, 0 if it could not be taken.",
        &[],
        |scrape, to| to.one(u64::from(scrape.snapshot.config.successful)),
    ),
    gauge(
        "smtpflow_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read.",
        &[],
        |scrape, to| to.one(unix_seconds(scrape.snapshot.config.loaded_at)),
    ),
    gauge(
        "smtpflow_window_seconds",
        "Length of a window.",
        &[],
        |scrape, to| to.one(scrape.identity().window.as_secs_f64()),
    ),
    gauge(
        "smtpflow_xdp_attached",
        "1 if a configured interface is counted on, 0 if not, with its mode.",
        &["interface", "mode"],
        |scrape, to| {
            for point in &scrape.snapshot.points {
                let attached = point.state == PointState::Attached;
                to.with(&[&point.configured, point.mode.name()], u64::from(attached));
            }
        },
    ),
    gauge(
        "smtpflow_interface_info",
        "1 for each configured interface, with its name and index now.",
        &["interface", "name", "index"],
        |scrape, to| {
            for point in &scrape.snapshot.points {
                let index = point.index.to_string();
                to.with(&[&point.configured, &point.interface, &index], 1);
            }
        },
    ),
    gauge(
        "smtpflow_interface_up",
        "1 if a configured interface is there and set up, 0 if not.",
        &["interface"],
        |scrape, to| {
            for point in &scrape.snapshot.points {
                to.with(&[&point.configured], u64::from(point.up));
            }
        },
    ),
    counter(
        "smtpflow_interface_changes_total",
        "Changes of a configured interface that were seen: counted on or not, name, MTU, up or down.",
        &["interface"],
        |scrape, to| {
            for point in &scrape.snapshot.points {
                to.with(&[&point.configured], point.changes);
            }
        },
    ),
    gauge(
        "smtpflow_xdp_fallback",
        "1 if an interface is counted on in skb mode because driver mode was refused.",
        &["interface"],
        |scrape, to| {
            for point in &scrape.snapshot.points {
                let fallback = point.mode == AttachMode::Skb && point.fallback.is_some();
                to.with(&[&point.configured], u64::from(fallback));
            }
        },
    ),
    counter(
        "smtpflow_frames_total",
        "Frames seen.",
        &[],
        |scrape, to| to.one(scrape.tally().frames),
    ),
    counter(
        "smtpflow_skipped_total",
        "Frames that were not counted, by reason.",
        &["reason"],
        |scrape, to| {
            for skip in Skip::ALL {
                to.with(&[skip.name()], scrape.tally().skipped(skip));
            }
        },
    ),
    counter(
        "smtpflow_segments_total",
        "TCP segments to mail ports (c2s) and from mail ports (s2c).",
        &["direction"],
        |scrape, to| {
            let all = scrape.all();
            to.with(&["c2s"], all.c2s_packets);
            to.with(&["s2c"], all.s2c_packets);
        },
    ),
    counter(
        "smtpflow_segment_bytes_total",
        "Layer-3 bytes of these segments.",
        &["direction"],
        |scrape, to| {
            let all = scrape.all();
            to.with(&["c2s"], all.c2s_bytes);
            to.with(&["s2c"], all.s2c_bytes);
        },
    ),
    counter(
        "smtpflow_connections_total",
        "Connections opened to mail ports.",
        &[],
        |scrape, to| to.one(scrape.all().connections),
    ),
    counter(
        "smtpflow_syn_retransmissions_total",
        "SYNs that were sent again.",
        &[],
        |scrape, to| to.one(scrape.all().syn_retx),
    ),
    counter(
        "smtpflow_answered_total",
        "SYN-ACKs from mail ports.",
        &[],
        |scrape, to| to.one(scrape.all().answered),
    ),
    counter(
        "smtpflow_refused_total",
        "Resets from mail ports that answered a SYN.",
        &[],
        |scrape, to| to.one(scrape.all().refused),
    ),
    counter(
        "smtpflow_connections_by_family_total",
        "Connections of sources by the family of the client's address; those that overflowed are in none.",
        &["family"],
        |scrape, to| {
            for (family, totals) in families(scrape) {
                to.with(&[family], totals.connections);
            }
        },
    ),
    counter(
        "smtpflow_segments_by_family_total",
        "Segments of sources, likewise.",
        &["family", "direction"],
        |scrape, to| {
            for (family, totals) in families(scrape) {
                to.with(&[family, "c2s"], totals.c2s_packets);
                to.with(&[family, "s2c"], totals.s2c_packets);
            }
        },
    ),
    counter(
        "smtpflow_segment_bytes_by_family_total",
        "Layer-3 bytes of these segments.",
        &["family", "direction"],
        |scrape, to| {
            for (family, totals) in families(scrape) {
                to.with(&[family, "c2s"], totals.c2s_bytes);
                to.with(&[family, "s2c"], totals.s2c_bytes);
            }
        },
    ),
    histogram(
        "smtpflow_source_window_connections",
        "Connections of a source in a window: one observation for each source with any, in each window.",
        |scrape, to| {
            let bins = scrape.tally().bins.0;
            let sum = bins.iter().map(|bin| bin.connections);
            to.one(Buckets {
                sum: sum.fold(0, u64::saturating_add),
                buckets: Distribution::empty()
                    .rows
                    .iter()
                    .zip(bins)
                    .map(|(row, bin)| (row.to.map_or(f64::INFINITY, |to| to as f64), bin.sources))
                    .collect(),
            });
        },
    ),
    counter(
        "smtpflow_window_connections_total",
        "Connections by how many of them their source opened in the same window.",
        &["bin"],
        |scrape, to| {
            for (bin, counts) in bins(scrape) {
                to.with(&[&bin], counts.connections);
            }
        },
    ),
    counter(
        "smtpflow_window_bytes_total",
        "Layer-3 bytes from client to server, likewise.",
        &["bin"],
        |scrape, to| {
            for (bin, counts) in bins(scrape) {
                to.with(&[&bin], counts.bytes);
            }
        },
    ),
    gauge(
        "smtpflow_conservation_error",
        "By how much counts do not add up, in packets and bytes; must be 0.",
        &[],
        |scrape, to| to.one(scrape.tally().conservation_error()),
    ),
    counter(
        "smtpflow_overflow_packets_total",
        "Segments that found no place in the table, so that their sources are not known.",
        &[],
        |scrape, to| to.one(scrape.tally().overflow.packets()),
    ),
    counter(
        "smtpflow_overflow_bytes_total",
        "Layer-3 bytes of these segments.",
        &[],
        |scrape, to| to.one(scrape.tally().overflow.bytes()),
    ),
    counter(
        "smtpflow_spilled_total",
        "Counts of own hosts that went to the spill, because their set was full.",
        &[],
        |scrape, to| to.one(scrape.tally().spilled),
    ),
    counter(
        "smtpflow_spill_refused_total",
        "Counts of own hosts that went to overflow, because the spill was full as well.",
        &[],
        |scrape, to| to.one(scrape.tally().spill_refused),
    ),
    gauge(
        "smtpflow_sources",
        "Sources in the last window.",
        &[],
        |scrape, to| to.one(scrape.drained(0, |drain| drain.sources)),
    ),
    gauge(
        "smtpflow_sources_kept",
        "Sources in the list of sources.",
        &[],
        |scrape, to| to.one(scrape.snapshot.sources_kept),
    ),
    counter(
        "smtpflow_untracked_packets_total",
        "Segments of sources that came when the list of sources was full.",
        &[],
        |scrape, to| to.one(scrape.snapshot.untracked.packets()),
    ),
    counter(
        "smtpflow_flow_refused_packets_total",
        "Segments whose set in the table of flows was full; their sources have them all the same.",
        &[],
        |scrape, to| to.one(scrape.tally().flows.refused_packets),
    ),
    counter(
        "smtpflow_flow_refused_bytes_total",
        "Layer-3 bytes of these segments.",
        &[],
        |scrape, to| to.one(scrape.tally().flows.refused_bytes),
    ),
    gauge(
        "smtpflow_flows",
        "Flows in the last window.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.window),
    ),
    gauge(
        "smtpflow_flows_tracked",
        "Flows that have not ended, or not long ago: connections and others.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.tracked),
    ),
    counter(
        "smtpflow_connections_by_outcome_total",
        "Connections that have ended, by what became of them; those not followed are in none.",
        &["outcome"],
        |scrape, to| {
            for outcome in Outcome::ALL {
                to.with(&[outcome.name()], scrape.snapshot.flows.ended.of(outcome));
            }
        },
    ),
    counter(
        "smtpflow_connections_unfollowed_total",
        "Connections that could not be followed: their 4-tuple was used again in the same window, or too many were under way.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.sessions.unfollowed),
    ),
    gauge(
        "smtpflow_visibility_ratio",
        "Share of connections with any packet of the server; NaN without connections.",
        &[],
        |scrape, to| {
            let outcomes = scrape.snapshot.flows.sessions.outcomes;
            to.one(outcomes.visibility().unwrap_or(f64::NAN));
        },
    ),
    counter(
        "smtpflow_messages_accepted_total",
        "Messages that servers took.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.sessions.accepted),
    ),
    counter(
        "smtpflow_replies_total",
        "SMTP replies by class, of which the first octets of a segment tell.",
        &["class"],
        |scrape, to| {
            for (class, count) in scrape.snapshot.flows.sessions.said.named(REPLIES).0 {
                to.with(&[class], count);
            }
        },
    ),
    counter(
        "smtpflow_commands_total",
        "SMTP commands, likewise.",
        &["command"],
        |scrape, to| {
            for (command, count) in scrape.snapshot.flows.sessions.said.named(COMMANDS).0 {
                to.with(&[command], count);
            }
        },
    ),
    gauge(
        "smtpflow_pairs_tracked",
        "Pairs of client and server that are kept.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.pairs),
    ),
    counter(
        "smtpflow_pairs_untracked_connections_total",
        "Connections of pairs that came when there was no more place.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.untracked_pairs.connections),
    ),
    counter(
        "smtpflow_pairs_untracked_packets_total",
        "Segments of pairs that came when there was no more place.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.untracked_pairs.packets()),
    ),
    counter(
        "smtpflow_clients_untracked_connections_total",
        "Connections of clients that came when there was no more place for their outcomes.",
        &[],
        |scrape, to| to.one(scrape.snapshot.flows.untracked_clients.connections()),
    ),
    gauge(
        "smtpflow_map_capacity",
        "Lines in one half of a table of the kernel, over all CPUs; each CPU has its own part.",
        &["map"],
        |scrape, to| {
            to.with(&["sources"], scrape.identity().table_lines);
            to.with(&["flows"], scrape.identity().flow_lines);
        },
    ),
    gauge(
        "smtpflow_map_entries",
        "Lines of these that were in use in the last window; flows are counted once, whatever CPUs saw them.",
        &["map"],
        |scrape, to| {
            let sources = scrape.drained(0, |drain| drain.lines_used);
            to.with(&["sources"], sources);
            to.with(&["flows"], scrape.snapshot.flows.window);
        },
    ),
    gauge(
        "smtpflow_table_memory_bytes",
        "Kernel memory of all tables together.",
        &[],
        |scrape, to| to.one(scrape.identity().table_bytes),
    ),
    counter(
        "smtpflow_drains_total",
        "Drains of the kernel's tables.",
        &[],
        |scrape, to| to.one(scrape.snapshot.drains),
    ),
    counter(
        "smtpflow_drain_failures_total",
        "Drains that failed; their counts came with the next one.",
        &[],
        |scrape, to| to.one(scrape.snapshot.drain_failures),
    ),
    gauge(
        "smtpflow_drain_duration_seconds",
        "How long the last drain took.",
        &[],
        |scrape, to| to.one(scrape.drained(0.0, |drain| drain.duration.as_secs_f64())),
    ),
    gauge(
        "smtpflow_flip_duration_seconds",
        "How long the flip of the last drain took.",
        &[],
        |scrape, to| to.one(scrape.drained(0.0, |drain| drain.flip.as_secs_f64())),
    ),
    gauge(
        "smtpflow_last_drain_timestamp_seconds",
        "When the last drain ended, in seconds since 1970; 0 before the first.",
        &[],
        |scrape, to| to.one(scrape.drained(0.0, |drain| unix_seconds(drain.at.wall))),
    ),
    gauge(
        "smtpflow_counting_since_timestamp_seconds",
        "Since when counts add up, in seconds since 1970.",
        &[],
        |scrape, to| to.one(unix_seconds(scrape.identity().counting_since)),
    ),
    counter(
        "smtpflow_store_errors_total",
        "Writes to the store that failed; their counts came with the next one.",
        &[],
        |scrape, to| to.one(scrape.stored(0, |store| store.errors)),
    ),
    gauge(
        "smtpflow_store_commit_duration_seconds",
        "How long the last commit to the store took; 0 without a store.",
        &[],
        |scrape, to| {
            let duration = scrape.stored(None, |store| store.commit_duration);
            to.one(duration.unwrap_or_default().as_secs_f64());
        },
    ),
    gauge(
        "smtpflow_store_pending_sources",
        "Sources whose counts wait in memory because the store could not be written.",
        &[],
        |scrape, to| to.one(scrape.stored(0, |store| store.pending_sources)),
    ),
    gauge(
        "smtpflow_store_pending_bytes",
        "Bytes of history that wait in memory because the store could not be written.",
        &[],
        |scrape, to| to.one(scrape.stored(0, |store| store.pending_bytes)),
    ),
    counter(
        "smtpflow_store_coarsened_windows_total",
        "Windows whose detail history lacks, because the store could not be written for too long.",
        &["detail"],
        |scrape, to| {
            to.with(&["pairs"], scrape.stored(0, |store| store.coarsened_pairs));
            to.with(
                &["sources"],
                scrape.stored(0, |store| store.coarsened_sources),
            );
        },
    ),
    counter(
        "smtpflow_store_damaged_chunks_total",
        "Chunks of history that were found damaged and left out.",
        &[],
        |scrape, to| to.one(scrape.stored(0, |store| store.damaged_chunks)),
    ),
    gauge(
        "smtpflow_store_set_aside_files",
        "Damaged files of the store that were set aside, as long as they are there.",
        &[],
        |scrape, to| to.one(scrape.stored(0, |store| store.set_aside)),
    ),
    gauge(
        "smtpflow_collector_success",
        "1 if a part of what is scraped was had at the last try: the kernel's tables, the commit to the store, /proc.",
        &["collector"],
        |scrape, to| {
            let snapshot = scrape.snapshot;
            let drained = snapshot.last_drain.is_some() && !snapshot.drain_failing;
            to.with(&["drain"], u64::from(drained));
            if let Some(store) = &snapshot.store {
                to.with(&["store"], u64::from(store.failure.is_none()));
            }
            to.with(&["process"], u64::from(scrape.process.complete));
        },
    ),
    gauge(
        "smtpflow_collector_duration_seconds",
        "How long that took.",
        &["collector"],
        |scrape, to| {
            let drained = scrape.drained(0.0, |drain| drain.duration.as_secs_f64());
            to.with(&["drain"], drained);
            if let Some(store) = &scrape.snapshot.store {
                let duration = store.commit_duration.unwrap_or_default();
                to.with(&["store"], duration.as_secs_f64());
            }
            to.with(&["process"], scrape.process.duration.as_secs_f64());
        },
    ),
    gauge(
        "smtpflow_judging",
        "1 if own hosts are judged, 0 if there is no list of own prefixes.",
        &[],
        |scrape, to| to.one(u64::from(scrape.snapshot.verdicts.judged)),
    ),
    gauge(
        "smtpflow_verdicts_open",
        "Open verdicts, by severity.",
        &["severity"],
        |scrape, to| {
            for (severity, open) in Severity::ALL.iter().zip(scrape.snapshot.verdicts.open) {
                to.with(&[severity.name()], open);
            }
        },
    ),
    gauge(
        "smtpflow_sources_flagged",
        "Own hosts with an open verdict, by detector.",
        &["detector"],
        |scrape, to| {
            for entry in DETECTORS.iter().filter(|entry| entry.accuses) {
                to.with(
                    &[entry.name],
                    scrape.snapshot.verdicts.flagged_by(entry.name),
                );
            }
        },
    ),
    counter(
        "smtpflow_verdicts_opened_total",
        "Verdicts that were opened, or opened again.",
        &[],
        |scrape, to| to.one(scrape.snapshot.verdicts.opened),
    ),
    gauge(
        "smtpflow_verdicts_unwritten",
        "Changes of verdicts that wait in memory because the store could not be written.",
        &[],
        |scrape, to| to.one(scrape.snapshot.verdicts.unwritten),
    ),
    gauge(
        "smtpflow_notices",
        "Notices to owners, by state.",
        &["state"],
        |scrape, to| {
            let counts = scrape.stored([0; NoticeState::ALL.len()], |store| store.notices);
            for (state, count) in NoticeState::ALL.iter().zip(counts) {
                to.with(&[state.name()], count);
            }
        },
    ),
    gauge(
        "smtpflow_subjects",
        "Own hosts that are watched.",
        &[],
        |scrape, to| to.one(scrape.snapshot.verdicts.subjects),
    ),
    counter(
        "smtpflow_unjudged_total",
        "Own hosts, each counted once a window, that were not judged because there was no place.",
        &[],
        |scrape, to| to.one(scrape.snapshot.verdicts.unjudged),
    ),
    counter(
        "smtpflow_notifications_total",
        "Times that open verdicts were to be sent to the Alertmanager, by what came of it.",
        &["kind", "result"],
        |scrape, to| {
            let notifications = scrape.snapshot.notifications;
            to.with(&["alertmanager", "sent"], notifications.sent);
            to.with(&["alertmanager", "failed"], notifications.failed);
        },
    ),
    gauge(
        "smtpflow_notifications_last_success_timestamp_seconds",
        "When that went well last, in seconds since 1970; 0 before the first time.",
        &["kind"],
        |scrape, to| {
            let last = scrape.snapshot.notifications.last_success;
            to.with(&["alertmanager"], last.map_or(0.0, unix_seconds));
        },
    ),
    gauge(
        "smtpflow_notifications_omitted",
        "Open verdicts that were left out of it, because there were too many.",
        &["kind"],
        |scrape, to| to.with(&["alertmanager"], scrape.snapshot.notifications.omitted),
    ),
    gauge(
        "process_resident_memory_bytes",
        "Memory of the agent itself.",
        &[],
        |scrape, to| to.one(scrape.process.resident_bytes),
    ),
    gauge(
        "process_virtual_memory_bytes",
        "Address space of the agent, most of which is never touched.",
        &[],
        |scrape, to| to.one(scrape.process.virtual_bytes),
    ),
    gauge(
        "process_start_time_seconds",
        "When the agent started, in seconds since 1970.",
        &[],
        |scrape, to| to.one(scrape.process.start_seconds),
    ),
    counter(
        "process_cpu_seconds_total",
        "CPU time of the agent itself.",
        &[],
        |scrape, to| to.one(scrape.process.cpu_seconds),
    ),
    gauge(
        "process_open_fds",
        "Open file descriptors of the agent.",
        &[],
        |scrape, to| to.one(scrape.process.open_fds),
    ),
    gauge(
        "process_max_fds",
        "Most file descriptors that it may open.",
        &[],
        |scrape, to| to.one(scrape.process.max_fds),
    ),
];

/// What a build is made from, where the one who builds says so.
const REVISION: &str = match option_env!("SMTPFLOW_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

fn families(scrape: &Scrape<'_>) -> [(&'static str, Totals); 2] {
    let ByFamily { ipv4, ipv6 } = scrape.tally().families;
    [("ipv4", ipv4), ("ipv6", ipv6)]
}

/// The bins with their names, such as `1-10` and `1001-`.
fn bins(scrape: &Scrape<'_>) -> impl Iterator<Item = (String, Bin)> {
    let rows = Distribution::empty().rows.into_iter();
    rows.zip(scrape.tally().bins.0).map(|(row, bin)| {
        let to = row.to.map(|to| to.to_string()).unwrap_or_default();
        (format!("{}-{to}", row.from), bin)
    })
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
