//! What a host does again and again: how often it opens connections, to whom, and what becomes of them.
//!
//! Contract: the scripts of an hour depend on the habit, on the hours before, and on the random numbers
//! that are handed in. Hours are asked for in their order.

use std::net::{IpAddr, Ipv4Addr};

use super::script::{Dialogue, Fate, Script, Stack, Tags};
use crate::random::Random;

/// Milliseconds.
pub const SECOND: u64 = 1_000;
/// Milliseconds.
pub const MINUTE: u64 = 60 * SECOND;
/// Milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
/// Milliseconds.
pub const DAY: u64 = 24 * HOUR;

/// The least and the most of something.
pub type Range = (u64, u64);

/// From a time to another, which is not in it, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first millisecond.
    pub from: u64,
    /// The first millisecond after it.
    pub to: u64,
}

/// When connections are opened.
#[derive(Clone, Debug)]
pub enum Pace {
    /// In each UTC hour of the day that is among `hours` (a bit map), a number in `count`, at random
    /// times in it. Of an hour of which only a part is in `within`, only those in that part.
    Hourly {
        /// How many.
        count: Range,
        /// Bit `n` for the hour from `n` to `n + 1`.
        hours: u32,
        /// When at all.
        within: Span,
    },
    /// In each of these spells so many per 1,000 seconds, with pauses that are spread evenly from
    /// nothing to twice their mean.
    Spells {
        /// Their order is that of time; they do not overlap.
        spells: Vec<Span>,
        /// Connections in 1,000 seconds.
        per_kilosecond: u64,
    },
    /// Rounds: all servers at once, every so often.
    Rounds {
        /// Milliseconds from a round to the next.
        every: u64,
        /// When at all.
        within: Span,
    },
}

/// All 24 hours of a day.
pub const ALL_DAY: u32 = 0xff_ffff;

/// Who is connected to.
#[derive(Clone, Debug)]
pub enum Peers {
    /// One of these, any.
    Any(Vec<IpAddr>),
    /// One after the other, and again from the first.
    InTurn(Vec<IpAddr>),
    /// Every address of a block in its order, from this one on.
    Sweep(Ipv4Addr),
}

/// Shares in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shares {
    /// Of connections: nobody answers.
    pub silent: u16,
    /// Of connections: a reset answers.
    pub refused: u16,
    /// Of connections that are opened: the server takes nobody.
    pub unavailable: u16,
    /// Of connections that are opened: TLS is used.
    pub tls: u16,
    /// Of messages: the recipient is unknown.
    pub rejected: u16,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Habit {
    /// When.
    pub pace: Pace,
    /// Whom.
    pub peers: Peers,
    /// From which addresses, one after the other.
    pub addresses: Vec<IpAddr>,
    /// Connections from an address before the next one is used.
    pub per_address: u64,
    /// What becomes of it.
    pub shares: Shares,
    /// How often the SYN of a connection without an answer is sent again.
    pub resent: Range,
    /// Messages in a connection.
    pub messages: Range,
    /// Octets of a message.
    pub octets: Range,
    /// Which TCP.
    pub stack: Stack,
    /// Tags of its frames.
    pub tags: Tags,
    /// Whether the servers' segments pass here.
    pub visible: bool,
}

/// What goes on from hour to hour.
#[derive(Clone, Debug)]
pub(super) struct State {
    random: Random,
    number: u64,
    port: u16,
}

impl State {
    pub(super) const fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let port = random.between(0, 59_999) as u16;
        Self {
            random,
            number: 0,
            port,
        }
    }
}

impl Habit {
    /// Adds the scripts that start in the hour from `start` on, in no order.
    pub(super) fn play(&self, start: u64, state: &mut State, scripts: &mut Vec<Script>) {
        let hour = Span {
            from: start,
            to: start + HOUR,
        };
        match &self.pace {
            Pace::Hourly {
                count,
                hours,
                within,
            } => {
                if hours >> (start / HOUR % 24) & 1 == 0 {
                    return;
                }
                let count = state.random.between(count.0, count.1);
                let mut times: Vec<u64> = (0..count)
                    .map(|_| state.random.between(hour.from, hour.to - 1))
                    .filter(|at| within.from <= *at && *at < within.to)
                    .collect();
                // In the order of time, so that ports and servers in turn are.
                times.sort_unstable();
                for at in times {
                    self.open(at, state, scripts);
                }
            }
            Pace::Spells {
                spells,
                per_kilosecond,
            } => {
                for spell in spells {
                    let (from, to) = (spell.from.max(hour.from), spell.to.min(hour.to));
                    // Pauses in microseconds, or they would be rounded.
                    let most = 2 * 1_000_000_000 / per_kilosecond.max(&1);
                    let mut at = from * 1_000 + state.random.between(0, most / 2);
                    while from < to && at < to * 1_000 {
                        self.open(at / 1_000, state, scripts);
                        at += state.random.between(0, most);
                    }
                }
            }
            Pace::Rounds { every, within } => {
                let (from, to) = (within.from.max(hour.from), within.to.min(hour.to));
                let mut at = from.next_multiple_of(*every);
                while at < to {
                    let (Peers::Any(servers) | Peers::InTurn(servers)) = &self.peers else {
                        return;
                    };
                    for server in servers {
                        let at = at + state.random.between(0, 500);
                        self.open_to(*server, at, state, scripts);
                    }
                    at += every;
                }
            }
        }
    }

    fn open(&self, at: u64, state: &mut State, scripts: &mut Vec<Script>) {
        let turn = state.number as usize;
        let server = match &self.peers {
            Peers::Any(servers) => state.random.of(servers),
            Peers::InTurn(servers) => servers[turn % servers.len()],
            Peers::Sweep(first) => Ipv4Addr::from_bits(first.to_bits() + turn as u32).into(),
        };
        self.open_to(server, at, state, scripts);
    }

    fn open_to(&self, server: IpAddr, at: u64, state: &mut State, scripts: &mut Vec<Script>) {
        let State {
            random,
            number,
            port,
        } = state;
        let turn = *number / self.per_address % self.addresses.len() as u64;
        *number += 1;
        *port = (*port + 1) % 60_000;
        let shares = &self.shares;
        let lot = random.below(1000) as u16;
        let fate = if lot < shares.silent {
            Fate::Silent
        } else if lot < shares.silent + shares.refused {
            Fate::Refused
        } else {
            let messages = random.between(self.messages.0, self.messages.1).min(32) as u8;
            let mut rejected = 0;
            for bit in 0..messages {
                rejected |= u32::from(random.thousandths(shares.rejected)) << bit;
            }
            Fate::Answered(Dialogue {
                unavailable: random.thousandths(shares.unavailable),
                tls: random.thousandths(shares.tls),
                messages,
                rejected,
                octets: random.between(self.octets.0, self.octets.1) as u32,
            })
        };
        let resent = match fate {
            Fate::Silent => random.between(self.resent.0, self.resent.1) as u8,
            Fate::Refused | Fate::Answered(_) => 0,
        };
        scripts.push(Script {
            start: at,
            client: self.addresses[turn as usize],
            port: 1_024 + *port,
            server,
            client_isn: random.bits() as u32,
            server_isn: random.bits() as u32,
            resent,
            delay: random.between(2, 90) as u16,
            stack: self.stack,
            tags: self.tags,
            visible: self.visible,
            fate,
        });
    }
}
