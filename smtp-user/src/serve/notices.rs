//! `/api/v1/notices`: notices to owners, their texts and lives, and what people decide about them.
//!
//! Contract: from the store, so what somebody has decided is seen at once; one by one, so that a list of many
//! takes no more memory than the rows that are shown. Nothing is sent from here: what is approved leaves by
//! `smtpflow notice run`. A decision: 404 for a notice that is not there, 409 where it cannot follow, 422 for what
//! no person can decide or cannot be kept, 503 where the store cannot be written now; it answers as `GET` does.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::document::{answer, flatten};
use super::openapi::{self, Operation, line, person};
use super::problem::Problem;
use super::query::{Chooser, Field, List, Params, Table, Value};
use super::{App, change};
use crate::archive::Archive;
use crate::failure::Failure;
use crate::model::notice::{DECISIONS, Notice, NoticeEvent, NoticeKind, NoticeState};
use crate::model::period::milliseconds;
use crate::model::person::MAX_WHY;
use crate::report::SCHEMA;
use crate::report::notices::{JsonNotice, JsonNoticeLife};
use crate::store::{NoticeDecision, decide_notice};

answer! {
    /// `/api/v1/notices`.
    pub(super) struct Notices {
        /// Version of the form of this answer.
        schema: u32,
        /// Notices that pass the filter.
        total: usize,
        /// Notices skipped before the first one shown.
        offset: usize,
        /// Most notices shown.
        limit: usize,
        /// The notices; if nothing is said, the one that was made last comes first.
        notices: Vec<JsonNotice> [JsonNotice],
    }
}

/// The list of notices.
pub(super) struct Rows;

/// The words of `state:`, those of [`NoticeState::ALL`] first.
const STATES: &[&str] = &[
    "waiting",
    "approved",
    "sent",
    "failed",
    "expired",
    "rejected",
    "superseded",
    "open",
];
/// The words of `kind:`, those of [`NoticeKind::ALL`].
const KINDS: &[&str] = &[
    "digest",
    "escalation",
    "first",
    "more",
    "solved",
    "withdrawn",
];

impl Table for Rows {
    type Row<'a> = &'a Notice;
    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "made_at",
            value: Value::Time(|notice| Some(notice.made_at)),
        },
        Field {
            name: "changed_at",
            value: Value::Time(|notice| Some(notice.changed_at)),
        },
        Field {
            name: "left_at",
            value: Value::Time(|notice| notice.left_at),
        },
        Field {
            name: "id",
            value: Value::Count(|notice| notice.id),
        },
        Field {
            name: "hosts",
            value: Value::Count(|notice| notice.hosts.len() as u64),
        },
        Field {
            name: "state",
            value: Value::Word {
                words: STATES,
                holds: |notice, word| match NoticeState::ALL.get(word) {
                    Some(state) => notice.state == *state,
                    None => notice.state.is_open(),
                },
                rank: Some(|notice| Some(notice.state as u64)),
            },
        },
        Field {
            name: "kind",
            value: Value::Word {
                words: KINDS,
                holds: |notice, word| NoticeKind::ALL.get(word) == Some(&notice.kind),
                rank: Some(|notice| Some(notice.kind as u64)),
            },
        },
    ];
}

/// Which notices, in which order.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The list.
    pub(super) list: List<Rows>,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let list = List::parse(&mut params, "made_at")?;
        params.finish()?;
        Ok(Self { list })
    }

    /// The rows that are asked for, without texts and messages, and how many pass the filter.
    fn read(&self, archive: &Archive) -> Result<(Vec<Notice>, usize), Failure> {
        archive.read(|reader| {
            let mut chooser = Chooser::new(&self.list);
            reader.each_notice(&mut |notice| {
                // Of equal rows, the latest comes first.
                chooser.add(&&notice, std::cmp::Reverse(notice.id));
            })?;
            let (chosen, total) = chooser.finish();
            let mut rows = Vec::with_capacity(chosen.len());
            for std::cmp::Reverse(id) in chosen {
                rows.extend(reader.notice(id)?.map(|(notice, _)| Notice {
                    text: String::new(),
                    message: Vec::new(),
                    ..notice
                }));
            }
            Ok((rows, total))
        })
    }
}

/// The notices that are asked for, and how many pass the filter.
pub(super) async fn rows(app: &App, query: &Query) -> Result<(Vec<Notice>, usize), Problem> {
    let query = query.clone();
    app.look_up(move |archive| query.read(archive)).await
}

/// A notice and what has happened to it.
pub(super) async fn one_of(app: &App, id: u64) -> Result<(Notice, Vec<NoticeEvent>), Problem> {
    let found = app
        .look_up(move |archive| archive.read(|reader| reader.notice(id)))
        .await?;
    found.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no notice {id}; /api/v1/notices has those that there are"),
        )
    })
}

pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri)?;
    let (rows, total) = rows(&app, &query).await?;
    let List { offset, limit, .. } = query.list;
    let answer = Notices {
        schema: SCHEMA,
        total,
        offset,
        limit,
        notices: rows.iter().map(JsonNotice::from).collect(),
    };
    query
        .list
        .respond(&answer, JsonNotice::FIELDS, &answer.notices)
}

pub(super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let (notice, events) = one_of(&app, number(&id)?).await?;
    Ok(Json(JsonNoticeLife::new(&notice, &events)).into_response())
}

/// The body of a decision.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    /// The state that the notice gets.
    state: String,
    /// Who the person is.
    who: String,
    /// Why.
    why: String,
}

pub(super) async fn decide(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let id = number(&id)?;
    let Decide { state, who, why } = change::read(&body)?;
    let to: NoticeState = state.parse().map_err(change::invalid)?;
    let expires_after = u64::from(app.config().notice.expire_hours) * 3_600_000;
    app.change(move |path| {
        let decision = NoticeDecision {
            id,
            to,
            who: &who,
            why: &why,
            at: milliseconds(SystemTime::now()),
            expires_after,
        };
        let notice = decide_notice(path, &decision)?;
        tracing::info!(
            notice = id,
            state = notice.state.name(),
            who,
            "a notice was decided over HTTP: {why}"
        );
        Ok(())
    })
    .await?;
    let (notice, events) = one_of(&app, id).await?;
    Ok(Json(JsonNoticeLife::new(&notice, &events)).into_response())
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse()
        .map_err(|_| Problem::parameter("id", id, "the number of a notice"))
}

/// What can be asked and decided here.
pub(super) fn operations() -> Vec<Operation> {
    let one = |operation: Operation| {
        let number =
            json!({"type": "integer", "minimum": 0, "maximum": u64::MAX, "format": "uint64"});
        operation.path("id", "The number of a notice.", number)
    };
    vec![
        Operation::get("/api/v1/notices", "notices", "Notices to owners")
            .list::<Rows>("made_at")
            .json::<Notices>()
            .text("text/csv")
            .problems(&[404]),
        one(Operation::get(
            "/api/v1/notices/{id}",
            "notice",
            "A notice, its text and its life",
        ))
        .json::<JsonNoticeLife>()
        .problems(&[404]),
        one(Operation::post(
            "/api/v1/notices/{id}",
            "decide_notice",
            "Lets a notice leave, or never leave",
            |_| {
                let state = json!({
                    "type": "string", "enum": DECISIONS.map(NoticeState::name),
                    "description": "The state that it gets.",
                });
                let who = person("Who the person is.");
                let why = line("Why.", MAX_WHY);
                openapi::body(&[("state", state), ("who", who), ("why", why)], 3)
            },
        ))
        .json::<JsonNoticeLife>(),
    ]
}

/// Path and meaning of every field of `/api/v1/notices`.
pub fn notices_fields() -> Vec<(String, String)> {
    flatten(Notices::FIELDS)
}

/// Path and meaning of every field of `/api/v1/notices/{id}`.
pub fn notice_fields() -> Vec<(String, String)> {
    flatten(JsonNoticeLife::FIELDS)
}
