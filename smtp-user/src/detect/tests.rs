//! Tests of the detectors and the judge, from windows to findings.

mod history;
mod judge;
mod limits;
mod why;

use std::net::IpAddr;
use std::time::Duration;

use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_common::speech::Speech;

use super::*;
use crate::model::period::{Bucket, Tier, milliseconds, system_time};
use crate::model::session::Sessions;
use crate::model::verdict::{Holding, Rule, Severity, Unjudged};
use crate::model::{Counts, Folded, PairKey, Source, Tally, Window};

pub(super) const HOUR: u64 = 3_600_000;
/// 2026-11-24T00:00:00Z
pub(super) const MIDNIGHT: u64 = 1_795_478_400_000;
pub(super) const HOST: &str = "192.0.2.1";
pub(super) const SERVER: &str = "198.51.100.1";

pub(super) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().expect("an address").into()
}

/// The server with this number.
pub(super) fn server(number: u32) -> Address {
    Address::from_ipv4((0xc633_6400 + number).to_be_bytes())
}

pub(super) fn hour_of(segment: u32, time: u64) -> Bucket {
    Bucket {
        segment,
        start: Tier::Hour.start_of(time),
        tier: Tier::Hour,
    }
}

/// What a client did with a server in a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deed {
    pub connections: u64,
    pub answered: u64,
    pub refused: u64,
    pub syn_retx: u64,
    /// Segments of the client beyond its SYNs.
    pub talk: u64,
    pub mail: u64,
    pub accepted: u64,
    pub rejected: u64,
}

impl Deed {
    /// Connections that are answered and carry mail.
    pub fn mail(connections: u64) -> Self {
        Self {
            connections,
            answered: connections,
            talk: 10 * connections,
            mail: connections,
            accepted: connections,
            ..Self::default()
        }
    }

    /// SYNs to a server that is not there.
    pub fn dead(connections: u64) -> Self {
        Self {
            connections,
            syn_retx: 2 * connections,
            ..Self::default()
        }
    }

    /// Connections that a server resets.
    pub fn refused(connections: u64) -> Self {
        Self {
            connections,
            refused: connections,
            ..Self::default()
        }
    }

    /// Mail whose answers take another way.
    pub fn one_sided(connections: u64) -> Self {
        Self {
            connections,
            talk: 10 * connections,
            mail: connections,
            ..Self::default()
        }
    }

    fn totals(&self) -> Totals {
        let syns = self.connections + self.syn_retx;
        Totals {
            connections: self.connections,
            syn_retx: self.syn_retx,
            c2s_packets: syns + self.talk,
            c2s_bytes: 60 * syns + 500 * self.talk,
            answered: self.answered,
            refused: self.refused,
            ..Totals::default()
        }
    }

    fn sessions(&self) -> Sessions {
        let mut sessions = Sessions {
            accepted: self.accepted,
            ..Sessions::default()
        };
        sessions.said.0[Speech::MAIL.number() as usize] = self.mail;
        sessions.said.0[Speech::COMPLETION.number() as usize] = self.accepted;
        sessions.said.0[Speech::PERMANENT.number() as usize] = self.rejected;
        sessions
    }
}

/// A window and what its flows add.
pub(super) struct Seen {
    pub window: Window,
    pub folded: Folded,
}

impl Seen {
    pub fn new(start: u64, seconds: u64) -> Self {
        Self {
            window: Window {
                epoch: 1,
                started_at: system_time(start),
                length: Duration::from_secs(seconds),
                tally: Tally::default(),
                sources: Vec::new(),
                flows: Vec::new(),
                lines_used: 0,
                flip: Duration::ZERO,
            },
            folded: Folded::default(),
        }
    }

    pub fn with(mut self, client: Address, server: Address, deed: Deed) -> Self {
        let (totals, sessions) = (deed.totals(), deed.sessions());
        let sources = &mut self.window.sources;
        match sources.iter_mut().find(|source| source.address == client) {
            Some(source) => source.totals.merge(&totals),
            None => sources.push(Source {
                address: client,
                totals,
            }),
        }
        self.folded
            .clients
            .entry(client)
            .or_default()
            .merge(&sessions);
        let peak = Counts::peak_of(totals.connections, self.window.length);
        let counts = Counts {
            totals,
            sessions,
            peak,
        };
        let pair = PairKey { client, server };
        self.folded.pairs.entry(pair).or_default().merge(&counts);
        self
    }

    pub fn start(&self) -> u64 {
        milliseconds(self.window.started_at)
    }
}

/// A judge of own hosts in documentation prefixes, and the window that it is at.
pub(super) struct Bench {
    pub judge: Judge,
    segment: u32,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Settings::default(), Vec::new())
    }

    pub fn with(settings: Settings, relays: Vec<Relay>) -> Self {
        let local =
            ["192.0.2.0/24", "2001:db8::/32"].map(|prefix| prefix.parse().expect("a prefix"));
        Self {
            judge: Judge::new(settings, local.to_vec(), relays),
            segment: 0,
        }
    }

    pub fn add(&mut self, seen: &Seen) -> Vec<Finding> {
        let hour = hour_of(self.segment, seen.start());
        self.judge.add(&seen.window, &seen.folded, hour)
    }

    /// The clock was set back.
    pub fn set_back(&mut self) {
        self.segment += 1;
    }

    /// A full hour of a host in six windows; gives what the last one finds.
    pub fn hour(&mut self, number: u64, connections: u64) -> Vec<String> {
        let start = MIDNIGHT + number * HOUR;
        let mut findings = Vec::new();
        for window in 0..6 {
            let seen = Seen::new(start + window * 600_000, 600);
            let here = connections / 6 + u64::from(window < connections % 6);
            findings = self.add(&seen.with(address(HOST), address(SERVER), Deed::mail(here)));
        }
        names(&findings)
    }

    pub fn rules(&self, host: &str) -> Vec<Rule> {
        let ip = host.parse().expect("an address");
        let facts = self.judge.facts_of(ip).expect("windows");
        let policy = self.judge.policy();
        policy.rules(&policy.subject_of(ip), &facts)
    }

    /// Whether the rules of a detector hold for a host, in their order.
    pub fn holding(&self, host: &str, detector: &str) -> Vec<bool> {
        let rules = self.rules(host);
        let of = rules.iter().filter(|rule| rule.detector == detector);
        of.map(|rule| rule.holding == Holding::Holds).collect()
    }
}

/// What is found, as `subject detector severity`.
pub(super) fn names(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| {
            let name = finding.subject.addr();
            let Rule {
                detector, severity, ..
            } = &finding.rule;
            format!("{name} {detector} {}", severity.name())
        })
        .collect()
}

pub(super) fn relay(prefix: &str, connections: Option<u32>, expires: Option<&str>) -> Relay {
    Relay {
        prefix: prefix.parse().expect("a prefix"),
        reason: "the mail relay of the staff".to_owned(),
        owner: "postmaster@example.org".to_owned(),
        expires: expires.map(|date| date.parse().expect("a date")),
        connections,
    }
}

#[test]
fn the_table_has_a_row_of_one_line_for_each_detector() {
    let rows = table();
    assert_eq!(rows.len(), DETECTORS.len());
    for (row, entry) in rows.iter().zip(DETECTORS) {
        assert_eq!(row[0], format!("`{}`", entry.name));
        for cell in row {
            assert!(
                !cell.is_empty() && !cell.contains(['\n', '|']) && !cell.contains("  "),
                "{cell}"
            );
        }
    }
    assert_eq!(
        rows[0][2],
        "`notice = 30`, `warning = 100`, `server_notice = 30`, `server_warning = 100`"
    );
}

#[test]
fn no_limit_of_servers_is_above_those_that_are_told_apart() {
    let most = Within::<0, 1000>::new(1000).get() as usize;
    assert!(most < hour::SERVERS);
}
