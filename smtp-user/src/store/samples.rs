//! Headers of messages that complaints are about, which are kept for a week.
//!
//! Contract: beside a complaint that is new, and gone when that is withdrawn, or when [`SAMPLE_AGE`] is over: then at the
//! next import, or the next look of who sends notices. At most [`MOST`] are kept, those of the latest complaints. A header is
//! given only to who wants no less of the addresses of people left out than was left out when it came.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::personal::{self, Unchanged};
use super::verdicts::parsed;
use super::{Reader, integer};
use crate::failure::Failure;
use crate::model::complaint::ComplaintKind;
use crate::model::mail::KeptAddresses;
use crate::model::sample::{KeptHeader, SAMPLE_AGE, Sample};

/// Most headers of a file, of at most 8 KiB each.
const MOST: i64 = 1000;

/// `key` makes the words in the places of addresses, and never leaves the file but for that.
pub(super) const TABLES: &str = "
    CREATE TABLE complaint_header (
        complaint INTEGER PRIMARY KEY REFERENCES complaint (id),
        addresses TEXT NOT NULL,
        domain TEXT,
        text TEXT NOT NULL
    ) STRICT;
    CREATE TABLE complaint_key (key BLOB NOT NULL) STRICT;
";

/// The latest complaint about each host of which there is a header.
pub type Latest = BTreeMap<IpAddr, u64>;

impl Reader {
    /// Of each host the latest complaint of which a header is kept that has no more of addresses in it than this, and
    /// which was made less than [`SAMPLE_AGE`] before `now`.
    pub fn samples(&self, addresses: KeptAddresses, now: u64) -> Result<Latest, Failure> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT complaint.id, complaint.address, complaint_header.addresses
                 FROM complaint_header JOIN complaint ON complaint.id = complaint_header.complaint
                 WHERE withdrawn_at IS NULL AND kind = ?1 AND at > ?2
                 ORDER BY at, complaint.id",
            )?;
            let since = integer(now.saturating_sub(SAMPLE_AGE));
            let mut rows = select.query(params![ComplaintKind::Spam.name(), since])?;
            let mut latest = Latest::new();
            while let Some(row) = rows.next()? {
                if kept(2, row.get(2)?)? <= addresses {
                    let address = parsed(1, row.get::<_, String>(1)?.parse())?;
                    latest.insert(address, row.get(0)?);
                }
            }
            Ok(latest)
        })
    }

    /// The header that is kept of this complaint.
    pub fn sample(&self, complaint: u64) -> Result<Option<Sample>, Failure> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT address, happened_at, addresses, domain, text
                     FROM complaint_header JOIN complaint ON id = complaint
                     WHERE complaint = ?1",
                )?
                .query_row([integer(complaint)], |row| {
                    Ok(Sample {
                        address: parsed(0, row.get::<_, String>(0)?.parse())?,
                        happened_at: row.get(1)?,
                        header: KeptHeader {
                            addresses: kept(2, row.get(2)?)?,
                            domain: row.get(3)?,
                            text: row.get(4)?,
                        },
                    })
                })
                .optional()
        })
    }
}

/// What makes the words in the places of addresses in the file at `path`; it is made with the first one.
///
/// # Errors
///
/// The file is none of ours, or cannot be written.
pub fn redaction_key(path: &Path) -> Result<[u8; 32], Unchanged> {
    personal::write(path, "make a key", |transaction| {
        if let Some(key) = known(transaction)? {
            return Ok(Ok(key));
        }
        // By SQLite's own generator, which the system's random numbers begin.
        transaction.execute("INSERT INTO complaint_key VALUES (randomblob(32))", [])?;
        known(transaction)?
            .map(Ok)
            .ok_or(rusqlite::Error::QueryReturnedNoRows)
    })
}

fn known(connection: &Connection) -> rusqlite::Result<Option<[u8; 32]>> {
    connection
        .query_row("SELECT key FROM complaint_key", [], |row| row.get(0))
        .optional()
}

/// Notes the header of a complaint that is new.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    complaint: u64,
    header: &KeptHeader,
) -> rusqlite::Result<()> {
    let KeptHeader {
        addresses,
        domain,
        text,
    } = header;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO complaint_header VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![integer(complaint), name(*addresses), domain, text])?;
    Ok(())
}

/// Forgets that of a complaint.
pub(super) fn forget(transaction: &Transaction<'_>, complaint: u64) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM complaint_header WHERE complaint = ?1",
        [integer(complaint)],
    )?;
    Ok(())
}

/// Forgets those whose time is over, and the oldest of too many.
pub(super) fn tidy(transaction: &Transaction<'_>, now: u64) -> rusqlite::Result<()> {
    let since = integer(now.saturating_sub(SAMPLE_AGE));
    transaction.execute(
        "DELETE FROM complaint_header WHERE complaint NOT IN
            (SELECT complaint FROM complaint_header JOIN complaint ON id = complaint WHERE at > ?1
             ORDER BY at DESC, id DESC LIMIT ?2)",
        params![since, MOST],
    )?;
    Ok(())
}

/// Whether there is one whose time is over.
pub(super) fn is_untidy(connection: &Connection, now: u64) -> rusqlite::Result<bool> {
    let since = integer(now.saturating_sub(SAMPLE_AGE));
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM complaint_header JOIN complaint ON id = complaint WHERE at <= ?1)",
        [since],
        |row| row.get(0),
    )
}

const NAMES: [(KeptAddresses, &str); 3] = [
    (KeptAddresses::None, "none"),
    (KeptAddresses::Domain, "domain"),
    (KeptAddresses::Full, "full"),
];

fn name(addresses: KeptAddresses) -> &'static str {
    let found = NAMES.iter().find(|(known, _)| *known == addresses);
    // What is not known is taken for the most.
    found.map_or("full", |(_, name)| *name)
}

fn kept(column: usize, text: String) -> rusqlite::Result<KeptAddresses> {
    let found = NAMES.iter().find(|(_, name)| *name == text);
    let found = found.map(|(known, _)| *known);
    parsed(
        column,
        found.ok_or_else(|| format!("{text:?} is no choice of addresses")),
    )
}

#[cfg(test)]
mod tests;
