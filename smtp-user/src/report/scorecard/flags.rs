//! When hosts were flagged.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::NEAR;
use crate::model::complaint::Complaint;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictState};

/// What verdicts say of a host that was reported. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flagged {
    /// It was flagged so long before.
    Before(u64),
    /// It was flagged so long after, and not before.
    After(u64),
    /// It was not flagged.
    Never,
}

impl Flagged {
    /// As in JSON and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before(_) => "before",
            Self::After(_) => "after",
            Self::Never => "never",
        }
    }
}

/// Prefixes, to be found by the addresses in them.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    all: HashSet<IpNet>,
    /// The lengths that there are, of IPv4 and of IPv6.
    lengths: [BTreeSet<u8>; 2],
}

impl Prefixes {
    /// All that contain this address.
    pub fn containing(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        lengths.iter().filter_map(move |length| {
            let prefix = IpNet::new(address, *length).ok()?.trunc();
            self.all.contains(&prefix).then_some(prefix)
        })
    }
}

impl FromIterator<IpNet> for Prefixes {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let mut found = Self::default();
        for prefix in prefixes {
            found.lengths[usize::from(prefix.addr().is_ipv6())].insert(prefix.prefix_len());
            found.all.insert(prefix.trunc());
        }
        found
    }
}

/// From when to when a verdict was open; the end of the last one may never have come.
#[derive(Clone, Copy, Debug)]
struct Life {
    from: u64,
    to: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    subjects: Prefixes,
    lives: HashMap<IpNet, Vec<Life>>,
}

impl Flags {
    /// From verdicts with their events, the earliest event first.
    pub fn of(verdicts: &[(Verdict, Vec<VerdictEvent>)]) -> Self {
        let mut lives: HashMap<IpNet, Vec<Life>> = HashMap::new();
        for (verdict, events) in verdicts {
            if verdict.state == VerdictState::FalsePositive {
                continue;
            }
            let of_subject = lives.entry(verdict.subject.trunc()).or_default();
            let mut open = None;
            for event in events {
                if event.to == VerdictState::New {
                    open.get_or_insert(event.at);
                } else if !event.to.is_open()
                    && let Some(from) = open.take()
                {
                    of_subject.push(Life { from, to: event.at });
                }
            }
            of_subject.extend(open.map(|from| Life { from, to: u64::MAX }));
        }
        Self {
            subjects: lives.keys().copied().collect(),
            lives,
        }
    }

    /// Whether its host was flagged before a complaint was made.
    pub fn of_complaint(&self, complaint: &Complaint) -> Flagged {
        let at = complaint.at;
        let lives = || {
            let subjects = self.subjects.containing(complaint.address);
            subjects.flat_map(|subject| self.lives.get(&subject).into_iter().flatten())
        };
        let before = lives()
            .filter(|life| life.from <= at && life.to >= at.saturating_sub(NEAR))
            .map(|life| life.from)
            .min();
        if let Some(from) = before {
            return Flagged::Before(at - from);
        }
        let after = lives()
            .filter(|life| life.from > at && life.from - at <= NEAR)
            .map(|life| life.from - at)
            .min();
        after.map_or(Flagged::Never, Flagged::After)
    }
}
