//! Verdicts, as lists and one by one.

use serde::Serialize;

use super::SCHEMA;
use super::cases::Class;
use super::document::{Document, Table, number, text};
use super::time;
use crate::answer::{Time, answer};
use crate::model::period::{Period, rfc3339};
use crate::model::prefix::show;
use crate::model::verdict::{
    Figure, Holding, Rule, SizeClass, Verdict, VerdictEvent, VerdictState,
};

answer! {
    /// A stretch of time.
    pub(crate) struct JsonPeriod {
        /// When it begins.
        from: Time,
        /// When it ends.
        to: Time,
    }
}

impl From<Period> for JsonPeriod {
    fn from(Period { from, to }: Period) -> Self {
        Self {
            from: Time(rfc3339(from)),
            to: Time(rfc3339(to)),
        }
    }
}

answer! {
    /// A figure of a rule beside its limit.
    pub(crate) struct JsonFigure {
        /// What it is.
        name: String,
        /// Its value.
        value: f64,
        /// Its limit; the value must be strictly beyond it.
        limit: f64,
        /// Whether beyond is below instead of above.
        below: bool,
        /// What both are counted in.
        unit: String,
    }
}

answer! {
    /// A rule with its figures.
    pub(crate) struct JsonRule {
        /// The detector that it is of.
        detector: String,
        /// What it says where it holds.
        text: String,
        /// How bad it is where it holds: notice, warning or critical.
        severity: &'static str,
        /// The time that it looks at.
        period: JsonPeriod [JsonPeriod],
        /// Its figures; the rule holds if all are beyond their limits.
        figures: Vec<JsonFigure> [JsonFigure],
        /// holds, below (a figure is not beyond its limit) or not_applicable.
        state: &'static str,
        /// Why it cannot be applied, or null.
        because: Option<String>,
    }
}

answer! {
    /// A verdict.
    pub(crate) struct JsonVerdict {
        /// Its number.
        id: u64,
        /// Whom it is about: an address, or the prefix that is judged as one.
        subject: String,
        /// The detector.
        detector: String,
        /// The worst that was found: notice, warning or critical.
        severity: &'static str,
        /// new, acknowledged, notified, resolved or false_positive.
        state: &'static str,
        /// Whether there is still something to do: whether it is in one of the first three states.
        open: bool,
        /// spam, scan (no mail was moved, or its connections came to nothing) or open (the signs contradict each other, or there are none).
        class: Class,
        /// small (less than 100 bytes a packet to servers in the mean), large, or null.
        size: Option<&'static str>,
        /// Whether its connections mostly came to nothing.
        failing: bool,
        /// When it was opened.
        opened_at: String,
        /// When its rule held last.
        last_at: String,
        /// When its state changed last.
        changed_at: String,
        /// How often it was opened again.
        reopened: u32,
        /// The rule as it held at its worst.
        rule: JsonRule [JsonRule],
    }
}

answer! {
    /// A verdict in short.
    pub(crate) struct JsonBrief {
        /// Its number.
        id: u64,
        /// Whom it is about: an address, or the prefix that is judged as one.
        subject: String,
        /// The detector.
        detector: String,
        /// The worst that was found: notice, warning or critical.
        severity: &'static str,
        /// new, acknowledged, notified, resolved or false_positive.
        state: &'static str,
        /// Whether it is in one of the first three states.
        open: bool,
        /// When it was opened.
        opened_at: String,
        /// When its rule held last.
        last_at: String,
        /// When its state changed last.
        changed_at: String,
        /// What the rule says.
        rule: String,
    }
}

impl From<&Verdict> for JsonBrief {
    fn from(verdict: &Verdict) -> Self {
        Self {
            id: verdict.id,
            subject: show(&verdict.subject),
            detector: verdict.detector.clone(),
            severity: verdict.severity.name(),
            state: verdict.state.name(),
            open: verdict.state.is_open(),
            opened_at: rfc3339(verdict.opened_at),
            last_at: rfc3339(verdict.last_at),
            changed_at: rfc3339(verdict.changed_at),
            rule: verdict.rule.text.clone(),
        }
    }
}

impl From<&Rule> for JsonRule {
    fn from(rule: &Rule) -> Self {
        let Rule {
            detector,
            text,
            severity,
            period,
            figures,
            holding,
        } = rule;
        let (state, because) = match holding {
            Holding::Holds => ("holds", None),
            Holding::Below => ("below", None),
            Holding::NotApplicable(because) => ("not_applicable", Some(because.clone())),
        };
        Self {
            detector: detector.clone(),
            text: text.clone(),
            severity: severity.name(),
            period: (*period).into(),
            figures: figures.iter().map(JsonFigure::from).collect(),
            state,
            because,
        }
    }
}

impl From<&Figure> for JsonFigure {
    fn from(figure: &Figure) -> Self {
        let Figure {
            name,
            value,
            limit,
            below,
            unit,
        } = figure;
        Self {
            name: name.clone(),
            value: *value,
            limit: *limit,
            below: *below,
            unit: unit.clone(),
        }
    }
}

impl From<&Verdict> for JsonVerdict {
    fn from(verdict: &Verdict) -> Self {
        let Verdict {
            id,
            subject,
            detector,
            severity,
            size,
            failing,
            state,
            opened_at,
            last_at,
            changed_at,
            reopened,
            rule,
        } = verdict;
        Self {
            id: *id,
            subject: show(subject),
            detector: detector.clone(),
            severity: severity.name(),
            state: state.name(),
            open: state.is_open(),
            class: Class::of(verdict),
            size: size.map(SizeClass::name),
            failing: *failing,
            opened_at: rfc3339(*opened_at),
            last_at: rfc3339(*last_at),
            changed_at: rfc3339(*changed_at),
            reopened: *reopened,
            rule: rule.into(),
        }
    }
}

/// A verdict with its life.
#[derive(Serialize)]
pub(crate) struct JsonLife {
    #[serde(flatten)]
    verdict: JsonVerdict,
    events: Vec<JsonEvent>,
}

answer! {
    /// A change in the life of a verdict.
    pub(crate) struct JsonEvent {
        /// When it was.
        at: String,
        /// Who made it: smtpflow, or a person.
        who: String,
        /// The state before; null when the verdict was opened.
        from: Option<&'static str>,
        /// The state after.
        to: &'static str,
        /// Why it was made.
        why: String,
    }
}

impl From<&VerdictEvent> for JsonEvent {
    fn from(event: &VerdictEvent) -> Self {
        let VerdictEvent {
            verdict: _,
            at,
            who,
            from,
            to,
            why,
        } = event;
        Self {
            at: rfc3339(*at),
            who: who.clone(),
            from: from.map(VerdictState::name),
            to: to.name(),
            why: why.clone(),
        }
    }
}

impl JsonLife {
    /// Of this verdict.
    pub(crate) fn new(verdict: &Verdict, events: &[VerdictEvent]) -> Self {
        Self {
            verdict: verdict.into(),
            events: events.iter().map(JsonEvent::from).collect(),
        }
    }
}

/// A list in JSON.
#[derive(Serialize)]
struct JsonList {
    schema: u32,
    total: usize,
    verdicts: Vec<JsonVerdict>,
}

/// A list as JSON.
pub fn json(verdicts: &[Verdict]) -> impl Serialize + use<> {
    JsonList {
        schema: SCHEMA,
        total: verdicts.len(),
        verdicts: verdicts.iter().map(JsonVerdict::from).collect(),
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
