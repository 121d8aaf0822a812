//! Complaints about own hosts, as others write them: mail with a report in it (ARF, RFC 5965, or XARF
//! version 4), alone, in a maildir or in an mbox; XARF alone; CSV.
//!
//! Contract: what is read was written by anybody, so all of it is bounded: octets of a message, messages,
//! complaints, what is remembered of those that were refused. Nothing is guessed: who is reported says
//! the report, never a line of a mail's header that passed through strangers. What cannot be read is
//! refused, with its place and why, and ends nothing else. No address of a person and no text of a
//! message is kept, but for the header of the message that a complaint is about, where the operator has chosen
//! that ([`Keep`]).
//!
//! `mail`: a message, with `arf` and `xarf` inside; `header`: that of the message that it is about; `csv`: a table;
//! `mbox` and `maildir`: many messages; `source`: which of all these a file is.
#![forbid(unsafe_code)]

mod arf;
mod csv;
mod header;
mod mail;
mod maildir;
mod mbox;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod xarf;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

pub use self::header::Keep;
pub use self::settings::{KeptMessages, Settings};
pub use self::source::{STANDARD_INPUT, read, stream};
use crate::model::complaint::{Complaint, ComplaintKind};
use crate::model::sample::{KeptHeader, SAMPLE_AGE};

/// Most octets of a message that are looked at: a report stands before what it is about.
const MAX_MESSAGE: usize = 1 << 20;
/// Most complaints, and most messages, of one import.
const MAX_ITEMS: usize = 100_000;
/// Refusals that are told one by one.
const MAX_REFUSALS: usize = 100;
/// Most characters of why something was refused.
const MAX_WHY: usize = 200;
/// Most headers of one import: the first ones give way to others.
const MAX_HEADERS: usize = 1000;

/// Why something is no complaint that can be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which file, and which message or line of it.
    pub place: String,
    /// Why.
    pub why: String,
}

/// What is read, from wherever it comes.
#[derive(Debug)]
pub struct Intake {
    now: u64,
    local: Vec<IpNet>,
    /// Messages, reports and lines that were looked at.
    seen: usize,
    keep: Option<Keep>,
    complaints: Vec<Complaint>,
    headers: BTreeMap<usize, KeptHeader>,
    refusals: Vec<Refusal>,
    refused: u64,
}

/// What was read.
#[derive(Debug)]
pub struct Taken {
    /// The complaints, in their order.
    pub complaints: Vec<Complaint>,
    /// Of those that have one that is kept, by their place among the complaints, the header of the message that they are
    /// about.
    pub headers: BTreeMap<usize, KeptHeader>,
    /// What was refused, as far as it is told one by one.
    pub refusals: Vec<Refusal>,
    /// How much was refused.
    pub refused: u64,
}

impl Intake {
    /// For complaints that are made by `now`, in milliseconds since 1970, about hosts inside these
    /// prefixes, or about any where there are none.
    pub fn new(now: u64, local: &[IpNet]) -> Self {
        Self {
            now,
            local: local.to_vec(),
            seen: 0,
            keep: None,
            complaints: Vec::new(),
            headers: BTreeMap::new(),
            refusals: Vec::new(),
            refused: 0,
        }
    }

    /// Keeps headers of messages that are complained about as well, as this says.
    pub fn keeping(mut self, keep: Option<Keep>) -> Self {
        self.keep = keep;
        self
    }

    /// What was read.
    pub fn done(self) -> Taken {
        Taken {
            complaints: self.complaints,
            headers: self.headers,
            refusals: self.refusals,
            refused: self.refused,
        }
    }

    /// Whether there is no room for another item.
    fn is_full(&self) -> bool {
        self.seen >= MAX_ITEMS
    }

    /// Reads a message at a place, and takes what it says.
    fn take_mail(&mut self, place: &dyn Fn() -> String, message: &[u8]) {
        let (complaint, header) = match mail::read(message, self.keep.as_ref()) {
            Ok((complaint, header)) => (Ok(complaint), header),
            Err(why) => (Err(why), None),
        };
        let before = self.complaints.len();
        self.take(place, complaint);
        let Some((taken, header)) = self.complaints.get(before).zip(header) else {
            return;
        };
        let is_new = taken.at.saturating_add(SAMPLE_AGE) > self.now;
        if taken.kind != ComplaintKind::Spam || !is_new {
            return;
        }
        self.headers.insert(before, header);
        if self.headers.len() > MAX_HEADERS {
            self.headers.pop_first();
        }
    }

    /// Takes what was read at a place.
    fn take(&mut self, place: &dyn Fn() -> String, read: Result<Complaint, String>) {
        self.seen += 1;
        let own = |complaint: Complaint| match self.is_own(complaint.address) {
            true => Ok(complaint),
            false => Err(format!(
                "{} is none of your hosts (networks.local)",
                complaint.address
            )),
        };
        match read
            .and_then(|complaint| complaint.checked(self.now))
            .and_then(own)
        {
            Ok(complaint) => self.complaints.push(complaint),
            Err(why) => self.refuse(place(), &why),
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.local.is_empty() || self.local.iter().any(|own| own.contains(&address))
    }

    fn refuse(&mut self, place: String, why: &str) {
        self.refused += 1;
        if self.refusals.len() < MAX_REFUSALS {
            let why = why.chars().take(MAX_WHY).collect();
            self.refusals.push(Refusal { place, why });
        }
    }
}
