//! Notices to owners, as they are listed and shown.

use std::fmt::Write as _;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::document::{Document, Table, number, printable, text};
use super::{SCHEMA, time};
use crate::answer::answer;
use crate::counted::counted;
use crate::model::notice::{DECISIONS, Fate, HookCall, Notice, NoticeEvent, NoticeState};
use crate::model::period::rfc3339;
use crate::model::prefix::show;
use crate::notice::Silence;

answer! {
    /// A recipient of a notice.
    pub(crate) struct JsonRecipient {
        /// The address.
        mail: String,
        /// What became of it: pending, taken (the relay has the message for it) or refused.
        fate: &'static str,
    }
}

answer! {
    /// A notice to an owner.
    pub(crate) struct JsonNotice {
        /// Its number.
        id: u64,
        /// The case that it is part of; null for a digest to the operator.
        case: Option<u64>,
        /// first, more, escalation, solved, withdrawn or digest.
        kind: &'static str,
        /// waiting (for somebody to approve it), approved, sent, failed, expired, rejected or superseded.
        state: &'static str,
        /// Whom it goes to.
        recipients: Vec<JsonRecipient> [JsonRecipient],
        /// The hosts that it is about: addresses, or prefixes that are judged as one.
        hosts: Vec<String>,
        /// When it was made.
        made_at: String,
        /// When its state changed last.
        changed_at: String,
        /// When it is given up.
        expires_at: String,
        /// It is not tried before this time.
        next_at: String,
        /// How often it was given to the relay.
        attempts: u32,
        /// When it left, or may have left, last; null if it has not.
        left_at: Option<String>,
        /// Its Message-ID, without brackets.
        message_id: String,
        /// Its subject.
        subject: String,
        /// What came of the last attempt, or null.
        last_reply: Option<String>,
    }
}

answer! {
    /// A change in the life of a notice.
    pub(crate) struct JsonNoticeEvent {
        /// When it was.
        at: String,
        /// Who made it: smtpflow, or a person.
        who: String,
        /// The state before; null when the notice was made.
        from: Option<&'static str>,
        /// The state after.
        to: &'static str,
        /// Why it was made.
        why: String,
    }
}

answer! {
    /// A notice, its text and its life.
    pub(crate) struct JsonNoticeLife {
        /// Version of the form of this answer.
        schema: u32,
        /// The notice.
        notice: JsonNotice [JsonNotice],
        /// What people read in it, as it leaves.
        text: String,
        /// What has happened to it, the earliest first.
        events: Vec<JsonNoticeEvent> [JsonNoticeEvent],
        /// The states that a person can give it now: approved, rejected.
        may_become: Vec<&'static str>,
    }
}

impl From<&Notice> for JsonNotice {
    fn from(notice: &Notice) -> Self {
        let Notice {
            id,
            case,
            kind,
            state,
            recipients,
            hosts,
            made_at,
            changed_at,
            expires_at,
            next_at,
            attempts,
            left_at,
            message_id,
            subject,
            text: _,
            message: _,
            last_reply,
        } = notice;
        let recipients = recipients.iter().map(|recipient| JsonRecipient {
            mail: recipient.mail.clone(),
            fate: recipient.fate.name(),
        });
        Self {
            id: *id,
            case: *case,
            kind: kind.name(),
            state: state.name(),
            recipients: recipients.collect(),
            hosts: hosts.iter().map(show).collect(),
            made_at: rfc3339(*made_at),
            changed_at: rfc3339(*changed_at),
            expires_at: rfc3339(*expires_at),
            next_at: rfc3339(*next_at),
            attempts: *attempts,
            left_at: left_at.map(rfc3339),
            message_id: message_id.clone(),
            subject: subject.clone(),
            last_reply: last_reply.clone(),
        }
    }
}

impl From<&NoticeEvent> for JsonNoticeEvent {
    fn from(event: &NoticeEvent) -> Self {
        let NoticeEvent {
            notice: _,
            at,
            who,
            from,
            to,
            why,
        } = event;
        Self {
            at: rfc3339(*at),
            who: who.clone(),
            from: from.map(NoticeState::name),
            to: to.name(),
            why: why.clone(),
        }
    }
}

impl JsonNoticeLife {
    /// Of this notice.
    pub(crate) fn new(notice: &Notice, events: &[NoticeEvent]) -> Self {
        Self {
            schema: SCHEMA,
            notice: notice.into(),
            text: notice.text.clone(),
            events: events.iter().map(JsonNoticeEvent::from).collect(),
            may_become: DECISIONS
                .into_iter()
                .filter(|to| notice.state.may_become(*to))
                .map(NoticeState::name)
                .collect(),
        }
    }
}

/// A list in JSON.
pub(crate) fn json(notices: &[Notice]) -> Value {
    let list: Vec<JsonNotice> = notices.iter().map(JsonNotice::from).collect();
    json!({"schema": SCHEMA, "total": list.len(), "notices": list})
}

/// A notice in JSON, with its text and what has happened to it.
pub(crate) fn json_of(notice: &Notice, events: &[NoticeEvent]) -> Value {
    json!(JsonNoticeLife::new(notice, events))
}

/// What a hook gets: which event it is, and the notice as it is now.
pub(crate) fn json_of_call(call: &HookCall, notice: &Notice, events: &[NoticeEvent]) -> Value {
    let mut json = json_of(notice, events);
    json["event"] = json!(call.to);
    json["event_id"] = json!(call.event);
    json["attempt"] = json!(call.attempts.saturating_add(1));
    json
}

/// A list.
pub(crate) fn document(notices: &[Notice]) -> Document {
    let rows = notices.iter().map(|notice| {
        vec![
            notice.id.to_string(),
            notice.state.name().to_owned(),
            notice.kind.name().to_owned(),
            notice
                .case
                .map_or_else(|| "-".to_owned(), |case| case.to_string()),
            notice.hosts.len().to_string(),
            time::minutes(notice.made_at),
            mails(notice),
            notice.subject.clone(),
        ]
    });
    Document {
        title: "Notices to owners".to_owned(),
        notes: Vec::new(),
        tables: vec![Table {
            name: "notices",
            title: counted(notices.len() as u64, "notice"),
            notes: Vec::new(),
            columns: vec![
                number("id"),
                text("state"),
                text("kind"),
                number("case"),
                number("hosts"),
                text("made"),
                text("to"),
                text("subject"),
            ],
            rows: rows.collect(),
        }],
    }
}

/// The addresses that a notice goes to, each with what became of it.
pub(crate) fn mails(notice: &Notice) -> String {
    let mails: Vec<String> = notice
        .recipients
        .iter()
        .map(|recipient| match recipient.fate {
            Fate::Pending => recipient.mail.clone(),
            Fate::Taken => format!("{} (taken)", recipient.mail),
            Fate::Refused => format!("{} (refused)", recipient.mail),
        })
        .collect();
    mails.join(", ")
}

/// A notice with its text and what has happened to it.
pub(crate) fn document_of(notice: &Notice, events: &[NoticeEvent]) -> Document {
    let facts = [
        ("state", notice.state.name().to_owned()),
        ("kind", notice.kind.name().to_owned()),
        (
            "case",
            notice
                .case
                .map_or_else(|| "-".to_owned(), |case| case.to_string()),
        ),
        ("to", mails(notice)),
        ("subject", notice.subject.clone()),
        ("message id", notice.message_id.clone()),
        ("made", time::minutes(notice.made_at)),
        ("expires", time::minutes(notice.expires_at)),
        ("attempts", notice.attempts.to_string()),
        (
            "left",
            notice.left_at.map_or_else(|| "-".to_owned(), time::minutes),
        ),
        (
            "last reply",
            notice.last_reply.clone().unwrap_or_else(|| "-".to_owned()),
        ),
    ];
    let life = events.iter().map(|event| {
        vec![
            time::minutes(event.at),
            event.who.clone(),
            event.to.name().to_owned(),
            event.why.clone(),
        ]
    });
    Document {
        title: format!("Notice {}", notice.id),
        notes: Vec::new(),
        tables: vec![
            Table::facts("notice", "What it is", &facts),
            Table {
                name: "events",
                title: "What has happened to it".to_owned(),
                notes: Vec::new(),
                columns: vec![text("at"), text("who"), text("state"), text("why")],
                rows: life.collect(),
            },
            Table {
                name: "text",
                title: "What its owner reads".to_owned(),
                notes: Vec::new(),
                columns: vec![text("line")],
                rows: notice
                    .text
                    .lines()
                    .map(|line| vec![line.to_owned()])
                    .collect(),
            },
        ],
    }
}

/// What would be told, and what would not and why.
pub(crate) fn preview(made: &[&Notice], silences: &[(IpNet, Silence)]) -> String {
    let mut all = String::new();
    for notice in made {
        let _ = writeln!(all, "To: {}", printable(&mails(notice)));
        let _ = writeln!(all, "Subject: {}\n", printable(&notice.subject));
        for line in notice.text.lines() {
            let _ = writeln!(all, "{}", printable(line));
        }
        all.push('\n');
    }
    for (host, silence) in silences {
        let _ = writeln!(
            all,
            "{}: nothing is told: {}",
            show(host),
            printable(&silence.to_string())
        );
    }
    if all.is_empty() {
        all.push_str("there is nothing to tell\n");
    }
    all
}

/// The same in JSON.
pub(crate) fn json_of_preview(made: &[&Notice], silences: &[(IpNet, Silence)]) -> Value {
    let notices: Vec<Value> = made
        .iter()
        .map(|notice| {
            json!({
                "recipients": notice.recipients.iter().map(|to| &to.mail).collect::<Vec<_>>(),
                "kind": notice.kind.name(),
                "hosts": notice.hosts.iter().map(show).collect::<Vec<_>>(),
                "subject": notice.subject,
                "text": notice.text,
            })
        })
        .collect();
    let silences: Vec<Value> = silences
        .iter()
        .map(|(host, silence)| json!({"host": show(host), "why": silence.to_string()}))
        .collect();
    json!({"schema": SCHEMA, "notices": notices, "silences": silences})
}
