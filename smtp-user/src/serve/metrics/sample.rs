//! What a metric is, and what its samples are made from.
#![forbid(unsafe_code)]

use smtp_common::flow::Totals;

use super::super::api::all_segments;
use super::per_source::PerSource;
use super::process::Process;
use crate::model::{Drain, Identity, Snapshot, StoreState, Tally};

/// What a value means over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows: from 0 at the start of the agent, or from what the store has kept.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets; all of its samples only grow.
    Histogram,
}

impl Type {
    /// As in the exposition format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, as it is scraped.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What its values mean.
    pub kind: Type,
    /// The labels that each sample has.
    pub labels: &'static [&'static str],
    pub(super) samples: fn(&Scrape<'_>, &mut Samples),
}

impl Metric {
    /// The names of its samples: its own, or the three of a histogram.
    pub fn sample_names(&self) -> Vec<String> {
        let suffixes: &[&str] = match self.kind {
            Type::Counter | Type::Gauge => &[""],
            Type::Histogram => &["_bucket", "_sum", "_count"],
        };
        suffixes
            .iter()
            .map(|suffix| format!("{}{suffix}", self.name))
            .collect()
    }
}

/// What samples are made from.
pub(super) struct Scrape<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) process: Process,
    pub(super) per_source: &'a PerSource,
}

impl Scrape<'_> {
    pub(super) const fn identity(&self) -> &Identity {
        &self.snapshot.identity
    }

    pub(super) const fn tally(&self) -> &Tally {
        &self.snapshot.account
    }

    pub(super) fn all(&self) -> Totals {
        all_segments(self.tally())
    }

    /// Something of the last drain, or `before` the first.
    pub(super) fn drained<T>(&self, before: T, value: impl FnOnce(Drain) -> T) -> T {
        self.snapshot.last_drain.map_or(before, value)
    }

    /// Something of the store, or `none` where there is none.
    pub(super) fn stored<T>(&self, none: T, value: impl FnOnce(&StoreState) -> T) -> T {
        self.snapshot.store.as_ref().map_or(none, value)
    }
}

/// The samples of one metric: values of the labels, and the value.
#[derive(Default)]
pub(super) struct Samples(pub(super) Vec<(Vec<String>, Value)>);

/// The value of a sample.
#[derive(Clone)]
pub(super) enum Value {
    Integer(u64),
    Float(f64),
    Buckets(Buckets),
}

/// The value of a histogram.
#[derive(Clone)]
pub(super) struct Buckets {
    /// Sum of all observations.
    pub(super) sum: u64,
    /// The largest observation of each bucket, and how many are in it and in no earlier one.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl From<Buckets> for Value {
    fn from(buckets: Buckets) -> Self {
        Self::Buckets(buckets)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl Samples {
    pub(super) fn one(&mut self, value: impl Into<Value>) {
        self.0.push((Vec::new(), value.into()));
    }

    pub(super) fn with(&mut self, labels: &[&str], value: impl Into<Value>) {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.0.push((labels, value.into()));
    }
}

pub(super) const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&Scrape<'_>, &mut Samples),
) -> Metric {
    Metric {
        name,
        help,
        kind: Type::Counter,
        labels,
        samples,
    }
}

pub(super) const fn histogram(
    name: &'static str,
    help: &'static str,
    samples: fn(&Scrape<'_>, &mut Samples),
) -> Metric {
    Metric {
        kind: Type::Histogram,
        ..counter(name, help, &[], samples)
    }
}

pub(super) const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&Scrape<'_>, &mut Samples),
) -> Metric {
    Metric {
        kind: Type::Gauge,
        ..counter(name, help, labels, samples)
    }
}
