//! Flows and what became of connections, as answers show it.
#![forbid(unsafe_code)]

use super::document::answer;
pub(super) use crate::answer::session::{Commands, Replies};
use crate::model::FlowTally;
use crate::model::session::{
    COMMANDS, FlowSummary, Outcomes, PairVolume, REPLIES, Servers, Sessions,
};

answer! {
    /// What the connections of a client came to, since the agent started.
    pub(super) struct Conduct {
        /// Connections since the agent started by what became of them, as far as they could be followed.
        outcomes: Outcomes [Outcomes],
        /// Connections that could not be followed.
        unfollowed: u64,
        /// Share of these connections with any packet of the server; null without connections.
        visibility: Option<f64>,
        /// Different servers that it had flows to.
        servers: u64,
        /// Whether that number is exact, and no estimate with a standard error of 1.6 %.
        servers_exact: bool,
        /// Replies to it by class, of which the first octets of a segment tell.
        replies: Replies [Replies],
        /// Its commands, likewise.
        commands: Commands [Commands],
        /// Messages that servers took from it.
        accepted: u64,
    }
}

impl Conduct {
    pub(super) fn new(sessions: &Sessions, servers: Servers) -> Self {
        let Sessions {
            outcomes,
            unfollowed,
            said,
            accepted,
        } = *sessions;
        Self {
            outcomes,
            unfollowed,
            visibility: outcomes.visibility(),
            servers: servers.count,
            servers_exact: servers.exact,
            replies: said.named(REPLIES),
            commands: said.named(COMMANDS),
            accepted,
        }
    }
}

answer! {
    /// Connections, packets and bytes between clients and servers.
    pub(super) struct Traffic {
        /// Connections.
        connections: u64,
        /// Packets of the client.
        c2s_packets: u64,
        /// Layer-3 bytes of these.
        c2s_bytes: u64,
        /// Packets of the server.
        s2c_packets: u64,
        /// Layer-3 bytes of these.
        s2c_bytes: u64,
    }
}

impl From<PairVolume> for Traffic {
    fn from(volume: PairVolume) -> Self {
        let PairVolume {
            connections,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
        } = volume;
        Self {
            connections,
            c2s_packets,
            c2s_bytes,
            s2c_packets,
            s2c_bytes,
        }
    }
}

answer! {
    /// Flows: segments = packets + refused_packets, and the same for bytes, as old as the
    /// conservation; the rest since the agent started. All 0 where flows are not counted.
    pub(super) struct Flows {
        /// Segments that had to be counted for a flow.
        segments: u64,
        /// Segments that were.
        packets: u64,
        /// Layer-3 bytes of these.
        bytes: u64,
        /// Segments whose set in the table of flows was full; their sources have them all the same.
        refused_packets: u64,
        /// Layer-3 bytes of these.
        refused_bytes: u64,
        /// Flows in the last window.
        window_flows: u64,
        /// Flows that have not ended, or not long ago: connections and others.
        tracked: u64,
        /// Connections since the agent started by what became of them, those under way as well.
        outcomes: Outcomes [Outcomes],
        /// Connections that could not be followed: their 4-tuple was used again in the same window, or too many were under way.
        unfollowed: u64,
        /// Share of connections with any packet of the server; null without connections.
        visibility: Option<f64>,
        /// Replies by class, of which the first octets of a segment tell.
        replies: Replies [Replies],
        /// Commands, likewise.
        commands: Commands [Commands],
        /// Messages that servers took.
        accepted: u64,
        /// Clients of which outcomes, replies and servers are kept.
        clients: u64,
        /// Connections of clients that came when there was no more place.
        untracked_client_connections: u64,
        /// Pairs of client and server that are kept.
        pairs: u64,
        /// What was counted for pairs that came when there was no more place.
        untracked_pairs: Traffic [Traffic],
    }
}

impl Flows {
    pub(super) fn new(tally: &FlowTally, summary: &FlowSummary) -> Self {
        let FlowTally {
            segments,
            segment_bytes: _,
            packets,
            bytes,
            refused_packets,
            refused_bytes,
        } = *tally;
        let FlowSummary {
            window,
            sessions,
            ended: _,
            tracked,
            clients,
            pairs,
            untracked_clients,
            untracked_pairs,
        } = *summary;
        let Sessions {
            outcomes,
            unfollowed,
            said,
            accepted,
        } = sessions;
        Self {
            segments,
            packets,
            bytes,
            refused_packets,
            refused_bytes,
            window_flows: window,
            tracked,
            outcomes,
            unfollowed,
            visibility: outcomes.visibility(),
            replies: said.named(REPLIES),
            commands: said.named(COMMANDS),
            accepted,
            clients,
            untracked_client_connections: untracked_clients.connections(),
            pairs,
            untracked_pairs: untracked_pairs.into(),
        }
    }
}
