//! The report as text.

use std::fmt::Write as _;

use super::{Method, Report, Score, Times, goals, score};
use crate::traffic::{KINDS, Label};

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    for part in report.parts() {
        writeln!(out, "{}, {} days each\n", part.title, report.days)?;
        for listed in [true, false] {
            let hosts = report.hosts(&part, listed);
            let which = if listed {
                "with the list of known relays"
            } else {
                "without it"
            };
            writeln!(
                out,
                "{which:<31} {:>22} {:>22} {:>6} {:>6} {:>6} {:>13} {:>13} {:>8}",
                "recall",
                "precision",
                "found",
                "missed",
                "wrong",
                "median, 90 %",
                "of the found",
                "fast"
            )?;
            for method in Method::ALL {
                let score = Score::of(&hosts, method);
                writeln!(
                    out,
                    "{:<31} {:>22} {:>22} {:>6} {:>6} {:>6} {:>13} {:>13} {:>8}",
                    method.name(),
                    interval(score.recall(), score.recall_interval()),
                    interval(score.precision(), score.precision_interval()),
                    score.found,
                    score.missed,
                    score.wrong,
                    times(score.times),
                    times(score.times_of_found),
                    seconds(score.times_of_fast.median),
                )?;
            }
            writeln!(out)?;
        }
        let hosts = report.all_hosts(&part, true);
        write!(out, "{:<16} {:>6}", "accused of hosts", "hosts")?;
        for method in Method::ALL {
            write!(out, " {:>24}", method.name())?;
        }
        writeln!(out)?;
        let columns = Method::ALL.map(|method| score::kinds(&hosts, method));
        for (row, kind) in KINDS.iter().enumerate() {
            let before = &KINDS[row.saturating_sub(1)];
            if kind.limit && !before.limit {
                writeln!(out, "\nat the limits, in no score and no goal")?;
            } else if kind.label == Label::Bot && before.label != Label::Bot {
                writeln!(out)?;
            }
            write!(out, "{:<16} {:>6}", kind.name, columns[0][row].hosts)?;
            for column in &columns {
                let score = &column[row];
                let time = score.times.median;
                let cell = match time {
                    Some(_) => format!("{} ({})", score.accused, seconds(time)),
                    None => score.accused.to_string(),
                };
                write!(out, " {cell:>24}")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
        for mistake in score::mistakes(report, &part) {
            writeln!(
                out,
                "{} by smtpflow: {} ({}), seed {}{}{}",
                mistake.what,
                mistake.host,
                mistake.kind,
                mistake.seed,
                if mistake.detectors.is_empty() {
                    ""
                } else {
                    ", by "
                },
                mistake.detectors.join(", ")
            )?;
        }
        for goal in goals(report, &part) {
            let mark = if goal.reached { "reached" } else { "MISSED" };
            writeln!(out, "{mark:<8} {}: {}", goal.goal, goal.measured)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn interval(share: f64, (low, high): (f64, f64)) -> String {
    format!("{share:.3} [{low:.3}, {high:.3}]")
}

pub(super) fn times(times: Times) -> String {
    format!("{}, {}", seconds(times.median), seconds(times.p90))
}

pub(super) fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds) if seconds < 600.0 => format!("{seconds:.0} s"),
        Some(seconds) => format!("{:.1} h", seconds / 3600.0),
        None => "never".to_owned(),
    }
}
