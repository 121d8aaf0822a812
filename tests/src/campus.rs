//! A campus that has been watched for weeks: its past in a store, and its traffic from now on.
//!
//! Contract: hosts and traffic are those of [`Population`], labelled, on their way through the real
//! follower, judge, docket and store with the shipped parameters. The past ends a moment before [`Campus::now`],
//! so that the windows of an agent follow on it, and what is sent from then on is the same traffic, by
//! the clock. The machine was off twice, and people have dealt with some verdicts. The spammer has been
//! at work for three days, and is.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use smtp_user::connections::{Follower, Limits};
use smtp_user::detect::{Court, Settings};
use smtp_user::failure::Failure;
use smtp_user::model::Window;
use smtp_user::model::period::{Bucket, Tier, milliseconds, system_time};
use smtp_user::model::verdict::{VerdictFilter, VerdictState};
use smtp_user::store::{PersonalChange, Store, change_verdict};
use xtask::traffic::habit::{DAY, HOUR, MINUTE, Pace, Range, SECOND, Span};
use xtask::traffic::kind::named;
use xtask::traffic::{Host, MONDAY, Population, Script, pcap};

use ipnet::IpNet;

use crate::evaluation::{configuration_for, local, relays};
use crate::stream::Stream;
use crate::wire::Transmitter;

/// How many hosts of which kind there are.
const KINDS: [(&str, u32); 13] = [
    ("ordinary", 30),
    ("busy", 4),
    ("mail_server", 3),
    ("newsletter", 1),
    ("inbound", 1),
    ("privacy", 2),
    ("ladder", 1),
    ("one_sided", 1),
    ("scanner", 1),
    ("refused", 1),
    ("hammer", 1),
    ("many_messages", 1),
    // The spammer: its pace is set here.
    ("slow", 1),
];
const SEED: u64 = 12;
/// How long the spammer has been at work.
const SPAM_FOR: u64 = 3 * DAY;
/// How long traffic goes on, at the longest.
const FUTURE: u64 = DAY;
/// Windows of the past: their length, and how long before now those of the next length begin. As long as
/// history keeps the like apart, but for the last ones, so that they end a moment before now.
const WINDOWS: [(u64, u64); 3] = [(HOUR, 3 * DAY), (5 * MINUTE, 5 * MINUTE), (SHORT_WINDOW, 0)];
const SHORT_WINDOW: u64 = 5 * SECOND;
/// When the machine was off: before now, in hours.
const OFF: [Range; 2] = [(21 * 24 + 5, 21 * 24 - 6), (6 * 24 + 3, 6 * 24 + 1)];
/// How late a frame may be when it is sent.
const LATE: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Clone, Debug)]
pub struct Campus {
    population: Population,
    /// What is added to a time of the population, in milliseconds.
    later: u64,
    /// Milliseconds since 1970.
    now: u64,
    /// Whose hosts are judged.
    local: Vec<IpNet>,
    /// Who sends by itself from now on.
    placed: HashSet<IpAddr>,
}

impl Campus {
    /// With so many days behind it, now.
    pub fn new(days: u64) -> Self {
        let now = milliseconds(SystemTime::now()) / SHORT_WINDOW * SHORT_WINDOW;
        let first = (now - days * DAY) / DAY * DAY;
        let later = first - MONDAY;
        let kinds = KINDS.map(|(name, count)| (named(name), count));
        let mut population = Population::of(SEED, now + FUTURE - first, kinds);
        let here = now - later;
        let spammer = population
            .hosts
            .iter_mut()
            .find(|host| host.kind.name == "slow");
        let spammer = spammer.expect("a spammer");
        spammer.abuse = Some(here - SPAM_FOR);
        let spell = |from, to, per_kilosecond| Pace::Spells {
            spells: vec![Span { from, to }],
            per_kilosecond,
        };
        let mut busier = spammer.habits[1].clone();
        spammer.habits[1].pace = spell(here - SPAM_FOR, here, 70);
        busier.pace = spell(here, here + FUTURE, 1_500);
        spammer.habits.push(busier);
        Self {
            population,
            later,
            now,
            local: local(),
            placed: HashSet::new(),
        }
    }

    /// When the past ends and the traffic begins.
    pub fn now(&self) -> SystemTime {
        system_time(self.now)
    }

    /// The first host of a kind.
    pub fn host(&self, kind: &str) -> &Host {
        let mut hosts = self.population.hosts.iter();
        let host = hosts.find(|host| host.kind.name == kind);
        host.unwrap_or_else(|| panic!("nobody is {kind}"))
    }

    /// Who sends spam.
    pub fn spammer(&self) -> IpAddr {
        self.host("slow").address
    }

    /// Lets a host have an address from elsewhere, with its past. From now on it sends nothing: there is
    /// a real one.
    pub fn place(&mut self, kind: &str, address: IpAddr) {
        let length = if address.is_ipv4() { 24 } else { 64 };
        let network = IpNet::new(address, length).expect("a length").trunc();
        if !self.local.contains(&network) {
            self.local.push(network);
        }
        self.placed.insert(address);
        let hosts = &mut self.population.hosts;
        let host = hosts.iter_mut().find(|host| host.kind.name == kind);
        let host = host.unwrap_or_else(|| panic!("nobody is {kind}"));
        host.address = address;
        for habit in &mut host.habits {
            habit.addresses = vec![address];
        }
    }

    /// The operator's prefixes and known relays, as a configuration.
    pub fn configuration(&self) -> String {
        configuration_for(&self.population, &self.local)
    }

    /// The traffic, at the times that it has here.
    fn traffic(&self) -> impl Iterator<Item = (u64, Vec<Script>)> + '_ {
        let later = self.later;
        self.population.traffic().map(move |(hour, mut scripts)| {
            for script in &mut scripts {
                script.start += later;
            }
            (hour + later, scripts)
        })
    }

    /// The windows of the past.
    fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        let now = self.now;
        let start = |window: &Window| milliseconds(window.started_at);
        let mut from = 0;
        let stages = WINDOWS.map(|(length, until)| {
            let to = (now - until) / length * length;
            (length, std::mem::replace(&mut from, to), to)
        });
        let windows = stages.into_iter().flat_map(move |(length, from, to)| {
            // What was open for longer than this before is no connection of this traffic.
            let hours = self
                .traffic()
                .skip_while(move |(hour, _)| hour + 3 * HOUR < from)
                .take_while(move |(hour, _)| *hour < to);
            Stream::new(hours, Duration::from_millis(length))
                .skip_while(move |window| start(window) < from)
                .take_while(move |window| start(window) < to)
        });
        windows.filter(move |window| {
            let ago = now - start(window);
            OFF.iter()
                .all(|(from, to)| ago > from * HOUR || ago <= to * HOUR)
        })
    }

    /// Writes the past into a new store, and says how many verdicts there are.
    pub fn write_past(&self, store: &Path) -> Result<usize, Failure> {
        let path = store;
        let mut store = Store::open_for(path, self.local.clone(), 100_000)?;
        let mut follower = Follower::new(&Limits::default());
        let relays = relays(&self.population);
        let mut court = Court::new(&Settings::default(), self.local.clone(), relays);
        let mut day = None;
        for (epoch, mut window) in (1..).zip(self.windows()) {
            window.epoch = epoch;
            let start = milliseconds(window.started_at);
            let followed = follower.follow(&window);
            store.commit(1, &window, &followed.folded);
            while store.tidy() {}
            let hour = Bucket {
                segment: store.clock().segment,
                start: Tier::Hour.start_of(start),
                tier: Tier::Hour,
            };
            let changes = court.add(&window, &followed.folded, hour);
            store.write_verdicts(&changes)?;
            if start % DAY >= 10 * HOUR && day != Some(start / DAY) {
                day = Some(start / DAY);
                store.write_verdicts(&court.docket.unsaved())?;
                self.people(path, &store, start)?;
                let (verdicts, next) = store.load_verdicts(court.docket.horizon(start))?;
                court.docket.load(verdicts, next);
            }
        }
        store.write_verdicts(&court.docket.unsaved())?;
        let state = store.state();
        assert_eq!((&state.failure, &state.history_failure), (&None, &None));
        Ok(store.verdicts(&VerdictFilter::default())?.len())
    }

    /// What people do at ten in the morning.
    fn people(&self, path: &Path, store: &Store, at: u64) -> Result<(), Failure> {
        for verdict in store.verdicts(&VerdictFilter::default())? {
            let of = |kind: &str| verdict.subject.addr() == self.host(kind).address;
            let fresh = verdict.state == VerdictState::New;
            let age = at.saturating_sub(verdict.opened_at);
            let (to, who, why) = if of("scanner") && fresh {
                let why = "wrote to the chair of physics, ticket 4711";
                (VerdictState::Notified, "ben", why)
            } else if of("scanner") && verdict.state == VerdictState::Notified && age > 2 * DAY {
                (VerdictState::Resolved, "ben", "reinstalled")
            } else if of("many_messages") && fresh {
                let why = "sends the backup's reports, agreed with the owner";
                (VerdictState::FalsePositive, "anna", why)
            } else if of("refused") && fresh && age > DAY {
                let why = "the owner is away until Monday";
                (VerdictState::Acknowledged, "anna", why)
            } else {
                continue;
            };
            change_verdict(
                path,
                &PersonalChange {
                    id: verdict.id,
                    to,
                    who,
                    why,
                    at,
                },
            )?;
        }
        Ok(())
    }

    /// Sends the traffic from now on, from an interface in the network namespace of this thread, each
    /// frame at its time, until it is told to stop. What was due long ago is left out.
    pub fn send(&self, interface: &str, stop: &AtomicBool) {
        let mut transmitter = Transmitter::open(interface);
        let recent = self
            .traffic()
            .skip_while(|(hour, _)| hour + HOUR <= self.now)
            .map(|(hour, mut scripts)| {
                scripts.retain(|script| !self.placed.contains(&script.client));
                (hour, scripts)
            });
        // An error says here that it is to end.
        let _ = pcap::in_order(recent, |step, frame| {
            let due = system_time(step.at);
            let now = SystemTime::now();
            if now.duration_since(due).is_ok_and(|late| late > LATE) {
                return Ok(());
            }
            let mut wait = due.duration_since(now).unwrap_or_default();
            while !wait.is_zero() {
                if stop.load(Ordering::Relaxed) {
                    return Err(());
                }
                std::thread::sleep(wait.min(Duration::from_millis(50)));
                wait = due.duration_since(SystemTime::now()).unwrap_or_default();
            }
            transmitter.send(&[frame]);
            Ok(())
        });
    }
}
