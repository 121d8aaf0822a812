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

/// What the payload of a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Speech {
    /// MAIL: a client names a sender.
    Mail = 0,
    /// RCPT: a client names a recipient.
    Rcpt = 1,
    /// 2yz: positive completion.
    Completion = 2,
    /// 3yz: positive intermediate.
    Intermediate = 3,
    /// 4yz: transient negative completion.
    TransientFailure = 4,
    /// 5yz: permanent negative completion.
    PermanentFailure = 5,
    /// 354, which is counted as an intermediate one: the server waits for the message.
    StartInput = 6,
    /// None of these.
    Other = 7,
}

/// How many kinds are counted apart: the first six of [`Speech`].
pub const KINDS: usize = 6;

/// Clears the bit that tells small letters from capital ones.
const CAPITALS: u64 = 0xdfdf_dfdf_dfdf_dfdf;

/// The start of a command as eight octets in memory, in capitals.
const fn command(octets: &[u8; 8]) -> u64 {
    u64::from_ne_bytes(*octets) & CAPITALS
}

const MAIL: u64 = command(b"MAIL FRO");
const RCPT: u64 = command(b"RCPT TO:");
const START_INPUT: u32 = 354;

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
        return Speech::Other;
    }
    let Some(start) = payload.peek::<8>() else {
        return Speech::Other;
    };
    match start.read::<u64, 0>() & CAPITALS {
        MAIL => Speech::Mail,
        RCPT => Speech::Rcpt,
        _ => Speech::Other,
    }
}

#[inline(always)]
fn server(segment: &Segment, payload: Packet<'_>) -> Speech {
    if segment.payload < 4 {
        return Speech::Other;
    }
    let Some(start) = payload.peek::<4>() else {
        return Speech::Other;
    };
    let start = start.u32::<0>();
    let after = start & 0xff;
    if after != u32::from(b' ') && after != u32::from(b'\r') {
        return Speech::Other;
    }
    let digit = |shift: u32| (start >> shift & 0xff).wrapping_sub(u32::from(b'0'));
    let (class, subject, detail) = (digit(24), digit(16), digit(8));
    if subject > 5 || detail > 9 {
        return Speech::Other;
    }
    match class {
        2 => Speech::Completion,
        3 if subject * 10 + detail == START_INPUT % 100 => Speech::StartInput,
        3 => Speech::Intermediate,
        4 => Speech::TransientFailure,
        5 => Speech::PermanentFailure,
        _ => Speech::Other,
    }
}
