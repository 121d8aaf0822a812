//! The report of `cargo xtask evaluate`: how well hosts are told from each other, by smtpflow and by
//! simpler methods, in labelled traffic.
//!
//! Contract: a pure function of the [`Run`]s; every figure comes from counts of hosts, pooled over
//! seeds. A bot is found if it is accused after its abuse begins; one that is accused before counts as
//! missed and as a false accusation. Whoever is accused and is no bot counts as a false accusation,
//! addresses that no host has among them. Kinds of hosts at the limits of what counts can tell are shown
//! apart and are in no score and no goal.

mod goals;
mod markdown;
mod score;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::traffic::kind;

pub use self::goals::{Goal, goals};
pub use self::markdown::markdown;
pub use self::score::{KindScore, Score, Times, wilson};
pub use self::text::text;

/// A way to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// smtpflow, every verdict.
    Smtpflow,
    /// smtpflow, verdicts of warning and critical severity.
    SmtpflowWarning,
    /// More than 30 flows in a clock hour.
    Flows30,
    /// More than 100.
    Flows100,
    /// More than 5 servers in a clock hour.
    Servers5,
}

impl Method {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [
        Self::Smtpflow,
        Self::SmtpflowWarning,
        Self::Flows30,
        Self::Flows100,
        Self::Servers5,
    ];

    /// The simpler ones.
    pub const BASELINES: [Self; 3] = [Self::Flows30, Self::Flows100, Self::Servers5];

    /// As in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smtpflow => "smtpflow, notice and up",
            Self::SmtpflowWarning => "smtpflow, warning and up",
            Self::Flows30 => "more than 30 flows",
            Self::Flows100 => "more than 100 flows",
            Self::Servers5 => "more than 5 servers",
        }
    }
}

/// What was found about one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Its address or prefix.
    pub host: String,
    /// The name of its kind.
    pub kind: String,
    /// When its abuse starts, in milliseconds since 1970.
    pub abuse: Option<u64>,
    /// When each method accuses it first.
    pub accused: BTreeMap<Method, u64>,
    /// The detectors of smtpflow that accuse it, the first first.
    pub detectors: Vec<String>,
}

/// What was found in the traffic of one seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Whether the methods had the list of known relays.
    pub listed: bool,
    /// Every host, and whoever else was accused.
    pub hosts: Vec<Judged>,
}

/// All runs of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How long the traffic of a seed is.
    pub days: u64,
    /// Seeds from 1 to this one are for tuning.
    pub tuned: u64,
    /// By seed, with the list first.
    pub runs: Vec<Run>,
}

/// A part of the seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is for.
    pub title: String,
    /// The first seed.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Report {
    /// The seeds for tuning, and those for reporting.
    pub fn parts(&self) -> Vec<Part> {
        let last = self.runs.iter().map(|run| run.seed).max().unwrap_or(0);
        let tuning = (1, self.tuned, "tuning");
        let reporting = (self.tuned + 1, last, "reporting");
        [tuning, reporting]
            .into_iter()
            .filter(|(first, last, _)| first <= last)
            .map(|(first, last, what)| Part {
                title: format!("Seeds {first} to {last}, for {what}"),
                first,
                last,
            })
            .collect()
    }

    /// The hosts of a part, but for those of the kinds at the limits.
    pub fn hosts(&self, part: &Part, listed: bool) -> Vec<(u64, &Judged)> {
        let mut hosts = self.all_hosts(part, listed);
        hosts.retain(|(_, host)| !kind::named(&host.kind).limit);
        hosts
    }

    /// All of them.
    fn all_hosts(&self, part: &Part, listed: bool) -> Vec<(u64, &Judged)> {
        let seeds = part.first..=part.last;
        self.runs
            .iter()
            .filter(|run| run.listed == listed && seeds.contains(&run.seed))
            .flat_map(|run| run.hosts.iter().map(|host| (run.seed, host)))
            .collect()
    }

    /// As JSON: every host that was accused or should have been, and the scores that follow.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let parts: Vec<_> = self
            .parts()
            .iter()
            .map(|part| {
                let table = |listed| {
                    let hosts = self.hosts(part, listed);
                    let all = self.all_hosts(part, listed);
                    let rows = Method::ALL.map(|method| {
                        serde_json::json!({
                            "method": method,
                            "score": Score::of(&hosts, method),
                            "kinds": score::kinds(&all, method),
                        })
                    });
                    serde_json::Value::from(rows.to_vec())
                };
                serde_json::json!({
                    "title": part.title,
                    "seeds": [part.first, part.last],
                    "with_relays_listed": table(true),
                    "without_the_list": table(false),
                    "goals": goals(self, part),
                })
            })
            .collect();
        let mistakes: Vec<_> = self
            .parts()
            .iter()
            .flat_map(|p| score::mistakes(self, p))
            .collect();
        let mut text = serde_json::to_string_pretty(&serde_json::json!({
            "days": self.days,
            "parts": parts,
            "mistakes": mistakes,
        }))?;
        text.push('\n');
        Ok(text)
    }
}
