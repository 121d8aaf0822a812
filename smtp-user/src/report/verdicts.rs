//! Verdicts, as lists and one by one.

use serde::Serialize;

use super::SCHEMA;
use super::cases::Class;
use super::document::{Document, Table, number, text};
use super::time;
use crate::model::period::rfc3339;
use crate::model::prefix::show;
use crate::model::verdict::{Rule, SizeClass, Verdict, VerdictEvent};

/// A verdict in JSON.
#[derive(Serialize)]
pub struct JsonVerdict<'a> {
    id: u64,
    subject: String,
    detector: &'a str,
    severity: &'static str,
    state: &'static str,
    open: bool,
    class: Class,
    size: Option<&'static str>,
    failing: bool,
    opened_at: String,
    last_at: String,
    changed_at: String,
    reopened: u32,
    rule: &'a Rule,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<JsonEvent<'a>>>,
}

/// A change in its life.
#[derive(Serialize)]
struct JsonEvent<'a> {
    at: String,
    who: &'a str,
    from: Option<&'static str>,
    to: &'static str,
    why: &'a str,
}

impl<'a> JsonVerdict<'a> {
    /// Without its life.
    pub fn new(verdict: &'a Verdict) -> Self {
        Self {
            id: verdict.id,
            subject: show(&verdict.subject),
            detector: &verdict.detector,
            severity: verdict.severity.name(),
            state: verdict.state.name(),
            open: verdict.state.is_open(),
            class: Class::of(verdict),
            size: verdict.size.map(SizeClass::name),
            failing: verdict.failing,
            opened_at: rfc3339(verdict.opened_at),
            last_at: rfc3339(verdict.last_at),
            changed_at: rfc3339(verdict.changed_at),
            reopened: verdict.reopened,
            rule: &verdict.rule,
            events: None,
        }
    }

    /// With its life.
    pub fn with_events(verdict: &'a Verdict, events: &'a [VerdictEvent]) -> Self {
        let event = |event: &'a VerdictEvent| JsonEvent {
            at: rfc3339(event.at),
            who: &event.who,
            from: event.from.map(crate::model::verdict::VerdictState::name),
            to: event.to.name(),
            why: &event.why,
        };
        Self {
            events: Some(events.iter().map(event).collect()),
            ..Self::new(verdict)
        }
    }
}

/// A list in JSON.
#[derive(Serialize)]
struct JsonList<'a> {
    schema: u32,
    total: usize,
    verdicts: Vec<JsonVerdict<'a>>,
}

/// A list as JSON.
pub fn json(verdicts: &[Verdict]) -> impl Serialize + use<'_> {
    JsonList {
        schema: SCHEMA,
        total: verdicts.len(),
        verdicts: verdicts.iter().map(JsonVerdict::new).collect(),
    }
}

/// Verdicts, one to a row.
pub fn table<'a>(title: &str, verdicts: impl IntoIterator<Item = &'a Verdict>) -> Table {
    Table {
        name: "verdicts",
        title: title.to_owned(),
        notes: Vec::new(),
        columns: vec![
            number("id"),
            text("host"),
            text("severity"),
            text("state"),
            text("detector"),
            text("opened"),
            text("last"),
            text("rule"),
        ],
        rows: verdicts
            .into_iter()
            .map(|verdict| {
                vec![
                    verdict.id.to_string(),
                    show(&verdict.subject),
                    verdict.severity.name().to_owned(),
                    verdict.state.name().to_owned(),
                    verdict.detector.clone(),
                    time::minutes(verdict.opened_at),
                    time::minutes(verdict.last_at),
                    verdict.rule.text.clone(),
                ]
            })
            .collect(),
    }
}

/// What has happened to verdicts.
pub fn events_table<'a>(events: impl IntoIterator<Item = &'a VerdictEvent>) -> Table {
    Table {
        name: "events",
        title: "what has happened to them".to_owned(),
        notes: Vec::new(),
        columns: vec![
            text("at"),
            number("verdict"),
            text("state"),
            text("who"),
            text("why"),
        ],
        rows: events
            .into_iter()
            .map(|event| {
                vec![
                    time::seconds(event.at),
                    event.verdict.to_string(),
                    event.to.name().to_owned(),
                    event.who.clone(),
                    event.why.clone(),
                ]
            })
            .collect(),
    }
}

/// A list as a document.
pub fn document(verdicts: &[Verdict]) -> Document {
    Document {
        title: format!("{} verdicts", verdicts.len()),
        notes: Vec::new(),
        tables: vec![table("the latest first, times in UTC", verdicts)],
    }
}
