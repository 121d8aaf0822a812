//! `/readyz`: whether the agent counts on all its interfaces, drains in time and keeps what it counted.
//!
//! Contract: 200 if every condition holds, else 503; the answer names each condition and what is there.
#![forbid(unsafe_code)]

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::api::{LATE_WINDOWS, SCHEMA};
use super::document::{answer, flatten};
use super::openapi::Operation;
use crate::clock;
use crate::model::{Moment, ObservationPoint, PointState, Snapshot};

answer! {
    /// One condition of being ready.
    pub(super) struct Check {
        /// attached, drained, fresh or store.
        name: &'static str,
        /// Whether it holds.
        ok: bool,
        /// What is there.
        text: String,
    }
}

answer! {
    /// `/readyz`.
    pub(super) struct Ready {
        /// Version of the form of this answer.
        schema: u32,
        /// Whether all conditions hold.
        ready: bool,
        /// The conditions.
        checks: Vec<Check> [Check],
    }
}

impl Ready {
    fn new(snapshot: &Snapshot, now: &Moment) -> Self {
        let (attached, others): (Vec<_>, Vec<_>) = snapshot
            .points
            .iter()
            .partition(|point| point.state == PointState::Attached);
        let age = snapshot.last_drain.map(|drain| drain.at.age(now));
        let limit = snapshot.identity.window * LATE_WINDOWS;
        let checks = vec![
            Check {
                name: "attached",
                ok: !attached.is_empty() && others.is_empty(),
                text: match (named(&attached), named(&others)) {
                    (None, None) => "to no interface".to_owned(),
                    (Some(names), None) => format!("to {names}"),
                    (None, Some(missed)) => format!("not to {missed}"),
                    (Some(names), Some(missed)) => format!("to {names}; not to {missed}"),
                },
            },
            Check {
                name: "drained",
                ok: age.is_some(),
                text: format!(
                    "{} drains, {} failed",
                    snapshot.drains, snapshot.drain_failures
                ),
            },
            Check {
                name: "fresh",
                ok: age.is_some_and(|age| age <= limit),
                text: match age {
                    Some(age) => format!(
                        "the last drain is {:.1} s old, at most {:.1} s are good",
                        age.as_secs_f64(),
                        limit.as_secs_f64()
                    ),
                    None => "there was no drain yet".to_owned(),
                },
            },
            Check {
                name: "store",
                ok: snapshot
                    .store
                    .as_ref()
                    .is_none_or(|store| store.failure.is_none()),
                text: match &snapshot.store {
                    None => "there is none: counts are lost when the agent ends".to_owned(),
                    Some(store) => match &store.failure {
                        None => format!("{} is written", store.path.display()),
                        Some(failure) => format!(
                            "{} cannot be written, counts wait in memory: {failure}",
                            store.path.display()
                        ),
                    },
                },
            },
        ];
        Self {
            schema: SCHEMA,
            ready: checks.iter().all(|check| check.ok),
            checks,
        }
    }
}

/// Configured names, and states other than attached; `None` if there are none.
fn named(points: &[&ObservationPoint]) -> Option<String> {
    let named: Vec<_> = points
        .iter()
        .map(|point| match point.state {
            PointState::Attached => point.configured.clone(),
            state => format!("{} ({})", point.configured, state.name()),
        })
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// Path and meaning of every field of `/readyz`.
pub fn ready_fields() -> Vec<(String, String)> {
    flatten(Ready::FIELDS)
}

pub(super) async fn ready(State(app): State<App>) -> Response {
    let ready = Ready::new(&app.snapshot(), &clock::now());
    let status = if ready.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(ready)).into_response()
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/readyz",
            "readyz",
            "Whether the agent counts, drains and keeps",
        )
        .answered::<Ready>(200, "All conditions hold.")
        .answered::<Ready>(503, "One does not."),
    ]
}
