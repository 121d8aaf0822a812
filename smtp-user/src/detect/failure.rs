//! Connections that come to nothing.
//!
//! Which connections failed is told by what crosses the border, and where answers take another way,
//! nothing may be made of their absence. So a connection is counted here only if its end is certain:
//!
//! - answered: a SYN-ACK was seen, or refused: a reset was;
//! - to a server that got nothing but SYNs from the source in the hour and was never seen to answer.
//!   Had it answered, on whatever path, the source would have gone on, and that is on this path.
//!
//! The others are out of sight: those to a server that the source talks to while no answer is seen,
//! and those of an answering server whose own answer was not seen. Where they are more than half of the
//! source's connections, the rule is not applied: a one-sided path accuses nobody. A flood of SYNs to
//! dead addresses is in sight.

use super::rules::{Compared, Draft, Rules, share};
use super::value::{Share, Within};
use super::{Entry, Facts};
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "failure",
    summary: "share of answered connections in a UTC hour, where their end is in sight",
    why: "old address lists and scans run into servers that are gone or refuse; where answers take \
          another way, nobody is accused",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.failure.rules(facts, rules),
};

section! {
    /// `failure`: the share of a source's connections that were answered in a UTC hour. Applied only
    /// where the end of enough of its connections is in sight: answered, refused, or to a server that
    /// got nothing but SYNs. Answers that take another way accuse nobody.
    pub struct Params {
        /// A warning below this share of answered connections.
        pub answered: Share = Share::thousandths(500);
        /// With at least so many connections in sight: 1 to 1000000.
        pub attempts: Within<1, 1_000_000> = Within::new(30);
        /// Where at least this share of the connections is in sight.
        pub visible: Share = Share::thousandths(500);
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let peers = &facts.peers;
        let visible = share(peers.decided, facts.counts.totals.connections);
        let bar = facts.without_flows().or_else(|| {
            let out_of_sight = facts.counts.totals.connections > 0 && visible < self.visible.get();
            out_of_sight.then(|| {
                "the end of too many of its connections is out of sight: answers seem to take another \
                 way"
                .into()
            })
        });
        rules.add(
            Draft {
                severity: Severity::Warning,
                period: facts.hour_so_far(),
                covered: facts.covered,
                bar,
                figures: &[
                    Compared::share_below(
                        "answered",
                        share(peers.answered, peers.decided),
                        self.answered,
                    ),
                    Compared::at_least("attempts", peers.decided, self.attempts, "connections"),
                ],
            },
            || {
                format!(
                    "fewer than {} of at least {} connections in sight answered in the hour",
                    percent(self.answered),
                    self.attempts.get()
                )
            },
        );
    }
}

/// Whether most of the connections came to nothing, as far as they are in sight.
pub(super) fn is_failing(facts: &Facts) -> bool {
    let peers = &facts.peers;
    let connections = facts.counts.totals.connections;
    connections > 0
        && share(peers.decided, connections) >= 0.5
        && share(peers.answered, peers.decided) < 0.5
}

/// As people write it.
pub(super) fn percent(share: Share) -> String {
    format!("{} %", (share.get() * 1000.0).round() / 10.0)
}
