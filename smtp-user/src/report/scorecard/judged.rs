//! What people have said of verdicts.
//!
//! Contract: who calls a verdict a false positive says that it was wrong. Who tells the owner, or ends it,
//! says that it was right; but not who makes the host a known relay. What the agent does by itself says
//! nothing. A host is wrong only if none of its verdicts was right.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::model::period::Period;
use crate::model::person::SMTPFLOW;
use crate::model::proportion::Proportion;
use crate::model::relay::RESOLVED_AS_RELAY;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictState};

/// Hosts that were judged, and whether they were rightly flagged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged(BTreeMap<IpNet, bool>);

impl Judged {
    /// By the verdicts that were open or held in a period, with their events.
    pub fn of(verdicts: &[(Verdict, Vec<VerdictEvent>)], period: Period) -> Self {
        let mut hosts: BTreeMap<IpNet, bool> = BTreeMap::new();
        for (verdict, events) in verdicts {
            if verdict.opened_at >= period.to || verdict.last_at < period.from {
                continue;
            }
            if let Some(right) = judged(verdict, events) {
                *hosts.entry(verdict.subject.trunc()).or_default() |= right;
            }
        }
        Self(hosts)
    }

    /// Whether a host was rightly flagged, if anybody has said so.
    pub fn right(&self, subject: &IpNet) -> Option<bool> {
        self.0.get(subject).copied()
    }

    /// The right ones of all.
    pub fn precision(&self) -> Proportion {
        Proportion {
            part: self.0.values().filter(|right| **right).count() as u64,
            whole: self.0.len() as u64,
        }
    }
}

fn judged(verdict: &Verdict, events: &[VerdictEvent]) -> Option<bool> {
    if verdict.state == VerdictState::FalsePositive {
        return Some(false);
    }
    let right = |event: &VerdictEvent| {
        event.who != SMTPFLOW
            && match event.to {
                VerdictState::Notified => true,
                VerdictState::Resolved => !event.why.starts_with(RESOLVED_AS_RELAY),
                _ => false,
            }
    };
    events.iter().any(right).then_some(true)
}
