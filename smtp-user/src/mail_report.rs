//! `smtpflow maillog`: what log files say of each client, once and to the end, or what the agent knows from those that
//! it follows.
//!
//! Contract: files are read in the order in which they are named, each line once; what is printed is the same
//! whatever they hold, and nothing in it can end a line of it or drive a terminal. A year that a file does not tell is
//! that of its last change.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::counted::counted;
use crate::failure::{Failure, Kind};
use crate::maillog::books::Books;
use crate::maillog::journal::{Journal, JournalCounts};
use crate::maillog::line::Lines;
use crate::maillog::{Figures, Joined, Limits, LineCounts, Reader, Reason};
use crate::report::document::{Document, Form, Table, number, text};
use crate::report::mail_log::{JsonClient, at};

/// Version of the JSON; a new field does not change it.
const SCHEMA: u32 = 1;
/// Octets of one read.
const CHUNK: usize = 256 * 1024;

/// What to read, and how to report it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files, the oldest first.
    pub files: Vec<PathBuf>,
    /// The entries of the facility mail in the journal of systemd, in place of files.
    pub journal: bool,
    /// The folder of what the agent knows (`maillog.state`), in place of files.
    pub followed: Option<PathBuf>,
    /// This client alone, with its latest messages.
    pub address: Option<IpAddr>,
    /// JSON, not text.
    pub json: bool,
    /// How many clients the text names.
    pub top: usize,
    /// What is kept.
    pub limits: Limits,
    /// The zone of times that have none.
    pub zone: TimeZone,
}

/// Reads the files, or what the agent knows, and makes the report.
pub fn run(options: &Options) -> Result<String, Failure> {
    let known = match &options.followed {
        Some(folder) => of_agent(folder, options)?,
        None if options.journal => of_journal(options)?,
        None => of_files(options)?,
    };
    let report = Report::new(known, options.address);
    match options.json {
        true => serde_json::to_string_pretty(&report)
            .map(|text| text + "\n")
            .map_err(|error| Failure::new(Kind::Failed, format!("cannot write JSON: {error}"))),
        false => Ok(report.text(options)),
    }
}

/// What a report is made from.
struct Known {
    lines: LineCounts,
    too_long: u64,
    /// Times at which lines were lost, as what held them was gone.
    gaps: u64,
    /// Since when the agent does not follow the journal any more, in seconds since 1970.
    journal_ended: Option<i64>,
    joined: Joined,
    untracked: u64,
    clients: BTreeMap<IpAddr, Figures>,
}

fn of_agent(folder: &Path, options: &Options) -> Result<Known, Failure> {
    let now = Timestamp::now().as_second();
    let books = Books::load(folder, options.zone.clone(), now, options.limits);
    let books = books.map_err(|error| {
        let denied = |cause: &(dyn std::error::Error + 'static)| {
            let error = cause.downcast_ref::<std::io::Error>();
            error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        let kind = match error.chain().any(denied) {
            true => Kind::NoPermission,
            false => Kind::Failed,
        };
        Failure::new(kind, format!("{error:#}"))
    })?;
    let books = books.ok_or_else(|| {
        let text = format!(
            "the agent has kept nothing from mail logs in {} yet: name logs in maillog.files, or set \
             maillog.journal = true, and start it, or name files here",
            folder.display()
        );
        Failure::new(Kind::Unavailable, text)
    })?;
    let followed = books.follow_counts();
    Ok(Known {
        lines: books.counts(),
        too_long: followed.dropped,
        gaps: followed.gaps,
        journal_ended: books.journal().and_then(|place| place.ended),
        joined: books.joined(),
        untracked: books.untracked(),
        clients: books.clients(),
    })
}

fn of_files(options: &Options) -> Result<Known, Failure> {
    let mut reader = Reader::new(options.zone.clone(), 0, options.limits);
    let mut dropped = 0;
    for path in &options.files {
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Kind::NoPermission,
                _ => Kind::Failed,
            };
            let text = format!(
                "cannot read the log {}: {error}; name a file of a mail server that you may read",
                path.display()
            );
            Failure::new(kind, text)
        };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A pipe has no time of change that says anything; its lines are of today.
        let now = match metadata.is_file() {
            true => metadata.mtime(),
            false => Timestamp::now().as_second(),
        };
        reader.set_now(now);
        let mut lines = Lines::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match file.read(&mut chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                count => count.map_err(failed)?,
            };
            if count == 0 {
                break;
            }
            lines.push(&chunk[..count], |line| reader.line(line));
        }
        lines.finish(|line| reader.line(line));
        dropped += lines.dropped();
    }
    Ok(known(reader, dropped))
}

fn of_journal(options: &Options) -> Result<Known, Failure> {
    let mut reader = Reader::new(options.zone.clone(), 0, options.limits);
    let mut journal = Journal::start()?;
    while let Some(entry) = journal
        .next_entry()
        .context("cannot read what journalctl says")?
    {
        reader.entry(&entry);
    }
    let JournalCounts { hidden, unread, .. } = journal.counts();
    journal.end()?;
    Ok(known(reader, hidden + unread))
}

/// What a reader has come to know at the end.
fn known(mut reader: Reader, too_long: u64) -> Known {
    reader.finish();
    Known {
        lines: reader.counts(),
        too_long,
        gaps: 0,
        journal_ended: None,
        joined: reader.joiner().joined(),
        untracked: reader.joiner().clients().untracked(),
        clients: reader.turn().into_map(),
    }
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    lines: LineCounts,
    /// Lines of more octets than are read, and entries of the journal that cannot be read.
    too_long: u64,
    /// Times at which the agent lost lines, as the file that held them was gone, or the journal had them no longer.
    gaps: u64,
    /// Since when the agent does not follow the journal any more, as its journalctl has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_ended: Option<String>,
    joined: Joined,
    /// Lines about clients that there was no place for.
    untracked: u64,
    clients: Vec<JsonClient>,
}

impl Report {
    fn new(known: Known, address: Option<IpAddr>) -> Self {
        let mut rows: Vec<_> = known
            .clients
            .into_iter()
            .filter(|(addr, _)| address.is_none_or(|wanted| wanted.to_canonical() == *addr))
            .map(|(addr, figures)| JsonClient::new(addr, figures))
            .collect();
        rows.sort_by_key(|row| (Reverse(row.messages + row.rejected), row.addr));
        Self {
            schema: SCHEMA,
            lines: known.lines,
            too_long: known.too_long,
            gaps: known.gaps,
            journal_ended: known.journal_ended.map(at),
            joined: known.joined,
            untracked: known.untracked,
            clients: rows,
        }
    }

    fn text(&self, options: &Options) -> String {
        let LineCounts {
            lines,
            events,
            other,
            unclear,
            foreign,
            headless,
        } = self.lines;
        let mut notes = vec![
            format!(
                "{lines} lines: {events} say something of a message, {other} are others of mail servers, {foreign} \
                 of other programs, {headless} have no head or no time, {unclear} are unclear"
            ),
            format!(
                "{} of {}; {} of messages whose client is not in the log",
                counted(self.joined.messages, "message"),
                counted(self.clients.len() as u64, "client"),
                counted(self.joined.without_client, "line")
            ),
        ];
        if self.gaps > 0 {
            notes.push(format!(
                "lines are missing: {} times the file that held them was gone or compressed, or the journal had them \
                 no longer",
                self.gaps
            ));
        }
        if let Some(since) = &self.journal_ended {
            notes.push(format!(
                "the journal is not followed since {since}: journalctl has ended, and the agent's log says how; what \
                 has come since is read when the agent is started again"
            ));
        }
        if self.too_long + self.untracked + self.joined.evicted + self.joined.expired > 0 {
            notes.push(format!(
                "not all was told apart: {} lines too long, {} lines of clients beyond the limit, {} messages that \
                 gave way, {} that were open for too long",
                self.too_long, self.untracked, self.joined.evicted, self.joined.expired
            ));
        }
        let mut clients = Table {
            name: "clients",
            title: "Clients, those with the most messages and refusals first".to_owned(),
            columns: vec![
                text("client"),
                number("messages"),
                number("recipients"),
                number("sent"),
                number("deferred"),
                number("bounced"),
                number("rejected"),
                number("virus"),
                number("forged"),
                number("bursts"),
                number("longest"),
                text("last"),
            ],
            ..Table::default()
        };
        for row in self.clients.iter().take(options.top) {
            let virus = row
                .rejects
                .iter()
                .find(|one| one.reason == Reason::Virus.name());
            clients.rows.push(vec![
                row.addr.to_string(),
                row.messages.to_string(),
                row.recipients.to_string(),
                row.sent.to_string(),
                row.deferred.to_string(),
                row.bounced.to_string(),
                row.rejected.to_string(),
                virus.map_or(0, |one| one.count).to_string(),
                row.may_be_forged.to_string(),
                row.bursts.to_string(),
                row.longest_burst.to_string(),
                row.last.clone(),
            ]);
        }
        if self.clients.len() > options.top {
            let more = self.clients.len() - options.top;
            clients
                .notes
                .push(format!("{more} more: --top N shows them, --json all"));
        }
        let mut tables = vec![clients];
        if options.address.is_some()
            && let [row] = self.clients.as_slice()
        {
            let rejects = row.rejects.iter();
            tables.push(Table {
                name: "rejects",
                title: "What was refused".to_owned(),
                columns: vec![text("reason"), number("count")],
                rows: rejects
                    .map(|one| vec![one.reason.to_owned(), one.count.to_string()])
                    .collect(),
                ..Table::default()
            });
            tables.push(latest(row));
        }
        let document = Document {
            title: "Mail logs".to_owned(),
            notes,
            tables,
        };
        document.render(Form::Text)
    }
}

fn latest(row: &JsonClient) -> Table {
    let rows = row.latest.iter().map(|message| {
        let size = message
            .size
            .map_or_else(String::new, |size| size.to_string());
        let relay = message
            .relay
            .map_or_else(String::new, |relay| relay.to_string());
        vec![
            at(i64::try_from(message.time).unwrap_or(i64::MAX)),
            message.queue_id.clone(),
            message.sender.clone().unwrap_or_default(),
            message.recipients.join(" "),
            message.recipient_count.to_string(),
            size,
            message.sent.to_string(),
            message.deferred.to_string(),
            message.bounced.to_string(),
            relay,
            message.rejected.unwrap_or_default().to_owned(),
        ]
    });
    Table {
        name: "latest",
        title: "Its latest messages".to_owned(),
        columns: vec![
            text("time"),
            text("queue_id"),
            text("sender"),
            text("first_recipients"),
            number("recipients"),
            number("bytes"),
            number("sent"),
            number("deferred"),
            number("bounced"),
            text("given_to"),
            text("rejected"),
        ],
        rows: rows.collect(),
        ..Table::default()
    }
}
