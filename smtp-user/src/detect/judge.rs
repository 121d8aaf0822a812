//! Judges windows as they come.
//!
//! Contract: windows in, findings out; no clock and no I/O. What it finds at the end of an hour does not
//! depend on the order of the windows in it. Only own hosts are watched, and of them only what they do
//! as clients.
//!
//! **Time.** A window counts for the hour in which it began. One that is longer than an hour (the
//! agent was away, the kernel went on) is judged by itself, as the hour in which it began, with its
//! counts divided by the hours that it lasted, rounded up: in some hour there were at least so many, so
//! nobody is accused by what nobody saw. That hour counts as one with gaps.
//!
//! **Memory.** At most `detect.subjects` subjects, [`PAIRS`] pairs of subject and server, and
//! [`HOURS`] past hours of a subject. A subject takes 72 bytes, 232 more in an hour in which it is
//! active, 48 for each pair and 16 for each past hour, and up to twice that with the room that tables
//! and lists have in reserve: at most 85 MB with the default limits and all of them reached. What finds
//! no place is counted: a subject is not judged, a pair is taken for one more server that is not told
//! apart, and an hour is forgotten. Hours in which a subject was below the limits of `persistence` can
//! take no more than half of the places.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use smtp_common::packet::Address;

use super::facts::{Facts, Line, Past, REACH, as_client};
use super::hour::{Hour, per_hour};
use super::{Policy, Relay, Settings, failure};
use crate::model::period::{Bucket, Coverage, Tier, milliseconds};
use crate::model::verdict::{Rule, SizeClass, Verdict, Why};
use crate::model::{Counts, Folded, PairKey, Window};

/// Pairs of subject and server that are kept at a time.
pub const PAIRS: usize = 1 << 18;
/// Past hours of subjects that are kept at a time.
pub const HOURS: usize = 1 << 20;

const HOUR: Duration = Duration::from_hours(1);

/// That a detector flags a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Whom.
    pub subject: IpNet,
    /// The worst rule of the detector that holds; of several, the first.
    pub rule: Rule,
    /// What its packets are like.
    pub size: Option<SizeClass>,
    /// Whether its connections mostly came to nothing.
    pub failing: bool,
    /// When the hour began in which it was found, in milliseconds since 1970.
    pub hour: u64,
}

/// What found no place, since the judge was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unkept {
    /// Own hosts in windows, each counted once a window, that are not judged.
    pub unjudged: u64,
    /// Hours of subjects that were forgotten when they were over.
    pub hours: u64,
}

#[derive(Default)]
struct Subject {
    /// The running hour, if there was anything in it.
    hour: Option<Box<Hour>>,
    /// Past hours with anything in them by their number, the earliest first.
    past: VecDeque<(u32, Past)>,
    /// The last window that it was in.
    window: u64,
}

// As the contract says.
const _: () = assert!(size_of::<(IpNet, Subject)>() == 72);
const _: () = assert!(size_of::<Hour>() == 232);
const _: () = assert!(size_of::<(u32, Past)>() == 16);

/// See the module.
pub struct Judge {
    policy: Policy,
    subjects: HashMap<IpNet, Subject>,
    /// Room for pairs.
    room: usize,
    /// Past hours kept.
    hours: usize,
    /// Closed hours, the latest first, at most [`REACH`].
    closed: VecDeque<Coverage>,
    /// The number of the latest of them; they are numbered from 1.
    number: u32,
    line: Line,
    running: Option<Coverage>,
    /// How much of the last window reached into the next hour.
    ahead: Duration,
    now: u64,
    /// The number of the last window.
    window: u64,
    unkept: Unkept,
}

impl Judge {
    /// With these settings, for own hosts in these prefixes, of which some are known relays.
    pub fn new(settings: Settings, local: Vec<IpNet>, relays: Vec<Relay>) -> Self {
        Self::with_policy(Policy::new(settings, local, relays))
    }

    /// With this policy.
    pub fn with_policy(policy: Policy) -> Self {
        Self {
            policy,
            subjects: HashMap::new(),
            room: PAIRS,
            hours: 0,
            closed: VecDeque::new(),
            number: 0,
            line: Line::none(),
            running: None,
            ahead: Duration::ZERO,
            now: 0,
            window: 0,
            unkept: Unkept::default(),
        }
    }

    /// Who is judged, and by which rules.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// See [`Policy::know`]. Where addresses are judged as others than before, what was counted for them
    /// stays where it is: only a judge that takes over history anew has it right.
    pub fn know(&mut self, stored: &[Relay]) -> bool {
        self.policy.know(stored)
    }

    /// Judges by this policy from now on. What was counted stays where it is, as for [`Judge::know`].
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Subjects that are watched.
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// What found no place.
    pub const fn unkept(&self) -> Unkept {
        self.unkept
    }

    /// Takes over the hours of earlier runs, in the order in which they were counted: those that are
    /// closed, and the one that was running when the newest window ended. What was counted in them
    /// follows, by [`Judge::remember`] and [`Judge::remember_pair`]. Only a judge that has seen no
    /// window can.
    pub fn begin(&mut self, now: u64, closed: &[Coverage], running: Option<Coverage>) {
        self.now = now;
        for coverage in closed {
            self.number += 1;
            self.closed.push_front(*coverage);
        }
        self.closed.truncate(REACH);
        self.running = running;
        self.draw_line();
    }

    /// Takes over what was counted for a source in one of these hours.
    pub fn remember(&mut self, bucket: Bucket, address: Address, counts: &Counts) {
        let ip = IpAddr::from(address);
        let counts = as_client(counts);
        if !self.policy.is_own(ip) || !is_active(&counts) {
            return;
        }
        if self.running.is_some_and(|running| running.bucket == bucket) {
            if let Some(subject) = self.subject(ip) {
                subject.hour.get_or_insert_default().add(&counts);
            }
            return;
        }
        let place = self.closed.iter().position(|hour| hour.bucket == bucket);
        let past = Past::of(&counts);
        let (Some(place), false) = (place, past.is_empty()) else {
            return;
        };
        let number = self.number - place as u32;
        let kept = self.keeps(&past);
        let Some(subject) = self.subject(ip) else {
            return;
        };
        match subject.past.binary_search_by_key(&number, |(at, _)| *at) {
            Ok(i) => subject.past[i].1.merge(&past),
            Err(i) if kept => {
                subject.past.insert(i, (number, past));
                self.hours += 1;
            }
            Err(_) => self.unkept.hours += 1,
        }
    }

    /// Takes over what was counted for a pair in the running hour, when all sources are taken over.
    pub fn remember_pair(&mut self, pair: PairKey, counts: &Counts) {
        self.add_pair(pair, counts, 1);
    }

    /// Adds a window, with what its flows add, to the hour in which it began, a bucket of history. Gives
    /// what is found about the subjects in it, in their order.
    pub fn add(&mut self, window: &Window, folded: &Folded, hour: Bucket) -> Vec<Finding> {
        debug_assert_eq!(hour.tier, Tier::Hour);
        self.window += 1;
        let start = milliseconds(window.started_at);
        let length = u64::try_from(window.length.as_millis()).unwrap_or(u64::MAX);
        let hours = window.length.as_secs_f64() / HOUR.as_secs_f64();
        let hours = (hours.ceil() as u64).max(1);
        self.turn_to(hour, hours > 1);
        self.now = start.saturating_add(length).max(self.now);
        self.cover(window.length, hours > 1);

        for source in &window.sources {
            let counts = Counts {
                totals: source.totals,
                peak: Counts::peak_of(source.totals.connections, window.length),
                ..Counts::default()
            };
            if !self.add_source(source.address, &counts, hours) {
                self.unkept.unjudged += 1;
            }
        }
        for (address, sessions) in &folded.clients {
            let counts = Counts {
                sessions: *sessions,
                ..Counts::default()
            };
            self.add_source(*address, &counts, hours);
        }
        for (pair, counts) in &folded.pairs {
            self.add_pair(*pair, counts, hours);
        }
        self.judge()
    }

    /// Whether there was a place for it, if it needs one.
    fn add_source(&mut self, address: Address, counts: &Counts, hours: u64) -> bool {
        let ip = IpAddr::from(address);
        let counts = per_hour(&as_client(counts), hours);
        if !is_active(&counts) || !self.policy.is_own(ip) {
            return true;
        }
        let window = self.window;
        let Some(subject) = self.subject(ip) else {
            return false;
        };
        subject.window = window;
        subject.hour.get_or_insert_default().add(&counts);
        true
    }

    fn add_pair(&mut self, pair: PairKey, counts: &Counts, hours: u64) {
        let ip = IpAddr::from(pair.client);
        if !self.policy.is_own(ip) {
            return;
        }
        let key = self.policy.subject_of(ip);
        // A client of a pair is a source as well, so one without a place was counted there.
        let Some(subject) = self.subjects.get_mut(&key) else {
            return;
        };
        let Some(hour) = &mut subject.hour else {
            return;
        };
        hour.add_pair(pair.server, counts, hours, &mut self.room);
    }

    /// The subject of an own address, if there is a place for it.
    fn subject(&mut self, ip: IpAddr) -> Option<&mut Subject> {
        let key = self.policy.subject_of(ip);
        let capacity = self.policy.settings().subjects.get() as usize;
        if self.subjects.len() >= capacity && !self.subjects.contains_key(&key) {
            return None;
        }
        Some(self.subjects.entry(key).or_default())
    }

    /// Whether there is a place for this past hour.
    fn keeps(&self, past: &Past) -> bool {
        let persistence = &self.policy.settings().persistence;
        let limit = persistence.low.min(persistence.high);
        let places = if past.connections > limit {
            HOURS
        } else {
            HOURS / 2
        };
        self.hours < places
    }

    /// What is found about all subjects of the hours that were taken over: for the start, before the
    /// first window.
    pub fn review(&self) -> Vec<Finding> {
        debug_assert_eq!(self.window, 0);
        self.judge()
    }

    /// What is found about the subjects in the last window.
    fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let Some(running) = self.running else {
            return findings;
        };
        for (key, subject) in &self.subjects {
            let unjudged = self.policy.unjudged(key, running.bucket.start);
            if subject.window != self.window || unjudged.is_some() {
                continue;
            }
            let facts = self.facts(running, Some(subject));
            let mut worst: Vec<Rule> = Vec::new();
            for rule in self.policy.holding(key, &facts) {
                match worst.last_mut() {
                    Some(last) if last.detector == rule.detector => {
                        if rule.severity > last.severity {
                            *last = rule;
                        }
                    }
                    _ => worst.push(rule),
                }
            }
            if worst.is_empty() {
                continue;
            }
            let size = self.policy.settings().size.class(&facts.counts);
            let failing = failure::is_failing(&facts);
            findings.extend(worst.into_iter().map(|rule| Finding {
                subject: *key,
                rule,
                size,
                failing,
                hour: facts.hour,
            }));
        }
        // Not in the order of the map; detectors stay in theirs.
        findings.sort_by_key(|finding| finding.subject);
        findings
    }

    fn facts(&self, running: Coverage, subject: Option<&Subject>) -> Facts {
        let hour = subject.and_then(|subject| subject.hour.as_deref());
        let mut past = Vec::new();
        for (number, counts) in subject.iter().flat_map(|subject| subject.past.iter().rev()) {
            let back = (self.number - number) as usize;
            if let Some(place) = self.line.places.get(back) {
                past.push((*place, *counts));
            }
        }
        Facts::new(self.now, running, hour, &self.line, past)
    }

    /// What is known of an address; `None` before the first window.
    pub fn facts_of(&self, address: IpAddr) -> Option<Facts> {
        let subject = self.policy.subject_of(address);
        let subject = self.subjects.get(&subject);
        Some(self.facts(self.running?, subject))
    }

    /// Why an address is flagged or not, given its verdicts; `None` before the first window.
    pub fn why(&self, address: IpAddr, verdicts: Vec<Verdict>) -> Option<Why> {
        let facts = self.facts_of(address)?;
        let full = self.subjects.len() >= self.policy.settings().subjects.get() as usize;
        let key = self.policy.subject_of(address);
        let no_place = full && !self.subjects.contains_key(&key);
        Some(self.policy.why(address, &facts, verdicts, no_place))
    }

    /// Closes the running hour if this is another one, or if the window in it stands `alone`.
    fn turn_to(&mut self, hour: Bucket, alone: bool) {
        let same = self.running.is_some_and(|running| running.bucket == hour);
        if same && !alone {
            return;
        }
        if self
            .running
            .is_some_and(|running| running.bucket.segment != hour.segment)
        {
            // The clock was set back, and now is earlier than before.
            self.now = 0;
        }
        let ahead = std::mem::take(&mut self.ahead);
        let mut follows = false;
        if let Some(closed) = self.running {
            follows = closed.bucket.segment == hour.segment
                && closed.bucket.start.saturating_add(milliseconds_of(HOUR)) == hour.start;
            self.close(closed);
        }
        self.running = Some(Coverage {
            bucket: hour,
            up: if follows { ahead } else { Duration::ZERO },
        });
        self.draw_line();
    }

    fn close(&mut self, closed: Coverage) {
        self.closed.push_front(closed);
        self.closed.truncate(REACH);
        self.number += 1;
        let earliest = self.number.saturating_sub(REACH as u32 - 1);
        let mut subjects = std::mem::take(&mut self.subjects);
        for subject in subjects.values_mut() {
            while subject
                .past
                .front()
                .is_some_and(|(number, _)| *number <= earliest)
            {
                subject.past.pop_front();
                self.hours -= 1;
            }
            let Some(hour) = subject.hour.take() else {
                continue;
            };
            self.room += hour.pairs();
            let past = Past::of(&hour.counts);
            if past.is_empty() {
                continue;
            }
            if self.keeps(&past) {
                subject.past.push_back((self.number, past));
                self.hours += 1;
            } else {
                self.unkept.hours += 1;
            }
        }
        subjects.retain(|_, subject| !subject.past.is_empty());
        // A flood is over at some time; its memory goes back.
        if subjects.len() < subjects.capacity() / 8 {
            subjects.shrink_to(subjects.len() * 2);
        }
        self.subjects = subjects;
    }

    fn draw_line(&mut self) {
        if let Some(running) = self.running {
            self.line = Line::new(running.bucket, self.closed.iter());
        }
    }

    /// Notes that packets were counted for so long from the start of the last window on.
    fn cover(&mut self, length: Duration, alone: bool) {
        let Some(running) = &mut self.running else {
            return;
        };
        if alone {
            // What was seen in which hour of it nobody knows.
            return;
        }
        let end = running.bucket.start.saturating_add(milliseconds_of(HOUR));
        let beyond = Duration::from_millis(self.now.saturating_sub(end)).min(length);
        running.up = (running.up + (length - beyond)).min(HOUR);
        self.ahead = beyond;
    }
}

const fn milliseconds_of(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Whether it did anything as a client.
fn is_active(counts: &Counts) -> bool {
    let totals = &counts.totals;
    totals.connections | totals.syn_retx | totals.c2s_packets | totals.answered | totals.refused
        != 0
        || counts.sessions != crate::model::session::Sessions::default()
}
