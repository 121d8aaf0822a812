//! `smtpflow replay`: what a capture file holds, counted as the kernel would have.
//!
//! Contract: one report on standard output, as text or as JSON of schema 1, and every error as a
//! [`Failure`]. A file that breaks off is reported as far as it could be read, with `complete`
//! false, and is a failure all the same. Totals are those of all that was counted; `overflow` is the
//! part of them that is not in `sources`, because more than [`SOURCE_LIMIT`] addresses were seen, or
//! more in one window than [`SPILL_LIMIT`](pcap::memory::SPILL_LIMIT). A reader of standard output
//! that goes away ends the report, not in an error.

mod conduct;
mod json;
mod judged;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipnet::IpNet;
use smtp_common::counter::Skip;
use smtp_common::flow::Totals;
use smtp_common::packet::{Address, MailPorts};

use self::json::JsonReport;
use self::judged::Judged;
use crate::connections::{Connections, Follower, Limits};
use crate::detect;
use crate::distribution::{Distribution, percent};
use crate::failure::{Failure, Kind};
use crate::meter::Meter;
use crate::meter::pcap::file::Fault;
use crate::meter::pcap::{self, PcapMeter};
use crate::model::session::ClientRow;
use crate::model::{Source, Tally, Window};
use crate::report::counts;
use crate::report::distribution::range;

/// How many sources are told apart; the counts of later ones go to overflow. With that many in one
/// window, which only a flood from invented addresses has, a replay was measured to take 0.9 GB.
pub const SOURCE_LIMIT: usize = 4_000_000;

/// How many clients, pairs and connections under way are told apart: what a hash map of 2^20 places
/// takes before it grows. A replay ends, so it may take more than an agent.
const FLOW_LIMITS: usize = (1 << 20) / 8 * 7;

/// Version of the JSON report; a new field does not change it.
const SCHEMA: u32 = 1;

/// What to replay, and how to report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The capture file, pcap or pcapng.
    pub file: PathBuf,
    /// JSON, not text.
    pub json: bool,
    /// Length of a window, by capture time.
    pub window: Duration,
    /// How many sources the text shows.
    pub top: usize,
    /// Mail ports, four at most.
    pub ports: Vec<u16>,
    /// The operator's own prefixes: whose hosts are judged.
    pub local: Vec<IpNet>,
    /// How they are judged.
    pub detect: detect::Settings,
    /// Known relays among them.
    pub relays: Vec<detect::Relay>,
}

/// Replays a capture file and reports on standard output.
pub fn run(options: &Options) -> Result<(), Failure> {
    let ports = mail_ports(&options.ports)?;
    let bar = progress(&options.file);
    // Opened here and not by the meter, so that the bar sees the bytes go by.
    let file =
        File::open(&options.file).map_err(|error| pcap::fail(&options.file, &Fault::Io(error)))?;
    let mut meter = PcapMeter::new(&options.file, bar.wrap_read(file), options.window, ports)?;
    let judged = Judged::new(&options.detect, &options.local, &options.relays);
    let (account, outcome) = Account::of(&mut meter, SOURCE_LIMIT, judged);
    bar.finish_and_clear();

    let report = Report {
        file: &options.file,
        complete: outcome.is_ok(),
        distribution: Distribution::of(
            account
                .sources
                .iter()
                .map(|source| (source.totals.connections, source.totals.c2s_bytes)),
        ),
        account,
        window: options.window,
        top: options.top,
    };
    // A packet takes microseconds, a report may take seconds: worth a buffer, and one lock.
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if options.json {
        report.write_json(&mut out)
    } else {
        report.write_text(&mut out)
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(anyhow::Error::from(error)
                .context("cannot write the report to standard output")
                .into());
        }
        _ => {}
    }
    match report.account.tally.conservation_error() {
        0 => outcome,
        error => Err(Failure::new(
            Kind::Failed,
            format!(
                "the counts of {} do not add up: the conservation error is {error} and must be 0; \
                 this is a fault of smtpflow, please report it",
                options.file.display()
            ),
        )),
    }
}

/// The ports as the parser has them.
pub(crate) fn mail_ports(ports: &[u16]) -> Result<MailPorts, Failure> {
    let mut places = [0; 4];
    if ports.is_empty() || ports.len() > places.len() || ports.contains(&0) {
        return Err(Failure::new(
            Kind::Failed,
            format!("mail ports {ports:?}: give one to four, none of them 0"),
        ));
    }
    places[..ports.len()].copy_from_slice(ports);
    Ok(MailPorts::new(places))
}

/// A bar over the bytes of the file, on a terminal only.
fn progress(file: &Path) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // A pipe has no length, and gets a spinner.
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file);
    let bar = match length {
        Some(metadata) => ProgressBar::new(metadata.len()),
        None => ProgressBar::new_spinner(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
    let style = "{spinner} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// All windows of a file together.
struct Account {
    windows: u64,
    tally: Tally,
    /// By connections, then IPv4 before IPv6, then by address.
    sources: Vec<Source>,
    follower: Follower,
    connections: Connections,
    judged: Judged,
}

impl Account {
    /// Reads a meter to its end, and says how that was.
    fn of(
        meter: &mut impl Meter,
        source_limit: usize,
        judged: Judged,
    ) -> (Self, Result<(), Failure>) {
        let limits = Limits {
            connections: FLOW_LIMITS,
            pairs: FLOW_LIMITS,
            clients: FLOW_LIMITS,
            // Nobody asks for single connections here.
            recent: 0,
            servers: FLOW_LIMITS,
            ..Limits::default()
        };
        let mut account = Self {
            windows: 0,
            tally: Tally::default(),
            sources: Vec::new(),
            follower: Follower::new(&limits),
            connections: Connections::new(limits),
            judged,
        };
        // The sources stand in a vector, which is sorted in place later; only places are hashed.
        let mut places = HashMap::new();
        let outcome = loop {
            match meter.window() {
                Ok(Some(window)) => {
                    account.add(&window, &mut places, source_limit);
                    if let Err(failure) = meter.release() {
                        break Err(failure);
                    }
                }
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        drop(places);
        account.connections.finish(&account.follower.finish());
        account.judged.finish();
        account.sources.sort_unstable_by_key(|source| {
            let address = (!source.address.is_mapped(), source.address.octets());
            (Reverse(source.totals.connections), address)
        });
        (account, outcome)
    }

    fn add(&mut self, window: &Window, places: &mut HashMap<Address, u32>, source_limit: usize) {
        self.windows += 1;
        let followed = self.follower.follow(window);
        self.connections.add(window, &followed);
        self.judged.add(window, &followed.folded);
        // The sums are made anew from what is kept, so that the conservation law covers this step.
        self.tally.merge(&Tally {
            sources: Totals::default(),
            ..window.tally.clone()
        });
        for source in &window.sources {
            match places.entry(source.address) {
                Entry::Occupied(place) => {
                    let kept = &mut self.sources[*place.get() as usize];
                    kept.totals.merge(&source.totals);
                }
                Entry::Vacant(place) if self.sources.len() < source_limit => {
                    // Below SOURCE_LIMIT, so 32 bits hold it.
                    place.insert(self.sources.len() as u32);
                    self.sources.push(*source);
                }
                Entry::Vacant(_) => {
                    self.tally.overflow.merge(&source.totals);
                    continue;
                }
            }
            self.tally.sources.merge(&source.totals);
        }
    }

    /// What a source did as a client.
    fn client(&self, source: &Source) -> ClientRow {
        self.connections.client(source.address)
    }

    /// What sources and overflow have together.
    fn totals(&self) -> Totals {
        let mut totals = self.tally.sources;
        totals.merge(&self.tally.overflow);
        totals
    }
}

/// What is reported.
struct Report<'a> {
    file: &'a Path,
    complete: bool,
    account: Account,
    distribution: Distribution,
    window: Duration,
    top: usize,
}

impl Report<'_> {
    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &JsonReport::from(self))?;
        writeln!(out)
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Account {
            windows,
            tally,
            sources,
            follower: _,
            connections: _,
            judged,
        } = &self.account;
        let totals = self.account.totals();
        writeln!(
            out,
            "{}: {} frames, {} segments, {windows} windows of {:?} with traffic",
            self.file.display(),
            tally.frames,
            tally.segments(),
            self.window
        )?;
        writeln!(
            out,
            "complete: {}",
            if self.complete {
                "yes"
            } else {
                "NO, see the error"
            }
        )?;
        if tally.conservation_error() != 0 {
            writeln!(
                out,
                "CONSERVATION ERROR {}: THESE COUNTS ARE WRONG",
                tally.conservation_error()
            )?;
        }

        writeln!(out, "\ntotals")?;
        for (name, count) in counts::totals(&totals) {
            writeln!(out, "  {name:<12} {count:>16}")?;
        }
        if tally.overflow.packets() != 0 {
            writeln!(
                out,
                "  of these, {} packets and {} bytes are of sources that found no place",
                tally.overflow.packets(),
                tally.overflow.bytes()
            )?;
        }

        if tally.all_skipped() != 0 {
            writeln!(out, "\nskipped frames")?;
        }
        for skip in Skip::ALL {
            let count = tally.skipped(skip);
            if count != 0 {
                writeln!(out, "  {:<20} {count:>16}  {}", skip.name(), skip.meaning())?;
            }
        }

        if !sources.is_empty() {
            let mut top: Vec<&Source> = sources.iter().collect();
            // Stable, so that the address decides at last.
            top.sort_by_key(|source| Reverse((source.totals.connections, source.totals.packets())));
            top.truncate(self.top);
            write_sources(out, &top, sources.len())?;
            self.write_clients(out, &top)?;
        }
        self.write_distribution(out)?;
        judged.write_text(out)
    }

    /// What became of the connections of those that had flows as clients.
    fn write_clients(&self, out: &mut impl Write, top: &[&Source]) -> io::Result<()> {
        let summary = self.account.connections.summary();
        let refused = self.account.tally.flows.refused_packets;
        if refused != 0 {
            writeln!(
                out,
                "\n{refused} segments found no place in the table of flows"
            )?;
        }
        let clients = top.iter().map(|source| {
            let ClientRow { sessions, servers } = self.account.client(source);
            conduct::Row {
                client: source.ip().to_string(),
                sessions,
                servers: Some(servers),
            }
        });
        let all = conduct::Row {
            client: "all".to_owned(),
            sessions: summary.sessions,
            servers: None,
        };
        let rows: Vec<_> = clients
            .filter(|row| row.servers.is_some_and(|servers| servers.count != 0))
            .chain([all])
            .collect();
        writeln!(
            out,
            "\nwhat became of connections: {}, visibility {}",
            summary.sessions.connections(),
            conduct::visibility(summary.sessions.outcomes)
        )?;
        conduct::write(out, &rows)
    }

    fn write_distribution(&self, out: &mut impl Write) -> io::Result<()> {
        let table = &self.distribution;
        writeln!(
            out,
            "\nsources by their connections: {} sources that opened any, {} connections, {} c2s bytes",
            table.items, table.connections, table.bytes
        )?;
        writeln!(
            out,
            "  {:<12} {:>10} {:>9} {:>12} {:>16} {:>9} {:>12}",
            "connections", "sources", "share", "connections", "c2s bytes", "share", "cumulative"
        )?;
        for row in &table.rows {
            let range = range(row);
            writeln!(
                out,
                "  {range:<12} {:>10} {:>8}% {:>12} {:>16} {:>8}% {:>11}%",
                row.items,
                percent(row.items, table.items),
                row.connections,
                row.bytes,
                percent(row.bytes, table.bytes),
                percent(row.cumulative_items, table.items),
            )?;
        }
        Ok(())
    }
}

fn write_sources(out: &mut impl Write, top: &[&Source], all: usize) -> io::Result<()> {
    writeln!(
        out,
        "\nsources: {} of {all}, by connections, then by packets",
        top.len()
    )?;
    let ips: Vec<String> = top.iter().map(|source| source.ip().to_string()).collect();
    let width = ips.iter().map(String::len).max().unwrap_or(0).max(7);
    write!(out, "  {:<width$}", "address")?;
    for (name, _) in counts::totals(&Totals::default()) {
        write!(out, " {name:>12}")?;
    }
    writeln!(out)?;
    for (source, ip) in top.iter().zip(&ips) {
        write!(out, "  {ip:<width$}")?;
        for (_, count) in counts::totals(&source.totals) {
            write!(out, " {count:>12}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
