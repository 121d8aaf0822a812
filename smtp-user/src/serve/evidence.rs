//! `/api/v1/sources/{addr}/evidence`: what is known of a host beside what was counted.
//!
//! Contract: from what others keep: the file of what the agent knows from mail logs, the report of the last
//! relay test, complaints of the store. Nobody is asked and nothing is changed. What is off is not there; what
//! could not be read is named with why, and keeps nothing else from being there.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::complaints::{Row, about};
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::Params;
use super::{App, source};
use crate::archive::Archive;
use crate::config::Config;
use crate::maillog::one;
use crate::model::period::milliseconds;
use crate::relay_test::last_report;
use crate::report::SCHEMA;
use crate::report::complaints::JsonComplaint;
use crate::report::mail_log::JsonClient;
use crate::report::relay_test::JsonRelayTest;

/// Complaints that are shown, the latest ones.
const COMPLAINTS: usize = 20;

/// A part of the evidence.
pub(super) enum Part<T> {
    /// It is not configured, or does not apply to this host.
    Off,
    /// Why there is none.
    Not(String),
    /// What is known.
    Known(T),
}

/// See the module.
pub(super) struct Evidence {
    /// What mail logs say of it, as JSON of [`JsonClient`].
    pub(super) mail_log: Part<JsonClient>,
    /// Its last relay test, as it was kept.
    pub(super) relay_test: Part<Value>,
    /// The latest complaints about it, and how many there are.
    pub(super) complaints: Part<(Vec<Row>, usize)>,
}

impl Evidence {
    /// Reads all of it. It blocks.
    fn read(config: &Config, archive: Option<&Archive>, address: IpAddr) -> Self {
        Self {
            mail_log: mail_log(config, address),
            relay_test: relay_test(config, address),
            complaints: match archive
                .map(|archive| archive.read(|reader| about(reader, address, COMPLAINTS)))
            {
                None => Part::Off,
                Some(Ok(complaints)) => Part::Known(complaints),
                Some(Err(failure)) => Part::Not(failure.to_string()),
            },
        }
    }
}

fn mail_log(config: &Config, address: IpAddr) -> Part<JsonClient> {
    let settings = &config.maillog;
    if !settings.is_on() {
        return Part::Off;
    }
    let now = (milliseconds(SystemTime::now()) / 1000).cast_signed();
    match one::client(&settings.state, address, now, settings.addresses) {
        Ok(Some(Some(figures))) => Part::Known(JsonClient::new(address, figures)),
        Ok(Some(None)) => {
            Part::Not("it is not in the mail logs of today and yesterday (UTC)".to_owned())
        }
        Ok(None) => Part::Not("nothing was read from the mail logs yet".to_owned()),
        Err(error) => Part::Not(format!("{error:#}")),
    }
}

fn relay_test(config: &Config, address: IpAddr) -> Part<Value> {
    let settings = &config.relay_test;
    let mut local = config.networks.local.iter();
    if !settings.enabled || !local.any(|own| own.contains(&address)) {
        return Part::Off;
    }
    match last_report(&settings.state, address) {
        Ok(Some(report)) => Part::Known(report),
        Ok(None) => Part::Not(format!("it was not tested: smtpflow relay-test {address}")),
        Err(failure) => Part::Not(failure.to_string()),
    }
}

/// What is known of a host.
pub(super) async fn view(app: &App, address: IpAddr) -> Result<Evidence, Problem> {
    let (config, archive) = (app.config(), app.archive.clone());
    let permit = app.looks.clone().acquire_owned().await;
    tokio::task::spawn_blocking(move || {
        // Held by the work itself, which goes on when the client does not wait for it.
        let _permit = permit;
        Evidence::read(&config, archive.as_deref(), address)
    })
    .await
    .map_err(|error| Problem::internal(&error))
}

answer! {
    /// A part that is not there, although it is configured.
    pub(super) struct NotThere {
        /// mail_log, relay_test or complaints.
        part: &'static str,
        /// Why.
        why: String,
    }
}

answer! {
    /// `/api/v1/sources/{addr}/evidence`.
    pub(super) struct OfSource {
        /// Version of the form of this answer.
        schema: u32,
        /// The address.
        addr: IpAddr,
        /// What mail logs of yesterday and today (UTC) say of it, or null.
        mail_log: Option<JsonClient> [JsonClient],
        /// Its last relay test, or null.
        relay_test: Option<JsonRelayTest> [JsonRelayTest],
        /// Complaints about it that nobody has withdrawn.
        complaints_total: usize,
        /// The latest of them, at most 20.
        complaints: Vec<JsonComplaint> [JsonComplaint],
        /// What is configured and not there.
        missing: Vec<NotThere> [NotThere],
    }
}

impl OfSource {
    fn new(address: IpAddr, evidence: Evidence) -> Self {
        let mut missing = Vec::new();
        let Evidence {
            mail_log,
            relay_test,
            complaints,
        } = evidence;
        let mail_log = known("mail_log", mail_log, &mut missing);
        let relay_test = known("relay_test", relay_test, &mut missing);
        let (complaints, complaints_total) =
            known("complaints", complaints, &mut missing).unwrap_or_default();
        Self {
            schema: SCHEMA,
            addr: address,
            mail_log,
            relay_test: relay_test.as_ref().map(JsonRelayTest::from),
            complaints_total,
            complaints: complaints
                .iter()
                .map(|(stored, flagged)| JsonComplaint::flagged(stored, *flagged))
                .collect(),
            missing,
        }
    }
}

fn known<T>(name: &'static str, part: Part<T>, missing: &mut Vec<NotThere>) -> Option<T> {
    match part {
        Part::Off => None,
        Part::Not(why) => {
            missing.push(NotThere { part: name, why });
            None
        }
        Part::Known(known) => Some(known),
    }
}

pub(super) async fn evidence(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address = source::address(&address)?;
    Params::of(&uri)?.finish()?;
    let evidence = view(&app, address).await?;
    Ok(Json(OfSource::new(address, evidence)).into_response())
}

/// Path and meaning of every field of `/api/v1/sources/{addr}/evidence`.
pub fn evidence_fields() -> Vec<(String, String)> {
    flatten(OfSource::FIELDS)
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/sources/{addr}/evidence",
            "source_evidence",
            "What mail logs, relay tests and complaints say of a source",
        )
        .address()
        .json::<OfSource>(),
    ]
}
