//! The judge and the docket together: windows in, changes of verdicts out.
//!
//! Contract: as pure as both. Live traffic and a replay go through here, and nothing else decides.

use ipnet::IpNet;

use super::{Docket, Judge, Policy, Relay, Settings};
use crate::model::period::{Bucket, milliseconds};
use crate::model::prefix::show;
use crate::model::verdict::{Unjudged, VerdictChange};
use crate::model::{Folded, Window};

/// See the module.
pub struct Court {
    /// Finds.
    pub judge: Judge,
    /// Keeps.
    pub docket: Docket,
}

impl Court {
    /// Without a case.
    pub fn new(settings: &Settings, local: Vec<IpNet>, relays: Vec<Relay>) -> Self {
        Self {
            judge: Judge::new(settings.clone(), local, relays),
            docket: Docket::new(settings),
        }
    }

    /// Goes by this policy from now on, see [`Judge::set_policy`] and [`Docket::set_settings`].
    pub fn set_policy(&mut self, policy: Policy) {
        self.docket.set_settings(policy.settings());
        self.judge.set_policy(policy);
    }

    /// Ends the open verdicts about known relays, which are not judged. Those with a limit of their own
    /// are judged by it.
    pub fn excuse(&mut self, now: u64) -> Vec<VerdictChange> {
        let Self { judge, docket } = self;
        let policy = judge.policy();
        docket.resolve(now, |subject| match policy.unjudged(subject, now) {
            Some(Unjudged::Excused { entry, why, .. }) => {
                Some(format!("known relay {}: {why}", show(&entry)))
            }
            _ => None,
        })
    }

    /// Adds a window, with what its flows add, to the hour in which it began, a bucket of history.
    pub fn add(&mut self, window: &Window, folded: &Folded, hour: Bucket) -> Vec<VerdictChange> {
        let findings = self.judge.add(window, folded, hour);
        let end = window
            .started_at
            .checked_add(window.length)
            .unwrap_or(window.started_at);
        self.docket.apply(&findings, milliseconds(end))
    }
}
