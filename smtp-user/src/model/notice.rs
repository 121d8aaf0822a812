//! What owners are told about their hosts: plain data.
//!
//! Contract: a [`Case`] is what there is between the operator and one owner until all is quiet again; a
//! [`Notice`] is one message of it, whole, as it was approved and as it leaves. Times are milliseconds since
//! 1970. What is in here was checked where it came in: mail addresses can stand in a header as they are.
#![forbid(unsafe_code)]

mod book;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::owner::{Contact, OwnerSource};
use super::period::Period;
use super::person::check_why;
use super::sample::Sample;
use super::verdict::{Severity, Unmoved};

pub use self::book::{Book, Declined, Departure, NoticeChange};

/// Most hosts that one notice is about.
pub const MAX_HOSTS: usize = 50;
/// Most recipients of one notice.
pub const MAX_RECIPIENTS: usize = 16;

/// What was counted of a host, as it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The host, or the prefix that IPv6 addresses are judged by.
    pub host: IpNet,
    /// The numbers of its open verdicts.
    pub verdicts: Vec<u64>,
    /// What rules say, with their figures, one line each.
    pub rules: Vec<String>,
    /// The worst of them.
    pub severity: Severity,
    /// When the first of its verdicts was opened.
    pub first_at: u64,
    /// When a rule held last.
    pub last_at: u64,
    /// The time of the counts below.
    pub period: Period,
    /// Connections that it opened.
    pub connections: u64,
    /// Those on which the server sent data. Nobody can have these in its name from elsewhere: a server
    /// sends data only to who has answered its SYN-ACK.
    pub conversations: u64,
    /// Those of them on which the server took a message.
    pub delivered: u64,
    /// Those of them on which the server said 5xx and took none.
    pub rejected: u64,
    /// Packets to servers.
    pub packets: u64,
    /// Their layer-3 bytes.
    pub bytes: u64,
    /// Distinct servers.
    pub servers: u64,
    /// What logs of mail servers say, where they are read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log: Option<LogFacts>,
}

/// What logs of mail servers say of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFacts {
    /// The time of the first line, in milliseconds since 1970: today or yesterday (UTC).
    #[serde(default)]
    pub since: u64,
    /// Messages that were taken from it.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
    /// What was refused.
    pub rejects: u64,
}

/// Who is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressee {
    /// Who answers for the host.
    pub name: String,
    /// Where to write to.
    pub mail: Vec<String>,
    /// Who says so.
    pub source: OwnerSource,
}

impl Addressee {
    /// The contact that this source names.
    pub fn new(contact: &Contact, source: OwnerSource) -> Self {
        Self {
            name: contact.name.clone(),
            mail: contact.mail.clone(),
            source,
        }
    }

    /// What makes it the same owner: the addresses that are written to, in whatever order.
    pub fn key(&self) -> String {
        let mut mail: Vec<_> = self
            .mail
            .iter()
            .map(|mail| mail.to_ascii_lowercase())
            .collect();
        mail.sort_unstable();
        mail.dedup();
        mail.join(",")
    }
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A verdict about it is open.
    Flagged,
    /// All of them were resolved: it has stopped, or somebody said so.
    Quiet,
    /// They were wrong.
    Mistaken,
}

/// A host that there may be something to tell about.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// What was counted.
    pub facts: Facts,
    /// Where it stands.
    pub standing: Standing,
    /// Whose it is, if somebody is named.
    pub owner: Option<Addressee>,
    /// A message of it that somebody has complained about, if there is one that may be handed on.
    pub sample: Option<Sample>,
}

/// A host in a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseHost {
    /// The latest that is known.
    pub facts: Facts,
    /// Where it stands.
    pub standing: Standing,
    /// When the first notice about it in this case left; `None` before.
    pub told_at: Option<u64>,
    /// When the last one that says that it goes on left, or the first.
    pub pressed_at: Option<u64>,
}

/// What there is between the operator and an owner, from the first host until all are quiet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Its number, never given again.
    pub id: u64,
    /// The owner, see [`Addressee::key`].
    pub owner: String,
    /// Whom it is written to.
    pub addressee: Addressee,
    /// When it was opened.
    pub opened_at: u64,
    /// When it was closed; no more is written then.
    pub closed_at: Option<u64>,
    /// Notices that were made for it.
    pub sequence: u32,
    /// How often it was said that a host goes on.
    pub pressed: u32,
    /// The Message-ID of the last notice that left, without its brackets.
    pub last_message_id: Option<String>,
    /// Its hosts.
    pub hosts: Vec<CaseHost>,
}

impl Case {
    /// This host in it.
    pub fn host(&self, host: IpNet) -> Option<&CaseHost> {
        self.hosts.iter().find(|known| known.facts.host == host)
    }

    /// Whether anything was told yet.
    pub fn is_told(&self) -> bool {
        self.hosts.iter().any(|host| host.told_at.is_some())
    }
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// To the operator: what waits because there is too much of it.
    Digest,
    /// Hosts go on although their owner was told.
    Escalation,
    /// The first hosts of a case.
    First,
    /// Further hosts of it.
    More,
    /// All of its hosts have stopped.
    Solved,
    /// All that was told was wrong.
    Withdrawn,
}

impl NoticeKind {
    /// All of them, in the order in which they leave.
    pub const ALL: [Self; 6] = [
        Self::Digest,
        Self::Escalation,
        Self::First,
        Self::More,
        Self::Solved,
        Self::Withdrawn,
    ];

    /// As in JSON, text, templates and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Escalation => "escalation",
            Self::First => "first",
            Self::More => "more",
            Self::Solved => "solved",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether it accuses a host, and so has evidence with it.
    pub const fn accuses(self) -> bool {
        matches!(self, Self::Escalation | Self::First | Self::More)
    }
}

/// Where a notice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeState {
    /// For somebody to approve it.
    Waiting,
    /// It leaves as soon as it may.
    Approved,
    /// It was taken by the relay for every recipient that did not refuse it.
    Sent,
    /// The relay wants it for nobody.
    Failed,
    /// It could not leave, or nobody approved it, in time.
    Expired,
    /// Somebody did not want it to leave.
    Rejected,
    /// Another one was made in its place, or it was over before it left.
    Superseded,
}

/// The states that a person can give a notice.
pub const DECISIONS: [NoticeState; 2] = [NoticeState::Approved, NoticeState::Rejected];

impl NoticeState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Approved,
        Self::Sent,
        Self::Failed,
        Self::Expired,
        Self::Rejected,
        Self::Superseded,
    ];

    /// As in JSON, text and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
        }
    }

    /// Whether it may still leave.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Approved)
    }

    /// Whether a notice may go from this state to that one.
    pub const fn may_become(self, to: Self) -> bool {
        match self {
            Self::Waiting => matches!(
                to,
                Self::Approved | Self::Expired | Self::Rejected | Self::Superseded
            ),
            Self::Approved => !matches!(to, Self::Waiting | Self::Approved),
            _ => false,
        }
    }
}

impl std::fmt::Display for NoticeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for NoticeState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no state of a notice: expected one of {names}")
        })
    }
}

/// What became of a notice for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is still to be given to the relay.
    Pending,
    /// The relay has taken it.
    Taken,
    /// The relay does not want it, for good.
    Refused,
}

impl Fate {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Taken => "taken",
            Self::Refused => "refused",
        }
    }
}

/// A recipient of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub mail: String,
    /// What became of it.
    pub fate: Fate,
}

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its number, never given again.
    pub id: u64,
    /// Its case; none for a digest.
    pub case: Option<u64>,
    /// What it is about.
    pub kind: NoticeKind,
    /// Where it stands.
    pub state: NoticeState,
    /// Whom it goes to.
    pub recipients: Vec<Recipient>,
    /// The hosts that it is about; none for a digest.
    pub hosts: Vec<IpNet>,
    /// When it was made.
    pub made_at: u64,
    /// When its state changed last.
    pub changed_at: u64,
    /// When it is of no use any more.
    pub expires_at: u64,
    /// Not tried before this time.
    pub next_at: u64,
    /// How often it was given to the relay.
    pub attempts: u32,
    /// When it left, or may have left, last. Limits count by this.
    pub left_at: Option<u64>,
    /// Without its brackets. The same in every attempt.
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// What people read in it.
    pub text: String,
    /// The whole message, as it leaves.
    pub message: Vec<u8>,
    /// What came of the last attempt.
    pub last_reply: Option<String>,
}

impl Notice {
    /// Changes the state, and gives the event that tells of it.
    ///
    /// # Errors
    ///
    /// The state cannot follow on this one; `why` is empty, too long or of several lines.
    pub fn move_to(
        &mut self,
        to: NoticeState,
        who: &str,
        why: &str,
        at: u64,
    ) -> Result<NoticeEvent, Unmoved> {
        check_why(why).map_err(Unmoved::Text)?;
        let from = self.state;
        if !from.may_become(to) {
            return Err(Unmoved::State(format!(
                "notice {} is {from} and cannot become {to}",
                self.id
            )));
        }
        self.state = to;
        self.changed_at = at.max(self.made_at);
        Ok(NoticeEvent {
            notice: self.id,
            at: self.changed_at,
            who: who.to_owned(),
            from: Some(from),
            to,
            why: why.to_owned(),
        })
    }

    /// Whether it, or a copy of it, has left or may have left.
    pub const fn has_left(&self) -> bool {
        self.left_at.is_some()
    }
}

/// A change in the life of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeEvent {
    /// Which notice.
    pub notice: u64,
    /// When.
    pub at: u64,
    /// Who: `smtpflow`, or a person.
    pub who: String,
    /// The state before; `None` when it was made.
    pub from: Option<NoticeState>,
    /// The state after.
    pub to: NoticeState,
    /// Why.
    pub why: String,
}

/// What the operator has called when a notice waits and when one was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// An HTTP server.
    Webhook,
    /// A command.
    Command,
}

impl Hook {
    /// As in logs and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Command => "command",
        }
    }
}

/// A call that a hook has not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookCall {
    /// The number of the event that it tells of; the same in every attempt.
    pub event: u64,
    /// Which notice.
    pub notice: u64,
    /// The state that the notice got: waiting or sent.
    pub to: NoticeState,
    /// How often it was tried.
    pub attempts: u32,
}
