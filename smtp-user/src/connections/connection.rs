//! One connection, put together from its windows.

use std::time::{Duration, SystemTime};

use smtp_common::flow::FlowKey;
use smtp_common::packet::flags;
use smtp_common::speech::{self, Speech};

use crate::model::Flow;
use crate::model::session::{Outcome, PSH, PairVolume, Said};

/// What all windows so far say about one use of a 4-tuple, in 88 bytes: replies, commands and
/// retransmissions have 32 bits, and stay at their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Nanoseconds since 1970, which 64 bits hold until 2554.
    first: u64,
    last: u64,
    c2s_packets: u64,
    c2s_bytes: u64,
    s2c_packets: u64,
    s2c_bytes: u64,
    said: [u32; speech::KINDS],
    accepted: u32,
    syn_retx: u32,
    c2s_flags: u8,
    s2c_flags: u8,
    last_reply: u8,
    /// Bits of [`bit`].
    bits: u8,
}

const _: () = assert!(size_of::<Connection>() == 88);

/// How long a SYN without an answer is waited for: longer than the longest pause before it is sent
/// again (64 s where `net.ipv4.tcp_syn_retries` is 6), so that a flood of invented SYNs fills the
/// table of connections for no longer than it must.
pub const SYN_PATIENCE: Duration = Duration::from_secs(75);

/// Bits of [`Connection::bits`].
mod bit {
    /// A SYN was seen.
    pub const OPENED: u8 = 1;
    /// A SYN-ACK came.
    pub const ANSWERED: u8 = 2;
    /// The first window holds segments of an earlier connection as well, so that FIN and RST may be
    /// those of that one.
    pub const MIXED: u8 = 4;
}

/// A connection as exporters show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its 4-tuple.
    pub key: FlowKey,
    /// What is known of it.
    pub connection: Connection,
    /// Whether it is still under way.
    pub open: bool,
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanoseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

fn add(count: &mut u32, more: u64) {
    *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
}

impl Connection {
    /// Begins with this window; `mixed` if that holds segments of an earlier one as well.
    pub fn begin(flow: &Flow, mixed: bool) -> Self {
        let opened = if flow.connections > 0 { bit::OPENED } else { 0 };
        let mixed = if mixed { bit::MIXED } else { 0 };
        let mut connection = Self {
            first: nanoseconds(flow.first),
            last: nanoseconds(flow.last),
            c2s_packets: 0,
            c2s_bytes: 0,
            s2c_packets: 0,
            s2c_bytes: 0,
            said: [0; speech::KINDS],
            accepted: 0,
            syn_retx: 0,
            c2s_flags: 0,
            s2c_flags: 0,
            last_reply: 0,
            bits: opened | mixed,
        };
        connection.extend(flow);
        connection
    }

    /// Goes on with this window. Gives the messages that were taken: those of the window, and one
    /// more if the server's go-ahead was the last reply before it and the completion is the first
    /// in it.
    pub fn extend(&mut self, flow: &Flow) -> u64 {
        let awaited = self.last_reply == Speech::START_INPUT.number()
            && flow.first_reply == Speech::COMPLETION.number();
        let accepted = flow.accepted + u64::from(awaited);
        if flow.last_reply != 0 {
            self.last_reply = flow.last_reply;
        }
        self.first = self.first.min(nanoseconds(flow.first));
        self.last = self.last.max(nanoseconds(flow.last));
        self.c2s_packets += flow.c2s_packets;
        self.c2s_bytes += flow.c2s_bytes;
        self.s2c_packets += flow.s2c_packets;
        self.s2c_bytes += flow.s2c_bytes;
        for (mine, more) in self.said.iter_mut().zip(flow.said) {
            add(mine, more);
        }
        add(&mut self.accepted, accepted);
        add(&mut self.syn_retx, flow.syn_retx);
        self.c2s_flags |= flow.c2s_flags;
        self.s2c_flags |= flow.s2c_flags;
        if flow.answered {
            self.bits |= bit::ANSWERED;
        }
        accepted
    }

    const fn is(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Whether no SYN was seen: then it is no connection.
    pub const fn midstream(&self) -> bool {
        !self.is(bit::OPENED)
    }

    /// What became of it, see the table of [`connections`](super).
    pub const fn outcome(&self) -> Outcome {
        let said = self.said();
        let commands = said.of(Speech::MAIL) + said.of(Speech::RCPT);
        let replies = said.of(Speech::COMPLETION)
            + said.of(Speech::INTERMEDIATE)
            + said.of(Speech::TRANSIENT);
        if self.s2c_packets == 0 {
            Outcome::Unknown
        } else if self.accepted > 0 {
            Outcome::Delivered
        } else if said.of(Speech::PERMANENT) > 0 {
            Outcome::Rejected
        } else if commands > 0 {
            Outcome::Spoke
        } else if self.s2c_flags & PSH != 0 || replies > 0 {
            Outcome::Answered
        } else if self.s2c_flags & flags::RST != 0 && !self.is(bit::ANSWERED) {
            Outcome::Refused
        } else {
            Outcome::Silent
        }
    }

    /// Whether both ends have closed it, or one has reset it.
    pub const fn closed(&self) -> bool {
        let (c2s, s2c) = (self.c2s_flags, self.s2c_flags);
        !self.is(bit::MIXED) && ((c2s | s2c) & flags::RST != 0 || c2s & s2c & flags::FIN != 0)
    }

    /// Whether it had been quiet at this time for longer than `idle`, or longer than
    /// [`SYN_PATIENCE`] if nothing but its SYN was seen.
    pub fn is_idle(&self, at: SystemTime, idle: Duration) -> bool {
        let only_syn = self.s2c_packets == 0 && self.c2s_flags & flags::ACK == 0;
        let patience = if only_syn {
            idle.min(SYN_PATIENCE)
        } else {
            idle
        };
        self.quiet(at) > patience
    }

    /// How long it had been quiet at this time.
    pub fn quiet(&self, at: SystemTime) -> Duration {
        Duration::from_nanos(nanoseconds(at).saturating_sub(self.last))
    }

    /// When its first segment came, and its last.
    pub fn times(&self) -> (SystemTime, SystemTime) {
        (time(self.first), time(self.last))
    }

    /// Packets and bytes.
    pub const fn volume(&self) -> PairVolume {
        PairVolume {
            connections: !self.midstream() as u64,
            c2s_packets: self.c2s_packets,
            c2s_bytes: self.c2s_bytes,
            s2c_packets: self.s2c_packets,
            s2c_bytes: self.s2c_bytes,
        }
    }

    /// SYNs that were sent again.
    pub const fn syn_retx(&self) -> u64 {
        self.syn_retx as u64
    }

    /// All TCP flags of the client, and of the server.
    pub const fn flags(&self) -> (u8, u8) {
        (self.c2s_flags, self.s2c_flags)
    }

    /// What was said.
    pub const fn said(&self) -> Said {
        let [mail, rcpt, completion, intermediate, transient, permanent] = self.said;
        Said([
            mail as u64,
            rcpt as u64,
            completion as u64,
            intermediate as u64,
            transient as u64,
            permanent as u64,
        ])
    }

    /// Messages that the server took.
    pub const fn accepted(&self) -> u64 {
        self.accepted as u64
    }
}
