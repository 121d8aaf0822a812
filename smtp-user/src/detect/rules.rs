//! What rules say of a source.
//!
//! Contract: a detector gives every rule with its figures, whether it holds or not; who only wants
//! those that hold pays for no text of the others. All comparisons are strict.

use std::borrow::Cow;

use super::value::{Share, Within};
use crate::model::period::{Coverage, Period};
use crate::model::verdict::{Figure, Holding, Rule, Severity};

/// A figure beside its limit, see [`Figure`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    name: &'static str,
    value: f64,
    limit: f64,
    below: bool,
    unit: &'static str,
}

impl Compared {
    /// A count that must be more than the limit.
    pub fn above(name: &'static str, value: u64, limit: u32, unit: &'static str) -> Self {
        Self::rate_above(name, value as f64, limit, unit)
    }

    /// A rate that must be more than the limit.
    pub fn rate_above(name: &'static str, value: f64, limit: u32, unit: &'static str) -> Self {
        Self {
            name,
            value,
            limit: f64::from(limit),
            below: false,
            unit,
        }
    }

    /// A count that must be at least this: more than one less.
    pub fn at_least<const MIN: u32, const MAX: u32>(
        name: &'static str,
        value: u64,
        least: Within<MIN, MAX>,
        unit: &'static str,
    ) -> Self {
        Self {
            name,
            value: value as f64,
            limit: least.reached(),
            below: false,
            unit,
        }
    }

    /// A share that must be more than the limit.
    pub fn share_above(name: &'static str, share: f64, limit: Share) -> Self {
        Self {
            name,
            value: share,
            limit: limit.get(),
            below: false,
            unit: "share",
        }
    }

    /// A share that must be less than the limit.
    pub fn share_below(name: &'static str, share: f64, limit: Share) -> Self {
        Self {
            below: true,
            ..Self::share_above(name, share, limit)
        }
    }

    /// A mean that must be less than the limit.
    pub fn mean_below(name: &'static str, value: f64, limit: u32, unit: &'static str) -> Self {
        Self {
            below: true,
            ..Self::rate_above(name, value, limit, unit)
        }
    }

    fn figure(&self) -> Figure {
        Figure {
            name: self.name.to_owned(),
            value: self.value,
            limit: self.limit,
            below: self.below,
            unit: self.unit.to_owned(),
        }
    }

    fn is_beyond(&self) -> bool {
        if self.below {
            self.value < self.limit
        } else {
            self.value > self.limit
        }
    }
}

/// Part of a whole; 0 where there is no whole.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// A rule before it is known whether anybody wants to read it.
pub struct Draft<'a> {
    /// How bad it is where it holds.
    pub severity: Severity,
    /// The time that it looks at.
    pub period: Period,
    /// The share of this time in which packets were counted. Where it is low, and the rule does not
    /// hold, nothing is claimed.
    pub covered: f64,
    /// Why the rule cannot be applied, if it cannot.
    pub bar: Option<Cow<'static, str>>,
    /// All must be beyond their limits.
    pub figures: &'a [Compared],
}

/// The rules of a source, as the detectors give them.
pub struct Rules {
    /// Whether only those that hold are kept.
    holding_only: bool,
    detector: &'static str,
    list: Vec<Rule>,
}

impl Rules {
    /// For every rule.
    pub(super) const fn all() -> Self {
        Self {
            holding_only: false,
            detector: "",
            list: Vec::new(),
        }
    }

    /// For those that hold.
    pub(super) const fn holding() -> Self {
        Self {
            holding_only: true,
            detector: "",
            list: Vec::new(),
        }
    }

    /// The rules that follow are of this detector.
    pub(super) const fn of(&mut self, detector: &'static str) {
        self.detector = detector;
    }

    /// What was given so far.
    pub(super) fn into_list(self) -> Vec<Rule> {
        self.list
    }

    /// Gives a rule; `text` is what it says where it holds.
    pub fn add(&mut self, draft: Draft<'_>, text: impl FnOnce() -> String) {
        let Draft {
            severity,
            period,
            covered,
            bar,
            figures,
        } = draft;
        let beyond = figures.iter().all(Compared::is_beyond);
        if self.holding_only && (!beyond || bar.is_some()) {
            return;
        }
        let holding = match bar {
            Some(bar) => Holding::NotApplicable(bar.into_owned()),
            None if beyond => Holding::Holds,
            None if covered < Coverage::FULL => Holding::NotApplicable(format!(
                "packets were counted for {:.0} % of this time only, which proves no absence",
                (covered * 100.0).floor()
            )),
            None => Holding::Below,
        };
        self.list.push(Rule {
            detector: self.detector.to_owned(),
            text: text(),
            severity,
            period,
            figures: figures.iter().map(Compared::figure).collect(),
            holding,
        });
    }
}
