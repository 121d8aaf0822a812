//! Who is flagged: what open verdicts say of an address.
//!
//! Contract: an address is flagged by the verdicts of the longest prefix that it is judged with.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::verdict::{Severity, Verdict, VerdictState};

/// The open verdicts of one who is flagged.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::serve) struct Flag {
    /// Their worst severity.
    pub(in crate::serve) severity: Severity,
    /// The state of the worst; of several the one with the most to do.
    pub(in crate::serve) state: VerdictState,
    /// Their numbers, the lowest first.
    pub(in crate::serve) verdicts: Vec<u64>,
    /// How far the worst figure is beyond its limit: 2 is twice the limit.
    pub(in crate::serve) score: f64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct Flags {
    of: HashMap<IpNet, Flag>,
    /// Lengths of the prefixes of IPv4 and IPv6, the longest first.
    lengths: [Vec<u8>; 2],
}

impl Flags {
    /// Of these verdicts, as far as they are open.
    pub(in crate::serve) fn new<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Self {
        let mut flags = Self::default();
        for verdict in verdicts {
            if verdict.state.is_open() {
                flags.add(verdict);
            }
        }
        for lengths in &mut flags.lengths {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        flags
    }

    fn add(&mut self, verdict: &Verdict) {
        let Verdict {
            id,
            subject,
            severity,
            state,
            rule,
            ..
        } = verdict;
        let beyond = |(value, limit, below): (f64, f64, bool)| {
            let (part, whole) = if below {
                (limit, value)
            } else {
                (value, limit)
            };
            if whole > 0.0 { part / whole } else { 0.0 }
        };
        let score = rule
            .figures
            .iter()
            .map(|figure| beyond((figure.value, figure.limit, figure.below)))
            .fold(0.0, f64::max);
        self.lengths[usize::from(matches!(subject, IpNet::V6(_)))].push(subject.prefix_len());
        let flag = self.of.entry(subject.trunc()).or_insert(Flag {
            severity: *severity,
            state: *state,
            verdicts: Vec::new(),
            score: 0.0,
        });
        // Of the worst severity, the state that comes first in a verdict's life.
        if (*severity, std::cmp::Reverse(*state)) > (flag.severity, std::cmp::Reverse(flag.state)) {
            (flag.severity, flag.state) = (*severity, *state);
        }
        let place = flag.verdicts.partition_point(|other| other < id);
        flag.verdicts.insert(place, *id);
        flag.score = flag.score.max(score);
    }

    /// What is said of an address.
    pub(in crate::serve) fn of(&self, address: IpAddr) -> Option<&Flag> {
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        lengths.iter().find_map(|length| {
            let prefix = IpNet::new(address, *length).ok()?.trunc();
            self.of.get(&prefix)
        })
    }
}
