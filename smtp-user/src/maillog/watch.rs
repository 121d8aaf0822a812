//! Follows the logs that the operator names, and the journal, beside the agent.
//!
//! Contract: on a thread of its own, which is the last to get the CPU, holds no lock that another thread takes, and
//! whose end nobody waits for longer than `FAREWELL`: counting does not know of it. It ends with the agent, and
//! whatever keeps it from reading or writing is logged, at most once an hour for each log, and tried again. What it
//! knows is in its file ([`Books`]) after `SAVE` at the latest, and that is where others read it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::books::Books;
use super::figures::Figures;
use super::follow::{FollowCounts, Follower};
use super::join::Limits;
use super::journal::JournalCounts;
use super::journal::follow::{Follower as Reader, Place, Started};
use super::zone;
use crate::config;
use crate::failure::{Failure, Kind};

/// How often logs are looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what is known is kept, if there is news.
const SAVE: Duration = Duration::from_secs(10);
/// Keeping it takes no larger part of the time than this one: much is kept less often.
const SHARE: u32 = 20;
/// How often a failure that goes on is logged.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// How long the end of the agent waits for what is known to be kept.
const FAREWELL: Duration = Duration::from_secs(5);
/// How much nicer than the meter the thread is.
const NICE: i32 = 15;

/// The thread that follows logs.
pub struct Watch {
    stop: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// A thread that starts journalctl.
pub type Starting = thread::JoinHandle<Result<Started, Failure>>;

/// The journal that is followed.
struct Journal {
    reader: Reader,
    /// What happened to it, as far as it is in the books.
    counts: JournalCounts,
    gaps: u64,
}

/// A log that is followed, or will be.
struct Log {
    path: PathBuf,
    follower: Option<Follower>,
    /// What happened to it, as far as it is in the books.
    counts: FollowCounts,
    failures: Failures,
}

/// Says what fails, not too often.
#[derive(Default)]
struct Failures {
    said: Option<Instant>,
}

impl Failures {
    fn say(&mut self, text: impl FnOnce() -> String) {
        if self.said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
            tracing::error!("{}", text());
            self.said = Some(Instant::now());
        }
    }
}

/// Makes the folder for what is known, for nobody but the agent's user.
pub fn provide_folder(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if let Some((uid, gid)) = owner {
        for made in missing {
            chown(made, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

impl Watch {
    /// Starts to follow what the configuration names, with a journalctl that is being started if it names the
    /// journal; `None` if that is nothing.
    pub fn start(config: &config::Maillog, journal: Option<Starting>) -> io::Result<Option<Self>> {
        if !config.is_on() {
            return Ok(None);
        }
        let config = config.clone();
        let (stop, stopped) = mpsc::channel();
        let (ends, ended) = mpsc::channel();
        let work = move || {
            if let Err(error) = rustix::process::nice(NICE) {
                tracing::debug!("the thread that follows mail logs competes with others: {error}");
            }
            match books(&config) {
                Ok(mut books) => {
                    let journal = journal.and_then(|starting| Journal::new(starting, &mut books));
                    follow(books, &config, journal, &stopped);
                }
                Err(failure) => tracing::error!("mail logs are not followed: {failure}"),
            }
            // Nobody may be waiting.
            let _ = ends.send(());
        };
        thread::Builder::new()
            .name("maillog".to_owned())
            .spawn(work)?;
        Ok(Some(Self { stop, ended }))
    }

    /// Ends it. What it knows is kept, unless that takes too long; then it is read again at the next start.
    pub fn end(self) {
        let Self { stop, ended } = self;
        drop(stop);
        if ended.recv_timeout(FAREWELL).is_err() {
            tracing::warn!(
                "what was read from mail logs last is not kept; it is read again at the next start"
            );
        }
    }
}

/// What is known of clients by now, as it was kept last; nothing where no logs are named.
///
/// # Errors
///
/// It cannot be read.
pub fn known(config: &config::Maillog) -> Result<BTreeMap<IpAddr, Figures>, Failure> {
    if !config.is_on() {
        return Ok(BTreeMap::new());
    }
    let now = Timestamp::now().as_second();
    let zone = zone(config.time_zone.as_deref())?;
    let books = Books::load(&config.state, zone, now, Limits::from(config))?;
    Ok(books.map(|books| books.clients()).unwrap_or_default())
}

/// What was known at the end of the last life.
fn books(config: &config::Maillog) -> Result<Books, Failure> {
    let limits = Limits::from(config);
    let zone = zone(config.time_zone.as_deref())?;
    let now = Timestamp::now().as_second();
    let mut books = Books::load(&config.state, zone.clone(), now, limits)?
        .unwrap_or_else(|| Books::new(zone, now, limits));
    books.keep_logs(&config.files);
    if !config.journal {
        books.set_journal(None);
    }
    Ok(books)
}

fn follow(
    mut books: Books,
    config: &config::Maillog,
    mut journal: Option<Journal>,
    stopped: &mpsc::Receiver<()>,
) {
    let logs = config.files.iter().map(|path| Log {
        path: path.clone(),
        follower: None,
        counts: FollowCounts::default(),
        failures: Failures::default(),
    });
    let mut logs: Vec<_> = logs.collect();
    tracing::info!(
        logs = logs.len(),
        journal = journal.is_some(),
        "following mail logs"
    );
    let mut news = true;
    let mut failures = Failures::default();
    // At first at once: lines that come from now on are not to be missed.
    let mut saved: Option<(Instant, Duration)> = None;
    loop {
        books.set_now(Timestamp::now().as_second());
        let mut more = false;
        for log in &mut logs {
            more |= log.read(&mut books, &mut news);
        }
        if let Some(journal) = &mut journal {
            more |= journal.read(&mut books, &mut news);
        }
        let wait = if more { Duration::ZERO } else { PAUSE };
        let stop = !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
        let due = saved.is_none_or(|(saved, pause)| saved.elapsed() > pause);
        if news && (stop || due) {
            let begun = Instant::now();
            match books.save(&config.state) {
                Ok(()) => news = false,
                Err(error) => failures.say(|| format!("{error:#}")),
            }
            saved = Some((Instant::now(), SAVE.max(SHARE * begun.elapsed())));
        }
        if stop {
            return;
        }
    }
}

impl Journal {
    /// Waits until journalctl is started. Why it could not be is said, and where to go on stays in the books.
    fn new(starting: Starting, books: &mut Books) -> Option<Self> {
        let started = starting.join().unwrap_or_else(|_| {
            let text = "the thread that starts journalctl panicked";
            Err(Failure::new(Kind::Failed, text))
        });
        match started {
            Ok(started) => Some(Self {
                reader: Reader::new(started),
                counts: JournalCounts::default(),
                gaps: 0,
            }),
            Err(failure) => {
                tracing::error!("the journal is not followed: {failure}");
                let now = SystemTime::now();
                let place = books.journal().cloned();
                let place = Place {
                    ended: Some(Timestamp::now().as_second()),
                    ..place.unwrap_or_else(|| Place::from_now(now))
                };
                books.set_journal(Some(&place));
                None
            }
        }
    }

    /// Reads what there is by now. Whether there may be more at once.
    fn read(&mut self, books: &mut Books, news: &mut bool) -> bool {
        let more = self.reader.poll(&mut |entry| books.entry(entry));
        let (counts, gaps) = (self.reader.counts(), self.reader.gaps());
        let dropped = counts.hidden + counts.unread - self.counts.hidden - self.counts.unread;
        let happened = FollowCounts {
            gaps: gaps - self.gaps,
            dropped,
            ..FollowCounts::default()
        };
        books.followed(&happened);
        if happened.gaps > 0 {
            tracing::warn!(
                "entries of the journal are missing in the figures: it has no longer what was read last \
                 (journald.conf(5), SystemMaxUse=)"
            );
        }
        (self.counts, self.gaps) = (counts, gaps);
        *news |= books.set_journal(Some(self.reader.place()));
        more.unwrap_or_else(|how| {
            tracing::error!(
                "the journal is not followed any more: journalctl: {how}; see above what it says. Only root and the \
                 group systemd-journal may read all of the journal. What comes from now on is read when the agent is \
                 started again"
            );
            false
        })
    }
}

impl Log {
    /// Reads what there is by now. Whether there may be more at once.
    fn read(&mut self, books: &mut Books, news: &mut bool) -> bool {
        let more = self.try_read(books);
        if let Some(follower) = &self.follower {
            *news |= books.set_position(&self.path, follower.saved());
        }
        match more {
            Ok(more) => more,
            Err(error) => {
                let path = self.path.display();
                self.failures.say(|| {
                    format!(
                        "cannot read the mail log {path}: {error}; let the agent's user read it and list its folder \
                         (the group adm on Debian), or take it out of maillog.files"
                    )
                });
                false
            }
        }
    }

    fn try_read(&mut self, books: &mut Books) -> io::Result<bool> {
        let follower = match &mut self.follower {
            Some(follower) => follower,
            none => none.insert(Follower::open(&self.path, books.position(&self.path))?),
        };
        let more = follower.poll(&mut |line| books.line(line));
        let counts = follower.counts();
        let news = counts.since(&self.counts);
        self.counts = counts;
        books.followed(&news);
        if news.gaps > 0 {
            tracing::warn!(
                "lines of the mail log {} are missing in the figures: the file that holds them is gone or \
                 compressed (logrotate's delaycompress prevents that)",
                self.path.display()
            );
        }
        more
    }
}
