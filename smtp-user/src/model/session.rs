//! What became of connections, and what was said on them: plain data.

use serde::ser::{Serialize, Serializer};
use smtp_common::packet::flags;
use smtp_common::speech::{self, Speech};

/// What became of a connection, as far as its segments tell. It has exactly one outcome at a time:
/// `unknown`, or the last of the others that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// See [`Outcome::meaning`], likewise for all.
    Unknown,
    /// The server took it and sent no data.
    Silent,
    /// The server reset it.
    Refused,
    /// The server sent data.
    Answered,
    /// The client began a message.
    Spoke,
    /// The server said no.
    Rejected,
    /// The server took a message.
    Delivered,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 7;
    /// All of them, in their order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Unknown,
        Self::Silent,
        Self::Refused,
        Self::Answered,
        Self::Spoke,
        Self::Rejected,
        Self::Delivered,
    ];

    /// As in JSON and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Spoke => "spoke",
            Self::Rejected => "rejected",
            Self::Delivered => "delivered",
        }
    }

    /// What it says, for documentation.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Unknown => {
                "Connections of which no packet of the server was seen: it was not there, or its \
                 packets take another way."
            }
            Self::Silent => "Connections that the server took, but sent no data on.",
            Self::Refused => "Connections that the server reset instead of taking them.",
            Self::Answered => {
                "Connections on which the server sent data, but no MAIL or RCPT was seen, as after \
                 STARTTLS."
            }
            Self::Spoke => "Connections with MAIL or RCPT and no more.",
            Self::Rejected => {
                "Connections on which the server said 5xx and was not seen to take a message."
            }
            Self::Delivered => "Connections on which the server took a message.",
        }
    }

    /// Where it is counted.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Connections by what became of them, by [`Outcome::index`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes(pub [u64; Outcome::COUNT]);

impl Outcomes {
    /// Connections with this outcome.
    pub const fn of(&self, outcome: Outcome) -> u64 {
        self.0[outcome.index()]
    }

    /// All of them.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The share of connections with any packet of the server; `None` if there are no connections.
    pub fn visibility(&self) -> Option<f64> {
        let all = self.sum();
        (all != 0).then(|| (all - self.of(Outcome::Unknown)) as f64 / all as f64)
    }
}

impl Serialize for Outcomes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(Outcome::ALL.map(|outcome| (outcome.name(), self.of(outcome))))
    }
}

/// Commands and replies, by [`Speech`]; which ones are counted says [`speech`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said(pub [u64; speech::KINDS]);

/// A kind of command or reply, and its name in JSON and metric labels.
pub type Kind = (&'static str, Speech);

/// The commands that are counted.
pub const COMMANDS: [Kind; 2] = [("mail", Speech::MAIL), ("rcpt", Speech::RCPT)];

/// The classes of replies that are counted.
pub const REPLIES: [Kind; 4] = [
    ("2xx", Speech::COMPLETION),
    ("3xx", Speech::INTERMEDIATE),
    ("4xx", Speech::TRANSIENT),
    ("5xx", Speech::PERMANENT),
];

impl Said {
    /// How often this was said.
    pub const fn of(&self, speech: Speech) -> u64 {
        self.0[speech.number() as usize]
    }

    /// The counts of these kinds under their names.
    pub fn named<const N: usize>(&self, kinds: [Kind; N]) -> Named<N> {
        Named(kinds.map(|(name, speech)| (name, self.of(speech))))
    }

    /// Adds more.
    pub fn add(&mut self, more: &[u64; speech::KINDS]) {
        for (mine, more) in self.0.iter_mut().zip(more) {
            *mine += more;
        }
    }
}

/// Counts under their names, an object in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<const N: usize>(pub [(&'static str, u64); N]);

impl<const N: usize> Serialize for Named<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0)
    }
}

/// Connections and what was said on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// The connections that could be followed, those under way as well.
    pub outcomes: Outcomes,
    /// Connections that could not: their 4-tuple was used again within one window, or too many were
    /// under way.
    pub unfollowed: u64,
    /// What was said, on flows that are no connections as well.
    pub said: Said,
    /// Messages that servers took, likewise.
    pub accepted: u64,
}

impl Sessions {
    /// All connections.
    pub fn connections(&self) -> u64 {
        self.outcomes.sum() + self.unfollowed
    }
}

/// How many servers a client had flows to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    /// How many.
    pub count: u64,
    /// Whether that is exact.
    pub exact: bool,
}

/// What is known of the flows of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// Its connections and what was said on them.
    pub sessions: Sessions,
    /// The servers it had flows to.
    pub servers: Servers,
}

impl Default for ClientRow {
    /// A client without a flow.
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            servers: Servers {
                count: 0,
                exact: true,
            },
        }
    }
}

/// All flows together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSummary {
    /// Flows in the last window.
    pub window: u64,
    /// All connections and what was said on them.
    pub sessions: Sessions,
    /// Connections that have ended.
    pub ended: Outcomes,
    /// Flows that have not ended, connections and others.
    pub tracked: u64,
    /// Clients of which the counts above are kept one by one.
    pub clients: u64,
    /// Pairs of client and server that are kept.
    pub pairs: u64,
    /// What was counted for clients that came when there was no more place.
    pub untracked_clients: Sessions,
    /// What was counted for pairs that came when there was no more place.
    pub untracked_pairs: PairVolume,
}

/// Connections, packets and bytes of one pair or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairVolume {
    /// Connections.
    pub connections: u64,
    /// Segments from the client.
    pub c2s_packets: u64,
    /// Layer-3 bytes of these.
    pub c2s_bytes: u64,
    /// Segments from the server.
    pub s2c_packets: u64,
    /// Layer-3 bytes of these.
    pub s2c_bytes: u64,
}

impl PairVolume {
    /// Segments both ways.
    pub const fn packets(&self) -> u64 {
        self.c2s_packets + self.s2c_packets
    }

    /// Layer-3 bytes both ways.
    pub const fn bytes(&self) -> u64 {
        self.c2s_bytes + self.s2c_bytes
    }
}

/// TCP flags by name, as `SYN ACK PSH FIN`.
pub fn flag_names(octet: u8) -> String {
    const NAMES: [(u8, &str); 6] = [
        (flags::SYN, "SYN"),
        (flags::ACK, "ACK"),
        (PSH, "PSH"),
        (0x20, "URG"),
        (flags::FIN, "FIN"),
        (flags::RST, "RST"),
    ];
    let set: Vec<_> = NAMES
        .iter()
        .filter(|(bit, _)| octet & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    set.join(" ")
}

/// The last octets of what was to be sent are in this segment (RFC 9293, section 3.9.1.2).
pub const PSH: u8 = 0x08;
