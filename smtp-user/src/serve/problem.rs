//! Why there is no proper answer.
//!
//! Contract: JSON with `error`, a sentence with the way out; for a query also what was wrong in it.
#![forbid(unsafe_code)]

use axum::Json;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::openapi;
use super::query::Fault;

/// Status and text of an answer that is none.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) body: serde_json::Value,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: String) -> Self {
        Self {
            status,
            body: serde_json::json!({ "error": error }),
        }
    }

    /// A query parameter that is not understood.
    pub(super) fn parameter(name: &str, value: &str, allowed: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: serde_json::json!({
                "error": format!("{name}={value} is not understood; allowed: {allowed}"),
                "parameter": name,
                "value": value,
                "allowed": allowed,
            }),
        }
    }

    /// A filter that is not understood.
    pub(super) fn filter(fault: &Fault) -> Self {
        let Fault {
            position,
            term,
            allowed,
        } = fault;
        Self {
            status: StatusCode::BAD_REQUEST,
            body: serde_json::json!({
                "error": format!(
                    "filter: {term} is not understood from character {position} on; allowed: {allowed}"
                ),
                "parameter": "filter",
                "value": term,
                "allowed": allowed,
                "position": position,
            }),
        }
    }

    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("cannot make an answer: {error}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be made; see the agent's log".to_owned(),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    let mut paths: Vec<_> = openapi::operations()
        .iter()
        .map(|operation| operation.path)
        .collect();
    paths.dedup();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!(
            "there is no {}; there are /, {}",
            uri.path(),
            paths.join(", ")
        ),
    )
}
