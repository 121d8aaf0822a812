//! Complaints, which are kept for ever.
//!
//! Contract: a complaint is in the file once, however often and in whatever form it comes: one address,
//! kind, reporter and reference are one complaint, and the file itself refuses a second. One that was
//! withdrawn stays, so that it does not come back with the mailbox that it was in. Many are written in
//! parts, so that the agent never waits for all of them; what an error leaves out is written by the next
//! try. There are at most [`MOST`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params, params_from_iter};

use super::integer;
use super::personal::{self, Unchanged};
use super::samples;
use super::verdicts::parsed;
use crate::model::complaint::{Complaint, ComplaintFilter, StoredComplaint};
use crate::model::person::{check_person, check_why};
use crate::model::relay::Ended;
use crate::model::sample::KeptHeader;

/// Most complaints of a file, with those that were withdrawn.
const MOST: u64 = if cfg!(test) { 2000 } else { 1_000_000 };
/// Complaints of one transaction: some milliseconds.
const PART: usize = 500;

/// `address` is as text, `kind` and `form` are those of `ComplaintKind::name` and its like.
pub(super) const TABLES: &str = "
    CREATE TABLE complaint (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL,
        at INTEGER NOT NULL,
        happened_at INTEGER,
        kind TEXT NOT NULL,
        form TEXT NOT NULL,
        reporter TEXT NOT NULL,
        reference TEXT NOT NULL,
        incidents INTEGER NOT NULL,
        added_at INTEGER NOT NULL,
        added_by TEXT NOT NULL,
        withdrawn_at INTEGER,
        withdrawn_by TEXT,
        withdrawn_why TEXT
    ) STRICT;
    CREATE UNIQUE INDEX complaint_once ON complaint (address, kind, reporter, reference);
    CREATE INDEX complaint_at ON complaint (at);
";

const COMPLAINTS: &str = "
    SELECT id, address, at, happened_at, kind, form, reporter, reference, incidents, added_at, added_by,
        withdrawn_at, withdrawn_by, withdrawn_why
    FROM complaint";

/// The complaints to which the filter applies, the latest first.
pub(super) fn list(
    connection: &Connection,
    filter: &ComplaintFilter,
) -> rusqlite::Result<Vec<StoredComplaint>> {
    let mut all = Vec::new();
    each(connection, filter, |stored| all.push(stored))?;
    Ok(all)
}

/// Shows them one by one.
pub(super) fn each(
    connection: &Connection,
    filter: &ComplaintFilter,
    mut show: impl FnMut(StoredComplaint),
) -> rusqlite::Result<()> {
    let ComplaintFilter {
        period,
        address,
        withdrawn,
    } = filter;
    let mut conditions = vec!["true"];
    let mut values: Vec<Value> = Vec::new();
    if let Some(period) = period {
        conditions.push("at >= ? AND at < ?");
        values.extend([period.from, period.to].map(|at| Value::Integer(integer(at))));
    }
    if let Some(address) = address {
        conditions.push("address = ?");
        values.push(Value::Text(address.to_canonical().to_string()));
    }
    if !withdrawn {
        conditions.push("withdrawn_at IS NULL");
    }
    let sql = format!(
        "{COMPLAINTS} WHERE {} ORDER BY at DESC, id DESC",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare(&sql)?;
    for stored in statement.query_map(params_from_iter(values), complaint)? {
        show(stored?);
    }
    Ok(())
}

/// The one of this number, if there is one.
pub(super) fn one(connection: &Connection, id: u64) -> rusqlite::Result<Option<StoredComplaint>> {
    connection
        .prepare_cached(&format!("{COMPLAINTS} WHERE id = ?1"))?
        .query_row([integer(id)], complaint)
        .optional()
}

/// The one that is the same complaint, if there is one.
fn same(connection: &Connection, other: &Complaint) -> rusqlite::Result<Option<StoredComplaint>> {
    connection
        .query_row(
            &format!(
                "{COMPLAINTS} WHERE address = ?1 AND kind = ?2 AND reporter = ?3 AND reference = ?4"
            ),
            params![
                other.address.to_string(),
                other.kind.name(),
                other.reporter,
                other.reference
            ],
            complaint,
        )
        .optional()
}

/// One row of [`COMPLAINTS`].
fn complaint(row: &Row<'_>) -> rusqlite::Result<StoredComplaint> {
    let text = |column: usize| row.get::<_, String>(column);
    let withdrawn_at: Option<u64> = row.get(11)?;
    let withdrawn = match withdrawn_at {
        Some(at) => Some(Ended {
            at,
            by: text(12)?,
            why: text(13)?,
        }),
        None => None,
    };
    Ok(StoredComplaint {
        id: row.get(0)?,
        complaint: Complaint {
            address: parsed(1, text(1)?.parse::<IpAddr>())?,
            at: row.get(2)?,
            happened_at: row.get(3)?,
            kind: parsed(4, text(4)?.parse())?,
            form: parsed(5, text(5)?.parse())?,
            reporter: text(6)?,
            reference: text(7)?,
            incidents: row.get(8)?,
        },
        added_at: row.get(9)?,
        added_by: text(10)?,
        withdrawn,
    })
}

/// Complaints that a person has brought in.
pub struct NewComplaints<'a> {
    /// The complaints, each as [`Complaint::checked`] gives it.
    pub complaints: &'a [Complaint],
    /// By their place among the complaints, headers of the messages that these are about.
    pub headers: &'a BTreeMap<usize, KeptHeader>,
    /// Who the person is.
    pub who: &'a str,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// What became of complaints that were brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// They were new.
    pub added: u64,
    /// They were there already.
    pub known: u64,
}

/// The withdrawal of a complaint by a person.
pub struct Withdrawal<'a> {
    /// Which complaint.
    pub id: u64,
    /// Who the person is.
    pub who: &'a str,
    /// Why.
    pub why: &'a str,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// Notes complaints in the file at `path`, but for those that are in it.
///
/// # Errors
///
/// The file is none of ours, or cannot be written, or has no place for more; `who` is no text that can be
/// kept. What was written before stays.
pub fn add_complaints(path: &Path, new: &NewComplaints<'_>) -> Result<Noted, Unchanged> {
    let NewComplaints {
        complaints,
        headers,
        who,
        at,
    } = *new;
    check_person(who).map_err(Unchanged::Invalid)?;
    let mut noted = Noted::default();
    for (number, part) in complaints.chunks(PART).enumerate() {
        let of_part = personal::write(path, "note complaints", |transaction| {
            let there = count(transaction)?;
            let mut of_part = Noted::default();
            for (place, complaint) in (number * PART..).zip(part) {
                if insert(transaction, complaint, who, at)? {
                    of_part.added += 1;
                    if let Some(header) = headers.get(&place) {
                        samples::insert(transaction, id_of_last(transaction), header)?;
                    }
                } else {
                    of_part.known += 1;
                }
            }
            if there + of_part.added > MOST {
                return Ok(Err(full(path, there, of_part.added)));
            }
            samples::tidy(transaction, at)?;
            Ok(Ok(of_part))
        })?;
        noted.added += of_part.added;
        noted.known += of_part.known;
    }
    Ok(noted)
}

/// Notes a complaint, as [`Complaint::checked`] gives it, in the file at `path`; gives it with its number.
///
/// # Errors
///
/// It is there already; else those of [`add_complaints`].
pub fn add_complaint(
    path: &Path,
    complaint: &Complaint,
    who: &str,
    at: u64,
) -> Result<StoredComplaint, Unchanged> {
    check_person(who).map_err(Unchanged::Invalid)?;
    personal::write(path, "note a complaint", |transaction| {
        if let Some(known) = same(transaction, complaint)? {
            return Ok(Err(Unchanged::Conflict(format!(
                "this complaint was noted already, as {}, by {}; give another reference (--reference) if \
                 it is another one",
                known.id, known.added_by
            ))));
        }
        let there = count(transaction)?;
        if there >= MOST {
            return Ok(Err(full(path, there, 1)));
        }
        insert(transaction, complaint, who, at)?;
        Ok(match one(transaction, id_of_last(transaction))? {
            Some(stored) => Ok(stored),
            None => Err(Unchanged::Absent("the complaint was not kept".to_owned())),
        })
    })
}

fn id_of_last(transaction: &Transaction<'_>) -> u64 {
    u64::try_from(transaction.last_insert_rowid()).unwrap_or(0)
}

fn count(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    transaction.query_row("SELECT count(*) FROM complaint", [], |row| row.get(0))
}

fn full(path: &Path, there: u64, more: u64) -> Unchanged {
    Unchanged::Conflict(format!(
        "the store {} has {there} complaints and no place for {more} more (at most {MOST})",
        path.display()
    ))
}

/// Withdraws a complaint in the file at `path`; gives it.
///
/// # Errors
///
/// The file is none of ours, or cannot be written; there is no such complaint, or it was withdrawn
/// already; `who` or `why` is no text that can be kept.
pub fn withdraw_complaint(
    path: &Path,
    withdrawal: &Withdrawal<'_>,
) -> Result<StoredComplaint, Unchanged> {
    let Withdrawal { id, who, why, at } = *withdrawal;
    check_person(who).map_err(Unchanged::Invalid)?;
    check_why(why).map_err(Unchanged::Invalid)?;
    personal::write(path, &format!("withdraw complaint {id}"), |transaction| {
        let Some(mut stored) = one(transaction, id)? else {
            return Ok(Err(Unchanged::Absent(format!(
                "there is no complaint {id} in the store {}; `smtpflow complaint list` lists them",
                path.display()
            ))));
        };
        if let Some(withdrawn) = &stored.withdrawn {
            return Ok(Err(Unchanged::Conflict(format!(
                "complaint {id} was withdrawn already, by {}: {}",
                withdrawn.by, withdrawn.why
            ))));
        }
        let withdrawn = Ended {
            at: at.max(stored.added_at),
            by: who.to_owned(),
            why: why.to_owned(),
        };
        transaction.execute(
            "UPDATE complaint SET withdrawn_at = ?2, withdrawn_by = ?3, withdrawn_why = ?4
             WHERE id = ?1",
            params![
                integer(id),
                integer(withdrawn.at),
                withdrawn.by,
                withdrawn.why
            ],
        )?;
        samples::forget(transaction, id)?;
        stored.withdrawn = Some(withdrawn);
        Ok(Ok(stored))
    })
}

/// Whether it was not there.
fn insert(
    transaction: &Transaction<'_>,
    complaint: &Complaint,
    who: &str,
    added_at: u64,
) -> rusqlite::Result<bool> {
    let Complaint {
        address,
        at,
        happened_at,
        kind,
        form,
        reporter,
        reference,
        incidents,
    } = complaint;
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO complaint (address, at, happened_at, kind, form, reporter,
                 reference, incidents, added_at, added_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            address.to_string(),
            integer(*at),
            happened_at.map(integer),
            kind.name(),
            form.name(),
            reporter,
            reference,
            incidents,
            integer(added_at),
            who,
        ])?;
    Ok(inserted > 0)
}

#[cfg(test)]
mod tests;
