//! `/distribution`: how many sources or pairs opened how many connections, the table of the system that
//! smtpflow descends from.
//!
//! Contract: what an item is and what the shares are shares of is always said. Shares are computed from
//! counts. Each row leads to the sources in it.
#![forbid(unsafe_code)]

use askama::Template;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::span::{self, Choice};
use super::{Layout, Screen, filters, show};
use crate::distribution::{Row, percent};
use crate::failure::Failure;
use crate::model::period::{Period, Tier};
use crate::report::distribution::{Item, ItemDistribution, range};
use crate::report::month::distribution;
use crate::serve::App;
use crate::serve::problem::Problem;
use crate::serve::query::{Params, Span};
use crate::store::Reader;

/// The periods to choose from.
const PERIODS: [(&str, &str); 4] = [
    ("1h", "1 hour"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
];
const ITEMS: [(&str, &str, Item); 2] = [
    ("source", "Sources", Item::Source),
    ("pair", "Pairs of source and server", Item::Pair),
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
    now: Shown,
    /// `None` where it was not asked for or nothing was counted then.
    before: Option<Shown>,
    rows: Vec<(ShownRow, Option<ShownRow>)>,
}

/// A distribution as it is shown.
struct Shown {
    items: u64,
    connections: u64,
    bytes: u64,
    unsorted: u64,
}

struct ShownRow {
    range: String,
    /// The filter of the list of sources that gives those of this row.
    filter: Option<String>,
    items: u64,
    item_percent: String,
    cumulative: String,
    connections: u64,
    connection_percent: String,
    bytes: u64,
    byte_percent: String,
}

/// `GET /distribution`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    show(&app, make(&app, &uri).await)
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let mut params = Params::of(uri)?;
    let span = span::take(&mut params)?;
    let asked = params.take("item", "source, pair", |text| {
        ITEMS.into_iter().find(|(name, _, _)| *name == text)
    })?;
    let (item, items_name, kind) = asked.unwrap_or(ITEMS[0]);
    let compare = params.take("compare", "previous", |text| {
        (text == "previous").then_some(())
    })?;
    let compare = compare.is_some();
    params.finish()?;
    let read = app
        .look_up(move |archive| archive.read(|reader| Read::new(reader, kind, span, compare)))
        .await?;
    let Read {
        period,
        counted,
        now,
        before,
    } = read;
    let shown_before = before.as_ref().map(Shown::from);
    let mut earlier = before.map(|before| rows(&before, kind).into_iter());
    let rows = rows(&now, kind)
        .into_iter()
        .map(|row| (row, earlier.as_mut().and_then(Iterator::next)))
        .collect();
    let (choices, period_value) = span::offered(&PERIODS, span);
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Distribution),
        item,
        items_name,
        items: span::choices(&ITEMS.map(|(value, name, _)| (value, name)), item),
        choices,
        period_value,
        compare,
        period,
        counted,
        now: Shown::from(&now),
        before: shown_before,
        rows,
    })
}

struct Read {
    period: Period,
    counted: Period,
    now: ItemDistribution,
    before: Option<ItemDistribution>,
}

impl Read {
    fn new(reader: &Reader, item: Item, span: Span, compare: bool) -> Result<Self, Failure> {
        let (period, before) = span::periods(span, reader.now());
        Ok(Self {
            period,
            counted: reader.snap(period),
            now: distribution(reader, item, period)?,
            before: if compare && !reader.coverage(Tier::Hour, before)?.is_empty() {
                Some(distribution(reader, item, before)?)
            } else {
                None
            },
        })
    }
}

impl From<&ItemDistribution> for Shown {
    fn from(of: &ItemDistribution) -> Self {
        let all = &of.distribution;
        Self {
            items: all.items,
            connections: all.connections,
            bytes: all.bytes,
            unsorted: of.unsorted_connections,
        }
    }
}

fn rows(of: &ItemDistribution, item: Item) -> Vec<ShownRow> {
    let all = &of.distribution;
    let row = |row: &Row| ShownRow {
        range: range(row).replace('-', "\u{2013}"),
        filter: (item == Item::Source).then(|| filter(row)),
        items: row.items,
        item_percent: percent(row.items, all.items),
        cumulative: percent(row.cumulative_items, all.items),
        connections: row.connections,
        connection_percent: percent(row.connections, all.connections),
        bytes: row.bytes,
        byte_percent: percent(row.bytes, all.bytes),
    };
    all.rows.iter().map(row).collect()
}

/// Those of the row, in the language of the list of sources, as it stands in a query.
fn filter(row: &Row) -> String {
    let above = format!("connections%3E{}", row.from - 1);
    match row.to {
        Some(to) => format!("{above}+connections%3C%3D{to}"),
        None => above,
    }
}
