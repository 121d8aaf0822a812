//! `/`: whether it counts, who is worst, whether that is new, and what was done.
#![forbid(unsafe_code)]

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::App;
use super::super::problem::Problem;
use super::super::sources::Query;
use super::{Layout, Screen, filters, show};
use crate::model::SourceRow;

/// Rows of the table.
const ROWS: usize = 20;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    layout: Layout,
    rows: Vec<SourceRow>,
}

pub(super) async fn page(State(app): State<App>) -> Response {
    show(&app, make(&app).await)
}

async fn make(app: &App) -> Result<Overview, Problem> {
    app.scan(|snapshot, list| {
        let (rows, _) = Query::top(ROWS).select(list);
        Overview {
            layout: Layout::new(snapshot, Screen::Overview),
            rows,
        }
    })
    .await
}
