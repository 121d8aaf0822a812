//! Notices to owners, their cases and what has happened to them, which are kept for ever.
//!
//! Contract: all changes of a step are in the file together or not at all, and each can be noted twice. What the
//! agent does never overwrites what a person has decided: a state is written only where the file has the state
//! that it knew. But that a message has left is noted whatever anybody has decided meanwhile. The file itself
//! refuses a second open case of an owner and a second notice of a Message-ID.

mod decision;
mod ledger;

use std::net::IpAddr;

use ipnet::IpNet;
use rusqlite::{Connection, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::verdicts::parsed;
use super::{Reader, Store, integer};
use crate::failure::Failure;
use crate::model::notice::{
    Book, Case, Declined, Departure, Notice, NoticeChange, NoticeEvent, NoticeKind, NoticeState,
};

pub use self::decision::{NoticeDecision, decide_notice};
pub use self::ledger::NoticeLedger;

/// The names are those of `NoticeKind::name` and its like; `addressee`, `hosts` and `recipients` are JSON. Calls are
/// those of the operator's hooks, of which nothing is kept before the first try.
pub(super) const TABLES: &str = "
    CREATE TABLE notice_case (
        id INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        addressee TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        closed_at INTEGER,
        sequence INTEGER NOT NULL,
        pressed INTEGER NOT NULL,
        last_message_id TEXT,
        hosts TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX notice_case_open ON notice_case (owner) WHERE closed_at IS NULL;
    CREATE TABLE notice (
        id INTEGER PRIMARY KEY,
        case_id INTEGER REFERENCES notice_case (id),
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        recipients TEXT NOT NULL,
        hosts TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        left_at INTEGER,
        message_id TEXT NOT NULL UNIQUE,
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        message BLOB NOT NULL,
        last_reply TEXT
    ) STRICT;
    CREATE INDEX notice_state ON notice (state, changed_at);
    CREATE INDEX notice_left_at ON notice (left_at);
    CREATE INDEX notice_case_id ON notice (case_id);
    CREATE TABLE notice_event (
        id INTEGER PRIMARY KEY,
        notice INTEGER NOT NULL REFERENCES notice (id),
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        from_state TEXT,
        to_state TEXT NOT NULL,
        why TEXT NOT NULL
    ) STRICT;
    CREATE INDEX notice_event_notice ON notice_event (notice);
    CREATE TABLE notice_call (
        event INTEGER NOT NULL REFERENCES notice_event (id),
        hook TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        next_at INTEGER NOT NULL,
        done INTEGER NOT NULL,
        PRIMARY KEY (event, hook)
    ) STRICT, WITHOUT ROWID;
";

const CASES: &str = "
    SELECT id, owner, addressee, opened_at, closed_at, sequence, pressed, last_message_id, hosts
    FROM notice_case";

const NOTICES: &str = "
    SELECT id, case_id, kind, state, recipients, hosts, made_at, changed_at, expires_at, next_at, attempts,
        left_at, message_id, subject, text, message, last_reply
    FROM notice";

/// The same without texts and messages, of which a list shows nothing.
const BRIEFS: &str = "
    SELECT id, case_id, kind, state, recipients, hosts, made_at, changed_at, expires_at, next_at, attempts,
        left_at, message_id, subject, '', x'', last_reply
    FROM notice";

/// Latest notices that are looked through for those about a host.
const LOOKED_THROUGH: usize = 10_000;

/// What has left longer ago than this limits nothing: a day, in milliseconds.
const LIMITED: u64 = 86_400_000;
/// What was declined longer ago than this is forgotten.
const DECLINED: u64 = 30 * LIMITED;

impl Reader {
    /// The notices in one of these states, or in any, the latest first, without their texts and messages.
    pub fn notices(&self, states: &[NoticeState]) -> Result<Vec<Notice>, Failure> {
        let mut wanted = Vec::new();
        self.each_notice(&mut |notice| {
            if states.is_empty() || states.contains(&notice.state) {
                wanted.push(notice);
            }
        })?;
        Ok(wanted)
    }

    /// Every notice, the latest first, without its text and message.
    pub fn each_notice(&self, each: &mut dyn FnMut(Notice)) -> Result<(), Failure> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(&format!("{BRIEFS} ORDER BY id DESC"))?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                each(notice(row)?);
            }
            Ok(())
        })
    }

    /// The latest notices about a host, at most so many, likewise; of the latest `LOOKED_THROUGH` of all.
    pub fn notices_about(&self, host: IpAddr, most: usize) -> Result<Vec<Notice>, Failure> {
        self.read(|connection| {
            let sql = format!("{BRIEFS} ORDER BY id DESC LIMIT {LOOKED_THROUGH}");
            let mut select = connection.prepare_cached(&sql)?;
            let mut rows = select.query([])?;
            let mut found = Vec::new();
            while found.len() < most
                && let Some(row) = rows.next()?
            {
                let notice = notice(row)?;
                if notice.hosts.iter().any(|of| of.contains(&host)) {
                    found.push(notice);
                }
            }
            Ok(found)
        })
    }

    /// A notice and what has happened to it, the earliest first; `None` if there is none of this number.
    pub fn notice(&self, id: u64) -> Result<Option<(Notice, Vec<NoticeEvent>)>, Failure> {
        self.read(|connection| {
            let found = select(connection, "WHERE id = ?1", [integer(id)])?.pop();
            found
                .map(|notice| Ok((notice, events(connection, id)?)))
                .transpose()
        })
    }

    /// Cases and notices that are open, what has left within a day of `now` or is said to have left after it,
    /// and the numbers that come next.
    pub fn notice_book(&self, now: u64) -> Result<Book, Failure> {
        self.read(|connection| book(connection, now))
    }
}

impl Store {
    /// Counts notices by their states, for [`Store::state`]: of each of [`NoticeState::ALL`].
    pub fn count_notices(&self) -> Result<(), Failure> {
        let count = || -> rusqlite::Result<[u64; NoticeState::ALL.len()]> {
            let mut counts = [0; NoticeState::ALL.len()];
            let sql = "SELECT count(*) FROM notice WHERE state = ?1";
            let mut select = self.connection.prepare_cached(sql)?;
            for (count, state) in counts.iter_mut().zip(NoticeState::ALL) {
                *count = select.query_row([state.name()], |row| row.get(0))?;
            }
            Ok(counts)
        };
        self.notices
            .set(count().map_err(|error| self.unreadable(&error))?);
        Ok(())
    }
}

fn book(connection: &Connection, now: u64) -> rusqlite::Result<Book> {
    let next = |table: &str| -> rusqlite::Result<u64> {
        let sql = format!("SELECT max(id) FROM {table}");
        let last: Option<u64> = connection.query_row(&sql, [], |row| row.get(0))?;
        Ok(last.unwrap_or(0) + 1)
    };
    let mut departures = connection.prepare_cached(
        "SELECT id, left_at, hosts, kind FROM notice WHERE left_at > ?1 ORDER BY left_at",
    )?;
    let departures = departures
        .query_map([integer(now.saturating_sub(LIMITED))], |row| {
            Ok(Departure {
                notice: row.get(0)?,
                at: row.get(1)?,
                hosts: unpacked(row, 2)?,
                digest: row.get::<_, String>(3)? == NoticeKind::Digest.name(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut declined = connection.prepare_cached(
        "SELECT id, changed_at, hosts, state FROM notice
         WHERE state IN ('rejected', 'failed') AND changed_at > ?1 ORDER BY id",
    )?;
    let declined = declined
        .query_map([integer(now.saturating_sub(DECLINED))], |row| {
            Ok(Declined {
                notice: row.get(0)?,
                at: row.get(1)?,
                hosts: unpacked(row, 2)?,
                by_person: row.get::<_, String>(3)? == NoticeState::Rejected.name(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Book {
        cases: connection
            .prepare_cached(&format!("{CASES} WHERE closed_at IS NULL ORDER BY id"))?
            .query_map([], case)?
            .collect::<rusqlite::Result<_>>()?,
        notices: select(
            connection,
            "WHERE state IN ('waiting', 'approved') ORDER BY id",
            [],
        )?,
        departures,
        declined,
        next_case: next("notice_case")?,
        next_notice: next("notice")?,
    })
}

fn select(
    connection: &Connection,
    which: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Notice>> {
    connection
        .prepare_cached(&format!("{NOTICES} {which}"))?
        .query_map(values, notice)?
        .collect()
}

fn events(connection: &Connection, id: u64) -> rusqlite::Result<Vec<NoticeEvent>> {
    let mut select = connection.prepare_cached(
        "SELECT notice, at, who, from_state, to_state, why FROM notice_event WHERE notice = ?1
         ORDER BY id",
    )?;
    let rows = select.query_map([integer(id)], |row| {
        let from: Option<String> = row.get(3)?;
        Ok(NoticeEvent {
            notice: row.get(0)?,
            at: row.get(1)?,
            who: row.get(2)?,
            from: from.map(|from| parsed(3, from.parse())).transpose()?,
            to: parsed(4, row.get::<_, String>(4)?.parse())?,
            why: row.get(5)?,
        })
    })?;
    rows.collect()
}

fn write(transaction: &Transaction<'_>, changes: &[NoticeChange]) -> rusqlite::Result<()> {
    for change in changes {
        match change {
            NoticeChange::Case(case) => write_case(transaction, case)?,
            NoticeChange::Made(notice, event) => {
                if insert(transaction, notice)? {
                    note(transaction, event)?;
                }
            }
            NoticeChange::Moved(notice, event) => {
                if update_state(transaction, notice, event)? {
                    note(transaction, event)?;
                }
                update_attempts(transaction, notice)?;
            }
            NoticeChange::Tried(notice) => update_attempts(transaction, notice)?,
        }
    }
    Ok(())
}

fn write_case(transaction: &Transaction<'_>, case: &Case) -> rusqlite::Result<()> {
    let Case {
        id,
        owner,
        addressee,
        opened_at,
        closed_at,
        sequence,
        pressed,
        last_message_id,
        hosts,
    } = case;
    transaction
        .prepare_cached(
            "INSERT INTO notice_case VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET addressee = ?3, closed_at = ?5, sequence = ?6, pressed = ?7,
                 last_message_id = ?8, hosts = ?9",
        )?
        .execute(params![
            integer(*id),
            owner,
            json(addressee)?,
            integer(*opened_at),
            closed_at.map(integer),
            sequence,
            pressed,
            last_message_id,
            json(hosts)?,
        ])?;
    Ok(())
}

/// Whether it was not there.
fn insert(transaction: &Transaction<'_>, notice: &Notice) -> rusqlite::Result<bool> {
    let Notice {
        id,
        case,
        kind,
        state,
        recipients,
        hosts,
        made_at,
        changed_at,
        expires_at,
        next_at,
        attempts,
        left_at,
        message_id,
        subject,
        text,
        message,
        last_reply,
    } = notice;
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO notice
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            integer(*id),
            case.map(integer),
            kind.name(),
            state.name(),
            json(recipients)?,
            json(hosts)?,
            integer(*made_at),
            integer(*changed_at),
            integer(*expires_at),
            integer(*next_at),
            attempts,
            left_at.map(integer),
            message_id,
            subject,
            text,
            message,
            last_reply,
        ])?;
    Ok(inserted > 0)
}

/// Whether it was in the state that the event begins with.
fn update_state(
    transaction: &Transaction<'_>,
    notice: &Notice,
    event: &NoticeEvent,
) -> rusqlite::Result<bool> {
    let updated = transaction
        .prepare_cached(
            "UPDATE notice SET state = ?2, changed_at = ?3, expires_at = ?4, next_at = ?5
             WHERE id = ?1 AND state = ?6",
        )?
        .execute(params![
            integer(notice.id),
            notice.state.name(),
            integer(notice.changed_at),
            integer(notice.expires_at),
            integer(notice.next_at),
            event.from.map(NoticeState::name),
        ])?;
    Ok(updated > 0)
}

/// What came of attempts; never fewer than are known.
fn update_attempts(transaction: &Transaction<'_>, notice: &Notice) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE notice SET recipients = ?2, next_at = ?3, attempts = ?4,
                 left_at = coalesce(?5, left_at), last_reply = ?6
             WHERE id = ?1 AND attempts <= ?4",
        )?
        .execute(params![
            integer(notice.id),
            json(&notice.recipients)?,
            integer(notice.next_at),
            notice.attempts,
            notice.left_at.map(integer),
            notice.last_reply,
        ])?;
    Ok(())
}

fn note(transaction: &Transaction<'_>, event: &NoticeEvent) -> rusqlite::Result<()> {
    let NoticeEvent {
        notice,
        at,
        who,
        from,
        to,
        why,
    } = event;
    transaction
        .prepare_cached(
            "INSERT INTO notice_event (notice, at, who, from_state, to_state, why)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            integer(*notice),
            integer(*at),
            who,
            from.map(NoticeState::name),
            to.name(),
            why,
        ])?;
    Ok(())
}

/// One row of [`CASES`].
fn case(row: &Row<'_>) -> rusqlite::Result<Case> {
    Ok(Case {
        id: row.get(0)?,
        owner: row.get(1)?,
        addressee: unpacked(row, 2)?,
        opened_at: row.get(3)?,
        closed_at: row.get(4)?,
        sequence: row.get(5)?,
        pressed: row.get(6)?,
        last_message_id: row.get(7)?,
        hosts: unpacked(row, 8)?,
    })
}

/// One row of [`NOTICES`].
fn notice(row: &Row<'_>) -> rusqlite::Result<Notice> {
    let kind: String = row.get(2)?;
    let found = NoticeKind::ALL
        .into_iter()
        .find(|known| known.name() == kind);
    let hosts: Vec<IpNet> = unpacked(row, 5)?;
    Ok(Notice {
        id: row.get(0)?,
        case: row.get(1)?,
        kind: parsed(2, found.ok_or_else(|| format!("{kind:?} is unknown")))?,
        state: parsed(3, row.get::<_, String>(3)?.parse())?,
        recipients: unpacked(row, 4)?,
        hosts,
        made_at: row.get(6)?,
        changed_at: row.get(7)?,
        expires_at: row.get(8)?,
        next_at: row.get(9)?,
        attempts: row.get(10)?,
        left_at: row.get(11)?,
        message_id: row.get(12)?,
        subject: row.get(13)?,
        text: row.get(14)?,
        message: row.get(15)?,
        last_reply: row.get(16)?,
    })
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn unpacked<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parsed(column, serde_json::from_str(&text))
}

#[cfg(test)]
mod tests;
