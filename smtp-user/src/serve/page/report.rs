//! `/report` and `/report/2026-11`: a month, for the screen and for paper.
//!
//! Contract: made from [`PeriodReport`], as the report of the command line and of the API, so all have
//! the same figures. On paper there is no navigation, no colour that carries a meaning alone, and every
//! table has its head again on every page.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};

use super::{Layout, Screen, filters, show};
use crate::admission::scope;
use crate::distribution::{Row, percent};
use crate::model::Counts;
use crate::model::period::Period;
use crate::model::prefix;
use crate::model::session::Outcome;
use crate::report::cases::{Class, Host, Lives};
use crate::report::distribution::{ItemDistribution, range};
use crate::report::document::Table;
use crate::report::gaps::Gap;
use crate::report::month::PeriodReport;
use crate::report::time::{self, Month};
use crate::serve::App;
use crate::serve::problem::Problem;
use crate::serve::reports;

/// Gaps and hosts that are listed; the CSV has all.
const LISTED: usize = 50;

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    layout: Layout,
    month: String,
    previous: Option<String>,
    next: Option<String>,
    report: Shown,
}

/// A report as it is shown.
struct Shown {
    period: Period,
    counted: Period,
    now: u64,
    to_date: bool,
    judged: bool,
    sources: u64,
    opening: u64,
    pairs: u64,
    totals: Vec<(&'static str, String)>,
    outcomes: Vec<(&'static str, u64, String)>,
    classes: Vec<ClassRow>,
    hosts: Vec<HostRow>,
    hosts_total: usize,
    repeated: Vec<HostRow>,
    lives: Lives,
    to_resolve: Option<String>,
    top: Vec<TopRow>,
    distributions: Vec<DistributionTable>,
    length: String,
    covered: String,
    missing: String,
    gaps: Vec<Gap>,
    gaps_total: usize,
    /// How what was flagged compares with what was complained about.
    scorecard: [Table; 3],
}

struct ClassRow {
    name: &'static str,
    meaning: &'static str,
    hosts: usize,
    repeated: usize,
    bar: String,
}

struct HostRow {
    subject: String,
    address: IpAddr,
    class: &'static str,
    severity: &'static str,
    detectors: String,
    verdicts: u64,
    openings: u64,
    days: u64,
}

struct TopRow {
    address: IpAddr,
    scope: &'static str,
    connections: u64,
    bar: String,
    answered: u64,
    refused: u64,
    bytes: u64,
    size: Option<String>,
    accepted: u64,
}

struct DistributionTable {
    name: &'static str,
    items: u64,
    connections: u64,
    bytes: u64,
    unsorted: u64,
    rows: Vec<DistributionRow>,
}

struct DistributionRow {
    range: String,
    items: u64,
    item_percent: String,
    cumulative: String,
    connections: u64,
    connection_percent: String,
    bytes: u64,
    byte_percent: String,
}

/// `GET /report`: the month that the newest window is in.
pub(super) async fn current(State(app): State<App>) -> Response {
    let now = app
        .look_up(|archive| archive.read(|reader| Ok(reader.now())))
        .await;
    match now {
        Ok(now) => {
            Redirect::to(&format!("/report/{}", Month::of(now.saturating_sub(1)))).into_response()
        }
        Err(problem) => show(&app, Err::<Page, _>(problem)),
    }
}

/// `GET /report/{month}`
pub(super) async fn page(State(app): State<App>, Path(month): Path<String>) -> Response {
    show(&app, make(&app, &month).await)
}

async fn make(app: &App, text: &str) -> Result<Page, Problem> {
    let month = Month::parse(text)
        .map_err(|_| Problem::parameter("month", text, "a month such as 2026-11"))?;
    let span = app
        .look_up(|archive| archive.read(|reader| Ok(reader.span())))
        .await?;
    let period = month.period();
    let span = span.filter(|span| span.to > period.from && span.from < period.to);
    let Some(span) = span else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("nothing was counted in {month}; /report has the current month"),
        ));
    };
    let report = reports::view(app, month).await?;
    let other = |there: bool, month: Month| there.then(|| month.to_string());
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Report).of(month.to_string()),
        month: month.to_string(),
        previous: other(
            span.from < period.from,
            Month::of(period.from.saturating_sub(1)),
        ),
        next: other(span.to > period.to, Month::of(period.to)),
        report: Shown::new(&report),
    })
}

impl Shown {
    fn new(report: &PeriodReport) -> Self {
        let counted = &report.counted;
        let totals = &counted.totals;
        let cases = &report.cases;
        let most = counted
            .top
            .first()
            .map_or(0, |(_, counts)| counts.totals.connections);
        let flagged = cases.hosts.len() as u64;
        let followed = totals.sessions.outcomes.sum();
        Self {
            period: report.period,
            counted: report.counted_period,
            now: report.now,
            to_date: report.now < report.period.to,
            judged: !report.local.is_empty(),
            sources: counted.sources,
            opening: counted.by_source.distribution.items,
            pairs: counted.by_pair.distribution.items,
            totals: sums(totals),
            outcomes: Outcome::ALL
                .into_iter()
                .rev()
                .map(|outcome| {
                    let count = totals.sessions.outcomes.of(outcome);
                    (outcome.name(), count, percent(count, followed))
                })
                .collect(),
            classes: Class::ALL
                .into_iter()
                .map(|class| {
                    let repeated = cases.repeated().filter(|host| host.class == class);
                    ClassRow {
                        name: class.name(),
                        meaning: meaning(class),
                        hosts: cases.count(class),
                        repeated: repeated.count(),
                        bar: percent(cases.count(class) as u64, flagged),
                    }
                })
                .collect(),
            hosts: cases.hosts.iter().take(LISTED).map(HostRow::from).collect(),
            hosts_total: cases.hosts.len(),
            repeated: cases.repeated().take(LISTED).map(HostRow::from).collect(),
            lives: cases.lives,
            to_resolve: cases.lives.mean_milliseconds_to_resolve.map(time::span),
            top: counted
                .top
                .iter()
                .map(|(address, counts)| {
                    let address: IpAddr = (*address).into();
                    TopRow {
                        address,
                        scope: scope(&report.local, address).name(),
                        connections: counts.totals.connections,
                        bar: percent(counts.totals.connections, most),
                        answered: counts.totals.answered,
                        refused: counts.totals.refused,
                        bytes: counts.totals.c2s_bytes,
                        size: counts.mean_size().map(|mean| format!("{mean:.0}")),
                        accepted: counts.sessions.accepted,
                    }
                })
                .collect(),
            distributions: vec![
                DistributionTable::new("Sources", &counted.by_source),
                DistributionTable::new("Pairs of source and server", &counted.by_pair),
            ],
            length: time::span(report.gaps.milliseconds),
            covered: report.gaps.percent(),
            missing: time::span(report.gaps.missing_milliseconds),
            gaps: report.gaps.gaps.iter().take(LISTED).copied().collect(),
            gaps_total: report.gaps.gaps.len(),
            scorecard: report.scorecard.tables().map(worded),
        }
    }
}

/// A table as people read it: names of figures are words, and a dash is one.
fn worded(mut table: Table) -> Table {
    table.title = capitalised(&table.title);
    for row in &mut table.rows {
        for cell in row.iter_mut().filter(|cell| cell.starts_with('-')) {
            "\u{2013}".clone_into(cell);
        }
        if let Some(name) = row.first_mut() {
            *name = capitalised(&name.replace('_', " "));
        }
    }
    table
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn sums(totals: &Counts) -> Vec<(&'static str, String)> {
    use super::words::{bytes, grouped};
    let sums = &totals.totals;
    let mean = totals.mean_size().map(|mean| format!("{mean:.1} B"));
    vec![
        ("Connections", grouped(sums.connections)),
        ("Retransmitted SYNs", grouped(sums.syn_retx)),
        ("Answered", grouped(sums.answered)),
        ("Refused", grouped(sums.refused)),
        ("Packets to servers", grouped(sums.c2s_packets)),
        ("Bytes to servers", bytes(sums.c2s_bytes)),
        ("Packets from servers", grouped(sums.s2c_packets)),
        ("Bytes from servers", bytes(sums.s2c_bytes)),
        (
            "Mean packet to servers",
            mean.unwrap_or_else(|| "\u{2013}".to_owned()),
        ),
        (
            "Messages that servers took",
            grouped(totals.sessions.accepted),
        ),
    ]
}

const fn meaning(class: Class) -> &'static str {
    match class {
        Class::Spam => {
            "mean packets to servers of 100 bytes and more, connections that came to something"
        }
        Class::Scan => "smaller packets, or nothing but connections that came to nothing",
        Class::Open => "signs that contradict each other, or none",
    }
}

impl From<&Host> for HostRow {
    fn from(host: &Host) -> Self {
        let Host {
            subject,
            class,
            severity,
            detectors,
            verdicts,
            openings,
            days,
            repeated: _,
        } = host;
        let detectors: Vec<_> = detectors.iter().map(String::as_str).collect();
        Self {
            subject: prefix::show(subject),
            address: subject.addr(),
            class: class.name(),
            severity: severity.name(),
            detectors: detectors.join(", "),
            verdicts: *verdicts,
            openings: *openings,
            days: *days,
        }
    }
}

impl DistributionTable {
    fn new(name: &'static str, of: &ItemDistribution) -> Self {
        let all = &of.distribution;
        let row = |row: &Row| DistributionRow {
            range: range(row).replace('-', "\u{2013}"),
            items: row.items,
            item_percent: percent(row.items, all.items),
            cumulative: percent(row.cumulative_items, all.items),
            connections: row.connections,
            connection_percent: percent(row.connections, all.connections),
            bytes: row.bytes,
            byte_percent: percent(row.bytes, all.bytes),
        };
        Self {
            name,
            items: all.items,
            connections: all.connections,
            bytes: all.bytes,
            unsorted: of.unsorted_connections,
            rows: all.rows.iter().map(row).collect(),
        }
    }
}
