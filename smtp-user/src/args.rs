//! The command line: what can be typed, and the configuration that it means.
//!
//! Contract: nothing behind this file sees a string that was typed; flags win over the
//! configuration file, and a list in a flag replaces the list in the file. Values are checked by the
//! functions that check the file.
#![forbid(unsafe_code)]

mod asking;
mod complaints;
mod evidence;
mod logs;
mod manual;
mod notice;
mod owner;
mod reading;
mod relay_test;
mod relays;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::config::{self, AttachChoice, Config};
use crate::failure::{Failure, Kind};
use crate::report::check;
use crate::{doctor, link, replay};

pub use self::asking::{CheckArgs, StatusArgs, TopArgs};
pub use self::complaints::ComplaintCommand;
pub use self::evidence::EvidenceArgs;
pub use self::logs::MaillogArgs;
pub use self::manual::Page;
pub use self::notice::{
    NoticeCommand, NoticeDecisionArgs, NoticeListArgs, NoticePreviewArgs, NoticeRunArgs,
    NoticeShowArgs,
};
pub use self::owner::{OwnerArgs, RoutesArgs, RoutesFormChoice, ServeRwhoisArgs};
pub use self::reading::{
    DistributionArgs, HostArgs, ReportArgs, TuneArgs, VerdictCommand, VerdictsArgs, WhyArgs,
};
pub use self::relay_test::RelayTestArgs;
pub use self::relays::RelayCommand;

/// Counts the mail traffic that crosses a gateway, per source, inside the kernel.
#[derive(Debug, Parser)]
#[command(
    name = "smtpflow",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 69 a service or resource is not available, \
                  77 no permission, 78 bad configuration. Only `check` has those of a Nagios plug-in."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How to log.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub log_format: LogFormat,
    /// Least important level that is logged
    #[arg(long, global = true, value_enum, default_value_t, value_name = "LEVEL")]
    pub log_level: LogLevel,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event
    #[default]
    Text,
    /// One JSON object per event
    Json,
}

/// Level of a log event, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[expect(missing_docs, reason = "the names say it all, in help as well")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count on interfaces until SIGTERM or Ctrl-C, and serve the counts over HTTP
    Run(RunArgs),
    /// Attach, as root, for an agent that runs with --attached, and end
    Attach(AttachArgs),
    /// Count what is in a capture file (pcap or pcapng); needs no privilege
    Replay(ReplayArgs),
    /// Say what log files of mail servers hold of each client
    Maillog(MaillogArgs),
    /// Report a month: flagged hosts, top sources, distribution, gaps
    Report(ReportArgs),
    /// How many sources or pairs opened how many connections
    Distribution(DistributionArgs),
    /// What one host did, to whom, and what came of it
    Host(HostArgs),
    /// Why a host is flagged, or why not: every rule with its figures
    Why(WhyArgs),
    /// Put what is known of a flagged host into a folder that can be handed on
    Evidence(EvidenceArgs),
    /// List verdicts
    Verdicts(VerdictsArgs),
    /// Say what has become of a verdict
    #[command(subcommand)]
    Verdict(VerdictCommand),
    /// List, add and end known relays: own hosts that send mail for others
    #[command(subcommand)]
    Relay(RelayCommand),
    /// Note, list and withdraw complaints about your own hosts
    #[command(subcommand)]
    Complaint(ComplaintCommand),
    /// Say whose host an address is, and how that is known
    Owner(OwnerArgs),
    /// List the routes that owners are found by: next hop, destination, mask, number of /24s
    Routes(RoutesArgs),
    /// Answer RWhois queries for your own prefixes
    ServeRwhois(ServeRwhoisArgs),
    /// Test whether one of your own hosts relays mail for strangers
    RelayTest(RelayTestArgs),
    /// List, show, preview, approve and reject notices to the owners of flagged hosts
    #[command(subcommand)]
    Notice(NoticeCommand),
    /// How many hosts other limits would have flagged
    Tune(TuneArgs),
    /// Show who sends now, on the terminal
    Top(TopArgs),
    /// Say how a running agent is
    Status(StatusArgs),
    /// Say how a running agent is, as a Nagios plug-in
    Check(CheckArgs),
    /// Say what will work on this machine, what will not, and why
    Doctor(DoctorArgs),
    /// Take smtpflow's programs off their interfaces and remove its pins
    Detach(DetachArgs),
    /// Check or print a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what completes the command line in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a page of the manual, for man -l -
    Man {
        /// Which one
        #[arg(value_enum, default_value_t)]
        page: Page,
    },
}

/// `smtpflow run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// Interface to count on; repeat it for more. XDP sees what an interface receives: name both
    /// sides of a gateway to see both directions
    #[arg(long, value_name = "IF", value_parser = config::parse_interface)]
    pub interface: Vec<String>,
    /// How to attach: in the driver, in the generic path (skb), or what works (auto)
    #[arg(long, value_enum)]
    pub mode: Option<AttachChoice>,
    /// Length of a window, 1s to 10m [default: 10s]
    #[arg(long, value_parser = config::parse_window)]
    pub window: Option<Duration>,
    /// Network namespace of the interfaces, by name or by path
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Configuration file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to serve [default: 127.0.0.1:12525]; anything but loopback needs a token
    /// (serve.token_file)
    #[arg(long, value_name = "ADDR:PORT", value_parser = config::parse_listen)]
    pub listen: Option<SocketAddr>,
    /// Directory for pins, on bpffs [default: /sys/fs/bpf/smtpflow]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// Let the kernel go on counting after the end
    #[arg(long)]
    pub keep_attached: bool,
    /// Count where smtpflow attach has attached, without any privilege
    #[arg(long, conflicts_with_all = ["mode", "keep_attached"])]
    pub attached: bool,
    /// User to become when everything that needs root is done
    #[arg(long, value_name = "USER", value_parser = config::parse_user)]
    pub user: Option<String>,
    /// File that keeps the counts [default: /var/lib/smtpflow/smtpflow.db]
    #[arg(long, value_name = "FILE", value_parser = config::parse_store)]
    pub store: Option<PathBuf>,
    /// Keep no counts in a file: they are lost at the end, and a crash may lose or double a window
    #[arg(long, conflicts_with = "store")]
    pub no_store: bool,
    /// Prefix of your own, such as 192.0.2.0/24; repeat it for more
    #[arg(long, value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub local: Vec<IpNet>,
}

/// `smtpflow attach`.
#[derive(Debug, Default, Args)]
pub struct AttachArgs {
    /// Interface to attach to; repeat it for more [default: those of the configuration]
    #[arg(long, value_name = "IF", value_parser = config::parse_interface)]
    pub interface: Vec<String>,
    /// How to attach: in the driver, in the generic path (skb), or what works (auto)
    #[arg(long, value_enum)]
    pub mode: Option<AttachChoice>,
    /// Network namespace of the interfaces, by name or by path
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// Directory for pins, on bpffs [default: /sys/fs/bpf/smtpflow]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// The agent's user, whose group may use the maps
    #[arg(long, value_name = "USER", value_parser = config::parse_user)]
    pub user: Option<String>,
    /// Prefix of your own, such as 192.0.2.0/24; repeat it for more
    #[arg(long, value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub local: Vec<IpNet>,
    /// Configuration file; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `smtpflow replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Capture file, pcap or pcapng
    pub file: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Length of a window in capture time, 1s to 10m
    #[arg(long, value_parser = config::parse_window, default_value = "10s")]
    pub window: Duration,
    /// How many sources the text names
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Mail port; repeat it for more, up to four
    #[arg(long, value_name = "PORT", value_parser = config::parse_port,
          default_values_t = [config::DEFAULT_PORT])]
    pub port: Vec<u16>,
    /// Prefix of your own, whose hosts are judged; repeat it for more
    #[arg(long, value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub local: Vec<IpNet>,
    /// Configuration file with your own prefixes, detectors and known relays; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `smtpflow doctor`.
#[derive(Debug, Default, Args)]
pub struct DoctorArgs {
    /// Interface to look at; repeat it for more [default: those of the configuration, or all that
    /// are up]
    #[arg(long, value_name = "IF", value_parser = config::parse_interface)]
    pub interface: Vec<String>,
    /// Network namespace of the interfaces, by name or by path
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
    /// How it is going to be attached: auto, driver or skb
    #[arg(long, value_enum)]
    pub mode: Option<AttachChoice>,
    /// Directory for pins, on bpffs [default: /sys/fs/bpf/smtpflow]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// Configuration file to check the machine for; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `smtpflow detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Interface to leave; repeat it for more [default: all]
    #[arg(long, value_name = "IF", value_parser = config::parse_interface)]
    pub interface: Vec<String>,
    /// Directory of the pins [default: /sys/fs/bpf/smtpflow]
    #[arg(long, value_name = "DIR")]
    pub pins: Option<PathBuf>,
    /// Configuration file that says where the pins are, where the flag does not
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl DetachArgs {
    /// The directory of the pins, and the interfaces to leave.
    pub fn options(self) -> Result<(PathBuf, Vec<String>), Failure> {
        let Self {
            interface,
            pins,
            config,
        } = self;
        let pins = match pins {
            Some(pins) => pins,
            None => load(config.as_ref())?.meter.pins,
        };
        Ok((pins, interface))
    }
}

/// `smtpflow config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print the configuration in effect, with the documentation of every key
    Print {
        /// Configuration file; without one, the defaults are printed
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// What was typed, or the exit code after a message: for help and version, and for mistakes.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        // Nobody is left to tell when there is no place to write.
        let _ = error.print();
        let is_check = std::env::args_os()
            .nth(1)
            .is_some_and(|word| word == "check");
        let code = match error.exit_code() {
            2 if is_check => i32::from(check::UNKNOWN),
            code => code,
        };
        ExitCode::from(u8::try_from(code).unwrap_or(2))
    })
}

/// What completes the command line in a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "smtpflow", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The configuration of a file, or the default without one.
pub fn load(file: Option<&PathBuf>) -> Result<Config, Failure> {
    file.map_or_else(|| Ok(Config::default()), |file| Config::from_file(file))
}

impl RunArgs {
    /// The configuration in effect, with what its file holds now.
    pub fn config(&self) -> Result<Config, Failure> {
        let config = self.apply(load(self.config.as_ref())?);
        config.validate()?;
        // A loader's interfaces are those that it has attached to.
        if config.meter.interfaces.is_empty() && !config.meter.attached {
            return Err(no_interface(&config));
        }
        Ok(config)
    }

    /// Puts what was typed over a configuration.
    fn apply(&self, mut config: Config) -> Config {
        // In full, so that a new flag cannot be forgotten here.
        let Self {
            interface,
            mode,
            window,
            netns,
            config: _,
            listen,
            pins,
            keep_attached,
            attached,
            user,
            store,
            no_store,
            local,
        } = self;
        let meter = &mut config.meter;
        if !interface.is_empty() {
            meter.interfaces.clone_from(interface);
        }
        if let Some(mode) = mode {
            meter.mode = *mode;
        }
        if let Some(window) = window {
            meter.window = *window;
        }
        if netns.is_some() {
            meter.netns.clone_from(netns);
        }
        if let Some(pins) = pins {
            meter.pins.clone_from(pins);
        }
        meter.keep_attached |= keep_attached;
        meter.attached |= attached;
        if user.is_some() {
            config.agent.user.clone_from(user);
        }
        if let Some(listen) = listen {
            config.serve.listen = *listen;
        }
        if let Some(store) = store {
            config.store.path.clone_from(store);
            config.store.enabled = true;
        }
        config.store.enabled &= !no_store;
        if !local.is_empty() {
            config.networks.local.clone_from(local);
        }
        config
    }
}

/// The failure of not knowing where to count.
fn no_interface(config: &Config) -> Failure {
    let have = match link::links_in(config.meter.netns.as_deref()) {
        Ok(mut links) => {
            links.retain(|link| link.name != "lo");
            link::names(&links)
        }
        // A namespace that does not exist has to be told first.
        Err(failure) => return failure,
    };
    Failure::new(
        Kind::Usage,
        format!(
            "no interface to count on: name one with --interface IF, or in a file \
             (meter.interfaces) given with --config (have: {have})"
        ),
    )
}

impl ReplayArgs {
    /// As the replay wants it.
    pub fn options(self) -> Result<replay::Options, Failure> {
        let Self {
            file,
            json,
            window,
            top,
            port,
            local,
            config,
        } = self;
        config::check_ports(&port)
            .map_err(|error| Failure::new(Kind::Usage, format!("--port: {error}")))?;
        let mut config = load(config.as_ref())?;
        if !local.is_empty() {
            config.networks.local = local;
        }
        Ok(replay::Options {
            file,
            json,
            window,
            top,
            ports: port,
            local: config.networks.local,
            detect: config.detect,
            relays: config.relay,
        })
    }
}

impl AttachArgs {
    /// The configuration in effect.
    pub fn config(self) -> Result<Config, Failure> {
        let run = RunArgs {
            interface: self.interface,
            mode: self.mode,
            netns: self.netns,
            pins: self.pins,
            user: self.user,
            local: self.local,
            ..RunArgs::default()
        };
        let config = run.apply(load(self.config.as_ref())?);
        config.validate()?;
        if config.meter.interfaces.is_empty() {
            return Err(no_interface(&config));
        }
        Ok(config)
    }
}

impl DoctorArgs {
    /// As the doctor wants it.
    pub fn options(self) -> Result<doctor::Options, Failure> {
        let run = RunArgs {
            interface: self.interface,
            netns: self.netns,
            mode: self.mode,
            pins: self.pins,
            ..RunArgs::default()
        };
        let config = run.apply(load(self.config.as_ref())?);
        config.validate()?;
        Ok(doctor::Options { config })
    }
}

impl ValueEnum for AttachChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Driver, Self::Skb]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::Driver => "driver",
            Self::Skb => "skb",
        }))
    }
}

#[cfg(test)]
mod tests;
