//! Whether an approved notice may leave now.
//!
//! Contract: no I/O, no clock. However much there is to tell: in no hour do more messages leave than
//! `notice.per_hour`, digests included, and in no 24 hours more than one about a host, whatever its case and its
//! kind. What may have left counts as if it had. A clock that was set back keeps things waiting, unless by more
//! than a day: then what it has left behind in the future is not known to be true.

use ipnet::IpNet;

use super::evidence::{Policy, is_own};
use super::settings::Settings;
use super::{DAY, HOUR};
use crate::model::notice::{Book, Departure, Notice, NoticeKind, NoticeState};

/// Whether a notice may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not yet.
    Shut(Wait),
}

/// Why a notice waits, and until when at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Notices are switched off.
    Off,
    /// Nobody has approved it.
    Approval,
    /// This host is none of the operator's own any more.
    Foreign(IpNet),
    /// It was tried not long ago.
    Retry(u64),
    /// These are quiet hours.
    Quiet(u64),
    /// As many left in this hour as may.
    PerHour(u64),
    /// Another one about this host left within a day.
    Host(IpNet, u64),
}

/// How long ago that was; `None` if it is in a future that a clock has made up.
pub(super) const fn ago(now: u64, at: u64) -> Option<u64> {
    if at > now.saturating_add(DAY) {
        return None;
    }
    Some(now.saturating_sub(at))
}

fn within(now: u64, departure: &Departure, time: u64) -> bool {
    ago(now, departure.at).is_some_and(|ago| ago < time)
}

/// Whether this host, or another one that it contains or is contained in, was told about within a day; until
/// when nothing more is told about it.
pub(super) fn told_until(book: &Book, host: IpNet, but: Option<u64>, now: u64) -> Option<u64> {
    book.departures
        .iter()
        .filter(|departure| Some(departure.notice) != but && within(now, departure, DAY))
        .filter(|departure| {
            let mut hosts = departure.hosts.iter();
            hosts.any(|told| told.contains(&host) || host.contains(told))
        })
        .map(|departure| departure.at.saturating_add(DAY))
        .max()
}

/// How many more messages may leave in this hour, and when there is place for one more.
pub(super) fn room(settings: &Settings, book: &Book, now: u64) -> (usize, u64) {
    let mut left: Vec<u64> = book
        .departures
        .iter()
        .filter(|departure| within(now, departure, HOUR))
        .map(|departure| departure.at)
        .collect();
    let most = settings.per_hour as usize;
    left.sort_unstable();
    let room = most.saturating_sub(left.len());
    // Only when the one before the last `most` ones is an hour old, one more may leave.
    let until = match room {
        0 => left[left.len() - most].saturating_add(HOUR),
        _ => now,
    };
    (room, until)
}

impl Gate {
    /// Whether this notice may leave now.
    pub fn of(policy: &Policy, book: &Book, notice: &Notice, now: u64) -> Self {
        if !policy.settings.enabled {
            return Self::Shut(Wait::Off);
        }
        if notice.state != NoticeState::Approved {
            return Self::Shut(Wait::Approval);
        }
        if let Some(host) = notice.hosts.iter().find(|host| !is_own(policy, **host)) {
            return Self::Shut(Wait::Foreign(*host));
        }
        // Tried by a clock that was set back since, it need not wait for that clock.
        if notice.next_at > now && notice.next_at - now <= DAY {
            return Self::Shut(Wait::Retry(notice.next_at));
        }
        if let Some(until) = quiet_until(policy, now) {
            return Self::Shut(Wait::Quiet(until));
        }
        if notice.kind != NoticeKind::Digest {
            for host in &notice.hosts {
                if let Some(until) = told_until(book, *host, Some(notice.id), now) {
                    return Self::Shut(Wait::Host(*host, until));
                }
            }
        }
        match room(&policy.settings, book, now) {
            (0, until) => Self::Shut(Wait::PerHour(until)),
            _ => Self::Open,
        }
    }
}

/// The open notices in the order in which they leave: digests, then what goes on, then the oldest.
pub fn queue(book: &Book) -> Vec<&Notice> {
    let mut queue: Vec<_> = book.notices.iter().collect();
    queue.sort_by_key(|notice| {
        (
            notice.kind.min(NoticeKind::First),
            notice.made_at,
            notice.id,
        )
    });
    queue
}

/// When the quiet hours end, if these are some.
pub(super) fn quiet_until(policy: &Policy, now: u64) -> Option<u64> {
    let hours = policy.settings.quiet_hours?;
    hours.until(now, &policy.zone)
}
