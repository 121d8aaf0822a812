//! The verbs about owners: `smtpflow owner`, `routes` and `serve-rwhois`.
//!
//! Contract: each gives what is to be printed; an address for which nobody is named is an answer, and the
//! answer says what each source had to say.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::json;

use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::model::owner::{Route, slash_24s};
use crate::owner::{self, Desk};
use crate::report;
use crate::report::document::{Form, csv_cell, no_formula, printable};

/// How much of a list of routes is printed at a time, in bytes.
const PIECE: usize = 64 << 10;

/// How routes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutesForm {
    /// In columns.
    Table,
    /// For a spreadsheet (RFC 4180).
    Csv,
    /// For programs.
    Json,
}

/// What is asked about a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its address.
    pub address: IpAddr,
    /// Whether all sources are asked, also behind the first that names somebody.
    pub all: bool,
    /// Whether those far away are asked anew, whatever they have said before.
    pub fresh: bool,
}

/// `smtpflow owner`.
pub fn owner(config: &Config, asked: Asked, json: bool) -> Result<String, Failure> {
    let Asked {
        address,
        all,
        fresh,
    } = asked;
    let mut desk = desk(config, fresh)?;
    let owner = desk.owner(address, all);
    if json {
        let mut line = json!({"schema": report::SCHEMA, "owner": owner.contact()});
        let whole = serde_json::to_value(&owner).map_err(anyhow::Error::from)?;
        if let (Some(line), serde_json::Value::Object(whole)) = (line.as_object_mut(), whole) {
            line.extend(whole);
        }
        return Ok(format!("{line}\n"));
    }
    Ok(report::owner::document(&owner).render(Form::Text))
}

/// `smtpflow routes`: prints in pieces, for a table may have millions of them, and nothing if a table that was
/// asked for could not be read; only in JSON there is a place to say so. `fresh` has routers asked anew.
pub fn routes(
    config: &Config,
    form: RoutesForm,
    fresh: bool,
    print: impl Fn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut desk = desk(config, fresh)?;
    if !config.owner.reads_routes() {
        return Err(Failure::new(
            Kind::BadConfig,
            "no source of the order has routes: name \"kernel\" or \"routers\" in owner.order",
        ));
    }
    let failed = desk.read_routes();
    // Half of the truth is no table.
    if !failed.is_empty() && form != RoutesForm::Json {
        return Err(Failure::new(Kind::Unavailable, failed.join("; ")));
    }
    let mut text = String::new();
    match form {
        RoutesForm::Table => row(&mut text, "next hop", "destination", "mask", "/24s", "from"),
        RoutesForm::Csv => {
            text.push_str("next_hop,destination,mask,slash_24s,interface,source\r\n");
        }
        RoutesForm::Json => text.push_str("{\"schema\":1,\"routes\":["),
    }
    let mut first = true;
    desk.each_route(|source, route| {
        match form {
            RoutesForm::Table => {
                let count = slash_24s(route.destination);
                row(
                    &mut text,
                    &next_hop(&route),
                    &route.destination.network().to_string(),
                    &mask(&route),
                    &count.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                    source,
                );
            }
            RoutesForm::Csv => record(&mut text, source, route),
            RoutesForm::Json => {
                if !first {
                    text.push(',');
                }
                let json = json!({
                    "next_hop": route.next_hop,
                    "destination": route.destination.network(),
                    "prefix_length": route.destination.prefix_len(),
                    "mask": mask(&route),
                    "slash_24s": slash_24s(route.destination),
                    "interface": route.interface,
                    "source": source,
                });
                let _ = write!(text, "{json}");
            }
        }
        first = false;
        if text.len() >= PIECE {
            print(&text)?;
            text.clear();
        }
        Ok(())
    })?;
    if form == RoutesForm::Json {
        let _ = write!(text, "],\"failed\":{}}}", json!(failed));
        text.push('\n');
    }
    print(&text)
}

/// A route for a spreadsheet.
fn record(text: &mut String, source: &str, route: Route) {
    let count = slash_24s(route.destination);
    for cell in [
        route
            .next_hop
            .map(|hop| hop.to_string())
            .unwrap_or_default(),
        route.destination.network().to_string(),
        mask(&route),
        count.map(|count| count.to_string()).unwrap_or_default(),
        no_formula(&route.interface.unwrap_or_default()),
    ] {
        csv_cell(text, &cell);
        text.push(',');
    }
    csv_cell(text, &no_formula(source));
    text.push_str("\r\n");
}

/// `smtpflow serve-rwhois`.
pub fn serve_rwhois(
    config: Config,
    print: impl Fn(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Config {
        owner: settings,
        networks,
        meter,
        ..
    } = config;
    owner::serve_rwhois(settings, networks.local, meter.netns, |listen| {
        print(&format!("answering RWhois at {listen}\n"))
    })
}

fn desk(config: &Config, fresh: bool) -> Result<Desk, Failure> {
    let desk = Desk::new(&config.owner, config.meter.netns.as_deref())?;
    Ok(if fresh { desk.fresh() } else { desk })
}

fn row(to: &mut String, next_hop: &str, destination: &str, mask: &str, count: &str, from: &str) {
    let from = printable(from);
    let _ = writeln!(
        to,
        "{next_hop:<15}  {destination:<15}  {mask:<15}  {count:>8}  {from}"
    );
}

fn next_hop(route: &Route) -> String {
    match (&route.next_hop, &route.interface) {
        (Some(hop), _) => hop.to_string(),
        (None, Some(interface)) => printable(interface),
        (None, None) => "-".to_owned(),
    }
}

/// As routers write it: an IPv4 mask, an IPv6 length.
fn mask(route: &Route) -> String {
    match route.destination {
        ipnet::IpNet::V4(v4) => v4.netmask().to_string(),
        ipnet::IpNet::V6(v6) => format!("/{}", v6.prefix_len()),
    }
}
