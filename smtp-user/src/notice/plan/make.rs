//! How a notice of a plan is made.
//!
//! Contract: as in the module above. What is made is whole: its message is composed here, once.

use super::super::settings::Mode;
use super::super::{HOUR, gate};
use super::{Draft, Planner};
use crate::counted::counted;
use crate::model::notice::{
    Case, Facts, Fate, MAX_RECIPIENTS, Notice, NoticeChange, NoticeEvent, NoticeKind, NoticeState,
    Recipient,
};
use crate::model::person::SMTPFLOW;

/// Most messages that a notice has with it, one of a host.
const MAX_SAMPLES: usize = 3;

impl Planner<'_> {
    /// Tells the operator what waits, where more is to leave than may.
    pub(super) fn digest(&mut self) {
        let Some(operator) = self.policy.settings.operator.clone() else {
            return;
        };
        let hour_ago = |at| gate::ago(self.now, at).is_none_or(|ago| ago >= HOUR);
        let is_there = self
            .book
            .notices
            .iter()
            .any(|notice| notice.kind == NoticeKind::Digest)
            || self
                .book
                .departures
                .iter()
                .any(|departure| departure.digest && !hour_ago(departure.at));
        let waiting: Vec<&Notice> = gate::queue(&self.book)
            .into_iter()
            .filter(|notice| notice.state == NoticeState::Approved && notice.next_at <= self.now)
            .collect();
        let (room, _) = gate::room(&self.policy.settings, &self.book, self.now);
        // In quiet hours nothing leaves anyway, and by their end the list is another one.
        let quiet = gate::quiet_until(self.policy, self.now).is_some();
        // Where one message leaves in an hour, it had better be a notice.
        let most = self.policy.settings.per_hour;
        if is_there || quiet || most < 2 || waiting.len() <= room {
            return;
        }
        // The digest takes a place of its own.
        let waiting = waiting
            .into_iter()
            .skip(room.saturating_sub(1))
            .map(|notice| {
                let mail = notice
                    .recipients
                    .first()
                    .map(|recipient| recipient.mail.clone());
                (notice.id, mail.unwrap_or_default(), notice.subject.clone())
            })
            .collect();
        self.make(Draft {
            id: self.book.next_notice.max(1),
            kind: NoticeKind::Digest,
            case: None,
            name: String::new(),
            recipients: vec![operator],
            hosts: Vec::new(),
            samples: Vec::new(),
            waiting,
            at: self.now,
        });
    }

    pub(super) fn draft(&mut self, kind: NoticeKind, mut case: Case, hosts: Vec<Facts>) {
        case.sequence = case.sequence.saturating_add(1);
        let mut recipients = case.addressee.mail.clone();
        if kind == NoticeKind::Escalation {
            for mail in &self.policy.settings.escalate_to {
                if !recipients
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(mail))
                {
                    recipients.push(mail.clone());
                }
            }
        }
        recipients.truncate(MAX_RECIPIENTS);
        let samples = hosts
            .iter()
            .filter_map(|facts| self.samples.get(&facts.host))
            .take(MAX_SAMPLES)
            .map(|sample| (*sample).clone())
            .collect();
        self.note(NoticeChange::Case(case.clone()));
        self.make(Draft {
            id: self.book.next_notice.max(1),
            kind,
            name: case.addressee.name.clone(),
            case: Some(case),
            recipients,
            hosts,
            samples,
            waiting: Vec::new(),
            at: self.now,
        });
    }

    fn make(&mut self, draft: Draft) {
        let settings = &self.policy.settings;
        let state = match (settings.mode, draft.kind) {
            // To oneself.
            (_, NoticeKind::Digest) | (Mode::Automatic, _) => NoticeState::Approved,
            (Mode::Approval, _) => NoticeState::Waiting,
        };
        let rendered = self.composer.compose(&draft);
        let Draft {
            id,
            kind,
            case,
            name: _,
            recipients,
            hosts,
            samples: _,
            waiting: _,
            at,
        } = draft;
        let pending = |mail| Recipient {
            mail,
            fate: Fate::Pending,
        };
        let notice = Notice {
            id,
            case: case.map(|case| case.id),
            kind,
            state,
            recipients: recipients.into_iter().map(pending).collect(),
            hosts: hosts.iter().map(|facts| facts.host).collect(),
            made_at: at,
            changed_at: at,
            expires_at: at.saturating_add(u64::from(settings.expire_hours) * HOUR),
            next_at: at,
            attempts: 0,
            left_at: None,
            message_id: rendered.message_id,
            subject: rendered.subject,
            text: rendered.text,
            message: rendered.message,
            last_reply: None,
        };
        let event = NoticeEvent {
            notice: id,
            at,
            who: SMTPFLOW.to_owned(),
            from: None,
            to: state,
            why: format!(
                "{} of {}",
                kind.name(),
                counted(notice.hosts.len() as u64, "host")
            ),
        };
        self.note(NoticeChange::Made(notice, event));
    }
}
