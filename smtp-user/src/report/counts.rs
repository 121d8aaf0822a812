//! The counts of a source or of a pair, as every report has them.

use smtp_common::flow::Totals;

use crate::answer::answer;
use crate::answer::session::{Commands, Replies};
use crate::model::Counts;
use crate::model::session::{COMMANDS, Outcome, Outcomes, REPLIES, Servers, Sessions};

/// The eight counts with their names, in the order in which they are shown.
pub fn totals(totals: &Totals) -> [(&'static str, u64); 8] {
    let Totals {
        connections,
        syn_retx,
        c2s_packets,
        c2s_bytes,
        s2c_packets,
        s2c_bytes,
        answered,
        refused,
    } = *totals;
    [
        ("connections", connections),
        ("syn_retx", syn_retx),
        ("c2s_packets", c2s_packets),
        ("c2s_bytes", c2s_bytes),
        ("s2c_packets", s2c_packets),
        ("s2c_bytes", s2c_bytes),
        ("answered", answered),
        ("refused", refused),
    ]
}

answer! {
    /// Counts, named as in the API.
    #[derive(Clone)]
    pub struct JsonCounts {
        /// Connections opened: pure SYNs that were not seen before.
        connections: u64,
        /// SYNs that were sent again, with the same sequence number.
        syn_retx: u64,
        /// Packets sent to a mail port.
        c2s_packets: u64,
        /// Layer-3 bytes of these.
        c2s_bytes: u64,
        /// Packets sent from a mail port.
        s2c_packets: u64,
        /// Layer-3 bytes of these.
        s2c_bytes: u64,
        /// SYN-ACKs that came back.
        answered: u64,
        /// Resets that came back for a SYN.
        refused: u64,
        /// Bytes a packet to servers, in the mean; null without any.
        mean_size: Option<f64>,
        /// New connections per second in the worst window.
        peak_per_second: f64,
        /// Connections that ended, by what became of them.
        outcomes: Outcomes [Outcomes],
        /// Connections that could not be followed.
        unfollowed: u64,
        /// Share of the connections that ended with any packet of the server; null without any.
        visibility: Option<f64>,
        /// Replies by class, of which the first octets of a segment tell.
        replies: Replies [Replies],
        /// Commands, likewise.
        commands: Commands [Commands],
        /// Messages that servers took.
        accepted: u64,
    }
}

impl From<&Counts> for JsonCounts {
    fn from(counts: &Counts) -> Self {
        let Counts {
            totals:
                Totals {
                    connections,
                    syn_retx,
                    c2s_packets,
                    c2s_bytes,
                    s2c_packets,
                    s2c_bytes,
                    answered,
                    refused,
                },
            sessions:
                Sessions {
                    outcomes,
                    unfollowed,
                    said,
                    accepted,
                },
            peak,
        } = *counts;
        Self {
            connections,
            syn_retx,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
            answered,
            refused,
            mean_size: counts.mean_size(),
            peak_per_second: peak as f64 / 1000.0,
            outcomes,
            unfollowed,
            visibility: outcomes.visibility(),
            replies: said.named(REPLIES),
            commands: said.named(COMMANDS),
            accepted,
        }
    }
}

/// All counts with their names, as text.
pub fn facts(counts: &Counts) -> Vec<(&'static str, String)> {
    let mut facts: Vec<_> = totals(&counts.totals)
        .into_iter()
        .map(|(name, count)| (name, count.to_string()))
        .collect();
    facts.push(("mean_c2s_packet", mean(counts)));
    facts.push(("peak_per_second", thousandths(counts.peak)));
    facts
}

/// Mean layer-3 length of the packets to servers, as text.
pub fn mean(counts: &Counts) -> String {
    counts
        .mean_size()
        .map_or_else(|| "-".to_owned(), |mean| format!("{mean:.1}"))
}

/// What became of connections and what was said, with names, as text.
pub fn conduct(sessions: &Sessions) -> Vec<(&'static str, String)> {
    let Sessions {
        outcomes,
        unfollowed,
        said,
        accepted,
    } = sessions;
    let counts = Outcome::ALL
        .map(|outcome| (outcome.name(), outcomes.of(outcome)))
        .into_iter()
        .chain([("unfollowed", *unfollowed)])
        .chain(said.named(COMMANDS).0)
        .chain(said.named(REPLIES).0)
        .chain([("accepted", *accepted)]);
    counts
        .map(|(name, count)| (name, count.to_string()))
        .collect()
}

/// How many servers, as text: with `~` where it is an estimate.
pub fn servers(servers: Servers) -> String {
    let Servers { count, exact } = servers;
    if exact {
        count.to_string()
    } else {
        format!("~{count}")
    }
}

/// Thousandths, as text.
pub fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1000, number % 1000)
}
