//! `/host/ADDR`: one host, what it did, and why it is flagged or not.
//!
//! Contract: the answer comes first, then each rule with its figures, then what they are made of. All
//! of it is read from the store in one look, so the figures fit together. A host of which nothing was
//! counted has a page as well: it says so. Gaps are gaps, never zero.
#![forbid(unsafe_code)]

mod conduct;
mod evidence;
mod heat;
mod owner;
mod rules;
mod series;

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use smtp_common::packet::Address;

use self::conduct::{Connection, Outcome, Said, Server};
use self::heat::Heat;
use self::owner::Shown;
pub(super) use self::rules::RuleRow;
use self::series::Row;
use super::life::{Act, Life};
use super::span::{self, Choice};
use super::{Layout, Screen, filters, notices, show};
use crate::admission::scope;
use crate::archive::Archive;
use crate::failure::Failure;
use crate::model::complaint::ComplaintKind;
use crate::model::period::{Period, Tier};
use crate::model::prefix;
use crate::model::relay::Relay;
use crate::model::verdict::{Verdict, VerdictState};
use crate::model::{Counts, Scope};
use crate::report::UNKEPT;
use crate::report::host::HostReport;
use crate::report::why::why;
use crate::serve::App;
use crate::serve::evidence::{Part, view};
use crate::serve::problem::Problem;
use crate::serve::query::{Params, Span};
use crate::serve::series::{Query, Series};
use crate::store::Reader;

/// Rows of the table of figures that are there unasked; the heat map has all hours in any case.
const ROWS: usize = 48;
/// Servers that are named.
const SERVERS: usize = 20;
/// Events of a verdict that are shown, the latest; the page of the verdict has all.
const EVENTS: usize = 6;
/// Latest notices that are shown.
const NOTICES: usize = 10;
/// Last connections that are shown; the API has all that are kept.
const CONNECTIONS: usize = 16;
/// Longer periods are shown by days.
const BY_HOURS: u64 = 8 * 86_400_000;
/// The periods to choose from.
const PERIODS: [(&str, &str); 3] = [("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")];

/// What the store knows of it.
struct Host {
    /// The end of the newest window, and the begin of its hour.
    now: u64,
    hour: u64,
    scope: Scope,
    /// Whom it is judged with, where that is not it alone.
    judged_with: Option<String>,
    /// The worst open verdict, or none.
    worst: Option<(&'static str, &'static str)>,
    open: Vec<u64>,
    /// The entry of a known relay that counts for it.
    relay: Option<Entry>,
    answer: String,
    judged: bool,
    rules: Vec<RuleRow>,
    period: Period,
    counted: Period,
    figures: Vec<Figure>,
    /// Whether the series is of days.
    days: bool,
    rows: Vec<Row>,
    chart: String,
    heat: Heat,
    outcomes: Vec<Outcome>,
    followed: u64,
    unfollowed: u64,
    said: Vec<Said>,
    accepted: u64,
    servers: Vec<Server>,
    /// Of all that are kept one by one.
    servers_kept: usize,
    unkept: Option<Server>,
    lives: Vec<Life>,
    /// The latest that its owner was told, or is to be.
    notices: Vec<notices::Row>,
}

/// The entry of a known relay.
struct Entry {
    prefix: String,
    reason: String,
    owner: String,
    expires: Option<String>,
    /// Its own limit, if it is judged by one.
    connections: Option<u32>,
}

impl From<&Relay> for Entry {
    fn from(relay: &Relay) -> Self {
        let Relay {
            prefix,
            reason,
            owner,
            expires,
            connections,
        } = relay;
        Self {
            prefix: prefix.to_string(),
            reason: reason.clone(),
            owner: owner.clone(),
            expires: expires.map(|day| day.to_string()),
            connections: *connections,
        }
    }
}

/// A sum of the period, beside that of the period before.
struct Figure {
    name: &'static str,
    value: String,
    before: String,
}

#[derive(Template)]
#[template(path = "host.html")]
struct Page {
    layout: Layout,
    address: IpAddr,
    known: Known,
    owner: Shown,
    evidence: evidence::Shown,
    /// Whether it is none of the own hosts, about which alone complaints are noted.
    foreign: bool,
    kinds: [ComplaintKind; ComplaintKind::ALL.len()],
    choices: Vec<Choice>,
    period_value: String,
    /// Whether the table was asked for.
    table: bool,
    connections: Vec<Connection>,
    acts: &'static [(VerdictState, Act)],
}

/// What there is to show.
enum Known {
    /// The agent keeps no history, or it cannot be read.
    Nothing(String),
    Host(Box<Host>),
}

/// `GET /host/{addr}`
pub(super) async fn page(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Response {
    show(&app, make(&app, &address, &uri).await)
}

async fn make(app: &App, address: &str, uri: &Uri) -> Result<Page, Problem> {
    let address: IpAddr = address.parse().map_err(|_| {
        Problem::parameter("addr", address, "an IPv4 or IPv6 address as text, no name")
    })?;
    let address = address.to_canonical();
    let mut params = Params::of(uri)?;
    let asked = span::take(&mut params)?;
    let table = params.take("table", "yes", |text| (text == "yes").then_some(()))?;
    let table = table.is_some();
    params.finish()?;
    let (known, owner, evidence) = tokio::join!(
        app.look_up(move |archive| Host::read(archive, address, asked, table)),
        app.owners.of(app.config(), address),
        view(app, address),
    );
    let known = match known {
        Ok(host) => Known::Host(Box::new(host)),
        Err(problem) => Known::Nothing(
            problem.body["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
    };
    let connections = app.connections.clone();
    let connections = app
        .scan(move |_, _| connections.read().recent_of(address.into()))
        .await?;
    let (choices, period_value) = span::offered(&PERIODS, asked);
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Other).of(address.to_string()),
        address,
        known,
        owner: owner.into(),
        evidence: evidence?.into(),
        foreign: scope(&app.config().networks.local, address) == Scope::Remote,
        kinds: ComplaintKind::ALL,
        choices,
        period_value,
        table,
        connections: connections
            .iter()
            .take(CONNECTIONS)
            .map(Connection::from)
            .collect(),
        acts: &super::life::ACTS,
    })
}

impl Host {
    fn read(archive: &Archive, address: IpAddr, span: Span, table: bool) -> Result<Self, Failure> {
        archive.read(|reader| {
            let why = why(reader, &archive.policy(), address)?;
            let now = reader.now();
            let hour = Tier::Hour.start_of(now.saturating_sub(1));
            let (period, before) = span::periods(span, now);
            let report = HostReport::gather(reader, address, period, archive.policy().local())?;
            let before = Before::read(reader, address, before)?;
            let own: Vec<&Verdict> = report.verdicts.iter().map(|(verdict, _)| verdict).collect();
            let client = Address::from(address);
            let policy = archive.policy();
            let settings = policy.settings();
            let month = heat::period(now);
            let limits = (settings.volume.notice, settings.volume.warning);
            let heat = Heat::new(
                &reader.series(client, Tier::Hour, month)?,
                &reader.coverage(Tier::Hour, month)?,
                now,
                (limits.0.into(), limits.1.into()),
            );
            let tier = if period.length() <= BY_HOURS {
                Tier::Hour
            } else {
                Tier::Day
            };
            let query = Query { tier, span };
            let series = Series::read(query, reader, address, settings)?;
            let mut rows = series::rows(&series);
            if !table && rows.len() > ROWS {
                rows.clear();
            }
            let open = || own.iter().filter(|verdict| verdict.state.is_open());
            let worst = open().max_by_key(|verdict| (verdict.severity, verdict.last_at));
            let alone = why.subject.prefix_len() == why.subject.max_prefix_len();
            let sessions = &report.totals.sessions;
            let all = report.totals.totals.connections;
            let most = report
                .pairs
                .first()
                .map_or(0, |(_, counts)| counts.totals.connections);
            let kept = || report.pairs.iter().filter(|(key, _)| key.server != UNKEPT);
            let unkept = report.pairs.iter().find(|(key, _)| key.server == UNKEPT);
            let notices = reader.notices_about(address, NOTICES)?;
            Ok(Self {
                notices: notices.iter().map(notices::Row::from).collect(),
                now,
                hour,
                scope: report.scope,
                judged_with: (!alone).then(|| prefix::show(&why.subject)),
                worst: worst.map(|verdict| (verdict.severity.name(), verdict.state.name())),
                open: open().map(|verdict| verdict.id).collect(),
                relay: archive.policy().relay_of(address, hour).map(Entry::from),
                judged: why.unjudged.is_none(),
                answer: why.answer,
                rules: rules::rows(&why.rules),
                period,
                counted: report.counted_period,
                figures: figures(&report, &before),
                days: tier == Tier::Day,
                rows,
                chart: series::chart(&series),
                heat,
                outcomes: conduct::outcomes(sessions, &before.counts.sessions),
                followed: sessions.outcomes.sum(),
                unfollowed: sessions.unfollowed,
                said: conduct::said(sessions),
                accepted: sessions.accepted,
                servers: kept()
                    .take(SERVERS)
                    .map(|(key, counts)| Server::new(key, true, counts, all, most))
                    .collect(),
                servers_kept: kept().count(),
                unkept: unkept.map(|(key, counts)| Server::new(key, false, counts, all, most)),
                lives: report
                    .verdicts
                    .iter()
                    .map(|(verdict, events)| Life::new(verdict, events, now).latest(EVENTS))
                    .collect(),
            })
        })
    }
}

/// What is known of the period before.
struct Before {
    /// Whether packets were counted in any of it.
    counted: bool,
    counts: Counts,
    servers: u64,
}

impl Before {
    fn read(reader: &Reader, address: IpAddr, period: Period) -> Result<Self, Failure> {
        Ok(Self {
            counted: !reader.coverage(Tier::Hour, period)?.is_empty(),
            counts: reader.source(address.into(), period)?,
            servers: reader.servers_of(address.into(), period)?.count,
        })
    }
}

fn figures(report: &HostReport, before: &Before) -> Vec<Figure> {
    use super::words::{bytes, grouped};
    let figure = |name, value: String, earlier: String| Figure {
        name,
        value,
        before: if before.counted {
            earlier
        } else {
            "not counted".to_owned()
        },
    };
    let mean = |counts: &Counts| {
        counts
            .mean_size()
            .map_or_else(|| "\u{2013}".to_owned(), |mean| format!("{mean:.0} B"))
    };
    let servers = if report.servers.exact {
        grouped(report.servers.count)
    } else {
        format!("~{}", grouped(report.servers.count))
    };
    let (now, then) = (&report.totals, &before.counts);
    vec![
        figure(
            "Connections",
            grouped(now.totals.connections),
            grouped(then.totals.connections),
        ),
        figure("Servers contacted", servers, grouped(before.servers)),
        figure(
            "Messages accepted",
            grouped(now.sessions.accepted),
            grouped(then.sessions.accepted),
        ),
        figure("Mean packet to servers", mean(now), mean(then)),
        figure(
            "Bytes to servers",
            bytes(now.totals.c2s_bytes),
            bytes(then.totals.c2s_bytes),
        ),
    ]
}
