//! What SMTP says at the start of a segment (RFC 5321).
//!
//! Contract: only the first octets of a segment's payload are looked at, four of a server's and
//! eight of a client's, and nothing of them is kept but a count. What is counted, exactly:
//!
//! - A server's segment whose payload begins with a reply code, three digits of which the first is
//!   2 to 5 and the second 0 to 5, and a fourth octet that is a space or a carriage return: one
//!   reply of that class. `250-` is not counted: another line follows. So a reply of several lines
//!   counts once, when its last line begins a segment, and not at all when the whole of it lies in
//!   one segment (as the answer to EHLO mostly does). Replies that follow in the same segment, as
//!   with pipelining, are not seen.
//! - A client's segment whose payload begins with `MAIL FRO` or `RCPT TO:` in any case: one such
//!   command. Commands that follow in the same segment are not seen.
//! - A segment with the sequence number of the last one counted that way in the same window is a
//!   retransmission, and counts no reply and no command.
//!
//! After STARTTLS a payload begins with the header of a TLS record, whose first octet is 20 to 24
//! (RFC 8446, section 5.1), which is no digit and no letter: nothing matches any more.

use crate::packet::{Direction, Packet, Segment};

/// What the payload of a segment begins with. A number and no `enum`, for the verifier's sake: it
/// walks what follows once for a number that it does not know, and once for each variant otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speech(u32);

/// How many kinds are counted apart.
pub const KINDS: usize = 6;

impl Speech {
    /// MAIL: a client names a sender.
    pub const MAIL: Self = Self(0);
    /// RCPT: a client names a recipient.
    pub const RCPT: Self = Self(1);
    /// 2yz: positive completion.
    pub const COMPLETION: Self = Self(2);
    /// 3yz: positive intermediate.
    pub const INTERMEDIATE: Self = Self(3);
    /// 4yz: transient negative completion.
    pub const TRANSIENT: Self = Self(4);
    /// 5yz: permanent negative completion.
    pub const PERMANENT: Self = Self(5);
    /// 354, which is counted as an intermediate one: the server waits for the message.
    pub const START_INPUT: Self = Self(6);
    /// None of these.
    pub const OTHER: Self = Self(7);

    /// The number of this kind.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self.0 as u8
    }

    /// 1 if this is that kind, else 0.
    #[inline(always)]
    pub(crate) const fn is(self, kind: Self) -> u32 {
        1 - differ(self.0 as u64, kind.0 as u64)
    }

    /// 1 if this kind has that number, else 0.
    #[inline(always)]
    pub(crate) const fn is_number(self, number: u8) -> u32 {
        1 - differ(self.0 as u64, number as u64)
    }

    /// Where this kind is counted, below [`KINDS`] for all but [`Speech::OTHER`].
    #[inline(always)]
    pub(crate) const fn place(self) -> usize {
        // 354 has the place of its class.
        (self.0 - 3 * self.is(Self::START_INPUT)) as usize
    }
}

/// 1 if the numbers differ, else 0, without a branch.
#[inline(always)]
pub(crate) const fn differ(a: u64, b: u64) -> u32 {
    let difference = a ^ b;
    ((difference | difference.wrapping_neg()) >> 63) as u32
}

/// The first eight octets of a command, in capitals, as they lie in memory.
const MAIL: u64 = u64::from_ne_bytes(*b"MAIL FRO");
const RCPT: u64 = u64::from_ne_bytes(*b"RCPT TO:");

/// Clears, where the command has a letter, the bit that tells a small one from a capital one. It
/// tells a space and a colon from control characters, so there it stays.
const fn letters(command: u64) -> u64 {
    let mut octets = command.to_ne_bytes();
    let mut i = 0;
    while i < octets.len() {
        octets[i] = if octets[i].is_ascii_alphabetic() {
            0xdf
        } else {
            0xff
        };
        i += 1;
    }
    u64::from_ne_bytes(octets)
}

const MAIL_LETTERS: u64 = letters(MAIL);
const RCPT_LETTERS: u64 = letters(RCPT);

/// What an octet is at each of the first four places of a reply.
#[derive(Clone, Copy)]
#[repr(C)]
struct Octet {
    /// The kind by the first digit.
    first: u8,
    /// At the other places: 0, or [`Speech::OTHER`] where the octet does not belong.
    second: u8,
    third: u8,
    fourth: u8,
}

static OCTETS: [Octet; 256] = {
    const OTHER: u8 = Speech::OTHER.number();
    let stranger = Octet {
        first: OTHER,
        second: OTHER,
        third: OTHER,
        fourth: OTHER,
    };
    let mut octets = [stranger; 256];
    let mut digit = 0;
    while digit < 10 {
        let octet = &mut octets[b'0' as usize + digit as usize];
        octet.third = 0;
        if digit < 6 {
            octet.second = 0;
        }
        if digit >= 2 && digit < 6 {
            // The numbers of the kinds are the digits.
            octet.first = digit;
        }
        digit += 1;
    }
    octets[b' ' as usize].fourth = 0;
    octets[b'\r' as usize].fourth = 0;
    octets
};

/// What this segment says; `payload` is the cursor that `parse` gave with it.
#[inline(always)]
pub fn listen(segment: &Segment, payload: Packet<'_>) -> Speech {
    match segment.direction {
        Direction::ClientToServer => client(segment, payload),
        Direction::ServerToClient => server(segment, payload),
    }
}

#[inline(always)]
fn client(segment: &Segment, payload: Packet<'_>) -> Speech {
    if segment.payload < 8 {
        return Speech::OTHER;
    }
    let Some(start) = payload.peek::<8>() else {
        return Speech::OTHER;
    };
    let start = start.read::<u64, 0>();
    let no_mail = differ(start & MAIL_LETTERS, MAIL);
    let no_rcpt = differ(start & RCPT_LETTERS, RCPT);
    Speech(Speech::RCPT.0 + 6 * no_rcpt - 7 * (1 - no_mail))
}

#[inline(always)]
fn server(segment: &Segment, payload: Packet<'_>) -> Speech {
    if segment.payload < 4 {
        return Speech::OTHER;
    }
    let Some(start) = payload.peek::<4>() else {
        return Speech::OTHER;
    };
    let octet = |octet: u8| &OCTETS[octet as usize];
    let kind = octet(start.u8::<0>()).first
        | octet(start.u8::<1>()).second
        | octet(start.u8::<2>()).third
        | octet(start.u8::<3>()).fourth;
    let kind = u32::from(kind);
    let code = start.u32::<0>() | 0xff;
    // Where the fourth octet does not belong, the kind is 7 although the code is 354.
    let stranger = kind >> 2;
    let start_input = (1 - differ(code.into(), u32::from_be_bytes(*b"354\xff").into())) & !stranger;
    Speech((kind + 3 * start_input) & 7)
}
