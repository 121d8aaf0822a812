//! What logs of mail servers say of a client, as JSON and as tables.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::document::{Table, number, text};
use super::time;
use crate::answer::answer;
use crate::maillog::{Figures, Message, Reason};

answer! {
    /// Refusals for one reason.
    pub(crate) struct JsonRejects {
        /// The reason: virus, spam, relay, recipient, listed, name, rate, greylisted or other.
        reason: &'static str,
        /// How many.
        count: u64,
    }
}

answer! {
    /// A sender, as far as addresses are kept.
    pub(crate) struct JsonSender {
        /// Its address, its domain, or what is kept of it.
        sender: String,
        /// Messages.
        messages: u64,
    }
}

answer! {
    /// A message, as the logs have it.
    pub(crate) struct JsonMessage {
        /// When it came, in seconds since 1970.
        time: u64,
        /// Its number in the queue.
        queue_id: String,
        /// Its sender, as far as it is kept, or null.
        sender: Option<String>,
        /// Its first recipients, as far as they are kept.
        recipients: Vec<String>,
        /// How many recipients it had.
        recipient_count: u32,
        /// Octets, or null.
        size: Option<u64>,
        /// Deliveries.
        sent: u32,
        /// Deliveries that were put off.
        deferred: u32,
        /// Deliveries that failed for good.
        bounced: u32,
        /// The last server that it was given to, or null.
        relay: Option<IpAddr>,
        /// Why it was refused, or null.
        rejected: Option<&'static str>,
    }
}

impl From<Message> for JsonMessage {
    fn from(message: Message) -> Self {
        let Message {
            time,
            queue_id,
            sender,
            recipients,
            recipient_count,
            size,
            sent,
            deferred,
            bounced,
            relay,
            rejected,
        } = message;
        Self {
            time: u64::try_from(time).unwrap_or(0),
            queue_id,
            sender,
            recipients,
            recipient_count,
            size,
            sent,
            deferred,
            bounced,
            relay,
            rejected: rejected.map(Reason::name),
        }
    }
}

answer! {
    /// What logs of mail servers say of a client.
    pub(crate) struct JsonClient {
        /// The client.
        addr: IpAddr,
        /// Messages that came into a queue.
        messages: u64,
        /// Their recipients.
        recipients: u64,
        /// Their octets.
        bytes: u64,
        /// Deliveries.
        sent: u64,
        /// Tries that were put off.
        deferred: u64,
        /// Deliveries that failed for good.
        bounced: u64,
        /// Refusals of all kinds.
        rejected: u64,
        /// Refusals by reason.
        rejects: Vec<JsonRejects> [JsonRejects],
        /// Lines in which sendmail says that the name may be forged.
        may_be_forged: u64,
        /// Rows of messages that look alike.
        bursts: u64,
        /// Messages of the longest one.
        longest_burst: u32,
        /// The time of the first line.
        first: String,
        /// The time of the last line.
        last: String,
        /// Messages by sender, of the first ones that were seen.
        senders: Vec<JsonSender> [JsonSender],
        /// The latest messages, the oldest first.
        latest: Vec<JsonMessage> [JsonMessage],
    }
}

impl JsonClient {
    /// Of these figures.
    pub(crate) fn new(addr: IpAddr, figures: Figures) -> Self {
        let rejected = figures.rejected();
        let rejects = Reason::ALL.into_iter().zip(figures.rejects);
        Self {
            addr,
            messages: figures.messages,
            recipients: figures.recipients,
            bytes: figures.bytes,
            sent: figures.sent,
            deferred: figures.deferred,
            bounced: figures.bounced,
            rejected,
            rejects: rejects
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| JsonRejects {
                    reason: reason.name(),
                    count,
                })
                .collect(),
            may_be_forged: figures.forged,
            bursts: figures.bursts.count,
            longest_burst: figures.bursts.longest,
            first: at(figures.first),
            last: at(figures.last),
            senders: figures
                .senders
                .into_iter()
                .map(|(sender, messages)| JsonSender { sender, messages })
                .collect(),
            latest: figures.latest.into_iter().map(JsonMessage::from).collect(),
        }
    }
}

/// A time of a log, in seconds since 1970, in RFC 3339.
pub(crate) fn at(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A client as tables: its figures, what was refused, its latest messages. `client` is the JSON of a
/// [`JsonClient`], or null.
pub(crate) fn tables(client: &Value) -> [Table; 3] {
    let facts = [
        "messages",
        "recipients",
        "bytes",
        "sent",
        "deferred",
        "bounced",
        "rejected",
        "may_be_forged",
        "bursts",
        "longest_burst",
        "first",
        "last",
    ];
    let facts = if client.is_null() {
        Vec::new()
    } else {
        facts.map(|key| (key, cell(&client[key]))).to_vec()
    };
    let latest = [
        "time",
        "queue_id",
        "sender",
        "recipient_count",
        "size",
        "sent",
        "deferred",
        "bounced",
        "relay",
        "rejected",
    ];
    let mut messages = rows(&client["latest"], &latest);
    for (row, message) in messages
        .iter_mut()
        .zip(client["latest"].as_array().into_iter().flatten())
    {
        if let (Some(first), Some(seconds)) = (row.first_mut(), message["time"].as_u64()) {
            *first = time::seconds(seconds.saturating_mul(1000));
        }
    }
    [
        Table::facts("mail_log", "what the mail logs say of it", &facts),
        Table {
            name: "rejects",
            title: "what mail servers refused of it".to_owned(),
            columns: vec![text("reason"), number("count")],
            rows: rows(&client["rejects"], &["reason", "count"]),
            ..Table::default()
        },
        Table {
            name: "messages",
            title: "its latest messages in the logs".to_owned(),
            columns: vec![
                text("time"),
                text("queue_id"),
                text("sender"),
                number("recipients"),
                number("bytes"),
                number("sent"),
                number("deferred"),
                number("bounced"),
                text("given_to"),
                text("rejected"),
            ],
            rows: messages,
            ..Table::default()
        },
    ]
}

/// A value of a report as a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Rows of the objects in a list.
pub(crate) fn rows(list: &Value, keys: &[&str]) -> Vec<Vec<String>> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .map(|entry| keys.iter().map(|key| cell(&entry[*key])).collect())
        .collect()
}
