//! One connection, put together from its windows.

use std::time::{Duration, SystemTime};

use smtp_common::flow::FlowKey;
use smtp_common::packet::flags;
use smtp_common::speech::Speech;

use crate::model::Flow;
use crate::model::session::{Outcome, PSH, PairVolume, Said};

/// What all windows so far say about one use of a 4-tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The windows added up. Its `connections` is 1, or 0 if no SYN was seen.
    flow: Flow,
    /// Whether the first window holds segments of an earlier connection as well, so that FIN and RST
    /// may be those of that one.
    mixed: bool,
}

impl Connection {
    /// Begins with this window; `mixed` if that holds segments of an earlier one as well.
    pub fn begin(flow: &Flow, mixed: bool) -> Self {
        Self {
            flow: Flow {
                connections: flow.connections.min(1),
                ..*flow
            },
            mixed,
        }
    }

    /// Goes on with this window. Gives the messages that were taken: those of the window, and one
    /// more if the server's go-ahead was the last reply before it and the completion is the first
    /// in it.
    pub fn extend(&mut self, flow: &Flow) -> u64 {
        let awaited = self.flow.last_reply == Speech::START_INPUT.number()
            && flow.first_reply == Speech::COMPLETION.number();
        let accepted = flow.accepted + u64::from(awaited);
        let last_reply = match flow.last_reply {
            0 => self.flow.last_reply,
            reply => reply,
        };
        self.flow.merge(flow);
        self.flow.last_reply = last_reply;
        self.flow.accepted += u64::from(awaited);
        accepted
    }

    /// Its 4-tuple.
    pub const fn key(&self) -> &FlowKey {
        &self.flow.key
    }

    /// Whether no SYN was seen: then it is no connection.
    pub const fn midstream(&self) -> bool {
        self.flow.connections == 0
    }

    /// What became of it, see the table of [`connections`](super).
    pub const fn outcome(&self) -> Outcome {
        let flow = &self.flow;
        if flow.s2c_packets == 0 {
            Outcome::Unknown
        } else if flow.accepted > 0 {
            Outcome::Delivered
        } else if flow.said[Speech::PERMANENT.number() as usize] > 0 {
            Outcome::Rejected
        } else if flow.said[Speech::MAIL.number() as usize] > 0
            || flow.said[Speech::RCPT.number() as usize] > 0
        {
            Outcome::Spoke
        } else if flow.s2c_flags & PSH != 0 || self.replies() > 0 {
            Outcome::Answered
        } else if !flow.answered && (flow.refused || flow.s2c_flags & flags::RST != 0) {
            Outcome::Refused
        } else {
            Outcome::Silent
        }
    }

    const fn replies(&self) -> u64 {
        let said = &self.flow.said;
        said[Speech::COMPLETION.number() as usize]
            + said[Speech::INTERMEDIATE.number() as usize]
            + said[Speech::TRANSIENT.number() as usize]
    }

    /// Whether both ends have closed it, or one has reset it.
    pub const fn closed(&self) -> bool {
        let (c2s, s2c) = (self.flow.c2s_flags, self.flow.s2c_flags);
        !self.mixed && ((c2s | s2c) & flags::RST != 0 || c2s & s2c & flags::FIN != 0)
    }

    /// How long it had been quiet at this time.
    pub fn quiet(&self, at: SystemTime) -> Duration {
        at.duration_since(self.flow.last).unwrap_or_default()
    }

    /// When its first segment came, and its last.
    pub const fn times(&self) -> (SystemTime, SystemTime) {
        (self.flow.first, self.flow.last)
    }

    /// Packets and bytes.
    pub const fn volume(&self) -> PairVolume {
        PairVolume {
            connections: self.flow.connections,
            c2s_packets: self.flow.c2s_packets,
            c2s_bytes: self.flow.c2s_bytes,
            s2c_packets: self.flow.s2c_packets,
            s2c_bytes: self.flow.s2c_bytes,
        }
    }

    /// SYNs that were sent again.
    pub const fn syn_retx(&self) -> u64 {
        self.flow.syn_retx
    }

    /// All TCP flags of the client, and of the server.
    pub const fn flags(&self) -> (u8, u8) {
        (self.flow.c2s_flags, self.flow.s2c_flags)
    }

    /// What was said.
    pub const fn said(&self) -> Said {
        Said(self.flow.said)
    }

    /// Messages that the server took.
    pub const fn accepted(&self) -> u64 {
        self.flow.accepted
    }
}
