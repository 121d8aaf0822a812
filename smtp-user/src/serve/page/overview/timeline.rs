//! The verdicts of the last day: a lane for each host.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::super::trend::{BIN, Life, Trend};
use super::super::svg::{Mark, Svg, lane};
use super::super::words;
use crate::model::period::Period;
use crate::model::prefix::show;
use crate::model::verdict::{Severity, VerdictState};

/// Lanes that are shown.
const MOST: usize = 12;
const DAY: u64 = 86_400_000;

/// See the module.
pub(super) struct Timeline {
    pub(super) lanes: Vec<Lane>,
    /// When packets were counted.
    pub(super) counted: Svg,
    /// Hosts that have no lane here.
    pub(super) more: usize,
    pub(super) period: Period,
}

/// What happened to a host.
pub(super) struct Lane {
    pub(super) subject: String,
    pub(super) host: Option<IpAddr>,
    severity: Severity,
    latest: u64,
    pub(super) detectors: String,
    pub(super) chart: Svg,
}

impl Timeline {
    /// `None` if there was no verdict.
    pub(super) fn of(trend: &Trend) -> Option<Self> {
        let period = Period {
            from: trend.now.saturating_sub(DAY),
            to: trend.now,
        };
        let mut hosts: Vec<(IpNet, Vec<&Life>)> = Vec::new();
        for life in &trend.lives {
            let inside = life
                .open(trend.now)
                .iter()
                .any(|open| open.to >= period.from);
            if !inside {
                continue;
            }
            let subject = life.verdict.subject;
            match hosts.iter_mut().find(|(host, _)| *host == subject) {
                Some((_, lives)) => lives.push(life),
                None => hosts.push((subject, vec![life])),
            }
        }
        let lanes = hosts
            .iter()
            .map(|(subject, lives)| Lane::of(*subject, lives, period));
        let mut lanes: Vec<_> = lanes.collect();
        lanes.sort_by_key(|lane| std::cmp::Reverse((lane.severity, lane.latest)));
        let more = lanes.len().saturating_sub(MOST);
        lanes.truncate(MOST);
        (!lanes.is_empty()).then(|| Self {
            counted: counted(trend, period),
            lanes,
            more,
            period,
        })
    }
}

fn place(time: u64, period: Period) -> f64 {
    time.saturating_sub(period.from) as f64 / period.length().max(1) as f64
}

/// The class of a colour, and a shape.
const fn shape(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Critical => ("critical", "\u{25b2}"),
        Severity::Warning => ("warning", "\u{25c6}"),
        Severity::Notice => ("notice", "\u{25cf}"),
    }
}

/// When it was counted, since verdicts need counts.
fn counted(trend: &Trend, period: Period) -> Svg {
    let mut marks = Vec::new();
    let mut since = None;
    let bins = trend.bins.len();
    for bin in 0..=bins {
        let up = trend.bins.get(bin).is_some_and(Option::is_some);
        let start = trend.start(0) + bin as u64 * BIN;
        match (since, up) {
            (None, true) => since = Some(start),
            (Some(from), false) => {
                if start > period.from {
                    marks.push(Mark::Span(
                        place(from, period),
                        place(start, period),
                        "counted",
                    ));
                }
                since = None;
            }
            _ => {}
        }
    }
    let words = match marks.len() {
        0 => "nothing was counted".to_owned(),
        1 => "when packets were counted, without a gap".to_owned(),
        stretches => {
            format!("when packets were counted: {stretches} stretches with gaps between them")
        }
    };
    lane(&marks, &words)
}

impl Lane {
    fn of(subject: IpNet, lives: &[&Life], period: Period) -> Self {
        let mut severity = Severity::Notice;
        let (mut latest, mut marks, mut told) = (0, Vec::new(), Vec::new());
        let mut detectors = Vec::new();
        let mut points = Vec::new();
        let mut lives = lives.to_vec();
        // The worst is painted over the others.
        lives.sort_by_key(|life| life.verdict.severity);
        for life in lives {
            let verdict = &life.verdict;
            severity = severity.max(verdict.severity);
            detectors.push(verdict.detector.clone());
            let (class, symbol) = shape(verdict.severity);
            for open in life.open(period.to) {
                if open.to < period.from {
                    continue;
                }
                marks.push(Mark::Span(
                    place(open.from, period),
                    place(open.to, period),
                    class,
                ));
                if open.from >= period.from {
                    points.push(Mark::Point(place(open.from, period), symbol, class));
                }
                let age = |time: u64| words::duration(period.to.saturating_sub(time) / 1000);
                told.push(format!(
                    "{} {}: open since {} ago{}",
                    verdict.severity.name(),
                    verdict.detector,
                    age(open.from),
                    if open.to == period.to {
                        String::new()
                    } else {
                        format!(", ended {} ago", age(open.to))
                    }
                ));
            }
            for event in &life.events {
                latest = latest.max(event.at);
                if event.at < period.from {
                    continue;
                }
                let symbol = match event.to {
                    VerdictState::New => continue,
                    VerdictState::Acknowledged => "\u{25d0}",
                    VerdictState::Notified => "\u{2709}",
                    VerdictState::Resolved => "\u{2713}",
                    VerdictState::FalsePositive => "\u{2715}",
                };
                points.push(Mark::Point(place(event.at, period), symbol, "act"));
            }
        }
        marks.extend(points);
        detectors.sort();
        detectors.dedup();
        Self {
            subject: show(&subject),
            host: (subject.prefix_len() == subject.max_prefix_len()).then(|| subject.addr()),
            severity,
            latest,
            detectors: detectors.join(", "),
            chart: lane(&marks, &told.join("; ")),
        }
    }

    /// As in a badge.
    pub(super) const fn severity(&self) -> &'static str {
        self.severity.name()
    }
}
