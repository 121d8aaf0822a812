//! Changes by people, in the file of an agent that may be running.
//!
//! Contract: beside the agent, on a connection of its own; a change is in the file as a whole or not at
//! all. It waits no longer than [`BUSY`] for the agent to end a commit. The agent takes it over when it
//! sees that the file has changed.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::{Trouble, schema};
use crate::failure::{Failure, Kind};

/// How long a person's change waits for the agent to end a commit.
const BUSY: Duration = Duration::from_secs(5);

/// Why a person's change was not made.
#[derive(Debug)]
pub enum Unchanged {
    /// What was to be changed is not there.
    Absent(String),
    /// It cannot follow on what is there.
    Conflict(String),
    /// A value cannot be kept.
    Invalid(String),
    /// The file cannot be written, or none of ours.
    Store(Failure),
}

impl From<Unchanged> for Failure {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Absent(text) => Self::new(Kind::Failed, text),
            Unchanged::Conflict(text) | Unchanged::Invalid(text) => Self::new(Kind::Usage, text),
            Unchanged::Store(failure) => failure,
        }
    }
}

/// Does `work` in one transaction on the file at `path`, which is rolled back if that refuses; `what`
/// says in an error what could not be done.
pub(super) fn write<T>(
    path: &Path,
    what: &str,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T, Unchanged>>,
) -> Result<T, Unchanged> {
    let mut connection = open(path).map_err(Unchanged::Store)?;
    let written = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answer = work(&transaction)?;
        if answer.is_ok() {
            transaction.commit()?;
        }
        Ok(answer)
    };
    written().unwrap_or_else(|error: rusqlite::Error| {
        let (kind, way_out) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => (
                Kind::Unavailable,
                "; the agent or somebody else is writing to it: try again",
            ),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (Kind::NoPermission, ""),
            _ => (Kind::Failed, ""),
        };
        Err(Unchanged::Store(Failure::new(
            kind,
            format!(
                "cannot {what} in the store {}: {error}{way_out}",
                path.display()
            ),
        )))
    })
}

/// Opens the file of an agent that may be running, to write to it.
fn open(path: &Path) -> Result<Connection, Failure> {
    let failure = |kind: Kind, why: String| {
        Failure::new(
            kind,
            format!(
                "cannot open the store {}: {why}; name the agent's file with --store (store.path)",
                path.display()
            ),
        )
    };
    // SQLite says no more than that it cannot.
    if let Err(error) = std::fs::File::options().read(true).write(true).open(path) {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Kind::NoPermission,
            _ => Kind::Failed,
        };
        return Err(failure(kind, error.to_string()));
    }
    let opened = || {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_NOFOLLOW
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;")?;
        Ok(connection)
    };
    let connection =
        opened().map_err(|error: rusqlite::Error| Trouble::from_sqlite(&error).failure(path))?;
    schema::check_version(&connection).map_err(|trouble| trouble.failure(path))?;
    Ok(connection)
}

/// Holds the file so that nobody else can write to it, until the answer is dropped.
#[cfg(test)]
pub(crate) fn hold(path: &Path) -> impl Drop + use<> {
    struct Held(Connection);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.execute_batch("ROLLBACK").expect("given back");
        }
    }
    let connection = open(path).expect("a store");
    connection.execute_batch("BEGIN IMMEDIATE").expect("held");
    Held(connection)
}
