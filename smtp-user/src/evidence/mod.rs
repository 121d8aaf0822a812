//! `smtpflow evidence`: what is known of a host with a verdict, in a folder that can be handed on.
//!
//! Contract: it reads the store, the report of the host's last relay test, and files that the operator names;
//! nothing is changed, and nobody is asked but the sources of owners that he has configured. The folder is made anew, for its owner alone, and is there whole or not at
//! all. Every file in it but [`SUMS`] stands there with its SHA-256. What is not in it is named, with why. Nothing of the
//! content of mail is in it, but for what logs say, as far as the operator keeps it (`maillog.addresses`). What a
//! capture or a log holds ends in bounded memory and a bounded folder: see `capture` and `mail_report`.
#![forbid(unsafe_code)]

mod capture;
mod desk;
mod filter;
mod folder;
mod live;
mod pack;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use self::capture::Capture;
use self::desk::Desk;
use self::folder::{Folder, Sum};
pub use self::live::Live;
use self::pack::{Missing, Pack};
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::model::period::{Period, Tier};
use crate::model::verdict::{Verdict, VerdictFilter};
use crate::replay::mail_ports;
use crate::report::SCHEMA;
use crate::report::gaps::Gaps;
use crate::report::host::HostReport;
use crate::report::time::Asked;
use crate::store::Reader;
use crate::{mail_report, relay_test};

/// The list of sums, as `sha256sum --check` reads it.
pub const SUMS: &str = "SHA256SUMS";
/// The evidence for programs.
pub const JSON: &str = "evidence.json";
/// The evidence for people.
pub const TEXT: &str = "evidence.txt";
/// The packets of the host, headers alone.
pub const PCAP: &str = "host.pcap";

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");
/// The longest time whose hours are listed one by one, in milliseconds; a longer one is listed by days.
const LONGEST: u64 = 31 * 24 * HOUR;
/// Most pairs that are listed, those with the most connections.
const PAIRS: usize = 10_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the store is, whose hosts are whose, and where reports of relay tests are.
    pub config: Config,
    /// The host.
    pub address: IpAddr,
    /// The verdict; none named: the open ones, or the latest if none is open.
    pub verdict: Option<u64>,
    /// Of when; nothing named: of the hours that the verdicts are about.
    pub asked: Option<Asked>,
    /// The folder to make.
    pub output: PathBuf,
    /// Where the host's packets are from.
    pub capture: Option<Packets>,
    /// Logs of mail servers.
    pub logs: Option<mail_report::Options>,
    /// JSON, not text.
    pub json: bool,
}

/// Where packets are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packets {
    /// A capture file.
    File(PathBuf),
    /// An interface, from now on.
    Live(Live),
}

/// Most packets of a live capture, and of any that is handed on.
pub const MOST_PACKETS: u64 = capture::MOST;

/// Makes the folder; gives what is to be printed.
///
/// # Errors
///
/// There is no verdict about the host, the folder is there already or cannot be made, or something that was named
/// cannot be read.
pub fn run(options: &Options) -> Result<String, Failure> {
    let Options {
        config,
        address,
        verdict,
        asked,
        output,
        capture,
        logs,
        json,
    } = options;
    let address = address.to_canonical();
    let mut folder = Folder::begin(output)?;
    let reader = Reader::open(&config.store.path)?;
    let about = about(&reader, address, *verdict)?;
    let now = reader.now();
    let period = match asked {
        Some(asked) => asked.period(now),
        None => period_of(&about, now),
    };
    let mut host = HostReport::gather(&reader, address, period, &config.networks.local)?;
    if period.length() <= LONGEST {
        host.series = reader.series(address.into(), Tier::Hour, period)?;
    }
    let unlisted_pairs = host.pairs.len().saturating_sub(PAIRS);
    host.pairs.truncate(PAIRS);
    let coverage = Gaps::of(&reader.coverage(Tier::Hour, period)?, period, now);
    let mut missing = Vec::new();
    let relay_test = relay_test_of(config, address).unwrap_or_else(|why| {
        missing.push(Missing {
            part: "relay_test",
            why,
        });
        None
    });
    let desk = Desk::gather(&reader, config, address, &mut missing)?;
    let mail_log = logs.as_ref().map(mail_log).transpose()?;
    if mail_log.is_none() {
        missing.push(Missing::unnamed("mail_log", "--maillog FILE"));
    }
    let capture = match capture {
        Some(packets) => Some(capture_of(packets, address, config, &mut folder)?),
        None => {
            missing.push(Missing::unnamed(
                "capture",
                "--pcap FILE or --capture-from INTERFACE",
            ));
            None
        }
    };
    let pack = Pack {
        about: about.iter().map(|verdict| verdict.id).collect(),
        host,
        unlisted_pairs,
        coverage,
        desk,
        relay_test,
        mail_log,
        capture,
        missing,
    };
    folder.write(JSON, pack.json().as_bytes())?;
    folder.write(TEXT, pack.text().as_bytes())?;
    let sums = folder.finish()?;
    Ok(said(output, &sums, *json))
}

/// The verdicts that the evidence is about.
fn about(reader: &Reader, address: IpAddr, id: Option<u64>) -> Result<Vec<Verdict>, Failure> {
    let mut verdicts = reader.verdicts(&VerdictFilter {
        subject: Some(address.into()),
        ..VerdictFilter::default()
    })?;
    if verdicts.is_empty() {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "there is no verdict about {address}, and evidence is of verdicts: `smtpflow why {address}` says why \
                 there is none, `smtpflow host {address}` what was counted"
            ),
        ));
    }
    if let Some(id) = id {
        let ids: Vec<String> = verdicts
            .iter()
            .map(|verdict| verdict.id.to_string())
            .collect();
        verdicts.retain(|verdict| verdict.id == id);
        if verdicts.is_empty() {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "verdict {id} is not about {address}; its verdicts are {}",
                    ids.join(", ")
                ),
            ));
        }
        return Ok(verdicts);
    }
    let is_open = |verdict: &Verdict| verdict.state.is_open();
    if verdicts.iter().any(is_open) {
        verdicts.retain(is_open);
    } else {
        verdicts.truncate(1);
    }
    Ok(verdicts)
}

/// The hours that these verdicts are about: from the first that a rule looked at to the one in which one held last, the
/// last [`LONGEST`] of them.
fn period_of(about: &[Verdict], now: u64) -> Period {
    let from = about
        .iter()
        .map(|verdict| verdict.opened_at.min(verdict.rule.period.from))
        .min()
        .unwrap_or(now);
    let last = about
        .iter()
        .map(|verdict| verdict.last_at)
        .max()
        .unwrap_or(now);
    let to = (Tier::Hour.start_of(last) + HOUR).min(now).max(last);
    Period {
        from: Tier::Hour.start_of(from.max(to.saturating_sub(LONGEST))),
        to,
    }
}

/// The report of the host's last relay test, or why there is none. It is no reason to have no evidence.
fn relay_test_of(config: &Config, address: IpAddr) -> Result<Option<Value>, String> {
    let settings = &config.relay_test;
    if !settings.enabled {
        return Err("relay tests are off (relay_test.enabled)".to_owned());
    }
    match relay_test::last_report(&settings.state, address) {
        Ok(Some(report)) => Ok(Some(report)),
        Ok(None) => Err(format!(
            "the host was not tested: smtpflow relay-test {address}"
        )),
        Err(failure) => Err(failure.to_string()),
    }
}

fn mail_log(options: &mail_report::Options) -> Result<Value, Failure> {
    let report = mail_report::run(options)?;
    serde_json::from_str(&report)
        .map_err(|error| Failure::new(Kind::Failed, format!("the report of the logs: {error}")))
}

fn capture_of(
    packets: &Packets,
    address: IpAddr,
    config: &Config,
    folder: &mut Folder,
) -> Result<Capture, Failure> {
    let ports = mail_ports(&config.meter.ports)?;
    let to = folder.create(PCAP)?;
    let cut = match packets {
        Packets::File(file) => capture::cut(file, address.into(), ports, to)?,
        Packets::Live(live) => {
            let netns = config.meter.netns.as_deref();
            capture::tap(live, netns, address, (&config.meter.ports, ports), to)?
        }
    };
    let counted = capture::count(&folder.path(PCAP), address.into(), ports)?;
    Ok(Capture {
        cut,
        counted,
        ports: config.meter.ports.clone(),
    })
}

/// What is printed.
fn said(output: &Path, sums: &[Sum], json: bool) -> String {
    #[derive(Serialize)]
    struct JsonSaid<'a> {
        schema: u32,
        folder: &'a Path,
        files: &'a [Sum],
    }
    if json {
        let said = JsonSaid {
            schema: SCHEMA,
            folder: output,
            files: sums,
        };
        let mut line =
            serde_json::to_string(&said).expect("paths that were made have a form in JSON");
        line.push('\n');
        return line;
    }
    let shown = output.display();
    let files: String = sums
        .iter()
        .map(|sum| {
            format!(
                "  {:<14} {:>10} octets  {}\n",
                sum.name, sum.octets, sum.sha256
            )
        })
        .collect();
    format!(
        "{shown}:\n{files}\nto see that nothing has changed: cd {shown} && sha256sum --check {SUMS}\n"
    )
}

#[cfg(test)]
mod tests;
