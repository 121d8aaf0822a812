//! Packets as they are read, and what is made of them: the cursor [`Packet`] and the [`Segment`].
//!
//! Contract: a [`Packet`] gives only bytes that a bounds check has proven to be there.
//!
//! The cursor is a concrete range of pointers. A slice is refused by the kernel's verifier (its
//! length becomes a scalar that proves nothing about `data_end`), and a trait would make the half
//! that the kernel runs the half that user-side tests never run.

use core::marker::PhantomData;

pub use crate::address::Address;
pub use crate::parse::{MAX_IPV6_EXTENSIONS, Parsed, parse, parse_ether_type};
use crate::speech::differ;

/// The TCP ports on which mail is taken: at least one, at most four, in one word, the highest in its
/// lowest lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct MailPorts(u64);

/// A 1 in each 16-bit lane of a word.
const LANES: u64 = 0x0001_0001_0001_0001;

impl MailPorts {
    /// These ports; 0 marks an unused place, but the first must be used.
    pub const fn new(ports: [u16; 4]) -> Self {
        let [first, ..] = ports;
        let mut word = 0;
        let mut lane = 0;
        while lane < 4 {
            // An unused lane repeats the first port, so that port 0 never matches.
            let port = if ports[lane] == 0 { first } else { ports[lane] } as u64;
            word = if port > word & 0xffff {
                word << 16 | port
            } else {
                port << (16 * lane) | word
            };
            lane += 1;
        }
        Self(word)
    }

    /// Not 0 if both ports are higher than any of these, which tells most segments that have nothing
    /// to do with mail.
    #[inline(always)]
    pub(crate) const fn both_above(self, one: u16, other: u16) -> u64 {
        let highest = self.0 & 0xffff;
        // The sign says which is higher. Subtracted and not compared, so that the verifier learns
        // nothing about the ports, for which it would walk on with more states.
        (highest.wrapping_sub(one as u64) & highest.wrapping_sub(other as u64)) >> 63
    }

    /// The ports as one word, as the kernel program gets them.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The ports that [`MailPorts::word`] gave.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Not 0 if a lane equals `port`: if a lane of the difference is zero (Hacker's Delight, section
    /// 6-1). No branch, so that the verifier has one path and not five.
    #[inline(always)]
    pub(crate) const fn lane(self, port: u16) -> u64 {
        let difference = self.0 ^ (port as u64).wrapping_mul(LANES);
        difference.wrapping_sub(LANES) & !difference & (LANES << 15)
    }
}

/// Which way a segment goes, by role and not by interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to server: the destination port is a mail port. A segment between two mail ports
    /// counts here.
    ClientToServer,
    /// Server to client: only the source port is a mail port.
    ServerToClient,
}

/// TCP flag bits as they stand in octet 13 of the header (RFC 9293, section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
}

/// One TCP segment from or to a mail port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub source: Address,
    /// Whom it was sent to.
    pub destination: Address,
    /// TCP source port, host order.
    pub source_port: u16,
    /// TCP destination port, host order.
    pub destination_port: u16,
    /// TCP sequence number, host order.
    pub sequence: u32,
    /// TCP flags, octet 13 of the header; see [`flags`].
    pub flags: u8,
    /// Which way it goes.
    pub direction: Direction,
    /// Layer-3 bytes: IPv4 total length, or 40 + IPv6 payload length.
    pub bytes: u32,
    /// Bytes after the TCP header, by the same lengths.
    pub payload: u32,
}

impl Segment {
    /// The flags that tell what a segment does to a connection.
    #[inline(always)]
    const fn control(&self) -> u8 {
        self.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN)
    }

    /// SYN set; ACK, RST and FIN clear: the first segment of a connection, or its retransmission.
    #[inline(always)]
    pub const fn is_pure_syn(&self) -> bool {
        self.control() == flags::SYN
    }

    /// SYN and ACK set; RST and FIN clear: a server that answers.
    #[inline(always)]
    pub const fn is_syn_ack(&self) -> bool {
        self.syn_ack() != 0
    }

    /// A reset that answers a SYN: RST and ACK set with sequence number zero, as RFC 9293
    /// (section 3.5.2, rule 1) has it for a segment that arrives where nobody listens. A reset of
    /// an established connection carries the connection's own sequence number.
    #[inline(always)]
    pub const fn is_refusal(&self) -> bool {
        self.refusal() != 0
    }

    /// [`Segment::is_syn_ack`] as 1 or 0, without a branch.
    #[inline(always)]
    pub(crate) const fn syn_ack(&self) -> u32 {
        1 - differ(self.control() as u64, (flags::SYN | flags::ACK) as u64)
    }

    /// [`Segment::is_refusal`] likewise.
    #[inline(always)]
    pub(crate) const fn refusal(&self) -> u32 {
        // Above the flags there is room for the sequence number, which must be 0.
        let both = (self.sequence as u64) << 8 | self.control() as u64;
        1 - differ(both, (flags::RST | flags::ACK) as u64)
    }
}

/// The rest of a frame: a cursor and the end that it may not pass.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    cursor: *const u8,
    end: *const u8,
    frame: PhantomData<&'a [u8]>,
}

impl<'a> Packet<'a> {
    /// The frame between two addresses, as the kernel hands it to an XDP program.
    ///
    /// # Safety
    ///
    /// `start..end` must be readable for `'a`, and nobody may write to it in that time.
    #[inline(always)]
    pub const unsafe fn from_range(start: usize, end: usize) -> Self {
        Self {
            cursor: start as *const u8,
            end: end as *const u8,
            frame: PhantomData,
        }
    }

    /// The frame in this slice.
    pub fn from_slice(frame: &'a [u8]) -> Self {
        let range = frame.as_ptr_range();
        Self {
            cursor: range.start,
            end: range.end,
            frame: PhantomData,
        }
    }

    /// The next `N` bytes, without moving; `None` if the frame ends before them.
    ///
    /// `N` is at least 2: a check of one byte compiles to `cursor >= end`, of which the verifier
    /// makes nothing.
    #[inline(always)]
    pub(crate) fn peek<const N: usize>(&self) -> Option<Bytes<'a, N>> {
        const { assert!(N >= 2) }
        if self.cursor.wrapping_add(N) > self.end {
            return None;
        }
        Some(Bytes {
            start: self.cursor,
            frame: PhantomData,
        })
    }

    /// What starts `offset` bytes further on; an offset that is not a constant comes from [`blur`].
    #[inline(always)]
    pub(crate) fn at(self, offset: usize) -> Self {
        Self {
            cursor: self.cursor.wrapping_add(offset),
            ..self
        }
    }

    /// Moves on by `n` bytes. It may move past the end: then every later `peek` is `None`.
    #[inline(always)]
    pub(crate) fn advance(&mut self, n: usize) {
        self.cursor = self.cursor.wrapping_add(n);
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.end.addr().saturating_sub(self.cursor.addr())
    }
}

/// The same offset, which is at most 32,767.
///
/// It changes nothing but what the verifier knows: that an offset is not below some number is forgotten, so
/// one that was reached in few steps looks like a case of one that took more, and what follows is walked
/// once.
#[inline(always)]
pub(crate) fn blur(offset: usize) -> usize {
    offset & core::hint::black_box(0x7fff)
}

/// `N` bytes of a frame that a check has proven to be there.
///
/// Each field is one load of its own width: reading the bytes as an array makes the compiler load,
/// spill and shift them one by one.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a, const N: usize> {
    start: *const u8,
    frame: PhantomData<&'a [u8]>,
}

impl<const N: usize> Bytes<'_, N> {
    /// The bytes at `AT` as a value of `T`, which is an integer or an array of bytes.
    #[inline(always)]
    pub(crate) fn read<T: Copy, const AT: usize>(self) -> T {
        const { assert!(AT + size_of::<T>() <= N) }
        // SAFETY: `peek`, which alone makes this type, has proven that start..start + N lies in the
        // frame, which `from_range` and `from_slice` promise to be readable; the assertion above
        // keeps the read inside that. The read needs no alignment, and any bytes are a `T`.
        unsafe { self.start.add(AT).cast::<T>().read_unaligned() }
    }

    #[inline(always)]
    pub(crate) fn u8<const AT: usize>(self) -> u8 {
        self.read::<u8, AT>()
    }

    /// In network order on the wire, in host order here; likewise [`Bytes::u32`].
    #[inline(always)]
    pub(crate) fn u16<const AT: usize>(self) -> u16 {
        u16::from_be(self.read::<u16, AT>())
    }

    #[inline(always)]
    pub(crate) fn u32<const AT: usize>(self) -> u32 {
        u32::from_be(self.read::<u32, AT>())
    }

    #[inline(always)]
    pub(crate) fn ipv4<const AT: usize>(self) -> Address {
        Address::from_ipv4_word(self.read::<u32, AT>())
    }

    #[inline(always)]
    pub(crate) fn ipv6<const HIGH: usize, const LOW: usize>(self) -> Address {
        const { assert!(HIGH + 8 == LOW) }
        Address::from_words(self.read::<u64, HIGH>(), self.read::<u64, LOW>())
    }
}
