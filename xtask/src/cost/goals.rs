//! The goals, and how far a report reaches them.

use super::{Report, Row, name};

/// How a goal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reached.
    Met,
    /// Measured and not reached.
    Missed,
    /// Not measured in this run.
    Open,
}

impl Verdict {
    /// As in the report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Open => "not measured",
        }
    }
}

/// One goal and its measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What is to be reached.
    pub text: &'static str,
    /// Which way it counts.
    pub bound: Bound,
    /// The unit of limit and value.
    pub unit: &'static str,
    /// What was measured, if it was.
    pub value: Option<f64>,
    /// Whether the counts that belong to it have to be right, and are.
    pub exact: Option<bool>,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
}

impl Goal {
    /// How it stands.
    pub fn verdict(&self) -> Verdict {
        let Some(value) = self.value else {
            return Verdict::Open;
        };
        let within = match self.bound {
            Bound::AtMost(limit) => value <= limit,
            Bound::AtLeast(limit) => value >= limit,
        };
        if within && self.exact != Some(false) {
            Verdict::Met
        } else {
            Verdict::Missed
        }
    }
}

/// All goals, with what this report says about them.
pub fn goals(report: &Report) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    let cost = |section, case, subject, sources| {
        let row = report.row(section, case, subject, sources)?;
        Some(report.cost(row))
    };
    let of = |case| cost(name::KERNEL, case, name::SMTPFLOW, 1);
    let other = of(name::TCP).zip(of(name::UDP)).map(|(a, b)| a.max(b));
    let flows = |sources| cost(name::SOURCES, name::DATA, name::SMTPFLOW_FLOWS, sources);
    let hot_flows = cost(name::KERNEL, name::DATA, name::SMTPFLOW_FLOWS, 1);
    let times_nftables = |sources| {
        let over = |subject| cost(name::VETH, name::DATA, subject, sources);
        let (theirs, ours) = (over(name::NFTABLES)?, over(name::SMTPFLOW)?);
        // A difference that noise has made nothing or less says no ratio.
        (ours > 0.0).then(|| theirs / ours)
    };
    let agent = |case, subject| {
        let row = largest(report, name::AGENT, case, subject)?;
        Some(report.cost(row))
    };
    let reading = |case, subject| {
        let row = largest(report, name::READERS, case, subject)?;
        Some(report.cost(row))
    };
    let flood = report.row(name::FLOOD, name::DATA, name::SMTPFLOW, 1 << 22);
    let lost = report
        .row(name::FLOOD, name::DATA, name::SMTPFLOW, 1 << 14)
        .and_then(|row| report.ratio(row))
        // Ratio of times per packet: the rate is the inverse.
        .map(|ratio| 100.0 * (1.0 - 1.0 / ratio));
    let goal = |text, bound, unit, value| Goal {
        text,
        bound,
        unit,
        value,
        exact: None,
    };
    vec![
        goal("a packet that is not mail", AtMost(4.0), "ns", other),
        goal("SMTP, SOURCES only", AtMost(8.0), "ns", of(name::DATA)),
        goal("SMTP, SOURCES + FLOWS", AtMost(30.0), "ns", hot_flows),
        goal(
            "SMTP, SOURCES + FLOWS, 2^17 sources",
            AtMost(150.0),
            "ns",
            flows(1 << 17),
        ),
        goal(
            "cheaper than the nftables set, 2^14 sources",
            AtLeast(5.0),
            "times",
            times_nftables(1 << 14),
        ),
        goal(
            "cheaper than the nftables set, 16 sources",
            AtLeast(15.0),
            "times",
            times_nftables(16),
        ),
        goal(
            "a million sources drained, merged and published, not stored",
            AtMost(150.0),
            "ms of CPU",
            agent(name::DRAIN_CPU, name::SMTPFLOW_NO_STORE),
        ),
        goal(
            "/metrics with a million sources",
            AtMost(2.0),
            "ms",
            agent(name::SCRAPE, name::SMTPFLOW),
        ),
        goal(
            "agent resident with a million sources",
            AtMost(200.0),
            "MiB",
            agent(name::RESIDENT, name::SMTPFLOW),
        ),
        goal(
            "sources?limit=100 of a million, 100 requests a second, p99",
            AtMost(20.0),
            "ms",
            reading(name::ANSWER_P99, name::PACED_READERS),
        ),
        goal(
            "longer that a drain takes beside 200 readers",
            AtMost(20.0),
            "ms",
            reading(name::DRAIN_WALL, name::MANY_READERS),
        ),
        Goal {
            exact: flood.and_then(|row| Some(row.counts.as_ref()?.exact())),
            ..goal(
                "flood of 2^22 sources, over bare XDP_DROP, totals exact",
                AtMost(150.0),
                "ns",
                flood.map(|row| report.cost(row)),
            )
        },
        goal(
            "of bare XDP_DROP's packet rate lost, 2^14 sources",
            AtMost(10.0),
            "%",
            lost,
        ),
    ]
}

/// The row of this case with a million sources.
fn largest<'a>(report: &'a Report, section: &str, case: &str, subject: &str) -> Option<&'a Row> {
    report
        .rows
        .iter()
        .filter(|row| (row.section.as_str(), row.case.as_str()) == (section, case))
        .find(|row| row.subject == subject && row.sources >= 1_000_000)
}
