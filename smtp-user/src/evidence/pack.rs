//! What is handed on, for programs and for people.
//!
//! Contract: both are made from the same data. What others have said (servers, logs) stands in it as their reports
//! have escaped it, and can end no line of the text.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::capture::{Capture, Counted};
use super::desk::{Desk, JsonDesk};
use super::{PAIRS, PCAP, SUMS};
use crate::model::period::{milliseconds, rfc3339};
use crate::report::SCHEMA;
use crate::report::document::{Document, Form, Table, text};
use crate::report::gaps::Gaps;
use crate::report::host::HostReport;
use crate::report::mail_log::{cell, tables as tables_of_client};
use crate::report::relay_test::tables as relay_test_tables;

/// A part that could be there, and why it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Missing {
    pub(super) part: &'static str,
    pub(super) why: String,
}

impl Missing {
    /// Nobody has named a file.
    pub(super) fn unnamed(part: &'static str, flag: &str) -> Self {
        Self {
            part,
            why: format!("no file was named ({flag})"),
        }
    }
}

/// See the module.
pub(super) struct Pack {
    /// The verdicts that it is about.
    pub(super) about: Vec<u64>,
    /// Hourly figures, pairs, outcomes, verdicts with their lives.
    pub(super) host: HostReport,
    /// Pairs that are left out.
    pub(super) unlisted_pairs: usize,
    /// When packets were not counted.
    pub(super) coverage: Gaps,
    /// Whose host it is, who has complained, what its owner was told.
    pub(super) desk: Desk,
    /// As `smtpflow relay-test --json` gives it.
    pub(super) relay_test: Option<Value>,
    /// As `smtpflow maillog --json` gives it.
    pub(super) mail_log: Option<Value>,
    /// The packets of the host.
    pub(super) capture: Option<Capture>,
    /// What is not there.
    pub(super) missing: Vec<Missing>,
}

#[derive(Serialize)]
struct JsonPack<'a, H> {
    schema: u32,
    made_at: String,
    made_by: &'static str,
    about: &'a [u64],
    host: H,
    unlisted_pairs: usize,
    coverage: &'a Gaps,
    #[serde(flatten)]
    desk: JsonDesk,
    relay_test: &'a Option<Value>,
    mail_log: &'a Option<Value>,
    capture: Option<JsonCapture<'a>>,
    missing: &'a [Missing],
}

#[derive(Serialize)]
struct JsonCapture<'a> {
    file: &'static str,
    packets: u64,
    packets_read: u64,
    packets_uncut: u64,
    packets_lost: u64,
    first_at: Option<String>,
    last_at: Option<String>,
    /// Why the capture was not read to its end, or null.
    ended: &'a Option<String>,
    counted: &'a Counted,
    commands: Vec<Command>,
}

/// A command by which the recipient gets a figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Command {
    command: String,
    gives: String,
}

const MADE_BY: &str = concat!("smtpflow ", env!("CARGO_PKG_VERSION"));

impl Pack {
    /// For programs, on lines that people can read.
    pub(super) fn json(&self) -> String {
        let pack = JsonPack {
            schema: SCHEMA,
            made_at: made_at(),
            made_by: MADE_BY,
            about: &self.about,
            host: self.host.json(),
            unlisted_pairs: self.unlisted_pairs,
            coverage: &self.coverage,
            desk: self.desk.json(),
            relay_test: &self.relay_test,
            mail_log: &self.mail_log,
            capture: self.capture.as_ref().map(|capture| {
                let times = capture.cut.times;
                JsonCapture {
                    file: PCAP,
                    packets: capture.cut.written,
                    packets_read: capture.cut.read,
                    packets_uncut: capture.cut.uncut,
                    packets_lost: capture.cut.lost,
                    first_at: times.map(|(first, _)| at(first)),
                    last_at: times.map(|(_, last)| at(last)),
                    ended: &capture.cut.ended,
                    counted: &capture.counted,
                    commands: commands(capture, self.host.address),
                }
            }),
            missing: &self.missing,
        };
        let mut json = serde_json::to_string_pretty(&pack).expect("reports have a form in JSON");
        json.push('\n');
        json
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut document = self.host.document();
        let about: Vec<String> = self.about.iter().map(u64::to_string).collect();
        let mut notes = vec![
            format!("made at {} by {MADE_BY}", made_at()),
            format!("about the verdicts {}", about.join(", ")),
        ];
        notes.append(&mut document.notes);
        notes.push(self.coverage.sentence());
        notes.push(
            "the figures are counts of packets that crossed the gateway, not sampled; nothing of the content of mail is \
             kept"
                .to_owned(),
        );
        if self.unlisted_pairs > 0 {
            notes.push(format!(
                "of the servers that it went to, the {PAIRS} with the most connections are in the JSON, and {} are not",
                self.unlisted_pairs
            ));
        }
        notes.push(format!(
            "to see that nothing has changed: sha256sum --check {SUMS}"
        ));
        let mut tables = document.tables;
        tables.push(self.coverage.table());
        tables.extend(self.desk.tables());
        tables.extend(self.relay_test.iter().flat_map(relay_test_tables));
        tables.extend(self.mail_log.iter().flat_map(mail_log_tables));
        if let Some(capture) = &self.capture {
            tables.extend(capture_tables(capture, self.host.address));
        }
        if !self.missing.is_empty() {
            tables.push(Table {
                name: "missing",
                title: "what is not here".to_owned(),
                columns: vec![text("part"), text("why")],
                rows: self
                    .missing
                    .iter()
                    .map(|missing| vec![missing.part.to_owned(), missing.why.clone()])
                    .collect(),
                ..Table::default()
            });
        }
        Document {
            title: format!("Evidence about {}", self.host.address),
            notes,
            tables,
        }
        .render(Form::Text)
    }
}

fn made_at() -> String {
    rfc3339(milliseconds(SystemTime::now()))
}

fn at(time: Duration) -> String {
    rfc3339(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn mail_log_tables(report: &Value) -> Vec<Table> {
    let lines = &report["lines"];
    let mut note = format!(
        "{} lines were read, {} of them say something of a message",
        cell(&lines["lines"]),
        cell(&lines["events"])
    );
    // The report is about one client.
    let client = &report["clients"][0];
    if client.is_null() {
        note.push_str("; none of them names the host");
    }
    let mut tables = tables_of_client(client);
    tables[0].notes.push(note);
    tables.into()
}

fn capture_tables(capture: &Capture, host: IpAddr) -> [Table; 2] {
    let Capture {
        cut,
        counted,
        ports: _,
    } = capture;
    let Counted {
        connections,
        syn_retx,
        c2s_packets,
        c2s_bytes,
        s2c_packets,
        s2c_bytes,
        answered,
        refused,
    } = counted;
    let mut facts = Vec::new();
    if let Some((first, last)) = cut.times {
        facts.extend([("first_packet", at(first)), ("last_packet", at(last))]);
    }
    facts.extend(
        [
            ("packets", &cut.written),
            ("connections", connections),
            ("syn_retx", syn_retx),
            ("c2s_packets", c2s_packets),
            ("c2s_bytes", c2s_bytes),
            ("s2c_packets", s2c_packets),
            ("s2c_bytes", s2c_bytes),
            ("answered", answered),
            ("refused", refused),
        ]
        .map(|(name, count)| (name, count.to_string())),
    );
    let mut notes = vec![format!(
        "IP and TCP headers of the host's mail packets; {} packets of the capture were read",
        cut.read
    )];
    if cut.uncut > 0 {
        notes.push(format!(
            "{} packets of the host are left out, since without their content they would not count as they do",
            cut.uncut
        ));
    }
    if cut.lost > 0 {
        notes.push(format!(
            "{} packets were lost, since they came faster than they were taken",
            cut.lost
        ));
    }
    if let Some(ended) = &cut.ended {
        notes.push(format!("the capture was not read to its end: {ended}"));
    }
    [
        Table {
            notes,
            ..Table::facts("capture", PCAP, &facts)
        },
        Table {
            name: "commands",
            title: format!("how to get these figures from {PCAP}"),
            columns: vec![text("gives"), text("command")],
            rows: commands(capture, host)
                .into_iter()
                .map(|Command { command, gives }| vec![gives, command])
                .collect(),
            ..Table::default()
        },
    ]
}

/// How the recipient gets the same numbers: with our own program, and with one that others wrote.
fn commands(capture: &Capture, host: IpAddr) -> Vec<Command> {
    let ports: Vec<String> = capture.ports.iter().map(u16::to_string).collect();
    let our_ports: String = ports.iter().map(|port| format!(" --port {port}")).collect();
    let ports = ports.join(", ");
    let source = match host {
        IpAddr::V4(v4) => format!("ip.src == {v4}"),
        IpAddr::V6(v6) => format!("ipv6.src == {v6}"),
    };
    let to_servers = format!("{source} && tcp.dstport in {{{ports}}}");
    let tshark = |filter: &str| format!("tshark -r {PCAP} -Y '{filter}' | wc -l");
    let syns = capture.counted.connections + capture.counted.syn_retx;
    vec![
        Command {
            command: format!("smtpflow replay {PCAP} --json{our_ports}"),
            gives: "all of them".to_owned(),
        },
        Command {
            command: tshark(&to_servers),
            gives: format!("c2s_packets: {}", capture.counted.c2s_packets),
        },
        Command {
            command: tshark(&format!(
                "{to_servers} && tcp.flags.syn == 1 && tcp.flags.ack == 0 && tcp.flags.reset == 0 && \
                 tcp.flags.fin == 0"
            )),
            gives: format!("connections and syn_retx together: {syns}"),
        },
    ]
}
