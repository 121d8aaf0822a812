//! `/api/v1/sources/{addr}/why`: why a source is flagged, or why not.
//!
//! Contract: 400 for what is no address, 404 where the agent keeps no history, 503 before the first
//! window is over or where history cannot be read.
#![forbid(unsafe_code)]

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::openapi::Operation;
use super::problem::Problem;
use super::query::Params;
use crate::report::why::JsonWhy;

pub(super) async fn why(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address = super::source::address(&address)?;
    Params::of(&uri)?.finish()?;
    let why = app.look_up(move |archive| archive.why(address)).await?;
    Ok(Json(JsonWhy::from(&why)).into_response())
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/sources/{addr}/why",
            "why",
            "Why a source is flagged, or why not: every rule with its figures",
        )
        .address()
        .json::<JsonWhy>(),
    ]
}
