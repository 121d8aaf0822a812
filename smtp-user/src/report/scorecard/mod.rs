//! How what was flagged compares with what was complained about.
//!
//! Contract: pure, from complaints, verdicts and their events. A host that was reported was flagged
//! before, after, or never: by the first complaint about it in a month, against every verdict that was
//! open within [`NEAR`] of it. A verdict that was called a false positive flags nobody. Who was flagged
//! and not reported is *unconfirmed*, not wrong: most people do not complain. What is right and what is
//! wrong only the operator says. Of shares there are few cases, so each has the interval in which it is
//! with 95 % confidence.
//!
//! `flags`: when hosts were flagged; `judged`: what people have said of verdicts; `shown`: tables and JSON.

mod flags;
mod judged;
mod shown;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

pub use self::flags::{Flagged, Flags, Prefixes};
pub use self::judged::Judged;
pub(crate) use self::shown::{JsonScorecard, JsonShare};
use super::cases::Host;
use super::time::Month;
use crate::detect::Policy;
use crate::failure::Failure;
use crate::model::complaint::{Complaint, ComplaintFilter, ComplaintKind};
use crate::model::period::Period;
use crate::model::proportion::{Proportion, median};
use crate::model::verdict::{Verdict, VerdictEvent};
use crate::store::Reader;

/// A verdict that is further from a complaint than this, in milliseconds, is about something else: 30
/// days.
pub const NEAR: u64 = 30 * 86_400_000;
/// Months that are shown one by one, up to that of the period.
const MONTHS: i32 = 12;

/// Hosts that were reported, and when they were flagged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Hosts that were flagged before they were reported.
    pub before: u64,
    /// Hosts that were flagged only after that.
    pub after: u64,
    /// Hosts that were not flagged.
    pub never: u64,
    /// How long before, in milliseconds.
    pub leads: Vec<u64>,
}

impl Reported {
    /// All of them.
    pub const fn hosts(&self) -> u64 {
        self.before + self.after + self.never
    }

    /// Those that were flagged before, of all.
    pub const fn recall(&self) -> Proportion {
        Proportion {
            part: self.before,
            whole: self.hosts(),
        }
    }

    /// How long before in the median, and between which that is with 95 % confidence.
    pub fn lead(&self) -> Option<(u64, (u64, u64))> {
        median(self.leads.clone())
    }

    fn add(&mut self, flagged: Flagged) {
        match flagged {
            Flagged::Before(lead) => {
                self.before += 1;
                self.leads.push(lead);
            }
            Flagged::After(_) => self.after += 1,
            Flagged::Never => self.never += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        let Self {
            before,
            after,
            never,
            leads,
        } = other;
        self.before += before;
        self.after += after;
        self.never += never;
        self.leads.extend(leads);
    }
}

/// Reported hosts of a time, each once for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// In the order of [`ComplaintKind::ALL`].
    pub each: [Reported; ComplaintKind::ALL.len()],
    /// Of the kinds that who watches mail can be expected to see, each host once.
    pub mail: Reported,
}

impl Kinds {
    /// Of these complaints.
    fn of<'a>(
        complaints: impl Iterator<Item = &'a Complaint> + Clone,
        policy: &Policy,
        flags: &Flags,
    ) -> Self {
        let reported = |wanted: &dyn Fn(ComplaintKind) -> bool| {
            let mut first: BTreeMap<IpNet, &Complaint> = BTreeMap::new();
            for complaint in complaints.clone().filter(|c| wanted(c.kind)) {
                let host = policy.subject_of(complaint.address);
                let kept = first.entry(host).or_insert(complaint);
                if complaint.at < kept.at {
                    *kept = complaint;
                }
            }
            let mut reported = Reported::default();
            for complaint in first.into_values() {
                reported.add(flags.of_complaint(complaint));
            }
            reported
        };
        Self {
            each: ComplaintKind::ALL.map(|kind| reported(&|other| other == kind)),
            mail: reported(&ComplaintKind::is_about_mail),
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.each.iter_mut().zip(&other.each) {
            mine.merge(theirs);
        }
        self.mail.merge(&other.mail);
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scorecard {
    /// Complaints that were made in the period.
    pub complaints: u64,
    /// Reported hosts of the period.
    pub period: Kinds,
    /// The same month by month, up to that of the period, from the first with a complaint on.
    pub months: Vec<(Month, Kinds)>,
    /// All these months together: hosts of months.
    pub all: Kinds,
    /// Flagged hosts of the period that nobody has reported, of all flagged ones.
    pub unconfirmed: Proportion,
    /// Flagged hosts of the period that the operator has found to be right, of those that he has judged.
    pub precision: Proportion,
}

/// What is needed for it, from the store.
pub struct Record {
    /// The complaints of its months, and near its period.
    pub complaints: Vec<Complaint>,
    /// The verdicts near these complaints and those of the period, each with its events, the earliest
    /// first.
    pub verdicts: Vec<(Verdict, Vec<VerdictEvent>)>,
}

impl Record {
    /// What the store has for the scorecard of a period.
    pub fn read(reader: &Reader, period: Period) -> Result<Self, Failure> {
        let first = months(period).next().map_or(period.from, Month::start);
        let near = Period {
            from: first.min(period.from.saturating_sub(NEAR)),
            to: period.to.saturating_add(NEAR),
        };
        Self::between(reader, near, period.from)
    }

    /// The complaints of a time, the verdicts near them, and those since `from`.
    pub fn between(reader: &Reader, complained: Period, from: u64) -> Result<Self, Failure> {
        let filter = ComplaintFilter {
            period: Some(complained),
            ..ComplaintFilter::default()
        };
        let complaints: Vec<Complaint> = reader
            .complaints(&filter)?
            .into_iter()
            .map(|stored| stored.complaint)
            .collect();
        let earliest = complaints.iter().map(|complaint| complaint.at).min();
        let since = earliest.map_or(from, |at| from.min(at.saturating_sub(NEAR)));
        Ok(Self {
            complaints,
            verdicts: reader.verdicts_with_events(since)?,
        })
    }
}

/// The months up to the last one that the period touches.
fn months(period: Period) -> impl Iterator<Item = Month> + Clone {
    let last = Month::of(period.to.saturating_sub(1).max(period.from));
    (1 - MONTHS..=0).map(move |months| last.plus(months))
}

impl Scorecard {
    /// Of a period, and of the hosts that were flagged in it.
    pub fn of(record: &Record, period: Period, flagged: &[Host], policy: &Policy) -> Self {
        let Record {
            complaints,
            verdicts,
        } = record;
        let flags = Flags::of(verdicts);
        let inside = |period: Period| complaints.iter().filter(move |c| period.contains(c.at));
        let months: Vec<(Month, Kinds)> = months(period)
            .skip_while(|month| inside(month.period()).next().is_none())
            .map(|month| (month, Kinds::of(inside(month.period()), policy, &flags)))
            .collect();
        let mut all = Kinds::default();
        for (_, kinds) in &months {
            all.merge(kinds);
        }
        Self {
            complaints: inside(period).count() as u64,
            period: Kinds::of(inside(period), policy, &flags),
            months,
            all,
            unconfirmed: unconfirmed(complaints, period, flagged),
            precision: Judged::of(verdicts, period).precision(),
        }
    }
}

fn unconfirmed(complaints: &[Complaint], period: Period, flagged: &[Host]) -> Proportion {
    let subjects: Prefixes = flagged.iter().map(|host| host.subject).collect();
    let near = Period {
        from: period.from.saturating_sub(NEAR),
        to: period.to.saturating_add(NEAR),
    };
    let confirmed: BTreeSet<IpNet> = complaints
        .iter()
        .filter(|complaint| complaint.kind.is_about_mail() && near.contains(complaint.at))
        .flat_map(|complaint| subjects.containing(complaint.address))
        .collect();
    let whole = flagged.len() as u64;
    Proportion {
        part: whole - confirmed.len() as u64,
        whole,
    }
}
