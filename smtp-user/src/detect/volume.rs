//! Many connections in an hour, of a source and of a source to one server.

use std::net::IpAddr;

use super::rules::{Compared, Draft, Rules};
use super::{Entry, Facts, Relay};
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "volume",
    summary: "connections in a UTC hour, of a source and of a source to one server",
    why: "people's machines hand their mail to a relay and open a few connections an hour; 98.6 % of \
          the ancestor's sources stayed below 31 and 99.7 % below 101",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.volume.rules(facts, rules),
};

section! {
    /// `volume`: connections in a UTC hour, of a source and of a source to one server. A source is
    /// flagged that opens more than these.
    pub struct Params {
        /// A notice above so many connections. People's machines hand their mail to a relay; 30 an
        /// hour is one every two minutes.
        pub notice: u32 = 30;
        /// A warning above so many connections.
        pub warning: u32 = 100;
        /// A notice above so many connections to one server.
        pub server_notice: u32 = 30;
        /// A warning above so many connections to one server.
        pub server_warning: u32 = 100;
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let connections = facts.counts.totals.connections;
        for (severity, limit) in [
            (Severity::Notice, self.notice),
            (Severity::Warning, self.warning),
        ] {
            rules.add(
                Draft {
                    severity,
                    period: facts.hour_so_far(),
                    covered: facts.covered,
                    bar: None,
                    figures: &[Compared::above(
                        "connections",
                        connections,
                        limit,
                        "connections",
                    )],
                },
                || match facts.peers.busiest {
                    Some((server, most)) => format!(
                        "more than {limit} connections in the hour; the most, {most}, to {}",
                        IpAddr::from(server)
                    ),
                    None => format!("more than {limit} connections in the hour"),
                },
            );
        }
        let most = facts.peers.busiest.map_or(0, |(_, most)| most);
        for (severity, limit) in [
            (Severity::Notice, self.server_notice),
            (Severity::Warning, self.server_warning),
        ] {
            rules.add(
                Draft {
                    severity,
                    period: facts.hour_so_far(),
                    covered: facts.covered,
                    bar: facts.without_flows(),
                    figures: &[Compared::above(
                        "connections to one server",
                        most,
                        limit,
                        "connections",
                    )],
                },
                || match facts.peers.busiest {
                    Some((server, _)) => format!(
                        "more than {limit} connections to one server in the hour, {}",
                        IpAddr::from(server)
                    ),
                    None => format!("more than {limit} connections to one server in the hour"),
                },
            );
        }
    }
}

/// The only rule for a known relay with a limit of its own.
pub(super) fn relay_rule(relay: &Relay, limit: u32, facts: &Facts, rules: &mut Rules) {
    rules.of(ENTRY.name);
    rules.add(
        Draft {
            severity: Severity::Warning,
            period: facts.hour_so_far(),
            covered: facts.covered,
            bar: None,
            figures: &[Compared::above(
                "connections",
                facts.counts.totals.connections,
                limit,
                "connections",
            )],
        },
        || {
            format!(
                "more than {limit} connections in the hour, the limit of the known relay {}",
                relay.prefix
            )
        },
    );
}
