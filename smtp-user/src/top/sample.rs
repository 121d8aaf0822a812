//! What the agent says, as far as it is shown.
//!
//! Contract: what an agent of another version does not say is missing, never 0. No text in here can
//! do anything to a terminal.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Agent;
use crate::failure::Failure;
use crate::model::verdict::Severity;
use crate::report::document::printable;

/// What sources are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The figure.
    pub key: SortKey,
    /// The smallest first; for addresses, the last first.
    pub reversed: bool,
}

/// See [`Sort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Connections opened
    Connections,
    /// Packets sent to servers
    Packets,
    /// Bytes sent to servers
    Bytes,
    /// Different servers
    Servers,
    /// The address
    Address,
}

/// Of when counts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last window
    Window,
    /// The last hour
    Hour,
    /// The last 24 hours
    Day,
    /// All that the agent has counted
    All,
}

impl Span {
    /// For the head of the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Window => "last window",
            Self::Hour => "last hour",
            Self::Day => "last 24 hours",
            Self::All => "since counting began",
        }
    }
}

/// How the agent is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Head {
    /// Interfaces that are counted on, with their mode.
    pub(super) counting: Vec<String>,
    /// Those that are not, with their state.
    pub(super) missing: Vec<String>,
    /// Age of the last drain when the agent was asked; `None` before the first.
    pub(super) age: Option<Duration>,
    /// Length of a window.
    pub(super) window: Duration,
    /// Connections a second in the last window.
    pub(super) rate: Option<f64>,
    /// Sources in the last window.
    pub(super) sources: Option<u64>,
    /// Open verdicts, in the order of [`Severity::ALL`]; `None` where nobody is judged.
    pub(super) open: Option<[u64; Severity::ALL.len()]>,
    /// What else the operator should know, in a few words each.
    pub(super) warnings: Vec<String>,
}

/// A source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) address: String,
    pub(super) connections: Option<u64>,
    pub(super) packets: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) servers: Option<u64>,
    /// Severity of its worst open verdict.
    pub(super) severity: Option<Severity>,
}

/// An answer of the agent.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When it came.
    pub(super) at: Instant,
    pub(super) head: Head,
    /// In the order that was asked for.
    pub(super) rows: Vec<Row>,
    /// As it came, for programs.
    pub(super) json: Value,
}

impl Sample {
    /// Asks the agent.
    pub(super) fn ask(agent: &Agent, sort: Sort, span: Span, rows: usize) -> Result<Self, Failure> {
        let status = agent.get("/api/v1/status", &[200])?.body;
        let sources = agent.get(&path(sort, span, rows), &[200])?.body;
        Ok(Self {
            at: Instant::now(),
            head: Head::read(&status),
            rows: rows_of(&sources, span),
            json: json!({ "status": status, "sources": sources }),
        })
    }
}

/// The question for these sources.
fn path(sort: Sort, span: Span, rows: usize) -> String {
    // Of the last window: those that sent anything in it.
    let (which, of) = match span {
        Span::Window => ("filter=window.c2s_packets%3E0&", "window."),
        Span::Hour => ("period=1h&", ""),
        Span::Day => ("period=24h&", ""),
        Span::All => ("", ""),
    };
    let key = match sort.key {
        SortKey::Connections => "connections",
        SortKey::Packets => "c2s_packets",
        SortKey::Bytes => "c2s_bytes",
        SortKey::Servers => "servers",
        SortKey::Address => "addr",
    };
    let of = match sort.key {
        SortKey::Servers | SortKey::Address => "",
        _ => of,
    };
    let ascending = sort.reversed != (sort.key == SortKey::Address);
    let order = if ascending { "asc" } else { "desc" };
    format!("/api/v1/sources?{which}sort={of}{key}&order={order}&limit={rows}")
}

impl Head {
    fn read(status: &Value) -> Self {
        let drain = &status["last_drain"];
        let mut head = Self {
            age: seconds(&drain["age_seconds"]),
            window: seconds(&status["window_seconds"]).unwrap_or_default(),
            sources: drain["sources"].as_u64(),
            ..Self::default()
        };
        for interface in status["interfaces"].as_array().into_iter().flatten() {
            let name = text(&interface["configured"]);
            let state = text(&interface["state"]);
            if state == "attached" {
                let mode = text(&interface["mode"]);
                head.counting.push(format!("{name} ({mode})"));
            } else {
                head.missing.push(format!("{name} is {state}"));
            }
        }
        let length = seconds(&drain["length_seconds"]).filter(|length| !length.is_zero());
        head.rate = drain["connections"]
            .as_u64()
            .zip(length)
            .map(|(connections, length)| connections as f64 / length.as_secs_f64());
        let verdicts = &status["verdicts"];
        if verdicts["judged"].as_bool() == Some(true) {
            let open = Severity::ALL.map(|severity| verdicts["open"][severity.name()].as_u64());
            head.open = Some(open.map(Option::unwrap_or_default));
        }
        for (count, what) in [
            (&status["conservation"]["error"], "counts do not add up by"),
            (&status["overflow"]["packets"], "packets without a place:"),
            (&status["drain_failures"], "failed drains:"),
        ] {
            if let Some(count) = count.as_u64().filter(|count| *count != 0) {
                head.warnings.push(format!("{what} {count}"));
            }
        }
        if let Some(failure) = status["store"]["failure"].as_str() {
            let text = format!("the store cannot be written: {failure}");
            head.warnings.push(printable(&text));
        }
        head
    }
}

fn rows_of(sources: &Value, span: Span) -> Vec<Row> {
    let rows = sources["sources"].as_array().into_iter().flatten();
    rows.map(|source| {
        // An address in its own form, or at least nothing that harms.
        let address = text(&source["addr"]);
        let address = match address.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => address,
        };
        let counts = match span {
            Span::Window => &source["window"],
            Span::Hour | Span::Day | Span::All => &source["total"],
        };
        Row {
            address,
            connections: counts["connections"].as_u64(),
            packets: counts["c2s_packets"].as_u64(),
            bytes: counts["c2s_bytes"].as_u64(),
            servers: source["servers"].as_u64(),
            severity: Severity::ALL
                .into_iter()
                .find(|severity| source["severity"] == severity.name()),
        }
    })
    .collect()
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or("-"))
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_order_and_period() {
        let sort = |key, reversed| Sort { key, reversed };
        assert_eq!(
            path(sort(SortKey::Bytes, false), Span::Hour, 7),
            "/api/v1/sources?period=1h&sort=c2s_bytes&order=desc&limit=7"
        );
        assert_eq!(
            path(sort(SortKey::Packets, false), Span::Window, 7),
            "/api/v1/sources?filter=window.c2s_packets%3E0&sort=window.c2s_packets&order=desc&limit=7"
        );
        for (key, reversed, order) in [
            (SortKey::Connections, true, "asc"),
            (SortKey::Address, false, "asc"),
            (SortKey::Address, true, "desc"),
        ] {
            let path = path(sort(key, reversed), Span::All, 1);
            assert!(path.contains(&format!("order={order}&")), "{path}");
        }
    }

    #[test]
    fn what_is_not_said_is_missing_and_what_harms_is_replaced() {
        let head = Head::read(&json!({}));
        assert_eq!(head, Head::default());
        let rows = rows_of(
            &json!({"sources": [
                {"addr": "\u{1b}[2J\n", "severity": "critical"},
                {"addr": "2001:DB8:0:0::1", "total": {"connections": 3}, "severity": "odd"},
            ]}),
            Span::All,
        );
        assert_eq!(rows[0].address, "\u{fffd}[2J\u{fffd}");
        assert_eq!(rows[0].severity, Some(Severity::Critical));
        assert_eq!(rows[1].address, "2001:db8::1");
        assert_eq!((rows[1].connections, rows[1].packets), (Some(3), None));
        assert_eq!(rows[1].severity, None);
    }
}
