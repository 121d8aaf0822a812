//! Complaints: what was brought in, and the list of them beside what verdicts say of their hosts.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::SCHEMA;
use super::document::{Document, Table, number, text};
use super::scorecard::{Flagged, Flags, NEAR};
use super::time;
use crate::answer::answer;
use crate::failure::Failure;
use crate::model::complaint::{Complaint, StoredComplaint};
use crate::model::period::rfc3339;
use crate::store::{Reader, Unchanged};

/// Checks what the store cannot know of a complaint: that it is about an own host, where it is known
/// whose hosts are whose.
///
/// # Errors
///
/// It is about another one.
pub fn check_new(address: IpAddr, local: &[IpNet]) -> Result<(), Unchanged> {
    if local.is_empty() || local.iter().any(|own| own.contains(&address)) {
        return Ok(());
    }
    Err(Unchanged::Invalid(format!(
        "{address} is none of your hosts (networks.local)"
    )))
}

/// What verdicts say of the hosts of these complaints.
pub fn flags(reader: &Reader, list: &[StoredComplaint]) -> Result<Flags, Failure> {
    match list.iter().map(|stored| stored.complaint.at).min() {
        Some(earliest) => flags_since(reader, earliest),
        None => Ok(Flags::default()),
    }
}

/// What verdicts say of the hosts of complaints that were made at this time or later.
pub fn flags_since(reader: &Reader, earliest: u64) -> Result<Flags, Failure> {
    let verdicts = reader.verdicts_with_events(earliest.saturating_sub(NEAR))?;
    Ok(Flags::of(&verdicts))
}

answer! {
    /// A complaint.
    pub(crate) struct JsonComplaint {
        /// Its number.
        id: u64,
        /// The host that it is about.
        addr: String,
        /// When it was made.
        at: String,
        /// When that happened which it is about, or null.
        happened_at: Option<String>,
        /// spam, syn_flood, infringement or other.
        kind: &'static str,
        /// In which form it came: arf, xarf, csv or hand.
        form: &'static str,
        /// Who complains.
        reporter: String,
        /// By what the reporter knows it.
        reference: String,
        /// How many incidents it stands for.
        incidents: u32,
        /// When the host was flagged: before, after or never.
        flagged: &'static str,
        /// How long before the complaint, or null.
        lead_milliseconds: Option<u64>,
        /// When it was noted.
        added_at: String,
        /// Who noted it.
        added_by: String,
        /// When it was withdrawn, or null.
        withdrawn_at: Option<String>,
        /// Who withdrew it, or null.
        withdrawn_by: Option<String>,
        /// Why it was withdrawn, or null.
        withdrawn_why: Option<String>,
    }
}

impl JsonComplaint {
    /// Of this one.
    pub(crate) fn new(stored: &StoredComplaint, flags: &Flags) -> Self {
        Self::flagged(stored, flags.of_complaint(&stored.complaint))
    }

    /// Of one whose host was flagged then.
    pub(crate) fn flagged(stored: &StoredComplaint, flagged: Flagged) -> Self {
        let Complaint {
            address,
            at,
            happened_at,
            kind,
            form,
            reporter,
            reference,
            incidents,
        } = &stored.complaint;
        let withdrawn = stored.withdrawn.as_ref();
        Self {
            id: stored.id,
            addr: address.to_string(),
            at: rfc3339(*at),
            happened_at: happened_at.map(rfc3339),
            kind: kind.name(),
            form: form.name(),
            reporter: reporter.clone(),
            reference: reference.clone(),
            incidents: *incidents,
            flagged: flagged.name(),
            lead_milliseconds: match flagged {
                Flagged::Before(lead) => Some(lead),
                Flagged::After(_) | Flagged::Never => None,
            },
            added_at: rfc3339(stored.added_at),
            added_by: stored.added_by.clone(),
            withdrawn_at: withdrawn.map(|ended| rfc3339(ended.at)),
            withdrawn_by: withdrawn.map(|ended| ended.by.clone()),
            withdrawn_why: withdrawn.map(|ended| ended.why.clone()),
        }
    }
}

/// A list in JSON.
#[derive(Serialize)]
pub(crate) struct JsonComplaints {
    schema: u32,
    total: usize,
    complaints: Vec<JsonComplaint>,
}

impl JsonComplaints {
    /// Of all these.
    pub(crate) fn new(complaints: &[StoredComplaint], flags: &Flags) -> Self {
        Self {
            schema: SCHEMA,
            total: complaints.len(),
            complaints: complaints
                .iter()
                .map(|stored| JsonComplaint::new(stored, flags))
                .collect(),
        }
    }
}

answer! {
    /// A complaint that was noted or withdrawn.
    pub(crate) struct JsonChanged {
        /// Version of the form of this answer.
        schema: u32,
        /// The complaint, as it is now.
        complaint: JsonComplaint [JsonComplaint],
    }
}

impl JsonChanged {
    /// As it is now.
    pub(crate) fn new(stored: &StoredComplaint, flags: &Flags) -> Self {
        Self {
            schema: SCHEMA,
            complaint: JsonComplaint::new(stored, flags),
        }
    }
}

/// A list as a document.
pub fn document(complaints: &[StoredComplaint], flags: &Flags) -> Document {
    let row = |stored: &StoredComplaint| {
        let complaint = &stored.complaint;
        let flagged = match flags.of_complaint(complaint) {
            Flagged::Before(lead) => format!("{} before", time::span(lead)),
            Flagged::After(later) => format!("{} after", time::span(later)),
            never @ Flagged::Never => never.name().to_owned(),
        };
        let state = match &stored.withdrawn {
            Some(ended) => format!(
                "withdrawn {} by {}: {}",
                time::minutes(ended.at),
                ended.by,
                ended.why
            ),
            None => String::new(),
        };
        vec![
            stored.id.to_string(),
            time::minutes(complaint.at),
            complaint.address.to_string(),
            complaint.kind.name().to_owned(),
            complaint.incidents.to_string(),
            flagged,
            complaint.reporter.clone(),
            complaint.form.name().to_owned(),
            complaint.reference.clone(),
            stored.added_by.clone(),
            state,
        ]
    };
    Document {
        title: format!("Complaints: {}", complaints.len()),
        notes: vec!["flagged: when a verdict was opened, as the complaint has it".to_owned()],
        tables: vec![Table {
            name: "complaints",
            title: "the latest first".to_owned(),
            notes: Vec::new(),
            columns: vec![
                number("id"),
                text("made"),
                text("host"),
                text("kind"),
                number("incidents"),
                text("flagged"),
                text("reporter"),
                text("form"),
                text("reference"),
                text("noted_by"),
                text("state"),
            ],
            rows: complaints.iter().map(row).collect(),
        }],
    }
}
