//! A flow: plain data.

use std::time::SystemTime;

use smtp_common::flow::{FlowKey, FlowLine, event};
use smtp_common::speech::{self, Speech};

/// One flow in one window, merged over CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Whose counts these are.
    pub key: FlowKey,
    /// Segments from the client.
    pub c2s_packets: u64,
    /// Layer-3 bytes of these.
    pub c2s_bytes: u64,
    /// Segments from the server.
    pub s2c_packets: u64,
    /// Layer-3 bytes of these.
    pub s2c_bytes: u64,
    /// Pure SYNs that were not seen before. None: the flow is `midstream`, and no connection.
    pub connections: u64,
    /// Pure SYNs that were seen before.
    pub syn_retx: u64,
    /// All TCP flags that the client has sent.
    pub c2s_flags: u8,
    /// All TCP flags that the server has sent.
    pub s2c_flags: u8,
    /// Whether a SYN-ACK came.
    pub answered: bool,
    /// Whether a reset came that answered a SYN.
    pub refused: bool,
    /// Commands and replies, by [`Speech`].
    pub said: [u64; speech::KINDS],
    /// Messages that the server took, see [`FlowLine::accepted`].
    pub accepted: u64,
    /// What the first reply of the window was, the number of a [`Speech`]; 0: there was none.
    pub first_reply: u8,
    /// What the last reply was, likewise.
    pub last_reply: u8,
    /// Sequence number of the segment with the last reply.
    pub reply_sequence: u32,
    /// When the first segment came, to one tick of the kernel's clock interrupt (1 to 10 ms).
    pub first: SystemTime,
    /// When the last segment came, likewise.
    pub last: SystemTime,
}

impl Flow {
    /// What a line says, given the time of a tick.
    pub fn from_line(line: &FlowLine, time_of: impl Fn(u32) -> SystemTime) -> Self {
        Self {
            key: line.key(),
            c2s_packets: line.c2s_packets,
            c2s_bytes: line.c2s_bytes,
            s2c_packets: line.s2c_packets,
            s2c_bytes: line.s2c_bytes,
            connections: line.connections.into(),
            syn_retx: line.syn_retx.into(),
            c2s_flags: line.c2s_flags,
            s2c_flags: line.s2c_flags,
            answered: line.events & event::ANSWERED != 0,
            refused: line.events & event::REFUSED != 0,
            said: line.said.map(u64::from),
            accepted: line.accepted.into(),
            first_reply: line.first_reply,
            last_reply: line.last_reply,
            reply_sequence: line.reply_sequence,
            first: time_of(line.first),
            last: time_of(line.last),
        }
    }

    /// Adds what another CPU counted of the same flow in the same window. Which of two CPUs saw the
    /// first reply is told by which saw the flow first, and the last reply by its sequence number.
    ///
    /// A network card gives one direction of a connection to one CPU, so that a line has all replies.
    /// A virtual interface does not: a go-ahead that is the last reply of one CPU, and a later
    /// completion that is the last one of another CPU without any failure are one more accepted
    /// message. Messages in between may be missed.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            key: _,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            connections,
            syn_retx,
            c2s_flags,
            s2c_flags,
            answered,
            refused,
            said,
            accepted,
            first_reply,
            last_reply,
            reply_sequence,
            first,
            last,
        } = self;
        *c2s_packets = c2s_packets.saturating_add(other.c2s_packets);
        *c2s_bytes = c2s_bytes.saturating_add(other.c2s_bytes);
        *s2c_packets = s2c_packets.saturating_add(other.s2c_packets);
        *s2c_bytes = s2c_bytes.saturating_add(other.s2c_bytes);
        *connections = connections.saturating_add(other.connections);
        *syn_retx = syn_retx.saturating_add(other.syn_retx);
        *c2s_flags |= other.c2s_flags;
        *s2c_flags |= other.s2c_flags;
        *answered |= other.answered;
        *refused |= other.refused;
        let said_here = *said;
        for (mine, others) in said.iter_mut().zip(other.said) {
            *mine = mine.saturating_add(others);
        }
        let replaced = other.last_reply != 0
            && (*last_reply == 0 || other.reply_sequence.wrapping_sub(*reply_sequence) as i32 > 0);
        let (before, after) = if replaced {
            (*last_reply, (other.last_reply, other.said))
        } else {
            (other.last_reply, (*last_reply, said_here))
        };
        *accepted = accepted
            .saturating_add(other.accepted)
            .saturating_add(completes(before, after).into());
        if *first_reply == 0 || (other.first_reply != 0 && other.first < *first) {
            *first_reply = other.first_reply;
        }
        if replaced {
            *last_reply = other.last_reply;
            *reply_sequence = other.reply_sequence;
        }
        *first = other.first.min(*first);
        *last = other.last.max(*last);
    }
}

/// Whether the last reply of one CPU waits for a message, and the later last reply of another CPU,
/// which counted these replies, says that it was taken.
const fn completes(before: u8, (after, said): (u8, [u64; speech::KINDS])) -> bool {
    before == Speech::START_INPUT.number()
        && after == Speech::COMPLETION.number()
        && said[Speech::TRANSIENT.number() as usize] == 0
        && said[Speech::PERMANENT.number() as usize] == 0
}
