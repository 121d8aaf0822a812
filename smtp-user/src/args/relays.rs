//! The verbs about known relays.

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::civil::Date;

use super::reading::{OutputArgs, StoreArgs, person};
use crate::config;
use crate::failure::Failure;
use crate::model::relay::{Relay, parse_day};
use crate::reading::{Output, Place, RelayChange};

/// `smtpflow relay`.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// List known relays: those of the configuration, and those that people have added
    List(RelayListArgs),
    /// Add a known relay: its hosts stay counted and are not judged, from the next window on. Their open
    /// verdicts are resolved
    Add(RelayAddArgs),
    /// End a known relay: its hosts are judged from the next window on
    Expire(RelayExpireArgs),
}

/// `smtpflow relay list`.
#[derive(Debug, Args)]
pub struct RelayListArgs {
    /// Those that were ended as well
    #[arg(long)]
    pub all: bool,
    /// Where the store is; relays of the configuration are listed if it is named.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl RelayListArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, bool, Output), Failure> {
        Ok((
            self.store.place(Vec::new())?,
            self.all,
            self.output.output(),
        ))
    }
}

/// `smtpflow relay add`.
#[derive(Debug, Args)]
pub struct RelayAddArgs {
    /// Whom it excuses, such as 192.0.2.25/32: inside your own prefixes
    #[arg(value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub prefix: IpNet,
    /// Why it is known, in one line
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who answers for it, in one line
    #[arg(long, value_name = "TEXT")]
    pub owner: String,
    /// The last day, in UTC, on which it excuses anybody, such as 2027-06-30 [default: no end]
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub expires: Option<Date>,
    /// More connections than this in a UTC hour are a warning [default: it is never judged]
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
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

/// `smtpflow relay expire`.
#[derive(Debug, Args)]
pub struct RelayExpireArgs {
    /// Its prefix, see `smtpflow relay list`
    #[arg(value_name = "PREFIX", value_parser = config::parse_prefix)]
    pub prefix: IpNet,
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

impl RelayAddArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, RelayChange, bool), Failure> {
        let change = RelayChange::Add {
            relay: Relay {
                prefix: self.prefix,
                reason: self.reason,
                owner: self.owner,
                expires: self.expires,
                connections: self.connections,
            },
            who: person(self.who)?,
        };
        Ok((self.store.place(Vec::new())?, change, self.json))
    }
}

impl RelayExpireArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, RelayChange, bool), Failure> {
        let change = RelayChange::Expire {
            prefix: self.prefix,
            who: person(self.who)?,
            why: self.why,
        };
        Ok((self.store.place(Vec::new())?, change, self.json))
    }
}
