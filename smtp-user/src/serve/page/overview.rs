//! `/`: whether it counts, who is worst, whether that is new, and what was done.
//!
//! Contract: the worst comes first, in words. Without a store there are the figures of the last window and
//! no past; without a prefix list nobody is judged, and the page says so.
#![forbid(unsafe_code)]

mod alert;
mod figure;
mod timeline;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::App;
use super::super::problem::Problem;
use super::super::query::{Filter, Span};
use super::super::sources::{self, Query, Sources};
use super::super::trend::Trend;
use super::rows::Row;
use super::svg::{Svg, bars};
use super::{Layout, Screen, filters, show, words};
use crate::distribution::percent;
use crate::model::Snapshot;
use crate::model::period::Period;
use crate::report::distribution::ItemDistribution;

use self::alert::{News, Waiting};
use self::figure::Figure;
use self::timeline::Timeline;

/// Rows of the table.
const ROWS: usize = 20;
const HOUR: u64 = 3_600_000;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    layout: Layout,
    news: News,
    figures: Vec<Figure>,
    /// Whether there are lines to explain.
    past: bool,
    /// Why there is no past to show, or what is missing of it.
    without: Option<String>,
    /// The sources with the most connections, of the last hour or since counting began.
    top: Option<Arc<Sources>>,
    timeline: Option<Timeline>,
    distribution: Option<Distribution>,
}

/// The distribution, as a small chart.
struct Distribution {
    period: Period,
    rows: Vec<DistributionRow>,
    sources: u64,
    connections: u64,
}

struct DistributionRow {
    range: String,
    sources: u64,
    connections: u64,
    chart: Svg,
}

impl Distribution {
    fn of(counted: &ItemDistribution, period: Period) -> Self {
        let all = &counted.distribution;
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let row = |row: &crate::distribution::Row| {
            let sources = percent(row.items, all.items);
            let connections = percent(row.connections, all.connections);
            DistributionRow {
                range: match row.to {
                    Some(to) => format!("{}\u{2013}{}", row.from, words::grouped(to)),
                    None => format!("{} and more", words::grouped(row.from)),
                },
                chart: bars(
                    share(row.items, all.items),
                    share(row.connections, all.connections),
                    &format!("{sources} % of sources, {connections} % of connections"),
                ),
                sources: row.items,
                connections: row.connections,
            }
        };
        Self {
            period,
            rows: all.rows.iter().map(row).collect(),
            sources: all.items,
            connections: all.connections,
        }
    }
}

impl Overview {
    fn rows(&self) -> Vec<Row<'_>> {
        let sources = self.top.iter().flat_map(|top| &top.sources);
        sources.map(Row::of).collect()
    }
}

pub(super) async fn page(State(app): State<App>) -> Response {
    show(&app, make(&app).await)
}

async fn make(app: &App) -> Result<Overview, Problem> {
    let snapshot = app.snapshot();
    let span = if app.archive.is_some() {
        Span::Last(HOUR)
    } else {
        Span::All
    };
    let mut query = Query::top(span, ROWS);
    // Servers are sources of packets, but of no mail.
    query.list.filter = Filter::parse("connections>0").map_err(|fault| Problem::filter(&fault))?;
    // What cannot be read is told below.
    let top = sources::view(app, &query).await.ok();
    let past = if app.archive.is_none() {
        Err("This agent keeps no history (store.enabled), so there is no past to show.".to_owned())
    } else {
        let trends = app.trends.clone();
        app.look_up(move |archive| {
            let trend = trends.look(archive)?;
            let alerts = alert::alerts(archive, &trend)?;
            Ok((trend, alerts))
        })
        .await
        .map_err(|problem| {
            let error = problem.body["error"].as_str().unwrap_or_default();
            format!("History cannot be read: {error}")
        })
    };
    let layout = Layout::new(&snapshot, Screen::Overview);
    Ok(match past {
        Ok((trend, alerts)) => overview(layout, &snapshot, top, Some(&trend), alerts, None),
        Err(without) => {
            let alerts = alert::bare(&snapshot.open, layout.now());
            overview(layout, &snapshot, top, None, alerts, Some(without))
        }
    })
}

fn overview(
    layout: Layout,
    snapshot: &Snapshot,
    top: Option<Arc<Sources>>,
    trend: Option<&Trend>,
    alerts: Vec<alert::Alert>,
    without: Option<String>,
) -> Overview {
    let unread = trend.map(|trend| trend.unread).filter(|unread| *unread > 0);
    Overview {
        layout,
        news: News::of(snapshot, alerts),
        figures: figure::figures(snapshot, trend),
        past: trend.is_some(),
        without: without.or_else(|| {
            unread.map(|unread| {
                format!(
                    "{} of the last two days are still being read.",
                    words::count(unread as u64, "bin", "bins")
                )
            })
        }),
        top,
        timeline: trend.and_then(Timeline::of),
        distribution: trend
            .map(|trend| Distribution::of(&trend.distribution, trend.distribution_period))
            .filter(|distribution| distribution.sources > 0),
    }
}

#[cfg(test)]
mod tests;
