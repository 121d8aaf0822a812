//! The look-up: the operator's sources in the operator's order.
//!
//! Contract: [`Desk::owner`] always answers, within the time of the sources that it has to ask; what went
//! wrong stands in the answer. Nobody is asked who is not in the order.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;

use super::cache::{Answer, Cache, Resting};
use super::contacts::{Contacts, Written};
use super::directory::{self, Protocol, Target};
use super::rdap::{self, Bootstrap};
use super::remembered::{Asked, Remembered};
use super::settings::Settings;
use super::tables::Kept;
use super::wire::Deadline;
use crate::failure::{Failure, Kind};
use crate::model::owner::{Contact, Finding, Outcome, Owner, OwnerSource, Route};
use crate::model::period::milliseconds;
use crate::server::Server;

/// See the module.
#[derive(Debug)]
pub struct Desk {
    order: Vec<OwnerSource>,
    contacts: Contacts,
    tables: Vec<Kept>,
    rwhois: Vec<Server>,
    whois: Vec<Server>,
    bootstrap: Bootstrap,
    authorities: PathBuf,
    timeout: Duration,
    keep: Duration,
    cache: Cache,
    /// What earlier desks were told: in the cache once a server is to be asked.
    remembered: Remembered,
    is_recalled: bool,
    asked: Asked,
    resting: Resting,
}

impl Desk {
    /// Reads the operator's files; `netns` is the network namespace whose routes are this machine's.
    pub fn new(settings: &Settings, netns: Option<&str>) -> Result<Self, Failure> {
        if !settings.enabled() {
            return Err(Failure::new(
                Kind::BadConfig,
                "nobody has said where owners are looked for: name sources in owner.order, and the \
                 configuration with --config FILE",
            ));
        }
        let uses = |source| settings.order.contains(&source);
        let bootstrap = match uses(OwnerSource::Rdap) {
            true => Bootstrap::load(&settings.rdap_bootstrap)?,
            false => Bootstrap::default(),
        };
        let mut tables = Vec::new();
        for source in &settings.order {
            match source {
                OwnerSource::Kernel => tables.push(Kept::kernel(netns.map(str::to_owned))),
                OwnerSource::Routers => {
                    tables.extend(settings.router.iter().cloned().map(Kept::router));
                }
                _ => {}
            }
        }
        Ok(Self {
            order: settings.order.clone(),
            // Next hops need them as well.
            contacts: Contacts::load(&settings.contacts)?,
            tables,
            rwhois: settings.rwhois.clone(),
            whois: settings.whois.clone(),
            bootstrap,
            authorities: settings.authorities.clone(),
            timeout: settings.timeout.0,
            keep: settings.keep.0,
            cache: Cache::new(settings.keep.0, settings.keep_nobody.0),
            remembered: Remembered::new(settings.state.clone()),
            is_recalled: false,
            asked: asked(settings),
            resting: Resting::default(),
        })
    }

    /// One that asks everything anew, whatever earlier ones were told.
    pub fn fresh(mut self) -> Self {
        self.remembered.ignore();
        self
    }

    /// Whose host an address is. Sources behind the first that names somebody are asked only for `all`.
    pub fn owner(&mut self, address: IpAddr, all: bool) -> Owner {
        let address = address.to_canonical();
        let mut owner = Owner {
            address,
            findings: Vec::new(),
        };
        for source in self.order.clone() {
            if !all && owner.contact().is_some() {
                break;
            }
            let findings = self.ask(source, address);
            owner.findings.extend(findings);
        }
        owner
    }

    /// Who is registered here for all of a network: the operator's files and routes alone are asked.
    pub(super) fn registered(&mut self, network: IpNet) -> Option<(IpNet, Contact)> {
        for source in self.order.clone() {
            let findings = match source {
                OwnerSource::Contacts => vec![self.by_prefix(network.addr())],
                OwnerSource::Kernel | OwnerSource::Routers => self.by_route(source, network.addr()),
                OwnerSource::Rwhois | OwnerSource::Whois | OwnerSource::Rdap => continue,
            };
            for finding in findings {
                let Outcome::Found {
                    contact,
                    network: of,
                    route,
                } = finding.outcome
                else {
                    continue;
                };
                let of = of.and_then(|of| of.parse().ok());
                let of = of.or(route.map(|route| route.destination))?;
                return of.contains(&network).then_some((of, contact));
            }
        }
        None
    }

    /// Reads the tables of routes of the sources in the order. Gives why some of them could not be read.
    pub fn read_routes(&mut self) -> Vec<String> {
        let (keep, remembered) = (self.keep, &self.remembered);
        self.tables
            .iter_mut()
            .filter_map(|kept| kept.table(keep, remembered).0.err().map(str::to_owned))
            .collect()
    }

    /// Calls `each` with every route of the tables that could be read, and the name of its table.
    pub fn each_route(
        &mut self,
        mut each: impl FnMut(&str, Route) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for kept in &mut self.tables {
            // Reading it may give it a better name.
            if kept.table(self.keep, &self.remembered).0.is_err() {
                continue;
            }
            let name = kept.name.clone();
            for route in kept
                .table(self.keep, &self.remembered)
                .0
                .iter()
                .flat_map(|table| table.iter())
            {
                each(&name, route)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, source: OwnerSource, address: IpAddr) -> Vec<Finding> {
        match source {
            OwnerSource::Contacts => vec![self.by_prefix(address)],
            OwnerSource::Kernel | OwnerSource::Routers => self.by_route(source, address),
            OwnerSource::Rwhois | OwnerSource::Whois | OwnerSource::Rdap => {
                vec![self.by_server(source, address)]
            }
        }
    }

    fn by_prefix(&self, address: IpAddr) -> Finding {
        match self.contacts.of(address) {
            Some(written) => Finding {
                source: OwnerSource::Contacts,
                provenance: place(&written),
                age: Some(seconds_since(written.changed)),
                outcome: Outcome::Found {
                    contact: written.contact.clone(),
                    network: written.prefix.map(|prefix| prefix.to_string()),
                    route: None,
                },
            },
            None => Finding {
                source: OwnerSource::Contacts,
                provenance: "the files with contacts".to_owned(),
                age: None,
                outcome: Outcome::Nobody {
                    reason: "no prefix there has this address in it".to_owned(),
                    route: None,
                },
            },
        }
    }

    /// What the tables of a source say, up to the first by which somebody is named.
    fn by_route(&mut self, source: OwnerSource, address: IpAddr) -> Vec<Finding> {
        let mut findings = Vec::new();
        let tables = self
            .tables
            .iter_mut()
            .filter(|kept| kept.source() == source);
        for kept in tables {
            let (read, age) = kept.table(self.keep, &self.remembered);
            let age = Some(age.as_secs());
            let routes = match read {
                Ok(table) => Ok(table.to(address)),
                Err(error) => Err(error.to_owned()),
            };
            let name = kept.name.clone();
            let finding = match routes {
                Err(reason) => Finding {
                    source,
                    provenance: name,
                    age: None,
                    outcome: Outcome::Failed { reason },
                },
                Ok(routes) => {
                    let (by, outcome) = behind(&self.contacts, routes);
                    Finding {
                        source,
                        provenance: match by {
                            Some(by) => format!("{name}, {by}"),
                            None => name,
                        },
                        age,
                        outcome,
                    }
                }
            };
            let found = matches!(finding.outcome, Outcome::Found { .. });
            findings.push(finding);
            if found {
                break;
            }
        }
        findings
    }

    fn by_server(&mut self, source: OwnerSource, address: IpAddr) -> Finding {
        if !self.is_recalled {
            self.is_recalled = true;
            self.remembered.answers(&self.asked, &mut self.cache);
        }
        let now = Instant::now();
        if let Some(answer) = self.cache.get(source, address, now) {
            return Finding {
                source,
                provenance: answer.provenance.clone(),
                age: Some(now.saturating_duration_since(answer.at).as_secs()),
                outcome: answer.outcome.clone(),
            };
        }
        let (provenance, outcome) = match source {
            OwnerSource::Rdap => self.by_rdap(address),
            OwnerSource::Rwhois => self.by_directory(Protocol::Rwhois, address),
            _ => self.by_directory(Protocol::Whois, address),
        };
        let is_answer = !matches!(outcome, Outcome::Failed { .. });
        let answer = Answer {
            provenance: provenance.clone(),
            outcome: outcome.clone(),
            at: now,
            came: milliseconds(SystemTime::now()),
        };
        self.cache.put(source, address, answer);
        if is_answer {
            self.remembered.keep_answers(&self.asked, &self.cache);
        }
        Finding {
            source,
            provenance,
            age: is_answer.then_some(0),
            outcome,
        }
    }

    fn by_directory(&mut self, protocol: Protocol, address: IpAddr) -> (String, Outcome) {
        let deadline = Deadline::after(self.timeout);
        let servers = match protocol {
            Protocol::Whois => &self.whois,
            Protocol::Rwhois => &self.rwhois,
        };
        let mut nobody = None;
        let mut failed = Vec::new();
        for server in servers {
            let target = Target {
                protocol,
                server: server.clone(),
            };
            let name = target.to_string();
            if let Some(reason) = resting(&self.resting, &name) {
                failed.push(reason);
                continue;
            }
            match directory::ask(target, address, deadline) {
                Ok(heard) => {
                    self.resting.answered(&name);
                    let by = heard.by.to_string();
                    match heard.found {
                        Some((contact, network)) => {
                            let outcome = Outcome::Found {
                                contact,
                                network,
                                route: None,
                            };
                            return (by, outcome);
                        }
                        None => {
                            let mut reason = "it names nobody for abuse".to_owned();
                            if let Some(stopped) = heard.stopped {
                                reason = format!("{reason}; {stopped}");
                            }
                            nobody.get_or_insert((
                                by,
                                Outcome::Nobody {
                                    reason,
                                    route: None,
                                },
                            ));
                        }
                    }
                }
                Err(error) => {
                    self.resting.failed(&name, &error, None, Instant::now());
                    failed.push(error);
                }
            }
        }
        nobody.unwrap_or_else(|| {
            let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
            let reason = failed.join("; ");
            (names.join(", "), Outcome::Failed { reason })
        })
    }

    fn by_rdap(&mut self, address: IpAddr) -> (String, Outcome) {
        let Some(server) = self.bootstrap.server(address).cloned() else {
            let reason = "no server is named there for this address".to_owned();
            let by = "the bootstrap files of RDAP".to_owned();
            return (
                by,
                Outcome::Nobody {
                    reason,
                    route: None,
                },
            );
        };
        let name = server.to_string();
        if let Some(reason) = resting(&self.resting, &name) {
            return (name, Outcome::Failed { reason });
        }
        let deadline = Deadline::after(self.timeout);
        match rdap::ask(&server, address, &self.authorities, deadline) {
            Ok(heard) => {
                self.resting.answered(&name);
                let outcome = match heard.found {
                    Some((contact, network)) => Outcome::Found {
                        contact,
                        network,
                        route: None,
                    },
                    None => Outcome::Nobody {
                        reason: "it names nobody for abuse".to_owned(),
                        route: None,
                    },
                };
                (heard.by, outcome)
            }
            Err(unheard) => {
                let now = Instant::now();
                self.resting.failed(&name, &unheard.why, unheard.rest, now);
                (
                    name,
                    Outcome::Failed {
                        reason: unheard.why,
                    },
                )
            }
        }
    }
}

/// Who is asked for an answer.
fn asked(settings: &Settings) -> Asked {
    let servers = |named: &[Server]| named.iter().map(ToString::to_string).collect();
    let files = &settings.rdap_bootstrap;
    Asked::from([
        (OwnerSource::Rwhois, servers(&settings.rwhois)),
        (OwnerSource::Whois, servers(&settings.whois)),
        (
            OwnerSource::Rdap,
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
        ),
    ])
}

/// The ports that look-ups connect to: those of the servers that are named, and the usual ones of those that
/// they refer to. A bootstrap file that cannot be used has none; whoever makes a [`Desk`] is told.
pub fn ports(settings: &Settings) -> Vec<u16> {
    let named = settings.rwhois.iter().chain(&settings.whois);
    let mut ports: Vec<u16> = named.map(|server| server.port).collect();
    if !ports.is_empty() {
        ports.extend([directory::WHOIS_PORT, directory::RWHOIS_PORT]);
    }
    if !settings.rdap_bootstrap.is_empty() {
        ports.extend([80, 443]);
        if let Ok(bootstrap) = Bootstrap::load(&settings.rdap_bootstrap) {
            ports.extend(bootstrap.ports());
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Why a server is not asked now.
fn resting(resting: &Resting, server: &str) -> Option<String> {
    let (left, why) = resting.of(server, Instant::now())?;
    Some(format!(
        "{server} is not asked for another {} s: {why}",
        left.as_secs() + 1
    ))
}

/// Who is written for the next hop of the first of these routes for which somebody is, and where.
fn behind(contacts: &Contacts, routes: Vec<Route>) -> (Option<String>, Outcome) {
    for route in &routes {
        let written = route.next_hop.and_then(|hop| contacts.behind(hop));
        if let Some(written) = written {
            let outcome = Outcome::Found {
                contact: written.contact.clone(),
                network: Some(route.destination.to_string()),
                route: Some(route.clone()),
            };
            return (Some(place(&written)), outcome);
        }
    }
    let route = routes.into_iter().next();
    let reason = match &route {
        None => "it has no route to this address".to_owned(),
        Some(Route {
            next_hop: Some(hop),
            ..
        }) => format!("no contact is written for the next hop {hop}"),
        Some(_) => {
            "the address is reached directly, or not at all: there is no next hop".to_owned()
        }
    };
    (None, Outcome::Nobody { reason, route })
}

fn place(written: &Written<'_>) -> String {
    format!("{}:{}", written.file.display(), written.line)
}

fn seconds_since(time: SystemTime) -> u64 {
    // A file from the future is new.
    time.elapsed().map_or(0, |age| age.as_secs())
}
