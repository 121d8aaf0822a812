//! `/complaints`: what others have complained about, and whether it was flagged before, after or never.
//!
//! Contract: made from the rows of the API. Who complains and how a complaint is called is written by strangers,
//! and shown as such.
#![forbid(unsafe_code)]

use askama::Template;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::link::link;
use super::{Layout, Screen, filters, show};
use crate::model::complaint::ComplaintKind;
use crate::report::scorecard::Flagged;
use crate::report::time::Month;
use crate::serve::App;
use crate::serve::complaints::{Query, Row, rows};
use crate::serve::problem::Problem;
use crate::serve::query::{List, Span};

/// Lists that are often asked for: name and filter.
const LISTS: [(&str, &str); 5] = [
    ("All", ""),
    ("Flagged before", "withdrawn:no flagged:before"),
    ("After", "withdrawn:no flagged:after"),
    ("Never", "withdrawn:no flagged:never"),
    ("Withdrawn", "withdrawn:yes"),
];

#[derive(Template)]
#[template(path = "complaints.html")]
struct Page {
    layout: Layout,
    lists: Vec<(&'static str, String, bool)>,
    kinds: [ComplaintKind; ComplaintKind::ALL.len()],
    filter: String,
    period: String,
    /// The month that is shown, if it is one: its scorecard is in its report.
    month: Option<String>,
    earlier_month: Option<String>,
    later_month: Option<String>,
    total: usize,
    complaints: Vec<Shown>,
    json: String,
    csv: String,
    earlier: Option<String>,
    later: Option<String>,
}

/// A complaint as it is shown.
pub(super) struct Shown {
    pub(super) row: Row,
    /// How long before or after, in seconds.
    pub(super) apart: u64,
}

impl Shown {
    /// When its host was flagged: a word.
    pub(super) const fn flagged(&self) -> &'static str {
        self.row.1.name()
    }
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        let apart = match row.1 {
            Flagged::Before(apart) | Flagged::After(apart) => apart / 1000,
            Flagged::Never => 0,
        };
        Self { row, apart }
    }
}

/// `GET /complaints`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    show(&app, make(&app, &uri).await)
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let query = Query::parse(uri)?;
    let (rows, total) = rows(app, &query).await?;
    let filter = query.list.filter.to_string();
    let period = query.period();
    let List { limit, offset, .. } = query.list;
    let to = |path: &str, filter: &str, period: &str| {
        link(path, &[("period", period), ("filter", filter)])
    };
    let at = |offset: usize| {
        let offset = offset.to_string();
        let here = [
            ("period", &*period),
            ("filter", &*filter),
            ("offset", &*offset),
        ];
        link("/complaints", &here)
    };
    let month = match query.span {
        Some(Span::Month(month)) => Some(month),
        _ => None,
    };
    let of_month = |month: Month| to("/complaints", &filter, &month.to_string());
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Complaints),
        lists: LISTS
            .iter()
            .map(|(name, of)| (*name, to("/complaints", of, &period), *of == filter))
            .collect(),
        kinds: ComplaintKind::ALL,
        month: month.map(|month| month.to_string()),
        earlier_month: month.map(|month| of_month(month.plus(-1))),
        later_month: month.map(|month| of_month(month.plus(1))),
        json: to("/api/v1/complaints", &filter, &period),
        csv: link(
            "/api/v1/complaints",
            &[
                ("period", &*period),
                ("filter", &*filter),
                ("format", "csv"),
            ],
        ),
        earlier: (offset > 0).then(|| at(offset.saturating_sub(limit))),
        later: (offset + limit < total).then(|| at(offset + limit)),
        total,
        complaints: rows.into_iter().map(Shown::from).collect(),
        filter,
        period,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture;
    use super::super::tests::{HOSTILE, assert_escaped, assert_proper};
    use super::*;
    use crate::model::complaint::StoredComplaint;
    use crate::model::complaint::tests::{NOW, complaint};
    use crate::model::relay::Ended;

    fn page(complaints: Vec<Shown>) -> String {
        let snapshot = fixture::snapshot(&fixture::rows());
        Page {
            layout: Layout::new(&snapshot, Screen::Complaints),
            lists: Vec::new(),
            kinds: ComplaintKind::ALL,
            filter: String::new(),
            period: "all".to_owned(),
            month: None,
            earlier_month: None,
            later_month: None,
            total: complaints.len(),
            complaints,
            json: "/api/v1/complaints".to_owned(),
            csv: "/api/v1/complaints?format=csv".to_owned(),
            earlier: None,
            later: None,
        }
        .render()
        .expect("a page")
    }

    #[test]
    fn what_strangers_and_people_write_is_text() {
        let empty = page(Vec::new());
        assert_proper(&empty);
        assert!(empty.contains("There is none."), "{empty}");
        for text in HOSTILE {
            let mut told = complaint("192.0.2.66", NOW);
            text.clone_into(&mut told.reporter);
            text.clone_into(&mut told.reference);
            let stored = |id, withdrawn| StoredComplaint {
                id,
                complaint: told.clone(),
                added_at: NOW,
                added_by: text.to_owned(),
                withdrawn,
            };
            let ended = Ended {
                at: NOW,
                by: text.to_owned(),
                why: text.to_owned(),
            };
            let page = page(vec![
                Shown::from((stored(1, None), Flagged::Before(7_200_000))),
                Shown::from((stored(2, Some(ended)), Flagged::Never)),
            ]);
            assert_escaped(&page, text);
            for part in [
                "href=\"/host/192.0.2.66\"",
                "2 h 0 min before",
                "never",
                "data-withdraw=\"1\"",
            ] {
                assert!(page.contains(part), "no {part} in:\n{page}");
            }
            assert!(!page.contains("data-withdraw=\"2\""), "{page}");
        }
    }
}
