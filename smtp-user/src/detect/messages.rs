//! Many messages, in however few connections.

use smtp_common::speech::Speech;

use super::rules::{Compared, Draft, Rules};
use super::{Entry, Facts};
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "messages",
    summary: "MAIL commands in a UTC hour",
    why: "a bot that sends 18 messages in each connection hides from every count of connections; people \
          do not write one a minute",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.messages.rules(facts, rules),
};

section! {
    /// `messages`: MAIL commands of a source in a UTC hour, each of which begins a message. After
    /// STARTTLS none is seen.
    pub struct Params {
        /// A notice above so many messages.
        pub notice: u32 = 60;
        /// A warning above so many messages.
        pub warning: u32 = 200;
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let messages = facts.counts.sessions.said.of(Speech::MAIL);
        for (severity, limit) in [
            (Severity::Notice, self.notice),
            (Severity::Warning, self.warning),
        ] {
            rules.add(
                Draft {
                    severity,
                    period: facts.hour_so_far(),
                    covered: facts.covered,
                    bar: facts.without_flows(),
                    figures: &[Compared::above("messages", messages, limit, "messages")],
                },
                || format!("more than {limit} messages begun in the hour"),
            );
        }
    }
}
