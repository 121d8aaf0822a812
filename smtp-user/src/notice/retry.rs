//! What an attempt to send a notice makes of it.
//!
//! Contract: no I/O, no clock. Nothing is lost: what was not taken and not refused for good is tried again, later
//! each time, until it expires. What may have arrived (a relay that says nothing after the end of the message) is
//! tried again as well, with the same Message-ID by which whoever gets it twice can tell, but not within the hour,
//! so that a relay that always does so makes no flood of it.

use super::HOUR;
use crate::model::notice::{
    Book, Fate, Notice, NoticeChange, NoticeEvent, NoticeKind, NoticeState,
};
use crate::model::person::{MAX_WHY, SMTPFLOW};

const MINUTE: u64 = 60_000;
/// How long is waited after each attempt; after later ones, as long as after the last of these.
const DELAYS: [u64; 9] = [
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
];

/// What became of one recipient in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The relay has the message for it.
    Taken,
    /// The relay may have it: the conversation ended between the end of the message and the reply.
    Unknown,
    /// The relay does not want it for this recipient, for good.
    Refused,
    /// Not now.
    Later,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Of each recipient that was tried, by its address.
    pub outcomes: Vec<(String, Outcome)>,
    /// What the relay said, or what went wrong, in one line.
    pub reply: String,
    /// Whether it said anything about any recipient. If not, it says nothing about those of other notices either
    /// for now.
    pub reached: bool,
}

/// What is to be noted before an attempt at this time: whoever dies in it, and whatever the relay has by then, does
/// not try it again within the hour.
pub fn before(notice: &Notice, now: u64) -> NoticeChange {
    let mut notice = notice.clone();
    notice.attempts = notice.attempts.saturating_add(1);
    notice.next_at = now.saturating_add(HOUR);
    notice.last_reply = Some("begun, and nothing is known of its end".to_owned());
    NoticeChange::Tried(notice)
}

/// What is to be noted after an attempt at this time; `notice` is as it was noted before it.
pub fn after(book: &Book, notice: &Notice, attempt: &Attempt, now: u64) -> Vec<NoticeChange> {
    let mut notice = notice.clone();
    let reply: String = attempt.reply.chars().take(MAX_WHY).collect();
    notice.last_reply = Some(reply.clone());
    let mut unknown = false;
    for (mail, outcome) in &attempt.outcomes {
        let Some(recipient) = notice
            .recipients
            .iter_mut()
            .find(|known| known.mail == *mail)
        else {
            continue;
        };
        match outcome {
            Outcome::Taken => recipient.fate = Fate::Taken,
            Outcome::Refused => recipient.fate = Fate::Refused,
            Outcome::Unknown => unknown = true,
            Outcome::Later => {}
        }
    }
    let left = unknown
        || attempt
            .outcomes
            .iter()
            .any(|(_, outcome)| *outcome == Outcome::Taken);
    let mut changes = Vec::new();
    if left {
        notice.left_at = Some(now);
        changes.extend(told(book, &notice, now));
    }
    let has = |fate| {
        notice
            .recipients
            .iter()
            .any(|recipient| recipient.fate == fate)
    };
    let to = match (has(Fate::Pending), has(Fate::Taken)) {
        (true, _) => {
            let step = (notice.attempts as usize)
                .saturating_sub(1)
                .min(DELAYS.len() - 1);
            let delay = match left {
                true => DELAYS[step].max(HOUR),
                false => DELAYS[step],
            };
            notice.next_at = now.saturating_add(delay);
            changes.push(NoticeChange::Tried(notice));
            return changes;
        }
        (false, true) => NoticeState::Sent,
        (false, false) => NoticeState::Failed,
    };
    let event = NoticeEvent {
        notice: notice.id,
        at: now,
        who: SMTPFLOW.to_owned(),
        from: Some(notice.state),
        to,
        why: reply,
    };
    notice.state = to;
    notice.changed_at = now;
    changes.push(NoticeChange::Moved(notice, event));
    changes
}

/// The case of a notice that has left, or may have.
fn told(book: &Book, notice: &Notice, now: u64) -> Option<NoticeChange> {
    let mut case = book
        .cases
        .iter()
        .find(|case| Some(case.id) == notice.case)?
        .clone();
    case.last_message_id = Some(notice.message_id.clone());
    if notice.kind == NoticeKind::Escalation {
        case.pressed = case.pressed.saturating_add(1);
    }
    for host in &mut case.hosts {
        if !notice.hosts.contains(&host.facts.host) {
            continue;
        }
        host.told_at.get_or_insert(now);
        host.pressed_at = Some(now);
    }
    Some(NoticeChange::Case(case))
}
