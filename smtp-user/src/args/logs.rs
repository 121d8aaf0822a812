//! The verb that reads mail logs.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::load;
use crate::config;
use crate::failure::Failure;
use crate::mail_report;
use crate::maillog;
use crate::model::mail::KeptAddresses;

/// `smtpflow maillog`.
#[derive(Debug, Args)]
pub struct MaillogArgs {
    /// Log file of sendmail, Postfix or Exim, not compressed; several in their order, the oldest first
    #[arg(required_unless_present_any = ["journal", "followed"], value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The entries of the facility mail in the journal of systemd, as far as they are kept
    #[arg(long, conflicts_with = "files")]
    pub journal: bool,
    /// What the agent knows from the logs that it follows (maillog.files, maillog.journal), of yesterday
    /// and today
    #[arg(long, conflicts_with_all = ["files", "journal"])]
    pub followed: bool,
    /// This client alone, with its latest messages
    #[arg(long, value_name = "ADDR")]
    pub addr: Option<IpAddr>,
    /// How much of mail addresses is shown [default: as in the configuration, or none]
    #[arg(long, value_enum, value_name = "HOW")]
    pub addresses: Option<KeptAddresses>,
    /// Time zone of logs that name none, such as Europe/Berlin [default: as in the configuration, or
    /// that of this machine]
    #[arg(long, value_name = "ZONE", value_parser = config::parse_time_zone)]
    pub time_zone: Option<TimeZone>,
    /// How many clients the text names
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Configuration file of the agent; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

impl MaillogArgs {
    /// As the report wants it.
    pub fn options(self) -> Result<mail_report::Options, Failure> {
        let Self {
            files,
            journal,
            followed,
            addr,
            addresses,
            time_zone,
            top,
            config,
            json,
        } = self;
        let mut config: config::Maillog = load(config.as_ref())?.maillog;
        if let Some(addresses) = addresses {
            config.addresses = addresses;
        }
        let zone = match time_zone {
            Some(zone) => zone,
            None => maillog::zone(config.time_zone.as_deref())?,
        };
        let limits = (&config).into();
        Ok(mail_report::Options {
            files,
            journal,
            followed: followed.then_some(config.state),
            address: addr,
            json,
            top,
            limits,
            zone,
        })
    }
}

impl ValueEnum for KeptAddresses {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::None, Self::Domain, Self::Full]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::None => "none",
            Self::Domain => "domain",
            Self::Full => "full",
        }))
    }
}
