//! What servers have said, and which of them are left alone for a while.
//!
//! Contract: bounded by a number of answers; the oldest gives way. An answer is used for as long as the
//! operator says, the answer that nobody is named for another time, and a failure not at all: its server
//! is left alone, twice as long with each failure in a row. The time is the caller's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::model::owner::{Outcome, OwnerSource};

/// Most answers.
pub(super) const MOST: usize = 4096;
/// Most servers that are left alone: more than can be named.
const MOST_RESTING: usize = 1024;
/// How long a server is left alone after its first failure.
const FIRST_REST: Duration = Duration::from_secs(60);
/// The longest that it is left alone for failures.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) provenance: String,
    pub(super) outcome: Outcome,
    pub(super) at: Instant,
    /// The same by the clock, in milliseconds since 1970, for those who come later.
    pub(super) came: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    answers: HashMap<(OwnerSource, IpAddr), Answer>,
    keep: Duration,
    keep_nobody: Duration,
}

impl Cache {
    /// An empty one that uses answers for so long.
    pub(super) fn new(keep: Duration, keep_nobody: Duration) -> Self {
        Self {
            answers: HashMap::new(),
            keep,
            keep_nobody,
        }
    }

    /// What a source has said about an address, not too long ago.
    pub(super) fn get(
        &self,
        source: OwnerSource,
        address: IpAddr,
        now: Instant,
    ) -> Option<&Answer> {
        let answer = self.answers.get(&(source, subject(address)))?;
        self.is_fresh(answer, now).then_some(answer)
    }

    /// All that was said not too long ago.
    pub(super) fn fresh(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (OwnerSource, IpAddr, &Answer)> {
        let fresh = move |answer: &Answer| self.is_fresh(answer, now);
        self.answers
            .iter()
            .filter(move |(_, answer)| fresh(answer))
            .map(|((source, address), answer)| (*source, *address, answer))
    }

    /// Remembers an answer; a failure is none.
    pub(super) fn put(&mut self, source: OwnerSource, address: IpAddr, answer: Answer) {
        if matches!(answer.outcome, Outcome::Failed { .. }) {
            return;
        }
        let key = (source, subject(address));
        if self.answers.len() >= MOST && !self.answers.contains_key(&key) {
            let now = answer.at;
            let stale: Vec<_> = self
                .answers
                .iter()
                .filter(|(_, answer)| !self.is_fresh(answer, now))
                .map(|(key, _)| *key)
                .collect();
            for key in stale {
                self.answers.remove(&key);
            }
            let oldest = self.answers.iter().min_by_key(|(_, answer)| answer.at);
            if self.answers.len() >= MOST
                && let Some((oldest, _)) = oldest
            {
                let oldest = *oldest;
                self.answers.remove(&oldest);
            }
        }
        self.answers.insert(key, answer);
    }

    fn is_fresh(&self, answer: &Answer, now: Instant) -> bool {
        let keep = match answer.outcome {
            Outcome::Found { .. } => self.keep,
            Outcome::Nobody { .. } => self.keep_nobody,
            Outcome::Failed { .. } => Duration::ZERO,
        };
        now.saturating_duration_since(answer.at) < keep
    }
}

/// What an answer is about: an IPv4 address, for an IPv6 host has as many addresses as it likes in its /64.
/// Never more than that: within the network of an answer there may be smaller ones of others.
fn subject(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Why a server is left alone.
#[derive(Clone, Debug)]
struct Rest {
    failures: u32,
    until: Instant,
    why: String,
}

/// The servers that are left alone.
#[derive(Debug, Default)]
pub(super) struct Resting(HashMap<String, Rest>);

impl Resting {
    /// For how long a server is still left alone, and why.
    pub(super) fn of(&self, server: &str, now: Instant) -> Option<(Duration, &str)> {
        let rest = self.0.get(server)?;
        let left = rest.until.saturating_duration_since(now);
        (!left.is_zero()).then_some((left, &*rest.why))
    }

    /// It failed, and wants perhaps to be left alone for so long.
    pub(super) fn failed(
        &mut self,
        server: &str,
        why: &str,
        wanted: Option<Duration>,
        now: Instant,
    ) {
        if self.0.len() >= MOST_RESTING {
            self.0.retain(|_, rest| rest.until > now);
        }
        let failures = self
            .0
            .get(server)
            .map_or(0, |rest| rest.failures)
            .saturating_add(1);
        let factor = 1_u32 << (failures - 1).min(16);
        let rest = FIRST_REST.saturating_mul(factor).min(LONGEST_REST);
        if self.0.len() < MOST_RESTING || self.0.contains_key(server) {
            self.0.insert(
                server.to_owned(),
                Rest {
                    failures,
                    until: now + rest.max(wanted.unwrap_or_default()),
                    why: why.to_owned(),
                },
            );
        }
    }

    /// It answered.
    pub(super) fn answered(&mut self, server: &str) {
        self.0.remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::owner::Contact;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn answer(outcome: Outcome, at: Instant) -> Answer {
        Answer {
            provenance: "x".to_owned(),
            outcome,
            at,
            came: 0,
        }
    }

    fn found() -> Outcome {
        Outcome::Found {
            contact: Contact::default(),
            network: None,
            route: None,
        }
    }

    fn nobody() -> Outcome {
        Outcome::Nobody {
            reason: String::new(),
            route: None,
        }
    }

    #[test]
    fn answers_are_used_for_as_long_as_they_may_be() {
        let start = Instant::now();
        let mut cache = Cache::new(100 * SECOND, 10 * SECOND);
        let has = |cache: &Cache, address: &str, after: u32| {
            cache
                .get(OwnerSource::Rdap, ip(address), start + after * SECOND)
                .is_some()
        };
        cache.put(OwnerSource::Rdap, ip("192.0.2.1"), answer(found(), start));
        cache.put(OwnerSource::Rdap, ip("192.0.2.2"), answer(nobody(), start));
        let reason = "asleep".to_owned();
        cache.put(
            OwnerSource::Rdap,
            ip("192.0.2.3"),
            answer(Outcome::Failed { reason }, start),
        );
        assert!(has(&cache, "192.0.2.1", 99) && !has(&cache, "192.0.2.1", 100));
        assert!(has(&cache, "192.0.2.2", 9) && !has(&cache, "192.0.2.2", 10));
        assert!(!has(&cache, "192.0.2.3", 0));
        assert!(
            cache
                .get(OwnerSource::Whois, ip("192.0.2.1"), start)
                .is_none()
        );
        // Another address of the same IPv6 host, and a neighbour.
        cache.put(OwnerSource::Rdap, ip("2001:db8::1"), answer(found(), start));
        assert!(has(&cache, "2001:db8::2", 1) && !has(&cache, "2001:db8:0:1::1", 1));
        assert!(has(&cache, "::ffff:192.0.2.1", 1));
    }

    #[test]
    fn the_oldest_answer_gives_way() {
        let start = Instant::now();
        let mut cache = Cache::new(1_000_000 * SECOND, SECOND);
        for i in 0..MOST as u32 + 10 {
            let address = IpAddr::from(std::net::Ipv4Addr::from(i));
            cache.put(
                OwnerSource::Whois,
                address,
                answer(found(), start + i * SECOND),
            );
        }
        assert_eq!(cache.answers.len(), MOST);
        let end = start + MOST as u32 * SECOND;
        assert!(cache.get(OwnerSource::Whois, ip("0.0.0.9"), end).is_none());
        assert!(cache.get(OwnerSource::Whois, ip("0.0.0.10"), end).is_some());
    }

    #[test]
    fn a_server_that_fails_is_left_alone_for_longer_each_time() {
        let start = Instant::now();
        let mut resting = Resting::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            resting.failed("a", "no answer", None, start);
            let (left, why) = resting.of("a", start).expect("left alone");
            assert_eq!(why, "no answer");
            waits.push(left.as_secs());
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert!(resting.of("b", start).is_none());
        resting.failed("b", "429", Some(7200 * SECOND), start);
        assert_eq!(
            resting.of("b", start).map(|(left, _)| left),
            Some(7200 * SECOND)
        );
        resting.answered("a");
        assert!(resting.of("a", start).is_none());
    }
}
