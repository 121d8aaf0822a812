//! Verdicts over time: a lane for each host, a bar for each stretch in which a verdict was open.
//!
//! Contract: the worse, the thicker; what is still open has no end. Each bar leads to its verdict and says
//! in words what it is. Places are in percent, so a lane is as wide as there is room.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::model::period::{Period, Tier};
use crate::model::prefix::show;
use crate::model::verdict::{Severity, Verdict, VerdictEvent};
use crate::report::time;

/// Lanes that are drawn.
const LANES: usize = 20;
/// Bars of verdicts that are open at the same time stand below each other, up to so many.
const ROWS: usize = 6;
/// How high a row is, in pixels.
const ROW: usize = 8;

/// See the module.
pub(super) struct Timeline {
    pub(super) lanes: Vec<Lane>,
    /// Hosts for which there was no room.
    pub(super) more: usize,
    /// The axis.
    pub(super) ticks: Vec<Tick>,
}

pub(super) struct Lane {
    pub(super) subject: String,
    pub(super) address: IpAddr,
    pub(super) height: usize,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) verdict: u64,
    pub(super) severity: &'static str,
    pub(super) open: bool,
    pub(super) x: String,
    pub(super) width: String,
    pub(super) y: usize,
    pub(super) height: usize,
    pub(super) words: String,
}

pub(super) struct Tick {
    pub(super) x: String,
    pub(super) name: String,
}

impl Timeline {
    /// Of those that were open in the period, hosts with the worst open verdict first.
    pub(super) fn new(lives: &[(Verdict, Vec<VerdictEvent>)], period: Period) -> Self {
        let mut hosts: BTreeMap<ipnet::IpNet, Vec<&(Verdict, Vec<VerdictEvent>)>> = BTreeMap::new();
        for life in lives {
            hosts.entry(life.0.subject).or_default().push(life);
        }
        let mut lanes: Vec<_> = hosts
            .into_iter()
            .filter_map(|(subject, lives)| {
                let worst = lives.iter().map(|(verdict, _)| {
                    let open = verdict.state.is_open();
                    (open, open.then_some(verdict.severity), verdict.last_at)
                });
                let worst = worst.max();
                let lane = Lane::new(&subject, &lives, period);
                (!lane.bars.is_empty()).then_some((worst, lane))
            })
            .collect();
        lanes.sort_by(|(a, _), (b, _)| b.cmp(a));
        let more = lanes.len().saturating_sub(LANES);
        lanes.truncate(LANES);
        Self {
            lanes: lanes.into_iter().map(|(_, lane)| lane).collect(),
            more,
            ticks: ticks(period),
        }
    }
}

impl Lane {
    fn new(
        subject: &ipnet::IpNet,
        lives: &[&(Verdict, Vec<VerdictEvent>)],
        period: Period,
    ) -> Self {
        let mut bars = Vec::new();
        // A detector has its row.
        let mut rows: Vec<&str> = Vec::new();
        for (verdict, events) in lives {
            let stretches = open(verdict, events, period);
            if stretches.is_empty() {
                continue;
            }
            let row = rows.iter().position(|name| *name == verdict.detector);
            let row = row.unwrap_or_else(|| {
                rows.push(&verdict.detector);
                rows.len() - 1
            });
            let height = match verdict.severity {
                Severity::Notice => 3,
                Severity::Warning => 5,
                Severity::Critical => 7,
            };
            for (from, to) in stretches {
                let mut words = format!(
                    "#{} {} of {}: {}, {}; open from {}",
                    verdict.id,
                    verdict.detector,
                    show(subject),
                    verdict.severity.name(),
                    verdict.state.name().replace('_', " "),
                    time::minutes(from)
                );
                if let Some(to) = to {
                    let _ = write!(words, " to {}", time::minutes(to));
                }
                let (start, end) = (
                    from.max(period.from),
                    to.unwrap_or(period.to).min(period.to),
                );
                let x = share(start - period.from, period);
                bars.push(Bar {
                    verdict: verdict.id,
                    severity: verdict.severity.name(),
                    open: to.is_none(),
                    width: format!("{:.2}", (share(end - period.from, period) - x).max(0.3)),
                    x: format!("{x:.2}"),
                    y: row.min(ROWS - 1) * ROW + (ROW - height) / 2 + 1,
                    height,
                    words,
                });
            }
        }
        Self {
            subject: show(subject),
            address: subject.addr(),
            height: rows.len().clamp(1, ROWS) * ROW + 2,
            bars,
        }
    }
}

/// When it was open within the period; a stretch without an end is not over.
fn open(verdict: &Verdict, events: &[VerdictEvent], period: Period) -> Vec<(u64, Option<u64>)> {
    let mut stretches = Vec::new();
    let mut since = events.is_empty().then_some(verdict.opened_at);
    for event in events {
        match (since, event.to.is_open()) {
            (None, true) => since = Some(event.at),
            (Some(from), false) => {
                stretches.push((from, Some(event.at)));
                since = None;
            }
            _ => {}
        }
    }
    if let Some(from) = since {
        stretches.push((from, None));
    }
    stretches.retain(|(from, to)| *from < period.to && to.is_none_or(|to| to >= period.from));
    stretches
}

fn share(part: u64, period: Period) -> f64 {
    part as f64 / period.length().max(1) as f64 * 100.0
}

/// Days, and not more of them than there is room for.
fn ticks(period: Period) -> Vec<Tick> {
    const DAY: u64 = Tier::Day.length().expect("a day has a length");
    let step = (period.length() / DAY).div_ceil(8).max(1) * DAY;
    let mut ticks = Vec::new();
    let mut at = Tier::Day.start_of(period.from) + DAY;
    while at < period.to {
        ticks.push(Tick {
            x: format!("{:.2}", share(at - period.from, period)),
            name: time::weekday(at),
        });
        at += step;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdict::VerdictState::{New, Resolved};
    use crate::report::cases::tests::{lived, verdict};

    const DAY: u64 = 86_400_000;
    const PERIOD: Period = Period {
        from: 100 * DAY,
        to: 110 * DAY,
    };

    #[test]
    fn a_bar_is_as_long_as_a_verdict_was_open() {
        let again = lived(
            verdict(1, "192.0.2.1/32", "volume", 101 * DAY),
            &[(Resolved, 103 * DAY), (New, 105 * DAY)],
        );
        let before = lived(
            verdict(2, "192.0.2.2/32", "volume", 90 * DAY),
            &[(Resolved, 99 * DAY)],
        );
        let timeline = Timeline::new(&[again, before], PERIOD);
        assert_eq!(timeline.lanes.len(), 1);
        let bars: Vec<_> = timeline.lanes[0]
            .bars
            .iter()
            .map(|bar| (bar.x.as_str(), bar.width.as_str(), bar.open))
            .collect();
        assert_eq!(bars, [("10.00", "20.00", false), ("50.00", "50.00", true)]);
        assert_eq!(timeline.ticks.len(), 5);
    }

    #[test]
    fn the_worst_open_host_is_first_and_there_is_an_end() {
        let lives: Vec<_> = (1..=30)
            .map(|number| {
                let subject = format!("192.0.2.{number}/32");
                let mut one = verdict(number, &subject, "volume", PERIOD.from + number);
                if number == 17 {
                    one.severity = Severity::Critical;
                }
                lived(one, &[])
            })
            .collect();
        let timeline = Timeline::new(&lives, PERIOD);
        assert_eq!((timeline.lanes.len(), timeline.more), (LANES, 10));
        assert_eq!(timeline.lanes[0].subject, "192.0.2.17");
        assert_eq!(timeline.lanes[0].bars[0].height, 7);
    }
}
