//! `/api/v1/relays`: known relays, of the configuration and of the store, and how people change those of
//! the store.
//!
//! Contract: one prefix has one entry; the configuration's wins, and can be changed there alone (409). An
//! entry is about own hosts (422). What is added or ended counts from the next window on, and stays with
//! who did it.
#![forbid(unsafe_code)]

use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::json;

use super::document::{Schemas, answer, flatten};
use super::openapi::{self, Operation, line, person};
use super::problem::Problem;
use super::query::{Chooser, Field, List, Params, Table, Value};
use super::{App, change};
use crate::model::period::milliseconds;
use crate::model::person::MAX_WHY;
use crate::model::prefix;
use crate::model::relay::{MAX_TEXT, Origin, Relay, parse_day};
use crate::report::SCHEMA;
use crate::report::relays::{JsonChanged, JsonRelay, KnownRelay, all, check_new, explain_end};
use crate::store::{NewRelay, Reader, RelayEnd, add_relay, end_relay};

answer! {
    /// `/api/v1/relays`.
    pub(super) struct Relays {
        /// Version of the form of this answer.
        schema: u32,
        /// Entries that pass the filter.
        total: usize,
        /// Entries skipped before the first one shown.
        offset: usize,
        /// Most entries shown.
        limit: usize,
        /// The entries; if nothing is said, the one that was added last comes first, and those of the configuration last.
        relays: Vec<JsonRelay> [JsonRelay],
    }
}

/// The list of known relays.
pub(super) struct Rows;

impl Table for Rows {
    type Row<'a> = &'a KnownRelay;
    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "added_at",
            value: Value::Time(|known| Some(known.stored.as_ref()?.added_at)),
        },
        Field {
            name: "ended_at",
            value: Value::Time(|known| Some(known.ended()?.at)),
        },
        Field {
            name: "prefix",
            value: Value::Net(|known| known.relay.prefix),
        },
        Field {
            name: "net",
            value: Value::Net(|known| known.relay.prefix),
        },
        Field {
            name: "connections",
            value: Value::Number(|known| Some(known.relay.connections?.into())),
        },
        Field {
            name: "origin",
            value: Value::Word {
                words: &["config", "store"],
                holds: |known, word| (known.origin() == Origin::Store) == (word == 1),
                rank: Some(|known| Some(known.origin() as u64)),
            },
        },
        Field {
            name: "active",
            value: Value::Word {
                words: &["yes", "no"],
                holds: |known, word| known.active == (word == 0),
                rank: Some(|known| Some(known.active.into())),
            },
        },
    ];
}

/// Which entries, in which order.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The list.
    pub(super) list: List<Rows>,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let list = List::parse(&mut params, "added_at")?;
        params.finish()?;
        Ok(Self { list })
    }
}

fn now() -> u64 {
    milliseconds(SystemTime::now())
}

/// The entries that are asked for.
pub(super) async fn view(app: &App, query: &Query) -> Result<Relays, Problem> {
    let list = query.list.clone();
    app.look_up(move |archive| {
        let stored = archive.read(Reader::relays)?;
        let relays = all(archive.policy().configured_relays(), stored, now());
        let mut chooser = Chooser::new(&list);
        for (i, known) in relays.iter().enumerate() {
            chooser.add(&known, i);
        }
        let (chosen, total) = chooser.finish();
        Ok(Relays {
            schema: SCHEMA,
            total,
            offset: list.offset,
            limit: list.limit,
            relays: chosen
                .into_iter()
                .map(|i| JsonRelay::from(&relays[i]))
                .collect(),
        })
    })
    .await
}

pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri)?;
    let answer = view(&app, &query).await?;
    query
        .list
        .respond(&answer, JsonRelay::FIELDS, &answer.relays)
}

/// The body of an entry that is to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// Whom it excuses.
    prefix: String,
    /// Why it is known.
    reason: String,
    /// Who answers for it.
    owner: String,
    /// The last day, in UTC, on which it excuses anybody.
    #[serde(default)]
    expires: Option<String>,
    /// More connections than this in a UTC hour are a warning, and no other rule is applied.
    #[serde(default, deserialize_with = "change::whole")]
    connections: Option<u32>,
    /// Who adds it.
    who: String,
}

pub(super) async fn add(
    State(app): State<App>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let New {
        prefix,
        reason,
        owner,
        expires,
        connections,
        who,
    } = change::read(&body)?;
    let relay = Relay {
        prefix: parsed(&prefix)?,
        reason,
        owner,
        expires: expires
            .map(|day| {
                parse_day(&day).map_err(|error| change::invalid(format!("expires: {error}")))
            })
            .transpose()?,
        connections,
    };
    let archive = app.archive()?;
    let changed = app
        .change(move |path| {
            let policy = archive.policy();
            check_new(relay.prefix, policy.configured_relays(), policy.local())?;
            let at = now();
            let new = NewRelay {
                relay: &relay,
                who: &who,
                at,
            };
            let (stored, resolved) = add_relay(path, &new)?;
            tracing::info!(prefix = %relay.prefix, who, "a known relay was added over HTTP: {}", relay.reason);
            let resolved = resolved.iter().map(|verdict| verdict.id).collect();
            Ok(JsonChanged::new(stored, resolved, at))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(changed)).into_response())
}

/// The body of an entry that is to be ended.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// Whom it excuses.
    prefix: String,
    /// Who ends it.
    who: String,
    /// Why.
    why: String,
}

pub(super) async fn expire(
    State(app): State<App>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let End { prefix, who, why } = change::read(&body)?;
    let prefix = parsed(&prefix)?;
    let archive = app.archive()?;
    let changed = app
        .change(move |path| {
            let at = now();
            let end = RelayEnd {
                prefix,
                who: &who,
                why: &why,
                at,
            };
            let stored = end_relay(path, &end).map_err(|unchanged| {
                explain_end(unchanged, prefix, archive.policy().configured_relays())
            })?;
            tracing::info!(%prefix, who, "a known relay was ended over HTTP: {why}");
            Ok(JsonChanged::new(stored, Vec::new(), at))
        })
        .await?;
    Ok(Json(changed).into_response())
}

fn parsed(text: &str) -> Result<IpNet, Problem> {
    prefix::parse(text).map_err(|error| change::invalid(format!("prefix: {error}")))
}

/// The schema of a prefix.
fn prefix_schema() -> serde_json::Value {
    json!({"type": "string", "minLength": 2, "description": "A prefix such as 192.0.2.25/32."})
}

/// The schema of [`New`].
fn body_of_new(_: &mut Schemas) -> serde_json::Value {
    let day = json!({
        "type": ["string", "null"], "format": "date",
        "description": "The last day, in UTC, on which it excuses anybody; without it, it has no end.",
    });
    let connections = json!({
        "type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX,
        "description": "More connections than this in a UTC hour are a warning, and no other rule is \
            applied; without it, it is never judged.",
    });
    let properties = [
        ("prefix", prefix_schema()),
        ("reason", line("Why it is known.", MAX_TEXT)),
        ("owner", line("Who answers for it.", MAX_TEXT)),
        ("who", person("Who adds it.")),
        ("expires", day),
        ("connections", connections),
    ];
    openapi::body(&properties, 4)
}

/// The schema of [`End`].
fn body_of_end(_: &mut Schemas) -> serde_json::Value {
    let who = person("Who ends it.");
    let why = line("Why.", MAX_WHY);
    openapi::body(
        &[("prefix", prefix_schema()), ("who", who), ("why", why)],
        3,
    )
}

/// What can be asked and changed here.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/relays", "relays", "Known relays")
            .list::<Rows>("added_at")
            .json::<Relays>()
            .text("text/csv")
            .problems(&[404]),
        Operation::post(
            "/api/v1/relays",
            "add_relay",
            "Adds a known relay",
            body_of_new,
        )
        .answered::<JsonChanged>(201, "It was added."),
        Operation::post(
            "/api/v1/relays/expire",
            "expire_relay",
            "Ends a known relay",
            body_of_end,
        )
        .json::<JsonChanged>(),
    ]
}

/// Path and meaning of every field of the answer to a change of one.
pub fn relay_change_fields() -> Vec<(String, String)> {
    flatten(JsonChanged::FIELDS)
}

/// Path and meaning of every field of `/api/v1/relays`.
pub fn relays_fields() -> Vec<(String, String)> {
    flatten(Relays::FIELDS)
}
