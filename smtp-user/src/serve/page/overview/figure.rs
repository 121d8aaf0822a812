//! The four figures, each with its last day and the day before.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use ipnet::IpNet;

use super::super::super::trend::{BIN, Bin, DAY, Trend};
use super::super::svg::{Svg, spark};
use super::super::words;
use crate::model::Snapshot;
use crate::model::verdict::{Severity, VerdictState};

/// A figure.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) number: String,
    pub(super) note: String,
    /// `None` where there is no past.
    pub(super) chart: Option<Svg>,
}

/// Values of two days, the oldest first.
type Values = Vec<Option<f64>>;

pub(super) fn figures(snapshot: &Snapshot, trend: Option<&Trend>) -> Vec<Figure> {
    let mut figures = match trend.and_then(|trend| Some((trend, trend.present()?))) {
        Some((trend, present)) => measured(trend, present),
        None => last_window(snapshot),
    };
    figures.extend(judged(snapshot, trend));
    figures
}

/// Of bins.
fn measured(trend: &Trend, (place, bin): (usize, Bin)) -> Vec<Figure> {
    let values = |value: fn(&Bin) -> Option<f64>| -> Values {
        let bins = trend.bins.iter().map(Option::as_ref);
        bins.map(|bin| bin.and_then(value)).collect()
    };
    let before = trend.bins[place - DAY];
    let figure = |name, number: fn(&Bin) -> f64, charted: fn(&Bin) -> Option<f64>| {
        let number = |bin: &Bin| self::number(number(bin));
        let mut note = "in the last minutes".to_owned();
        if let Some(before) = &before {
            note.push_str(&format!("; {} a day ago", number(before)));
        }
        Figure {
            name,
            number: number(&bin),
            note,
            chart: Some(chart(name, &values(charted))),
        }
    };
    vec![
        figure("Connections a minute", Bin::rate, |bin| Some(bin.rate())),
        figure(
            "Sources now",
            |bin| bin.sources as f64,
            // Who was there in a part of a bin says nothing beside whole ones.
            |bin| (bin.up >= BIN / 2).then_some(bin.sources as f64),
        ),
    ]
}

/// Where there is no history.
fn last_window(snapshot: &Snapshot) -> Vec<Figure> {
    let seconds = snapshot.identity.window.as_secs_f64();
    let window = &snapshot.last_window;
    let connections = window.sources.connections + window.overflow.connections;
    let rate = connections as f64 * 60.0 / seconds;
    let (rate, sources) = match snapshot.last_drain {
        Some(drain) => (number(rate), words::grouped(drain.sources)),
        None => ("\u{2013}".to_owned(), "\u{2013}".to_owned()),
    };
    let note = format!("in the last window of {seconds} s");
    [("Connections a minute", rate), ("Sources now", sources)]
        .map(|(name, number)| Figure {
            name,
            number,
            note: note.clone(),
            chart: None,
        })
        .into()
}

fn judged(snapshot: &Snapshot, trend: Option<&Trend>) -> [Figure; 2] {
    let summary = &snapshot.verdicts;
    let open: u64 = summary.open.iter().sum();
    let by_severity = |numbers: [u64; Severity::ALL.len()]| {
        let parts: Vec<_> = Severity::ALL
            .iter()
            .zip(numbers)
            .rev()
            .filter(|(_, number)| *number > 0)
            .map(|(severity, number)| format!("{} {}", words::grouped(number), severity.name()))
            .collect();
        parts.join(", ")
    };
    let unjudged = "nobody is judged";
    let Some(trend) = trend else {
        let (number, note) = if summary.judged {
            (words::grouped(open), by_severity(summary.open))
        } else {
            ("\u{2013}".to_owned(), unjudged.to_owned())
        };
        return ["Hosts flagged", "Open cases"].map(|name| Figure {
            name,
            number: number.clone(),
            note: note.clone(),
            chart: None,
        });
    };
    let lives = trend
        .lives
        .iter()
        .filter(|life| life.verdict.state.is_open());
    let mut hosts: HashMap<IpNet, Severity> = HashMap::new();
    for life in lives.clone() {
        let worst = hosts
            .entry(life.verdict.subject)
            .or_insert(Severity::Notice);
        *worst = life.verdict.severity.max(*worst);
    }
    let worst = Severity::ALL
        .map(|severity| hosts.values().filter(|worst| **worst == severity).count() as u64);
    let in_state = |state| {
        lives
            .clone()
            .filter(|life| life.verdict.state == state)
            .count()
    };
    let cases = lives.clone().count();
    let states: Vec<_> = [
        VerdictState::New,
        VerdictState::Acknowledged,
        VerdictState::Notified,
    ]
    .into_iter()
    .map(|state| (in_state(state), state))
    .filter(|(number, _)| *number > 0)
    .map(|(number, state)| format!("{} {state}", words::grouped(number)))
    .collect();
    let past = trend.open();
    let values = |value: fn(&(usize, usize)) -> usize| -> Values {
        let value = |open: &Option<(usize, usize)>| open.as_ref().map(|open| value(open) as f64);
        past.iter().map(value).collect()
    };
    let note = |text: String| {
        if !summary.judged {
            unjudged.to_owned()
        } else if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    [
        Figure {
            name: "Hosts flagged",
            number: words::grouped(hosts.len()),
            note: note(by_severity(worst)),
            chart: Some(chart("Hosts flagged", &values(|open| open.0))),
        },
        Figure {
            name: "Open cases",
            number: words::grouped(cases),
            note: note(states.join(", ")),
            chart: Some(chart("Open cases", &values(|open| open.1))),
        },
    ]
}

/// 0.4, 12, 1,234
fn number(value: f64) -> String {
    if value < 10.0 && value.fract() != 0.0 {
        format!("{value:.1}")
    } else {
        words::grouped(value.round())
    }
}

fn chart(name: &str, values: &Values) -> Svg {
    let (before, day) = values.split_at(DAY);
    let counted: Vec<f64> = day.iter().flatten().copied().collect();
    let most = counted.iter().copied().fold(0.0, f64::max);
    let least = counted.iter().copied().fold(f64::INFINITY, f64::min);
    let words = if counted.is_empty() {
        format!("{name}: nothing was counted in the last 24 hours")
    } else {
        format!(
            "{name} in the last 24 hours: {} to {}; {} of {DAY} times five minutes were counted",
            number(least),
            number(most),
            counted.len()
        )
    };
    spark(day, before, &words)
}
