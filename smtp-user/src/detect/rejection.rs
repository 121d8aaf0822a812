//! Servers that say no.

use super::failure::percent;
use super::rules::{Compared, Draft, Rules, share};
use super::value::{Share, Within};
use super::{Entry, Facts};
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "rejection",
    summary: "share of 5xx among final replies, in a UTC hour or in the last 24",
    why: "servers know spam, blocked senders and wrong addresses better than any gateway; mail that \
          people wrote is rarely refused",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.rejection.rules(facts, rules),
};

section! {
    /// `rejection`: the share of 5xx among the final replies to a source, in a UTC hour, and in the
    /// last 24 hours for those who send slowly. Final are 5xx replies and accepted messages. After
    /// STARTTLS no reply is seen.
    pub struct Params {
        /// A warning above this share of 5xx.
        pub rejected: Share = Share::thousandths(300);
        /// With at least so many final replies: 1 to 1000000.
        pub replies: Within<1, 1_000_000> = Within::new(20);
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        for (number, name) in [(1, "in the hour"), (24, "in the last 24 hours")] {
            let (sum, period, covered) = facts.last_hours(number);
            let rejected = u64::from(sum.rejected);
            let replies = rejected + u64::from(sum.accepted);
            rules.add(
                Draft {
                    severity: Severity::Warning,
                    period,
                    covered,
                    bar: facts.without_flows(),
                    figures: &[
                        Compared::share_above("rejected", share(rejected, replies), self.rejected),
                        Compared::at_least("final replies", replies, self.replies, "replies"),
                    ],
                },
                || {
                    format!(
                        "more than {} of at least {} final replies {name} were 5xx",
                        percent(self.rejected),
                        self.replies.get()
                    )
                },
            );
        }
    }
}
