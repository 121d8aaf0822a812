//! Other limits against what is on record: complaints, and what people have said of verdicts.
//!
//! Contract: a host that was reported counts as flagged before only if an hour in which it would have been
//! flagged was over when the first complaint about it was made, and began no more than [`NEAR`] before it:
//! what within the hour comes first is not in the counts. Whom only another limit would have flagged
//! nobody has judged, so precision is of those who were.

use std::collections::HashMap;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::super::document::{Table, number, text};
use super::super::scorecard::{JsonShare, Judged, NEAR, Record};
use super::{Flagged, HOUR, Outcome, Subjects};
use crate::failure::Failure;
use crate::model::period::Period;
use crate::model::proportion::Proportion;
use crate::store::Reader;

/// What is on record of the hosts of a period.
pub(super) struct Known {
    /// Hosts that were reported, and when first.
    reported: HashMap<IpNet, u64>,
    judged: Judged,
}

/// How a limit does on that record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Reported hosts that it would have flagged before, of all reported ones.
    #[serde(serialize_with = "share")]
    pub recall: Proportion,
    /// Hosts that it would have flagged and people found to be right, of those that they have judged.
    #[serde(serialize_with = "share")]
    pub precision: Proportion,
    /// Hosts that it would have flagged and nobody has reported, of all that it would have flagged.
    #[serde(serialize_with = "share")]
    pub unconfirmed: Proportion,
}

fn share<S: Serializer>(proportion: &Proportion, to: S) -> Result<S::Ok, S::Error> {
    JsonShare::from(*proportion).serialize(to)
}

impl Known {
    /// Of a period, about those who are looked at.
    pub(super) fn read(
        reader: &Reader,
        subjects: &Subjects<'_>,
        period: Period,
    ) -> Result<Self, Failure> {
        let record = Record::between(reader, period, period.from)?;
        let mut reported: HashMap<IpNet, u64> = HashMap::new();
        for complaint in &record.complaints {
            if !complaint.kind.is_about_mail() {
                continue;
            }
            if let Some(subject) = subjects.judged(complaint.address.into(), complaint.at) {
                let first = reported.entry(subject).or_insert(complaint.at);
                *first = complaint.at.min(*first);
            }
        }
        Ok(Self {
            reported,
            judged: Judged::of(&record.verdicts, period),
        })
    }

    /// What a limit has flagged before it has seen anything: whose hours are needed is known.
    pub(super) fn nothing_flagged(&self) -> Flagged {
        Flagged {
            hours: self
                .reported
                .keys()
                .map(|host| (*host, Vec::new()))
                .collect(),
            ..Flagged::default()
        }
    }

    /// How a limit does that has flagged this.
    pub(super) fn score(&self, flagged: &Flagged) -> Score {
        let before = self.reported.iter().filter(|(host, at)| {
            let hours = flagged.hours.get(*host).into_iter().flatten();
            hours
                .into_iter()
                .any(|hour| hour.saturating_add(HOUR) <= **at && *hour >= at.saturating_sub(NEAR))
        });
        let judged: Vec<bool> = flagged
            .hosts
            .keys()
            .filter_map(|host| self.judged.right(host))
            .collect();
        let unconfirmed = flagged
            .hosts
            .keys()
            .filter(|host| !self.reported.contains_key(*host));
        Score {
            recall: Proportion {
                part: before.count() as u64,
                whole: self.reported.len() as u64,
            },
            precision: Proportion {
                part: judged.iter().filter(|right| **right).count() as u64,
                whole: judged.len() as u64,
            },
            unconfirmed: Proportion {
                part: unconfirmed.count() as u64,
                whole: flagged.hosts.len() as u64,
            },
        }
    }
}

/// How all limits do.
pub(super) fn table(outcomes: &[Outcome]) -> Table {
    let row = |outcome: &Outcome| {
        let Score {
            recall,
            precision,
            unconfirmed,
        } = outcome.score;
        vec![
            outcome.measure.name().to_owned(),
            format!("> {}", outcome.above),
            if outcome.in_effect { "yes" } else { "" }.to_owned(),
            recall.whole.to_string(),
            recall.part.to_string(),
            recall.percent(),
            recall.interval_percent(),
            precision.whole.to_string(),
            precision.part.to_string(),
            precision.percent(),
            precision.interval_percent(),
            unconfirmed.part.to_string(),
        ]
    };
    Table {
        name: "record",
        title: "against complaints about spam and SYN floods, and what people have said of verdicts"
            .to_owned(),
        notes: vec![
            "recall: reported hosts that would have been flagged in an hour that was over before the \
             first complaint, of all reported ones"
                .to_owned(),
            "precision: hosts that were found to be right, of those that would have been flagged and \
             were judged; whom only another limit flags nobody has judged"
                .to_owned(),
            "unconfirmed: nobody has reported it; that is not wrong. Intervals: 95 % confidence (Wilson)"
                .to_owned(),
        ],
        columns: vec![
            text("measure"),
            number("limit"),
            text("in_effect"),
            number("reported"),
            number("flagged_before"),
            number("recall_percent"),
            text("recall_interval"),
            number("judged"),
            number("right"),
            number("precision_percent"),
            text("precision_interval"),
            number("unconfirmed"),
        ],
        rows: outcomes.iter().map(row).collect(),
    }
}
