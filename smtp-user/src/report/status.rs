//! How a running agent is, for people.
//!
//! Contract: from the agent's own JSON (`/api/v1/status`, `/readyz`); what an
//! agent of another version does not say is shown as `-`.

use serde_json::Value;

use super::document::{Document, Table, text};
use super::time;

/// What an agent has said of itself.
#[derive(Clone, Debug)]
pub struct Said {
    /// `/api/v1/status`.
    pub status: Value,
    /// `/readyz`.
    pub ready: Value,
}

impl Said {
    /// Open verdicts of this severity.
    pub fn open_verdicts(&self, severity: &str) -> Option<u64> {
        self.status["verdicts"]["open"][severity].as_u64()
    }

    /// As tables.
    pub fn document(&self) -> Document {
        let status = &self.status;
        let ready = self.ready["ready"].as_bool() == Some(true);
        let checks = list(&self.ready["checks"]);
        let facts = [
            ("version", shown(&status["version"])),
            ("kernel", shown(&status["kernel"])),
            ("up_for", seconds(&status["uptime_seconds"])),
            ("counting_since", shown(&status["counting_since"])),
            ("window", seconds(&status["window_seconds"])),
            ("last_drain", {
                let age = &status["last_drain"]["age_seconds"];
                if age.is_null() {
                    "none yet".to_owned()
                } else {
                    format!("{} ago", seconds(age))
                }
            }),
            ("drains_failed", shown(&status["drain_failures"])),
            ("sources_kept", shown(&status["sources_kept"])),
            ("connections", shown(&status["totals"]["connections"])),
            ("segments", shown(&status["conservation"]["segments"])),
            (
                "conservation_error",
                shown(&status["conservation"]["error"]),
            ),
            ("overflow_packets", shown(&status["overflow"]["packets"])),
            ("untracked_packets", shown(&status["untracked"]["packets"])),
            (
                "store",
                match &status["store"]["path"] {
                    Value::Null => "none: counts are lost when the agent ends".to_owned(),
                    path => shown(path),
                },
            ),
            ("own_hosts_judged", shown(&status["verdicts"]["subjects"])),
            (
                "open_verdicts",
                ["critical", "warning", "notice"]
                    .map(|severity| match self.open_verdicts(severity) {
                        Some(open) => format!("{open} {severity}"),
                        None => format!("- {severity}"),
                    })
                    .join(", "),
            ),
        ];
        Document {
            title: format!("smtpflow is {}", if ready { "ready" } else { "NOT READY" }),
            notes: Vec::new(),
            tables: vec![
                Table {
                    columns: vec![text("what"), text("value")],
                    ..Table::facts("status", "the agent", &facts)
                },
                Table {
                    name: "checks",
                    title: "is it ready".to_owned(),
                    columns: vec![text("condition"), text("holds"), text("what_is_there")],
                    rows: checks
                        .iter()
                        .map(|check| {
                            let holds = check["ok"].as_bool() == Some(true);
                            vec![
                                shown(&check["name"]),
                                if holds { "yes" } else { "NO" }.to_owned(),
                                shown(&check["text"]),
                            ]
                        })
                        .collect(),
                    ..Table::default()
                },
                Table {
                    name: "interfaces",
                    title: "interfaces".to_owned(),
                    columns: vec![
                        text("name"),
                        text("state"),
                        text("mode"),
                        text("up"),
                        text("reason"),
                    ],
                    rows: list(&status["interfaces"])
                        .iter()
                        .map(|interface| {
                            vec![
                                shown(&interface["name"]),
                                shown(&interface["state"]),
                                shown(&interface["mode"]),
                                shown(&interface["up"]),
                                shown(&interface["reason"]),
                            ]
                        })
                        .collect(),
                    ..Table::default()
                },
            ],
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        Some(seconds) if seconds < 60.0 => format!("{seconds:.1}s"),
        Some(seconds) => time::span((seconds * 1000.0) as u64),
        None => "-".to_owned(),
    }
}
