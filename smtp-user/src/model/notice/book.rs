//! What has to be known to decide what is told, and what the store has to note of that.

use ipnet::IpNet;

use super::{Case, Notice, NoticeEvent, NoticeKind, NoticeState};

/// A message that left, or may have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Which notice.
    pub notice: u64,
    /// When.
    pub at: u64,
    /// What it was about.
    pub hosts: Vec<IpNet>,
    /// Whether it was a digest.
    pub digest: bool,
}

/// A notice that somebody rejected, or that the relay wanted for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// Which notice.
    pub notice: u64,
    /// When.
    pub at: u64,
    /// What it was about.
    pub hosts: Vec<IpNet>,
    /// Whether a person did.
    pub by_person: bool,
}

/// All that is to be known to decide what is told: what is open, and what has left of late.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    /// Cases that are not closed.
    pub cases: Vec<Case>,
    /// Notices that may still leave.
    pub notices: Vec<Notice>,
    /// What has left within a day.
    pub departures: Vec<Departure>,
    /// What was declined within 30 days.
    pub declined: Vec<Declined>,
    /// The number that the next case gets.
    pub next_case: u64,
    /// The number that the next notice gets.
    pub next_notice: u64,
}

/// What the store has to note. All changes of a step are noted together.
#[derive(Clone, Debug, PartialEq)]
pub enum NoticeChange {
    /// A case is as it is here: new, or changed.
    Case(Case),
    /// A notice is new.
    Made(Notice, NoticeEvent),
    /// It has another state, if it is still in the one that the event tells of. A person may have been
    /// faster; then nothing is noted.
    Moved(Notice, NoticeEvent),
    /// It was tried, and is where it was. Its state is not touched.
    Tried(Notice),
}

impl Book {
    /// The book after these changes, as the store would give it.
    pub fn apply(&mut self, changes: &[NoticeChange]) {
        for change in changes {
            match change {
                NoticeChange::Case(case) => {
                    self.cases.retain(|known| known.id != case.id);
                    self.next_case = self.next_case.max(case.id + 1);
                    if case.closed_at.is_none() {
                        self.cases.push(case.clone());
                    }
                }
                NoticeChange::Made(notice, _)
                | NoticeChange::Moved(notice, _)
                | NoticeChange::Tried(notice) => {
                    self.notices.retain(|known| known.id != notice.id);
                    self.next_notice = self.next_notice.max(notice.id + 1);
                    self.departures.retain(|known| known.notice != notice.id);
                    self.declined.retain(|known| known.notice != notice.id);
                    if let Some(at) = notice.left_at {
                        self.departures.push(Departure {
                            notice: notice.id,
                            at,
                            hosts: notice.hosts.clone(),
                            digest: notice.kind == NoticeKind::Digest,
                        });
                    }
                    match notice.state {
                        state if state.is_open() => self.notices.push(notice.clone()),
                        NoticeState::Rejected | NoticeState::Failed => {
                            self.declined.push(Declined {
                                notice: notice.id,
                                at: notice.changed_at,
                                hosts: notice.hosts.clone(),
                                by_person: notice.state == NoticeState::Rejected,
                            });
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}
