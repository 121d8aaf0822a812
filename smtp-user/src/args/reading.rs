//! The verbs that read the store, and those that change verdicts in it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::load;
use crate::config;
use crate::failure::{Failure, Kind};
use crate::model::verdict::VerdictState;
use crate::reading::{Output, Place};
use crate::report::distribution::Item;
use crate::report::document::Form;
use crate::report::time::{self, Asked, Month};

/// Where the store is, and whose hosts are whose.
#[derive(Clone, Debug, Default, Args)]
pub struct StoreArgs {
    /// File with the counts [default: as in the configuration, or
    /// /var/lib/smtpflow/smtpflow.db]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Configuration file of the agent; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl StoreArgs {
    /// Both, with these prefixes in the place of those of the configuration if there are any.
    pub(super) fn place(self, local: Vec<IpNet>) -> Result<Place, Failure> {
        let mut config = load(self.config.as_ref())?;
        if !local.is_empty() {
            config.networks.local = local;
        }
        if let Some(store) = self.store {
            config.store.path = store;
        } else if !config.store.enabled {
            return Err(Failure::new(
                Kind::Usage,
                "the configuration says that there is no store (store.enabled); name the file with \
                 --store FILE",
            ));
        }
        Ok(Place { config })
    }
}

/// Your own prefixes.
#[derive(Clone, Debug, Default, Args)]
pub struct LocalArgs {
    /// Prefix of your own, such as 192.0.2.0/24; repeat it for more [default: as in the
    /// configuration]
    #[arg(long, value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub local: Vec<IpNet>,
}

/// A period of history.
#[derive(Clone, Debug, Default, Args)]
pub struct PeriodArgs {
    /// So long up to the newest window, such as 90m, 24h, 30d or 4w
    #[arg(long, value_name = "SPAN", value_parser = time::parse_span,
          conflicts_with_all = ["month", "from", "to"])]
    pub since: Option<u64>,
    /// A calendar month in UTC, such as 2026-11
    #[arg(long, value_name = "MONTH", value_parser = Month::parse, conflicts_with_all = ["from", "to"])]
    pub month: Option<Month>,
    /// From this time on, such as 2026-11-24 or 2026-11-24T14:00 (UTC)
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    pub from: Option<u64>,
    /// Up to this time [default: the newest window]
    #[arg(long, value_name = "TIME", value_parser = time::parse_time, requires = "from")]
    pub to: Option<u64>,
}

impl PeriodArgs {
    /// What was asked for, if anything was.
    pub(super) fn asked(&self) -> Result<Option<Asked>, Failure> {
        let Self {
            since,
            month,
            from,
            to,
        } = *self;
        if let (Some(from), Some(to)) = (from, to)
            && to <= from
        {
            return Err(Failure::new(
                Kind::Usage,
                "--to is not after --from: there is nothing between them",
            ));
        }
        Ok(since
            .map(Asked::Since)
            .or(month.map(Asked::Month))
            .or(from.map(|from| Asked::Between(from, to))))
    }
}

/// How to write a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormChoice {
    /// For a terminal
    Text,
    /// For a spreadsheet: the first field of every record is the name of its table
    Csv,
    /// For programs
    Json,
    /// For a browser and for paper: one file that loads nothing
    Html,
}

fn output(format: FormChoice, json: bool) -> Output {
    match format {
        _ if json => Output::Json,
        FormChoice::Json => Output::Json,
        FormChoice::Text => Output::Document(Form::Text),
        FormChoice::Csv => Output::Document(Form::Csv),
        FormChoice::Html => Output::Document(Form::Html),
    }
}

/// How to write.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// How to write it
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub format: FormChoice,
    /// Write JSON, as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

impl OutputArgs {
    pub(super) fn output(self) -> Output {
        output(self.format, self.json)
    }
}

/// `smtpflow report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Of when; the month of the newest window if nothing is said.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl ReportArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Option<Asked>, Output), Failure> {
        let asked = self.period.asked()?;
        Ok((
            self.store.place(self.local.local)?,
            asked,
            self.output.output(),
        ))
    }
}

/// `smtpflow distribution`.
#[derive(Debug, Args)]
pub struct DistributionArgs {
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Of when; the last 24 hours if nothing is said.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// What an item is
    #[arg(long, value_enum, value_name = "ITEM", default_value = "source")]
    pub by: ItemChoice,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What an item of a distribution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ItemChoice {
    /// An address that opened connections
    Source,
    /// A source and a server between which connections were opened
    Pair,
}

impl DistributionArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Asked, Item, Output), Failure> {
        let item = match self.by {
            ItemChoice::Source => Item::Source,
            ItemChoice::Pair => Item::Pair,
        };
        Ok((
            self.store.place(Vec::new())?,
            self.period.asked()?.unwrap_or(Asked::Since(DAY)),
            item,
            self.output.output(),
        ))
    }
}

const DAY: u64 = 86_400_000;

/// `smtpflow host`.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Its address
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Of when; the last 24 hours if nothing is said.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl HostArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Asked, IpAddr, Output), Failure> {
        Ok((
            self.store.place(self.local.local)?,
            self.period.asked()?.unwrap_or(Asked::Since(DAY)),
            self.address,
            self.output.output(),
        ))
    }
}

/// `smtpflow why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Its address
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// Where the store is; detectors and known relays are those of the configuration.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose.
    #[command(flatten)]
    pub local: LocalArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl WhyArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, IpAddr, Output), Failure> {
        let output = self.output.output();
        Ok((self.store.place(self.local.local)?, self.address, output))
    }
}

/// `smtpflow verdicts`.
#[derive(Debug, Args)]
pub struct VerdictsArgs {
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Only those in this state; repeat it for more: new, acknowledged, notified, resolved,
    /// false_positive [default: the open ones, new, acknowledged and notified]
    #[arg(long, value_name = "STATE", conflicts_with = "all")]
    pub state: Vec<VerdictState>,
    /// Those in every state
    #[arg(long)]
    pub all: bool,
    /// Only those about this address
    #[arg(long, value_name = "ADDR")]
    pub host: Option<IpAddr>,
    /// Only those of this detector
    #[arg(long, value_name = "NAME", value_parser = detector)]
    pub detector: Option<String>,
    /// Only those whose rule held or whose state changed within so long, such as 7d
    #[arg(long, value_name = "SPAN", value_parser = time::parse_span)]
    pub since: Option<u64>,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn detector(text: &str) -> Result<String, String> {
    let names = crate::detect::DETECTORS
        .iter()
        .filter(|entry| entry.accuses)
        .map(|entry| entry.name);
    let names: Vec<_> = names.collect();
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no detector with verdicts: expected one of {}",
        names.join(", ")
    ))
}

impl VerdictsArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, crate::reading::Wanted, Output), Failure> {
        let states = if self.all || !self.state.is_empty() {
            self.state
        } else {
            let open = VerdictState::ALL.into_iter();
            open.filter(|state| state.is_open()).collect()
        };
        Ok((
            self.store.place(Vec::new())?,
            crate::reading::Wanted {
                states,
                host: self.host,
                detector: self.detector,
                since: self.since,
            },
            self.output.output(),
        ))
    }
}

/// `smtpflow verdict`.
#[derive(Debug, Subcommand)]
pub enum VerdictCommand {
    /// You have seen it and look into it
    Acknowledge(ChangeArgs),
    /// You have told the owner of the host
    Notify(ChangeArgs),
    /// It is over
    Resolve(ChangeArgs),
    /// It was wrong: the detector says nothing about the host for a while (detect.mute)
    FalsePositive(ChangeArgs),
    /// It was ended too early
    Reopen(ChangeArgs),
}

/// A change of a verdict.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Its number, see `smtpflow verdicts`
    #[arg(value_name = "ID")]
    pub id: u64,
    /// Why, in one line
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Who you are [default: the user who calls, also through sudo]
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

impl VerdictCommand {
    /// What to do.
    pub fn options(self) -> Result<(Place, crate::reading::Change, bool), Failure> {
        let (to, args) = match self {
            Self::Acknowledge(args) => (VerdictState::Acknowledged, args),
            Self::Notify(args) => (VerdictState::Notified, args),
            Self::Resolve(args) => (VerdictState::Resolved, args),
            Self::FalsePositive(args) => (VerdictState::FalsePositive, args),
            Self::Reopen(args) => (VerdictState::New, args),
        };
        let change = crate::reading::Change {
            id: args.id,
            to,
            who: person(args.who)?,
            why: args.why,
        };
        Ok((args.store.place(Vec::new())?, change, args.json))
    }
}

/// Who changes something: who was named, or the user who calls, also through sudo.
pub(super) fn person(named: Option<String>) -> Result<String, Failure> {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    named.or(user).ok_or_else(|| {
        Failure::new(
            Kind::Usage,
            "it is not known who makes the change; say it with --who NAME",
        )
    })
}

/// `smtpflow tune`.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Limits on connections in an hour to try, such as 30,100
    #[arg(long, value_name = "N,...", value_delimiter = ',', required_unless_present_any = ["messages", "servers"])]
    pub threshold: Vec<u32>,
    /// Limits on messages (MAIL commands) in an hour to try
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub messages: Vec<u32>,
    /// Limits on distinct servers in an hour to try; takes longer
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub servers: Vec<u32>,
    /// So far back, such as 30d
    #[arg(long, value_name = "SPAN", value_parser = time::parse_span, default_value = "30d",
          conflicts_with = "pcap")]
    pub since: u64,
    /// Try them on this capture file instead, pcap or pcapng
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub pcap: Option<PathBuf>,
    /// Length of a window of the capture, 1s to 10m
    #[arg(long, value_parser = config::parse_window, default_value = "10s", requires = "pcap")]
    pub window: Duration,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl TuneArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, crate::reading::Trial, Output), Failure> {
        let mut store = self.store;
        if self.pcap.is_some() {
            // No store is read.
            store.store = Some(PathBuf::from(config::DEFAULT_STORE));
        }
        Ok((
            store.place(self.local.local)?,
            crate::reading::Trial {
                connections: self.threshold,
                messages: self.messages,
                servers: self.servers,
                since: self.since,
                capture: self.pcap.map(|file| (file, self.window)),
            },
            self.output.output(),
        ))
    }
}
