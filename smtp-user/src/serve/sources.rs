//! `/api/v1/sources`: who sends, sorted, filtered and in pages, since counts add up or in a period.
//!
//! Contract: the order is total (ties are broken by address), so pages of one snapshot neither
//! repeat nor miss a source. A list is made in two passes: the first looks at every source and keeps no
//! more than twice what is skipped and shown; the second fills in the rows that were chosen. What is
//! The first thousand by a count are not even searched for. What is
//! `all` or `window` is answered from memory alone, the rest from history without holding up whoever
//! counts. What is not understood in a query is refused, never ignored.
#![forbid(unsafe_code)]

pub(super) mod flags;
mod kept;
mod table;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use smtp_common::packet::Address;

use self::flags::Flags;
pub(super) use self::table::Rows;
use self::table::{Background, Candidate, Columns, Origin, mean};
use super::App;
use super::api::{Counts, SCHEMA, rfc3339 as text_of};
use super::document::{Time, answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::{Chooser, Format, List, Params, Span};
use super::session::Conduct;
use crate::connections::Connections;
use crate::detect::Policy;
use crate::model::period::milliseconds;
use crate::model::verdict::{Severity, VerdictState};
use crate::model::{Scope, Snapshot};
use crate::report::verdicts::JsonPeriod;
use crate::source_list::{COUNTS, Listed, SourceList};

/// About how many bytes a row takes in memory.
const ROW: usize = 1200;
/// Rows that history is searched for one by one.
const MOST_FILLED: usize = 1000;

answer! {
    /// The entry of a known relay.
    pub(super) struct RelayEntry {
        /// Whom it excuses.
        prefix: String,
        /// Why it is known.
        reason: String,
        /// Who answers for it.
        owner: String,
    }
}

answer! {
    /// A source.
    pub(super) struct Source {
        /// Its place in the list, from 1.
        rank: usize,
        /// Its address.
        addr: IpAddr,
        /// local, remote, or unknown where no prefixes are configured.
        scope: Scope,
        /// Counts of the period.
        total: Counts [Counts],
        /// Counts of the last window.
        window: Counts [Counts],
        /// What its connections came to: since the agent started, or in the period.
        #[serde(flatten)]
        conduct: Conduct [Conduct],
        /// Mean layer-3 length of the packets that it sent to a mail port; null without any.
        bytes_per_packet: Option<f64>,
        /// Connections in the period of the same length before; null where that is not kept or was not counted, for the periods all and window, and with a limit above 1000.
        previous_connections: Option<u64>,
        /// Of the last 24 UTC hours those with connections; null as hours is.
        active_hours: Option<u64>,
        /// Connections in each of the last 24 UTC hours, the oldest first; null for an hour in which nothing was counted. Null altogether for the periods all and window, and with a limit above 1000.
        hours: Option<Vec<Option<u64>>>,
        /// When the first bucket begins that history has it in, to the day for days that are over; null for the periods all and window, and with a limit above 1000.
        first_seen: Option<Time>,
        /// When the last bucket begins that history has it in, likewise.
        last_seen: Option<Time>,
        /// The entry of a known relay that it falls under, or null.
        relay: Option<RelayEntry> [RelayEntry],
        /// The state of its worst open verdict: new, acknowledged or notified; null without one.
        state: Option<VerdictState>,
        /// The worst severity of its open verdicts: notice, warning or critical; null without one.
        severity: Option<Severity>,
        /// The numbers of its open verdicts.
        verdicts: Vec<u64>,
        /// The largest value in shares of its limit over the figures of its open verdicts; 0 without one.
        score: f64,
    }
}

answer! {
    /// `/api/v1/sources`.
    pub(super) struct Sources {
        /// Version of the form of this answer.
        schema: u32,
        /// The period that was asked for; null for all.
        period: Option<JsonPeriod> [JsonPeriod],
        /// The period that was really counted, as finely as history is kept; null before the first drain.
        counted_period: Option<JsonPeriod> [JsonPeriod],
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

/// Which sources, in which order, of which time.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The time.
    pub(super) span: Span,
    /// The list.
    pub(super) list: List<Rows>,
}

impl Query {
    /// The first `limit` by connections of a time.
    pub(super) fn top(span: Span, limit: usize) -> Self {
        Self {
            span,
            list: List::by("connections", limit),
        }
    }

    /// Reads the query of a target; where it says no period, it is this one.
    pub(super) fn parse(uri: &Uri, span: Span) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let asked = params.take("period", Span::ALLOWED, Span::parse)?;
        let list = List::parse(&mut params, "connections")?;
        params.finish()?;
        Ok(Self {
            span: asked.unwrap_or(span),
            list,
        })
    }

    /// The same for the same question.
    fn key(&self) -> String {
        format!("sources {} {}", self.span, self.list.canonical())
    }

    /// The numbers of the rows that are shown, where the list knows them without being searched.
    fn first(&self, list: &SourceList) -> Option<Vec<u32>> {
        let name = self.list.sort.name;
        let of_window = name.strip_prefix("window.");
        let count = of_window.unwrap_or(name);
        let count = COUNTS.iter().position(|known| *known == count)?;
        if self.list.ascending || !self.list.filter.is_empty() {
            return None;
        }
        let of_window = of_window.is_some() || self.span == Span::Window;
        let end = self.list.offset.checked_add(self.list.limit)?;
        let mut first = list.first(count, of_window, end)?;
        first.drain(..self.list.offset.min(first.len()));
        Some(first)
    }

    /// Whether the rows are filled from history.
    fn fills(&self) -> bool {
        self.list.limit <= MOST_FILLED
    }
}

/// Rows in the order of addresses, IPv4 before IPv6.
type Place = (bool, [u8; 16]);

fn place(address: Address) -> Place {
    (!address.is_mapped(), address.octets())
}

fn address_at((_, octets): Place) -> Address {
    Address::from_ipv6(octets)
}

/// What is filled in of a row that history knows more of.
#[derive(Default)]
struct Filled {
    previous_connections: Option<u64>,
    hours: Option<Vec<Option<u64>>>,
    first_seen: Option<Time>,
    last_seen: Option<Time>,
}

impl Source {
    fn new(rank: usize, candidate: &Candidate<'_>, conduct: Conduct, filled: Filled) -> Self {
        let (total, window) = match candidate.origin {
            Origin::All(listed, _) => (*listed.total(), listed.window()),
            Origin::Window(listed, _) => (listed.window(), listed.window()),
            Origin::Kept(counts) => {
                let list = candidate.background.sources.read();
                let listed = list.of(candidate.address);
                (
                    counts.totals,
                    listed.map(Listed::window).unwrap_or_default(),
                )
            }
        };
        let Filled {
            previous_connections,
            hours,
            first_seen,
            last_seen,
        } = filled;
        let background = candidate.background;
        let flag = candidate.flag();
        let relay = background
            .policy
            .as_ref()
            .and_then(|policy| policy.relay_of(candidate.ip(), background.now));
        Self {
            rank,
            addr: candidate.ip(),
            scope: candidate.scope,
            total: (&total).into(),
            window: (&window).into(),
            conduct,
            bytes_per_packet: mean(total.c2s_bytes, total.c2s_packets),
            previous_connections,
            active_hours: hours.as_ref().map(|hours| {
                let active = hours.iter().flatten().filter(|count| **count != 0);
                active.count() as u64
            }),
            hours,
            first_seen,
            last_seen,
            relay: relay.map(|relay| RelayEntry {
                prefix: relay.prefix.to_string(),
                reason: relay.reason.clone(),
                owner: relay.owner.clone(),
            }),
            state: flag.map(|flag| flag.state),
            severity: flag.map(|flag| flag.severity),
            verdicts: flag.map(|flag| flag.verdicts.clone()).unwrap_or_default(),
            score: flag.map_or(0.0, |flag| flag.score),
        }
    }
}

impl App {
    /// Who judges by which rules, if history is kept.
    pub(super) fn policy(&self) -> Option<Arc<Policy>> {
        Some(self.archive.as_ref()?.policy())
    }
}

/// The sources that are asked for.
pub(super) async fn view(app: &App, query: &Query) -> Result<Arc<Sources>, Problem> {
    let weight = |sources: &Sources| ROW * (1 + sources.sources.len());
    app.once(&query.key(), weight, make(app, query)).await
}

async fn make(app: &App, query: &Query) -> Result<Sources, Problem> {
    let background = Background {
        flags: Flags::new(app.snapshot().open.iter()),
        policy: app.policy(),
        now: milliseconds(std::time::SystemTime::now()),
        sources: app.sources.clone(),
        columns: Columns::default(),
    };
    let query = query.clone();
    let answer = match query.span {
        Span::All | Span::Window => {
            let connections = app.connections.clone();
            app.scan(move |snapshot, list| {
                live(&query, snapshot, list, &connections.read(), &background)
            })
            .await?
        }
        Span::Last(_) | Span::Month(_) => {
            app.look_up(move |archive| {
                archive
                    .read(|reader| kept::read(&query, reader, archive.policy().local(), background))
            })
            .await?
        }
    };
    Ok(answer)
}

/// From the list in memory.
fn live(
    query: &Query,
    snapshot: &Snapshot,
    list: &SourceList,
    connections: &Connections,
    background: &Background,
) -> Sources {
    let of_window = query.span == Span::Window;
    let (numbers, total) = match query.first(list) {
        Some(numbers) => (numbers, list.len()),
        None => {
            let mut chooser = Chooser::new(&query.list);
            for listed in list.iter() {
                let key = (place(listed.address()), listed.number());
                let candidate = Candidate::live(listed, of_window, connections, background);
                chooser.add(&candidate, key);
            }
            let (chosen, total) = chooser.finish();
            (chosen.iter().map(|(_, number)| *number).collect(), total)
        }
    };
    let rows = numbers.iter().filter_map(|number| list.get(*number));
    let sources = rows
        .zip(query.list.offset + 1..)
        .map(|(listed, rank)| {
            let client = connections.client(listed.address());
            let conduct = Conduct::new(&client.sessions, client.servers);
            Source::new(
                rank,
                &Candidate::live(listed, of_window, connections, background),
                conduct,
                Filled::default(),
            )
        })
        .collect();
    let counted = snapshot.last_drain.map(|drain| {
        let begin = match query.span {
            Span::Window => drain.at.wall.checked_sub(snapshot.identity.window),
            _ => Some(snapshot.identity.counting_since),
        };
        let from = text_of(begin.unwrap_or(drain.at.wall));
        let to = text_of(drain.at.wall);
        (from, to)
    });
    let period = |(from, to): (String, String)| JsonPeriod {
        from: Time(from),
        to: Time(to),
    };
    Sources {
        schema: SCHEMA,
        period: match query.span {
            Span::Window => counted.clone().map(period),
            _ => None,
        },
        counted_period: counted.map(period),
        total,
        offset: query.list.offset,
        limit: query.list.limit,
        sources,
    }
}

pub(super) async fn sources(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri, Span::All)?;
    if query.list.format == Format::Json {
        return app.json_once(&query.key(), view(&app, &query)).await;
    }
    let answer = view(&app, &query).await?;
    let rows = &answer.sources;
    query.list.respond(&*answer, Source::FIELDS, rows)
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/sources",
            "sources",
            "Who sends, sorted, filtered and in pages",
        )
        .period(true, "all")
        .list::<Rows>("connections")
        .json::<Sources>()
        .text("text/csv"),
    ]
}

#[cfg(test)]
mod tests;
