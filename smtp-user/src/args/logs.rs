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
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
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
        Ok(mail_report::Options {
            files,
            address: addr,
            json,
            top,
            limits: (&config).into(),
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
