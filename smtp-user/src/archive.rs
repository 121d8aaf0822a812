//! What the server asks of history: readers of the store, and who is judged by which rules.
//!
//! Contract: beside the meter's thread, which alone writes counts. At most `READERS` are open; who
//! comes when all are in use waits. What could not be read is opened anew for the next one.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use crate::config::Config;
use crate::detect::{Policy, Relay};
use crate::failure::Failure;
use crate::model::verdict::Why;
use crate::report;
use crate::store::Reader;

/// Most readers at a time: each has a cache of its own and keeps one CPU busy.
const READERS: usize = 2;

/// See the module.
pub struct Archive {
    path: PathBuf,
    /// A lock that is held for one look.
    policy: RwLock<Arc<Policy>>,
    readers: Mutex<Readers>,
    returned: Condvar,
}

#[derive(Default)]
struct Readers {
    idle: Vec<Reader>,
    /// Those that are in use.
    lent: usize,
}

impl Archive {
    /// The archive of a configuration; `None` if it has no store.
    pub fn new(config: &Config) -> Option<Self> {
        config.store.enabled.then(|| Self {
            path: config.store.path.clone(),
            policy: RwLock::new(Arc::new(config.policy())),
            readers: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who is judged, and by which rules, with the known relays of the last look at the store.
    pub fn policy(&self) -> Arc<Policy> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        policy.clone()
    }

    /// Makes these the known relays of the store.
    pub fn know(&self, stored: &[Relay]) {
        // Locked all the while, so that what a reload does in between is not undone.
        let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let mut known = Policy::clone(&policy);
        known.know(stored);
        *policy = Arc::new(known);
    }

    /// Goes by this configuration from now on, with these known relays of the store.
    pub fn reload(&self, config: &Config, stored: &[Relay]) {
        let mut policy = config.policy();
        policy.know(stored);
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// Reads with one of the readers. It blocks: not for threads of the runtime.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or what `read` says.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T, Failure>) -> Result<T, Failure> {
        let (reader, _place) = self.lend();
        let reader = match reader {
            Some(reader) => reader,
            None => Reader::open(&self.path)?,
        };
        let answer = read(&reader);
        if answer.is_ok() {
            self.held().idle.push(reader);
        }
        answer
    }

    /// Why a source is flagged, or why not.
    pub fn why(&self, address: IpAddr) -> Result<Why, Failure> {
        self.read(|reader| {
            self.know(&reader.active_relays()?);
            report::why::why(reader, &self.policy(), address)
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Readers> {
        // Nothing panics while it is held.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader if one is idle, and the right to have one.
    fn lend(&self) -> (Option<Reader>, Place<'_>) {
        let mut readers = self
            .returned
            .wait_while(self.held(), |readers| readers.lent >= READERS)
            .unwrap_or_else(PoisonError::into_inner);
        readers.lent += 1;
        (readers.idle.pop(), Place(self))
    }
}

/// The right to have a reader; given back when dropped, whatever became of the reader.
struct Place<'a>(&'a Archive);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.held().lent -= 1;
        self.0.returned.notify_one();
    }
}
