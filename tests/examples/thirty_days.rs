//! Makes a store with thirty days up to now: people, relays, a spam bot at work, one that is over, a
//! scanner, a slow sender, a host with IPv6, gaps, and verdicts with which people have dealt. For
//! looking at the page; it is no measurement.
//!
//! `cargo run -p smtpflow-tests --example thirty_days -- FILE`, then run an agent with `--store FILE`,
//! with `--local 198.51.100.0/24 --local 2001:db8:20::/48`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use smtp_common::counter::Counter;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_common::speech::Speech;
use smtp_user::detect::{Court, Relay, Settings};
use smtp_user::failure::Failure;
use smtp_user::model::period::{Bucket, Tier, milliseconds, system_time};
use smtp_user::model::session::{Outcome, Sessions};
use smtp_user::model::verdict::{VerdictFilter, VerdictState};
use smtp_user::model::{Counts, Folded, PairKey, Source, Tally, Window};
use smtp_user::store::{PersonalChange, Store, change_verdict};

const DAYS: u64 = 30;
/// Length of a window.
const STEP: u64 = 300_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const SERVERS: u64 = 240;

/// Bits of a number, spread (the finaliser of SplitMix64).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn own(host: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, host])
}

fn own_v6(host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x20, 7, 0, 0, 0, host).into()
}

fn server(number: u64) -> IpAddr {
    IpAddr::from([203, 0, 113, (number % SERVERS) as u8])
}

/// How connections end.
#[derive(Clone, Copy)]
enum Manner {
    /// Mail is taken.
    Good,
    /// A third is rejected, some are refused.
    Spam,
    /// Nobody answers, or with a reset.
    Scan,
}

/// So many connections of one client to each of these servers.
fn deed(
    maker: &mut Maker,
    client: IpAddr,
    to: impl Iterator<Item = u64>,
    each: u64,
    manner: Manner,
) {
    for number in to {
        let random = scatter(number ^ maker.start);
        let mut outcomes = [0_u64; Outcome::COUNT];
        for connection in 0..each {
            let chance = scatter(random ^ connection) % 100;
            let outcome = match manner {
                Manner::Good if chance < 96 => Outcome::Delivered,
                Manner::Good => Outcome::Answered,
                Manner::Spam if chance < 42 => Outcome::Delivered,
                Manner::Spam if chance < 78 => Outcome::Rejected,
                Manner::Spam if chance < 90 => Outcome::Refused,
                Manner::Spam => Outcome::Unknown,
                Manner::Scan if chance < 30 => Outcome::Refused,
                Manner::Scan => Outcome::Unknown,
            };
            outcomes[outcome.index()] += 1;
        }
        maker.add(client, server(number), outcomes, random);
    }
}

struct Maker {
    start: u64,
    sources: HashMap<Address, Totals>,
    folded: Folded,
}

impl Maker {
    fn add(
        &mut self,
        client: IpAddr,
        server: IpAddr,
        outcomes: [u64; Outcome::COUNT],
        random: u64,
    ) {
        let of = |outcome: Outcome| outcomes[outcome.index()];
        let connections: u64 = outcomes.iter().sum();
        let (refused, lost) = (of(Outcome::Refused), of(Outcome::Unknown));
        let answered = connections - refused - lost;
        let delivered = of(Outcome::Delivered);
        let rejected = of(Outcome::Rejected);
        let c2s_packets = 2 * lost + refused + 11 * answered + 8 * delivered;
        let mut sessions = Sessions::default();
        sessions.outcomes.0 = outcomes;
        let mut say = |speech: Speech, times: u64| {
            sessions.said.0[speech.number() as usize] += times;
        };
        say(Speech::MAIL, delivered + rejected);
        say(Speech::RCPT, 2 * delivered + rejected);
        say(Speech::COMPLETION, 5 * delivered + 2 * rejected);
        say(Speech::INTERMEDIATE, delivered);
        say(Speech::PERMANENT, rejected);
        sessions.accepted = delivered;
        let counts = Counts {
            totals: Totals {
                connections,
                syn_retx: lost,
                c2s_packets,
                c2s_bytes: 52 * c2s_packets + delivered * (2_000 + random % 9_000),
                s2c_packets: refused + 9 * answered,
                s2c_bytes: 40 * refused + 700 * answered,
                answered,
                refused,
            },
            sessions,
            peak: 0,
        };
        let key = PairKey {
            client: client.into(),
            server: server.into(),
        };
        self.folded.pairs.entry(key).or_default().merge(&counts);
        let all = self.folded.clients.entry(key.client).or_default();
        all.merge(&counts.sessions);
        self.sources
            .entry(key.client)
            .or_default()
            .merge(&counts.totals);
        let back = Totals {
            s2c_packets: counts.totals.s2c_packets,
            s2c_bytes: counts.totals.s2c_bytes,
            ..Totals::default()
        };
        self.sources.entry(key.server).or_default().merge(&back);
    }

    fn window(self, epoch: u64) -> (Window, Folded) {
        let sources: Vec<_> = self
            .sources
            .into_iter()
            .map(|(address, totals)| Source { address, totals })
            .collect();
        let mut tally = Tally::default();
        for source in &sources {
            tally.sources.merge(&source.totals);
        }
        tally.frames = tally.sources.packets();
        tally.segment_bytes = tally.sources.bytes();
        tally.outcomes[Counter::Segment.index()] = tally.frames;
        let window = Window {
            epoch,
            started_at: system_time(self.start),
            length: Duration::from_millis(STEP),
            tally,
            sources,
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        };
        (window, self.folded)
    }
}

/// What happens in the window that begins then.
fn window(start: u64, begin: u64, epoch: u64) -> (Window, Folded) {
    let mut maker = Maker {
        start,
        sources: HashMap::new(),
        folded: Folded::default(),
    };
    let (day, hour) = ((start - begin) / DAY, start % DAY / HOUR);
    let step = start / STEP;
    // By day there is more than at night.
    let busy = [
        1, 1, 1, 1, 1, 2, 3, 6, 9, 10, 10, 9, 8, 9, 10, 9, 8, 6, 4, 3, 3, 2, 2, 1,
    ][hour as usize];
    for person in 100..220_u8 {
        let random = scatter(step ^ u64::from(person) << 32);
        if random % 400 < busy {
            deed(
                &mut maker,
                own(person),
                [random >> 20].into_iter(),
                1,
                Manner::Good,
            );
        }
    }
    // The relay, and strangers who write to it.
    deed(
        &mut maker,
        own(25),
        (0..2 * busy).map(|i| scatter(step ^ i)),
        2,
        Manner::Good,
    );
    for stranger in 0..busy {
        let client = IpAddr::from([192, 0, 2, (scatter(step ^ stranger) % 200) as u8]);
        maker.add(client, own(25), [0, 0, 0, 0, 0, 0, 1], stranger);
    }
    // A spam bot at work for three days, from somebody's desk.
    if day + 3 >= DAYS && (8..23).contains(&hour) {
        deed(
            &mut maker,
            own(66),
            (0..32).map(|i| scatter(step ^ i << 8)),
            1 + step % 2,
            Manner::Spam,
        );
    }
    // One that is over: two days of last week but one.
    if (14..16).contains(&day) && step.is_multiple_of(2) {
        deed(
            &mut maker,
            own(143),
            (0..20).map(|i| scatter(step ^ i << 9)),
            2,
            Manner::Spam,
        );
    }
    // A scanner, one night.
    if day == 21 && (1..5).contains(&hour) {
        deed(&mut maker, own(99), 0..SERVERS, 2, Manner::Scan);
    }
    // One that sends slowly, night and day, and never much.
    if day > 5 && step.is_multiple_of(3) {
        deed(
            &mut maker,
            own(30),
            (0..9).map(|i| scatter(step ^ i << 4)),
            1,
            Manner::Good,
        );
    }
    // Reports of every night's backup.
    if hour == 2 && step % 12 < 6 {
        deed(&mut maker, own(12), [7].into_iter(), 12, Manner::Good);
    }
    // A host with two addresses of IPv6.
    if day.is_multiple_of(6) && (9..12).contains(&hour) {
        for host in [0x10, 0x2a] {
            deed(
                &mut maker,
                own_v6(host),
                (0..3).map(|i| scatter(step ^ i)),
                2,
                Manner::Good,
            );
        }
    }
    maker.window(epoch)
}

/// Whether the machine was off.
fn is_gap(day: u64, hour: u64) -> bool {
    (day == 9 && (3..14).contains(&hour)) || (day == 24 && (18..20).contains(&hour))
}

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.context("which file? (thirty_days FILE)")?;
    if path.exists() {
        return Err(anyhow!("{} is there already", path.display()));
    }
    fill(&path).map_err(|failure| anyhow!("{failure}"))
}

fn fill(path: &Path) -> Result<(), Failure> {
    let local = ["198.51.100.0/24", "2001:db8:20::/48"];
    let local = local
        .map(|prefix| prefix.parse().expect("a prefix"))
        .to_vec();
    let mut store = Store::open_for(path, local.clone(), 100_000)?;
    let mut court = Court::new(&Settings::default(), local, relays());
    // The last window ends a moment ago, so the agent's windows follow on it.
    let end = milliseconds(SystemTime::now());
    let begin = Tier::Day.start_of(end - (DAYS - 1) * DAY);
    let mut epoch = 0;
    for start in (begin..=end - STEP).step_by(STEP as usize) {
        if is_gap((start - begin) / DAY, start % DAY / HOUR) {
            continue;
        }
        epoch += 1;
        let (window, folded) = window(start, begin, epoch);
        store.commit(1, &window, &folded);
        while store.tidy() {}
        let hour = Bucket {
            segment: store.clock().segment,
            start: Tier::Hour.start_of(start),
            tier: Tier::Hour,
        };
        let changes = court.add(&window, &folded, hour);
        store.write_verdicts(&changes)?;
        if start % DAY == 10 * HOUR {
            people(path, &store, (start - begin) / DAY, start)?;
            let (verdicts, next) = store.load_verdicts(court.docket.horizon(start))?;
            court.docket.load(verdicts, next);
        }
    }
    store.write_verdicts(&court.docket.unsaved())?;
    let state = store.state();
    assert_eq!((state.failure, state.history_failure), (None, None));
    println!(
        "{}: {epoch} windows, {} verdicts",
        path.display(),
        store.verdicts(&VerdictFilter::default())?.len()
    );
    Ok(())
}

/// What people do at ten in the morning.
fn people(path: &Path, store: &Store, day: u64, at: u64) -> Result<(), Failure> {
    use VerdictState::{Acknowledged, FalsePositive, Notified, Resolved};
    for verdict in store.verdicts(&VerdictFilter::default())? {
        let of = |host: u8| verdict.subject.addr() == own(host) && verdict.state.is_open();
        let id = verdict.id;
        let (to, who, why) = if of(12) {
            let why = "reports of the nightly backup, agreed with the owner";
            (FalsePositive, "anna", why)
        } else if of(143) && day == 15 && verdict.state == VerdictState::New {
            (
                Notified,
                "ben",
                "wrote to the chair of physics, ticket 4711",
            )
        } else if of(143) && day == 16 {
            (Resolved, "ben", "reinstalled")
        } else if of(66) && verdict.detector == "persistence" && day + 1 == DAYS {
            (
                Acknowledged,
                "anna",
                "port is in room 2.14, nobody there yet",
            )
        } else {
            continue;
        };
        change_verdict(
            path,
            &PersonalChange {
                id,
                to,
                who,
                why,
                at,
            },
        )?;
    }
    Ok(())
}

fn relays() -> Vec<Relay> {
    let relay = Relay {
        prefix: own(25).into(),
        reason: "the mail relay of the staff".to_owned(),
        owner: "postmaster@example.org".to_owned(),
        expires: None,
        connections: None,
    };
    vec![relay]
}
