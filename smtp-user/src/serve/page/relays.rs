//! `/relays`: known relays, hosts that send mail for others and are not judged for it.
//!
//! Contract: made from the answer of the API. An entry of the configuration can be ended there alone, and
//! it is said so.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use askama::Template;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use ipnet::IpNet;

use super::link::link;
use super::{Layout, Screen, filters, show};
use crate::report::relays::JsonRelay;
use crate::report::time::parse_time;
use crate::serve::App;
use crate::serve::problem::Problem;
use crate::serve::query::List;
use crate::serve::relays::{self, Query};

/// Lists that are often asked for: name and filter.
const LISTS: [(&str, &str); 3] = [("All", ""), ("Active", "active:yes"), ("Over", "active:no")];

#[derive(Template)]
#[template(path = "relays.html")]
struct Page {
    layout: Layout,
    lists: Vec<(&'static str, String, bool)>,
    total: usize,
    relays: Vec<Row>,
    json: String,
    csv: String,
    earlier: Option<String>,
    later: Option<String>,
}

struct Row {
    relay: JsonRelay,
    /// If it is about one.
    host: Option<IpAddr>,
    added_at: Option<u64>,
    ended_at: Option<u64>,
}

impl From<JsonRelay> for Row {
    fn from(relay: JsonRelay) -> Self {
        let time = |text: &Option<String>| text.as_deref().and_then(|text| parse_time(text).ok());
        let host = relay
            .prefix
            .parse()
            .ok()
            .filter(|prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len());
        Self {
            host: host.map(|prefix| prefix.addr()),
            added_at: time(&relay.added_at),
            ended_at: time(&relay.ended_at),
            relay,
        }
    }
}

/// `GET /relays`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    show(&app, make(&app, &uri).await)
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let query = Query::parse(uri)?;
    let answer = relays::view(app, &query).await?;
    let filter = query.list.filter.to_string();
    let List { limit, offset, .. } = query.list;
    let at = |offset: usize| {
        let offset = offset.to_string();
        link("/relays", &[("filter", &filter), ("offset", &offset)])
    };
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Relays),
        lists: LISTS
            .iter()
            .map(|(name, of)| (*name, link("/relays", &[("filter", of)]), *of == filter))
            .collect(),
        json: link("/api/v1/relays", &[("filter", &filter)]),
        csv: link("/api/v1/relays", &[("filter", &filter), ("format", "csv")]),
        earlier: (offset > 0).then(|| at(offset.saturating_sub(limit))),
        later: (offset + limit < answer.total).then(|| at(offset + limit)),
        total: answer.total,
        relays: answer.relays.into_iter().map(Row::from).collect(),
    })
}
