//! `/api/v1/distribution`: how many items opened how many connections.
//!
//! Contract: what an item is and what shares are shares of is stated; shares come from counts.
#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::App;
use super::api::SCHEMA;
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::{Params, Span};
use crate::failure::Failure;
use crate::model::period::Period;
use crate::report::distribution::{Item, JsonDistribution};
use crate::report::gaps::before;
use crate::report::month::distribution as read;
use crate::report::verdicts::JsonPeriod;
use crate::store::Reader;

answer! {
    /// The distribution of the period of the same length before.
    pub(super) struct Previous {
        /// That period.
        period: JsonPeriod [JsonPeriod],
        /// The period that was really counted.
        counted_period: JsonPeriod [JsonPeriod],
        /// The distribution.
        #[serde(flatten)]
        distribution: JsonDistribution [JsonDistribution],
    }
}

answer! {
    /// `/api/v1/distribution`.
    pub(super) struct Distribution {
        /// Version of the form of this answer.
        schema: u32,
        /// The period that was asked for.
        period: JsonPeriod [JsonPeriod],
        /// The period that was really counted, as finely as history is kept.
        counted_period: JsonPeriod [JsonPeriod],
        /// The distribution.
        #[serde(flatten)]
        distribution: JsonDistribution [JsonDistribution],
        /// The period before; null where nobody asked for it, or nothing was counted or is kept of it.
        previous: Option<Previous> [Previous],
    }
}

/// Path and meaning of every field of `/api/v1/distribution`.
pub fn distribution_fields() -> Vec<(String, String)> {
    flatten(Distribution::FIELDS)
}

/// What is counted, when, and whether beside what was before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub(super) item: Item,
    pub(super) span: Span,
    pub(super) compare: bool,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let item = params.take("item", "source, pair", |text| match text {
            "source" => Some(Item::Source),
            "pair" => Some(Item::Pair),
            _ => None,
        })?;
        let span = params.take("period", Span::KEPT_ALLOWED, Span::parse_kept)?;
        let compare = params.take("compare", "none, previous", |text| match text {
            "none" => Some(false),
            "previous" => Some(true),
            _ => None,
        })?;
        params.finish()?;
        Ok(Self {
            item: item.unwrap_or(Item::Source),
            span: span.unwrap_or(Span::Last(86_400_000)),
            compare: compare.unwrap_or(false),
        })
    }

    fn key(&self) -> String {
        format!(
            "distribution {:?} {} {}",
            self.item, self.span, self.compare
        )
    }
}

impl Distribution {
    fn read(query: Query, reader: &Reader) -> Result<Self, Failure> {
        let now = reader.now();
        let period = query
            .span
            .period(now)
            .unwrap_or(Period { from: 0, to: now });
        let before = match query.compare {
            true => before(reader, period)?,
            false => None,
        };
        let previous = before.map(|period| {
            let distribution = read(reader, query.item, period)?;
            Ok::<_, Failure>(Previous {
                period: period.into(),
                counted_period: reader.snap(period).into(),
                distribution: (&distribution).into(),
            })
        });
        Ok(Self {
            schema: SCHEMA,
            period: period.into(),
            counted_period: reader.snap(period).into(),
            distribution: (&read(reader, query.item, period)?).into(),
            previous: previous.transpose()?,
        })
    }
}

/// The distribution.
pub(super) async fn view(app: &App, query: Query) -> Result<Arc<Distribution>, Problem> {
    let make = app.look_up(move |archive| archive.read(|reader| Distribution::read(query, reader)));
    app.once(&query.key(), |_| 8192, make).await
}

pub(super) async fn distribution(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri)?;
    app.json_once(&query.key(), view(&app, query)).await
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/distribution",
            "distribution",
            "How many sources or pairs opened how many connections",
        )
        .choice("item", "What is counted by.", &["source", "pair"], "source")
        .period(false, "24h")
        .choice(
            "compare",
            "Whether the period before is told as well.",
            &["none", "previous"],
            "none",
        )
        .json::<Distribution>(),
    ]
}
