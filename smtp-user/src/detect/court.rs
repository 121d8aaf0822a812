//! The judge and the docket together: windows in, changes of verdicts out.
//!
//! Contract: as pure as both. Live traffic and a replay go through here, and nothing else decides.

use ipnet::IpNet;

use super::{Docket, Judge, Relay, Settings};
use crate::model::period::{Bucket, milliseconds};
use crate::model::verdict::VerdictChange;
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
