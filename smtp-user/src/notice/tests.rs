//! What is told when, by a clock that the tests turn.

mod life;
mod messages;
mod properties;

use ipnet::IpNet;
use jiff::tz::TimeZone;

use super::plan::plan;
use super::retry::{Attempt, Outcome, after, before};
use super::{Composer, Gate, HOUR, Mode, Plan, Policy, Settings, queue};
use crate::model::notice::{
    Addressee, Book, Departure, Facts, Notice, NoticeChange, NoticeKind, NoticeState, Standing,
    Subject,
};
use crate::model::owner::OwnerSource;
use crate::model::period::Period;
use crate::model::verdict::Severity;

/// 2026-11-27T00:00:00Z.
pub(super) const NOW: u64 = 1_795_737_600_000;

pub(super) fn settings() -> Settings {
    Settings {
        enabled: true,
        from: Some("abuse@example.org".to_owned()),
        organisation: Some("Example University".to_owned()),
        operator: Some("noc@example.org".to_owned()),
        escalate_to: vec!["security@example.org".to_owned()],
        domains: vec!["customer.example".to_owned()],
        relay: Some(crate::server::Server {
            host: "127.0.0.1".to_owned(),
            port: 25,
        }),
        ..Settings::default()
    }
}

pub(super) fn policy() -> Policy {
    Policy {
        local: ["192.0.2.0/24", "2001:db8::/48"]
            .map(|text| text.parse().expect(text))
            .to_vec(),
        settings: settings(),
        zone: TimeZone::UTC,
    }
}

/// As [`policy`], where nobody has to approve anything.
pub(super) fn automatic() -> Policy {
    let mut policy = policy();
    policy.settings.mode = Mode::Automatic;
    policy
}

pub(super) fn owner(mail: &str) -> Option<Addressee> {
    Some(Addressee {
        name: "the department".to_owned(),
        mail: vec![mail.to_owned()],
        source: OwnerSource::Contacts,
    })
}

pub(super) fn facts(host: &str, at: u64) -> Facts {
    Facts {
        host: host.parse().expect(host),
        verdicts: vec![7],
        rules: vec!["more than 100 connections in the hour: 412".to_owned()],
        severity: Severity::Warning,
        first_at: at.saturating_sub(2 * HOUR),
        last_at: at,
        period: Period {
            from: at.saturating_sub(24 * HOUR),
            to: at,
        },
        connections: 412,
        conversations: 300,
        delivered: 120,
        rejected: 80,
        packets: 8000,
        bytes: 1_200_000,
        servers: 97,
        log: None,
    }
}

pub(super) fn subject(host: &str, owner: Option<Addressee>) -> Subject {
    Subject {
        facts: facts(host, NOW),
        standing: Standing::Flagged,
        owner,
        sample: None,
    }
}

/// The operator's desk, with a clock, a relay that does as it is told, and what has arrived.
pub(super) struct Desk {
    pub(super) policy: Policy,
    pub(super) composer: Composer,
    pub(super) book: Book,
    pub(super) now: u64,
    /// Every message that the relay has, with the time.
    pub(super) arrived: Vec<(u64, Notice)>,
    /// Every notice that ever was, as it was last.
    pub(super) all: Vec<Notice>,
}

impl Desk {
    pub(super) fn new(policy: Policy) -> Self {
        let composer = Composer::new(&policy.settings).expect("texts");
        Self {
            policy,
            composer,
            book: Book::default(),
            now: NOW,
            arrived: Vec::new(),
            all: Vec::new(),
        }
    }

    fn note(&mut self, changes: &[NoticeChange]) {
        for change in changes {
            match change {
                NoticeChange::Case(_) => {}
                NoticeChange::Made(notice, event) => {
                    assert!(
                        self.all.iter().all(|known| known.id != notice.id),
                        "a number comes again"
                    );
                    assert_eq!((event.from, event.to), (None, notice.state));
                    self.all.push(notice.clone());
                }
                NoticeChange::Moved(notice, event) => {
                    let known = self.all.iter_mut().find(|known| known.id == notice.id);
                    let known = known.expect("a notice that was made");
                    assert_eq!(event.from, Some(known.state));
                    assert!(
                        known.state.may_become(notice.state),
                        "{} to {}",
                        known.state,
                        notice.state
                    );
                    *known = notice.clone();
                }
                NoticeChange::Tried(notice) => {
                    let known = self.all.iter_mut().find(|known| known.id == notice.id);
                    *known.expect("a notice that was made") = notice.clone();
                }
            }
        }
        self.book.apply(changes);
        self.open_book();
    }

    /// The book as the store gives it at this time: when the clock goes back, what was too long ago is known again.
    fn open_book(&mut self) {
        let left = self.all.iter().filter_map(|notice| {
            let at = notice.left_at?;
            (at.saturating_add(24 * HOUR) > self.now).then(|| Departure {
                notice: notice.id,
                at,
                hosts: notice.hosts.clone(),
                digest: notice.kind == NoticeKind::Digest,
            })
        });
        self.book.departures = left.collect();
        self.book.departures.sort_by_key(|departure| departure.at);
    }

    /// What there is to tell of these now.
    pub(super) fn look(&mut self, subjects: &[Subject]) -> Plan {
        self.open_book();
        let plan = plan(&self.policy, &self.composer, &self.book, subjects, self.now);
        self.note(&plan.changes);
        plan
    }

    /// A person lets everything leave that waits.
    pub(super) fn approve_all(&mut self) {
        for mut notice in self.book.notices.clone() {
            if notice.state == NoticeState::Waiting {
                let event = notice.move_to(NoticeState::Approved, "ada", "good", self.now);
                notice.next_at = self.now;
                notice.expires_at = self.now + u64::from(self.policy.settings.expire_hours) * HOUR;
                self.note(&[NoticeChange::Moved(notice, event.expect("it can be"))]);
            }
        }
    }

    /// Gives the relay what may leave; `relay` says what it does with each recipient.
    pub(super) fn send(&mut self, mut relay: impl FnMut(&Notice, &str) -> Outcome) -> usize {
        let order: Vec<u64> = queue(&self.book).iter().map(|notice| notice.id).collect();
        let mut tried = 0;
        for id in order {
            let found = self.book.notices.iter().find(|notice| notice.id == id);
            let Some(mut notice) = found.cloned() else {
                continue;
            };
            if Gate::of(&self.policy, &self.book, &notice, self.now) != Gate::Open {
                continue;
            }
            tried += 1;
            let begun = before(&notice, self.now);
            self.note(std::slice::from_ref(&begun));
            if let NoticeChange::Tried(begun) = begun {
                notice = begun;
            }
            let pending = notice
                .recipients
                .iter()
                .filter(|recipient| recipient.fate == crate::model::notice::Fate::Pending);
            let outcomes: Vec<(String, Outcome)> = pending
                .map(|recipient| (recipient.mail.clone(), relay(&notice, &recipient.mail)))
                .collect();
            let has = |outcome| outcomes.iter().any(|(_, is)| *is == outcome);
            if has(Outcome::Taken) || has(Outcome::Unknown) {
                self.arrived.push((self.now, notice.clone()));
            }
            let attempt = Attempt {
                outcomes,
                reply: "as it is told".to_owned(),
                reached: true,
            };
            let changes = after(&self.book, &notice, &attempt, self.now);
            self.note(&changes);
        }
        tried
    }

    pub(super) fn send_all(&mut self) -> usize {
        self.send(|_, _| Outcome::Taken)
    }

    /// The subjects, seen now.
    pub(super) fn flagged(&self, hosts: &[(&str, &str)]) -> Vec<Subject> {
        self.seen(hosts, Standing::Flagged)
    }

    pub(super) fn seen(&self, hosts: &[(&str, &str)], standing: Standing) -> Vec<Subject> {
        hosts
            .iter()
            .map(|(host, mail)| Subject {
                facts: facts(host, self.now),
                standing,
                owner: owner(mail),
                sample: None,
            })
            .collect()
    }

    pub(super) fn kinds(&self) -> Vec<NoticeKind> {
        self.arrived.iter().map(|(_, notice)| notice.kind).collect()
    }

    pub(super) fn open(&self) -> Vec<(NoticeKind, NoticeState, usize)> {
        let notices = self.book.notices.iter();
        notices
            .map(|notice| (notice.kind, notice.state, notice.hosts.len()))
            .collect()
    }
}

pub(super) fn host(text: &str) -> IpNet {
    text.parse().expect(text)
}
