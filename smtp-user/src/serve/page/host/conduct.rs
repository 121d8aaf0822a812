//! What a host's connections came to, what was said on them, and to whom they went.

use std::net::IpAddr;

use crate::connections::ConnectionRow;
use crate::distribution::percent;
use crate::model::period::milliseconds;
use crate::model::session::{self, COMMANDS, REPLIES, Sessions, flag_names};
use crate::model::{Counts, PairKey};

/// Connections with one outcome, in the period and in the one before it.
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) now: Part,
    pub(super) before: Part,
}

/// A count, its share in percent, and the length of its bar in hundredths.
pub(super) struct Part {
    pub(super) count: u64,
    pub(super) percent: String,
    pub(super) bar: String,
}

impl Part {
    pub(super) fn new(count: u64, of: u64) -> Self {
        let percent = percent(count, of);
        // Three decimals are for tables of many thousands.
        let tenths = percent.get(..percent.len() - 2).unwrap_or_default();
        Self {
            count,
            bar: tenths.to_owned(),
            percent: tenths.to_owned(),
        }
    }
}

/// All outcomes, the best first.
pub(super) fn outcomes(now: &Sessions, before: &Sessions) -> Vec<Outcome> {
    let (all, all_before) = (now.outcomes.sum(), before.outcomes.sum());
    session::Outcome::ALL
        .into_iter()
        .rev()
        .map(|outcome| Outcome {
            name: outcome.name(),
            meaning: outcome.meaning(),
            now: Part::new(now.outcomes.of(outcome), all),
            before: Part::new(before.outcomes.of(outcome), all_before),
        })
        .collect()
}

/// A command or a class of replies.
pub(super) struct Said {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) count: u64,
}

/// All of them.
pub(super) fn said(sessions: &Sessions) -> Vec<Said> {
    const MEANINGS: [&str; 6] = [
        "messages begun",
        "recipients named",
        "replies: done",
        "replies: go on",
        "replies: not now",
        "replies: no",
    ];
    let kinds = COMMANDS.into_iter().chain(REPLIES);
    kinds
        .zip(MEANINGS)
        .map(|((name, speech), meaning)| Said {
            name,
            meaning,
            count: sessions.said.of(speech),
        })
        .collect()
}

/// A server that it went to, or all that are not kept one by one.
pub(super) struct Server {
    pub(super) address: Option<IpAddr>,
    pub(super) connections: u64,
    pub(super) percent: String,
    pub(super) bar: String,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) size: Option<String>,
    pub(super) delivered: u64,
    pub(super) rejected: u64,
    pub(super) refused: u64,
}

impl Server {
    pub(super) fn new(key: &PairKey, kept: bool, counts: &Counts, all: u64, most: u64) -> Self {
        let of = |outcome| counts.sessions.outcomes.of(outcome);
        let connections = counts.totals.connections;
        Self {
            address: kept.then(|| key.server.into()),
            connections,
            percent: Part::new(connections, all).percent,
            bar: Part::new(connections, most).bar,
            packets: counts.totals.c2s_packets,
            bytes: counts.totals.c2s_bytes,
            size: counts.mean_size().map(|mean| format!("{mean:.0}")),
            delivered: of(session::Outcome::Delivered),
            rejected: of(session::Outcome::Rejected),
            refused: of(session::Outcome::Refused),
        }
    }
}

/// One of its last connections.
pub(super) struct Connection {
    pub(super) first: u64,
    pub(super) server: IpAddr,
    pub(super) ports: String,
    pub(super) outcome: &'static str,
    pub(super) open: bool,
    pub(super) c2s_packets: u64,
    pub(super) c2s_bytes: u64,
    pub(super) s2c_bytes: u64,
    pub(super) flags: String,
    pub(super) accepted: u64,
}

impl From<&ConnectionRow> for Connection {
    fn from(row: &ConnectionRow) -> Self {
        let ConnectionRow {
            key,
            connection,
            open,
        } = row;
        let volume = connection.volume();
        let (c2s, s2c) = connection.flags();
        Self {
            first: milliseconds(connection.times().0),
            server: key.server.into(),
            ports: format!("{} \u{2192} {}", key.client_port, key.server_port),
            outcome: if connection.midstream() {
                "begun before"
            } else {
                connection.outcome().name()
            },
            open: *open,
            c2s_packets: volume.c2s_packets,
            c2s_bytes: volume.c2s_bytes,
            s2c_bytes: volume.s2c_bytes,
            flags: format!("{} / {}", flag_names(c2s), flag_names(s2c)),
            accepted: connection.accepted(),
        }
    }
}
