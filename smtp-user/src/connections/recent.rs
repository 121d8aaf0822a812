//! The connections that have ended last, of each client.
//!
//! Contract: the last [`PER_CLIENT`] of each client, and no more than a given number in all: beyond
//! that, the one that ended first goes, whosever it is.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use smtp_common::flow::FlowKey;
use smtp_common::packet::Address;

use super::connection::Connection;

/// Connections kept of one client.
pub const PER_CLIENT: usize = 32;

/// Connections that have ended.
pub struct Recent {
    capacity: usize,
    /// By the order in which they ended.
    connections: BTreeMap<u64, (FlowKey, Connection)>,
    /// The numbers of each client's, the first one first.
    by_client: HashMap<Address, VecDeque<u64>>,
    next: u64,
}

impl Recent {
    /// None, with room for `capacity`.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            connections: BTreeMap::new(),
            by_client: HashMap::new(),
            next: 0,
        }
    }

    /// Keeps one that has ended now.
    pub fn push(&mut self, key: FlowKey, connection: Connection) {
        if self.capacity == 0 {
            return;
        }
        let numbers = self.by_client.entry(key.client).or_default();
        if numbers.len() == PER_CLIENT
            && let Some(first) = numbers.pop_front()
        {
            self.connections.remove(&first);
        }
        numbers.push_back(self.next);
        self.connections.insert(self.next, (key, connection));
        self.next += 1;
        if self.connections.len() > self.capacity
            && let Some((_, (first, _))) = self.connections.pop_first()
            && let Entry::Occupied(mut numbers) = self.by_client.entry(first.client)
        {
            // The first of all is the first of its client.
            numbers.get_mut().pop_front();
            if numbers.get().is_empty() {
                numbers.remove();
            }
        }
    }

    /// Those of a client, the first one first.
    pub fn of(&self, client: Address) -> impl Iterator<Item = &(FlowKey, Connection)> {
        let numbers = self.by_client.get(&client).into_iter().flatten();
        numbers.filter_map(|number| self.connections.get(number))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, flow};
    use super::*;

    fn end(recent: &mut Recent, client: u8, port: u16) {
        let flow = flow(client, 1, port);
        recent.push(flow.key, Connection::begin(&flow, false));
    }

    fn ports(recent: &Recent, client: u8) -> Vec<u16> {
        let of = recent.of(address(client));
        of.map(|(key, _)| key.client_port).collect()
    }

    #[test]
    fn the_last_32_of_each_client_are_kept() {
        let mut recent = Recent::new(1_000);
        for port in 1..=40 {
            end(&mut recent, 1, port);
            end(&mut recent, 2, 100 + port);
        }
        assert_eq!(ports(&recent, 1), (9..=40).collect::<Vec<_>>());
        assert_eq!(ports(&recent, 2), (109..=140).collect::<Vec<_>>());
        assert!(ports(&recent, 3).is_empty());
        assert_eq!(recent.connections.len(), 64);
    }

    #[test]
    fn beyond_the_bound_the_first_one_goes() {
        let mut recent = Recent::new(3);
        for (client, port) in [(1, 10), (2, 20), (1, 11), (3, 30), (3, 31)] {
            end(&mut recent, client, port);
        }
        assert_eq!(ports(&recent, 1), [11]);
        assert!(ports(&recent, 2).is_empty());
        assert_eq!(ports(&recent, 3), [30, 31]);
        assert_eq!(
            recent.by_client.len(),
            2,
            "clients without any are forgotten"
        );
        assert_eq!(recent.connections.len(), 3);
    }
}
