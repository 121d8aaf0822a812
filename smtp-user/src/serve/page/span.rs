//! The periods that a screen offers, as links.
#![forbid(unsafe_code)]

use axum::extract::Query;
use axum::http::Uri;

use crate::report::time;
use crate::serve::problem::Problem;

/// One of them.
pub(super) struct Choice {
    /// As in the query.
    pub(super) value: &'static str,
    /// As people read it.
    pub(super) name: &'static str,
    /// Whether it is the one that is shown.
    pub(super) current: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) value: &'static str,
    /// In milliseconds.
    pub(super) length: u64,
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

/// The parameter `period` of a query, one of those that are offered; the first one without it.
pub(super) fn of(uri: &Uri, all: &[(&'static str, &'static str)]) -> Result<Asked, Problem> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::parameter("query", uri.query().unwrap_or_default(), "period=24h"))?;
    let asked = pairs.iter().find(|(name, _)| name == "period");
    let found = match asked {
        None => all.first(),
        Some((_, asked)) => all.iter().find(|(value, _)| value == asked),
    };
    let allowed: Vec<_> = all.iter().map(|(value, _)| *value).collect();
    let refused = || {
        let value = asked.map_or("", |(_, value)| value);
        Problem::parameter("period", value, &allowed.join(", "))
    };
    let (value, _) = found.ok_or_else(refused)?;
    let length = time::parse_span(value).map_err(|_| refused())?;
    Ok(Asked { value, length })
}
