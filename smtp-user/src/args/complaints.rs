//! The verbs about complaints.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Subcommand};

use super::reading::{LocalArgs, OutputArgs, PeriodArgs, StoreArgs, person};
use crate::failure::Failure;
use crate::model::complaint::{Complaint, ComplaintForm, ComplaintKind};
use crate::model::period::milliseconds;
use crate::reading::complaints::{Import, Told, Wanted, Withdrawn};
use crate::reading::{Output, Place};
use crate::report::time;

/// `smtpflow complaint`.
#[derive(Debug, Subcommand)]
pub enum ComplaintCommand {
    /// List complaints, and whether their hosts were flagged before, after or never
    List(ComplaintListArgs),
    /// Note the complaints in files: mail with a report (ARF, XARF version 4) alone, in a maildir or in an
    /// mbox; XARF alone; CSV with the fields address, time, kind, and reporter, reference, happened,
    /// incidents
    Import(ComplaintImportArgs),
    /// Note a complaint that you have heard of otherwise
    Add(ComplaintAddArgs),
    /// Withdraw a complaint that was wrong: it stays in the list, and counts no more
    Withdraw(ComplaintWithdrawArgs),
}

/// `smtpflow complaint list`.
#[derive(Debug, Args)]
pub struct ComplaintListArgs {
    /// Only those about this host
    #[arg(long, value_name = "ADDR")]
    pub host: Option<IpAddr>,
    /// Those that were withdrawn as well
    #[arg(long)]
    pub all: bool,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Made when; at any time if nothing is said.
    #[command(flatten)]
    pub period: PeriodArgs,
    /// How to write.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `smtpflow complaint import`.
#[derive(Debug, Args)]
pub struct ComplaintImportArgs {
    /// File or maildir; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Who you are [default: the user who calls, also through sudo]
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose: complaints about others are refused.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `smtpflow complaint add`.
#[derive(Debug, Args)]
pub struct ComplaintAddArgs {
    /// The address of the host
    #[arg(value_name = "ADDR")]
    pub address: IpAddr,
    /// What for: spam, syn_flood, infringement or other
    #[arg(long, value_name = "KIND", default_value = "spam")]
    pub kind: ComplaintKind,
    /// Who complains, such as the domain of a network
    #[arg(long, value_name = "TEXT")]
    pub reporter: String,
    /// When it was made, such as 2026-11-24T14:00 (UTC) [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    pub time: Option<u64>,
    /// When that happened which it is about
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    pub happened: Option<u64>,
    /// By what the reporter knows it, such as the number of a ticket
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reference: String,
    /// How many incidents it stands for
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub incidents: u32,
    /// Who you are [default: the user who calls, also through sudo]
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Whose hosts are whose: a complaint about another one is refused.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// `smtpflow complaint withdraw`.
#[derive(Debug, Args)]
pub struct ComplaintWithdrawArgs {
    /// Its number, see `smtpflow complaint list`
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

impl ComplaintListArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Wanted, Output), Failure> {
        let wanted = Wanted {
            asked: self.period.asked()?,
            host: self.host,
            withdrawn: self.all,
        };
        Ok((self.store.place(Vec::new())?, wanted, self.output.output()))
    }
}

impl ComplaintImportArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Import, bool), Failure> {
        let import = Import {
            files: self.files,
            who: person(self.who)?,
        };
        Ok((self.store.place(self.local.local)?, import, self.json))
    }
}

impl ComplaintAddArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Told, bool), Failure> {
        let told = Told {
            complaint: Complaint {
                address: self.address,
                at: self.time.unwrap_or_else(|| milliseconds(SystemTime::now())),
                happened_at: self.happened,
                kind: self.kind,
                form: ComplaintForm::Hand,
                reporter: self.reporter,
                reference: self.reference,
                incidents: self.incidents,
            },
            who: person(self.who)?,
        };
        Ok((self.store.place(self.local.local)?, told, self.json))
    }
}

impl ComplaintWithdrawArgs {
    /// What to do.
    pub fn options(self) -> Result<(Place, Withdrawn, bool), Failure> {
        let withdrawn = Withdrawn {
            id: self.id,
            who: person(self.who)?,
            why: self.why,
        };
        Ok((self.store.place(Vec::new())?, withdrawn, self.json))
    }
}
