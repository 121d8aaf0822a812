//! The report to read, and the table of the README.

use std::fmt::Write as _;

use super::{Counts, Report, Row, goals, median, name};
use crate::cost::goals::{Bound, Goal};

/// A heading, a section of [`name`], and what its figures are.
const SECTIONS: &[(&str, &str, &str)] = &[
    (
        "Kernel path, one frame",
        name::KERNEL,
        "BPF_PROG_TEST_RUN. The frame stays in cache; so do the counts.",
    ),
    (
        "Kernel path, many sources",
        name::SOURCES,
        "BPF_PROG_TEST_RUN with another source address in each run; the cost of changing it is in the \
         base.",
    ),
    (
        "End to end over veth",
        name::VETH,
        "Frames sent and received by one CPU: its time per packet. Programs that read captures run on \
         another CPU, whose time is not in it.",
    ),
    (
        "Flood from forged addresses over veth",
        name::FLOOD,
        "Frames sent and received by one CPU, dropped after counting.",
    ),
    (
        "The agent",
        name::AGENT,
        "smtpflow run, fed over veth; sources in one window.",
    ),
    (
        "Readers of the API",
        name::READERS,
        "smtpflow run with so many sources in its list, 10,000 in a window and 10,000 verdicts; the \
         program that asks is on the same CPUs.",
    ),
];

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "What smtpflow costs\n\n{}", report.machine);
    if report.quick {
        let _ = writeln!(
            text,
            "\nA smoke run: one round, few packets. Its times mean nothing."
        );
    } else {
        let rounds = report.rows.iter().map(|row| row.rounds.len()).min();
        let _ = writeln!(
            text,
            "\nMedians of at least {} rounds; everything of a section takes its turn in each round. A \
             ratio or a cost is taken round by round; in brackets the lower and the upper quartile. \
             Nanoseconds are CPU time.",
            rounds.unwrap_or(0)
        );
    }
    let _ = writeln!(text, "\nGoals\n");
    let rows = goals(report).into_iter().map(|goal| {
        vec![
            goal.text.to_owned(),
            limit(&goal),
            goal.value
                .map_or_else(|| "-".to_owned(), |value| format!("{value:.1}")),
            goal.unit.to_owned(),
            goal.verdict().word().to_owned(),
        ]
    });
    table(
        &mut text,
        &["goal", "limit", "measured", "unit", "verdict"],
        rows.collect(),
    );
    for (heading, section, about) in SECTIONS {
        let rows: Vec<&Row> = report
            .rows
            .iter()
            .filter(|row| row.section == *section)
            .collect();
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{heading}\n\n{about}\n");
        let cells = rows.iter().map(|row| cells(report, row)).collect();
        let header = [
            "case", "sources", "subject", "ratio", "cost", "", "value", "unit", "counts",
        ];
        table(&mut text, &header, cells);
        if *section == name::AGENT {
            text.push_str(&fits(report));
        }
    }
    text
}

fn cells(report: &Report, row: &Row) -> Vec<String> {
    let costs = report.costs(row);
    let (cost, spread) = match report.base(row) {
        Some(_) => (
            format!("{:+.1}", median(&costs)),
            format!(
                "({:+.1} .. {:+.1})",
                quartile(&costs, 1),
                quartile(&costs, 3)
            ),
        ),
        None => (String::new(), String::new()),
    };
    vec![
        row.case.clone(),
        row.sources.to_string(),
        row.subject.clone(),
        report
            .ratio(row)
            .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        cost,
        spread,
        format!("{:.1}", median(&row.rounds)),
        row.unit.clone(),
        row.counts.as_ref().map_or_else(String::new, verdict),
    ]
}

/// What is to be said about counts.
fn verdict(counts: &Counts) -> String {
    let Counts {
        sent,
        counted,
        unattributed,
        note,
    } = counts;
    let mut text = if !counts.exact() {
        format!(
            "WRONG: {counted} of {sent} ({:+.2} %)",
            100.0 * (*counted as f64 + *unattributed as f64 - *sent as f64) / *sent as f64
        )
    } else if *unattributed > 0 {
        format!(
            "right, {:.1} % as overflow",
            100.0 * *unattributed as f64 / *sent as f64
        )
    } else {
        "right".to_owned()
    };
    if !note.is_empty() {
        let _ = write!(text, "; {note}");
    }
    text
}

fn limit(goal: &Goal) -> String {
    match goal.bound {
        Bound::AtMost(limit) => format!("<= {limit}"),
        Bound::AtLeast(limit) => format!(">= {limit}"),
    }
}

/// The first or third quartile, by linear interpolation.
fn quartile(values: &[f64], which: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = which as f64 / 4.0 * values.len().saturating_sub(1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    match (values.get(low), values.get(high)) {
        (Some(low_value), Some(high_value)) => {
            low_value + (high_value - low_value) * (at - low as f64)
        }
        _ => f64::NAN,
    }
}

/// The agent's costs as straight lines over the number of sources.
fn fits(report: &Report) -> String {
    let mut text = String::new();
    let rows = || report.rows.iter().filter(|row| row.section == name::AGENT);
    let mut series: Vec<(&str, &str)> = Vec::new();
    for row in rows() {
        let this = (row.subject.as_str(), row.case.as_str());
        if !series.contains(&this) {
            series.push(this);
        }
    }
    for (subject, case) in series {
        let rows =
            rows().filter(|row| (row.subject.as_str(), row.case.as_str()) == (subject, case));
        let unit = rows.clone().next().map_or("", |row| row.unit.as_str());
        let points: Vec<(f64, f64)> = rows
            .map(|row| (row.sources as f64, report.cost(row)))
            .collect();
        if let Some((start, slope)) = line(&points) {
            let _ = writeln!(
                text,
                "fitted: {subject}, {case} = {start:.2} {unit} {:+.3} {unit} for 1,000 sources",
                1000.0 * slope
            );
        }
    }
    text
}

/// Intercept and slope of the straight line with the least sum of squared relative errors, so that
/// each decade weighs the same; `None` with less than two different abscissas.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let mut sums = [0.0; 5];
    for &(x, y) in points {
        let weight = 1.0 / (y * y).max(1e-12);
        for (sum, term) in sums.iter_mut().zip([1.0, x, y, x * x, x * y]) {
            *sum += weight * term;
        }
    }
    let [n, x, y, xx, xy] = sums;
    let determinant = n * xx - x * x;
    // Relative to its terms: what is left of equal abscissas is rounding.
    (determinant > 1e-9 * n * xx).then(|| {
        let slope = (n * xy - x * y) / determinant;
        ((y - slope * x) / n, slope)
    })
}

/// Columns as wide as their widest cell; numbers to the right.
fn table(text: &mut String, header: &[&str], rows: Vec<Vec<String>>) {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().chain([&header]);
            cells.map(|row| row[column].len()).max().unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for ((cell, width), title) in row.iter().zip(&widths).zip(&header) {
            let left = matches!(
                title.as_str(),
                "case" | "subject" | "goal" | "unit" | "verdict" | "counts" | ""
            );
            if left {
                let _ = write!(line, "{cell:<width$}  ");
            } else {
                let _ = write!(line, "{cell:>width$}  ");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// The cost table of the README: goals with what was measured, and the machine.
pub fn readme_table(report: &Report) -> String {
    let mut text = "| cost | measured | goal |\n|---|---|---|\n".to_owned();
    for goal in goals(report) {
        let Some(value) = goal.value else { continue };
        let bound = match goal.bound {
            Bound::AtMost(limit) => format!("at most {limit}"),
            Bound::AtLeast(limit) => format!("at least {limit}"),
        };
        let _ = writeln!(
            text,
            "| {} | {value:.1} {} | {bound}: {} |",
            goal.text.replace("2^", "2\\^"),
            goal.unit,
            goal.verdict().word()
        );
    }
    let _ = writeln!(text, "\nMeasured on a {}.", report.machine);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_fitted_through_its_points() {
        let points = [1e4, 1e5, 1e6].map(|x| (x, 3.0 + 2e-4 * x));
        let (start, slope) = line(&points).expect("three abscissas");
        assert!((start - 3.0).abs() < 1e-6 && (slope - 2e-4).abs() < 1e-9);
        assert_eq!(line(&points[..1]), None);
        assert_eq!(line(&[]), None);
    }

    #[test]
    fn quartiles_are_interpolated() {
        let values = [5.0, 1.0, 2.0, 4.0, 3.0];
        assert_eq!((quartile(&values, 1), quartile(&values, 3)), (2.0, 4.0));
        assert!(quartile(&[], 1).is_nan());
    }

    #[test]
    fn wrong_counts_are_called_wrong() {
        let counts = |counted, unattributed| Counts {
            sent: 200,
            counted,
            unattributed,
            note: String::new(),
        };
        assert_eq!(verdict(&counts(200, 0)), "right");
        assert_eq!(verdict(&counts(150, 50)), "right, 25.0 % as overflow");
        assert_eq!(verdict(&counts(199, 0)), "WRONG: 199 of 200 (-0.50 %)");
        assert_eq!(verdict(&counts(202, 0)), "WRONG: 202 of 200 (+1.00 %)");
    }
}
