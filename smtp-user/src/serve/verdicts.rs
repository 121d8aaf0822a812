//! `/api/v1/verdicts`: verdicts, their lives, and what people decide about them.
//!
//! Contract: from the store, so what somebody has decided is seen at once. A change: 404 for a verdict that
//! is not there, 409 where the state cannot follow, 422 for texts that cannot be kept, 503 where the
//! store cannot be written now; it answers as `GET` does.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::App;
use super::change;
use super::document::{answer, flatten};
use super::problem::Problem;
use crate::model::period::milliseconds;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictFilter, VerdictState};
use crate::report::SCHEMA;
use crate::report::verdicts::{JsonEvent, JsonVerdict};
use crate::store::{PersonalChange, change_verdict};

answer! {
    /// `/api/v1/verdicts`.
    pub(super) struct Verdicts {
        /// Version of the form of this answer.
        schema: u32,
        /// How many there are.
        total: usize,
        /// The verdicts, the one that changed last first.
        verdicts: Vec<JsonVerdict> [JsonVerdict],
    }
}

answer! {
    /// `/api/v1/verdicts/{id}`.
    pub(super) struct Life {
        /// Version of the form of this answer.
        schema: u32,
        /// The verdict.
        verdict: JsonVerdict [JsonVerdict],
        /// What has happened to it, the earliest first.
        events: Vec<JsonEvent> [JsonEvent],
        /// The states that it can be given now.
        may_become: Vec<&'static str>,
    }
}

impl Life {
    fn new(verdict: &Verdict, events: &[VerdictEvent]) -> Self {
        Self {
            schema: SCHEMA,
            verdict: verdict.into(),
            events: events.iter().map(JsonEvent::from).collect(),
            may_become: verdict.state.next().map(VerdictState::name).collect(),
        }
    }
}

/// All verdicts, the one that changed last first.
pub(super) async fn view(app: &App) -> Result<Verdicts, Problem> {
    let mut verdicts = app
        .look_up(|archive| archive.read(|reader| reader.verdicts(&VerdictFilter::default())))
        .await?;
    verdicts.sort_by_key(|verdict| std::cmp::Reverse((verdict.changed_at, verdict.id)));
    Ok(Verdicts {
        schema: SCHEMA,
        total: verdicts.len(),
        verdicts: verdicts.iter().map(JsonVerdict::from).collect(),
    })
}

/// The life of a verdict.
pub(super) async fn view_one(app: &App, id: u64) -> Result<Life, Problem> {
    let found = app
        .look_up(move |archive| archive.read(|reader| reader.verdict(id)))
        .await?;
    let (verdict, events) = found.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no verdict {id}; /api/v1/verdicts has those that there are"),
        )
    })?;
    Ok(Life::new(&verdict, &events))
}

pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    no_query(&uri)?;
    Ok(Json(view(&app).await?).into_response())
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    no_query(&uri)?;
    Ok(Json(view_one(&app, number(&id)?).await?).into_response())
}

/// The body of a change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// The state that the verdict gets.
    state: String,
    /// Who the person is.
    who: String,
    /// Why.
    why: String,
}

pub(super) async fn change(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    no_query(&uri)?;
    let id = number(&id)?;
    let Change { state, who, why } = change::read(&body)?;
    let to: VerdictState = state.parse().map_err(change::invalid)?;
    app.change(move |path| {
        let change = PersonalChange {
            id,
            to,
            who: &who,
            why: &why,
            at: milliseconds(SystemTime::now()),
        };
        change_verdict(path, &change).inspect(|verdict| {
            tracing::info!(
                verdict = id,
                subject = %verdict.subject,
                state = to.name(),
                who,
                "a verdict was changed over HTTP: {why}"
            );
        })
    })
    .await?;
    Ok(Json(view_one(&app, id).await?).into_response())
}

/// Path and meaning of every field of `/api/v1/verdicts`.
pub fn verdicts_fields() -> Vec<(String, String)> {
    flatten(Verdicts::FIELDS)
}

/// Path and meaning of every field of `/api/v1/verdicts/{id}`.
pub fn verdict_fields() -> Vec<(String, String)> {
    flatten(Life::FIELDS)
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse()
        .map_err(|_| Problem::parameter("id", id, "the number of a verdict"))
}

fn no_query(uri: &Uri) -> Result<(), Problem> {
    match uri.query() {
        Some(query) if !query.is_empty() => {
            Err(Problem::parameter("query", query, "no parameters"))
        }
        _ => Ok(()),
    }
}
