//! Opens the file and checks that it adds up.
//!
//! Contract: what is opened has all tables of this version, and its sources add up to what it says of
//! them all. Damage is told from what is wrong otherwise, as only a damaged file is set aside.

use std::time::SystemTime;

use rusqlite::{Connection, TransactionBehavior};
use smtp_common::flow::Totals;

use super::account::{self, Account};
use super::file::Place;
use super::history::{self, Clock};
use super::{Trouble, integer, schema};

/// A file up to this length is checked whole at every start, which takes about a second.
pub(super) const CHECKED: u64 = 256 << 20;

/// A file that can be used.
pub(super) struct Prepared {
    pub(super) connection: Connection,
    pub(super) since: SystemTime,
    /// Sources in it.
    pub(super) listed: usize,
    pub(super) clock: Clock,
}

/// Opens the file, gives it the tables that it lacks, and checks that it adds up.
pub(super) fn prepare(place: &Place, capacity: usize) -> Result<Prepared, Trouble> {
    let mut connection = place.connect()?;
    let since = schema::prepare(&mut connection)?;
    let listed = check(&connection, place.bytes())?;
    if listed > capacity {
        unlist(&mut connection, listed - capacity)?;
    }
    let clock = history::read_clock(&connection)?;
    Ok(Prepared {
        connection,
        since,
        listed: listed.min(capacity),
        clock,
    })
}

/// Checks the structure of the file: all of it, or of a large one all but the chunks of history.
pub(super) fn check_structure(connection: &Connection, bytes: u64) -> Result<(), Trouble> {
    let quick_check = |what: &str| {
        let verdict: String =
            connection.query_row(&format!("PRAGMA quick_check({what})"), [], |row| row.get(0))?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(Trouble::Damaged(verdict))
        }
    };
    let suspect = history::is_suspect(connection)?;
    if bytes <= CHECKED || suspect {
        quick_check("1")?;
        if suspect {
            history::suspect(connection, false)?;
        }
        return Ok(());
    }
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'chunk'")?;
    let names: rusqlite::Result<Vec<String>> = tables.query_map([], |row| row.get(0))?.collect();
    names?.iter().try_for_each(|name| quick_check(name))
}

/// Checks the file, and counts its sources.
fn check(connection: &Connection, bytes: u64) -> Result<usize, Trouble> {
    check_structure(connection, bytes)?;
    let account = Account::read(connection)?;
    let (mut listed, mut sum, mut address_sum) = (0, Totals::default(), 0_u64);
    schema::for_each_source(connection, |kept| {
        listed += 1;
        sum.merge(&kept.source.totals);
        address_sum = address_sum.wrapping_add(schema::address_sum(kept.source.address));
        Ok(())
    })?;
    if sum != account.tracked || address_sum != schema::read_address_sum(connection)? {
        return Err(Trouble::Damaged(
            "its sources do not add up to what it says of them all".to_owned(),
        ));
    }
    Ok(listed)
}

/// Takes sources that were not seen for the longest time off the list.
fn unlist(connection: &mut Connection, number: usize) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut sum = Totals::default();
    let mut keys = Vec::new();
    {
        let mut select = transaction.prepare(schema::OLDEST_SOURCES)?;
        let mut rows = select.query([integer(number as u64)])?;
        while let Some(row) = rows.next()? {
            let kept = schema::kept(row)?;
            keys.push(kept.source.address);
            sum.merge(&kept.source.totals);
        }
        let mut delete = transaction.prepare("DELETE FROM source WHERE address = ?1")?;
        for address in &keys {
            delete.execute([schema::key(*address).as_ref()])?;
        }
    }
    let address_sum = keys
        .iter()
        .fold(schema::read_address_sum(&transaction)?, |sum, address| {
            sum.wrapping_sub(schema::address_sum(*address))
        });
    schema::write_address_sum(&transaction, address_sum)?;
    account::unlist(&transaction, &sum)?;
    transaction.commit()?;
    tracing::warn!(
        "the store lists {number} sources more than history.sources allows: those that were not \
         seen for the longest time are untracked from now on"
    );
    Ok(())
}
