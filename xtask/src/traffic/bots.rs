//! Those who do abuse.

use std::net::{IpAddr, Ipv4Addr};

use super::habit::{ALL_DAY, HOUR, Habit, MINUTE, Pace, Peers, Range, SECOND, Shares, Span};
use super::innocents::{any_address, by_hand, daily, host, relaying, tags, user};
use super::kind::Kind;
use super::population::{Host, Listed, Maker};
use super::script::Stack;

/// What a bot's mail meets with: few servers want it.
pub(super) const SPAM: Shares = Shares {
    silent: 100,
    refused: 50,
    unavailable: 50,
    tls: 100,
    rejected: 150,
};

/// From when on a host does abuse: in the first half, so that there are days left.
pub(super) fn begin(maker: &mut Maker<'_>) -> u64 {
    maker.time(30, 500)
}

/// A bot on a user's machine: the user goes on, with the same stack and tags.
pub(super) fn infected(
    kind: &'static Kind,
    maker: &mut Maker<'_>,
    abuse: u64,
    habit: impl FnOnce(&mut Maker<'_>, Habit) -> Habit,
) -> Host {
    let address = vec![maker.own()];
    infected_at(kind, maker, abuse, address, habit)
}

fn infected_at(
    kind: &'static Kind,
    maker: &mut Maker<'_>,
    abuse: u64,
    addresses: Vec<IpAddr>,
    habit: impl FnOnce(&mut Maker<'_>, Habit) -> Habit,
) -> Host {
    let before = user(maker, addresses, (1, 10), (1, 3));
    let spam = Habit {
        shares: SPAM,
        messages: (1, 1),
        octets: (600, 4_000),
        ..before.clone()
    };
    let habit = habit(maker, spam);
    let before = Habit {
        tags: habit.tags,
        visible: habit.visible,
        ..before
    };
    Host {
        abuse: Some(abuse),
        ..host(kind, maker, vec![before, habit])
    }
}

/// So many an hour, day and night, from its beginning on.
pub(super) fn on_and_on(maker: &Maker<'_>, abuse: u64, count: Range) -> Pace {
    Pace::Hourly {
        count,
        hours: ALL_DAY,
        within: Span {
            from: abuse,
            to: maker.span.to,
        },
    }
}

pub(super) fn servers(maker: &mut Maker<'_>, like: &Habit, count: u64) -> Vec<IpAddr> {
    maker.servers(like.addresses[0], count, 50_000)
}

pub(super) fn hammer(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| {
        let mut spells = Vec::new();
        let mut from = abuse;
        for _ in 0..maker.random.between(1, 3) {
            let to = from + maker.random.between(10, 40) * MINUTE;
            spells.push(Span { from, to });
            from = to + maker.random.between(1, 8) * HOUR;
        }
        Habit {
            pace: Pace::Spells {
                spells,
                per_kilosecond: maker.random.between(2_000, 20_000),
            },
            peers: Peers::Any(servers(maker, &spam, 1)),
            shares: Shares {
                silent: 0,
                refused: 200,
                rejected: 300,
                ..SPAM
            },
            ..spam
        }
    })
}

pub(super) fn once_each(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| {
        let seconds = maker.random.between(1_200, 3_000);
        Habit {
            pace: Pace::Spells {
                spells: daily(maker, abuse, seconds * SECOND),
                per_kilosecond: 150 * 1_000 / seconds,
            },
            peers: Peers::InTurn(servers(maker, &spam, 150)),
            ..spam
        }
    })
}

pub(super) fn slow(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (30, 60)),
        peers: Peers::Any(servers(maker, &spam, 300)),
        ..spam
    })
}

pub(super) fn slower(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (10, 25)),
        peers: Peers::Any(servers(maker, &spam, 60)),
        shares: Shares {
            silent: 50,
            rejected: 400,
            ..SPAM
        },
        ..spam
    })
}

pub(super) fn burst(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| {
        let mut spells = Vec::new();
        let mut from = abuse;
        while from < maker.span.to {
            let to = from + maker.random.between(5, 15) * SECOND;
            spells.push(Span { from, to });
            from = to + maker.random.between(5, 12) * HOUR;
        }
        Habit {
            pace: Pace::Spells {
                spells,
                per_kilosecond: maker.random.between(60_000, 150_000),
            },
            peers: Peers::Any(servers(maker, &spam, 50)),
            shares: Shares {
                refused: 300,
                ..SPAM
            },
            ..spam
        }
    })
}

pub(super) fn many_messages(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (2, 8)),
        peers: Peers::Any(servers(maker, &spam, 5)),
        messages: (18, 18),
        ..spam
    })
}

pub(super) fn behind_nat(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    let address = maker.own();
    let relay = relaying(maker, address, (150, 400));
    let spam = Habit {
        pace: Pace::Spells {
            spells: daily(maker, abuse, 6 * HOUR),
            per_kilosecond: maker.random.between(500, 900),
        },
        peers: Peers::Any(servers(maker, &relay, 200)),
        shares: SPAM,
        messages: (1, 1),
        octets: (600, 4_000),
        ..relay.clone()
    };
    Host {
        abuse: Some(abuse),
        listed: Some(Listed {
            connections: Some(1_500),
        }),
        ..host(kind, maker, vec![relay, spam])
    }
}

pub(super) fn scanner(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| {
        let length = maker.random.between(5, 20) * MINUTE;
        let first = maker.random.between(0xc612_0000, 0xc613_0000);
        Habit {
            pace: Pace::Spells {
                spells: daily(maker, abuse, length),
                per_kilosecond: maker.random.between(2_000, 10_000),
            },
            peers: Peers::Sweep(Ipv4Addr::from_bits(first as u32)),
            shares: Shares {
                silent: 850,
                refused: 120,
                ..SPAM
            },
            resent: (0, 0),
            messages: (0, 0),
            ..spam
        }
    })
}

pub(super) fn syn_flood(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| {
        let to = abuse + maker.random.between(30, 120) * SECOND;
        let flood = Pace::Spells {
            spells: vec![Span { from: abuse, to }],
            per_kilosecond: maker.random.between(100_000, 400_000),
        };
        Habit {
            stack: Stack::Raw,
            ..by_hand(maker, spam.addresses, flood)
        }
    })
}

pub(super) fn refused(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (35, 90)),
        peers: Peers::Any(servers(maker, &spam, 30)),
        shares: Shares {
            silent: 0,
            refused: 900,
            ..SPAM
        },
        ..spam
    })
}

pub(super) fn privacy_bot(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    let addresses = maker.own_six(2_000);
    infected_at(kind, maker, abuse, addresses, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (60, 200)),
        peers: Peers::Any(servers(maker, &spam, 80)),
        per_address: 7,
        ..spam
    })
}

pub(super) fn qinq_bot(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| {
        let length = maker.random.between(2, 6) * HOUR;
        Habit {
            pace: Pace::Spells {
                spells: daily(maker, abuse, length),
                per_kilosecond: maker.random.between(50, 300),
            },
            peers: Peers::Any(servers(maker, &spam, 60)),
            tags: tags(maker),
            ..spam
        }
    })
}

pub(super) fn one_sided_bot(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    let address = any_address(maker);
    infected_at(kind, maker, abuse, address, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (60, 300)),
        peers: Peers::Any(servers(maker, &spam, 40)),
        visible: false,
        ..spam
    })
}
