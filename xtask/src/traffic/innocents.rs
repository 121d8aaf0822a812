//! Those who do no abuse.

use std::net::{IpAddr, Ipv4Addr};

use super::habit::{ALL_DAY, DAY, HOUR, Habit, MINUTE, Pace, Peers, Range, SECOND, Shares, Span};
use super::kind::Kind;
use super::population::{Host, Listed, Maker, world};
use super::script::{Stack, Tags};

/// How many servers of the world are mail servers that anybody writes to.
pub(super) const KNOWN_SERVERS: u64 = 2_000;

/// A host of one address without abuse and entry.
pub(super) fn host(kind: &'static Kind, maker: &Maker<'_>, habits: Vec<Habit>) -> Host {
    let address = habits[0].addresses[0];
    Host {
        kind,
        address,
        length: if address.is_ipv4() { 32 } else { 64 },
        abuse: None,
        listed: None,
        seed: maker.seed,
        habits,
    }
}

/// Hours of a day, from 8 to 14, that begin in the morning.
fn working_hours(maker: &mut Maker<'_>) -> u32 {
    let first = maker.random.between(5, 10);
    let hours = maker.random.between(8, 14).min(24 - first);
    ((1 << hours) - 1) << first
}

pub(super) fn stack(maker: &mut Maker<'_>) -> Stack {
    maker.random.of(&[Stack::Unix, Stack::Windows])
}

/// A user's mail, from these addresses.
pub(super) fn user(
    maker: &mut Maker<'_>,
    addresses: Vec<IpAddr>,
    count: Range,
    servers: Range,
) -> Habit {
    let servers = maker.random.between(servers.0, servers.1);
    Habit {
        pace: Pace::Hourly {
            count,
            hours: working_hours(maker),
            within: maker.span,
        },
        peers: Peers::Any(maker.servers(addresses[0], servers, KNOWN_SERVERS)),
        addresses,
        per_address: 3,
        shares: Shares {
            silent: 5,
            refused: 5,
            unavailable: 2,
            tls: 600,
            rejected: 20,
        },
        resent: (1, 4),
        messages: (1, 2),
        octets: (800, 20_000),
        stack: stack(maker),
        tags: Tags::None,
        visible: true,
    }
}

/// An IPv4 address, or every fifth time one of IPv6.
pub(super) fn any_address(maker: &mut Maker<'_>) -> Vec<IpAddr> {
    if maker.random.chance(20) {
        maker.own_six(1)
    } else {
        vec![maker.own()]
    }
}

pub(super) fn ordinary(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = any_address(maker);
    let habit = user(maker, address, (1, 10), (1, 3));
    host(kind, maker, vec![habit])
}

pub(super) fn busy(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = any_address(maker);
    let habit = user(maker, address, (11, 30), (2, 5));
    host(kind, maker, vec![habit])
}

/// Day and night.
pub(super) fn around_the_clock(maker: &Maker<'_>, count: Range) -> Pace {
    Pace::Hourly {
        count,
        hours: ALL_DAY,
        within: maker.span,
    }
}

pub(super) fn mail_server(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = maker.own();
    let habit = Habit {
        pace: around_the_clock(maker, (3, 25)),
        shares: Shares {
            silent: 20,
            refused: 10,
            unavailable: 5,
            tls: 500,
            rejected: 50,
        },
        resent: (3, 5),
        stack: Stack::Unix,
        ..user(maker, vec![address], (0, 0), (6, 15))
    };
    host(kind, maker, vec![habit])
}

/// The mail of a relay.
pub(super) fn relaying(maker: &mut Maker<'_>, address: IpAddr, count: Range) -> Habit {
    Habit {
        pace: around_the_clock(maker, count),
        shares: Shares {
            silent: 20,
            refused: 10,
            unavailable: 5,
            tls: 600,
            rejected: 40,
        },
        resent: (3, 5),
        messages: (1, 3),
        stack: Stack::Unix,
        ..user(maker, vec![address], (0, 0), (120, 120))
    }
}

pub(super) fn relay(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = maker.own();
    let habit = relaying(maker, address, (150, 600));
    Host {
        listed: Some(Listed { connections: None }),
        ..host(kind, maker, vec![habit])
    }
}

/// Once a day, from some time of the day on, for so long.
pub(super) fn daily(maker: &Maker<'_>, first: u64, length: u64) -> Vec<Span> {
    (0..)
        .map(|day| first + day * DAY)
        .take_while(|from| *from < maker.span.to)
        .map(|from| Span {
            from,
            to: (from + length).min(maker.span.to),
        })
        .collect()
}

pub(super) fn newsletter(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = maker.own();
    let first = maker.span.from + maker.random.between(1, 20) * HOUR + 7 * MINUTE;
    let habit = Habit {
        pace: Pace::Spells {
            spells: daily(maker, first, 20 * MINUTE),
            per_kilosecond: 2_000,
        },
        shares: Shares {
            silent: 20,
            refused: 10,
            unavailable: 5,
            tls: 600,
            rejected: 80,
        },
        messages: (1, 1),
        stack: Stack::Unix,
        ..user(maker, vec![address], (0, 0), (300, 300))
    };
    Host {
        listed: Some(Listed { connections: None }),
        ..host(kind, maker, vec![habit])
    }
}

pub(super) fn monitor(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = maker.own();
    let habit = Habit {
        pace: Pace::Rounds {
            every: 5 * MINUTE,
            within: maker.span,
        },
        shares: Shares::default(),
        messages: (0, 0),
        stack: Stack::Unix,
        ..user(maker, vec![address], (0, 0), (15, 15))
    };
    Host {
        listed: Some(Listed { connections: None }),
        ..host(kind, maker, vec![habit])
    }
}

pub(super) fn inbound(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = maker.own();
    // Not among the servers that anybody writes to.
    let clients = (0..200).map(|_| {
        let number = KNOWN_SERVERS + maker.random.between(1, 50_000);
        world(true, number as u32)
    });
    let clients = clients.collect();
    let habit = Habit {
        pace: around_the_clock(maker, (20, 200)),
        peers: Peers::Any(vec![address]),
        ..user(maker, clients, (0, 0), (1, 1))
    };
    Host {
        address,
        ..host(kind, maker, vec![habit])
    }
}

pub(super) fn privacy(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let addresses = maker.random.between(4, 12);
    let addresses = maker.own_six(addresses as usize);
    let habit = user(maker, addresses, (2, 16), (1, 4));
    host(kind, maker, vec![habit])
}

pub(super) fn one_sided(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = any_address(maker);
    let most = maker.random.of(&[10, 30]);
    let habit = Habit {
        visible: false,
        ..user(maker, address, (1, most), (1, 4))
    };
    host(kind, maker, vec![habit])
}

pub(super) fn ladder(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = maker.own();
    let habit = Habit {
        pace: around_the_clock(maker, (8, 20)),
        shares: Shares {
            silent: 850,
            tls: 500,
            ..Shares::default()
        },
        resent: (5, 6),
        stack: Stack::Unix,
        ..user(maker, vec![address], (0, 0), (2, 3))
    };
    host(kind, maker, vec![habit])
}

pub(super) fn tags(maker: &mut Maker<'_>) -> Tags {
    let outer = maker.random.between(100, 199) as u16;
    Tags::QinQ(outer, maker.random.between(2, 4_000) as u16)
}

pub(super) fn qinq(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = any_address(maker);
    let habit = Habit {
        tags: tags(maker),
        ..user(maker, address, (1, 10), (1, 3))
    };
    host(kind, maker, vec![habit])
}

pub(super) fn spoofed(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let addresses = (0..12_000).map(|number| {
        if number % 2 == 0 {
            let [high, low] = (maker.random.between(1, 0xfffe) as u16).to_be_bytes();
            Ipv4Addr::new(10, 20, high, low).into()
        } else {
            // Anything but the hosts of this traffic.
            Ipv4Addr::from_bits(maker.random.between(0x1000_0000, 0x7eff_ffff) as u32).into()
        }
    });
    let addresses = addresses.collect();
    let from = maker.time(50, 900);
    let flood = Pace::Spells {
        spells: vec![Span {
            from,
            to: from + 60 * SECOND,
        }],
        per_kilosecond: 200_000,
    };
    let habit = by_hand(maker, addresses, flood);
    host(kind, maker, vec![habit])
}

/// SYNs that nobody answers, at one server.
pub(super) fn by_hand(maker: &mut Maker<'_>, addresses: Vec<IpAddr>, pace: Pace) -> Habit {
    Habit {
        pace,
        per_address: 1,
        shares: Shares {
            silent: 1000,
            ..Shares::default()
        },
        resent: (0, 0),
        stack: Stack::Raw,
        ..user(maker, addresses, (0, 0), (1, 1))
    }
}
