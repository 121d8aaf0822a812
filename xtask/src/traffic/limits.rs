//! Those whom no count can tell from the others: they stay out of the goals and are shown apart.

use super::bots::{SPAM, begin, infected, on_and_on, servers};
use super::habit::{HOUR, Habit, MINUTE, Pace, Peers, Shares, Span};
use super::innocents::{any_address, daily, host, mail_server, user};
use super::kind::Kind;
use super::population::{Host, Maker};

/// The working hours of each day.
const FIRST: u64 = 8 * HOUR;

pub(super) fn eager(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let address = any_address(maker);
    let habit = Habit {
        pace: Pace::Spells {
            spells: daily(maker, maker.span.from + FIRST, 10 * HOUR),
            per_kilosecond: 25 * 1_000 / 3_600,
        },
        ..user(maker, address, (0, 0), (2, 5))
    };
    host(kind, maker, vec![habit])
}

/// A small mail server that also does this.
fn server_with(
    kind: &'static Kind,
    maker: &mut Maker<'_>,
    spells: Vec<Span>,
    per_kilosecond: u64,
    servers: Option<u64>,
) -> Host {
    let mut server = mail_server(kind, maker);
    let usual = server.habits[0].clone();
    let peers = match servers {
        Some(count) => Peers::InTurn(maker.servers(server.address, count, 2_000)),
        None => usual.peers.clone(),
    };
    server.habits.push(Habit {
        pace: Pace::Spells {
            spells,
            per_kilosecond,
        },
        peers,
        ..usual
    });
    server
}

pub(super) fn backlog(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let from = maker.time(100, 800);
    let once = Span {
        from,
        to: from + 20 * MINUTE,
    };
    server_with(kind, maker, vec![once], 80 * 1_000 / 1_200, None)
}

pub(super) fn mailing_list(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let first = maker.span.from + FIRST + maker.random.between(0, 8 * HOUR);
    let posts = daily(maker, first, 10 * MINUTE);
    server_with(kind, maker, posts, 60 * 1_000 / 600, Some(40))
}

pub(super) fn whisper(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (3, 8)),
        peers: Peers::Any(servers(maker, &spam, 20)),
        shares: Shares {
            rejected: 200,
            ..SPAM
        },
        ..spam
    })
}

pub(super) fn encrypted(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (10, 25)),
        peers: Peers::Any(servers(maker, &spam, 15)),
        shares: Shares {
            unavailable: 0,
            tls: 1_000,
            rejected: 400,
            ..SPAM
        },
        ..spam
    })
}

pub(super) fn one_server(kind: &'static Kind, maker: &mut Maker<'_>) -> Host {
    let abuse = begin(maker);
    infected(kind, maker, abuse, |maker, spam| Habit {
        pace: on_and_on(maker, abuse, (10, 25)),
        peers: Peers::Any(servers(maker, &spam, 1)),
        shares: Shares {
            silent: 0,
            refused: 20,
            rejected: 100,
            ..SPAM
        },
        ..spam
    })
}
