//! `/`: whether it counts, who is worst, whether that is new, and what was done.
#![forbid(unsafe_code)]

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::App;
use super::super::problem::Problem;
use super::super::query::Span;
use super::super::sources::{self, Query, Sources};
use super::{Layout, Screen, filters, show};

/// Rows of the table.
const ROWS: usize = 20;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    layout: Layout,
    top: Arc<Sources>,
}

pub(super) async fn page(State(app): State<App>) -> Response {
    show(&app, make(&app).await)
}

async fn make(app: &App) -> Result<Overview, Problem> {
    let top = sources::view(app, &Query::top(Span::All, ROWS)).await?;
    Ok(Overview {
        layout: Layout::new(&app.snapshot(), Screen::Overview),
        top,
    })
}
