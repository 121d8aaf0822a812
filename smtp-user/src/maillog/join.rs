//! Puts the lines of a message together by its queue id.
//!
//! Contract: at most `Limits::queue_ids` messages are open at a time; the one that was begun first gives way,
//! and so does one that was begun longer ago than `Limits::keep_open` by the times of the log. Both are counted,
//! and both only end what is known of a message: its figures were counted as they came. A message is counted
//! once, however often its server says that it is in the queue. Queue ids of different hosts are different ones.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::event::{Client, Event, QueueId, Reason, Status};
use super::field;
use super::figures::{Clients, Message, RECIPIENTS};
use super::personal;
use crate::model::mail::KeptAddresses;

/// What is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Messages whose lines are still coming.
    pub queue_ids: usize,
    /// Seconds after which no more lines of a message are expected.
    pub keep_open: i64,
    /// Clients with figures of their own.
    pub sources: usize,
    /// What is kept of mail addresses.
    pub addresses: KeptAddresses,
}

/// What became of lines that say something of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Messages of which a client is known.
    pub messages: u64,
    /// Lines of messages of which no client is known: they came from the server's own host, or their first lines are
    /// not in the log.
    pub without_client: u64,
    /// Messages that gave way to newer ones before they were through.
    pub evicted: u64,
    /// Messages that were not through for too long.
    pub expired: u64,
}

/// A message whose lines are still coming.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    serial: u64,
    since: i64,
    client: Option<Client>,
    /// Whether it was counted.
    arrived: bool,
    /// Whether the server said how many recipients it has.
    counted: bool,
    /// Whether no line tells its end: the one that names the client names the recipients' number as well (sendmail).
    ends_by_itself: bool,
    /// Refusals of it, while its client is not known.
    pending: Vec<Reason>,
    message: Message,
}

/// Refusals of one message that wait for its client.
const PENDING: usize = 16;

/// A checksum of the host's name, which is the same after a restart, and the queue id.
type Key = (u32, QueueId);

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub struct Joiner {
    limits: Limits,
    #[serde(with = "pairs")]
    open: HashMap<Key, Open>,
    /// Open ones in the order in which they were begun, and some that are closed.
    order: VecDeque<(Key, u64)>,
    serial: u64,
    clients: Clients,
    joined: Joined,
}

impl Joiner {
    /// With nothing known.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: HashMap::new(),
            order: VecDeque::new(),
            serial: 0,
            clients: Clients::new(limits.sources),
            joined: Joined::default(),
        }
    }

    /// What is known of clients. Messages that are open are not among the latest of theirs.
    pub const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// What became of the lines.
    pub const fn joined(&self) -> Joined {
        self.joined
    }

    /// Messages that are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Goes on with these limits after a restart.
    pub fn resume(&mut self, limits: Limits) {
        let (from, to) = (self.limits.addresses, limits.addresses);
        self.clients.resume(limits.sources, from, to);
        for open in self.open.values_mut() {
            open.message.narrow(from, to);
        }
        self.limits = limits;
    }

    /// What is kept of mail addresses.
    pub const fn addresses(&self) -> KeptAddresses {
        self.limits.addresses
    }

    /// Takes out what is known of clients, and begins anew; what is open stays so.
    pub fn turn(&mut self) -> Clients {
        std::mem::replace(&mut self.clients, Clients::new(self.limits.sources))
    }

    /// Takes what a host said at a time.
    pub fn take(&mut self, time: i64, host: &[u8], event: Event<'_>) {
        self.expire(time);
        let key = |id| (crc32fast::hash(host), id);
        match event {
            Event::Begin { id, client } => {
                let key = key(id);
                // A queue id comes again when its message is gone, and the line that said so may be missing.
                if self.open.get(&key).is_some_and(|open| open.arrived) {
                    self.close(key);
                }
                self.opened(key, time).client = Some(client);
                self.saw(client, time);
            }
            Event::Arrival {
                id,
                client,
                sender,
                size,
                recipients,
            } => {
                let key = key(id);
                self.arrival(key, time, client, sender, size, recipients);
            }
            Event::Delivery {
                id,
                recipients,
                status,
                relay,
            } => {
                let key = key(id);
                self.delivery(key, time, recipients, status, relay);
            }
            Event::Reject { id, client, reason } => {
                let key = id.map(key);
                self.reject(key, time, client, reason);
            }
            Event::End { id } => {
                let key = key(id);
                self.close(key);
            }
        }
    }

    /// Closes all messages, at the end of a log.
    pub fn finish(&mut self) {
        while let Some((key, serial)) = self.order.pop_front() {
            if self.is_open(key, serial) {
                self.close(key);
            }
        }
    }

    fn saw(&mut self, client: Client, time: i64) {
        if client.forged
            && let Some(figures) = self.clients.at(client.address, time)
        {
            figures.forged += 1;
        }
    }

    fn arrival(
        &mut self,
        key: Key,
        time: i64,
        client: Option<Client>,
        sender: &[u8],
        size: Option<u64>,
        recipients: Option<u32>,
    ) {
        if client.is_none() && !self.open.contains_key(&key) {
            self.joined.without_client += 1;
            return;
        }
        let sender = personal::kept(self.limits.addresses, sender);
        let ends_by_itself = client.is_some() && recipients.is_some();
        let open = self.opened(key, time);
        let client = client.or(open.client);
        if open.arrived {
            // Tried again, or said again.
            return;
        }
        let Some(client) = client else {
            self.joined.without_client += 1;
            return;
        };
        open.client = Some(client);
        open.arrived = true;
        open.counted = recipients.is_some();
        open.ends_by_itself = ends_by_itself;
        open.message.time = time;
        open.message.size = size;
        open.message.recipient_count = recipients.unwrap_or(0);
        open.message.sender.clone_from(&sender);
        let pending = std::mem::take(&mut open.pending);
        self.joined.messages += 1;
        self.saw(client, time);
        if let Some(figures) = self.clients.at(client.address, time) {
            figures.messages += 1;
            figures.recipients += u64::from(recipients.unwrap_or(0));
            figures.bytes = figures.bytes.saturating_add(size.unwrap_or(0));
            if let Some(size) = size {
                figures.bursts.message(time, size);
            }
            if let Some(sender) = sender {
                figures.sender(&sender);
            }
            for reason in pending {
                figures.reject(reason);
            }
        }
    }

    fn delivery(
        &mut self,
        key: Key,
        time: i64,
        recipients: &[u8],
        status: Status,
        relay: Option<std::net::IpAddr>,
    ) {
        let Some(open) = self.open.get_mut(&key) else {
            self.joined.without_client += 1;
            return;
        };
        let message = &mut open.message;
        let count = field::list(recipients).count() as u32;
        for recipient in field::list(recipients) {
            if message.recipients.len() == RECIPIENTS {
                break;
            }
            if let Some(kept) = personal::kept(self.limits.addresses, recipient)
                && !message.recipients.contains(&kept)
            {
                message.recipients.push(kept);
            }
        }
        let tried = match status {
            Status::Sent => &mut message.sent,
            Status::Deferred => &mut message.deferred,
            Status::Bounced => &mut message.bounced,
        };
        *tried = tried.saturating_add(count);
        message.relay = relay.or(message.relay);
        // Exim does not say how many there are; a delivery that is put off is told again.
        let more = !open.counted && status != Status::Deferred;
        if more {
            message.recipient_count = message.recipient_count.saturating_add(count);
        }
        // Nothing tells the end of a message of sendmail but that all its recipients are through.
        let through = open.counted
            && message.sent.saturating_add(message.bounced) >= message.recipient_count
            && open.ends_by_itself;
        if let Some(client) = open.client
            && open.arrived
            && let Some(figures) = self.clients.at(client.address, time)
        {
            figures.status(status, count);
            if more {
                figures.recipients += u64::from(count);
            }
        }
        if through {
            self.close(key);
        }
    }

    fn reject(&mut self, key: Option<Key>, time: i64, client: Option<Client>, reason: Reason) {
        let known = key.and_then(|key| self.open.get_mut(&key));
        let client = client.or(known.as_ref().and_then(|open| open.client));
        if let Some(open) = known {
            open.message.rejected = Some(reason);
        }
        match (client, key) {
            (Some(client), _) => {
                self.saw(client, time);
                if let Some(figures) = self.clients.at(client.address, time) {
                    figures.reject(reason);
                }
            }
            // A milter of sendmail refuses before the line that names the client.
            (None, Some(key)) => {
                let open = self.opened(key, time);
                open.message.rejected = Some(reason);
                if open.pending.len() < PENDING {
                    open.pending.push(reason);
                }
            }
            (None, None) => self.joined.without_client += 1,
        }
    }

    /// The open message of this key, begun now if there is none.
    fn opened(&mut self, key: Key, time: i64) -> &mut Open {
        if !self.open.contains_key(&key) {
            while self.open.len() >= self.limits.queue_ids.max(1) {
                let Some((oldest, serial)) = self.order.pop_front() else {
                    break;
                };
                if self.is_open(oldest, serial) {
                    self.joined.evicted += 1;
                    self.close(oldest);
                }
            }
            if self.order.len() > 2 * self.limits.queue_ids.max(1) {
                let open = &self.open;
                self.order.retain(|(key, serial)| {
                    open.get(key).is_some_and(|open| open.serial == *serial)
                });
            }
            self.serial += 1;
            self.order.push_back((key, self.serial));
        }
        let serial = self.serial;
        self.open.entry(key).or_insert_with(|| Open {
            serial,
            since: time,
            client: None,
            arrived: false,
            counted: false,
            ends_by_itself: false,
            pending: Vec::new(),
            message: Message {
                time,
                queue_id: key.1.as_str().to_owned(),
                sender: None,
                recipients: Vec::new(),
                recipient_count: 0,
                size: None,
                sent: 0,
                deferred: 0,
                bounced: 0,
                relay: None,
                rejected: None,
            },
        })
    }

    fn is_open(&self, key: Key, serial: u64) -> bool {
        self.open
            .get(&key)
            .is_some_and(|open| open.serial == serial)
    }

    fn close(&mut self, key: Key) {
        let Some(open) = self.open.remove(&key) else {
            self.joined.without_client += 1;
            return;
        };
        let Some(client) = open.client else {
            self.joined.without_client += 1;
            return;
        };
        // Only where a message came of it, or a refusal.
        if (open.arrived || open.message.rejected.is_some())
            && let Some(figures) = self.clients.at(client.address, open.message.time)
        {
            figures.message(open.message);
        }
    }

    fn expire(&mut self, now: i64) {
        while let Some((key, serial)) = self.order.front().copied() {
            match self.open.get(&key) {
                Some(open) if open.serial == serial => {
                    if now.saturating_sub(open.since) <= self.limits.keep_open {
                        return;
                    }
                    self.joined.expired += 1;
                    self.close(key);
                }
                _ => {}
            }
            self.order.pop_front();
        }
    }
}

/// A map whose keys are no texts, as JSON wants them, is kept as pairs.
mod pairs {
    use super::{Deserialize, HashMap, Key, Open};

    pub fn serialize<S: serde::Serializer>(
        open: &HashMap<Key, Open>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(open)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<HashMap<Key, Open>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
