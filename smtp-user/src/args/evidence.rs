//! The verb that puts evidence together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::reading::{LocalArgs, PeriodArgs, StoreArgs};
use crate::evidence::{Live, MOST_PACKETS, Options, Packets};
use crate::failure::Failure;
use crate::{mail_report, maillog};

/// `smtpflow evidence`.
#[derive(Debug, Args)]
#[command(
    after_help = "The folder has evidence.json and evidence.txt, host.pcap if --pcap or --capture-from was given, and SHA256SUMS with \
                  the SHA-256 of each. The report of the host's last relay test is in it if relay_test.state has one."
)]
pub struct EvidenceArgs {
    /// Its address; there must be a verdict about it
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// Folder to make; it must not be there yet
    #[arg(long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Of this verdict [default: the open ones, or the latest if none is open]
    #[arg(long, value_name = "ID")]
    pub verdict: Option<u64>,
    /// Capture file, pcap or pcapng, from which the headers of the host's mail packets are taken
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Take these headers from this interface, from now on: neither promiscuous nor touching what counts. It needs
    /// CAP_NET_RAW
    #[arg(long, value_name = "INTERFACE", conflicts_with = "pcap")]
    pub capture_from: Option<String>,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60, requires = "capture_from",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// End when there are so many packets
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "capture_from",
        value_parser = clap::value_parser!(u64).range(1..=MOST_PACKETS))]
    pub packets: u64,
    /// Log file of a mail server, not compressed; repeat it for more, the oldest first. What is kept of mail
    /// addresses is as in the configuration (maillog.addresses)
    #[arg(long, value_name = "FILE")]
    pub maillog: Vec<PathBuf>,
    /// Where the store is; mail ports and relay tests are those of the configuration.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Of when; the hours that the verdicts are about if nothing is said.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// Say as JSON what was made
    #[arg(long)]
    pub json: bool,
}

impl EvidenceArgs {
    /// What to do.
    pub fn options(self) -> Result<Options, Failure> {
        let asked = self.period.asked()?;
        let config = self.store.place(self.local.local)?.config;
        let logs = if self.maillog.is_empty() {
            None
        } else {
            Some(mail_report::Options {
                files: self.maillog,
                journal: false,
                followed: None,
                address: Some(self.address),
                json: true,
                top: 1,
                limits: (&config.maillog).into(),
                zone: maillog::zone(config.maillog.time_zone.as_deref())?,
            })
        };
        let live = self.capture_from.map(|interface| {
            Packets::Live(Live {
                interface,
                time: Duration::from_secs(self.seconds),
                packets: self.packets,
            })
        });
        let capture = self.pcap.map(Packets::File).or(live);
        Ok(Options {
            config,
            address: self.address,
            verdict: self.verdict,
            asked,
            output: self.output,
            capture,
            logs,
            json: self.json,
        })
    }
}
