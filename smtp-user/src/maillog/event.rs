//! What a line of a mail server says, whichever server it is.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Longest queue id that is looked at: Exim's have 23 octets.
pub const ID_LIMIT: usize = 24;

/// The number of a message in the queue of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId {
    octets: [u8; ID_LIMIT],
    length: u8,
}

impl QueueId {
    /// From its letters, digits and hyphens; anything else is no queue id.
    pub fn new(text: &[u8]) -> Option<Self> {
        let valid = |octet: &u8| octet.is_ascii_alphanumeric() || *octet == b'-';
        if text.is_empty() || text.len() > ID_LIMIT || !text.iter().all(valid) {
            return None;
        }
        let mut octets = [0; ID_LIMIT];
        octets[..text.len()].copy_from_slice(text);
        Some(Self {
            octets,
            length: text.len() as u8,
        })
    }

    /// As it stands in the log.
    pub fn as_str(&self) -> &str {
        // Nothing else gets in.
        std::str::from_utf8(&self.octets[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl TryFrom<String> for QueueId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text.as_bytes()).ok_or("no queue id")
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.as_str().to_owned()
    }
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Whether sendmail says that its name may be forged: the name does not lead back to the address.
    pub forged: bool,
}

/// What became of a message for one recipient or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was delivered, or handed on.
    Sent,
    /// It is tried again later.
    Deferred,
    /// It was returned.
    Bounced,
}

/// Why a message or a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A virus was found in it.
    Virus,
    /// A filter took it for spam.
    Spam,
    /// The client may not relay.
    Relay,
    /// The recipient does not exist.
    Recipient,
    /// The client is on a list of others.
    Listed,
    /// The sender's domain or the client's name is not as it has to be.
    Name,
    /// It sends too much.
    Rate,
    /// It has to come again later.
    Greylisted,
    /// Anything else.
    Other,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Virus,
        Self::Spam,
        Self::Relay,
        Self::Recipient,
        Self::Listed,
        Self::Name,
        Self::Rate,
        Self::Greylisted,
        Self::Other,
    ];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Virus => "virus",
            Self::Spam => "spam",
            Self::Relay => "relay",
            Self::Recipient => "recipient",
            Self::Listed => "listed",
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Greylisted => "greylisted",
            Self::Other => "other",
        }
    }
}

/// What one line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message is being given to the server (Postfix).
    Begin {
        /// The message.
        id: QueueId,
        /// Who gives it.
        client: Client,
    },
    /// A message is in the queue.
    Arrival {
        /// The message.
        id: QueueId,
        /// Who gave it; `None` where another line says so, or where nobody did.
        client: Option<Client>,
        /// The sender's mail address, empty for a bounce.
        sender: &'a [u8],
        /// Octets of the message.
        size: Option<u64>,
        /// Recipients, where the line says so.
        recipients: Option<u32>,
    },
    /// What became of it.
    Delivery {
        /// The message.
        id: QueueId,
        /// For whom: mail addresses as in [`super::field::list`].
        recipients: &'a [u8],
        /// What became of it for them.
        status: Status,
        /// The server that it was given to.
        relay: Option<IpAddr>,
    },
    /// Something was refused.
    Reject {
        /// The message, where there is one already.
        id: Option<QueueId>,
        /// Who was refused; `None` where the lines of the message say so.
        client: Option<Client>,
        /// Why.
        reason: Reason,
    },
    /// A message is out of the queue.
    End {
        /// The message.
        id: QueueId,
    },
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// It says something.
    Event(Event<'a>),
    /// It says nothing that is counted.
    Other,
    /// It begins like one that says something, and goes on as none does.
    Unclear,
}

impl<'a> Parsed<'a> {
    /// Unclear without an event.
    pub fn of(event: Option<Event<'a>>) -> Self {
        event.map_or(Self::Unclear, Self::Event)
    }
}
