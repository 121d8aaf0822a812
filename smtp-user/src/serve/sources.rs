//! `/api/v1/sources`: who sends, sorted, filtered and in pages.
//!
//! Contract: the order is total (ties are broken by address), so pages of one snapshot neither
//! repeat nor miss a source. The cost is one pass over all sources and a sort of no more than twice
//! what is skipped and shown, not of a million rows for the first hundred. What is not understood in a
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
use crate::model::{Scope, SourceRow};
use crate::source_list::{Listed, SourceList};

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
        /// Counts of all windows, since counting_since of the status.
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

/// A count of a row: of all windows, or with `window.` before its name of the last window.
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

    fn of(self, source: Listed<'_>) -> u64 {
        if self.window {
            (self.count)(&source.window())
        } else {
            (self.count)(source.total())
        }
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

    fn holds(self, source: Listed<'_>) -> bool {
        match self {
            Self::Net(net) => net.contains(&IpAddr::from(source.address())),
            Self::Scope(scope) => source.scope() == scope,
            Self::Figure(figure, ordering, value) => figure.of(source).cmp(&value) == ordering,
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

    /// What a source is sorted by, the first ones lowest. Ties are in the order of addresses,
    /// whatever the direction.
    fn rank(&self, source: Listed<'_>) -> u64 {
        match self.key {
            Key::Address => 0,
            Key::Figure(figure) if self.ascending => figure.of(source),
            Key::Figure(figure) => !figure.of(source),
        }
    }

    /// The order of sources, each given as its rank and its number.
    fn compare(&self, list: &SourceList, a: Ranked, b: Ranked) -> Ordering {
        let address = |(_, number)| {
            list.get(number)
                .map(|source| IpAddr::from(source.address()))
        };
        a.0.cmp(&b.0).then_with(|| {
            let by_address = address(a).cmp(&address(b));
            if matches!(self.key, Key::Address) && !self.ascending {
                by_address.reverse()
            } else {
                by_address
            }
        })
    }

    /// The rows asked for, and how many pass the filter.
    pub(super) fn select(&self, list: &SourceList) -> (Vec<SourceRow>, usize) {
        let end = self.offset.saturating_add(self.limit);
        // The first `end` of those seen are among these; whenever there are twice as many, the others
        // go, and whoever comes behind the last of them need not come in.
        let most = end.saturating_mul(2).max(1024);
        let mut found: Vec<Ranked> = Vec::new();
        let mut last = None;
        let mut total = 0;
        for source in list.iter() {
            if !self.filter.iter().all(|term| term.holds(source)) {
                continue;
            }
            total += 1;
            let ranked = (self.rank(source), source.number());
            if last.is_some_and(|last| self.compare(list, last, ranked).is_lt()) {
                continue;
            }
            found.push(ranked);
            if found.len() >= most {
                found.select_nth_unstable_by(end - 1, |a, b| self.compare(list, *a, *b));
                found.truncate(end);
                last = found.last().copied();
            }
        }
        let compare = |a: &Ranked, b: &Ranked| self.compare(list, *a, *b);
        if found.len() > end {
            found.select_nth_unstable_by(end - 1, compare);
            found.truncate(end);
        }
        let start = self.offset.min(found.len());
        if (1..found.len()).contains(&start) {
            found.select_nth_unstable_by(start, compare);
        }
        let shown = &mut found[start..];
        shown.sort_unstable_by(compare);
        let rows = shown
            .iter()
            .filter_map(|(_, number)| Some(list.get(*number)?.to_row()))
            .collect();
        (rows, total)
    }

    fn answer(&self, list: &SourceList, connections: &Connections) -> Sources {
        let (rows, total) = self.select(list);
        Sources {
            schema: SCHEMA,
            total,
            offset: self.offset,
            limit: self.limit,
            sources: rows
                .iter()
                .map(|row| Source::new(row, connections))
                .collect(),
        }
    }
}

/// The rank of a source, and its number in the list.
type Ranked = (u64, u32);

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
    let answer = app
        .scan(move |_, list| query.answer(list, &connections.read()))
        .await?;
    Ok(Json(answer).into_response())
}

#[cfg(test)]
mod tests;
