//! The ledger and the history: what was counted, in a file. The only module that knows SQLite.
//!
//! Contract: a window is in the file as a whole or not at all, and never twice. One transaction adds
//! its account, adds its counts to those of its sources, adds what it says to history, and notes the
//! epoch of the tables that it ends; only then may the kernel's half be cleared. Whoever starts after a crash asks
//! [`Store::committed`] and knows which half is counted already. What is in the file adds up, to the
//! packet: `sources of the account = sum over the sources + untracked`; a file in which it does not
//! is damaged.
//!
//! A commit that fails (a full disk, say) loses nothing while the process lives: the counts wait in
//! memory, merged, for the next commit, within the same bound as the file's; of history, detail is left
//! out where more than `pending::ROOM` octets of it wait, and the state says so. They are lost when
//! the process is killed in that time.
//!
//! What adds up is checked at every start. History is too large for that: the file's own structure is
//! checked whole where it is at most `check::CHECKED` octets or something of it could not be read before,
//! and each chunk of history has a checksum. A chunk that is damaged is left out, loudly; damage of
//! anything else has the file set aside.
//!
//! The file is in WAL mode with `synchronous=NORMAL`: a commit survives `kill -9` without waiting for
//! the disk, since what was written is the kernel's from then on. A power loss may take the last
//! commits with it, whole windows from the end. It ends the kernel's tables as well, so nothing can be
//! counted twice by that.
//!
//! `file`: where the file is, and who may have it; `schema`: its tables; `account`: the names of the
//! counts in it; `check`: whether it is sound; `pending`: what waits; `personal`: changes by people; `relays`: known relays; `complaints`: complaints of others; `samples`: headers of what these are about; `notices`: what owners are told; `history`: what was counted when; `reader`: questions about it.
#![forbid(unsafe_code)]

mod account;
mod check;
mod complaints;
mod file;
mod history;
mod notices;
mod pass;
mod pending;
mod personal;
mod reader;
mod relays;
mod samples;
mod schema;
#[cfg(test)]
mod tests;
mod verdicts;

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior};
use smtp_common::flow::Totals;

use self::account::Account;
use self::check::{Prepared, prepare};
pub use self::complaints::{
    NewComplaints, Noted, Withdrawal, add_complaint, add_complaints, withdraw_complaint,
};
use self::file::Place;
use self::history::Run;
pub use self::history::{Clock, Coarsened, Retention, Span};
pub use self::notices::{NoticeDecision, NoticeLedger, decide_notice};
use self::pending::{LeftOut, Pending};
pub use self::personal::Unchanged;
#[cfg(test)]
pub(crate) use self::personal::hold;
pub use self::reader::Reader;
pub use self::relays::{NewRelay, RelayEnd, add_relay, end_relay};
pub use self::samples::{Latest as LatestSamples, redaction_key};
pub use self::verdicts::{PersonalChange, change_verdict};
use crate::admission::Admission;
use crate::crash;
use crate::failure::{Failure, Kind};
use crate::model::notice::NoticeState;
use crate::model::{Folded, Scope, Source, StoreState, Tally, Window};

/// The write-ahead log is moved into the file when it is longer than this.
const WAL_BYTES: u64 = 4 << 20;

/// What was kept, but for the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// When it was begun.
    pub since: SystemTime,
    /// The account of all windows in it.
    pub account: Tally,
    /// What of the account's sources is not listed.
    pub untracked: Totals,
}

/// A source as it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Address and counts.
    pub source: Source,
    /// When the first window with it began, in seconds since 1970.
    pub first_seen: u64,
    /// When the last window with it ended, in seconds since 1970.
    pub last_seen: u64,
}

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is in the file, and so is all that waited.
    Stored,
    /// It could not be written and waits in memory.
    Waiting,
    /// A window of this epoch or a later one was there already: it was not counted again.
    Again,
}

/// An open ledger.
pub struct Store {
    place: Place,
    connection: Connection,
    admission: Admission,
    /// Sources in the file.
    listed: usize,
    since: SystemTime,
    /// Which tables the last window came from.
    table_id: Option<u64>,
    /// The last epoch of these that was given to [`Store::commit`].
    last_epoch: Option<u64>,
    /// The last epoch of these that is in the file.
    committed_epoch: Option<u64>,
    pending: Pending,
    errors: u64,
    commit_duration: Option<Duration>,
    failure: Option<String>,
    clock: Clock,
    retention: Retention,
    left_out: LeftOut,
    /// Chunks of history that were found damaged.
    damage: Cell<u64>,
    /// Notices in each state, when they were counted last.
    notices: Cell<[u64; NoticeState::ALL.len()]>,
    /// Files that were set aside, when this one was opened.
    set_aside: u64,
    /// Why the last step of [`Store::tidy`] failed.
    history_failure: Option<String>,
}

impl Store {
    /// Opens the ledger at `path`, or begins one, for at most `capacity` sources. If it has more,
    /// those that were not seen for the longest time are kept as untracked from now on.
    ///
    /// A damaged file is set aside and a new one begun. That is an event in the log and no error.
    ///
    /// # Errors
    ///
    /// Another agent has the file; it is of a later version, or no file of ours; it cannot be read
    /// or made.
    pub fn open(path: &Path, capacity: u32) -> Result<Self, Failure> {
        Self::open_for(path, Vec::new(), capacity)
    }

    /// Makes the folder of a store that the agent will open as another user, with this number and that of
    /// its group.
    pub fn provide_folder(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Failure> {
        file::provide_folder(path, owner)
    }

    /// The same where these prefixes are the operator's own, whose hosts have places in reserve.
    pub fn open_for(path: &Path, local: Vec<IpNet>, capacity: u32) -> Result<Self, Failure> {
        let place = Place::take(path)?;
        let prepared = match prepare(&place, capacity as usize) {
            Ok(prepared) => prepared,
            Err(Trouble::Damaged(why)) => {
                let aside = place.set_aside(SystemTime::now())?;
                tracing::error!(
                    "the store {} is damaged ({why}): it is now {}, and a new one is begun; what it \
                     held is not in the counts from here on",
                    place.path.display(),
                    aside.display()
                );
                prepare(&place, capacity as usize)
                    .map_err(|trouble| trouble.failure(&place.path))?
            }
            Err(trouble) => return Err(trouble.failure(&place.path)),
        };
        Ok(Self::new(place, prepared, local, capacity))
    }

    /// A store in memory, which is gone when it and all its readers are dropped.
    pub fn in_memory(local: Vec<IpNet>, capacity: u32) -> Result<Self, Failure> {
        let place = Place::memory();
        let prepared =
            prepare(&place, capacity as usize).map_err(|trouble| trouble.failure(&place.path))?;
        Ok(Self::new(place, prepared, local, capacity))
    }

    fn new(place: Place, prepared: Prepared, local: Vec<IpNet>, capacity: u32) -> Self {
        let admission = Admission::new(local, capacity as usize);
        let Prepared {
            connection,
            since,
            listed,
            clock,
        } = prepared;
        Self {
            set_aside: place.count_set_aside(),
            place,
            connection,
            admission: admission.clone(),
            listed,
            since,
            table_id: None,
            last_epoch: None,
            committed_epoch: None,
            pending: Pending::new(admission),
            errors: 0,
            commit_duration: None,
            failure: None,
            clock,
            retention: Retention::default(),
            left_out: LeftOut::default(),
            damage: Cell::new(0),
            notices: Cell::default(),
            history_failure: None,
        }
    }

    /// Keeps history for this long.
    pub const fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Keeps at most so many MiB of the file's pages in memory.
    pub fn set_cache(&self, mib: u32) -> Result<(), Failure> {
        let kib = i64::from(mib) << 10;
        self.connection
            .pragma_update(None, "cache_size", -kib)
            .map_err(|error| self.unreadable(&error))
    }

    /// Makes these the operator's own prefixes, see [`Store::open_for`].
    pub fn set_local(&mut self, local: &[IpNet]) {
        self.admission.set_local(local);
        self.pending.set_local(local);
    }

    /// Whether counts wait in memory because they could not be written.
    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Where the newest window was put in time.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Reads history in this store, on a connection of its own, which may go to another thread.
    pub fn reader(&self) -> Result<Reader, Failure> {
        Reader::connect(&self.place.path, self.place.flags())
    }

    /// The last epoch of these tables that is in the file. From here on, windows of these tables
    /// are expected.
    pub fn committed(&mut self, table_id: u64) -> Result<Option<u64>, Failure> {
        let epoch = self
            .committed_epoch_of(table_id)
            .map_err(|error| self.unreadable(&error))?;
        self.table_id = Some(table_id);
        self.last_epoch = epoch;
        self.committed_epoch = epoch;
        Ok(epoch)
    }

    fn committed_epoch_of(&self, table_id: u64) -> rusqlite::Result<Option<u64>> {
        self.connection
            .prepare("SELECT committed FROM epoch WHERE table_id = ?1")?
            .query_row([table_id.cast_signed()], |row| row.get::<_, i64>(0))
            .optional()
            .map(|epoch| epoch.map(i64::cast_unsigned))
    }

    /// What is in the file: the account, and through `each` every source.
    pub fn load(&self, mut each: impl FnMut(&Kept)) -> Result<Ledger, Failure> {
        let mut read = || {
            let account = Account::read(&self.connection)?;
            schema::for_each_source(&self.connection, |kept| {
                each(kept);
                Ok(())
            })?;
            Ok(Ledger {
                since: self.since,
                account: account.tally,
                untracked: account.untracked,
            })
        };
        read().map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &rusqlite::Error) -> Failure {
        Trouble::from_sqlite(error).failure(&self.place.path)
    }

    /// Puts a window of these tables into the file, with what its flows add, and with all that waits.
    pub fn commit(&mut self, table_id: u64, window: &Window, folded: &Folded) -> Committed {
        if self.table_id != Some(table_id) {
            // Only where nobody has asked before; what cannot be read is found by the commit.
            let _ = self.committed(table_id);
        }
        if self.last_epoch.is_some_and(|last| window.epoch <= last) {
            return Committed::Again;
        }
        self.last_epoch = Some(window.epoch);
        self.table_id = Some(table_id);
        let before = Instant::now();
        let seen = seen(window);
        let span = self.clock.place(window);
        let order = history::order(&window.sources);
        let mut run = Run::new(span, window, &order, folded);
        let written = if self.pending.is_empty() {
            let delta = Delta {
                account: &window.tally,
                untracked: &Totals::default(),
                sources: &window.sources,
                order,
                seen: |_| seen,
                runs: std::slice::from_mut(&mut run),
            };
            let written = self.write(table_id, window.epoch, delta);
            if written.is_err() {
                self.pending.add(window, seen, run);
            }
            written
        } else {
            let mut pending =
                std::mem::replace(&mut self.pending, Pending::new(self.admission.clone()));
            pending.add(window, seen, run);
            let written = self.write(table_id, window.epoch, pending.delta());
            if written.is_err() {
                self.pending = pending;
            }
            written
        };
        let committed = match written {
            Ok(listed) => {
                self.listed = listed;
                self.committed_epoch = Some(window.epoch);
                self.succeeded();
                Committed::Stored
            }
            Err(error) => {
                self.failed(&error);
                let LeftOut { pairs, sources } = self.pending.coarsen(pending::ROOM);
                self.left_out.pairs += pairs;
                self.left_out.sources += sources;
                Committed::Waiting
            }
        };
        self.commit_duration = Some(before.elapsed());
        committed
    }

    /// One transaction; gives the number of sources that are in the file after it.
    fn write(
        &mut self,
        table_id: u64,
        epoch: u64,
        delta: Delta<'_, impl Fn(usize) -> Seen>,
    ) -> rusqlite::Result<usize> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut tracked = Totals::default();
        let mut untracked = *delta.untracked;

        // In the order of the file, so that each of its pages is read and written once.
        let mut missing = Vec::new();
        {
            let mut update = transaction.prepare_cached(schema::UPDATE_SOURCE)?;
            for (_, i) in delta.order {
                let source = &delta.sources[i as usize];
                let seen = (delta.seen)(i as usize);
                if schema::write_source(&mut update, source, seen)? == 0 {
                    missing.push(i);
                } else {
                    tracked.merge(&source.totals);
                }
            }
        }
        if !self
            .admission
            .admits(Scope::Remote, self.listed + missing.len())
        {
            // In the order in which they came, as in the agent's own list.
            let mut by_arrival = missing.clone();
            by_arrival.sort_unstable();
            let mut listed = self.listed;
            by_arrival.retain(|i| {
                let source = &delta.sources[*i as usize];
                let scope = self.admission.scope(source.ip());
                let admitted = self.admission.admits(scope, listed);
                if admitted {
                    listed += 1;
                } else {
                    untracked.merge(&source.totals);
                }
                admitted
            });
            missing.retain(|i| by_arrival.binary_search(i).is_ok());
        }
        {
            let mut insert = transaction.prepare_cached(schema::INSERT_SOURCE)?;
            for i in &missing {
                let source = &delta.sources[*i as usize];
                let seen = (delta.seen)(*i as usize);
                schema::write_source(&mut insert, source, seen)?;
                tracked.merge(&source.totals);
            }
        }

        if !missing.is_empty() {
            let sum = missing
                .iter()
                .fold(schema::read_address_sum(&transaction)?, |sum, i| {
                    sum.wrapping_add(schema::address_sum(delta.sources[*i as usize].address))
                });
            schema::write_address_sum(&transaction, sum)?;
        }
        let added = Account {
            tally: delta.account.clone(),
            untracked,
            tracked,
        };
        added.add_to(&transaction)?;
        schema::note_epoch(&transaction, table_id, epoch)?;
        let (retention, horizon) = (self.retention, self.clock.horizon);
        for run in delta.runs {
            history::put_run(&transaction, run, |tier| {
                horizon.saturating_sub(retention.of(tier))
            })?;
        }
        history::write_clock(&transaction, &self.clock)?;
        crash::point("mid_commit");
        transaction.commit()?;
        Ok(self.listed + missing.len())
    }

    /// Does a step of the work that need not be done before the kernel's half is cleared, some 10 ms
    /// of it: moves what was committed from the write-ahead log into the file, merges history into
    /// coarser buckets, deletes what is past its time. Says whether there is more to do now.
    pub fn tidy(&mut self) -> bool {
        if self.place.wal_bytes() > WAL_BYTES {
            let moved = self
                .connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = moved {
                self.failed(&error);
                return false;
            }
        }
        // What waits may be of a bin that is over.
        if !self.pending.is_empty() {
            return false;
        }
        let step = history::step(
            &mut self.connection,
            &self.clock,
            &self.retention,
            &self.damage,
        );
        match step {
            Ok(more) => {
                self.history_failure = None;
                more
            }
            Err(error) => {
                self.history_failed(&error);
                false
            }
        }
    }

    /// Has the next start check all of the file, if this error means that it is damaged.
    fn suspect(&self, error: &rusqlite::Error) {
        if matches!(Trouble::from_sqlite(error), Trouble::Damaged(_)) {
            // If this cannot be written either, the next start may not find the damage.
            let _ = history::suspect(&self.connection, true);
        }
    }

    fn history_failed(&mut self, error: &rusqlite::Error) {
        let text = error.to_string();
        if self.history_failure.is_none() {
            tracing::error!(
                "cannot merge the history in the store {}: {text}; nothing is lost, but the file grows \
                 until this can be done",
                self.place.path.display()
            );
            self.suspect(error);
        }
        self.history_failure = Some(text);
    }

    fn succeeded(&mut self) {
        if self.failure.take().is_some() {
            tracing::info!(
                "the store {} can be written again; nothing was lost",
                self.place.path.display()
            );
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.errors += 1;
        let text = error.to_string();
        if self.failure.is_none() {
            tracing::error!(
                "cannot write to the store {}: {text}; counts wait in memory until it can be written, \
                 and would be lost if the agent were killed: make room, or see what is wrong with \
                 the disk",
                self.place.path.display()
            );
            self.suspect(error);
        }
        self.failure = Some(text);
    }

    /// How it is.
    pub fn state(&self) -> StoreState {
        StoreState {
            path: self.place.path.clone(),
            since: self.since,
            committed_epoch: self.committed_epoch,
            errors: self.errors,
            pending_sources: self.pending.sources() as u64,
            commit_duration: self.commit_duration,
            failure: self.failure.clone(),
            pending_bytes: self.pending.octets() as u64,
            coarsened_pairs: self.left_out.pairs,
            coarsened_sources: self.left_out.sources,
            damaged_chunks: self.damage.get(),
            set_aside: self.set_aside,
            history_failure: self.history_failure.clone(),
            notices: self.notices.get(),
        }
    }
}

/// When a source was seen first and last, in seconds since 1970.
type Seen = (u64, u64);

fn seen(window: &Window) -> Seen {
    let end = window
        .started_at
        .checked_add(window.length)
        .unwrap_or(window.started_at);
    (unix_seconds(window.started_at), unix_seconds(end))
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// What a commit adds.
struct Delta<'a, S: Fn(usize) -> Seen> {
    account: &'a Tally,
    /// What of the account is in no source here.
    untracked: &'a Totals,
    /// In the order in which they came.
    sources: &'a [Source],
    order: history::Order,
    /// When the source with this index was seen.
    seen: S,
    /// For history.
    runs: &'a mut [Run],
}

/// A count as SQLite can hold it. 2^63 bytes are 29 years of 10 Gbit/s.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Why a file cannot be used.
enum Trouble {
    /// What is in it makes no sense.
    Damaged(String),
    /// It makes sense, to somebody else.
    Foreign(String),
    /// It could not be read or written.
    Sqlite(String, Kind),
}

impl Trouble {
    fn from_sqlite(error: &rusqlite::Error) -> Self {
        let text = error.to_string();
        match error {
            rusqlite::Error::SqliteFailure(code, _) => match code.code {
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(text),
                ErrorCode::PermissionDenied | ErrorCode::ReadOnly => {
                    Self::Sqlite(text, Kind::NoPermission)
                }
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                    Self::Sqlite(text, Kind::Unavailable)
                }
                // A table or a column that is not there.
                ErrorCode::Unknown => Self::Damaged(text),
                _ => Self::Sqlite(text, Kind::Failed),
            },
            // A value of another type than the schema has, or none where there has to be one.
            _ => Self::Damaged(text),
        }
    }

    fn failure(self, path: &Path) -> Failure {
        let path = path.display();
        match self {
            Self::Damaged(why) => Failure::new(
                Kind::Failed,
                format!(
                    "the store {path} is damaged: {why}; move it away, and the next start begins a \
                     new one"
                ),
            ),
            Self::Foreign(why) => Failure::new(Kind::BadConfig, format!("the store {path} {why}")),
            Self::Sqlite(why, kind) => Failure::new(
                kind,
                format!(
                    "cannot use the store {path}: {why}; name another file with --store \
                     (store.path), or run with --no-store"
                ),
            ),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::from_sqlite(&error)
    }
}
