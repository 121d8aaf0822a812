//! What there is to tell now.
//!
//! Contract: no I/O, no clock. One case per owner, one notice at a time for it, about all of its hosts; who is
//! told already is told again only when a host goes on for long, or when all is over. A notice that has not left
//! gives way to a newer one that says more, and to none when what it says is not so any more: nobody is accused
//! because of a verdict that was withdrawn before.

mod make;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::evidence::{Policy, Silence, addressee};
use super::message::Composer;
use super::{DAY, HOUR, gate};
use crate::model::notice::{
    Addressee, Book, Case, CaseHost, Facts, MAX_HOSTS, Notice, NoticeChange, NoticeKind,
    NoticeState, Standing, Subject,
};
use crate::model::person::SMTPFLOW;
use crate::model::sample::Sample;

/// Most notices that are open at a time; what is beyond waits to be made.
const MAX_OPEN: usize = 1000;
/// Most hosts of a case.
const MAX_CASE_HOSTS: usize = 1000;

/// A notice before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The number that it gets.
    pub id: u64,
    /// What it is about.
    pub kind: NoticeKind,
    /// Its case, with this notice counted; none for a digest.
    pub case: Option<Case>,
    /// Who it is written to.
    pub name: String,
    /// Whom it goes to.
    pub recipients: Vec<String>,
    /// The hosts, the worst first.
    pub hosts: Vec<Facts>,
    /// Messages of theirs that somebody has complained about.
    pub samples: Vec<Sample>,
    /// What a digest is about: of each notice that waits its number, whom it is for, and its subject.
    pub waiting: Vec<(u64, String, String)>,
    /// When it is made.
    pub at: u64,
}

/// What there is to note, and what is not told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they happen, all together.
    pub changes: Vec<NoticeChange>,
    /// Of each flagged host that nothing is told about, why.
    pub silences: Vec<(IpNet, Silence)>,
}

/// What there is to tell, of all hosts with open verdicts and of all hosts in cases, at this time. Of a host that
/// is not among the subjects nothing new is known.
pub fn plan(
    policy: &Policy,
    composer: &Composer,
    book: &Book,
    subjects: &[Subject],
    now: u64,
) -> Plan {
    let mut planner = Planner {
        policy,
        composer,
        book: book.clone(),
        samples: subjects
            .iter()
            .filter_map(|subject| Some((subject.facts.host, subject.sample.as_ref()?)))
            .collect(),
        now,
        plan: Plan::default(),
    };
    if !policy.settings.enabled {
        return planner.plan;
    }
    planner.expire();
    let owners = planner.look(subjects);
    planner.recall(subjects, &owners);
    for (_, (addressee, hosts)) in owners {
        planner.tell(&addressee, hosts);
    }
    planner.close();
    planner.digest();
    planner.plan
}

struct Planner<'a> {
    policy: &'a Policy,
    composer: &'a Composer,
    /// As it is after the changes so far.
    book: Book,
    /// Of each host that has one, a message that somebody has complained about.
    samples: BTreeMap<IpNet, &'a Sample>,
    now: u64,
    plan: Plan,
}

/// Of each owner, by its key, whom to write to and the hosts that may be told about.
type Owners<'a> = BTreeMap<String, (Addressee, Vec<&'a Facts>)>;

impl Planner<'_> {
    fn note(&mut self, change: NoticeChange) {
        self.book.apply(std::slice::from_ref(&change));
        self.plan.changes.push(change);
    }

    fn end(&mut self, mut notice: Notice, to: NoticeState, why: &str) {
        match notice.move_to(to, SMTPFLOW, why, self.now) {
            Ok(event) => self.note(NoticeChange::Moved(notice, event)),
            Err(error) => debug_assert!(false, "{error:?}"),
        }
    }

    /// Gives up what is of no use any more.
    fn expire(&mut self) {
        for notice in self.book.notices.clone() {
            if notice.expires_at > self.now {
                continue;
            }
            let why = match notice.state {
                NoticeState::Waiting => "nobody approved it in time",
                _ => "it could not leave in time",
            };
            self.end(notice, NoticeState::Expired, why);
        }
    }

    /// Takes over what is new about hosts in cases; gives the owners of those that may be told about.
    fn look<'b>(&mut self, subjects: &'b [Subject]) -> Owners<'b> {
        let by_host: BTreeMap<IpNet, &Subject> = subjects
            .iter()
            .map(|subject| (subject.facts.host, subject))
            .collect();
        for mut case in self.book.cases.clone() {
            let mut changed = false;
            for host in &mut case.hosts {
                let Some(subject) = by_host.get(&host.facts.host) else {
                    continue;
                };
                // What a host did is told as it was while it did it.
                if subject.standing == Standing::Flagged && host.facts != subject.facts {
                    host.facts = subject.facts.clone();
                    changed = true;
                }
                if host.standing != subject.standing {
                    host.standing = subject.standing;
                    changed = true;
                }
            }
            if changed {
                self.note(NoticeChange::Case(case));
            }
        }
        let mut owners = Owners::new();
        for subject in by_host.into_values() {
            if subject.standing != Standing::Flagged {
                continue;
            }
            match addressee(self.policy, subject) {
                Ok(addressee) => {
                    let (_, hosts) = owners
                        .entry(addressee.key())
                        .or_insert_with(|| (addressee, Vec::new()));
                    hosts.push(&subject.facts);
                }
                Err(silence) => self.plan.silences.push((subject.facts.host, silence)),
            }
        }
        owners
    }

    /// Takes back what has not left and is not so any more.
    fn recall(&mut self, subjects: &[Subject], owners: &Owners<'_>) {
        let of = |flagged: bool| -> BTreeSet<IpNet> {
            let is = |subject: &&Subject| (subject.standing == Standing::Flagged) == flagged;
            subjects
                .iter()
                .filter(is)
                .map(|subject| subject.facts.host)
                .collect()
        };
        let (flagged, ended) = (of(true), of(false));
        let owner_of: BTreeMap<IpNet, &str> = owners
            .iter()
            .flat_map(|(key, (_, hosts))| hosts.iter().map(move |facts| (facts.host, &**key)))
            .collect();
        for notice in self.book.notices.clone() {
            let (wrong, why) = match notice.kind {
                NoticeKind::Digest => continue,
                kind if kind.accuses() => (&ended, "a host of it is not flagged any more"),
                _ => (&flagged, "a host of it is flagged again"),
            };
            if notice.has_left() {
                continue;
            }
            if notice.hosts.iter().any(|host| wrong.contains(host)) {
                self.end(notice, NoticeState::Superseded, why);
            } else if notice.kind.accuses() && self.is_for_another(&notice, &owner_of) {
                self.end(
                    notice,
                    NoticeState::Superseded,
                    "a host of it is somebody else's",
                );
            } else if notice.kind.accuses() && self.is_old_news(&notice) {
                self.end(
                    notice,
                    NoticeState::Superseded,
                    "another notice has told of it since",
                );
            }
        }
    }

    /// Whether a host of it has another owner by now.
    fn is_for_another(&self, notice: &Notice, owner_of: &BTreeMap<IpNet, &str>) -> bool {
        let case = self
            .book
            .cases
            .iter()
            .find(|case| Some(case.id) == notice.case);
        case.is_some_and(|case| {
            let mut owners = notice.hosts.iter().filter_map(|host| owner_of.get(host));
            owners.any(|owner| *owner != case.owner)
        })
    }

    /// Whether a host of it was told about after it was made: a person has let an older one leave.
    fn is_old_news(&self, notice: &Notice) -> bool {
        let case = self
            .book
            .cases
            .iter()
            .find(|case| Some(case.id) == notice.case);
        case.is_some_and(|case| {
            let told = |host: &IpNet| case.host(*host).and_then(|host| host.pressed_at);
            let mut told = notice.hosts.iter().filter_map(told);
            told.any(|at| at >= notice.made_at)
        })
    }

    /// Tells an owner about these hosts, as far as it is time to.
    fn tell(&mut self, addressee: &Addressee, hosts: Vec<&Facts>) {
        let key = addressee.key();
        let known = self.book.cases.iter().find(|case| case.owner == key);
        let mut case = known.cloned().unwrap_or_else(|| Case {
            id: self.book.next_case.max(1),
            owner: key,
            addressee: addressee.clone(),
            opened_at: self.now,
            closed_at: None,
            sequence: 0,
            pressed: 0,
            last_message_id: None,
            hosts: Vec::new(),
        });
        case.addressee = addressee.clone();
        for facts in &hosts {
            if case.host(facts.host).is_none() && case.hosts.len() < MAX_CASE_HOSTS {
                case.hosts.push(CaseHost {
                    facts: (*facts).clone(),
                    standing: Standing::Flagged,
                    told_at: None,
                    pressed_at: None,
                });
            }
        }
        // Hosts that a notice is under way about, in this case or in another one.
        let under_way = |host: &IpNet, notices: &[Notice]| {
            let leaving = |notice: &&Notice| notice.has_left() || notice.case != Some(case.id);
            let mut leaving = notices.iter().filter(leaving);
            leaving.any(|notice| notice.kind.accuses() && notice.hosts.contains(host))
        };
        let mut due: Vec<&CaseHost> = Vec::new();
        for facts in &hosts {
            let Some(host) = case.host(facts.host) else {
                continue;
            };
            if self.is_due(host)
                && !self.is_declined(facts.host)
                && gate::told_until(&self.book, facts.host, None, self.now).is_none()
                && !under_way(&facts.host, &self.book.notices)
            {
                due.push(host);
            }
        }
        let pending = self
            .book
            .notices
            .iter()
            .find(|notice| {
                notice.case == Some(case.id) && notice.kind.accuses() && !notice.has_left()
            })
            .cloned();
        let says = pending.as_ref().map_or(&[][..], |pending| &pending.hosts);
        let is_news = due.iter().any(|host| !says.contains(&host.facts.host));
        // A full one is left as it is: what is beyond comes after it.
        if !is_news || says.len() >= MAX_HOSTS || self.book.notices.len() >= MAX_OPEN {
            return;
        }
        due.sort_by(|one, other| {
            let of = |host: &CaseHost| {
                (
                    host.told_at.is_none(),
                    host.facts.severity,
                    host.facts.connections,
                )
            };
            of(other)
                .cmp(&of(one))
                .then(one.facts.host.cmp(&other.facts.host))
        });
        // What is said already stays in it.
        due.sort_by_key(|host| !says.contains(&host.facts.host));
        due.truncate(MAX_HOSTS);
        let kind = if due.iter().any(|host| host.told_at.is_some()) {
            NoticeKind::Escalation
        } else if case.is_told() {
            NoticeKind::More
        } else {
            NoticeKind::First
        };
        let facts = due.into_iter().map(|host| host.facts.clone()).collect();
        if let Some(pending) = pending {
            self.end(
                pending,
                NoticeState::Superseded,
                "there is more to say by now",
            );
        }
        self.draft(kind, case, facts);
    }

    /// Whether a person has rejected a notice about it, or the relay has refused one, not long ago: nobody is to
    /// be asked the same every minute.
    fn is_declined(&self, host: IpNet) -> bool {
        let every = u64::from(self.policy.settings.escalate_hours) * HOUR;
        self.book.declined.iter().any(|declined| {
            let time = if declined.by_person { every } else { DAY };
            declined.hosts.contains(&host)
                && gate::ago(self.now, declined.at).is_some_and(|ago| ago < time)
        })
    }

    /// Whether it is time to tell of a flagged host, as far as its case says.
    fn is_due(&self, host: &CaseHost) -> bool {
        let Some(told_at) = host.told_at else {
            return true;
        };
        let since = host.pressed_at.unwrap_or(told_at);
        let every = u64::from(self.policy.settings.escalate_hours) * HOUR;
        // It goes on only if a rule held after that time.
        host.facts.last_at > since && gate::ago(self.now, since).is_none_or(|ago| ago >= every)
    }

    /// Closes cases in which all is quiet, and says so where anything was told.
    fn close(&mut self) {
        for mut case in self.book.cases.clone() {
            if case
                .hosts
                .iter()
                .any(|host| host.standing == Standing::Flagged)
            {
                continue;
            }
            let (left, unsent): (Vec<_>, Vec<_>) = self
                .book
                .notices
                .iter()
                .filter(|notice| notice.case == Some(case.id))
                .cloned()
                .partition(Notice::has_left);
            if !left.is_empty() {
                continue;
            }
            let told: Vec<_> = case
                .hosts
                .iter()
                .filter(|host| host.told_at.is_some())
                .collect();
            let of_today = |host: &&CaseHost| {
                gate::told_until(&self.book, host.facts.host, None, self.now).is_some()
            };
            if told.iter().any(of_today) {
                continue;
            }
            if !told.is_empty() && self.book.notices.len() >= MAX_OPEN {
                continue;
            }
            let kind = match told.iter().any(|host| host.standing == Standing::Quiet) {
                true => NoticeKind::Solved,
                false => NoticeKind::Withdrawn,
            };
            let mut hosts: Vec<Facts> = told.iter().map(|host| host.facts.clone()).collect();
            hosts.truncate(MAX_HOSTS);
            for notice in unsent {
                self.end(notice, NoticeState::Superseded, "it is over");
            }
            case.closed_at = Some(self.now);
            if hosts.is_empty() {
                self.note(NoticeChange::Case(case));
            } else {
                self.draft(kind, case, hosts);
            }
        }
    }
}
