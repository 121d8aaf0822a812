//! Logs of mail servers as evidence: who gave how many messages to whom, and what was refused.
//!
//! ```text
//! file --follow--> octets --line--> lines --head--> time, host, program --postfix, sendmail, exim--> events
//! journal ---------------------------------------->/                          --join--> figures of each client
//! ```
//!
//! Contract: off until the operator names a log; it counts for nothing else and holds up nobody. Whatever a line
//! holds, reading it ends in a bounded time and in bounded memory, and never in a panic. What a client can put
//! into a log (greetings, mail addresses, message ids, replies, ends of lines) is never taken for what the server
//! says: fields are read from places that the server sets, and a line that could be read in two ways gives no
//! figures. Whoever may write to the log itself (`logger`, the group of the log's files) can forge lines; that
//! is the operator's to prevent.
#![forbid(unsafe_code)]

pub mod books;
mod burst;
mod event;
mod exim;
mod field;
mod figures;
pub mod follow;
mod head;
mod join;
pub mod journal;
pub mod line;
pub mod one;
mod personal;
mod postfix;
mod reason;
mod sendmail;
#[cfg(test)]
mod tests;
mod time;
pub mod watch;

use jiff::tz::TimeZone;

pub use self::burst::MANY as BURST;
use self::event::Parsed;
pub use self::event::{Reason, Status};
pub use self::figures::{Clients, Figures, Message};
use self::head::Head;
pub use self::join::{Joined, Joiner, Limits};
pub use self::personal::shown;
use self::time::{Clock, Stamp};
use crate::config;
use crate::failure::{Failure, Kind};

/// What the lines of a log were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LineCounts {
    /// All that were looked at.
    pub lines: u64,
    /// Those that say something of a message.
    pub events: u64,
    /// Other lines of mail servers.
    pub other: u64,
    /// Lines that begin like one that says something and go on as none does; they give no figures.
    pub unclear: u64,
    /// Lines of other programs.
    pub foreign: u64,
    /// Lines without a head that is known, or without a time.
    pub headless: u64,
}

/// Reads lines and keeps the figures.
#[derive(Debug)]
pub struct Reader {
    clock: Clock,
    joiner: Joiner,
    counts: LineCounts,
}

impl Reader {
    /// For logs in this zone, where they have none of their own; `now` in seconds since 1970 gives lines
    /// without a year theirs.
    pub fn new(zone: TimeZone, now: i64, limits: Limits) -> Self {
        Self {
            clock: Clock::new(zone, now),
            joiner: Joiner::new(limits),
            counts: LineCounts::default(),
        }
    }

    /// Goes on after a restart with what was counted and known before.
    pub fn resume(
        zone: TimeZone,
        now: i64,
        limits: Limits,
        (counts, mut joiner): (LineCounts, Joiner),
    ) -> Self {
        joiner.resume(limits);
        Self {
            clock: Clock::new(zone, now),
            joiner,
            counts,
        }
    }

    /// Takes out what is known of clients, and begins anew.
    pub fn turn(&mut self) -> Clients {
        self.joiner.turn()
    }

    /// From now on, lines without a year are of this time or earlier.
    pub fn set_now(&mut self, now: i64) {
        self.clock.set_reference(now);
    }

    /// Takes a line without its end.
    pub fn line(&mut self, line: &[u8]) {
        self.counts.lines += 1;
        match head::parse(line.strip_suffix(b"\r").unwrap_or(line)) {
            Some(head) => self.headed(head),
            None => self.counts.headless += 1,
        }
    }

    /// Takes an entry of the journal.
    pub fn entry(&mut self, entry: &journal::Entry) {
        self.counts.lines += 1;
        let head = Head {
            stamp: Stamp::Known(entry.time),
            host: entry.host.as_bytes(),
            program: entry.program.as_bytes(),
            message: &entry.message,
        };
        self.headed(head);
    }

    fn headed(&mut self, head: Head<'_>) {
        let parsed = if let Some(daemon) = postfix::daemon(head.program) {
            postfix::parse(daemon, head.message)
        } else if sendmail::is(head.program) {
            sendmail::parse(head.message)
        } else if exim::is(head.program) {
            exim::parse(head.message)
        } else {
            self.counts.foreign += 1;
            return;
        };
        match parsed {
            Parsed::Event(event) => match self.clock.time(head.stamp) {
                Some(time) => {
                    self.counts.events += 1;
                    self.joiner.take(time, head.host, event);
                }
                None => self.counts.headless += 1,
            },
            Parsed::Other => self.counts.other += 1,
            Parsed::Unclear => self.counts.unclear += 1,
        }
    }

    /// Ends what is open, at the end of a log.
    pub fn finish(&mut self) {
        self.joiner.finish();
    }

    /// What the lines were.
    pub const fn counts(&self) -> LineCounts {
        self.counts
    }

    /// What they say.
    pub const fn joiner(&self) -> &Joiner {
        &self.joiner
    }
}

impl From<&config::Maillog> for Limits {
    fn from(config: &config::Maillog) -> Self {
        Self {
            queue_ids: config.queue_ids as usize,
            keep_open: (config.keep_open.milliseconds() / 1000) as i64,
            sources: config.sources as usize,
            addresses: config.addresses,
        }
    }
}

/// The zone of times that have none: this one, or that of the machine.
pub fn zone(name: Option<&str>) -> Result<TimeZone, Failure> {
    match name {
        None => Ok(TimeZone::system()),
        Some(name) => {
            config::parse_time_zone(name).map_err(|text| Failure::new(Kind::BadConfig, text))
        }
    }
}
