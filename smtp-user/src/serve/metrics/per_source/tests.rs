//! Who is on the page, and with which counts.

use super::super::super::fixture;
use super::super::tests::samples;
use super::super::{SnapshotCollector, rendered};
use super::*;
use std::sync::Arc;

use super::super::process::Process;

fn verdict(id: u64, subject: &str, detector: &str, severity: Severity) -> Verdict {
    let mut verdict = crate::report::cases::tests::verdict(id, subject, detector, 0);
    verdict.severity = severity;
    verdict
}

fn options(sources: u32, top: u32) -> Options {
    Options {
        sources,
        top,
        ..Options::default()
    }
}

fn page(options: &Options, open: &[Verdict], list: &SourceList) -> Vec<String> {
    let page = rendered(SnapshotCollector {
        metrics: SOURCE_METRICS,
        snapshot: Arc::new(fixture::snapshot(&[])),
        process: Process::default(),
        per_source: PerSource::new(options, open, list),
    })
    .expect("a page");
    samples(&page).map(str::to_owned).collect()
}

fn has(page: &[String], lines: &[&str]) {
    for line in lines {
        assert!(
            page.iter().any(|have| have == line),
            "no {line} in {page:#?}"
        );
    }
}

#[test]
fn those_who_are_flagged_are_there_and_the_most_active_as_far_as_is_said() {
    let list = fixture::list(&fixture::rows());
    let open = [
        verdict(1, "192.0.2.7/32", "volume", Severity::Notice),
        verdict(2, "192.0.2.7/32", "burst", Severity::Critical),
    ];
    let alone = page(&options(10, 0), &open, &list);
    has(
        &alone,
        &[
            "smtpflow_source_connections_total{src=\"192.0.2.7\"} 100",
            "smtpflow_source_answered_total{src=\"192.0.2.7\"} 90",
            "smtpflow_source_segments_total{src=\"192.0.2.7\",direction=\"c2s\"} 110",
            "smtpflow_source_segment_bytes_total{src=\"192.0.2.7\",direction=\"s2c\"} 10",
            "smtpflow_source_flagged{src=\"192.0.2.7\",detector=\"volume\",severity=\"notice\"} 1",
            "smtpflow_source_flagged{src=\"192.0.2.7\",detector=\"burst\",severity=\"critical\"} 1",
            "smtpflow_sources_exported 1",
            "smtpflow_sources_omitted 0",
        ],
    );
    // 198.51.100.1 opened connections in the last window, 198.51.100.2 did not.
    let active = page(&options(10, 5), &open, &list);
    has(
        &active,
        &[
            "smtpflow_source_connections_total{src=\"198.51.100.1\"} 5",
            "smtpflow_sources_exported 2",
        ],
    );
    // Not flagged any more, nor active: the series is gone.
    assert_eq!(
        page(&options(10, 0), &[], &list),
        ["smtpflow_sources_exported 0", "smtpflow_sources_omitted 0"]
    );
}

#[test]
fn there_are_never_more_than_allowed_and_what_is_left_out_is_counted() {
    let rows: Vec<_> = (0..1000)
        .map(|number| {
            let mut row = fixture::row(number, u64::from(number));
            row.window.connections = row.total.connections;
            row.window.c2s_packets = row.total.c2s_packets;
            row.window.c2s_bytes = row.total.c2s_bytes;
            row
        })
        .collect();
    let list = fixture::list(&rows);
    let mut open: Vec<_> = rows[..60]
        .iter()
        .zip(100..)
        .map(|(row, id)| {
            verdict(
                id,
                &format!("{}/32", row.address),
                "volume",
                Severity::Notice,
            )
        })
        .collect();
    // One that is left out twice is left out once.
    open.push(verdict(1, "10.0.0.0/32", "burst", Severity::Notice));
    open[3].severity = Severity::Critical;
    let full = page(&options(50, 50), &open, &list);
    has(
        &full,
        &[
            "smtpflow_source_connections_total{src=\"10.0.0.3\"} 3",
            "smtpflow_sources_exported 50",
            // 10 that are flagged, and 50 that are active.
            "smtpflow_sources_omitted 60",
        ],
    );
    let worst =
        "smtpflow_source_flagged{src=\"10.0.0.3\",detector=\"volume\",severity=\"critical\"} 1";
    let first = full.iter().find(|line| line.contains("_flagged"));
    assert_eq!(first.map(String::as_str), Some(worst));
    assert!(full.len() <= 50 * 7 + 2, "{} series", full.len());

    let few = page(&options(5, 3), &open[..4], &list);
    has(
        &few,
        &[
            "smtpflow_sources_exported 5",
            "smtpflow_sources_omitted 2",
            "smtpflow_source_connections_total{src=\"10.0.3.231\"} 999",
        ],
    );
}

#[test]
fn shortened_prefixes_count_all_their_sources() {
    let rows: Vec<_> = [(0, 3), (255, 4), (256, 8)]
        .map(|(number, connections)| fixture::row(number, connections))
        .to_vec();
    let list = fixture::list(&rows);
    let short = Options {
        ipv4_prefix: 24,
        ipv6_prefix: 48,
        ..options(10, 0)
    };
    let open = [
        verdict(1, "10.0.0.255/32", "volume", Severity::Notice),
        verdict(2, "10.0.0.0/32", "volume", Severity::Notice),
        verdict(3, "2001:db8:1:2::/64", "volume", Severity::Warning),
    ];
    let page = page(&short, &open, &list);
    has(
        &page,
        &[
            "smtpflow_source_connections_total{src=\"10.0.0.0/24\"} 7",
            "smtpflow_source_connections_total{src=\"2001:db8:1::/48\"} 0",
            "smtpflow_source_flagged{src=\"10.0.0.0/24\",detector=\"volume\",severity=\"notice\"} 2",
            "smtpflow_sources_exported 2",
        ],
    );
    assert!(!page.iter().any(|line| line.contains("10.0.0.255")));
}
