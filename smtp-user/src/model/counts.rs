//! What is counted for a source or for a pair of client and server in a stretch of time: plain data.

use std::collections::HashMap;
use std::time::Duration;

use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use super::session::{Outcomes, Sessions};

/// A client and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PairKey {
    /// Who opened connections.
    pub client: Address,
    /// Who listens.
    pub server: Address,
}

/// Counts of a source or a pair. They add up over any stretches of time, but for `peak`, which is
/// the highest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections, packets and bytes.
    pub totals: Totals,
    /// What became of the connections that *ended* in this time, and what was said in it. A
    /// connection under way is in no outcome yet, so the sum of outcomes may differ from
    /// `totals.connections`.
    pub sessions: Sessions,
    /// The most new connections per second in one window, in thousandths.
    pub peak: u64,
}

impl Counts {
    /// Adds another stretch of time.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            totals,
            sessions,
            peak,
        } = self;
        totals.merge(&other.totals);
        sessions.merge(&other.sessions);
        *peak = other.peak.max(*peak);
    }

    /// The peak of a window of this length with so many new connections. A window that was cut short
    /// counts as a second: two connections in a hundredth of it are no flood.
    pub fn peak_of(connections: u64, length: Duration) -> u64 {
        let milliseconds = u64::try_from(length.as_millis())
            .unwrap_or(u64::MAX)
            .max(1000);
        connections.saturating_mul(1_000_000) / milliseconds
    }

    /// Mean layer-3 length of the packets to servers; `None` without any.
    pub fn mean_size(&self) -> Option<f64> {
        let packets = self.totals.c2s_packets;
        (packets != 0).then(|| self.totals.c2s_bytes as f64 / packets as f64)
    }
}

/// What the flows of one window add to what is counted of its sources.
///
/// A connection can end in a window in which it has no packet, after its patience: so there may be
/// clients and pairs here whose addresses are not among the sources of the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// By client: the connections that ended in the window, and what was said in it.
    pub clients: HashMap<Address, Sessions>,
    /// By client and server.
    pub pairs: HashMap<PairKey, Counts>,
}

impl Sessions {
    /// Adds others, all of which are different connections.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            outcomes: Outcomes(outcomes),
            unfollowed,
            said,
            accepted,
        } = self;
        for (mine, others) in outcomes.iter_mut().zip(other.outcomes.0) {
            *mine = mine.saturating_add(others);
        }
        *unfollowed = unfollowed.saturating_add(other.unfollowed);
        said.add(&other.said.0);
        *accepted = accepted.saturating_add(other.accepted);
    }
}
