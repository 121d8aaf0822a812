//! The periods that a screen offers, as links; any other that the API understands can be asked for in
//! the address bar.
#![forbid(unsafe_code)]

use crate::model::period::Period;
use crate::serve::problem::Problem;
use crate::serve::query::{Params, Span};

/// One of several things to show.
pub(super) struct Choice {
    /// As in the query.
    pub(super) value: &'static str,
    /// As people read it.
    pub(super) name: &'static str,
    /// Whether it is the one that is shown.
    pub(super) current: bool,
}

/// All of them, given what is shown.
pub(super) fn choices(all: &[(&'static str, &'static str)], shown: &str) -> Vec<Choice> {
    all.iter()
        .map(|(value, name)| Choice {
            value,
            name,
            current: *value == shown,
        })
        .collect()
}

/// The periods to choose from, and how the one that is shown stands in a query.
pub(super) fn offered(all: &[(&'static str, &'static str)], shown: Span) -> (Vec<Choice>, String) {
    let is_shown = |value: &str| Span::parse_kept(value) == Some(shown);
    let found = all.iter().find(|(value, _)| is_shown(value));
    match found {
        Some((value, _)) => (choices(all, value), (*value).to_owned()),
        None => (choices(all, ""), shown.to_string()),
    }
}

/// Takes the period of the query, or a day.
pub(super) fn take(params: &mut Params) -> Result<Span, Problem> {
    let asked = params.take("period", Span::KEPT_ALLOWED, Span::parse_kept)?;
    Ok(asked.unwrap_or(Span::Last(86_400_000)))
}

/// The period, as far as it is over, and the one of the same length before it.
pub(super) fn periods(span: Span, now: u64) -> (Period, Period) {
    let whole = span.period(now).unwrap_or(Period { from: now, to: now });
    let period = Period {
        from: whole.from,
        to: whole.to.min(now).max(whole.from),
    };
    let before = Period {
        from: period.from.saturating_sub(period.length()),
        to: period.from,
    };
    (period, before)
}
