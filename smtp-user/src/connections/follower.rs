//! Follows connections over windows.
//!
//! Contract: windows in, what they say of each connection out; no clock, no I/O and no lock, since it
//! is in the way of a drain: what it says is committed with the window. Which segments are one
//! connection stands in [`connections`](super).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use smtp_common::flow::FlowKey;

use super::connection::Connection;
use super::{LINGER, Limits, order};
use crate::model::session::{Outcome, Sessions};
use crate::model::{Counts, Flow, Folded, PairKey, Window};

/// What a flow of a window changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    /// The outcome that its connection had.
    pub(super) before: Option<Outcome>,
    /// The outcome that it has.
    pub(super) after: Option<Outcome>,
    pub(super) unfollowed: u64,
    pub(super) accepted: u64,
    /// Its connection as it is now; `None` if it is not followed.
    pub(super) connection: Option<Connection>,
}

/// What became of the connections of a window.
#[derive(Default)]
pub struct Followed {
    /// By client, and by pair.
    pub folded: Folded,
    /// One for each flow of the window.
    pub(super) changes: Vec<Change>,
    /// Connections that ended because the next one of their 4-tuple began in this window.
    pub(super) replaced: Vec<(FlowKey, Connection)>,
    /// Connections that ended with this window.
    pub(super) ended: Vec<(FlowKey, Connection)>,
}

/// The connections under way.
pub struct Follower {
    idle: Duration,
    capacity: usize,
    tracked: HashMap<FlowKey, Connection>,
}

impl Follower {
    /// None yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            idle: limits.idle,
            capacity: limits.connections,
            tracked: HashMap::new(),
        }
    }

    /// Follows the flows of the next window, and ends the connections that have ended with it.
    pub fn follow(&mut self, window: &Window) -> Followed {
        let mut followed = Followed {
            changes: Vec::with_capacity(window.flows.len()),
            ..Followed::default()
        };
        for flow in &window.flows {
            let change = self.track(flow, &mut followed);
            followed.folded.add(flow, &change);
            followed.changes.push(change);
        }
        let end = window
            .started_at
            .checked_add(window.length)
            .unwrap_or(window.started_at);
        self.end_where(&mut followed, |connection, idle| {
            connection.is_idle(end, idle) || (connection.closed() && connection.quiet(end) > LINGER)
        });
        followed.folded.set_peaks(window.length);
        followed
    }

    /// Ends all connections: no window follows.
    pub fn finish(&mut self) -> Followed {
        let mut followed = Followed::default();
        self.end_where(&mut followed, |_, _| true);
        followed
    }

    fn end_where(&mut self, followed: &mut Followed, over: impl Fn(&Connection, Duration) -> bool) {
        let idle = self.idle;
        followed.ended.extend(
            self.tracked
                .extract_if(|_, connection| over(connection, idle)),
        );
        // In an order that does not depend on that of the map.
        followed
            .ended
            .sort_unstable_by_key(|(key, connection)| (connection.times().1, order(key)));
        for (key, connection) in &followed.ended {
            followed.folded.end(key, connection);
        }
        // A flood is over at some time; its memory goes back.
        if self.tracked.len() < self.tracked.capacity() / 8 {
            self.tracked.shrink_to(self.tracked.len() * 2);
        }
    }

    /// Puts a flow to the connection that it belongs to.
    fn track(&mut self, flow: &Flow, followed: &mut Followed) -> Change {
        let mut change = Change {
            unfollowed: flow.connections.saturating_sub(1),
            accepted: flow.accepted,
            ..Change::default()
        };
        let mut mixed = flow.connections > 1;
        if let Entry::Occupied(entry) = self.tracked.entry(flow.key) {
            let replaced = flow.connections > 0;
            if replaced || entry.get().is_idle(flow.first, self.idle) {
                let connection = entry.remove();
                // What it had still to send may stand in this window.
                mixed |= replaced && !connection.closed();
                followed.folded.end(&flow.key, &connection);
                followed.replaced.push((flow.key, connection));
            }
        }
        let room = self.tracked.len() < self.capacity;
        let connection = match self.tracked.entry(flow.key) {
            Entry::Occupied(entry) => {
                let connection = entry.into_mut();
                change.before = (!connection.midstream()).then(|| connection.outcome());
                change.accepted = connection.extend(flow);
                connection
            }
            Entry::Vacant(entry) if room => entry.insert(Connection::begin(flow, mixed)),
            Entry::Vacant(_) => {
                change.unfollowed = flow.connections;
                return change;
            }
        };
        change.after = (!connection.midstream()).then(|| connection.outcome());
        change.connection = Some(*connection);
        change
    }
}

const fn pair(key: &FlowKey) -> PairKey {
    PairKey {
        client: key.client,
        server: key.server,
    }
}

impl Folded {
    /// Adds a flow.
    fn add(&mut self, flow: &Flow, change: &Change) {
        let client = self.clients.entry(flow.key.client).or_default();
        say(client, flow, change);
        let Counts {
            totals,
            sessions,
            peak: _,
        } = self.pairs.entry(pair(&flow.key)).or_default();
        totals.connections += flow.connections;
        totals.syn_retx += flow.syn_retx;
        totals.c2s_packets += flow.c2s_packets;
        totals.c2s_bytes += flow.c2s_bytes;
        totals.s2c_packets += flow.s2c_packets;
        totals.s2c_bytes += flow.s2c_bytes;
        totals.answered += u64::from(flow.answered);
        totals.refused += u64::from(flow.refused);
        say(sessions, flow, change);
    }

    /// Adds a connection that has ended.
    fn end(&mut self, key: &FlowKey, connection: &Connection) {
        if connection.midstream() {
            return;
        }
        let outcome = connection.outcome().index();
        self.clients.entry(key.client).or_default().outcomes.0[outcome] += 1;
        let pair = self.pairs.entry(pair(key)).or_default();
        pair.sessions.outcomes.0[outcome] += 1;
    }

    /// Sets the peaks of pairs in a window of this length.
    fn set_peaks(&mut self, length: Duration) {
        for counts in self.pairs.values_mut() {
            counts.peak = Counts::peak_of(counts.totals.connections, length);
        }
    }
}

fn say(sessions: &mut Sessions, flow: &Flow, change: &Change) {
    let Sessions {
        outcomes: _,
        unfollowed,
        said,
        accepted,
    } = sessions;
    *unfollowed += change.unfollowed;
    said.add(&flow.said);
    *accepted += change.accepted;
}
