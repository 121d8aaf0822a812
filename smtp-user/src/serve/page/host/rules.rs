//! Rules with their figures, and how far each figure is from its limit.

use askama::filters::Safe;

use crate::model::period::{Period, Tier};
use crate::model::verdict::{Figure, Holding, Rule};
use crate::report::time;
use crate::serve::page::words::grouped;

/// A rule as a row, or several where it has several figures.
pub(in crate::serve::page) struct RuleRow {
    pub(in crate::serve::page) detector: String,
    pub(in crate::serve::page) text: String,
    pub(in crate::serve::page) severity: &'static str,
    /// holds, below or not_applicable.
    pub(in crate::serve::page) holding: &'static str,
    pub(in crate::serve::page) because: Option<String>,
    pub(in crate::serve::page) period: Period,
    pub(in crate::serve::page) figures: Vec<FigureRow>,
}

/// A figure beside its limit.
pub(in crate::serve::page) struct FigureRow {
    pub(in crate::serve::page) name: String,
    pub(in crate::serve::page) value: String,
    /// With the sign that says on which side the rule holds.
    pub(in crate::serve::page) limit: String,
    pub(in crate::serve::page) unit: String,
    pub(in crate::serve::page) beyond: bool,
    /// How long the bar of the value is, and where the limit stands, in hundredths of the whole.
    pub(in crate::serve::page) bar: String,
    pub(in crate::serve::page) tick: String,
}

/// All of them: those that hold first, the worst first, the others as they come.
pub(super) fn rows(rules: &[Rule]) -> Vec<RuleRow> {
    let mut rules: Vec<&Rule> = rules.iter().collect();
    rules.sort_by_key(|rule| {
        let holds = rule.holding == Holding::Holds;
        (!holds, holds.then_some(std::cmp::Reverse(rule.severity)))
    });
    rules.into_iter().map(RuleRow::from).collect()
}

impl RuleRow {
    /// Whether it looks at the hour that is not over.
    pub(in crate::serve::page) fn of_this_hour(&self, now: &u64) -> bool {
        self.period.to == *now && self.period.from == Tier::Hour.start_of(now.saturating_sub(1))
    }

    /// The attribute of a cell that is beside all of its figures.
    pub(in crate::serve::page) fn span(&self) -> Safe<String> {
        Safe(match self.figures.len() {
            0 | 1 => String::new(),
            many => format!(" rowspan={many}"),
        })
    }

    /// Whether the day need not be said twice.
    pub(in crate::serve::page) fn of_one_day(&self) -> bool {
        time::day(self.period.from) == time::day(self.period.to)
    }
}

impl From<&Rule> for RuleRow {
    fn from(rule: &Rule) -> Self {
        let Rule {
            detector,
            text,
            severity,
            period,
            figures,
            holding,
        } = rule;
        let (holding, because) = match holding {
            Holding::Holds => ("holds", None),
            Holding::Below => ("below", None),
            Holding::NotApplicable(because) => ("not_applicable", Some(because.clone())),
        };
        Self {
            detector: detector.clone(),
            text: text.clone(),
            severity: severity.name(),
            holding,
            because,
            period: *period,
            figures: figures.iter().map(FigureRow::from).collect(),
        }
    }
}

impl From<&Figure> for FigureRow {
    fn from(figure: &Figure) -> Self {
        let Figure {
            name,
            value,
            limit,
            below,
            unit,
        } = figure;
        let share = unit == "share";
        // Both on one line from 0, with room behind the limit, so that near and far look so.
        let whole = if share {
            1.0
        } else {
            (limit * 1.5).max(*value).max(f64::MIN_POSITIVE)
        };
        let part = |number: f64| format!("{:.1}", (number / whole * 100.0).clamp(0.0, 100.0));
        let sign = if *below { "<" } else { ">" };
        Self {
            // A share that has the name of what it is a share of needs no unit of its own.
            unit: if share || name.contains(unit.as_str()) {
                String::new()
            } else {
                unit.clone()
            },
            name: name.clone(),
            value: number(*value, share),
            limit: format!("{sign} {}", number(*limit, share)),
            beyond: figure.is_beyond(),
            bar: part(*value),
            tick: part(*limit),
        }
    }
}

/// A whole number as one, a share in percent, others with up to three decimals.
fn number(value: f64, share: bool) -> String {
    if share {
        let tenths = (value * 1000.0).round() / 10.0;
        return format!("{tenths} %");
    }
    let rounded = (value * 1000.0).round() / 1000.0;
    if rounded.fract() == 0.0 && rounded.abs() < 1e15 {
        grouped(rounded as i64)
    } else {
        rounded.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, limit: f64, below: bool, unit: &str) -> FigureRow {
        let figure = Figure {
            name: "connections to one server".to_owned(),
            value,
            limit,
            below,
            unit: unit.to_owned(),
        };
        (&figure).into()
    }

    #[test]
    fn near_and_far_from_a_limit_look_so() {
        let near = figure(29.0, 30.0, false, "connections");
        assert_eq!((near.bar.as_str(), near.tick.as_str()), ("64.4", "66.7"));
        assert_eq!((near.limit.as_str(), near.beyond), ("> 30", false));
        let far = figure(3000.0, 30.0, false, "connections");
        assert_eq!((far.bar.as_str(), far.tick.as_str()), ("100.0", "1.0"));
        assert_eq!((far.value.as_str(), far.unit.as_str()), ("3,000", ""));
        let share = figure(0.857, 0.5, true, "share");
        assert_eq!((share.bar.as_str(), share.tick.as_str()), ("85.7", "50.0"));
        assert_eq!(
            (share.value.as_str(), share.limit.as_str()),
            ("85.7 %", "< 50 %")
        );
        let nothing = figure(0.0, 0.0, false, "bytes");
        assert_eq!(
            (nothing.bar.as_str(), nothing.unit.as_str()),
            ("0.0", "bytes")
        );
    }
}
