//! Connections to many servers.

use super::rules::{Compared, Draft, Rules};
use super::value::Within;
use super::{Entry, Facts};
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "fanout",
    summary: "different servers in a UTC hour",
    why: "a bot that touches hundreds of servers once each is invisible per server; people's machines \
          talk to one or two",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.fanout.rules(facts, rules),
};

section! {
    /// `fanout`: different servers that a source opens connections to in a UTC hour. Servers are told
    /// apart up to 1024; where there are more, the number is a lower bound or an estimate.
    pub struct Params {
        /// A warning above so many servers: up to 1000.
        pub servers: Within<0, 1000> = Within::new(20);
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let limit = self.servers.get();
        let servers = facts.peers.servers;
        rules.add(
            Draft {
                severity: Severity::Warning,
                period: facts.hour_so_far(),
                covered: facts.covered,
                bar: facts.without_flows(),
                figures: &[Compared::above("servers", servers.count, limit, "servers")],
            },
            || match servers.exact {
                true => format!("connections to more than {limit} servers in the hour"),
                false => format!(
                    "connections to more than {limit} servers in the hour; the number is no exact one"
                ),
            },
        );
    }
}
