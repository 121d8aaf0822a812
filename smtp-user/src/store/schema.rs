//! The tables of the file.
//!
//! Contract: `user_version` is the version of what is below; a file of a later one is refused, and
//! one of an earlier one is brought up to date here, in one transaction. `application_id` says that
//! the file is ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row, Statement, Transaction, TransactionBehavior, params};
use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use super::{
    Kept, Seen, Trouble, complaints, history, integer, notices, relays, samples, unix_seconds,
    verdicts,
};
use crate::model::Source;

/// The version of all tables. 1: [`TABLES`] alone; 2: history and verdicts; 3: known relays; 4:
/// complaints; 5: notices, and headers of what is complained about.
pub(super) const VERSION: i64 = 5;
/// "smfl".
pub(super) const APPLICATION: i64 = 0x736d_666c;
/// Tables whose epoch is remembered. An agent has one at a time; the others are those of earlier
/// ones, which may still be pinned somewhere.
const REMEMBERED_TABLES: i64 = 64;

/// An address is 4 bytes long if it is IPv4 and 16 if not.
const TABLES: &str = "
    CREATE TABLE ledger (since INTEGER NOT NULL, address_sum INTEGER NOT NULL) STRICT;
    CREATE TABLE account (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE epoch (
        table_id INTEGER PRIMARY KEY,
        committed INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE source (
        address BLOB PRIMARY KEY,
        connections INTEGER NOT NULL,
        syn_retx INTEGER NOT NULL,
        c2s_packets INTEGER NOT NULL,
        c2s_bytes INTEGER NOT NULL,
        s2c_packets INTEGER NOT NULL,
        s2c_bytes INTEGER NOT NULL,
        answered INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        first_seen INTEGER NOT NULL,
        last_seen INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Adds to a source that is there. A sum above 2^63 - 1 is floating point in SQLite, and `min` makes
/// it that limit.
pub(super) const UPDATE_SOURCE: &str = "
    UPDATE source SET
        connections = min(connections + ?2, 9223372036854775807),
        syn_retx = min(syn_retx + ?3, 9223372036854775807),
        c2s_packets = min(c2s_packets + ?4, 9223372036854775807),
        c2s_bytes = min(c2s_bytes + ?5, 9223372036854775807),
        s2c_packets = min(s2c_packets + ?6, 9223372036854775807),
        s2c_bytes = min(s2c_bytes + ?7, 9223372036854775807),
        answered = min(answered + ?8, 9223372036854775807),
        refused = min(refused + ?9, 9223372036854775807),
        first_seen = min(first_seen, ?10),
        last_seen = max(last_seen, ?11)
    WHERE address = ?1";

pub(super) const INSERT_SOURCE: &str =
    "INSERT INTO source VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Runs one of the two statements above; gives the number of rows that it has written.
pub(super) fn write_source(
    statement: &mut Statement<'_>,
    source: &Source,
    (first_seen, last_seen): Seen,
) -> rusqlite::Result<usize> {
    let Source { address, totals } = source;
    let Totals {
        connections,
        syn_retx,
        c2s_packets,
        c2s_bytes,
        s2c_packets,
        s2c_bytes,
        answered,
        refused,
    } = *totals;
    statement.execute(params![
        key(*address).as_ref(),
        integer(connections),
        integer(syn_retx),
        integer(c2s_packets),
        integer(c2s_bytes),
        integer(s2c_packets),
        integer(s2c_bytes),
        integer(answered),
        integer(refused),
        integer(first_seen),
        integer(last_seen),
    ])
}

const SOURCES: &str = "
    SELECT address, connections, syn_retx, c2s_packets, c2s_bytes, s2c_packets, s2c_bytes, answered,
        refused, first_seen, last_seen
    FROM source";

/// The `?1` sources that were not seen for the longest time.
pub(super) const OLDEST_SOURCES: &str = "
    SELECT address, connections, syn_retx, c2s_packets, c2s_bytes, s2c_packets, s2c_bytes, answered,
        refused, first_seen, last_seen
    FROM source ORDER BY last_seen, address LIMIT ?1";

/// The key of an address: its octets, of which an IPv4 address has four.
#[derive(Clone, Copy)]
pub(super) struct Key {
    octets: [u8; 16],
    start: usize,
}

pub(super) fn key(address: Address) -> Key {
    Key {
        octets: address.octets(),
        start: if address.is_mapped() { 12 } else { 0 },
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.octets[self.start..]
    }
}

/// What of the file is not of this version of the schema.
enum Found {
    /// There is nothing in it.
    Empty,
    /// The tables of this version, which is not later than [`VERSION`].
    Version(i64),
}

fn find(connection: &Connection) -> Result<Found, Trouble> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if version == 0 && application == 0 && tables == 0 {
        Ok(Found::Empty)
    } else if application != APPLICATION {
        Err(Trouble::Foreign(
            "is a database of another program; name another file with --store (store.path)"
                .to_owned(),
        ))
    } else if version > VERSION {
        Err(Trouble::Foreign(format!(
            "was written by a later smtpflow (its schema is {version}, this program knows {VERSION}): \
             start that version again, or name another file with --store (store.path)"
        )))
    } else if version < 1 {
        Err(Trouble::Damaged(format!("there is no schema {version}")))
    } else {
        Ok(Found::Version(version))
    }
}

/// Gives a new file its tables, and an old one those that it lacks. Returns when it was begun.
pub(super) fn prepare(connection: &mut Connection) -> Result<SystemTime, Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = match find(&transaction)? {
        Found::Empty => {
            transaction.execute_batch(TABLES)?;
            let since = integer(unix_seconds(SystemTime::now()));
            transaction.execute("INSERT INTO ledger VALUES (?1, 0)", [since])?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            1
        }
        Found::Version(version) => version,
    };
    if version < 2 {
        transaction.execute_batch(history::TABLES)?;
        transaction.execute_batch(verdicts::TABLES)?;
    }
    if version < 3 {
        transaction.execute_batch(relays::TABLES)?;
    }
    if version < 4 {
        transaction.execute_batch(complaints::TABLES)?;
    }
    if version < 5 {
        transaction.execute_batch(notices::TABLES)?;
        transaction.execute_batch(samples::TABLES)?;
    }
    if version < VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    } else {
        transaction.rollback()?;
    }
    let since: u64 = connection.query_row("SELECT since FROM ledger", [], |row| row.get(0))?;
    Ok(UNIX_EPOCH + Duration::from_secs(since.min(i64::MAX.cast_unsigned())))
}

/// Whether a file that is only read is of this version.
pub(super) fn check_version(connection: &Connection) -> Result<(), Trouble> {
    match find(connection)? {
        Found::Version(VERSION) => Ok(()),
        Found::Version(version) => Err(Trouble::Foreign(format!(
            "was written by an earlier smtpflow (its schema is {version}, this program reads \
             {VERSION}): start the agent of this version, which brings it up to date"
        ))),
        Found::Empty => Err(Trouble::Foreign(
            "is empty; name the file of an agent with --store (store.path)".to_owned(),
        )),
    }
}

/// What an address adds to the sum over all listed ones, which finds one that was changed.
pub(super) const fn address_sum(address: Address) -> u64 {
    let octets = u128::from_be_bytes(address.octets());
    // Times an odd number, so that no change of a single bit cancels out.
    let (high, low) = ((octets >> 64) as u64, octets as u64);
    high.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(low.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
}

/// Reads the sum over the addresses of all listed sources.
pub(super) fn read_address_sum(connection: &Connection) -> rusqlite::Result<u64> {
    let sum = connection.query_row("SELECT address_sum FROM ledger", [], |row| {
        row.get::<_, i64>(0)
    });
    sum.map(i64::cast_unsigned)
}

/// Writes it.
pub(super) fn write_address_sum(transaction: &Transaction<'_>, sum: u64) -> rusqlite::Result<()> {
    transaction.execute("UPDATE ledger SET address_sum = ?1", [sum.cast_signed()])?;
    Ok(())
}

/// Notes which window of these tables is in the file.
pub(super) fn note_epoch(
    transaction: &Transaction<'_>,
    table_id: u64,
    epoch: u64,
) -> rusqlite::Result<()> {
    let now = integer(unix_seconds(SystemTime::now()));
    let (table_id, epoch) = (table_id.cast_signed(), epoch.cast_signed());
    let known = transaction
        .prepare("UPDATE epoch SET committed = ?2, at = ?3 WHERE table_id = ?1")?
        .execute(params![table_id, epoch, now])?;
    if known == 0 {
        transaction.execute(
            "INSERT INTO epoch VALUES (?1, ?2, ?3)",
            params![table_id, epoch, now],
        )?;
        transaction.execute(
            "DELETE FROM epoch WHERE table_id NOT IN
                (SELECT table_id FROM epoch ORDER BY at DESC, table_id = ?1 DESC LIMIT ?2)",
            params![table_id, REMEMBERED_TABLES],
        )?;
    }
    Ok(())
}

/// Reads every source, in the order of their keys.
pub(super) fn for_each_source(
    connection: &Connection,
    mut each: impl FnMut(&Kept) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare(SOURCES)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(&kept(row)?)?;
    }
    Ok(())
}

/// One row of [`SOURCES`].
pub(super) fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let octets = row.get_ref(0)?.as_blob()?;
    let address = if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        Address::from_ipv4(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(octets) {
        Address::from_ipv6(v6)
    } else {
        return Err(rusqlite::Error::InvalidColumnType(
            0,
            "address".to_owned(),
            rusqlite::types::Type::Blob,
        ));
    };
    Ok(Kept {
        source: Source {
            address,
            totals: Totals {
                connections: row.get(1)?,
                syn_retx: row.get(2)?,
                c2s_packets: row.get(3)?,
                c2s_bytes: row.get(4)?,
                s2c_packets: row.get(5)?,
                s2c_bytes: row.get(6)?,
                answered: row.get(7)?,
                refused: row.get(8)?,
            },
        },
        first_seen: row.get(9)?,
        last_seen: row.get(10)?,
    })
}
