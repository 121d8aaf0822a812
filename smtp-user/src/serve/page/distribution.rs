//! `/distribution`: how many sources or pairs opened how many connections, the table of the system that
//! smtpflow descends from.
//!
//! Contract: made from the answer of the API. What an item is and what the shares are shares of is always
//! said. Each row leads to the sources in it.
#![forbid(unsafe_code)]

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::link::link;
use super::span::{self, Choice};
use super::{Layout, Screen, filters, show};
use crate::model::period::Period;
use crate::report::distribution::{Item, JsonDistribution, JsonRow};
use crate::report::time::parse_time;
use crate::report::verdicts::JsonPeriod;
use crate::serve::App;
use crate::serve::distribution::{Distribution, Query, view};
use crate::serve::problem::Problem;

/// The periods to choose from.
const PERIODS: [(&str, &str); 4] = [
    ("1h", "1 hour"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
];
const ITEMS: [(&str, &str); 2] = [
    ("source", "Sources"),
    ("pair", "Pairs of source and server"),
];

#[derive(Template)]
#[template(path = "distribution.html")]
struct Page {
    layout: Layout,
    item: &'static str,
    items_name: &'static str,
    items: Vec<Choice>,
    choices: Vec<Choice>,
    period_value: String,
    compare: bool,
    period: Period,
    counted: Period,
    answer: Arc<Distribution>,
}

/// `GET /distribution`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    show(&app, make(&app, &uri).await)
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let query = Query::parse(uri)?;
    let answer = view(app, query).await?;
    let (item, items_name) = ITEMS[usize::from(query.item == Item::Pair)];
    let (choices, period_value) = span::offered(&PERIODS, query.span);
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Distribution),
        item,
        items_name,
        items: span::choices(&ITEMS, item),
        choices,
        period_value,
        compare: query.compare,
        period: milliseconds(&answer.period),
        counted: milliseconds(&answer.counted_period),
        answer,
    })
}

impl Page {
    fn now(&self) -> &JsonDistribution {
        &self.answer.distribution
    }

    /// What was before, if it was asked for and counted.
    fn before(&self) -> Option<&JsonDistribution> {
        let previous = self.answer.previous.as_ref()?;
        Some(&previous.distribution)
    }

    fn rows(&self) -> impl Iterator<Item = (&JsonRow, Option<&JsonRow>)> {
        let rows = self.now().rows.iter().enumerate();
        rows.map(|(place, row)| (row, self.before().and_then(|before| before.rows.get(place))))
    }

    /// The same screen with another item, period or comparison.
    fn to(&self, item: &str, period: &str, compare: &bool) -> String {
        let compared = [("item", item), ("period", period), ("compare", "previous")];
        link("/distribution", &compared[..2 + usize::from(*compare)])
    }

    /// The sources of a row; pairs have no list of their own.
    fn sources(&self, row: &JsonRow) -> Option<String> {
        let above = format!("connections>{}", row.from - 1);
        let filter = match row.to {
            Some(to) => format!("{above} connections<={to}"),
            None => above,
        };
        let parameters = [("period", self.period_value.as_str()), ("filter", &filter)];
        (self.item == "source").then(|| link("/sources", &parameters))
    }

    fn json(&self) -> String {
        self.to(self.item, &self.period_value, &self.compare)
            .replace("/distribution?", "/api/v1/distribution?")
    }
}

/// As people read the bounds of a row.
fn range(row: &JsonRow) -> String {
    match row.to {
        Some(to) => format!("{}\u{2013}{to}", row.from),
        None => format!("{}\u{2013}", row.from),
    }
}

fn milliseconds(period: &JsonPeriod) -> Period {
    let time = |text: &str| parse_time(text).unwrap_or(0);
    Period {
        from: time(period.from.as_ref()),
        to: time(period.to.as_ref()),
    }
}
