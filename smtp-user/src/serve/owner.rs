//! `/api/v1/sources/{addr}/owner`: whose host a source is.
//!
//! Contract: 400 for what is no address, 404 where owners are not looked for, 503 while they are being
//! asked: then again in a moment.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;

use super::App;
use super::api::SCHEMA;
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::owners::Known;
use super::problem::Problem;
use super::query::Params;
use crate::model::owner::{Contact, Finding, Outcome, Owner, Route};

answer! {
    /// `/api/v1/sources/{addr}/owner`.
    pub(super) struct Whose {
        /// Version of the form of this answer.
        schema: u32,
        /// The address that was asked for.
        address: IpAddr,
        /// Who answers for it, as the first source says that names somebody; null if none does.
        owner: Option<Person> [Person],
        /// What each source says, in the operator's order.
        findings: Vec<Said> [Said],
    }
}

answer! {
    /// Somebody who answers for hosts.
    pub(super) struct Person {
        /// Who it is.
        name: String,
        /// Where to write to, the best address first.
        mail: Vec<String>,
        /// Where to call.
        phone: Option<String>,
        /// What the operator has written beside it.
        note: Option<String>,
    }
}

answer! {
    /// What a source says.
    pub(super) struct Said {
        /// Which one: contacts, kernel, routers, rwhois, whois or rdap.
        source: String,
        /// Where in it: a file and its line, a router, a server.
        provenance: String,
        /// Seconds since the file was changed, the routes were read, or the server answered.
        age: Option<u64>,
        /// found, nobody or failed.
        outcome: String,
        /// Why nobody is named.
        reason: Option<String>,
        /// Whom it names.
        contact: Option<Person> [Person],
        /// The network that it names, as it writes it.
        network: Option<String>,
        /// The route that led there.
        route: Option<Way> [Way],
    }
}

answer! {
    /// A route.
    pub(super) struct Way {
        /// What is reached.
        destination: IpNet,
        /// By whom; null if it is reached directly, or not at all.
        next_hop: Option<IpAddr>,
        /// Through which interface, if that is known.
        interface: Option<String>,
    }
}

impl From<&Contact> for Person {
    fn from(contact: &Contact) -> Self {
        let Contact {
            name,
            mail,
            phone,
            note,
        } = contact.clone();
        Self {
            name,
            mail,
            phone,
            note,
        }
    }
}

impl From<&Route> for Way {
    fn from(route: &Route) -> Self {
        let Route {
            destination,
            next_hop,
            interface,
        } = route.clone();
        Self {
            destination,
            next_hop,
            interface,
        }
    }
}

impl From<&Finding> for Said {
    fn from(finding: &Finding) -> Self {
        let (outcome, reason, contact, network, route) = match &finding.outcome {
            Outcome::Found {
                contact,
                network,
                route,
            } => ("found", None, Some(contact), network.clone(), route),
            Outcome::Nobody { reason, route } => ("nobody", Some(reason), None, None, route),
            Outcome::Failed { reason } => ("failed", Some(reason), None, None, &None),
        };
        Self {
            source: finding.source.name().to_owned(),
            provenance: finding.provenance.clone(),
            age: finding.age,
            outcome: outcome.to_owned(),
            reason: reason.cloned(),
            contact: contact.map(Person::from),
            network,
            route: route.as_ref().map(Way::from),
        }
    }
}

impl From<&Owner> for Whose {
    fn from(owner: &Owner) -> Self {
        Self {
            schema: SCHEMA,
            address: owner.address,
            owner: owner.contact().map(Person::from),
            findings: owner.findings.iter().map(Said::from).collect(),
        }
    }
}

/// Path and meaning of every field of `/api/v1/sources/{addr}/owner`.
pub fn owner_fields() -> Vec<(String, String)> {
    flatten(Whose::FIELDS)
}

pub(super) async fn owner(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address = super::source::address(&address)?;
    Params::of(&uri)?.finish()?;
    match app.owners.of(app.config(), address).await {
        Known::Answer(owner) => Ok(Json(Whose::from(&owner)).into_response()),
        Known::Off => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "owners are not looked for; name sources in owner.order".to_owned(),
        )),
        Known::Not(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/sources/{addr}/owner",
            "owner",
            "Whose host a source is, with what each source of owners says",
        )
        .address()
        .json::<Whose>(),
    ]
}
