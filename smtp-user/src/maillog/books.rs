//! What the agent knows from logs, and how far it has read them.
//!
//! Contract: figures of clients are of today and yesterday, by the days of UTC on which lines were read, and older ones
//! are forgotten. Figures, messages whose lines are still coming and positions in the logs are kept in one file, which
//! is whole or as it was: after a restart, however the last life ended, each line is in the figures once. What was
//! kept of mail addresses by an earlier choice of the operator's is forgotten with the first start after another one.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::figures::{Clients, Figures};
use super::follow::{FollowCounts, Saved, replace};
use super::join::{Joined, Joiner, Limits};
use super::journal::Entry;
use super::journal::follow::Place;
use super::{LineCounts, Reader};

/// Version of the form of the file.
const VERSION: u32 = 1;
/// The file in the folder of the operator's choice (`maillog.state`).
pub(super) const NAME: &str = "books.json";
pub(super) const DAY: i64 = 86_400;

/// See the module.
#[derive(Debug)]
pub struct Books {
    /// Days since 1970 until today.
    day: i64,
    reader: Reader,
    yesterday: Clients,
    positions: BTreeMap<PathBuf, Saved>,
    journal: Option<Place>,
    followed: FollowCounts,
}

/// The file, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    day: i64,
    positions: &'a BTreeMap<PathBuf, Saved>,
    journal: Option<&'a Place>,
    followed: FollowCounts,
    counts: LineCounts,
    joiner: &'a Joiner,
    yesterday: &'a Clients,
}

/// The file, as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    version: u32,
    day: i64,
    positions: BTreeMap<PathBuf, Saved>,
    #[serde(default)]
    journal: Option<Place>,
    followed: FollowCounts,
    counts: LineCounts,
    joiner: Joiner,
    yesterday: Clients,
}

impl Books {
    /// With nothing in them.
    pub fn new(zone: TimeZone, now: i64, limits: Limits) -> Self {
        Self {
            day: now.div_euclid(DAY),
            reader: Reader::new(zone, now, limits),
            yesterday: Clients::new(limits.sources),
            positions: BTreeMap::new(),
            journal: None,
            followed: FollowCounts::default(),
        }
    }

    /// Those in a folder; `None` if there are none.
    pub fn load(
        folder: &Path,
        zone: TimeZone,
        now: i64,
        limits: Limits,
    ) -> anyhow::Result<Option<Self>> {
        let path = folder.join(NAME);
        let what = || {
            format!(
                "cannot read what is known from mail logs in {}",
                path.display()
            )
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(what)?,
        };
        let way_out = "remove it, and the logs are read from their ends on";
        let read: Read = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{}; {way_out}", what()))?;
        let Read {
            version,
            day,
            positions,
            journal,
            followed,
            counts,
            joiner,
            mut yesterday,
        } = read;
        if version != VERSION {
            bail!(
                "{} is of version {version}, and this is {VERSION}; {way_out}",
                path.display()
            );
        }
        yesterday.resume(limits.sources, joiner.addresses(), limits.addresses);
        let mut books = Self {
            day,
            reader: Reader::resume(zone, now, limits, (counts, joiner)),
            yesterday,
            positions,
            journal,
            followed,
        };
        books.set_now(now);
        Ok(Some(books))
    }

    /// Keeps them in a folder.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let Self {
            day,
            reader,
            yesterday,
            positions,
            journal,
            followed,
        } = self;
        let written = Written {
            version: VERSION,
            day: *day,
            positions,
            journal: journal.as_ref(),
            followed: *followed,
            counts: reader.counts(),
            joiner: reader.joiner(),
            yesterday,
        };
        let path = folder.join(NAME);
        let text = serde_json::to_vec(&written).context("what is known has no form in JSON")?;
        replace(&path, &text).with_context(|| {
            format!(
                "cannot keep what is known from mail logs in {}; name a folder that the agent may write to \
                 (maillog.state)",
                path.display()
            )
        })
    }

    /// It is this second since 1970: lines are of this time or earlier, and figures of days before yesterday go.
    pub fn set_now(&mut self, now: i64) {
        self.reader.set_now(now);
        let day = now.div_euclid(DAY);
        // A clock that was set back makes no new day.
        if day <= self.day {
            return;
        }
        let before = self.reader.turn();
        self.yesterday = match day - self.day {
            1 => before,
            _ => self.reader.turn(),
        };
        self.day = day;
    }

    /// Takes a line of a log.
    pub fn line(&mut self, line: &[u8]) {
        self.reader.line(line);
    }

    /// Takes an entry of the journal.
    pub fn entry(&mut self, entry: &Entry) {
        self.reader.entry(entry);
    }

    /// How far the journal was read; `None` if it is not followed.
    pub const fn journal(&self) -> Option<&Place> {
        self.journal.as_ref()
    }

    /// All entries of the journal up to here are in the books. Whether that is news.
    pub fn set_journal(&mut self, place: Option<&Place>) -> bool {
        let is_news = self.journal.as_ref() != place;
        if is_news {
            self.journal = place.cloned();
        }
        is_news
    }

    /// How far a log was read when the books were kept.
    pub fn position(&self, log: &Path) -> Option<&Saved> {
        self.positions.get(log)
    }

    /// All lines of a log up to here are in the books. Whether that is news.
    pub fn set_position(&mut self, log: &Path, position: Saved) -> bool {
        if self.positions.get(log) == Some(&position) {
            return false;
        }
        self.positions.insert(log.to_owned(), position);
        true
    }

    /// Forgets positions in other logs than these.
    pub fn keep_logs(&mut self, logs: &[PathBuf]) {
        self.positions.retain(|log, _| logs.contains(log));
    }

    /// This happened to the logs since the last call.
    pub const fn followed(&mut self, news: &FollowCounts) {
        self.followed = self.followed.and(news);
    }

    /// What happened to the logs.
    pub const fn follow_counts(&self) -> FollowCounts {
        self.followed
    }

    /// What the lines were.
    pub const fn counts(&self) -> LineCounts {
        self.reader.counts()
    }

    /// What became of those that say something.
    pub const fn joined(&self) -> Joined {
        self.reader.joiner().joined()
    }

    /// Lines of today and yesterday about clients that there was no place for.
    pub const fn untracked(&self) -> u64 {
        self.reader.joiner().clients().untracked() + self.yesterday.untracked()
    }

    /// What is known of clients, of yesterday and today together.
    pub fn clients(&self) -> BTreeMap<IpAddr, Figures> {
        let copy = |(address, figures): (&IpAddr, &Figures)| (*address, figures.clone());
        let mut clients: BTreeMap<_, _> = self.yesterday.iter().map(copy).collect();
        for (address, figures) in self.reader.joiner().clients().iter() {
            match clients.get_mut(address) {
                Some(earlier) => earlier.merge(figures.clone()),
                None => {
                    clients.insert(*address, figures.clone());
                }
            }
        }
        clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mail::KeptAddresses;

    /// 2026-11-27T12:00:00Z.
    const NOW: i64 = 1_795_780_800;

    const LIMITS: Limits = Limits {
        queue_ids: 100,
        keep_open: 86_400,
        sources: 100,
        addresses: KeptAddresses::Full,
    };

    const BEGIN: &str = "Nov 27 10:00:00 mx postfix/smtpd[1]: 4ABCDEF123: client=x[192.0.2.1]";
    const ARRIVAL: &str = "Nov 27 10:00:00 mx postfix/qmgr[1]: 4ABCDEF123: from=<ann@example.org>, size=10, nrcpt=1 (queue active)";
    const DELIVERY: &str = "Nov 27 10:00:00 mx postfix/smtp[1]: 4ABCDEF123: to=<bob@example.net>, relay=none, delay=1, delays=1/0/0/0, dsn=2.0.0, status=sent (ok)";
    const END: &str = "Nov 27 10:00:00 mx postfix/qmgr[1]: 4ABCDEF123: removed";

    fn books() -> Books {
        Books::new(TimeZone::UTC, NOW, LIMITS)
    }

    fn again(books: &Books, now: i64, limits: Limits) -> Books {
        let folder = tempfile::tempdir().expect("a folder");
        books.save(folder.path()).expect("saved");
        Books::load(folder.path(), TimeZone::UTC, now, limits)
            .expect("read")
            .expect("books")
    }

    fn only(books: &Books) -> Figures {
        let clients = books.clients();
        assert_eq!(clients.len(), 1, "{clients:?}");
        clients.into_values().next().expect("a client")
    }

    #[test]
    fn a_message_goes_on_over_a_restart_at_any_line() {
        let lines = [BEGIN, ARRIVAL, DELIVERY, END];
        let mut whole = books();
        for line in lines {
            whole.line(line.as_bytes());
        }
        for stop in 0..=lines.len() {
            let mut books = books();
            for line in &lines[..stop] {
                books.line(line.as_bytes());
            }
            let mut books = again(&books, NOW, LIMITS);
            for line in &lines[stop..] {
                books.line(line.as_bytes());
            }
            assert_eq!(only(&books), only(&whole), "stopped after {stop} lines");
            assert_eq!(books.counts(), whole.counts());
            assert_eq!(books.joined(), whole.joined());
        }
    }

    #[test]
    fn the_place_in_the_journal_is_kept_with_what_was_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = || super::super::one::journal(folder.path()).expect("read");
        assert_eq!(kept(), None, "there are no books");
        let mut books = books();
        books.save(folder.path()).expect("saved");
        assert_eq!(kept(), None, "no journal is followed");
        let place = Place {
            since: 1_795_780_800_000_001,
            cursor: super::super::journal::cursor("s=1;i=2;b=3;m=4;t=5;x=6"),
            ended: Some(NOW),
        };
        assert!(place.cursor.is_some());
        assert!(books.set_journal(Some(&place)) && !books.set_journal(Some(&place)));
        assert_eq!(again(&books, NOW, LIMITS).journal(), Some(&place));
        books.save(folder.path()).expect("saved");
        assert_eq!(kept(), Some(place));
        // Books of an smtpflow that knew nothing of it.
        let path = folder.path().join(NAME);
        let text = std::fs::read_to_string(&path).expect("the file");
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json.as_object_mut().expect("an object").remove("journal");
        std::fs::write(&path, json.to_string()).expect("written");
        assert_eq!(kept(), None);
        let books = Books::load(folder.path(), TimeZone::UTC, NOW, LIMITS).expect("read");
        assert_eq!(books.expect("books").journal(), None);
    }

    #[test]
    fn figures_are_of_today_and_yesterday() {
        let mut books = books();
        books.line(BEGIN.as_bytes());
        books.line(ARRIVAL.as_bytes());
        books.set_now(NOW + DAY);
        assert_eq!(only(&books).messages, 1);
        // It goes on: what it does today is of the same client.
        books.line(DELIVERY.as_bytes());
        let figures = only(&books);
        assert_eq!((figures.messages, figures.sent), (1, 1));
        books.set_now(NOW + 2 * DAY);
        let figures = only(&books);
        assert_eq!((figures.messages, figures.sent), (0, 1));
        // Over a restart as well, however long it took.
        assert_eq!(only(&again(&books, NOW + 2 * DAY, LIMITS)).sent, 1);
        let later = again(&books, NOW + 5 * DAY, LIMITS);
        assert!(later.clients().is_empty());
        // A clock that goes back takes nothing away.
        books.set_now(NOW);
        assert_eq!(only(&books).sent, 1);
    }

    #[test]
    fn another_choice_of_what_is_kept_holds_for_what_was_kept_before() {
        let mut full = books();
        for line in [BEGIN, ARRIVAL, DELIVERY, END] {
            full.line(line.as_bytes());
        }
        full.set_now(NOW + DAY);
        for line in [BEGIN, ARRIVAL, DELIVERY] {
            full.line(line.as_bytes());
        }
        for (addresses, names, domains) in [
            (KeptAddresses::Full, true, true),
            (KeptAddresses::Domain, false, true),
            (KeptAddresses::None, false, false),
        ] {
            let limits = Limits {
                addresses,
                ..LIMITS
            };
            let books = again(&full, NOW + DAY, limits);
            // In the file, and so in all of memory.
            let folder = tempfile::tempdir().expect("a folder");
            books.save(folder.path()).expect("saved");
            let text = std::fs::read_to_string(folder.path().join(NAME)).expect("the file");
            assert_eq!(text.contains("ann") || text.contains("bob"), names);
            assert_eq!(text.contains("example"), domains, "{text}");
        }
    }

    #[test]
    fn what_holds_no_books_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let load = || Books::load(folder.path(), TimeZone::UTC, NOW, LIMITS);
        assert!(load().expect("none").is_none());
        books().save(folder.path()).expect("saved");
        let path = folder.path().join(NAME);
        let good = std::fs::read_to_string(&path).expect("the file");
        for text in ["", "{}", &good.replace("\"version\":1", "\"version\":2")] {
            std::fs::write(&path, text).expect("written");
            let error = format!("{:#}", load().expect_err(text));
            assert!(
                error.contains("books.json") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
