//! Verdicts and their events, which are kept for ever.
//!
//! Contract: a change and the event that tells of it are in the file together or not at all. What the
//! agent finds never overwrites what a person has decided: it writes a state only where the file has
//! the state that it knew. The file itself refuses a second open verdict of a subject and detector.

use std::path::Path;

use ipnet::IpNet;
use rusqlite::types::{FromSqlError, Type, Value};
use rusqlite::{
    Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
    params_from_iter,
};

use super::personal::{self, Unchanged};
use super::{Store, integer};
use crate::failure::{Failure, Kind};
use crate::model::person::{SMTPFLOW, check_person};
use crate::model::verdict::{
    Severity, SizeClass, Unmoved, Verdict, VerdictChange, VerdictEvent, VerdictFilter, VerdictNews,
    VerdictState,
};

/// The names are those of `Severity::name` and its like; `rule` is JSON as in the API.
pub(super) const TABLES: &str = "
    CREATE TABLE verdict (
        id INTEGER PRIMARY KEY,
        subject TEXT NOT NULL,
        detector TEXT NOT NULL,
        severity TEXT NOT NULL,
        size TEXT,
        failing INTEGER NOT NULL,
        state TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        reopened INTEGER NOT NULL,
        rule TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX verdict_open ON verdict (subject, detector)
        WHERE state IN ('new', 'acknowledged', 'notified');
    CREATE INDEX verdict_subject ON verdict (subject);
    CREATE INDEX verdict_changed_at ON verdict (changed_at);
    CREATE TABLE verdict_event (
        id INTEGER PRIMARY KEY,
        verdict INTEGER NOT NULL REFERENCES verdict (id),
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        from_state TEXT,
        to_state TEXT NOT NULL,
        why TEXT NOT NULL
    ) STRICT;
    CREATE INDEX verdict_event_verdict ON verdict_event (verdict);
";

const VERDICTS: &str = "
    SELECT id, subject, detector, severity, size, failing, state, opened_at, last_at, changed_at,
        reopened, rule
    FROM verdict";

impl Store {
    /// All open verdicts, closed ones that changed at `since` or later, and the number that the next
    /// one gets.
    pub fn load_verdicts(&self, since: u64) -> Result<(Vec<Verdict>, u64), Failure> {
        load(&self.connection, since).map_err(|error| self.unreadable(&error))
    }

    /// The verdicts to which the filter applies, the latest first.
    pub fn verdicts(&self, filter: &VerdictFilter) -> Result<Vec<Verdict>, Failure> {
        list(&self.connection, filter).map_err(|error| self.unreadable(&error))
    }

    /// What has happened to a verdict, the earliest first.
    pub fn verdict_events(&self, id: u64) -> Result<Vec<VerdictEvent>, Failure> {
        events(&self.connection, id).map_err(|error| self.unreadable(&error))
    }

    /// What people have changed since the event of this number, the earliest first, with the verdicts as
    /// they are now, and the number of the last event of all.
    pub fn personal_events(&self, after: u64) -> Result<(Vec<VerdictNews>, u64), Failure> {
        personal_events(&self.connection, after).map_err(|error| self.unreadable(&error))
    }

    /// Notes changes in one transaction. Each can be noted twice, so after an error all are to be given
    /// again.
    pub fn write_verdicts(&mut self, changes: &[VerdictChange]) -> Result<(), Failure> {
        if changes.is_empty() {
            return Ok(());
        }
        let written = write(&mut self.connection, changes);
        written.map_err(|error| {
            Failure::new(
                Kind::Failed,
                format!(
                    "cannot write verdicts to the store {}: {error}",
                    self.place.path.display()
                ),
            )
        })
    }

    /// A number that changes whenever another process has written to the file.
    pub fn data_version(&self) -> Result<i64, Failure> {
        self.connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|error| self.unreadable(&error))
    }
}

fn load(connection: &Connection, since: u64) -> rusqlite::Result<(Vec<Verdict>, u64)> {
    let mut verdicts = Vec::new();
    let sql = format!(
        "{VERDICTS} WHERE state IN ('new', 'acknowledged', 'notified') OR changed_at >= ?1 ORDER BY id"
    );
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([integer(since)])?;
    while let Some(row) = rows.next()? {
        verdicts.push(verdict(row)?);
    }
    let last: Option<u64> =
        connection.query_row("SELECT max(id) FROM verdict", [], |row| row.get(0))?;
    Ok((verdicts, last.unwrap_or(0) + 1))
}

/// The verdicts to which the filter applies, the latest first.
pub(super) fn list(
    connection: &Connection,
    filter: &VerdictFilter,
) -> rusqlite::Result<Vec<Verdict>> {
    let VerdictFilter {
        states,
        subject,
        detector,
        since,
    } = filter;
    let mut conditions = vec!["true".to_owned()];
    let mut values: Vec<Value> = Vec::new();
    let mut one_of = |column: &str, texts: Vec<String>| {
        let marks = vec!["?"; texts.len()].join(", ");
        conditions.push(format!("{column} IN ({marks})"));
        values.extend(texts.into_iter().map(Value::Text));
    };
    if !states.is_empty() {
        let names = states.iter().map(|state| state.name().to_owned());
        one_of("state", names.collect());
    }
    if let Some(subject) = subject {
        one_of("subject", containing(*subject));
    }
    if let Some(detector) = detector {
        one_of("detector", vec![detector.clone()]);
    }
    if let Some(since) = since {
        conditions.push("max(last_at, changed_at) >= ?".to_owned());
        values.push(Value::Integer(integer(*since)));
    }
    let sql = format!(
        "{VERDICTS} WHERE {} ORDER BY last_at DESC, id DESC",
        conditions.join(" AND ")
    );
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut verdicts = Vec::new();
    while let Some(row) = rows.next()? {
        verdicts.push(verdict(row)?);
    }
    Ok(verdicts)
}

/// A verdict and what has happened to it, the earliest first; `None` if there is none of this number.
pub(super) fn life(
    connection: &Connection,
    id: u64,
) -> rusqlite::Result<Option<(Verdict, Vec<VerdictEvent>)>> {
    let found = connection
        .query_row(&format!("{VERDICTS} WHERE id = ?1"), [integer(id)], verdict)
        .optional()?;
    found
        .map(|verdict| Ok((verdict, events(connection, id)?)))
        .transpose()
}

/// Every prefix that contains this one, as they are written.
fn containing(subject: IpNet) -> Vec<String> {
    let mut wider = Some(subject.trunc());
    std::iter::from_fn(|| {
        let this = wider?;
        wider = this.supernet();
        Some(this.to_string())
    })
    .collect()
}

/// What has happened to a verdict, the earliest first.
pub(super) fn events(connection: &Connection, id: u64) -> rusqlite::Result<Vec<VerdictEvent>> {
    let mut select = connection.prepare_cached(
        "SELECT verdict, at, who, from_state, to_state, why FROM verdict_event WHERE verdict = ?1
         ORDER BY id",
    )?;
    let mut rows = select.query([integer(id)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event(row)?);
    }
    Ok(events)
}

/// One row of `verdict, at, who, from_state, to_state, why`.
fn event(row: &Row<'_>) -> rusqlite::Result<VerdictEvent> {
    let from: Option<String> = row.get(3)?;
    Ok(VerdictEvent {
        verdict: row.get(0)?,
        at: row.get(1)?,
        who: row.get(2)?,
        from: from.map(|from| parsed(3, from.parse())).transpose()?,
        to: parsed(4, row.get::<_, String>(4)?.parse())?,
        why: row.get(5)?,
    })
}

fn personal_events(
    connection: &Connection,
    after: u64,
) -> rusqlite::Result<(Vec<VerdictNews>, u64)> {
    let last = last_event(connection)?;
    let mut select = connection.prepare(
        "SELECT verdict, at, who, from_state, to_state, why FROM verdict_event
         WHERE id > ?1 AND id <= ?2 AND who <> ?3 ORDER BY id",
    )?;
    let mut rows = select.query(params![integer(after), integer(last), SMTPFLOW])?;
    let mut news = Vec::new();
    while let Some(row) = rows.next()? {
        let event = event(row)?;
        let verdict = connection
            .prepare_cached(&format!("{VERDICTS} WHERE id = ?1"))?
            .query_row([integer(event.verdict)], verdict)?;
        news.push(VerdictNews { verdict, event });
    }
    Ok((news, last))
}

/// The number of the last event of all; 0 before the first.
pub(super) fn last_event(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<u64> = connection
        .prepare_cached("SELECT max(id) FROM verdict_event")?
        .query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

fn write(connection: &mut Connection, changes: &[VerdictChange]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        match change {
            VerdictChange::Opened(verdict, event) => {
                if insert(&transaction, verdict)? {
                    note(&transaction, event)?;
                }
            }
            VerdictChange::Moved(verdict, event) => {
                if update_state(&transaction, verdict, event)? {
                    update(&transaction, verdict)?;
                    note(&transaction, event)?;
                }
            }
            VerdictChange::Held(verdict) => update(&transaction, verdict)?,
        }
    }
    transaction.commit()
}

/// Whether it was not there, and no other open one in its place.
fn insert(transaction: &Transaction<'_>, verdict: &Verdict) -> rusqlite::Result<bool> {
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
    let inserted = transaction
        .prepare(
            "INSERT OR IGNORE INTO verdict
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            integer(*id),
            subject.to_string(),
            detector,
            severity.name(),
            size.map(SizeClass::name),
            failing,
            state.name(),
            integer(*opened_at),
            integer(*last_at),
            integer(*changed_at),
            reopened,
            json(rule)?,
        ])?;
    Ok(inserted > 0)
}

/// Whether it was in the state that the event begins with. No other one may be open in its place.
fn update_state(
    transaction: &Transaction<'_>,
    verdict: &Verdict,
    event: &VerdictEvent,
) -> rusqlite::Result<bool> {
    let updated = transaction
        .prepare(
            "UPDATE OR IGNORE verdict SET state = ?2, changed_at = ?3, reopened = ?4
             WHERE id = ?1 AND state = ?5",
        )?
        .execute(params![
            integer(verdict.id),
            verdict.state.name(),
            integer(verdict.changed_at),
            verdict.reopened,
            event.from.map(VerdictState::name),
        ])?;
    Ok(updated > 0)
}

fn update(transaction: &Transaction<'_>, verdict: &Verdict) -> rusqlite::Result<()> {
    transaction
        .prepare(
            "UPDATE verdict SET severity = ?2, size = ?3, failing = ?4, last_at = max(last_at, ?5),
                 rule = ?6
             WHERE id = ?1",
        )?
        .execute(params![
            integer(verdict.id),
            verdict.severity.name(),
            verdict.size.map(SizeClass::name),
            verdict.failing,
            integer(verdict.last_at),
            json(&verdict.rule)?,
        ])?;
    Ok(())
}

fn note(transaction: &Transaction<'_>, event: &VerdictEvent) -> rusqlite::Result<()> {
    let VerdictEvent {
        verdict,
        at,
        who,
        from,
        to,
        why,
    } = event;
    transaction
        .prepare(
            "INSERT INTO verdict_event (verdict, at, who, from_state, to_state, why)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            integer(*verdict),
            integer(*at),
            who,
            from.map(VerdictState::name),
            to.name(),
            why,
        ])?;
    Ok(())
}

fn json(rule: &crate::model::verdict::Rule) -> rusqlite::Result<String> {
    serde_json::to_string(rule)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// One row of [`VERDICTS`].
fn verdict(row: &Row<'_>) -> rusqlite::Result<Verdict> {
    let text = |column: usize| row.get::<_, String>(column);
    let severity = text(3)?;
    let size: Option<String> = row.get(4)?;
    let rule = text(11)?;
    Ok(Verdict {
        id: row.get(0)?,
        subject: parsed(1, text(1)?.parse::<IpNet>())?,
        detector: text(2)?,
        severity: named(3, Severity::ALL.into_iter(), Severity::name, &severity)?,
        size: size
            .map(|size| {
                let all = [SizeClass::Small, SizeClass::Large].into_iter();
                named(4, all, SizeClass::name, &size)
            })
            .transpose()?,
        failing: row.get(5)?,
        state: parsed(6, text(6)?.parse())?,
        opened_at: row.get(7)?,
        last_at: row.get(8)?,
        changed_at: row.get(9)?,
        reopened: row.get(10)?,
        rule: parsed(11, serde_json::from_str(&rule))?,
    })
}

fn named<T: Copy>(
    column: usize,
    mut all: impl Iterator<Item = T>,
    name: fn(T) -> &'static str,
    text: &str,
) -> rusqlite::Result<T> {
    let found = all.find(|value| name(*value) == text);
    parsed(column, found.ok_or_else(|| format!("{text:?} is unknown")))
}

/// A value that cannot be read is damage.
pub(super) fn parsed<T, E: ToString>(column: usize, value: Result<T, E>) -> rusqlite::Result<T> {
    value.map_err(|error| {
        let error = FromSqlError::Other(error.to_string().into());
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

/// Ends the open verdicts of which `which` says so, by a person.
pub(super) fn resolve(
    transaction: &Transaction<'_>,
    which: impl Fn(&Verdict) -> bool,
    (who, why, at): (&str, &str, u64),
) -> rusqlite::Result<Result<Vec<Verdict>, Unchanged>> {
    let filter = VerdictFilter {
        states: VerdictState::ALL
            .into_iter()
            .filter(|state| state.is_open())
            .collect(),
        ..VerdictFilter::default()
    };
    let mut resolved = Vec::new();
    for mut verdict in list(transaction, &filter)? {
        if !which(&verdict) {
            continue;
        }
        match verdict.move_to(VerdictState::Resolved, who, why, at) {
            Ok(event) => {
                update_state(transaction, &verdict, &event)?;
                note(transaction, &event)?;
                resolved.push(verdict);
            }
            Err(Unmoved::Text(error) | Unmoved::State(error)) => {
                return Ok(Err(Unchanged::Invalid(error)));
            }
        }
    }
    Ok(Ok(resolved))
}

/// A change of a verdict by a person, in the store of an agent that may be running.
pub struct PersonalChange<'a> {
    /// Which verdict.
    pub id: u64,
    /// The state that it gets.
    pub to: VerdictState,
    /// Who the person is.
    pub who: &'a str,
    /// Why.
    pub why: &'a str,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// Makes a change in the file at `path`; gives the verdict as it is now, and what has happened to it, the
/// earliest first.
///
/// # Errors
///
/// The file is none of ours, or cannot be written; there is no such verdict; the state cannot follow
/// on the one that it has; another verdict is open in its place; `who` or `why` is no text that can be
/// kept.
pub fn change_verdict(
    path: &Path,
    change: &PersonalChange<'_>,
) -> Result<(Verdict, Vec<VerdictEvent>), Unchanged> {
    check_person(change.who).map_err(Unchanged::Invalid)?;
    personal::write(
        path,
        &format!("change verdict {}", change.id),
        |transaction| {
            let found = transaction
                .query_row(
                    &format!("{VERDICTS} WHERE id = ?1"),
                    [integer(change.id)],
                    verdict,
                )
                .optional()?;
            let Some(mut verdict) = found else {
                return Ok(Err(Unchanged::Absent(format!(
                    "there is no verdict {} in the store {}; `smtpflow verdicts` lists them",
                    change.id,
                    path.display()
                ))));
            };
            let event = match verdict.move_to(change.to, change.who, change.why, change.at) {
                Ok(event) => event,
                Err(Unmoved::Text(error)) => return Ok(Err(Unchanged::Invalid(error))),
                Err(Unmoved::State(error)) => return Ok(Err(Unchanged::Conflict(error))),
            };
            if !update_state(transaction, &verdict, &event)? {
                return Ok(Err(Unchanged::Conflict(format!(
                    "verdict {} cannot become {}: another verdict of {} by {} is open",
                    verdict.id, change.to, verdict.subject, verdict.detector
                ))));
            }
            note(transaction, &event)?;
            let events = events(transaction, change.id)?;
            Ok(Ok((verdict, events)))
        },
    )
}

#[cfg(test)]
mod tests;
