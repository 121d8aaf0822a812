//! What is counted: sources (see [`SourceStats`]) and flows.
//!
//! Contract: a [`FlowLine`] holds the counts of one 4-tuple in one window on one CPU, in both
//! directions, on two cache lines. Like the lines of the table of sources it has one writer, belongs
//! to its flow from the first segment on until user space clears the silent half, and is never
//! evicted; a full [`FlowSet`] says `None`, and the segment is counted as refused.

pub use crate::header::{Header, MAX_CPUS, OUTCOMES, SpillKey, notice};
pub use crate::observe::{Memory, Placement, Syn, Tables, observe};
use crate::packet::{Address, Direction, Segment};
use crate::source::bump;
pub use crate::source::{SourceStats, Totals};
use crate::speech::{self, Speech, differ};

/// The 4-tuple of a flow, by role and not by direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Who opened the connection, as its ports say.
    pub client: Address,
    /// Who listens on a mail port.
    pub server: Address,
    /// TCP port of the client.
    pub client_port: u16,
    /// TCP port of the server, a mail port.
    pub server_port: u16,
}

impl FlowKey {
    /// The flow of this segment.
    #[inline(always)]
    pub const fn of(segment: &Segment) -> Self {
        match segment.direction {
            Direction::ClientToServer => Self {
                client: segment.source,
                server: segment.destination,
                client_port: segment.source_port,
                server_port: segment.destination_port,
            },
            Direction::ServerToClient => Self {
                client: segment.destination,
                server: segment.source,
                client_port: segment.destination_port,
                server_port: segment.source_port,
            },
        }
    }

    /// Both ports in one word.
    #[inline(always)]
    pub(crate) const fn ports(&self) -> u32 {
        (self.client_port as u32) << 16 | self.server_port as u32
    }
}

/// Bits of [`FlowLine::events`].
pub mod event {
    /// The line is in use.
    pub const USED: u8 = 0x01;
    /// A SYN-ACK came from the server.
    pub const ANSWERED: u8 = 0x02;
    /// A reset came from the server that answered a SYN, see
    /// [`Segment::is_refusal`](crate::packet::Segment::is_refusal).
    pub const REFUSED: u8 = 0x04;
    /// A command was counted, so [`FlowLine::command_sequence`](super::FlowLine::command_sequence)
    /// means something.
    pub const COMMAND: u8 = 0x08;
    /// A reply was counted, so [`FlowLine::reply_sequence`](super::FlowLine::reply_sequence) means
    /// something.
    pub const REPLY: u8 = 0x10;
}

/// The counts of one flow in one window on one CPU: exactly two cache lines, of which a client's
/// data needs only the first.
///
/// Counts of 32 bits stay at their end; see [`SourceStats`] for when that could be. Times are ticks
/// of the kernel's clock interrupt, whose meaning is in [`Header::clock_ticks`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowLine {
    client: Address,
    server: Address,
    /// Segments from the client.
    pub c2s_packets: u64,
    /// Layer-3 bytes of these.
    pub c2s_bytes: u64,
    ports: u32,
    /// Tick of the last segment.
    pub last: u32,
    /// All TCP flags that the client has sent.
    pub c2s_flags: u8,
    /// All TCP flags that the server has sent.
    pub s2c_flags: u8,
    /// What was seen, bits of [`event`].
    pub events: u8,
    /// What the first reply of the window was, a [`Speech`]; 0: there was none.
    pub first_reply: u8,
    /// Sequence number of the segment with the last command.
    pub command_sequence: u32,

    /// Segments from the server.
    pub s2c_packets: u64,
    /// Layer-3 bytes of these.
    pub s2c_bytes: u64,
    /// Pure SYNs that were not seen before.
    pub connections: u32,
    /// Pure SYNs that were seen before.
    pub syn_retx: u32,
    /// Commands and replies, by [`Speech`].
    pub said: [u32; speech::KINDS],
    /// Positive completions that were the next reply after a 354: messages that a server took.
    pub accepted: u32,
    /// Sequence number of the segment with the last reply.
    pub reply_sequence: u32,
    /// Tick of the first segment.
    pub first: u32,
    /// What the last reply was, a [`Speech`]; 0: there was none. One that comes again is one here.
    pub last_reply: u8,
    _pad: [u8; 3],
}

const _: () = assert!(size_of::<FlowLine>() == 128);

impl FlowLine {
    /// No line of any flow.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.events & event::USED == 0
    }

    /// Whose counts these are.
    pub const fn key(&self) -> FlowKey {
        FlowKey {
            client: self.client,
            server: self.server,
            client_port: (self.ports >> 16) as u16,
            server_port: self.ports as u16,
        }
    }

    /// Whether this line belongs to `key`, whose ports are `ports`.
    #[inline(always)]
    fn is_of(&self, key: &FlowKey, ports: u32) -> bool {
        self.ports == ports && self.client == key.client && self.server == key.server
    }

    /// Counts a segment of this flow.
    ///
    /// What happens seldom is added as 0 or 1 and not by a branch, for the verifier's sake: see
    /// [`Speech`].
    #[inline(always)]
    pub(crate) fn count(&mut self, segment: &Segment, syn: Syn, speech: Speech, tick: u32) {
        self.last = tick;
        match segment.direction {
            Direction::ClientToServer => {
                self.c2s_packets += 1;
                self.c2s_bytes += u64::from(segment.bytes);
                self.c2s_flags |= segment.flags;
                if syn.is_some() {
                    self.connections = bump(self.connections, syn.new);
                    self.syn_retx = bump(self.syn_retx, syn.retransmitted);
                }
                if speech != Speech::OTHER {
                    self.command(segment, speech);
                }
            }
            Direction::ServerToClient => {
                self.s2c_packets += 1;
                self.s2c_bytes += u64::from(segment.bytes);
                self.s2c_flags |= segment.flags;
                self.events |= event::ANSWERED * segment.syn_ack() as u8;
                self.events |= event::REFUSED * segment.refusal() as u8;
                if speech != Speech::OTHER {
                    self.reply(segment, speech);
                }
            }
        }
    }

    #[inline(always)]
    fn command(&mut self, segment: &Segment, speech: Speech) {
        let fresh = self.is_fresh(event::COMMAND, self.command_sequence, segment);
        self.events |= event::COMMAND;
        self.command_sequence = segment.sequence;
        self.say(speech, fresh);
    }

    #[inline(always)]
    fn reply(&mut self, segment: &Segment, speech: Speech) {
        let fresh = self.is_fresh(event::REPLY, self.reply_sequence, segment);
        let before = self.last_reply;
        // 0 as long as there was none.
        let first = 1 - differ(before.into(), 0);
        self.first_reply += speech.number() * first as u8;
        self.events |= event::REPLY;
        self.reply_sequence = segment.sequence;
        self.last_reply = speech.number();
        let completes = speech.is(Speech::COMPLETION);
        let awaited = Speech::START_INPUT.is_number(before);
        self.accepted = bump(self.accepted, fresh & completes & awaited);
        self.say(speech, fresh);
    }

    /// 1 unless this segment has the sequence number of the last one that counted as `event`.
    #[inline(always)]
    const fn is_fresh(&self, event: u8, sequence: u32, segment: &Segment) -> u32 {
        differ((self.events & event) as u64, event as u64)
            | differ(sequence as u64, segment.sequence as u64)
    }

    #[inline(always)]
    fn say(&mut self, speech: Speech, fresh: u32) {
        if let Some(count) = self.said.get_mut(speech.place()) {
            *count = bump(*count, fresh);
        }
    }
}

/// Lines in one set of flows.
pub const FLOW_WAYS: usize = 2;

/// The lines that one hash value may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowSet {
    /// Taken from the first to the last.
    pub lines: [FlowLine; FLOW_WAYS],
}

const _: () = assert!(size_of::<FlowSet>() == FLOW_WAYS * 128);

impl FlowSet {
    /// Whether [`FlowSet::line_of`] finds a line for this flow.
    pub fn has_room_for(&self, key: &FlowKey) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.is_empty() || line.is_of(key, key.ports()))
    }

    /// The line of this flow, and whether it was taken for it just now, at `tick`; `None` if the set
    /// is full with others.
    #[inline(always)]
    pub fn line_of(&mut self, key: &FlowKey, tick: u32) -> Option<(&mut FlowLine, bool)> {
        let ports = key.ports();
        for line in &mut self.lines {
            if line.is_of(key, ports) {
                return Some((line, false));
            }
            // Lines are taken in order and never given back, so nothing of this flow can stand
            // behind an empty one. No flow is all zeros: one of its ports is a mail port.
            if line.is_empty() {
                line.client = key.client;
                line.server = key.server;
                line.ports = ports;
                line.events = event::USED;
                line.first = tick;
                return Some((line, true));
            }
        }
        None
    }
}
