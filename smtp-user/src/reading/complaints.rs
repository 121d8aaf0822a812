//! The verbs about complaints.
//!
//! Contract: an import notes what it can read, and says what it could not and why; it can be made again at
//! any time, since what is known is not noted twice. It fails if there was something to read and nothing
//! of it was a complaint.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;

use super::{Output, Place, line};
use crate::complaint::{self, Intake, Keep, KeptMessages, Taken};
use crate::counted::counted;
use crate::failure::{Failure, Kind};
use crate::model::complaint::{Complaint, ComplaintFilter};
use crate::model::period::milliseconds;
use crate::report;
use crate::report::complaints::{self, JsonChanged, JsonComplaints, check_new, flags};
use crate::report::document::printable;
use crate::report::time::Asked;
use crate::store::{
    NewComplaints, Noted, Withdrawal, add_complaint, add_complaints, redaction_key,
    withdraw_complaint,
};

/// Which complaints.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Made in this time, if any was named.
    pub asked: Option<Asked>,
    /// About this host.
    pub host: Option<IpAddr>,
    /// Those that were withdrawn as well.
    pub withdrawn: bool,
}

/// `smtpflow complaint list`.
pub fn list(place: &Place, wanted: &Wanted, output: Output) -> Result<String, Failure> {
    let reader = place.reader()?;
    let now = milliseconds(SystemTime::now());
    let list = reader.complaints(&ComplaintFilter {
        period: wanted.asked.map(|asked| asked.period(now)),
        address: wanted.host,
        withdrawn: wanted.withdrawn,
    })?;
    let flags = flags(&reader, &list)?;
    Ok(output.write(&JsonComplaints::new(&list, &flags), || {
        complaints::document(&list, &flags)
    }))
}

/// Complaints to bring in.
#[derive(Clone, Debug)]
pub struct Import {
    /// Files, maildirs, or standard input (`-`).
    pub files: Vec<PathBuf>,
    /// Who the person is.
    pub who: String,
}

/// `smtpflow complaint import`.
pub fn import(place: &Place, import: &Import, json: bool) -> Result<String, Failure> {
    let at = milliseconds(SystemTime::now());
    let keep = match place.config.complaint.keep {
        KeptMessages::None => None,
        KeptMessages::Headers => Some(Keep {
            addresses: place.config.maillog.addresses,
            key: redaction_key(place.path())?,
        }),
    };
    let mut intake = Intake::new(at, place.local()).keeping(keep);
    for file in &import.files {
        complaint::read(file, &mut intake)?;
    }
    let taken = intake.done();
    if taken.complaints.is_empty() && taken.refused > 0 {
        return Err(nothing(&taken));
    }
    let new = NewComplaints {
        complaints: &taken.complaints,
        headers: &taken.headers,
        who: &import.who,
        at,
    };
    let Noted { added, known } = add_complaints(place.path(), &new)?;
    let Taken {
        complaints: _,
        headers: _,
        refusals,
        refused,
    } = &taken;
    if json {
        let refusals = refusals
            .iter()
            .map(|refusal| json!({"place": refusal.place, "why": refusal.why}));
        return Ok(line(&json!({
            "schema": report::SCHEMA,
            "added": added,
            "known": known,
            "refused": refused,
            "refusals": refusals.collect::<Vec<_>>(),
        })));
    }
    let mut text = format!(
        "noted {}; known already: {known}; refused: {refused}\n",
        counted(added, "complaint")
    );
    for refusal in refusals {
        let _ = writeln!(
            text,
            "  {}: {}",
            printable(&refusal.place),
            printable(&refusal.why)
        );
    }
    let more = *refused - refusals.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    if place.local().is_empty() {
        text.push_str(
            "whose hosts they are about was not checked: name the agent's configuration (--config), or \
             your own prefixes (--local)\n",
        );
    }
    Ok(text)
}

fn nothing(taken: &Taken) -> Failure {
    let told = taken.refusals.iter().take(3);
    let told: Vec<_> = told.map(|r| format!("{}: {}", r.place, r.why)).collect();
    Failure::new(
        Kind::Failed,
        printable(&format!(
            "nothing that was read is a complaint (refused: {}): {}",
            taken.refused,
            told.join("; ")
        )),
    )
}

/// A complaint that a person has heard of.
#[derive(Clone, Debug)]
pub struct Told {
    /// The complaint.
    pub complaint: Complaint,
    /// Who the person is.
    pub who: String,
}

/// `smtpflow complaint add`.
pub fn add(place: &Place, told: &Told, json: bool) -> Result<String, Failure> {
    let now = milliseconds(SystemTime::now());
    let usage = |error: String| Failure::new(Kind::Usage, error);
    let complaint = told.complaint.clone().checked(now).map_err(usage)?;
    check_new(complaint.address, place.local())?;
    let stored = add_complaint(place.path(), &complaint, &told.who, now)?;
    let flags = flags(&place.reader()?, std::slice::from_ref(&stored))?;
    if json {
        return Ok(line(&JsonChanged::new(&stored, &flags)));
    }
    Ok(format!(
        "complaint {} about {} ({}) is noted; the host was flagged: {}\n",
        stored.id,
        complaint.address,
        complaint.kind.title(),
        flags.of_complaint(&complaint).name()
    ))
}

/// A complaint that was wrong.
#[derive(Clone, Debug)]
pub struct Withdrawn {
    /// Its number.
    pub id: u64,
    /// Who the person is.
    pub who: String,
    /// Why.
    pub why: String,
}

/// `smtpflow complaint withdraw`.
pub fn withdraw(place: &Place, withdrawn: &Withdrawn, json: bool) -> Result<String, Failure> {
    let Withdrawn { id, who, why } = withdrawn;
    let withdrawal = Withdrawal {
        id: *id,
        who,
        why,
        at: milliseconds(SystemTime::now()),
    };
    let stored = withdraw_complaint(place.path(), &withdrawal)?;
    if json {
        let flags = flags(&place.reader()?, std::slice::from_ref(&stored))?;
        return Ok(line(&JsonChanged::new(&stored, &flags)));
    }
    Ok(format!(
        "complaint {id} about {} is withdrawn\n",
        stored.complaint.address
    ))
}
