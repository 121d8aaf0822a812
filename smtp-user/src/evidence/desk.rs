//! What the abuse desk knows of the host: whose it is, who has complained about it, what its owner was told.
//!
//! Contract: owners are looked up as `smtpflow owner` does it, and only where the operator has named sources; what
//! cannot be known is a part that is missing, and no reason to have no evidence. At most [`LISTED`] complaints and
//! notices are listed, the latest.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use super::pack::Missing;
use crate::config::Config;
use crate::failure::Failure;
use crate::model::complaint::{ComplaintFilter, StoredComplaint};
use crate::model::notice::Notice;
use crate::model::owner::Owner;
use crate::owner;
use crate::report::complaints::{self, JsonComplaint};
use crate::report::document::Table;
use crate::report::notices::{self, JsonNotice};
use crate::report::owner::document as of_owner;
use crate::report::scorecard::Flags;
use crate::store::Reader;

/// Most complaints, and most notices, that are listed.
const LISTED: usize = 1000;

/// See the module.
pub(super) struct Desk {
    owner: Option<Owner>,
    complaints: Vec<StoredComplaint>,
    /// Complaints that are left out.
    unlisted_complaints: usize,
    flags: Flags,
    notices: Vec<Notice>,
}

/// For programs.
#[derive(Serialize)]
pub(super) struct JsonDesk {
    /// Who is named, what each source says, from where and how old it is; or null.
    owner: Option<Value>,
    complaints: Vec<JsonComplaint>,
    unlisted_complaints: usize,
    notices: Vec<JsonNotice>,
}

impl Desk {
    /// Asks the configured sources whose host it is, and reads the rest.
    pub(super) fn gather(
        reader: &Reader,
        config: &Config,
        address: IpAddr,
        missing: &mut Vec<Missing>,
    ) -> Result<Self, Failure> {
        let owner = owner_of(config, address).unwrap_or_else(|why| {
            missing.push(Missing { part: "owner", why });
            None
        });
        let mut complaints = reader.complaints(&ComplaintFilter {
            address: Some(address),
            withdrawn: true,
            ..ComplaintFilter::default()
        })?;
        let unlisted_complaints = complaints.len().saturating_sub(LISTED);
        complaints.truncate(LISTED);
        Ok(Self {
            owner,
            flags: complaints::flags(reader, &complaints)?,
            complaints,
            unlisted_complaints,
            notices: reader.notices_about(address, LISTED)?,
        })
    }

    pub(super) fn json(&self) -> JsonDesk {
        let complaint = |stored: &StoredComplaint| JsonComplaint::new(stored, &self.flags);
        JsonDesk {
            owner: self
                .owner
                .as_ref()
                .map(|owner| json!({"contact": owner.contact(), "findings": &owner.findings})),
            complaints: self.complaints.iter().map(complaint).collect(),
            unlisted_complaints: self.unlisted_complaints,
            notices: self.notices.iter().map(JsonNotice::from).collect(),
        }
    }

    /// For people: nothing of what there is none of.
    pub(super) fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        if let Some(owner) = &self.owner {
            let named = owner.contact().map_or("nobody is named", |who| &who.name);
            let mut of = of_owner(owner).tables.into_iter();
            tables.extend(of.next_back().map(|sources| Table {
                name: "owner_sources",
                title: format!("whose host it is: {named}"),
                ..sources
            }));
            tables.extend(of.map(|contact| Table {
                name: "owner",
                title: "how to reach its owner".to_owned(),
                ..contact
            }));
        }
        if !self.complaints.is_empty() {
            let total = self.complaints.len() + self.unlisted_complaints;
            let of = complaints::document(&self.complaints, &self.flags);
            tables.extend(of.tables.into_iter().map(|table| Table {
                title: format!("complaints about it: {total}, the latest first"),
                notes: of.notes.clone(),
                ..table
            }));
        }
        if !self.notices.is_empty() {
            let of = notices::document(&self.notices).tables.into_iter();
            tables.extend(of.map(|table| Table {
                title: "what its owner was told".to_owned(),
                ..table
            }));
        }
        tables
    }
}

/// Whose host it is, or why that is not known.
fn owner_of(config: &Config, address: IpAddr) -> Result<Option<Owner>, String> {
    if !config.owner.enabled() {
        return Err("no source of owners is named (owner.order)".to_owned());
    }
    let desk = owner::Desk::new(&config.owner, config.meter.netns.as_deref());
    let mut desk = desk.map_err(|failure| failure.to_string())?;
    Ok(Some(desk.owner(address, false)))
}
