//! The page, and the files that it needs.
//!
//! Contract: everything is in the program, nothing is fetched from elsewhere. The page is useful as
//! it is sent: state, figures and the first rows are in it; the script only keeps them up to date.
//! Whatever comes from outside is escaped, and the content policy forbids inline scripts anyway.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse as _, Response};

use super::App;
use super::api::{LATE_WINDOWS, all_segments, since};
use super::problem::Problem;
use crate::model::{ObservationPoint, PointState, Scope, Snapshot, SourceRow};
use crate::source_list::SourceList;

const INDEX: &str = include_str!("dashboard/index.html");
const SCRIPT: &str = include_str!("dashboard/app.js");
const STYLE: &str = include_str!("dashboard/style.css");
const ICON: &str = include_str!("dashboard/icon.svg");

/// Rows in the page as it is sent.
const ROWS: usize = 20;

pub(super) async fn index(State(app): State<App>) -> Result<Response, Problem> {
    let page = app
        .scan(|snapshot, list| render(snapshot, list, SystemTime::now()))
        .await?;
    Ok(Html(page).into_response())
}

pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

pub(super) async fn icon() -> Response {
    file("image/svg+xml", ICON)
}

/// A file of this version of the program; another version may run when it is asked for again.
fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// The first sources by connections.
fn top(list: &SourceList) -> Vec<SourceRow> {
    let mut order: Vec<_> = list
        .iter()
        .map(|source| {
            let address = IpAddr::from(source.address());
            (
                Reverse(source.total().connections),
                address,
                source.number(),
            )
        })
        .collect();
    order.sort_unstable();
    let rows = order.iter().take(ROWS);
    rows.filter_map(|(.., number)| Some(list.get(*number)?.to_row()))
        .collect()
}

/// The page with the figures of a snapshot.
fn render(snapshot: &Snapshot, list: &SourceList, now: SystemTime) -> String {
    let rows = top(list);
    let (class, verdict) = verdict(snapshot, now);
    let tally = &snapshot.account;
    let all = all_segments(tally);
    let identity = &snapshot.identity;
    let interfaces: Vec<_> = snapshot
        .points
        .iter()
        .map(|point| format!("{} ({})", point.interface, manner(point)))
        .collect();
    let ports: Vec<_> = identity.ports.iter().map(ToString::to_string).collect();
    let drain = snapshot.last_drain;
    let values: [(&str, String); 21] = [
        ("state_class", class.to_owned()),
        ("verdict", verdict),
        (
            "interfaces",
            if interfaces.is_empty() {
                "none".to_owned()
            } else {
                interfaces.join(", ")
            },
        ),
        (
            "drain",
            drain.map_or_else(
                || "none yet".to_owned(),
                |drain| format!("{} ago", duration(since(drain.at, now))),
            ),
        ),
        ("conservation", grouped(tally.conservation_error())),
        (
            "overflow",
            format!("{} packets", grouped(tally.overflow.packets())),
        ),
        ("uptime", duration(since(identity.started_at, now))),
        ("connections", grouped(all.connections)),
        (
            "connections_note",
            format!("{} retransmitted", grouped(all.syn_retx)),
        ),
        ("sources", grouped(snapshot.sources_kept)),
        (
            "sources_note",
            drain.map_or_else(String::new, |drain| {
                format!("{} in the last window", grouped(drain.sources))
            }),
        ),
        ("packets", grouped(all.packets())),
        (
            "packets_note",
            format!("{} of them to servers", grouped(all.c2s_packets)),
        ),
        ("bytes", bytes(all.bytes())),
        ("bytes_exact", format!("{} bytes", grouped(all.bytes()))),
        (
            "bytes_note",
            format!("{} of them to servers", bytes(all.c2s_bytes)),
        ),
        ("shown", rows.len().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("kernel", identity.kernel.clone()),
        ("ports", ports.join(", ")),
        ("window", duration(identity.window)),
    ];
    let mut page = String::with_capacity(2 * INDEX.len());
    let mut rest = INDEX;
    // Pieces are copied once, so a value that looks like a placeholder is not filled in again.
    while let Some((before, name, after)) = placeholder(rest) {
        page.push_str(before);
        if name == "rows" {
            table(&mut page, &rows);
        } else if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
            escape(&mut page, value);
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// What stands before the next `{{name}}`, the name, and what stands behind it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

/// Whether it counts, and how to show that; as the script says it later.
fn verdict(snapshot: &Snapshot, now: SystemTime) -> (&'static str, String) {
    let tally = &snapshot.account;
    let age = snapshot.last_drain.map(|drain| since(drain.at, now));
    let fallen = names(snapshot, |point| point.fallback.is_some());
    let missed = names(snapshot, |point| point.state != PointState::Attached);
    let down = names(snapshot, |point| !point.up);
    match age {
        _ if snapshot.points.is_empty() => (
            "bad",
            "Attached to no interface: nothing is counted".to_owned(),
        ),
        _ if !missed.is_empty() => ("bad", format!("Not counting on {missed}")),
        None => (
            "warn",
            "Counting; the first window is not over yet".to_owned(),
        ),
        Some(age) if age > snapshot.identity.window * LATE_WINDOWS => (
            "bad",
            format!("No drain for {}: these figures are old", duration(age)),
        ),
        _ if tally.conservation_error() != 0 => (
            "bad",
            "Counts do not add up: this is a fault of smtpflow".to_owned(),
        ),
        _ if snapshot
            .store
            .as_ref()
            .is_some_and(|store| store.failure.is_some()) =>
        {
            (
                "warn",
                "Counting; the store cannot be written, so counts wait in memory".to_owned(),
            )
        }
        _ if tally.overflow.packets() != 0 => (
            "warn",
            "Counting; the table was full, so some sources are not known".to_owned(),
        ),
        _ if !down.is_empty() => ("warn", format!("Counting; {down} is down")),
        _ if !fallen.is_empty() => (
            "warn",
            format!("Counting; driver mode was refused on {fallen}"),
        ),
        _ => ("good", "Counting; every packet is accounted for".to_owned()),
    }
}

/// The interfaces of which this holds.
fn names(snapshot: &Snapshot, holds: impl Fn(&ObservationPoint) -> bool) -> String {
    let points = snapshot.points.iter().filter(|point| holds(point));
    let names: Vec<_> = points.map(|point| point.interface.as_str()).collect();
    names.join(", ")
}

/// How an interface is counted on, or why it is not.
fn manner(point: &ObservationPoint) -> String {
    match point.state {
        PointState::Attached if point.up => point.mode.name().to_owned(),
        PointState::Attached => format!("{}, down", point.mode.name()),
        state => state.name().to_owned(),
    }
}

/// The rows of the table, in the columns of the page.
fn table(page: &mut String, rows: &[SourceRow]) {
    if rows.is_empty() {
        page.push_str("<tr><td class=\"empty\" colspan=\"14\">No mail traffic yet</td></tr>\n");
    }
    for row in rows {
        let SourceRow {
            address,
            scope,
            total,
            window,
        } = row;
        let scope = match scope {
            Scope::Local => "local",
            Scope::Remote => "remote",
            Scope::Unknown => "unknown",
        };
        let mean = if total.c2s_packets == 0 {
            "\u{2013}".to_owned()
        } else {
            format!("{:.1}", total.c2s_bytes as f64 / total.c2s_packets as f64)
        };
        let _ = write!(
            page,
            "<tr><th scope=\"row\" class=\"text\">{address}</th><td class=\"text scope\">{scope}</td>"
        );
        for text in [
            grouped(total.connections),
            grouped(total.syn_retx),
            grouped(total.answered),
            grouped(total.refused),
            grouped(total.c2s_packets),
            bytes(total.c2s_bytes),
            mean,
            grouped(total.s2c_packets),
            bytes(total.s2c_bytes),
            grouped(window.connections),
            grouped(window.c2s_packets),
            bytes(window.c2s_bytes),
        ] {
            let _ = write!(page, "<td>{text}</td>");
        }
        page.push_str("</tr>\n");
    }
}

/// Text in HTML, in an element or in a quoted attribute.
fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
}

/// 1,234,567
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 1.2 MB
fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// 2 h 5 min
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn page(change: impl FnOnce(&mut Snapshot)) -> String {
        let mut snapshot = fixture::snapshot(&fixture::rows());
        change(&mut snapshot);
        render(
            &snapshot,
            &fixture::list(&fixture::rows()),
            SystemTime::now(),
        )
    }

    #[test]
    fn the_page_is_complete_as_it_is_sent() {
        let page = page(|_| {});
        assert!(
            !page.contains("{{") && !page.contains("}}"),
            "a placeholder is left"
        );
        for part in [
            "eth0 (driver), eth1 (skb)",
            ">192.0.2.7</th><td class=\"text scope\">local</td><td>100</td>",
            ">2001:db8::25</th>",
            "<td>9.0 kB</td>",
            "the 4 sources",
        ] {
            assert!(page.contains(part), "no {part} in:\n{page}");
        }
        let first = page.find("192.0.2.7").expect("there");
        assert!(first < page.find("198.51.100.1").expect("there"), "sorted");
    }

    #[test]
    fn every_placeholder_has_a_value() {
        let mut rest = INDEX;
        let page = page(|_| {});
        while let Some((before, name, after)) = placeholder(rest) {
            // What stands before it is copied as it is.
            assert!(page.contains(before), "{name}");
            rest = after;
        }
        let empty = render(
            &fixture::snapshot(&[]),
            &fixture::list(&[]),
            SystemTime::now(),
        );
        assert!(empty.contains("No mail traffic yet"));
    }

    #[test]
    fn what_comes_from_outside_is_escaped_and_not_filled_in_again() {
        let page = page(|snapshot| {
            snapshot.points[0].interface = "<script>alert(\"1\")".to_owned();
            snapshot.identity.kernel = "{{rows}}'&".to_owned();
        });
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;) (driver)"));
        assert!(!page.contains("<script>alert"));
        assert!(page.contains("Linux {{rows}}&#39;&amp; "));
    }

    #[test]
    fn the_verdict_says_the_worst_first() {
        let second = Duration::from_secs(1);
        let verdict_of = |change: &dyn Fn(&mut Snapshot)| {
            let mut snapshot = fixture::snapshot(&fixture::rows());
            change(&mut snapshot);
            verdict(&snapshot, SystemTime::now() + second)
        };
        assert_eq!(verdict_of(&|s| s.points.clear()).0, "bad");
        let missing = verdict_of(&|s| s.points[1].state = PointState::Missing);
        assert_eq!(missing, ("bad", "Not counting on eth1".to_owned()));
        assert_eq!(verdict_of(&|s| s.last_drain = None).0, "warn");
        assert!(verdict_of(&|_| {}).1.contains("table was full"));
        let full_disk = verdict_of(&|s| {
            let store = s.store.as_mut().expect("a store");
            store.failure = Some("database or disk is full".to_owned());
        });
        assert!(
            full_disk.1.contains("store cannot be written"),
            "{}",
            full_disk.1
        );
        let clean = |s: &mut Snapshot| {
            let overflow = std::mem::take(&mut s.account.overflow);
            s.account.frames -= overflow.packets();
            s.account.outcomes[0] -= overflow.packets();
            s.account.segment_bytes -= overflow.bytes();
        };
        assert!(verdict_of(&clean).1.contains("refused on eth1"));
        let down = verdict_of(&|s| {
            clean(s);
            s.points[0].up = false;
        });
        assert_eq!(down, ("warn", "Counting; eth0 is down".to_owned()));
        let good = verdict_of(&|s| {
            clean(s);
            s.points.pop();
        });
        assert_eq!(good.0, "good", "{}", good.1);
        let late = verdict_of(&|s| s.identity.window = Duration::from_millis(1));
        assert!(late.1.starts_with("No drain for 1 s"), "{}", late.1);
        let broken = verdict_of(&|s| s.account.frames += 1);
        assert!(broken.1.contains("do not add up"), "{}", broken.1);
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere_and_nothing_is_inline() {
        for (name, text) in [("index", INDEX), ("script", SCRIPT), ("style", STYLE)] {
            for bad in [
                "http://",
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
            ] {
                assert!(!text.contains(bad), "{bad} in {name}");
            }
        }
        for bad in ["<style", "style=", "onclick", "onload", "javascript:"] {
            assert!(!INDEX.contains(bad), "{bad} in the page");
        }
        assert_eq!(INDEX.matches("<script").count(), 1);
        assert!(INDEX.contains("<script src=\"app.js\" defer></script>"));
    }

    #[test]
    fn numbers_are_shown_as_the_script_shows_them() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_234_567), "1.2 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(duration(Duration::from_secs(59)), "59 s");
        assert_eq!(duration(Duration::from_secs(3_661)), "1 h 1 min");
        assert_eq!(duration(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
