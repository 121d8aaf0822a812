//! The routes of this machine and of the configured routers, as they were last read.
//!
//! Contract: a table is read when it is first needed, and again when it is older than the operator wants;
//! one that cannot be read says why, and is tried again after a minute. That of a router is not asked for where it
//! was kept, and is kept.

use std::time::{Duration, Instant, SystemTime};

use super::remembered::Remembered;
use super::routes::{Hop, MOST_ROUTES, RouteTable, Routes};
use super::settings::Router;
use super::snmp;
use crate::failure::Failure;
use crate::link;
use crate::model::owner::OwnerSource;

/// How long a table that could not be read is let be.
const REST: Duration = Duration::from_secs(60);

/// Where a table is from.
#[derive(Clone, Debug)]
enum Origin {
    /// This machine, in a network namespace.
    Kernel(Option<String>),
    Router(Box<Router>),
}

/// A table, and how reading it went.
#[derive(Debug)]
pub(super) struct Kept {
    origin: Origin,
    /// As answers call it.
    pub(super) name: String,
    last: Option<(Instant, Result<RouteTable, String>)>,
}

impl Kept {
    /// That of this machine.
    pub(super) fn kernel(netns: Option<String>) -> Self {
        Self {
            name: match &netns {
                Some(netns) => format!("the routes of the network namespace {netns}"),
                None => "the routes of this machine".to_owned(),
            },
            origin: Origin::Kernel(netns),
            last: None,
        }
    }

    /// That of a router.
    pub(super) fn router(router: Router) -> Self {
        Self {
            name: format!("the router {}", router.name),
            origin: Origin::Router(Box::new(router)),
            last: None,
        }
    }

    /// Which source it belongs to.
    pub(super) fn source(&self) -> OwnerSource {
        match self.origin {
            Origin::Kernel(_) => OwnerSource::Kernel,
            Origin::Router(_) => OwnerSource::Routers,
        }
    }

    /// The table and its age; it is read if need be.
    pub(super) fn table(
        &mut self,
        keep: Duration,
        remembered: &Remembered,
    ) -> (Result<&RouteTable, &str>, Duration) {
        let now = Instant::now();
        let usable = self.last.as_ref().is_some_and(|(at, read)| {
            let keep = if read.is_ok() { keep } else { REST };
            now.saturating_duration_since(*at) < keep
        });
        if !usable {
            self.last = Some(match self.recall(now, keep, remembered) {
                Some((at, table)) => (at, Ok(table)),
                // The age counts from the start of reading.
                None => {
                    let read = self.read(keep, remembered);
                    (now, read.map_err(|failure| failure.to_string()))
                }
            });
        }
        match &self.last {
            Some((at, Ok(table))) => (Ok(table), at.elapsed()),
            Some((at, Err(error))) => (Err(error.as_str()), at.elapsed()),
            // It was made above.
            None => (Err("it was not read"), Duration::ZERO),
        }
    }

    /// What was kept of a router, and when it was read.
    fn recall(
        &mut self,
        now: Instant,
        keep: Duration,
        remembered: &Remembered,
    ) -> Option<(Instant, RouteTable)> {
        let Origin::Router(router) = &self.origin else {
            return None;
        };
        let (reading, age) = remembered.routes(router, keep)?;
        self.name = called(router, reading.of);
        Some((now.checked_sub(age)?, reading.table))
    }

    fn read(&mut self, keep: Duration, remembered: &Remembered) -> Result<RouteTable, Failure> {
        match &self.origin {
            Origin::Kernel(netns) => kernel(netns.as_deref()),
            Origin::Router(router) => {
                let begun = SystemTime::now();
                let reading = snmp::read(router, MOST_ROUTES)?;
                remembered.keep_routes(router, &reading, begun, keep);
                if reading.unfit > 0 {
                    tracing::warn!(
                        "{} rows of {} of the router {} are no routes",
                        reading.unfit,
                        reading.of,
                        router.name
                    );
                }
                self.name = called(router, reading.of);
                Ok(reading.table)
            }
        }
    }
}

fn called(router: &Router, table: &str) -> String {
    format!("the router {} ({table})", router.name)
}

fn kernel(netns: Option<&str>) -> Result<RouteTable, Failure> {
    let (links, routes) = link::within(netns, || Ok((link::links()?, link::routes(MOST_ROUTES)?)))?;
    let mut table = Routes::new(MOST_ROUTES);
    for route in routes {
        let interface = links.iter().find(|link| link.index == route.interface);
        let hop = Hop {
            next_hop: route.next_hop,
            interface: interface.map(|link| link.name.clone()),
        };
        table
            .add(route.destination, route.metric, hop)
            .map_err(anyhow::Error::msg)?;
    }
    Ok(table.finish())
}
