//! `/api/v1/complaints`: complaints about own hosts, beside what verdicts say of them, and how people
//! note and withdraw one.
//!
//! Contract: from the store, one by one, so that a list of a million takes no more memory than the rows
//! that are shown. What is noted by hand is checked as an import is: it is about an own host (422), and
//! is there once (409). A complaint is never deleted: it is withdrawn, by whom, when and why, once (409).
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::json;

use super::document::{Schema as _, Schemas, answer, described, flatten};
use super::openapi::{self, Operation, line, person};
use super::problem::Problem;
use super::query::{Chooser, Field, List, Params, Span, Table, Value};
use super::{App, change};
use crate::archive::Archive;
use crate::failure::Failure;
use crate::model::complaint::{
    Complaint, ComplaintFilter, ComplaintForm, MAX_REFERENCE, MAX_REPORTER, StoredComplaint,
};
use crate::model::period::milliseconds;
use crate::model::person::{MAX_WHY, check_line};
use crate::report::SCHEMA;
use crate::report::complaints::{JsonChanged, JsonComplaint, check_new, flags, flags_since};
use crate::report::scorecard::Flagged;
use crate::report::time::parse_time;
use crate::store::{Reader, Withdrawal, add_complaint, withdraw_complaint};

answer! {
    /// `/api/v1/complaints`.
    pub(super) struct Complaints {
        /// Version of the form of this answer.
        schema: u32,
        /// Complaints that pass the filter.
        total: usize,
        /// Complaints skipped before the first one shown.
        offset: usize,
        /// Most complaints shown.
        limit: usize,
        /// The complaints; if nothing is said, the one that was made last comes first.
        complaints: Vec<JsonComplaint> [JsonComplaint],
    }
}

/// The list of complaints.
pub(super) struct Rows;

/// A complaint, and when its host was flagged.
pub(super) type Row = (StoredComplaint, Flagged);

/// The words of `kind:`, those of [`ComplaintKind::ALL`].
const KINDS: &[&str] = &["spam", "syn_flood", "infringement", "other"];
/// The words of `form:`, those of [`ComplaintForm::ALL`].
const FORMS: &[&str] = &["arf", "xarf", "csv", "hand"];
const FLAGGED: &[&str] = &["before", "after", "never"];

/// The number of a word.
fn number_of(words: &[&str], word: &str) -> Option<u64> {
    let place = words.iter().position(|other| *other == word)?;
    Some(place as u64)
}

impl Table for Rows {
    type Row<'a> = &'a Row;
    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "at",
            value: Value::Time(|(stored, _)| Some(stored.complaint.at)),
        },
        Field {
            name: "added_at",
            value: Value::Time(|(stored, _)| Some(stored.added_at)),
        },
        Field {
            name: "id",
            value: Value::Count(|(stored, _)| stored.id),
        },
        Field {
            name: "incidents",
            value: Value::Count(|(stored, _)| stored.complaint.incidents.into()),
        },
        Field {
            name: "addr",
            value: Value::Address(|(stored, _)| stored.complaint.address),
        },
        Field {
            name: "net",
            value: Value::Net(|(stored, _)| IpNet::from(stored.complaint.address)),
        },
        Field {
            name: "kind",
            value: Value::Word {
                words: KINDS,
                holds: |(stored, _), word| KINDS[word] == stored.complaint.kind.name(),
                rank: Some(|(stored, _)| number_of(KINDS, stored.complaint.kind.name())),
            },
        },
        Field {
            name: "form",
            value: Value::Word {
                words: FORMS,
                holds: |(stored, _), word| FORMS[word] == stored.complaint.form.name(),
                rank: Some(|(stored, _)| number_of(FORMS, stored.complaint.form.name())),
            },
        },
        Field {
            name: "flagged",
            value: Value::Word {
                words: FLAGGED,
                holds: |(_, flagged), word| FLAGGED[word] == flagged.name(),
                rank: Some(|(_, flagged)| number_of(FLAGGED, flagged.name())),
            },
        },
        Field {
            name: "withdrawn",
            value: Value::Word {
                words: &["yes", "no"],
                holds: |(stored, _), word| stored.withdrawn.is_some() == (word == 0),
                rank: Some(|(stored, _)| Some(stored.withdrawn.is_some().into())),
            },
        },
    ];
}

/// The period that is everything.
const ALL: &str = "all";

/// Which complaints, in which order.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// When they were made; `None`: at any time.
    pub(super) span: Option<Span>,
    /// The list.
    pub(super) list: List<Rows>,
}

impl Query {
    /// Reads the query of a target.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let allowed = format!("{ALL}, {}", Span::KEPT_ALLOWED);
        let span = params.take("period", &allowed, |text| match text {
            ALL => Some(None),
            text => Span::parse_kept(text).map(Some),
        })?;
        let list = List::parse(&mut params, "at")?;
        params.finish()?;
        Ok(Self {
            span: span.flatten(),
            list,
        })
    }

    /// The period as it stands in a query.
    pub(super) fn period(&self) -> String {
        self.span
            .map_or_else(|| ALL.to_owned(), |span| span.to_string())
    }

    /// The rows that are asked for, with how many pass the filter.
    fn read(&self, archive: &Archive) -> Result<(Vec<Row>, usize), Failure> {
        // Complaints do not wait for a window to end.
        let now = milliseconds(SystemTime::now());
        let period = self.span.and_then(|span| span.period(now));
        let filter = ComplaintFilter {
            period,
            withdrawn: true,
            ..ComplaintFilter::default()
        };
        archive.read(|reader| {
            let flags = flags_since(reader, period.map_or(0, |period| period.from))?;
            let row = |stored: StoredComplaint| {
                let flagged = flags.of_complaint(&stored.complaint);
                (stored, flagged)
            };
            let mut chooser = Chooser::new(&self.list);
            reader.each_complaint(&filter, |stored| {
                let id = stored.id;
                // Of equal rows, the one that was noted last comes first.
                chooser.add(&&row(stored), std::cmp::Reverse(id));
            })?;
            let (chosen, total) = chooser.finish();
            let mut rows = Vec::with_capacity(chosen.len());
            for std::cmp::Reverse(id) in chosen {
                rows.extend(reader.complaint(id)?.map(row));
            }
            Ok((rows, total))
        })
    }
}

/// The complaints that are asked for, and how many pass the filter.
pub(super) async fn rows(app: &App, query: &Query) -> Result<(Vec<Row>, usize), Problem> {
    let query = query.clone();
    app.look_up(move |archive| query.read(archive)).await
}

/// The latest complaints about a host that nobody has withdrawn, at most so many, and how many there are.
pub(super) fn about(
    reader: &Reader,
    address: IpAddr,
    most: usize,
) -> Result<(Vec<Row>, usize), Failure> {
    let mut list = reader.complaints(&ComplaintFilter {
        address: Some(address),
        ..ComplaintFilter::default()
    })?;
    let total = list.len();
    list.truncate(most);
    let flags = flags(reader, &list)?;
    let row = |stored: StoredComplaint| {
        let flagged = flags.of_complaint(&stored.complaint);
        (stored, flagged)
    };
    Ok((list.into_iter().map(row).collect(), total))
}

pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(&uri)?;
    let (rows, total) = rows(&app, &query).await?;
    let List { offset, limit, .. } = query.list;
    let answer = Complaints {
        schema: SCHEMA,
        total,
        offset,
        limit,
        complaints: rows
            .iter()
            .map(|(stored, flagged)| JsonComplaint::flagged(stored, *flagged))
            .collect(),
    };
    query
        .list
        .respond(&answer, JsonComplaint::FIELDS, &answer.complaints)
}

/// The body of a complaint that is to be noted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    /// The host.
    addr: IpAddr,
    /// What for.
    kind: String,
    /// Who complains.
    reporter: String,
    /// Who notes it.
    who: String,
    /// When it was made.
    #[serde(default)]
    time: Option<String>,
    /// When that happened which it is about.
    #[serde(default)]
    happened: Option<String>,
    /// By what the reporter knows it.
    #[serde(default)]
    reference: Option<String>,
    /// How many incidents it stands for.
    #[serde(default, deserialize_with = "change::whole")]
    incidents: Option<u32>,
}

impl New {
    fn complaint(self, now: u64) -> Result<(Complaint, String), String> {
        let Self {
            addr,
            kind,
            reporter,
            who,
            time,
            happened,
            reference,
            incidents,
        } = self;
        // An import cuts what strangers have written; whoever writes it down here is told.
        check_line("who complains (reporter)", &reporter, MAX_REPORTER)?;
        let reference = reference.unwrap_or_default();
        if !reference.is_empty() {
            check_line("the reference", &reference, MAX_REFERENCE)?;
        }
        let at = |name: &str, text: Option<String>| {
            let parsed = text.as_deref().map(parse_time).transpose();
            parsed.map_err(|error| format!("{name}: {error}"))
        };
        let complaint = Complaint {
            address: addr,
            at: at("time", time)?.unwrap_or(now),
            happened_at: at("happened", happened)?,
            kind: kind.parse()?,
            form: ComplaintForm::Hand,
            reporter,
            reference,
            incidents: incidents.unwrap_or(1),
        };
        Ok((complaint.checked(now)?, who))
    }
}

pub(super) async fn add(
    State(app): State<App>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let new: New = change::read(&body)?;
    let now = milliseconds(SystemTime::now());
    let (complaint, who) = new.complaint(now).map_err(change::invalid)?;
    let archive = app.archive()?;
    let stored = app
        .change(move |path| {
            check_new(complaint.address, archive.policy().local())?;
            let stored = add_complaint(path, &complaint, &who, now)?;
            tracing::info!(
                id = stored.id,
                addr = %complaint.address,
                kind = complaint.kind.name(),
                who,
                "a complaint was noted over HTTP"
            );
            Ok(stored)
        })
        .await?;
    let changed = changed(&app, stored).await?;
    Ok((StatusCode::CREATED, Json(changed)).into_response())
}

/// The body of a withdrawal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Withdraw {
    /// Who withdraws it.
    who: String,
    /// Why.
    why: String,
}

pub(super) async fn withdraw(
    State(app): State<App>,
    Path(id): Path<String>,
    uri: Uri,
    body: Bytes,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let id: u64 = id
        .parse()
        .map_err(|_| Problem::parameter("id", &id, "the number of a complaint"))?;
    let Withdraw { who, why } = change::read(&body)?;
    let stored = app
        .change(move |path| {
            let withdrawal = Withdrawal {
                id,
                who: &who,
                why: &why,
                at: milliseconds(SystemTime::now()),
            };
            let stored = withdraw_complaint(path, &withdrawal)?;
            tracing::info!(id, who, "a complaint was withdrawn over HTTP: {why}");
            Ok(stored)
        })
        .await?;
    Ok(Json(changed(&app, stored).await?).into_response())
}

/// A complaint as it is now.
async fn changed(app: &App, stored: StoredComplaint) -> Result<JsonChanged, Problem> {
    app.look_up(move |archive| {
        archive.read(|reader| {
            let flags = flags(reader, std::slice::from_ref(&stored))?;
            Ok(JsonChanged::new(&stored, &flags))
        })
    })
    .await
}

/// The schema of [`New`].
fn body_of_new(all: &mut Schemas) -> serde_json::Value {
    let time = |about: &str| json!({"type": ["string", "null"], "description": about});
    let kind = json!({
        "type": "string", "enum": KINDS, "description": "What the host is reported for.",
    });
    let incidents = json!({
        "type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX,
        "description": "How many incidents it stands for; without it, one.",
    });
    let reference = json!({
        "type": ["string", "null"], "maxLength": MAX_REFERENCE,
        "description": "By what the reporter knows it, such as the number of a ticket; without it, its time.",
    });
    let addr = described(
        IpAddr::schema(all),
        &["The host, inside the own prefixes where these are known."],
    );
    let properties = [
        ("addr", addr),
        ("kind", kind),
        (
            "reporter",
            line(
                "Who complains, such as the domain of a network.",
                MAX_REPORTER,
            ),
        ),
        ("who", person("Who notes it.")),
        (
            "time",
            time("When it was made, UTC, such as 2026-11-24T14:00; without it, now."),
        ),
        (
            "happened",
            time("When that happened which it is about, likewise."),
        ),
        ("reference", reference),
        ("incidents", incidents),
    ];
    openapi::body(&properties, 4)
}

/// The schema of [`Withdraw`].
fn body_of_withdrawal(_: &mut Schemas) -> serde_json::Value {
    let who = person("Who withdraws it.");
    let why = line("Why.", MAX_WHY);
    openapi::body(&[("who", who), ("why", why)], 2)
}

/// What can be asked and changed here.
pub(super) fn operations() -> Vec<Operation> {
    let pattern = Span::pattern(false).replacen("^(", &format!("^({ALL}|"), 1);
    let number = json!({"type": "integer", "minimum": 0, "maximum": u64::MAX, "format": "uint64"});
    vec![
        Operation::get("/api/v1/complaints", "complaints", "Complaints about hosts")
            .query(
                "period",
                format!("When they were made: {ALL}, {}.", Span::KEPT_ALLOWED),
                json!({"type": "string", "pattern": pattern}),
                ALL,
            )
            .list::<Rows>("at")
            .json::<Complaints>()
            .text("text/csv")
            .problems(&[404]),
        Operation::post(
            "/api/v1/complaints",
            "add_complaint",
            "Notes a complaint about a host",
            body_of_new,
        )
        .answered::<JsonChanged>(201, "It was noted."),
        Operation::post(
            "/api/v1/complaints/{id}/withdraw",
            "withdraw_complaint",
            "Withdraws a complaint",
            body_of_withdrawal,
        )
        .path("id", "The number of a complaint.", number)
        .json::<JsonChanged>(),
    ]
}

/// Path and meaning of every field of the answer to a change of one.
pub fn complaint_change_fields() -> Vec<(String, String)> {
    flatten(JsonChanged::FIELDS)
}

/// Path and meaning of every field of `/api/v1/complaints`.
pub fn complaints_fields() -> Vec<(String, String)> {
    flatten(Complaints::FIELDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::complaint::ComplaintKind;

    #[test]
    fn words_are_those_of_the_model() {
        assert_eq!(KINDS, ComplaintKind::ALL.map(ComplaintKind::name));
        assert_eq!(FORMS, ComplaintForm::ALL.map(ComplaintForm::name));
        let flagged = [Flagged::Before(0), Flagged::After(0), Flagged::Never];
        assert_eq!(FLAGGED, flagged.map(Flagged::name));
    }
}
