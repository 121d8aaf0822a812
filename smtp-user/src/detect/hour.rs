//! The counts of one subject in one hour, as they add up.
//!
//! Contract: the order in which windows are added changes nothing, as long as the pairs find room.

use smtp_common::packet::Address;

use super::facts::{Peers, as_client};
use crate::model::Counts;
use crate::model::session::{Outcomes, Said, Servers, Sessions};

/// Servers of one subject that are told apart. No limit of a rule is above it.
pub(super) const SERVERS: usize = 1024;

/// Stands for the servers that are not told apart, in what history keeps.
const OTHERS: Address = Address::from_ipv6([0; 16]);

/// A subject and a server.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    connections: u64,
    answered: u64,
    refused: u64,
    /// Whether the client has sent more than SYNs.
    talked: bool,
}

impl Pair {
    /// Connections of which it is known whether they were answered. A server that got nothing but
    /// SYNs has answered none, or the client would have gone on, on whatever path the answer came. Of
    /// others only what was seen to be answered or refused is known: the rest may have been answered
    /// on another path.
    fn decided(&self) -> u64 {
        if self.answered == 0 && !self.talked {
            return self.connections;
        }
        self.answered
            .saturating_add(self.refused)
            .min(self.connections)
    }
}

// As the judge says.
const _: () = assert!(size_of::<(Address, Pair)>() == 48);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Hour {
    pub(super) counts: Counts,
    /// By the octets of the server's address.
    pairs: Vec<(Address, Pair)>,
    /// Connections to servers that found no room.
    unkept: u64,
    /// Whether there were such servers.
    crowded: bool,
}

impl Hour {
    /// Pairs that are kept.
    pub(super) const fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Adds what was counted for an address of the subject.
    pub(super) fn add(&mut self, counts: &Counts) {
        self.counts.merge(&as_client(counts));
    }

    /// Adds what was counted for an address of the subject and a server, divided by `hours`, if
    /// there is `room` for another pair.
    pub(super) fn add_pair(
        &mut self,
        server: Address,
        counts: &Counts,
        hours: u64,
        room: &mut usize,
    ) {
        let totals = &counts.totals;
        let syns = totals.connections.saturating_add(totals.syn_retx);
        let added = Pair {
            connections: totals.connections / hours,
            answered: totals.answered / hours,
            refused: totals.refused / hours,
            talked: totals.c2s_packets > syns,
        };
        // A pair of which only the end of connections was noted changes nothing.
        if totals.c2s_packets == 0 && totals.answered == 0 && totals.refused == 0 {
            return;
        }
        let place = self
            .pairs
            .binary_search_by_key(&server.octets(), |(server, _)| server.octets());
        match place {
            Ok(i) if server != OTHERS => {
                let pair = &mut self.pairs[i].1;
                pair.connections = pair.connections.saturating_add(added.connections);
                pair.answered = pair.answered.saturating_add(added.answered);
                pair.refused = pair.refused.saturating_add(added.refused);
                pair.talked |= added.talked;
            }
            Err(i) if server != OTHERS && *room > 0 && self.pairs.len() < SERVERS => {
                *room -= 1;
                self.pairs.insert(i, (server, added));
            }
            _ => {
                self.unkept = self.unkept.saturating_add(added.connections);
                self.crowded = true;
            }
        }
    }

    /// What rules look at.
    pub(super) fn peers(&self) -> Peers {
        let mut peers = Peers {
            paired: self.unkept,
            ..Peers::default()
        };
        for (server, pair) in &self.pairs {
            if pair.connections == 0 {
                continue;
            }
            peers.servers.count += 1;
            peers.paired = peers.paired.saturating_add(pair.connections);
            peers.decided = peers.decided.saturating_add(pair.decided());
            peers.answered = peers
                .answered
                .saturating_add(pair.answered.min(pair.connections));
            if peers
                .busiest
                .is_none_or(|(_, most)| pair.connections > most)
            {
                peers.busiest = Some((*server, pair.connections));
            }
        }
        peers.servers = Servers {
            count: peers.servers.count,
            exact: !self.crowded,
        };
        peers
    }
}

/// Every count divided by this number of hours, but for the peak, which is a rate.
pub(super) fn per_hour(counts: &Counts, hours: u64) -> Counts {
    let Counts {
        totals,
        sessions,
        peak,
    } = counts;
    Counts {
        totals: smtp_common::flow::Totals {
            connections: totals.connections / hours,
            syn_retx: totals.syn_retx / hours,
            c2s_packets: totals.c2s_packets / hours,
            c2s_bytes: totals.c2s_bytes / hours,
            s2c_packets: totals.s2c_packets / hours,
            s2c_bytes: totals.s2c_bytes / hours,
            answered: totals.answered / hours,
            refused: totals.refused / hours,
        },
        sessions: Sessions {
            outcomes: Outcomes(sessions.outcomes.0.map(|count| count / hours)),
            unfollowed: sessions.unfollowed / hours,
            said: Said(sessions.said.0.map(|count| count / hours)),
            accepted: sessions.accepted / hours,
        },
        peak: *peak,
    }
}
