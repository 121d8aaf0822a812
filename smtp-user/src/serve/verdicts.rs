//! `/api/v1/verdicts`: verdicts, their lives, and what people decide about them.
//!
//! Contract: from the store, so what somebody has decided is seen at once: the verdicts are read once for
//! each window, and again when one has got another state, whoever gave it. A list holds verdicts by their
//! own subjects: `net:` finds those about addresses and prefixes inside it. A change: 404 for a verdict that
//! is not there, 409 where the state cannot follow, 422 for texts that cannot be kept, 503 where the
//! store cannot be written now; it answers as `GET` does.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::document::{Schema as _, answer, described, flatten};
use super::openapi::{self, Operation, line, person};
use super::problem::Problem;
use super::query::{Chooser, Field, List, Params, Table, Value};
use super::{App, change};
use crate::model::period::milliseconds;
use crate::model::person::MAX_WHY;
use crate::model::verdict::{Severity, Verdict, VerdictEvent, VerdictFilter, VerdictState};
use crate::report::SCHEMA;
use crate::report::verdicts::{JsonEvent, JsonVerdict};
use crate::store::{PersonalChange, Reader, change_verdict};

answer! {
    /// `/api/v1/verdicts`.
    pub(super) struct Verdicts {
        /// Version of the form of this answer.
        schema: u32,
        /// Verdicts that pass the filter.
        total: usize,
        /// Verdicts skipped before the first one shown.
        offset: usize,
        /// Most verdicts shown.
        limit: usize,
        /// The verdicts; if nothing is said, the one that changed last comes first.
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

/// The list of verdicts.
pub(super) struct Rows;

/// The words of `state:`, those of [`VerdictState::ALL`] first.
const STATES: &[&str] = &[
    "new",
    "acknowledged",
    "notified",
    "resolved",
    "false_positive",
    "open",
];
const SEVERITIES: &[&str] = &["notice", "warning", "critical"];
/// The words of `detector:`, in the order of reports.
pub(super) const DETECTORS: &[&str] = &[
    "volume",
    "persistence",
    "burst",
    "fanout",
    "failure",
    "rejection",
    "messages",
];

fn number_of<T: Copy + PartialEq>(all: &[T], one: T) -> usize {
    all.iter()
        .position(|other| *other == one)
        .unwrap_or(all.len())
}

impl Table for Rows {
    type Row<'a> = &'a Verdict;
    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "changed_at",
            value: Value::Time(|verdict| Some(verdict.changed_at)),
        },
        Field {
            name: "opened_at",
            value: Value::Time(|verdict| Some(verdict.opened_at)),
        },
        Field {
            name: "last_at",
            value: Value::Time(|verdict| Some(verdict.last_at)),
        },
        Field {
            name: "since",
            value: Value::Since(|verdict| Some(verdict.last_at.max(verdict.changed_at))),
        },
        Field {
            name: "id",
            value: Value::Count(|verdict| verdict.id),
        },
        Field {
            name: "reopened",
            value: Value::Count(|verdict| verdict.reopened.into()),
        },
        Field {
            name: "net",
            value: Value::Net(|verdict| verdict.subject),
        },
        Field {
            name: "subject",
            value: Value::Net(|verdict| verdict.subject),
        },
        Field {
            name: "state",
            value: Value::Word {
                words: STATES,
                holds: |verdict, word| match VerdictState::ALL.get(word) {
                    Some(state) => verdict.state == *state,
                    None => verdict.state.is_open(),
                },
                rank: Some(|verdict| Some(verdict.state as u64)),
            },
        },
        Field {
            name: "severity",
            value: Value::Word {
                words: SEVERITIES,
                holds: |verdict, word| Severity::ALL.get(word) == Some(&verdict.severity),
                rank: Some(|verdict| Some(verdict.severity as u64)),
            },
        },
        Field {
            name: "detector",
            value: Value::Word {
                words: DETECTORS,
                holds: |verdict, word| DETECTORS[word] == verdict.detector,
                rank: Some(|verdict| Some(number_of(DETECTORS, &*verdict.detector) as u64)),
            },
        },
    ];
}

/// Which verdicts, in which order.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The list.
    pub(super) list: List<Rows>,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let list = List::parse(&mut params, "changed_at")?;
        params.finish()?;
        Ok(Self { list })
    }
}

/// About how many bytes a verdict takes in memory.
const ROW: usize = 600;

/// All verdicts, the latest first.
pub(super) async fn all(app: &App) -> Result<Arc<Vec<Verdict>>, Problem> {
    // Read first: a change between the two is in the list of this number as well, never missing in it.
    let last = app
        .look_up(|archive| archive.read(Reader::last_verdict_event))
        .await?;
    let weight = |verdicts: &Vec<Verdict>| ROW * (1 + verdicts.len());
    let read =
        app.look_up(|archive| archive.read(|reader| reader.verdicts(&VerdictFilter::default())));
    app.once(&format!("verdicts {last}"), weight, read).await
}

/// The verdicts that are asked for.
pub(super) async fn view(app: &App, query: &Query) -> Result<Verdicts, Problem> {
    let list = query.list.clone();
    let verdicts = all(app).await?;
    app.look_up(move |_| {
        let mut chooser = Chooser::new(&list);
        for (i, verdict) in verdicts.iter().enumerate() {
            chooser.add(&verdict, (std::cmp::Reverse(verdict.id), i));
        }
        let (chosen, total) = chooser.finish();
        Ok(Verdicts {
            schema: SCHEMA,
            total,
            offset: list.offset,
            limit: list.limit,
            verdicts: chosen
                .into_iter()
                .map(|(_, i)| JsonVerdict::from(&verdicts[i]))
                .collect(),
        })
    })
    .await
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
    let query = Query::parse(&uri)?;
    let answer = view(&app, &query).await?;
    query
        .list
        .respond(&answer, JsonVerdict::FIELDS, &answer.verdicts)
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
    let life = app
        .change(move |path| {
            let change = PersonalChange {
                id,
                to,
                who: &who,
                why: &why,
                at: milliseconds(SystemTime::now()),
            };
            let (verdict, events) = change_verdict(path, &change)?;
            tracing::info!(
                verdict = id,
                subject = %verdict.subject,
                state = to.name(),
                who,
                "a verdict was changed over HTTP: {why}"
            );
            Ok(Life::new(&verdict, &events))
        })
        .await?;
    Ok(Json(life).into_response())
}

/// Path and meaning of every field of `/api/v1/verdicts`.
pub fn verdicts_fields() -> Vec<(String, String)> {
    flatten(Verdicts::FIELDS)
}

/// Path and meaning of every field of `/api/v1/verdicts/{id}`.
pub fn verdict_fields() -> Vec<(String, String)> {
    flatten(Life::FIELDS)
}

/// What can be asked and changed here.
pub(super) fn operations() -> Vec<Operation> {
    let one = |operation: Operation| {
        let number =
            json!({"type": "integer", "minimum": 0, "maximum": u64::MAX, "format": "uint64"});
        operation.path("id", "The number of a verdict.", number)
    };
    vec![
        Operation::get("/api/v1/verdicts", "verdicts", "Verdicts")
            .list::<Rows>("changed_at")
            .json::<Verdicts>()
            .text("text/csv")
            .problems(&[404]),
        one(Operation::get(
            "/api/v1/verdicts/{id}",
            "verdict",
            "A verdict and its life",
        ))
        .json::<Life>()
        .problems(&[404]),
        one(Operation::post(
            "/api/v1/verdicts/{id}",
            "change_verdict",
            "Gives a verdict another state",
            |all| {
                let state = described(VerdictState::schema(all), &["The state that it gets."]);
                let who = person("Who the person is.");
                let why = line("Why.", MAX_WHY);
                openapi::body(&[("state", state), ("who", who), ("why", why)], 3)
            },
        ))
        .json::<Life>(),
    ]
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse()
        .map_err(|_| Problem::parameter("id", id, "the number of a verdict"))
}

fn no_query(uri: &Uri) -> Result<(), Problem> {
    Params::of(uri)?.finish()
}
