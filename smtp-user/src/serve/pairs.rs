//! `/api/v1/sources/{addr}/pairs`: whom a source went to in a period, and who came to it.
//!
//! Contract: from history, by connections, then by packets. What is not kept server by server is one
//! entry with `server` null, at the end.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use smtp_common::packet::Address;

use super::App;
use super::api::SCHEMA;
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Params, Span};
use crate::failure::Failure;
use crate::model::period::Period;
use crate::model::{Counts, PairKey};
use crate::report::UNKEPT;
use crate::report::counts::JsonCounts;
use crate::report::verdicts::JsonPeriod;
use crate::store::Reader;

answer! {
    /// The other end of a pair.
    pub(super) struct End {
        /// Its address; null for all that are not kept one by one.
        addr: Option<IpAddr>,
        /// Counts of the pair in the period.
        #[serde(flatten)]
        counts: JsonCounts [JsonCounts],
    }
}

answer! {
    /// `/api/v1/sources/{addr}/pairs`.
    pub(super) struct Pairs {
        /// Version of the form of this answer.
        schema: u32,
        /// The address.
        addr: IpAddr,
        /// The period that was asked for.
        period: JsonPeriod [JsonPeriod],
        /// The period that was really counted, as finely as history is kept.
        counted_period: JsonPeriod [JsonPeriod],
        /// Most entries shown in each list.
        limit: usize,
        /// Servers that it contacted, of those that are kept one by one.
        servers_total: usize,
        /// The servers.
        servers: Vec<End> [End],
        /// Clients that contacted it, likewise.
        clients_total: usize,
        /// The clients.
        clients: Vec<End> [End],
    }
}

/// Path and meaning of every field of `/api/v1/sources/{addr}/pairs`.
pub fn pairs_fields() -> Vec<(String, String)> {
    flatten(Pairs::FIELDS)
}

/// Of which time, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    span: Span,
    limit: usize,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let span = params.take("period", Span::KEPT_ALLOWED, Span::parse_kept)?;
        let limit = params.number("limit", (1, MAX_LIMIT))?;
        params.finish()?;
        Ok(Self {
            span: span.unwrap_or(Span::Last(86_400_000)),
            limit: limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

/// The first ones, with how many there are.
fn first(mut ends: Vec<(Address, Counts)>, limit: usize) -> (Vec<End>, usize) {
    ends.sort_unstable_by_key(|(address, counts)| {
        let totals = &counts.totals;
        let most = Reverse((totals.connections, totals.packets()));
        (*address == UNKEPT, most, address.octets())
    });
    let total = ends
        .iter()
        .filter(|(address, _)| *address != UNKEPT)
        .count();
    let unkept = ends.iter().position(|(address, _)| *address == UNKEPT);
    let shown = ends[..total.min(limit)]
        .iter()
        .chain(unkept.map(|place| &ends[place]));
    let shown = shown.map(|(address, counts)| End {
        addr: (*address != UNKEPT).then(|| (*address).into()),
        counts: counts.into(),
    });
    (shown.collect(), total)
}

impl Pairs {
    fn read(query: Query, reader: &Reader, address: IpAddr) -> Result<Self, Failure> {
        let Query { span, limit } = query;
        let now = reader.now();
        let period = span.period(now).unwrap_or(Period { from: 0, to: now });
        let this = Address::from(address);
        let went = reader.pairs_of(this, period)?;
        let went = went.into_iter().map(|(pair, counts)| (pair.server, counts));
        let mut came = Vec::new();
        reader.pairs(period, &mut |PairKey { client, server }, counts| {
            if server == this {
                came.push((client, *counts));
            }
        })?;
        let (servers, servers_total) = first(went.collect(), limit);
        let (clients, clients_total) = first(came, limit);
        Ok(Self {
            schema: SCHEMA,
            addr: address,
            period: period.into(),
            counted_period: reader.snap(period).into(),
            limit,
            servers_total,
            servers,
            clients_total,
            clients,
        })
    }
}

/// The pairs of a source.
pub(super) async fn view(app: &App, address: IpAddr, query: Query) -> Result<Arc<Pairs>, Problem> {
    let key = format!("pairs {address} {} {}", query.span, query.limit);
    let make =
        app.look_up(move |archive| archive.read(|reader| Pairs::read(query, reader, address)));
    let weight = |pairs: &Pairs| 400 * (1 + pairs.servers.len() + pairs.clients.len());
    app.once(&key, weight, make).await
}

pub(super) async fn pairs(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address = super::source::address(&address)?;
    let query = Query::parse(&uri)?;
    let key = format!("pairs {address} {} {}", query.span, query.limit);
    app.json_once(&key, view(&app, address, query)).await
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/sources/{addr}/pairs",
            "pairs",
            "Whom a source went to, and who came to it",
        )
        .address()
        .period(false, "24h")
        .number(
            "limit",
            "Most entries of each list.",
            (1, MAX_LIMIT),
            DEFAULT_LIMIT,
        )
        .json::<Pairs>(),
    ]
}
