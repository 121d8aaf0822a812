//! What one look of `smtpflow notice run --once` came to: a line for each notice, and how many there are of what.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::document::printable;
use super::notices::JsonNotice;
use super::{SCHEMA, time};
use crate::counted::counted;
use crate::model::notice::{Notice, NoticeState};
use crate::model::prefix::show;
use crate::notice::Wait;

/// Most lines about notices; JSON has all.
const LINES: usize = 20;

/// See the module.
pub(crate) struct Round {
    /// What was made.
    pub(crate) made: Vec<Notice>,
    /// What was given to the relay, as it was afterwards.
    pub(crate) tried: Vec<Notice>,
    /// What is open and was not given to the relay, and what it waits for; `None`: that the relay is there again.
    pub(crate) waiting: Vec<(Notice, Option<Wait>)>,
}

impl Round {
    fn sent(&self) -> impl Iterator<Item = &Notice> {
        let is_sent = |notice: &&Notice| notice.state == NoticeState::Sent;
        self.tried.iter().filter(is_sent)
    }

    fn failed(&self) -> impl Iterator<Item = &Notice> {
        let is_sent = |notice: &&Notice| notice.state == NoticeState::Sent;
        self.tried.iter().filter(move |notice| !is_sent(notice))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let made: BTreeSet<u64> = self.made.iter().map(|notice| notice.id).collect();
        let failed = self.failed().map(|notice| (notice, failure(notice)));
        let sent = self
            .sent()
            .map(|notice| (notice, format!("sent: {}", reply(notice))));
        let waiting = self
            .waiting
            .iter()
            .map(|(notice, wait)| (notice, patience(notice, wait.as_ref())));
        // What went wrong comes first, so that it is among those that are told.
        let lines: Vec<_> = failed.chain(sent).chain(waiting).collect();
        let mut text = String::new();
        for (notice, what) in lines.iter().take(LINES) {
            let new = if made.contains(&notice.id) {
                "made, "
            } else {
                ""
            };
            let _ = writeln!(text, "{}: {new}{}", name(notice), printable(what));
        }
        if lines.len() > LINES {
            let _ = writeln!(text, "and {} more", lines.len() - LINES);
        }
        let _ = writeln!(
            text,
            "made: {}; waiting: {}; sent: {}; failed: {}",
            self.made.len(),
            self.waiting.len(),
            self.sent().count(),
            self.failed().count()
        );
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let waiting = self.waiting.iter().map(|(notice, wait)| {
            json!({"notice": JsonNotice::from(notice), "why": patience(notice, wait.as_ref())})
        });
        let failed = self
            .failed()
            .map(|notice| json!({"notice": JsonNotice::from(notice), "why": failure(notice)}));
        json!({
            "schema": SCHEMA,
            "made": self.made.iter().map(JsonNotice::from).collect::<Vec<_>>(),
            "waiting": waiting.collect::<Vec<_>>(),
            "sent": self.sent().map(JsonNotice::from).collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
        })
    }
}

/// Which it is, to whom and about how many hosts.
fn name(notice: &Notice) -> String {
    let mails: Vec<&str> = notice
        .recipients
        .iter()
        .map(|recipient| &*recipient.mail)
        .collect();
    let about = match notice.hosts.len() {
        0 => String::new(),
        hosts => format!(" about {}", counted(hosts as u64, "host")),
    };
    printable(&format!(
        "notice {} ({}) to {}{about}",
        notice.id,
        notice.kind.name(),
        mails.join(", ")
    ))
}

fn reply(notice: &Notice) -> &str {
    notice.last_reply.as_deref().unwrap_or("-")
}

/// What became of one that was not sent.
fn failure(notice: &Notice) -> String {
    match notice.state.is_open() {
        true => format!(
            "not sent, and tried again after {}: {}",
            time::minutes(notice.next_at),
            reply(notice)
        ),
        false => format!("{}: {}", notice.state, reply(notice)),
    }
}

/// What one waits for.
fn patience(notice: &Notice, wait: Option<&Wait>) -> String {
    let until = |at: &u64| time::minutes(*at);
    match wait {
        None => "approved, waits until the relay can be reached".to_owned(),
        Some(Wait::Off) => "waits until notices are switched on (notice.enabled)".to_owned(),
        Some(Wait::Approval) => format!(
            "waits for somebody to approve it (smtpflow notice approve {})",
            notice.id
        ),
        Some(Wait::Foreign(host)) => format!(
            "approved, waits: {} is none of your own hosts any more (networks.local)",
            show(host)
        ),
        Some(Wait::Retry(at)) => format!(
            "approved, waits until {}: it was tried before: {}",
            until(at),
            reply(notice)
        ),
        Some(Wait::Quiet(at)) => {
            format!("approved, waits for the end of quiet hours, {}", until(at))
        }
        Some(Wait::PerHour(at)) => format!(
            "approved, waits until {}: as many have left as may in an hour (notice.per_hour)",
            until(at)
        ),
        Some(Wait::Host(host, at)) => format!(
            "approved, waits until {}: its owner was told about {} within a day",
            until(at),
            show(host)
        ),
    }
}
