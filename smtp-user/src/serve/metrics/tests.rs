//! The metrics page, in both formats.

use std::collections::BTreeSet;

use axum::http::HeaderValue;

use super::super::fixture;
use super::*;
use crate::model::PointState;

fn pages() -> (String, String) {
    let open = open_metrics(Arc::new(fixture::snapshot(&fixture::rows()))).expect("a page");
    let plain = plain_text(&open);
    (open, plain)
}

/// The lines of a page that are samples.
pub(super) fn samples(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| !line.starts_with('#'))
}

/// The names of the samples of a page.
fn sampled(page: &str) -> BTreeSet<String> {
    samples(page)
        .filter_map(|line| line.split(['{', ' ']).next())
        .map(str::to_owned)
        .collect()
}

fn documented() -> BTreeSet<String> {
    METRICS.iter().flat_map(Metric::sample_names).collect()
}

#[test]
fn every_metric_of_the_table_is_on_the_page_and_no_other() {
    let (open, plain) = pages();
    let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name stands there twice");
    assert_eq!(sampled(&open), documented());
    assert_eq!(sampled(&plain), documented());
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    for metric in METRICS {
        let Metric {
            name, help, kind, ..
        } = metric;
        assert_eq!(
            name.ends_with("_total"),
            *kind == Type::Counter,
            "{name}: counters end in _total, gauges do not"
        );
        assert!(
            name.starts_with("smtpflow_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(
            help.ends_with('.') && !help.contains(['\n', '"', '\\']),
            "{name}: {help}"
        );
        for bad in ["addr", "source", "client", "ip"] {
            assert!(
                !metric.labels.contains(&bad),
                "{name} has an address as a label"
            );
        }
    }
}

#[test]
fn the_text_format_says_types_in_full_names_and_has_no_end() {
    let (open, plain) = pages();
    assert!(open.ends_with("# EOF\n"));
    assert!(open.contains("# TYPE smtpflow_frames counter\n"));
    assert!(!plain.contains("# EOF"));
    assert!(plain.contains("# TYPE smtpflow_frames_total counter\n"));
    assert!(plain.contains("# HELP smtpflow_frames_total Frames seen.\n"));
    assert!(plain.contains("# TYPE smtpflow_sources gauge\n"));
    for page in [&open, &plain] {
        for line in [
            "smtpflow_frames_total 1000",
            "smtpflow_segments_total{direction=\"c2s\"} 121",
            "smtpflow_segment_bytes_total{direction=\"s2c\"} 9010",
            "smtpflow_skipped_total{reason=\"not_tcp\"} 770",
            "smtpflow_xdp_attached{interface=\"eth0\",mode=\"driver\"} 1",
            "smtpflow_xdp_fallback{interface=\"eth0\"} 0",
            "smtpflow_xdp_fallback{interface=\"eth1\"} 1",
            "smtpflow_conservation_error 0",
            "smtpflow_window_seconds 10.0",
            "smtpflow_sources_kept 4",
        ] {
            assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
        }
    }
}

#[test]
fn the_number_of_series_does_not_depend_on_the_traffic() {
    let rows: Vec<_> = (0..100_000)
        .map(|i| fixture::row(i, u64::from(i)))
        .collect();
    let page = open_metrics(Arc::new(fixture::snapshot(&rows))).expect("a page");
    let series = samples(&page).count();
    assert!(series <= 300, "{series} series");
    let few = pages().0;
    assert_eq!(series, samples(&few).count());
    for row in &rows[..1000] {
        let address = row.address.to_string();
        assert!(!page.contains(&address), "{address} is on the page");
    }
}

#[test]
fn before_the_first_drain_every_metric_is_there_as_well() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.last_drain = None;
    let page = open_metrics(Arc::new(snapshot)).expect("a page");
    assert_eq!(sampled(&page), documented());
    assert!(page.contains("smtpflow_last_drain_timestamp_seconds 0.0\n"));
}

#[test]
fn a_lost_interface_keeps_its_series() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.points[0].state = PointState::Missing;
    snapshot.points[0].up = false;
    // As after eth1 was renamed: labels are configured names, or two series would be the same.
    snapshot.points[1].interface = "eth0".to_owned();
    let page = open_metrics(Arc::new(snapshot)).expect("a page");
    for line in [
        "smtpflow_xdp_attached{interface=\"eth0\",mode=\"driver\"} 0",
        "smtpflow_xdp_attached{interface=\"eth1\",mode=\"skb\"} 1",
        "smtpflow_interface_info{interface=\"eth1\",name=\"eth0\",index=\"3\"} 1",
        "smtpflow_interface_up{interface=\"eth0\"} 0",
        "smtpflow_interface_up{interface=\"eth1\"} 1",
        "smtpflow_interface_changes_total{interface=\"eth0\"} 0",
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
    }
}

#[test]
fn the_distribution_is_a_histogram_with_a_share_of_connections_and_bytes() {
    let mut snapshot = fixture::snapshot(&[]);
    for (connections, bytes) in [(1, 40), (10, 400), (11, 440), (150, 6000), (5000, 9000)] {
        snapshot.account.bins.add(connections, bytes);
    }
    let open = open_metrics(Arc::new(snapshot)).expect("a page");
    let plain = plain_text(&open);
    assert!(plain.contains("# TYPE smtpflow_source_window_connections histogram\n"));
    for page in [&open, &plain] {
        let found: Vec<&str> = samples(page)
            .filter_map(|line| line.strip_prefix("smtpflow_source_window_connections_"))
            .collect();
        assert_eq!(
            found,
            [
                "sum 5172.0",
                "count 5",
                "bucket{le=\"10.0\"} 2",
                "bucket{le=\"30.0\"} 3",
                "bucket{le=\"70.0\"} 3",
                "bucket{le=\"100.0\"} 3",
                "bucket{le=\"200.0\"} 4",
                "bucket{le=\"1000.0\"} 4",
                "bucket{le=\"+Inf\"} 5",
            ]
        );
        for line in [
            "smtpflow_window_connections_total{bin=\"1-10\"} 11",
            "smtpflow_window_connections_total{bin=\"101-200\"} 150",
            "smtpflow_window_connections_total{bin=\"1001-\"} 5000",
            "smtpflow_window_bytes_total{bin=\"11-30\"} 440",
            "smtpflow_window_bytes_total{bin=\"31-70\"} 0",
        ] {
            assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
        }
    }
}

#[test]
fn what_could_not_be_had_at_the_last_try_is_no_success() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.drain_failing = true;
    snapshot.store.as_mut().expect("a store").failure = Some("disk full".to_owned());
    let page = open_metrics(Arc::new(snapshot)).expect("a page");
    for line in [
        "smtpflow_collector_success{collector=\"drain\"} 0",
        "smtpflow_collector_success{collector=\"store\"} 0",
        "smtpflow_collector_success{collector=\"process\"} 1",
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in:\n{page}");
    }
}

#[test]
fn odd_interface_names_are_escaped() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.points[0].configured = "e\"th\\0".to_owned();
    let page = open_metrics(Arc::new(snapshot)).expect("a page");
    assert!(page.contains("interface=\"e\\\"th\\\\0\""), "{page}");
}

#[test]
fn the_format_is_chosen_by_accept() {
    for (accept, open) in [
        (None, false),
        (Some("*/*"), false),
        (Some("text/plain"), false),
        (Some("text/html,application/xhtml+xml,*/*;q=0.8"), false),
        (Some("application/openmetrics-text"), true),
        (
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            true,
        ),
        (
            Some("application/openmetrics-text;q=0.1,text/plain;q=0.9"),
            false,
        ),
        (Some("application/openmetrics-text;q=0"), false),
        // As Prometheus 2 and 3 ask.
        (
            Some(
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ),
            true,
        ),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(wants_open_metrics(&headers), open, "{accept:?}");
    }
}
