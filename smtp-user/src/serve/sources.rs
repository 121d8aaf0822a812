//! `/api/v1/sources`: who sends, sorted, filtered and in pages.
//!
//! Contract: the order is total (ties are broken by address), so pages of one snapshot neither
//! repeat nor miss a source. The cost is one pass over all sources and a sort of no more than what
//! is skipped and shown, not of a million rows for the first hundred. What is not understood in a
//! query is refused, never ignored.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::net::IpAddr;

use axum::Json;
use axum::extract::{Query as QueryPairs, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use smtp_common::flow::Totals;

use super::App;
use super::api::{Counts, SCHEMA};
use super::document::{answer, flatten};
use super::problem::Problem;
use super::session::Conduct;
use crate::connections::Connections;
use crate::model::{Scope, Snapshot, SourceRow};

/// Rows if nothing is said.
const DEFAULT_LIMIT: usize = 100;
/// Most rows in one answer.
const MAX_LIMIT: usize = 10_000;

answer! {
    /// A source.
    pub(super) struct Source {
        /// Its address.
        addr: IpAddr,
        /// local, remote, or unknown where no prefixes are configured.
        scope: Scope,
        /// Counts since the start.
        total: Counts [Counts],
        /// Counts of the last window.
        window: Counts [Counts],
        /// What its connections came to.
        #[serde(flatten)]
        conduct: Conduct [Conduct],
    }
}

impl Source {
    fn new(row: &SourceRow, connections: &Connections) -> Self {
        let SourceRow {
            address,
            scope,
            total,
            window,
        } = row;
        let client = connections.client((*address).into());
        Self {
            addr: *address,
            scope: *scope,
            total: total.into(),
            window: window.into(),
            conduct: Conduct::new(&client.sessions, client.servers),
        }
    }
}

answer! {
    /// `/api/v1/sources`.
    pub(super) struct Sources {
        /// Version of the form of this answer.
        schema: u32,
        /// Sources that pass the filter.
        total: usize,
        /// Sources skipped before the first one shown.
        offset: usize,
        /// Most sources shown.
        limit: usize,
        /// The sources.
        sources: Vec<Source> [Source],
    }
}

/// Path and meaning of every field of `/api/v1/sources`.
pub fn sources_fields() -> Vec<(String, String)> {
    flatten(Sources::FIELDS)
}

/// A count that can be sorted and filtered by.
type Count = (&'static str, fn(&Totals) -> u64);

/// All of them, named as in the answer.
const COUNTS: [Count; 8] = [
    ("connections", |totals| totals.connections),
    ("syn_retx", |totals| totals.syn_retx),
    ("c2s_packets", |totals| totals.c2s_packets),
    ("c2s_bytes", |totals| totals.c2s_bytes),
    ("s2c_packets", |totals| totals.s2c_packets),
    ("s2c_bytes", |totals| totals.s2c_bytes),
    ("answered", |totals| totals.answered),
    ("refused", |totals| totals.refused),
];

/// A count of a row: since the start, or with `window.` before its name of the last window.
#[derive(Clone, Copy, Debug)]
struct Figure {
    count: fn(&Totals) -> u64,
    window: bool,
}

impl Figure {
    fn parse(name: &str) -> Option<Self> {
        let (window, name) = match name.strip_prefix("window.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        let (_, count) = COUNTS.iter().find(|(known, _)| *known == name)?;
        Some(Self {
            count: *count,
            window,
        })
    }

    fn of(self, row: &SourceRow) -> u64 {
        (self.count)(if self.window { &row.window } else { &row.total })
    }

    /// The names, for messages.
    fn names() -> String {
        let names: Vec<_> = COUNTS.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug)]
enum Key {
    Address,
    Figure(Figure),
}

/// A condition that a row must fulfil.
#[derive(Clone, Copy, Debug)]
enum Term {
    Net(IpNet),
    Scope(Scope),
    Figure(Figure, Ordering, u64),
}

impl Term {
    fn parse(term: &str) -> Option<Self> {
        if let Some(net) = term.strip_prefix("net:") {
            return match net.parse::<IpNet>() {
                Ok(net) => Some(Self::Net(net)),
                Err(_) => net.parse::<IpAddr>().ok().map(|ip| Self::Net(ip.into())),
            };
        }
        if let Some(scope) = term.strip_prefix("scope:") {
            return Some(Self::Scope(match scope {
                "local" => Scope::Local,
                "remote" => Scope::Remote,
                "unknown" => Scope::Unknown,
                _ => return None,
            }));
        }
        let at = term.find(['>', '<', '='])?;
        let ordering = match &term[at..=at] {
            ">" => Ordering::Greater,
            "<" => Ordering::Less,
            _ => Ordering::Equal,
        };
        Some(Self::Figure(
            Figure::parse(&term[..at])?,
            ordering,
            term[at + 1..].parse().ok()?,
        ))
    }

    fn holds(self, row: &SourceRow) -> bool {
        match self {
            Self::Net(net) => net.contains(&row.address),
            Self::Scope(scope) => row.scope == scope,
            Self::Figure(figure, ordering, value) => figure.of(row).cmp(&value) == ordering,
        }
    }
}

/// Which sources, in which order.
#[derive(Clone, Debug)]
pub(super) struct Query {
    key: Key,
    ascending: bool,
    limit: usize,
    offset: usize,
    filter: Vec<Term>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            key: Key::Figure(Figure {
                count: |totals| totals.connections,
                window: false,
            }),
            ascending: false,
            limit: DEFAULT_LIMIT,
            offset: 0,
            filter: Vec::new(),
        }
    }
}

impl Query {
    /// The first `limit` by connections.
    pub(super) fn top(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut query = Self::default();
        for (i, (name, value)) in pairs.iter().enumerate() {
            let refuse = |allowed: &str| Problem::parameter(name, value, allowed);
            if pairs[..i].iter().any(|(other, _)| other == name) {
                return Err(refuse("each parameter once"));
            }
            match name.as_str() {
                "sort" if value == "addr" => query.key = Key::Address,
                "sort" => {
                    query.key = Key::Figure(Figure::parse(value).ok_or_else(|| {
                        refuse(&format!(
                            "addr, {}, each but addr also with window. before it",
                            Figure::names()
                        ))
                    })?);
                }
                "order" => {
                    query.ascending = match value.as_str() {
                        "asc" => true,
                        "desc" => false,
                        _ => return Err(refuse("asc, desc")),
                    };
                }
                "limit" => {
                    query.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                        .ok_or_else(|| refuse(&format!("1 to {MAX_LIMIT}")))?;
                }
                "offset" => query.offset = value.parse().map_err(|_| refuse("0 and more"))?,
                "filter" => {
                    for term in value.split_whitespace() {
                        query.filter.push(Term::parse(term).ok_or_else(|| {
                            Problem::parameter(
                                name,
                                term,
                                &format!(
                                    "terms with spaces between them, all of which must hold: \
                                     net:PREFIX, scope:local|remote|unknown, FIELD>N, FIELD<N, \
                                     FIELD=N, where FIELD is one of {}, also with window. before it",
                                    Figure::names()
                                ),
                            )
                        })?);
                    }
                }
                _ => {
                    return Err(Problem::parameter(
                        name,
                        value,
                        "the parameters sort, order, limit, offset, filter",
                    ));
                }
            }
        }
        Ok(query)
    }

    /// The order of rows. Ties are in the order of addresses, whatever the direction.
    fn compare(&self, a: &SourceRow, b: &SourceRow) -> Ordering {
        let by_key = match self.key {
            Key::Address => a.address.cmp(&b.address),
            Key::Figure(figure) => figure.of(a).cmp(&figure.of(b)),
        };
        let by_key = if self.ascending {
            by_key
        } else {
            by_key.reverse()
        };
        by_key.then_with(|| a.address.cmp(&b.address))
    }

    /// The rows asked for, and how many pass the filter.
    pub(super) fn select<'a>(&self, rows: &'a [SourceRow]) -> (Vec<&'a SourceRow>, usize) {
        let mut found: Vec<&SourceRow> = rows
            .iter()
            .filter(|row| self.filter.iter().all(|term| term.holds(row)))
            .collect();
        let total = found.len();
        let end = self.offset.saturating_add(self.limit).min(total);
        let start = self.offset.min(end);
        if end > 0 && end < total {
            // Puts the rows before `end` to the front, in no order.
            found.select_nth_unstable_by(end - 1, |a, b| self.compare(a, b));
        }
        found.truncate(end);
        found.sort_unstable_by(|a, b| self.compare(a, b));
        found.drain(..start);
        (found, total)
    }

    fn answer(&self, snapshot: &Snapshot, connections: &Connections) -> Sources {
        let (rows, total) = self.select(&snapshot.sources);
        Sources {
            schema: SCHEMA,
            total,
            offset: self.offset,
            limit: self.limit,
            sources: rows
                .into_iter()
                .map(|row| Source::new(row, connections))
                .collect(),
        }
    }
}

pub(super) async fn sources(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let pairs = QueryPairs::<Vec<(String, String)>>::try_from_uri(&uri).map_err(|_| {
        Problem::parameter(
            "query",
            uri.query().unwrap_or_default(),
            "NAME=VALUE&NAME=VALUE, percent-encoded",
        )
    })?;
    let query = Query::parse(&pairs)?;
    let connections = app.connections.clone();
    app.scan(move |snapshot| Json(query.answer(snapshot, &connections.read())).into_response())
        .await
}

#[cfg(test)]
mod tests;
