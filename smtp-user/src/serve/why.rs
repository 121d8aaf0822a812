//! `/api/v1/sources/{addr}/why`: why a source is flagged, or why not.
//!
//! Contract: 400 for what is no address, 404 where the agent keeps no history, 503 before the first
//! window is over or where history cannot be read. One question is answered at a time.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::problem::Problem;
use crate::failure::Failure;
use crate::model::verdict::Why;
use crate::report::why::JsonWhy;

/// Whom to ask why an address is flagged. It reads a file, so it is asked on a thread of its own.
pub type Ask = Arc<dyn Fn(IpAddr) -> Result<Why, Failure> + Send + Sync>;

pub(super) async fn why(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address: IpAddr = address.parse().map_err(|_| {
        Problem::parameter("addr", &address, "an IPv4 or IPv6 address as text, no name")
    })?;
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        return Err(Problem::parameter("query", query, "no parameters"));
    }
    let Some(ask) = app.ask.clone() else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "this agent keeps no history to answer from: it runs without a store (store.enabled)"
                .to_owned(),
        ));
    };
    let permit = app.scans.clone().acquire_owned().await;
    let answer = tokio::task::spawn_blocking(move || {
        // Held by the work itself, which goes on when the client does not wait for it.
        let _permit = permit;
        ask(address)
    })
    .await
    .map_err(|error| Problem::internal(&error))?;
    match answer {
        Ok(why) => Ok(Json(JsonWhy::from(&why)).into_response()),
        Err(failure) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            failure.to_string(),
        )),
    }
}
