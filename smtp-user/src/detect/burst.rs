//! Many connections at once.

use super::rules::{Compared, Draft, Rules};
use super::{Entry, Facts};
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "burst",
    summary: "new connections per second, over one window",
    why: "no mail program opens fifty connections a second; floods and scanners do, and are told after \
          one window",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.burst.rules(facts, rules),
};

section! {
    /// `burst`: new connections of one address per second, over one window, by a clock that cannot be
    /// set. A window shorter than a second counts as a second.
    pub struct Params {
        /// A warning above so many connections per second.
        pub per_second: u32 = 50;
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let limit = self.per_second;
        rules.add(
            Draft {
                severity: Severity::Warning,
                period: facts.hour_so_far(),
                covered: facts.covered,
                bar: None,
                figures: &[Compared::rate_above(
                    "connections per second",
                    facts.counts.peak as f64 / 1000.0,
                    limit,
                    "connections/s",
                )],
            },
            || format!("more than {limit} new connections per second over one window of the hour"),
        );
    }
}
