//! Hosts with their labels, and their traffic.
//!
//! Contract: a seed, a start and a length decide a population, on every machine; a host's traffic does
//! not depend on which others there are. [`Traffic`] gives its scripts hour by hour, so that days fit
//! into memory.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::habit::{DAY, HOUR, Habit, Span, State};
#[expect(unused_imports, reason = "for the documentation")]
use super::kind::Label;
use super::kind::{KINDS, Kind};
use super::script::Script;
use crate::random::Random;

/// The operator's own prefixes.
pub const PREFIXES: [(IpAddr, u8); 2] = [
    (IpAddr::V4(Ipv4Addr::new(10, 20, 0, 0)), 16),
    (
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x20, 0, 0, 0, 0, 0)),
        48,
    ),
];

/// 2026-03-02T00:00:00Z, a Monday.
pub const MONDAY: u64 = 1_772_409_600_000;

/// The operator's entry for a known relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// More connections than this in an hour are too many even for it; `None`: it is never judged.
    pub connections: Option<u32>,
}

/// A host, or what looks like one.
#[derive(Clone, Debug)]
pub struct Host {
    /// What it is.
    pub kind: &'static Kind,
    /// The address that it is known by, or the first one of its prefix.
    pub address: IpAddr,
    /// How long the prefix is that it is known by: 32, or 64 with IPv6.
    pub length: u8,
    /// When its abuse starts; `None` for one who does none.
    pub abuse: Option<u64>,
    /// Its entry among the known relays, if it has one.
    pub listed: Option<Listed>,
    /// What decides the random numbers of its habits.
    pub seed: u64,
    /// What it does.
    pub habits: Vec<Habit>,
}

/// A labelled population.
#[derive(Clone, Debug)]
pub struct Population {
    /// What decides it.
    pub seed: u64,
    /// When its traffic begins and ends.
    pub span: Span,
    /// All hosts. Those of a kind with the label [`Label::Nobody`] are no hosts.
    pub hosts: Vec<Host>,
}

impl Population {
    /// All kinds together, each as often as its `usual` says, for so many days. Those at the limits of
    /// what counts can tell are there as well: they change nothing for others.
    pub fn mixed(seed: u64, days: u64) -> Self {
        Self::of(
            seed,
            days * DAY,
            KINDS.iter().map(|kind| (kind, kind.usual)),
        )
    }

    /// One kind alone.
    pub fn alone(kind: &'static Kind, hosts: u32, seed: u64, length: u64) -> Self {
        Self::of(seed, length, [(kind, hosts)])
    }

    /// These kinds, for so many milliseconds.
    pub fn of(
        seed: u64,
        length: u64,
        kinds: impl IntoIterator<Item = (&'static Kind, u32)>,
    ) -> Self {
        let span = Span {
            from: MONDAY,
            to: MONDAY + length,
        };
        let mut taken = HashSet::new();
        let mut hosts = Vec::new();
        for (kind, count) in kinds {
            for number in 0..count {
                // From the kind's name and not from its place, so that a new kind changes no other.
                let name = kind.name.bytes().fold(seed, |hash, octet| {
                    Random::new(hash ^ u64::from(octet)).bits()
                });
                let mut random = Random::new(name ^ u64::from(number) << 32);
                let mut maker = Maker {
                    seed: random.bits(),
                    random,
                    span,
                    taken: &mut taken,
                };
                hosts.push((kind.make)(kind, &mut maker));
            }
        }
        Self { seed, span, hosts }
    }

    /// Its traffic.
    pub fn traffic(&self) -> Traffic<'_> {
        let states = self.hosts.iter().map(|host| {
            let habits = 0..host.habits.len() as u64;
            habits
                .map(|habit| State::new(host.seed.wrapping_add(habit)))
                .collect()
        });
        Traffic {
            population: self,
            states: states.collect(),
            hour: self.span.from - self.span.from % HOUR,
        }
    }
}

/// Gives the scripts of the hours, one after the other, each hour's in the order of their starts.
pub struct Traffic<'a> {
    population: &'a Population,
    /// By host and habit.
    states: Vec<Vec<State>>,
    hour: u64,
}

impl Iterator for Traffic<'_> {
    /// When the hour begins, and what starts in it.
    type Item = (u64, Vec<Script>);

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.population.span;
        if self.hour >= span.to {
            return None;
        }
        let mut scripts = Vec::new();
        for (host, states) in self.population.hosts.iter().zip(&mut self.states) {
            for (habit, state) in host.habits.iter().zip(states) {
                habit.play(self.hour, state, &mut scripts);
            }
        }
        scripts.retain(|script| span.from <= script.start && script.start < span.to);
        // Stable: of the same millisecond, the first host first.
        scripts.sort_by_key(|script| script.start);
        let hour = self.hour;
        self.hour += HOUR;
        Some((hour, scripts))
    }
}

/// What makes a host needs.
pub struct Maker<'a> {
    /// What decides the random numbers of its habits.
    pub seed: u64,
    /// Of this host alone.
    pub random: Random,
    /// When the traffic begins and ends.
    pub span: Span,
    /// Numbers of hosts and subnets that are in use.
    taken: &'a mut HashSet<(bool, u16)>,
}

impl Maker<'_> {
    fn number(&mut self, six: bool) -> u16 {
        loop {
            // Neither the network's own address nor its broadcast address.
            let number = self.random.between(1, 0xfffe) as u16;
            if self.taken.insert((six, number)) {
                return number;
            }
        }
    }

    /// An IPv4 address in the operator's prefix that nobody else has.
    pub fn own(&mut self) -> IpAddr {
        let [high, low] = self.number(false).to_be_bytes();
        Ipv4Addr::new(10, 20, high, low).into()
    }

    /// Addresses of a /64 in the operator's prefix that nobody else has, with random interface
    /// identifiers (RFC 8981).
    pub fn own_six(&mut self, count: usize) -> Vec<IpAddr> {
        let subnet = self.number(true);
        let one = |random: &mut Random| {
            let host = u128::from(random.bits() | 1);
            let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0x20, subnet, 0, 0, 0, 0);
            Ipv6Addr::from_bits(prefix.to_bits() | host).into()
        };
        (0..count).map(|_| one(&mut self.random)).collect()
    }

    /// Servers of the world, of the family of `like`: any of the first `of`.
    pub fn servers(&mut self, like: IpAddr, count: u64, of: u64) -> Vec<IpAddr> {
        let mut servers = Vec::new();
        while (servers.len() as u64) < count.min(of) {
            let server = world(like.is_ipv4(), self.random.between(1, of) as u32);
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }

    /// A time from `least` to `most` thousandths of the whole, on a whole second.
    pub fn time(&mut self, least: u64, most: u64) -> u64 {
        let length = self.span.to - self.span.from;
        let after = self
            .random
            .between(length * least / 1000, length * most / 1000);
        self.span.from + after - after % 1_000
    }
}

/// A host of the rest of the world: 198.18.0.0/15 is for tests of equipment (RFC 2544), 2001:db8::/32
/// for documentation (RFC 3849).
pub fn world(four: bool, number: u32) -> IpAddr {
    if four {
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number % (1 << 17)).into()
    } else {
        let [high, low] = [number >> 16, number & 0xffff].map(|half| half as u16);
        Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, high, low).into()
    }
}
