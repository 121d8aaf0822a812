//! What sources are filtered and sorted by.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_common::speech::Speech;

use super::flags::{Flag, Flags};
use crate::admission::scope;
use crate::connections::Connections;
use crate::detect::Policy;
use crate::model::session::{Outcome, Sessions};
use crate::model::verdict::{Severity, VerdictState};
use crate::model::{Counts, Scope};
use crate::serve::query::{Field, Table, Value};
use crate::source_list::{Listed, SharedSources};

/// What is known beside counts.
pub(super) struct Background {
    /// Who is flagged.
    pub(super) flags: Flags,
    /// Who is a known relay.
    pub(super) policy: Option<Arc<Policy>>,
    /// The time, in milliseconds since 1970.
    pub(super) now: u64,
    /// The list in memory, for what the last window had.
    pub(super) sources: SharedSources,
    /// Figures of history that are no counts of one record: only those that are asked for.
    pub(super) columns: Columns,
}

/// Figures by address, of those sources that have any.
#[derive(Default)]
pub(super) struct Columns {
    /// Servers in the period.
    pub(super) servers: HashMap<Address, u64>,
    /// Connections in the period before.
    pub(super) previous: Option<HashMap<Address, u64>>,
    /// Hours of the last 24 with connections, a bit each.
    pub(super) active: HashMap<Address, u32>,
}

/// Where the counts of a source come from.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    /// The list in memory: counts of all windows.
    All(Listed<'a>, &'a Connections),
    /// The list in memory: counts of the last window.
    Window(Listed<'a>, &'a Connections),
    /// History.
    Kept(&'a Counts),
}

/// A source as it is looked at.
#[derive(Clone, Copy)]
pub(in crate::serve) struct Candidate<'a> {
    pub(super) address: Address,
    pub(super) scope: Scope,
    pub(super) origin: Origin<'a>,
    pub(super) background: &'a Background,
}

impl<'a> Candidate<'a> {
    /// From the list in memory.
    pub(super) const fn live(
        listed: Listed<'a>,
        of_window: bool,
        connections: &'a Connections,
        background: &'a Background,
    ) -> Self {
        Self {
            address: listed.address(),
            scope: listed.scope(),
            origin: if of_window {
                Origin::Window(listed, connections)
            } else {
                Origin::All(listed, connections)
            },
            background,
        }
    }

    /// From history.
    pub(super) fn kept(
        address: Address,
        local: &[IpNet],
        counts: &'a Counts,
        background: &'a Background,
    ) -> Self {
        Self {
            address,
            scope: scope(local, address.into()),
            origin: Origin::Kept(counts),
            background,
        }
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.address.into()
    }

    /// One of its counts in the period.
    fn count(&self, get: fn(&Totals) -> u64) -> u64 {
        match self.origin {
            Origin::All(listed, _) => get(listed.total()),
            Origin::Window(listed, _) => get(&listed.window()),
            Origin::Kept(counts) => get(&counts.totals),
        }
    }

    /// One of its counts in the last window.
    fn in_window(&self, get: fn(&Totals) -> u64) -> u64 {
        match self.origin {
            Origin::All(listed, _) | Origin::Window(listed, _) => get(&listed.window()),
            Origin::Kept(_) => {
                let list = self.background.sources.read();
                list.of(self.address)
                    .map_or(0, |listed| get(&listed.window()))
            }
        }
    }

    pub(super) fn sessions(&self) -> Sessions {
        match self.origin {
            Origin::All(_, connections) | Origin::Window(_, connections) => {
                connections.client(self.address).sessions
            }
            Origin::Kept(counts) => counts.sessions,
        }
    }

    fn servers(&self) -> u64 {
        match self.origin {
            Origin::All(_, connections) | Origin::Window(_, connections) => {
                connections.client(self.address).servers.count
            }
            Origin::Kept(_) => {
                let servers = self.background.columns.servers.get(&self.address);
                servers.copied().unwrap_or(0)
            }
        }
    }

    fn bytes_per_packet(&self) -> Option<f64> {
        mean(
            self.count(|totals| totals.c2s_bytes),
            self.count(|totals| totals.c2s_packets),
        )
    }

    fn previous(&self) -> Option<f64> {
        let previous = self.background.columns.previous.as_ref()?;
        Some(previous.get(&self.address).copied().unwrap_or(0) as f64)
    }

    fn active_hours(&self) -> Option<f64> {
        let Origin::Kept(_) = self.origin else {
            return None;
        };
        let active = self.background.columns.active.get(&self.address);
        Some(f64::from(active.map_or(0, |hours| hours.count_ones())))
    }

    pub(super) fn flag(&self) -> Option<&Flag> {
        self.background.flags.of(self.ip())
    }

    fn is_relay(&self) -> bool {
        let Background { policy, now, .. } = self.background;
        policy
            .as_ref()
            .is_some_and(|policy| policy.relay_of(self.ip(), *now).is_some())
    }
}

/// Bytes a packet, in the mean.
pub(super) fn mean(bytes: u64, packets: u64) -> Option<f64> {
    (packets != 0).then(|| bytes as f64 / packets as f64)
}

/// The words of `state:`, the open states of [`VerdictState::ALL`] first.
pub(super) const STATES: &[&str] = &["new", "acknowledged", "notified", "none", "open"];
const NONE: usize = 3;
const SEVERITIES: &[&str] = &["notice", "warning", "critical", "none"];
const SCOPES: &[&str] = &["local", "remote", "unknown"];

const fn scope_number(scope: Scope) -> usize {
    match scope {
        Scope::Local => 0,
        Scope::Remote => 1,
        Scope::Unknown => 2,
    }
}

const fn state_number(state: VerdictState) -> usize {
    match state {
        VerdictState::New => 0,
        VerdictState::Acknowledged => 1,
        VerdictState::Notified => 2,
        VerdictState::Resolved | VerdictState::FalsePositive => NONE,
    }
}

const fn severity_number(severity: Severity) -> usize {
    match severity {
        Severity::Notice => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

/// The list of sources.
pub(in crate::serve) struct Rows;

/// A count of the period and the same of the last window.
macro_rules! counts {
    ($($name:ident $window:literal)+) => {
        &[
            $(
                Field {
                    name: stringify!($name),
                    value: Value::Count(|row| row.count(|totals| totals.$name)),
                },
                Field {
                    name: $window,
                    value: Value::Count(|row| row.in_window(|totals| totals.$name)),
                },
            )+
        ]
    };
}

const COUNTS: &[Field<Rows>] = counts! {
    connections "window.connections"
    syn_retx "window.syn_retx"
    c2s_packets "window.c2s_packets"
    c2s_bytes "window.c2s_bytes"
    s2c_packets "window.s2c_packets"
    s2c_bytes "window.s2c_bytes"
    answered "window.answered"
    refused "window.refused"
};

/// What is written in words.
const WORDS: &[Field<Rows>] = &[
    Field {
        name: "net",
        value: Value::Net(|row| row.ip().into()),
    },
    Field {
        name: "addr",
        value: Value::Address(|row| row.ip()),
    },
    Field {
        name: "scope",
        value: Value::Word {
            words: SCOPES,
            holds: |row, word| scope_number(row.scope) == word,
            rank: Some(|row| Some(scope_number(row.scope) as u64)),
        },
    },
    Field {
        name: "state",
        value: Value::Word {
            words: STATES,
            holds: |row, word| match row.flag() {
                None => word == NONE,
                Some(flag) => word > NONE || word == state_number(flag.state),
            },
            rank: Some(|row| Some(state_number(row.flag()?.state) as u64)),
        },
    },
    Field {
        name: "severity",
        value: Value::Word {
            words: SEVERITIES,
            holds: |row, word| match row.flag() {
                None => word == NONE,
                Some(flag) => word == severity_number(flag.severity),
            },
            rank: Some(|row| Some(severity_number(row.flag()?.severity) as u64)),
        },
    },
    Field {
        name: "relay",
        value: Value::Word {
            words: &["yes", "no"],
            holds: |row, word| row.is_relay() == (word == 0),
            rank: Some(|row| Some(u64::from(row.is_relay()))),
        },
    },
];

/// Numbers that are no plain counts.
const NUMBERS: &[Field<Rows>] = &[
    Field {
        name: "bytes_per_packet",
        value: Value::Number(|row| row.bytes_per_packet()),
    },
    Field {
        name: "servers",
        value: Value::Count(|row| row.servers()),
    },
    Field {
        name: "previous_connections",
        value: Value::Number(|row| row.previous()),
    },
    Field {
        name: "active_hours",
        value: Value::Number(|row| row.active_hours()),
    },
    Field {
        name: "score",
        value: Value::Number(|row| Some(row.flag().map_or(0.0, |flag| flag.score))),
    },
    Field {
        name: "unfollowed",
        value: Value::Count(|row| row.sessions().unfollowed),
    },
    Field {
        name: "visibility",
        value: Value::Number(|row| row.sessions().outcomes.visibility()),
    },
    Field {
        name: "accepted",
        value: Value::Count(|row| row.sessions().accepted),
    },
];

macro_rules! outcomes {
    ($($name:literal $outcome:ident)+) => {
        &[$(Field {
            name: $name,
            value: Value::Count(|row| row.sessions().outcomes.of(Outcome::$outcome)),
        },)+]
    };
}

macro_rules! said {
    ($($name:literal $speech:ident)+) => {
        &[$(Field {
            name: $name,
            value: Value::Count(|row| row.sessions().said.of(Speech::$speech)),
        },)+]
    };
}

const OUTCOMES: &[Field<Rows>] = outcomes! {
    "outcomes.unknown" Unknown
    "outcomes.silent" Silent
    "outcomes.refused" Refused
    "outcomes.answered" Answered
    "outcomes.spoke" Spoke
    "outcomes.rejected" Rejected
    "outcomes.delivered" Delivered
};

const SAID: &[Field<Rows>] = said! {
    "replies.2xx" COMPLETION
    "replies.3xx" INTERMEDIATE
    "replies.4xx" TRANSIENT
    "replies.5xx" PERMANENT
    "commands.mail" MAIL
    "commands.rcpt" RCPT
};

const PARTS: [&[Field<Rows>]; 5] = [WORDS, COUNTS, NUMBERS, OUTCOMES, SAID];

const ALL: usize = WORDS.len() + COUNTS.len() + NUMBERS.len() + OUTCOMES.len() + SAID.len();

impl Table for Rows {
    type Row<'a> = Candidate<'a>;
    const FIELDS: &'static [Field<Self>] = &{
        let mut all = [const { WORDS[0] }; ALL];
        let mut next = 0;
        let mut part = 0;
        while part < PARTS.len() {
            let mut i = 0;
            while i < PARTS[part].len() {
                all[next] = PARTS[part][i];
                next += 1;
                i += 1;
            }
            part += 1;
        }
        all
    };
}
