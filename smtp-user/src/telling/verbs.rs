//! The verbs that list, show and decide.
//!
//! Contract: as in the module above; a decision is in the store when it is told.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::json;

use super::{logs, policy, samples, subjects};
use crate::failure::{Failure, Kind};
use crate::model::notice::{Book, Notice, NoticeChange, NoticeEvent, NoticeState};
use crate::model::period::milliseconds;
use crate::notice::{self, Composer, SHIPPED};
use crate::owner::Desk;
use crate::reading::{Output, Place};
use crate::report::notices as written;
use crate::store::{NoticeDecision, decide_notice};

/// `smtpflow notice list`.
pub fn list(place: &Place, states: &[NoticeState], output: Output) -> Result<String, Failure> {
    let notices = place.reader()?.notices(states)?;
    Ok(output.write(&written::json(&notices), || written::document(&notices)))
}

fn found(place: &Place, id: u64) -> Result<(Notice, Vec<NoticeEvent>), Failure> {
    place.reader()?.notice(id)?.ok_or_else(|| {
        Failure::new(
            Kind::Failed,
            format!(
                "there is no notice {id} in the store {}; `smtpflow notice list` lists them",
                place.config.store.path.display()
            ),
        )
    })
}

/// `smtpflow notice show`.
pub fn show(place: &Place, id: u64, output: Output) -> Result<String, Failure> {
    let (notice, events) = found(place, id)?;
    Ok(output.write(&written::json_of(&notice, &events), || {
        written::document_of(&notice, &events)
    }))
}

/// `smtpflow notice show --message`: as it leaves.
pub fn message(place: &Place, id: u64) -> Result<String, Failure> {
    let (notice, _) = found(place, id)?;
    Ok(String::from_utf8_lossy(&notice.message).into_owned())
}

/// A decision of a person.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Which notices.
    pub ids: Vec<u64>,
    /// What becomes of them: approved or rejected.
    pub to: NoticeState,
    /// Who the person is.
    pub who: String,
    /// Why.
    pub why: String,
}

/// `smtpflow notice approve` and `smtpflow notice reject`.
pub fn decide(place: &Place, decision: &Decision, json: bool) -> Result<String, Failure> {
    let mut decided = Vec::new();
    for id in &decision.ids {
        decided.push(decide_notice(
            &place.config.store.path,
            &NoticeDecision {
                id: *id,
                to: decision.to,
                who: &decision.who,
                why: &decision.why,
                at: milliseconds(SystemTime::now()),
                expires_after: u64::from(place.config.notice.expire_hours) * 3_600_000,
            },
        )?);
    }
    if json {
        return Ok(format!("{}\n", json!(written::json(&decided))));
    }
    let mut text = String::new();
    for notice in &decided {
        let _ = writeln!(text, "notice {} is now {}", notice.id, notice.state);
    }
    Ok(text)
}

/// `smtpflow notice preview`: what would be told now about this host, or about all, as if nothing had been told
/// yet. Nothing is noted and nothing is sent.
pub fn preview(place: &Place, host: Option<IpAddr>, json: bool) -> Result<String, Failure> {
    let config = &place.config;
    let reader = place.reader()?;
    let composer = Composer::new(&config.notice)?;
    let mut policy = policy(config)?;
    policy.settings.enabled = true;
    let mut desk = Desk::new(&config.owner, config.meter.netns.as_deref())?;
    let now = milliseconds(SystemTime::now());
    let mut subjects = subjects(
        &reader,
        &Book::default(),
        &mut desk,
        &logs(&config.maillog),
        &samples(&reader, config, now)?,
    )?;
    if let Some(host) = host {
        let host = host.to_canonical();
        subjects.retain(|subject| subject.facts.host.contains(&host));
        if subjects.is_empty() {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "{host} has no open verdict, so there is nothing to tell; `smtpflow why {host}` says why"
                ),
            ));
        }
    }
    let plan = notice::plan(&policy, &composer, &Book::default(), &subjects, now);
    let made = plan.changes.iter().filter_map(|change| match change {
        NoticeChange::Made(notice, _) => Some(notice),
        _ => None,
    });
    let made: Vec<&Notice> = made.collect();
    Ok(match json {
        true => format!("{}\n", written::json_of_preview(&made, &plan.silences)),
        false => written::preview(&made, &plan.silences),
    })
}

/// `smtpflow notice templates`.
pub fn templates(language: &str) -> Result<String, Failure> {
    let found = SHIPPED.iter().find(|(name, _)| *name == language);
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| {
        let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        Failure::new(
            Kind::Usage,
            format!(
                "no text in {language:?} is shipped: there are {}",
                names.join(", ")
            ),
        )
    })
}
