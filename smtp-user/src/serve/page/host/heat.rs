//! The connections of thirty days by UTC day and hour: whether a host does it every night shows at a
//! glance.
//!
//! Contract: an hour in which packets were not counted is a gap, never 0. A cell is darker beyond the
//! limits of the detector `volume`, and has its number as text.

use std::collections::HashMap;

use crate::model::Counts;
use crate::model::period::{Bucket, Coverage, Period, Tier};
use crate::report::time;
use crate::serve::page::words::grouped;

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");
const DAY: u64 = Tier::Day.length().expect("a day has a length");
/// Days that are shown, with the one that is not over.
const DAYS: u64 = 30;
/// So many times the limit of a warning is the darkest.
const DARKEST: u64 = 5;

/// See the module.
pub(super) struct Heat {
    /// The latest day first.
    pub(super) days: Vec<Day>,
    /// The limits between the shades.
    pub(super) limits: [u64; 3],
    /// Hours over the limits of a notice and of a warning, and hours that were counted.
    pub(super) over: [u64; 2],
    pub(super) counted: u64,
}

pub(super) struct Day {
    pub(super) name: String,
    pub(super) cells: Vec<Cell>,
}

/// An hour, or several one after the other that are all gaps or all still to come.
pub(super) struct Cell {
    /// h1 to h4, gap, next for what is still to come, or empty for 0.
    pub(super) class: &'static str,
    /// How many hours.
    pub(super) span: usize,
    pub(super) text: String,
    /// What the text and the column do not say already.
    pub(super) title: String,
}

/// The period that is shown.
pub(super) fn period(now: u64) -> Period {
    Period {
        from: Tier::Day
            .start_of(now.saturating_sub(1))
            .saturating_sub((DAYS - 1) * DAY),
        to: now,
    }
}

/// How long packets were counted in each hour: an hour that came twice because the clock was set back
/// is of two buckets.
pub(super) fn by_start(coverage: &[Coverage]) -> HashMap<u64, u64> {
    let mut up: HashMap<u64, u64> = HashMap::new();
    for bucket in coverage {
        let more = u64::try_from(bucket.up.as_millis()).unwrap_or(u64::MAX);
        let of = up.entry(bucket.bucket.start).or_default();
        *of = of.saturating_add(more);
    }
    up
}

impl Heat {
    /// Of the hours of [`period`].
    pub(super) fn new(
        hours: &[(Bucket, Counts)],
        coverage: &[Coverage],
        now: u64,
        (notice, warning): (u64, u64),
    ) -> Self {
        let up = by_start(coverage);
        let mut connections: HashMap<u64, u64> = HashMap::new();
        for (bucket, counts) in hours {
            *connections.entry(bucket.start).or_default() += counts.totals.connections;
        }
        let limits = [notice, warning, warning.saturating_mul(DARKEST)];
        let mut heat = Self {
            days: Vec::new(),
            limits,
            over: [0; 2],
            counted: 0,
        };
        let Period { from, to } = period(now);
        for start in (from..to).step_by(DAY as usize) {
            let cells = (0..24).map(|hour| {
                let at = start + hour * HOUR;
                if at >= to {
                    return Cell::blank();
                }
                let Some(up) = up.get(&at).filter(|up| **up > 0) else {
                    return Cell::gap();
                };
                let count = connections.get(&at).copied().unwrap_or(0);
                heat.counted += 1;
                heat.over[0] += u64::from(count > notice);
                heat.over[1] += u64::from(count > warning);
                let share = *up as f64 / (to - at).min(HOUR) as f64;
                Cell::counted(count, share, &limits)
            });
            let cells = joined(cells);
            heat.days.push(Day {
                name: time::weekday(start),
                cells,
            });
        }
        heat.days.reverse();
        heat
    }
}

impl Cell {
    const fn blank() -> Self {
        Self {
            class: "next",
            span: 1,
            text: String::new(),
            title: String::new(),
        }
    }

    fn gap() -> Self {
        Self {
            class: "gap",
            span: 1,
            text: String::new(),
            title: "not counted".to_owned(),
        }
    }

    fn counted(count: u64, share: f64, limits: &[u64; 3]) -> Self {
        const CLASSES: [&str; 4] = ["h1", "h2", "h3", "h4"];
        let class = match count {
            0 => "",
            _ => CLASSES[limits.iter().filter(|limit| count > **limit).count()],
        };
        let mut said = Vec::new();
        if count >= 1000 {
            // There is no room for all of it in the cell.
            said.push(grouped(count));
        }
        if share < Coverage::FULL {
            said.push(format!("counted for {:.0} %", share * 100.0));
        }
        Self {
            class,
            span: 1,
            text: short(count),
            title: said.join(", "),
        }
    }
}

/// With one cell in the place of several that are all gaps or all still to come.
fn joined(cells: impl Iterator<Item = Cell>) -> Vec<Cell> {
    let mut joined: Vec<Cell> = Vec::new();
    for cell in cells {
        match joined.last_mut() {
            Some(last) if ["gap", "next"].contains(&cell.class) && last.class == cell.class => {
                last.span += cell.span;
            }
            _ => joined.push(cell),
        }
    }
    joined
}

/// At most four characters.
fn short(count: u64) -> String {
    match count {
        0 => String::new(),
        1..1000 => count.to_string(),
        1000..10_000 => format!("{}.{}k", count / 1000, count % 1000 / 100),
        10_000..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_side_by_side_are_one_cell_and_counts_are_never_joined() {
        let counted = |count| Cell::counted(count, 1.0, &[30, 100, 500]);
        let cells = [
            Cell::gap(),
            Cell::gap(),
            counted(0),
            counted(0),
            counted(1234),
            Cell::gap(),
            Cell::blank(),
            Cell::blank(),
        ];
        let cells = joined(cells.into_iter());
        let seen: Vec<_> = cells
            .iter()
            .map(|cell| (cell.class, cell.span, &*cell.text, &*cell.title))
            .collect();
        assert_eq!(
            seen,
            [
                ("gap", 2, "", "not counted"),
                ("", 1, "", ""),
                ("", 1, "", ""),
                ("h4", 1, "1.2k", "1,234"),
                ("gap", 1, "", "not counted"),
                ("next", 2, "", ""),
            ]
        );
        let partly = Cell::counted(2000, 0.5, &[30, 100, 500]);
        assert_eq!(partly.title, "2,000, counted for 50 %");
    }
}
