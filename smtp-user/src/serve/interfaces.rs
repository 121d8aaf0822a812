//! `/api/v1/interfaces`: where packets are seen.
#![forbid(unsafe_code)]

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::api::{Interface, SCHEMA};
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::Params;

answer! {
    /// `/api/v1/interfaces`.
    pub(super) struct Interfaces {
        /// Version of the form of this answer.
        schema: u32,
        /// The configured interfaces, in the order of the configuration.
        interfaces: Vec<Interface> [Interface],
    }
}

/// Path and meaning of every field of `/api/v1/interfaces`.
pub fn interfaces_fields() -> Vec<(String, String)> {
    flatten(Interfaces::FIELDS)
}

/// The interfaces as they are now.
pub(super) fn view(app: &App) -> Interfaces {
    Interfaces {
        schema: SCHEMA,
        interfaces: app.snapshot().points.iter().map(Interface::from).collect(),
    }
}

pub(super) async fn interfaces(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    Ok(Json(view(&app)).into_response())
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/interfaces", "interfaces", "Where packets are seen")
            .json::<Interfaces>(),
    ]
}
