//! Connections: what the flows of many windows say together.
//!
//! Contract: windows in, results out; no clock and no I/O, so that live and replay judge alike. No
//! connection that a flow shows is forgotten: with [`Sessions`] of all, of the clients that are kept and
//! of the others, `all = sum over clients + untracked`, and `connections = sum over outcomes +
//! unfollowed`. Packets and bytes of all flows are in a pair or in the untracked ones.
//!
//! **Which connection.** A 4-tuple is one connection from a new SYN on, over as many windows as it
//! goes on. It ends when both ends have sent FIN, when one has sent RST, when another SYN begins the
//! next one, or when it was quiet for [`Limits::idle`] ([`SYN_PATIENCE`] if there was only its SYN). What comes within [`LINGER`] after FIN or RST
//! still belongs to it. A flow without a SYN is `midstream`: it is tracked, but never a connection;
//! its packets, bytes and replies count. Of several new SYNs of one 4-tuple in one window, only the
//! last one's connection is followed, and what the window says of the tuple is put down to it; the
//! others, like those that come when [`Limits::connections`] are under way, count as `unfollowed`.
//!
//! **What became of it.** One outcome at a time, also before it has ended: `unknown`, or the last line of
//! the others that holds.
//!
//! | outcome     | what was seen                                                                  |
//! |-------------|--------------------------------------------------------------------------------|
//! | `unknown`   | no packet of the server, so nothing is claimed, whatever the client sent        |
//! | `silent`    | packets of the server, mostly a SYN-ACK, but none with data                     |
//! | `refused`   | a reset of the server, and no SYN-ACK                                           |
//! | `answered`  | data of the server (PSH or a counted reply): a greeting, TLS, whatever          |
//! | `spoke`     | MAIL or RCPT                                                                    |
//! | `rejected`  | a 5xx reply: to the greeting, a recipient or the message; nothing was accepted  |
//! | `delivered` | a message was accepted: a 2xx was the next reply after 354                      |
//!
//! An address cannot tell a dropped SYN from a server whose packets take another way: both are
//! `unknown`, whatever other connections show. How far `unknown` can be read as "not there" is told by
//! the visibility, the share of connections with any packet of the server.
//!
//! **Memory**, at most, with the default limits: 17 MB for 114,688 connections under way (129 bytes a
//! place) and as much for the copy of them that is read, 21 MB for as many pairs (161), 11 MB for 57,344
//! clients (169), 8 MB for the sets of their servers, 6 MB for 16,384 connections that have ended, and
//! 14 MB for a moment if all end at once. Nothing is taken before there are flows.
//!
//! **Two halves.** The [`Follower`] is on the meter's thread and shares nothing; what it says of a window
//! is committed with it, and goes to [`Connections`], which the server reads.

mod connection;
mod distinct;
mod follower;
mod pairs;
mod recent;
pub mod sketch;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ipnet::IpNet;
use smtp_common::flow::FlowKey;
use smtp_common::packet::Address;

pub use self::connection::{Connection, ConnectionRow, SYN_PATIENCE};
use self::distinct::{Distinct, Room};
use self::follower::Change;
pub use self::follower::{Followed, Follower};
pub use self::pairs::{PairRow, Pairs};
pub use self::recent::PER_CLIENT;
use self::recent::Recent;
use crate::admission::Admission;
use crate::model::session::{ClientRow, FlowSummary, Outcomes, Sessions};
use crate::model::{Flow, PairKey, Window};

/// How long a closed connection still takes the segments of its 4-tuple.
pub const LINGER: Duration = Duration::from_secs(10);

/// What a hash map of 2^17 places takes before it grows.
const TABLE: usize = (1 << 17) / 8 * 7;

/// Bounds of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may be quiet before it has ended.
    pub idle: Duration,
    /// Connections and midstream flows that are followed at a time.
    pub connections: usize,
    /// Pairs of client and server.
    pub pairs: usize,
    /// Clients whose counts are kept.
    pub clients: usize,
    /// Connections that are kept after their end.
    pub recent: usize,
    /// Room in the sets of servers of all clients together, in addresses.
    pub servers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(300),
            connections: TABLE,
            pairs: TABLE,
            clients: TABLE / 2,
            recent: 1 << 14,
            servers: 1 << 19,
        }
    }
}

fn apply(sessions: &mut Sessions, flow: &Flow, change: &Change) {
    let Sessions {
        outcomes,
        unfollowed,
        said,
        accepted,
    } = sessions;
    if let Some(before) = change.before {
        outcomes.0[before.index()] -= 1;
    }
    if let Some(after) = change.after {
        outcomes.0[after.index()] += 1;
    }
    *unfollowed += change.unfollowed;
    said.add(&flow.said);
    *accepted += change.accepted;
}

/// What is kept of a client.
#[derive(Default)]
struct Client {
    sessions: Sessions,
    servers: Distinct,
}

// As the contract says.
const _: () = assert!(size_of::<(FlowKey, Connection)>() == 128);
const _: () = assert!(size_of::<(Address, Client)>() == 168);

/// All connections.
pub struct Connections {
    /// Who gets a place among the clients.
    admission: Admission,
    /// A copy of what the [`Follower`] has under way, so that no reader holds that up.
    open: HashMap<FlowKey, Connection>,
    clients: HashMap<Address, Client>,
    pairs: Pairs,
    recent: Recent,
    room: Room,
    sessions: Sessions,
    ended: Outcomes,
    untracked_clients: Sessions,
    /// Flows in the last window.
    window: u64,
}

impl Connections {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self::for_networks(limits, Vec::new())
    }

    /// The same where these prefixes are the operator's own, whose hosts have places in reserve.
    pub fn for_networks(limits: Limits, local: Vec<IpNet>) -> Self {
        Self {
            admission: Admission::new(local, limits.clients),
            open: HashMap::new(),
            clients: HashMap::new(),
            pairs: Pairs::new(limits.pairs),
            recent: Recent::new(limits.recent),
            room: Room::new(limits.servers),
            sessions: Sessions::default(),
            ended: Outcomes::default(),
            untracked_clients: Sessions::default(),
            window: 0,
        }
    }

    /// Makes these the operator's own prefixes. Who has a place keeps it.
    pub fn set_local(&mut self, local: &[IpNet]) {
        self.admission.set_local(local);
    }

    /// Adds the flows of a window, and what the follower says of them.
    pub fn add(&mut self, window: &Window, followed: &Followed) {
        self.window = window.flows.len() as u64;
        for (key, connection) in &followed.replaced {
            self.open.remove(key);
            self.end(*key, *connection);
        }
        for (flow, change) in window.flows.iter().zip(&followed.changes) {
            self.add_flow(flow, change);
        }
        self.finish(followed);
    }

    /// Takes over what the follower says at the end, after the last window.
    pub fn finish(&mut self, followed: &Followed) {
        for (key, connection) in &followed.ended {
            self.open.remove(key);
            self.end(*key, *connection);
        }
        // A flood is over at some time; its memory goes back.
        if self.open.len() < self.open.capacity() / 8 {
            self.open.shrink_to(self.open.len() * 2);
        }
    }

    fn end(&mut self, key: FlowKey, connection: Connection) {
        if !connection.midstream() {
            self.ended.0[connection.outcome().index()] += 1;
        }
        self.recent.push(key, connection);
    }

    fn add_flow(&mut self, flow: &Flow, change: &Change) {
        if let Some(connection) = change.connection {
            self.open.insert(flow.key, connection);
        }
        apply(&mut self.sessions, flow, change);
        let known = self.pairs.count(flow, change);
        let listed = self.clients.len();
        let client = match self.clients.entry(flow.key.client) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let scope = self.admission.scope(flow.key.client.into());
                if !self.admission.admits(scope, listed) {
                    return apply(&mut self.untracked_clients, flow, change);
                }
                entry.insert(Client::default())
            }
        };
        apply(&mut client.sessions, flow, change);
        if !known {
            client.servers.insert(flow.key.server, &mut self.room);
        }
    }

    /// What is known of a client; nothing if it had no flow or found no place.
    pub fn client(&self, address: Address) -> ClientRow {
        let client = self.clients.get(&address);
        client.map_or_else(ClientRow::default, |client| ClientRow {
            sessions: client.sessions,
            servers: client.servers.size(),
        })
    }

    /// The first `limit` pairs of an address by connections, in which it is client or server, and how
    /// many there are.
    pub fn pairs_of(&self, address: Address, limit: usize) -> (Vec<PairRow>, usize) {
        let mut rows: Vec<PairRow> = self.pairs.of(address).collect();
        let total = rows.len();
        rows.sort_unstable_by_key(|row| {
            let PairKey { client, server } = row.key;
            let packets = row.volume.packets();
            (
                Reverse((row.volume.connections, packets)),
                client.octets(),
                server.octets(),
            )
        });
        rows.truncate(limit);
        (rows, total)
    }

    /// The last connections of a client, at most [`PER_CLIENT`], the latest first.
    pub fn recent_of(&self, client: Address) -> Vec<ConnectionRow> {
        let open = self.open.iter().filter(|(key, _)| key.client == client);
        let open = open.map(|(key, connection)| ConnectionRow {
            key: *key,
            connection: *connection,
            open: !connection.closed(),
        });
        let ended = self.recent.of(client);
        let ended = ended.map(|(key, connection)| ConnectionRow {
            key: *key,
            connection: *connection,
            open: false,
        });
        let mut recent: Vec<_> = open.chain(ended).collect();
        recent.sort_by_key(|row| {
            let (first, last) = row.connection.times();
            (Reverse(last), Reverse(first), order(&row.key))
        });
        recent.truncate(PER_CLIENT);
        recent
    }

    /// All flows together.
    pub fn summary(&self) -> FlowSummary {
        FlowSummary {
            window: self.window,
            sessions: self.sessions,
            ended: self.ended,
            tracked: self.open.len() as u64,
            clients: self.clients.len() as u64,
            pairs: self.pairs.kept() as u64,
            untracked_clients: self.untracked_clients,
            untracked_pairs: self.pairs.untracked(),
        }
    }
}

/// An order of 4-tuples.
fn order(key: &FlowKey) -> ([u8; 16], [u8; 16], u16, u16) {
    (
        key.client.octets(),
        key.server.octets(),
        key.client_port,
        key.server_port,
    )
}

/// Connections that the recorder adds to while the server reads.
#[derive(Clone)]
pub struct SharedConnections(Arc<RwLock<Connections>>);

impl SharedConnections {
    /// Shares these.
    pub fn new(connections: Connections) -> Self {
        Self(Arc::new(RwLock::new(connections)))
    }

    /// For reading.
    pub fn read(&self) -> RwLockReadGuard<'_, Connections> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For adding a window.
    pub fn write(&self) -> RwLockWriteGuard<'_, Connections> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
