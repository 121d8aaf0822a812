//! What the packets of a source are like. It accuses nobody: it is the class of whom others accuse.

use super::rules::{Compared, Draft, Rules};
use super::{Entry, Facts};
use crate::model::Counts;
use crate::model::verdict::{Severity, SizeClass};

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "size",
    summary: "class of a flagged source by the mean of its packets to servers: small or large",
    why: "small packets are probes, refusals and SYN floods, large ones moved mail: the next step differs",
    accuses: false,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.size.rules(facts, rules),
};

section! {
    /// `size`: the class of a flagged source, by the mean layer-3 length of its packets to servers in
    /// the UTC hour. It flags nobody.
    pub struct Params {
        /// Small below so many bytes, large from there on.
        pub bytes: u32 = 100;
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let limit = self.bytes;
        let mean = facts.counts.mean_size();
        let bar = mean
            .is_none()
            .then(|| "it sent no packet to a server in the hour".into());
        rules.add(
            Draft {
                severity: Severity::Notice,
                period: facts.hour_so_far(),
                // A mean of what was seen needs no more.
                covered: 1.0,
                bar,
                figures: &[Compared::mean_below(
                    "mean packet",
                    mean.unwrap_or(0.0),
                    limit,
                    "bytes",
                )],
            },
            || format!("packets to servers of fewer than {limit} bytes in the mean: class small"),
        );
    }

    /// The class of a source with these counts.
    pub(super) fn class(&self, counts: &Counts) -> Option<SizeClass> {
        let mean = counts.mean_size()?;
        Some(if mean < f64::from(self.bytes) {
            SizeClass::Small
        } else {
            SizeClass::Large
        })
    }
}
