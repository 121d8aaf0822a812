//! The verbs about notices.

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::reading::{OutputArgs, StoreArgs, person};
use crate::config::Config;
use crate::failure::Failure;
use crate::model::notice::NoticeState;
use crate::reading::{Output, Place};
use crate::telling::{Decision, Looks};

/// `smtpflow notice`.
#[derive(Debug, Subcommand)]
pub enum NoticeCommand {
    /// List notices to owners, the latest first
    List(NoticeListArgs),
    /// Show a notice: its text, whom it goes to, and what has happened to it
    Show(NoticeShowArgs),
    /// What would be told now, as if nothing had been told yet, or why not; nothing is sent
    Preview(NoticePreviewArgs),
    /// Make notices and send those that may leave, until SIGTERM or Ctrl-C; SIGHUP reads the
    /// configuration anew
    Run(NoticeRunArgs),
    /// Let notices leave
    Approve(NoticeDecisionArgs),
    /// Let notices never leave; the same is not asked again for notice.escalate_hours
    Reject(NoticeDecisionArgs),
    /// Print the texts of a language, to begin your own with (notice.templates)
    Templates {
        /// The language: en, de, fr or zh_tw
        #[arg(value_name = "LANGUAGE", default_value = "en")]
        language: String,
    },
}

/// `smtpflow notice list`.
#[derive(Debug, Args)]
pub struct NoticeListArgs {
    /// Only those in this state; repeat it for more. waiting, approved, sent, failed, expired, rejected or
    /// superseded
    #[arg(long, value_name = "STATE")]
    pub state: Vec<NoticeState>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl NoticeListArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Vec<NoticeState>, Output), Failure> {
        Ok((
            self.store.place(Vec::new())?,
            self.state,
            self.output.output(),
        ))
    }
}

/// `smtpflow notice show`.
#[derive(Debug, Args)]
pub struct NoticeShowArgs {
    /// Its number, see `smtpflow notice list`
    #[arg(value_name = "ID")]
    pub id: u64,
    /// The whole message, as it leaves
    #[arg(long, conflicts_with_all = ["format", "json"])]
    pub message: bool,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl NoticeShowArgs {
    /// What to do: whether it is the message that is wanted.
    pub fn options(self) -> Result<(Place, u64, bool, Output), Failure> {
        let place = self.store.place(Vec::new())?;
        Ok((place, self.id, self.message, self.output.output()))
    }
}

/// `smtpflow notice preview`.
#[derive(Debug, Args)]
pub struct NoticePreviewArgs {
    /// About this host alone [default: all that are flagged]
    #[arg(value_name = "ADDR")]
    pub address: Option<IpAddr>,
    /// Where the store is; the configuration says who writes, and where owners are looked for.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

impl NoticePreviewArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Option<IpAddr>, bool), Failure> {
        Ok((self.store.place(Vec::new())?, self.address, self.json))
    }
}

/// `smtpflow notice run`.
#[derive(Debug, Args)]
pub struct NoticeRunArgs {
    /// Look and send once, and end
    #[arg(long)]
    pub once: bool,
    /// Where the store is; the configuration says who is told what, and how.
    #[command(flatten)]
    pub store: StoreArgs,
    /// With --once: write what came of it as JSON
    #[arg(long, requires = "once")]
    pub json: bool,
}

impl NoticeRunArgs {
    /// How often is looked.
    pub const fn looks(&self) -> Looks {
        match self.once {
            true => Looks::Once { json: self.json },
            false => Looks::Again,
        }
    }

    /// The configuration, as it is now.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(self.store.clone().place(Vec::new())?.config)
    }
}

/// `smtpflow notice approve` and `smtpflow notice reject`.
#[derive(Debug, Args)]
pub struct NoticeDecisionArgs {
    /// Their numbers, see `smtpflow notice list`
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<u64>,
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

impl NoticeDecisionArgs {
    /// What to do.
    pub fn options(self, to: NoticeState) -> Result<(Place, Decision, bool), Failure> {
        let decision = Decision {
            ids: self.ids,
            to,
            who: person(self.who)?,
            why: self.why,
        };
        Ok((self.store.place(Vec::new())?, decision, self.json))
    }
}
