//! Known relays that people have added, which are kept for ever.
//!
//! Contract: an entry and what it says of who added and who ended it are in the file together. A prefix has
//! one entry that is not ended; the file itself refuses a second. The open verdicts of whom an entry excuses
//! are resolved with it, in the same transaction, by the same person.

use std::path::Path;

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::personal::{self, Unchanged};
use super::verdicts::{self, parsed};
use super::{Store, integer};
use crate::failure::Failure;
use crate::model::person::{MAX_WHY, check_person, check_why};
use crate::model::prefix::{check, show};
use crate::model::relay::{Ended, RESOLVED_AS_RELAY, Relay, StoredRelay, check_text, parse_day};
use crate::model::verdict::Verdict;

/// `expires` is the last day as text, see [`Relay`].
pub(super) const TABLES: &str = "
    CREATE TABLE relay (
        id INTEGER PRIMARY KEY,
        prefix TEXT NOT NULL,
        reason TEXT NOT NULL,
        owner TEXT NOT NULL,
        expires TEXT,
        connections INTEGER,
        added_at INTEGER NOT NULL,
        added_by TEXT NOT NULL,
        ended_at INTEGER,
        ended_by TEXT,
        ended_why TEXT
    ) STRICT;
    CREATE UNIQUE INDEX relay_active ON relay (prefix) WHERE ended_at IS NULL;
";

const RELAYS: &str = "
    SELECT id, prefix, reason, owner, expires, connections, added_at, added_by, ended_at, ended_by,
        ended_why
    FROM relay";

impl Store {
    /// All entries of known relays that people have added and nobody has ended.
    pub fn relays(&self) -> Result<Vec<Relay>, Failure> {
        active(&self.connection).map_err(|error| self.unreadable(&error))
    }
}

/// The entries that are not ended.
pub(super) fn active(connection: &Connection) -> rusqlite::Result<Vec<Relay>> {
    connection
        .prepare_cached(&format!("{RELAYS} WHERE ended_at IS NULL ORDER BY id"))?
        .query_map([], |row| Ok(relay(row)?.relay))?
        .collect()
}

/// All entries, the latest first.
pub(super) fn list(connection: &Connection) -> rusqlite::Result<Vec<StoredRelay>> {
    connection
        .prepare_cached(&format!("{RELAYS} ORDER BY id DESC"))?
        .query_map([], relay)?
        .collect()
}

/// One row of [`RELAYS`].
fn relay(row: &Row<'_>) -> rusqlite::Result<StoredRelay> {
    let expires: Option<String> = row.get(4)?;
    let ended_at: Option<u64> = row.get(8)?;
    let ended = match ended_at {
        Some(at) => Some(Ended {
            at,
            by: row.get(9)?,
            why: row.get(10)?,
        }),
        None => None,
    };
    Ok(StoredRelay {
        id: row.get(0)?,
        relay: Relay {
            prefix: parsed(1, row.get::<_, String>(1)?.parse::<IpNet>())?,
            reason: row.get(2)?,
            owner: row.get(3)?,
            expires: expires.map(|day| parsed(4, parse_day(&day))).transpose()?,
            connections: row.get(5)?,
        },
        added_at: row.get(6)?,
        added_by: row.get(7)?,
        ended,
    })
}

/// A known relay that a person adds.
pub struct NewRelay<'a> {
    /// The entry.
    pub relay: &'a Relay,
    /// Who the person is.
    pub who: &'a str,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// The end of an entry by a person.
pub struct RelayEnd<'a> {
    /// The prefix of the entry.
    pub prefix: IpNet,
    /// Who the person is.
    pub who: &'a str,
    /// Why.
    pub why: &'a str,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// Adds an entry in the file at `path`, in the place of one whose last day is over; gives it with the
/// verdicts that are resolved by it: those about hosts inside, as the rules that opened them are not
/// applied to it any more.
///
/// # Errors
///
/// The file is none of ours, or cannot be written; there is an entry of this prefix; a text or the
/// prefix cannot be kept; the last day is over.
pub fn add_relay(
    path: &Path,
    new: &NewRelay<'_>,
) -> Result<(StoredRelay, Vec<Verdict>), Unchanged> {
    let NewRelay { relay, who, at } = *new;
    check_person(who).map_err(Unchanged::Invalid)?;
    check(relay.prefix).map_err(Unchanged::Invalid)?;
    for (name, text) in [("reason", &relay.reason), ("owner", &relay.owner)] {
        check_text(text).map_err(|error| Unchanged::Invalid(format!("{name}: {error}")))?;
    }
    if relay.is_expired(at) {
        let last = relay.expires.map(|day| day.to_string()).unwrap_or_default();
        return Err(Unchanged::Invalid(format!(
            "expires: {last} is over, so the entry would excuse nobody; give a later day, or none"
        )));
    }
    let prefix = relay.prefix;
    personal::write(
        path,
        &format!("add the known relay {prefix}"),
        |transaction| {
            if let Some(there) = active_of(transaction, prefix)? {
                if !there.relay.is_expired(at) {
                    return Ok(Err(Unchanged::Conflict(format!(
                        "{prefix} is a known relay already ({}), added by {}; end that entry first \
                     (smtpflow relay expire)",
                        there.relay.reason, there.added_by
                    ))));
                }
                let ended = Ended {
                    at,
                    by: who.to_owned(),
                    why: "its last day was over when it was added again".to_owned(),
                };
                end(transaction, there.id, &ended)?;
            }
            let stored = insert(transaction, relay, who, at)?;
            let why = format!("{RESOLVED_AS_RELAY}{}: {}", show(&prefix), relay.reason);
            let why: String = why.chars().take(MAX_WHY).collect();
            let inside = |verdict: &Verdict| prefix.contains(&verdict.subject);
            let resolved = verdicts::resolve(transaction, inside, (who, &why, at))?;
            Ok(resolved.map(|resolved| (stored, resolved)))
        },
    )
}

/// Ends an entry in the file at `path`; gives it.
///
/// # Errors
///
/// The file is none of ours, or cannot be written; there is no entry of this prefix that is not ended;
/// `who` or `why` is no text that can be kept.
pub fn end_relay(path: &Path, end_of: &RelayEnd<'_>) -> Result<StoredRelay, Unchanged> {
    let RelayEnd {
        prefix,
        who,
        why,
        at,
    } = *end_of;
    check_person(who).map_err(Unchanged::Invalid)?;
    check_why(why).map_err(Unchanged::Invalid)?;
    personal::write(
        path,
        &format!("end the known relay {prefix}"),
        |transaction| {
            let Some(mut stored) = active_of(transaction, prefix)? else {
                return Ok(Err(Unchanged::Absent(format!(
                    "{prefix} is no known relay of the store {}; `smtpflow relay list` has those that \
                 there are",
                    path.display()
                ))));
            };
            let ended = Ended {
                at: at.max(stored.added_at),
                by: who.to_owned(),
                why: why.to_owned(),
            };
            end(transaction, stored.id, &ended)?;
            stored.ended = Some(ended);
            Ok(Ok(stored))
        },
    )
}

/// The entry of this prefix that is not ended.
fn active_of(
    transaction: &Transaction<'_>,
    prefix: IpNet,
) -> rusqlite::Result<Option<StoredRelay>> {
    transaction
        .query_row(
            &format!("{RELAYS} WHERE prefix = ?1 AND ended_at IS NULL"),
            [prefix.to_string()],
            relay,
        )
        .optional()
}

fn insert(
    transaction: &Transaction<'_>,
    relay: &Relay,
    who: &str,
    at: u64,
) -> rusqlite::Result<StoredRelay> {
    let Relay {
        prefix,
        reason,
        owner,
        expires,
        connections,
    } = relay;
    transaction.execute(
        "INSERT INTO relay (prefix, reason, owner, expires, connections, added_at, added_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            prefix.to_string(),
            reason,
            owner,
            expires.map(|day| day.to_string()),
            connections,
            integer(at),
            who,
        ],
    )?;
    Ok(StoredRelay {
        id: transaction.last_insert_rowid().cast_unsigned(),
        relay: relay.clone(),
        added_at: at,
        added_by: who.to_owned(),
        ended: None,
    })
}

fn end(transaction: &Transaction<'_>, id: u64, ended: &Ended) -> rusqlite::Result<()> {
    let Ended { at, by, why } = ended;
    transaction.execute(
        "UPDATE relay SET ended_at = ?2, ended_by = ?3, ended_why = ?4 WHERE id = ?1",
        params![integer(id), integer(*at), by, why],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
