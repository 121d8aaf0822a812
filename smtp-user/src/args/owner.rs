//! The verbs about owners.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::load;
use crate::config::Config;
use crate::failure::Failure;
use crate::whose::{Asked, RoutesForm};

/// `smtpflow owner`.
#[derive(Debug, Args)]
pub struct OwnerArgs {
    /// The address of the host
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// Configuration file, with the sources in their order (owner.order)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask all sources, also behind the first that names somebody
    #[arg(long)]
    pub all: bool,
    /// Ask routers and servers anew, whatever they have said before (owner.state)
    #[arg(long)]
    pub fresh: bool,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `smtpflow routes`.
#[derive(Debug, Args)]
pub struct RoutesArgs {
    /// Configuration file, with the sources in their order (owner.order)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to write them
    #[arg(long, value_enum, value_name = "FORM", default_value = "table")]
    pub format: RoutesFormChoice,
    /// Ask routers anew, whatever was kept of them (owner.state)
    #[arg(long)]
    pub fresh: bool,
    /// Write JSON, as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// How to write routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoutesFormChoice {
    /// In columns
    Table,
    /// For a spreadsheet
    Csv,
    /// For programs
    Json,
}

/// `smtpflow serve-rwhois`.
#[derive(Debug, Args)]
pub struct ServeRwhoisArgs {
    /// Configuration file, with the address to answer at (owner.serve_rwhois), your own prefixes
    /// (networks.local) and the sources in their order (owner.order)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl OwnerArgs {
    /// What to do: what is asked, and whether the answer is JSON.
    pub fn options(&self) -> Result<(Config, Asked, bool), Failure> {
        let asked = Asked {
            address: self.address,
            all: self.all,
            fresh: self.fresh,
        };
        Ok((load(self.config.as_ref())?, asked, self.json))
    }
}

impl RoutesArgs {
    /// What to do: how routes are written, and whether routers are asked anew.
    pub fn options(&self) -> Result<(Config, RoutesForm, bool), Failure> {
        let form = match self.format {
            _ if self.json => RoutesForm::Json,
            RoutesFormChoice::Table => RoutesForm::Table,
            RoutesFormChoice::Csv => RoutesForm::Csv,
            RoutesFormChoice::Json => RoutesForm::Json,
        };
        Ok((load(self.config.as_ref())?, form, self.fresh))
    }
}

impl ServeRwhoisArgs {
    /// What to do.
    pub fn config(&self) -> Result<Config, Failure> {
        load(self.config.as_ref())
    }
}
