//! What is known of each client.
//!
//! Contract: bounded by [`Figures`]' own limits for each, and by `Limits::sources` in number; what comes from
//! later ones is counted as untracked, never silently lost. Mail addresses come in as
//! [`personal`](super::personal) let them through.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::burst::Bursts;
use super::event::{Reason, Status};
use super::personal;
use crate::model::mail::KeptAddresses;

/// Messages of each client that are kept as evidence, the latest ones.
const MESSAGES: usize = 8;
/// Senders of each client that are told apart.
const SENDERS: usize = 16;
/// Recipients of a message that are kept.
pub const RECIPIENTS: usize = 4;

/// A message as evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// When it came, in seconds since 1970.
    pub time: i64,
    /// Its number in the queue.
    pub queue_id: String,
    /// Its sender, as far as it is kept.
    pub sender: Option<String>,
    /// Its first recipients, as far as they are kept.
    pub recipients: Vec<String>,
    /// How many recipients it had.
    pub recipient_count: u32,
    /// Octets, where the log says so.
    pub size: Option<u64>,
    /// What the log says of each delivery.
    pub sent: u32,
    /// Deliveries that were put off.
    pub deferred: u32,
    /// Deliveries that failed for good.
    pub bounced: u32,
    /// The last server that it was given to.
    pub relay: Option<IpAddr>,
    /// Why it was refused, if it was.
    pub rejected: Option<Reason>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Messages that came into the queue.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
    /// Their octets.
    pub bytes: u64,
    /// Deliveries.
    pub sent: u64,
    /// Tries that were put off.
    pub deferred: u64,
    /// Deliveries that failed for good.
    pub bounced: u64,
    /// Refusals by reason, in the order of [`Reason::ALL`].
    pub rejects: [u64; Reason::ALL.len()],
    /// Lines in which sendmail says that the name may be forged.
    pub forged: u64,
    /// Rows of messages that look alike.
    pub bursts: Bursts,
    /// The time of the first line, in seconds since 1970.
    pub first: i64,
    /// The time of the last line.
    pub last: i64,
    /// Messages by sender, of the first ones that were seen.
    pub senders: BTreeMap<String, u64>,
    /// The latest messages, the oldest first.
    pub latest: VecDeque<Message>,
}

impl Figures {
    /// Refusals of all kinds.
    pub fn rejected(&self) -> u64 {
        self.rejects.iter().sum()
    }

    pub(super) fn reject(&mut self, reason: Reason) {
        // The order of the variants is that of the list.
        self.rejects[reason as usize] += 1;
    }

    pub(super) fn status(&mut self, status: Status, count: u32) {
        let field = match status {
            Status::Sent => &mut self.sent,
            Status::Deferred => &mut self.deferred,
            Status::Bounced => &mut self.bounced,
        };
        *field += u64::from(count);
    }

    pub(super) fn sender(&mut self, sender: &str) {
        if let Some(count) = self.senders.get_mut(sender) {
            *count += 1;
        } else if self.senders.len() < SENDERS {
            self.senders.insert(sender.to_owned(), 1);
        }
    }

    pub(super) fn message(&mut self, message: Message) {
        if self.latest.len() == MESSAGES {
            self.latest.pop_front();
        }
        self.latest.push_back(message);
    }

    /// Takes the figures of a later time.
    pub fn merge(&mut self, later: Self) {
        let Self {
            messages,
            recipients,
            bytes,
            sent,
            deferred,
            bounced,
            rejects,
            forged,
            bursts,
            first,
            last,
            senders,
            latest,
        } = later;
        self.messages += messages;
        self.recipients += recipients;
        self.bytes = self.bytes.saturating_add(bytes);
        self.sent += sent;
        self.deferred += deferred;
        self.bounced += bounced;
        for (count, more) in self.rejects.iter_mut().zip(rejects) {
            *count += more;
        }
        self.forged += forged;
        self.bursts.merge(&bursts);
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        for (sender, count) in senders {
            if self.senders.len() < SENDERS || self.senders.contains_key(&sender) {
                *self.senders.entry(sender).or_default() += count;
            }
        }
        for message in latest {
            self.message(message);
        }
    }

    /// Forgets what was kept of mail addresses by another choice, as far as this one keeps less.
    pub(super) fn narrow(&mut self, from: KeptAddresses, to: KeptAddresses) {
        for (sender, count) in std::mem::take(&mut self.senders) {
            if let Some(sender) = personal::narrowed(from, to, &sender) {
                *self.senders.entry(sender).or_default() += count;
            }
        }
        for message in &mut self.latest {
            message.narrow(from, to);
        }
    }
}

impl Message {
    /// As that of [`Figures`].
    pub(super) fn narrow(&mut self, from: KeptAddresses, to: KeptAddresses) {
        let narrowed = |text: &String| personal::narrowed(from, to, text);
        self.sender = self.sender.as_ref().and_then(narrowed);
        self.recipients = self.recipients.iter().filter_map(narrowed).collect();
        self.recipients.dedup();
    }
}

/// Figures by client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    figures: HashMap<IpAddr, Figures>,
    limit: usize,
    untracked: u64,
}

impl Clients {
    /// For so many clients.
    pub fn new(limit: usize) -> Self {
        Self {
            figures: HashMap::new(),
            limit,
            untracked: 0,
        }
    }

    /// The figures of a client at a time, or `None` if there is no place for another one.
    pub(super) fn at(&mut self, address: IpAddr, time: i64) -> Option<&mut Figures> {
        if self.figures.len() >= self.limit && !self.figures.contains_key(&address) {
            self.untracked += 1;
            return None;
        }
        let figures = self.figures.entry(address).or_insert_with(|| Figures {
            first: time,
            last: time,
            ..Figures::default()
        });
        figures.first = figures.first.min(time);
        figures.last = figures.last.max(time);
        Some(figures)
    }

    /// As that of [`Figures`], of all, with another limit from now on.
    pub(super) fn resume(&mut self, limit: usize, from: KeptAddresses, to: KeptAddresses) {
        self.limit = limit;
        for figures in self.figures.values_mut() {
            figures.narrow(from, to);
        }
    }

    /// What is known of one.
    pub fn get(&self, address: IpAddr) -> Option<&Figures> {
        self.figures.get(&address)
    }

    /// What is known of all, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Figures)> {
        self.figures.iter()
    }

    /// What is known of all.
    pub fn into_map(self) -> BTreeMap<IpAddr, Figures> {
        self.figures.into_iter().collect()
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.figures.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// Lines about clients that there was no place for.
    pub const fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_where_their_list_has_them() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            let mut figures = Figures::default();
            figures.reject(reason);
            assert_eq!(figures.rejects[at], 1, "{}", reason.name());
            let json = serde_json::to_value(reason).expect("JSON");
            assert_eq!(json, reason.name());
        }
    }

    #[test]
    fn clients_beyond_the_limit_are_counted() {
        let mut clients = Clients::new(2);
        for last in [1, 2, 3, 1, 4] {
            clients.at(IpAddr::from([192, 0, 2, last]), 0);
        }
        assert_eq!((clients.len(), clients.untracked()), (2, 2));
    }

    #[test]
    fn two_times_together_are_what_one_is() {
        let mut clients = [1, 2, 3].map(|_| Clients::new(1));
        let address = IpAddr::from([192, 0, 2, 1]);
        for time in 0..10 {
            for at in [usize::from(time >= 5), 2] {
                let figures = clients[at].at(address, time).expect("a place");
                figures.messages += 1;
                figures.status(Status::Sent, 2);
                figures.reject(Reason::Virus);
                figures.sender(&format!("{}@example.org", time % 3));
            }
        }
        let [earlier, later, whole] =
            clients.map(|clients| clients.get(address).expect("figures").clone());
        let mut merged = earlier;
        merged.merge(later);
        assert_eq!(merged, whole);
    }

    #[test]
    fn what_is_kept_of_a_client_is_bounded() {
        let mut figures = Figures::default();
        for i in 0..1000 {
            figures.sender(&format!("{i}@example.org"));
            figures.message(Message {
                time: i,
                queue_id: String::new(),
                sender: None,
                recipients: Vec::new(),
                recipient_count: 1,
                size: None,
                sent: 1,
                deferred: 0,
                bounced: 0,
                relay: None,
                rejected: None,
            });
        }
        assert_eq!(
            (figures.senders.len(), figures.latest.len()),
            (SENDERS, MESSAGES)
        );
        assert_eq!(figures.latest[0].time, 992);
    }
}
