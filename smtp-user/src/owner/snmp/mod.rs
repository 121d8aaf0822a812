//! The routes of a router, by SNMP (RFC 3416) with GETBULK, in version 2c or 3.
//!
//! Contract: read-only, one router at a time, over a socket that hears nobody else. It ends within the time
//! that the router is given, with all of its routes or with none: a router that does not get on, repeats
//! itself, has too many rows or says nothing is a failure that names it. Secrets come from files and are in
//! no message. What is read is decoded by [`decode`]; what does not fit there is counted.

mod access;
mod decode;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use snmp2::{Oid, SyncSession, Value};

use self::access::{Access, open};
use self::decode::{Row, inet_cidr, ip_cidr, ip_route};
use super::routes::{Hop, RouteTable, Routes};
use super::settings::{Router, Table, Version};
use crate::failure::{Failure, Kind};

/// How long an answer is waited for before the question is asked again, at first: each time that none comes it is
/// waited for twice as long, for a busy router answers late.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that one is waited for.
const LONGEST_PATIENCE: Duration = Duration::from_secs(16);
/// How often a question is asked.
const ATTEMPTS: u32 = 4;

/// The tables that are read, as answers call them.
pub(super) const TABLES: [&str; 3] = ["inetCidrRouteTable", "ipCidrRouteTable", "ipRouteTable"];

/// What was read of a router.
#[derive(Debug)]
pub(super) struct Reading {
    /// Its routes.
    pub(super) table: RouteTable,
    /// Which table they are of.
    pub(super) of: &'static str,
    /// Rows that were no routes.
    pub(super) unfit: u64,
}

/// Reads the routes of a router; not more than `most`.
pub(super) fn read(router: &Router, most: usize) -> Result<Reading, Failure> {
    let access = Access::load(router)?;
    // On a thread of its own: a library that does not stand an answer ends this reading and nothing else.
    let read = thread::scope(|scope| {
        thread::Builder::new()
            .name("snmp".to_owned())
            // The library keeps two datagrams of the largest size on the stack.
            .stack_size(4 << 20)
            .spawn_scoped(scope, || Walker::new(router, access)?.read(most))
            .map_err(|error| format!("cannot start a thread: {error}"))?
            .join()
            .unwrap_or_else(|_| Err("an answer of it cannot be decoded".to_owned()))
    });
    read.map_err(|error| {
        Failure::new(
            Kind::Unavailable,
            format!(
                "cannot read the routes of the router {} at {}: {error}",
                router.name, router.address
            ),
        )
    })
}

/// Goes through the tables of one router.
struct Walker<'a> {
    router: &'a Router,
    access: Access,
    session: Box<SyncSession>,
    /// How long that session waits for an answer. Who has answered late once is waited for as long from then on.
    patience: Duration,
    /// Questions since the last answer, and how long an answer to them was waited for.
    unanswered: (u32, Duration),
    /// When it has to be over.
    end: Instant,
    /// Rows in one answer: fewer once the router has said that they were too many.
    repetitions: u32,
    /// The number of the next session's first question.
    sessions: i32,
}

impl<'a> Walker<'a> {
    fn new(router: &'a Router, access: Access) -> Result<Self, String> {
        let end = Instant::now() + router.time.0;
        let patience = PATIENCE.min(router.time.0);
        let session = open(router, &access, patience, 1)?;
        let mut walker = Self {
            router,
            access,
            session,
            patience,
            unanswered: (0, Duration::ZERO),
            end,
            repetitions: router.repetitions,
            sessions: 1,
        };
        walker.discover()?;
        Ok(walker)
    }

    /// Version 3 asks who the router is before anything else.
    fn discover(&mut self) -> Result<(), String> {
        if self.router.version == Version::V2c {
            return Ok(());
        }
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let left = self.left(&last)?;
            self.hurry(left)?;
            let Err(error) = self.session.init() else {
                return Ok(());
            };
            last = self.heard_nothing(&error);
            if matches!(error, snmp2::Error::Receive) {
                let left = self.left(&last)?;
                self.renew(longer(self.patience, left))?;
            }
        }
        Err(last)
    }

    fn read(mut self, most: usize) -> Result<Reading, String> {
        let tables: &[Table] = match self.router.table {
            Table::Auto => &[Table::InetCidr, Table::IpCidr, Table::IpRoute],
            Table::InetCidr => &[Table::InetCidr],
            Table::IpCidr => &[Table::IpCidr],
            Table::IpRoute => &[Table::IpRoute],
        };
        for table in tables {
            let reading = match table {
                Table::IpCidr => {
                    self.by_index(TABLES[1], decode::IP_CIDR_ROUTE_TYPE, ip_cidr, most)
                }
                Table::IpRoute => self.ip_routes(most),
                Table::InetCidr | Table::Auto => {
                    self.by_index(TABLES[0], decode::INET_CIDR_ROUTE_TYPE, inet_cidr, most)
                }
            }?;
            if reading.table.len() > 0 {
                return Ok(reading);
            }
        }
        Err("it shows no route: may this user see the tables of routes (1.3.6.1.2.1.4)?".to_owned())
    }

    /// A table whose index says everything.
    fn by_index(
        &mut self,
        of: &'static str,
        column: &[u64],
        decode: fn(&[u64]) -> Result<Row, &'static str>,
        most: usize,
    ) -> Result<Reading, String> {
        let mut routes = Routes::new(most);
        let mut unfit = 0;
        self.walk(column, most, |index, _| match decode(index) {
            Ok(row) => routes.add(row.destination, 0, hop(row)),
            Err(why) => {
                tracing::debug!("{of}: {why}: {index:?}");
                unfit += 1;
                Ok(())
            }
        })?;
        Ok(Reading {
            table: routes.finish(),
            of,
            unfit,
        })
    }

    /// `ipRouteTable`: masks first, then next hops.
    fn ip_routes(&mut self, most: usize) -> Result<Reading, String> {
        let mut masks: HashMap<[u64; 4], [u8; 4]> = HashMap::new();
        let mut unfit = 0;
        self.walk(decode::IP_ROUTE_MASK, most, |index, value| {
            match (index.try_into(), value) {
                (Ok(index), Value::IpAddress(mask)) => {
                    masks.insert(index, *mask);
                }
                _ => unfit += 1,
            }
            Ok(())
        })?;
        let mut routes = Routes::new(most);
        self.walk(decode::IP_ROUTE_NEXT_HOP, most, |index, value| {
            let mask = <[u64; 4]>::try_from(index)
                .ok()
                .and_then(|index| masks.get(&index));
            let row = match (mask, value) {
                (Some(mask), Value::IpAddress(hop)) => ip_route(index, *mask, *hop),
                _ => Err("there is no mask"),
            };
            match row {
                Ok(row) => routes.add(row.destination, 0, hop(row)),
                Err(_) => {
                    unfit += 1;
                    Ok(())
                }
            }
        })?;
        Ok(Reading {
            table: routes.finish(),
            of: TABLES[2],
            unfit,
        })
    }

    /// Calls `row` with the index and the value of each row of a column, in their order; not more than
    /// `most` times.
    fn walk(
        &mut self,
        column: &[u64],
        most: usize,
        mut row: impl FnMut(&[u64], &Value<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut last = column.to_vec();
        let mut rows = 0_usize;
        loop {
            let from = last.clone();
            let mut over = false;
            let mut heard = 0_u32;
            self.ask(&from, |name, value| {
                heard += 1;
                if over {
                    return Ok(());
                }
                let Some(index) = name.strip_prefix(column) else {
                    over = true;
                    return Ok(());
                };
                if matches!(
                    value,
                    Value::EndOfMibView | Value::NoSuchObject | Value::NoSuchInstance
                ) {
                    over = true;
                    return Ok(());
                }
                if name <= &last[..] {
                    return Err("it does not get on: a row came that was there before".to_owned());
                }
                rows += 1;
                if rows > most {
                    return Err(format!(
                        "it has more than {most} rows, which is more than is taken"
                    ));
                }
                last.clear();
                last.extend_from_slice(name);
                row(index, value)
            })?;
            if heard == 0 {
                return Err("it answers without a row".to_owned());
            }
            if over {
                return Ok(());
            }
        }
    }

    /// Asks for the rows behind a name, and calls `row` with each that the answer has.
    fn ask(
        &mut self,
        name: &[u64],
        mut row: impl FnMut(&[u64], &Value<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let oid =
            Oid::from(name).map_err(|_| "it gave a name that cannot be asked for".to_owned())?;
        let mut last = String::new();
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            attempts += 1;
            let left = self.left(&last)?;
            if self.hurry(left)? {
                self.discover()?;
            }
            let repetitions = self.repetitions;
            let error = match self.session.getbulk(&[&oid], 0, repetitions) {
                Ok(answer) => match answer.error_status {
                    0 => {
                        // The question is answered.
                        self.unanswered = (0, Duration::ZERO);
                        let mut arcs = Vec::new();
                        for (name, value) in answer.varbinds {
                            arcs.clear();
                            let Some(numbers) = name.iter() else {
                                return Err("a number in a name is too large".to_owned());
                            };
                            arcs.extend(numbers);
                            row(&arcs, &value)?;
                        }
                        return Ok(());
                    }
                    // tooBig: it cannot put so many rows into one answer.
                    1 if repetitions > 1 => {
                        self.repetitions = repetitions / 2;
                        attempts = 0;
                        continue;
                    }
                    status => {
                        return Err(format!("it answers with the error {status} of RFC 3416"));
                    }
                },
                Err(error) => error,
            };
            last = self.heard_nothing(&error);
            match error {
                // The router's clock is known now; the question was not answered.
                snmp2::Error::AuthUpdated => {}
                snmp2::Error::Receive | snmp2::Error::Send => {
                    let left = self.left(&last)?;
                    self.renew(longer(self.patience, left))?;
                    self.discover()?;
                }
                // A late answer to a question before: a socket of its own for the next one.
                snmp2::Error::RequestIdMismatch => {
                    let left = self.left(&last)?;
                    self.renew(self.patience.min(left))?;
                    self.discover()?;
                }
                _ => return Err(last),
            }
        }
        Err(last)
    }

    /// What is left of the time; without any, `last` is what went wrong last.
    fn left(&self, last: &str) -> Result<Duration, String> {
        let left = self.end.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Ok(left);
        }
        Err(match last {
            "" => "its routes take longer than it is given (owner.router, time)".to_owned(),
            last => last.to_owned(),
        })
    }

    /// Sees to it that no answer is waited for much longer than there is time. Whether that took a new session.
    fn hurry(&mut self, left: Duration) -> Result<bool, String> {
        let is_too_long = self.patience > left.max(PATIENCE);
        if is_too_long {
            self.renew(fitting(self.patience, left))?;
        }
        Ok(is_too_long)
    }

    /// A new session, whose socket hears no late answer, and which waits for so long.
    fn renew(&mut self, patience: Duration) -> Result<(), String> {
        self.sessions += 1;
        let first = self.sessions.wrapping_mul(1 << 16);
        self.session = open(self.router, &self.access, patience, first)?;
        self.patience = patience;
        Ok(())
    }

    /// Counts a question without an answer, and explains the error.
    fn heard_nothing(&mut self, error: &snmp2::Error) -> String {
        if matches!(error, snmp2::Error::Receive) {
            let (count, waited) = self.unanswered;
            self.unanswered = (count + 1, waited + self.patience);
        }
        self.explained(error)
    }

    /// An error of the library's, with what to look at.
    fn explained(&self, error: &snmp2::Error) -> String {
        match error {
            snmp2::Error::Receive => format!(
                "no answer to {} questions in {} s: is SNMP on there, does it let this machine in, and are \
                 version and {} right?",
                self.unanswered.0,
                self.unanswered.1.as_secs(),
                match self.router.version {
                    Version::V2c => "community",
                    Version::V3 => "user",
                }
            ),
            snmp2::Error::AuthFailure(what) => {
                format!("{what}: are user, auth, privacy and their files right?")
            }
            other => other.to_string(),
        }
    }
}

/// How long the next answer is waited for, when this was not long enough.
fn longer(patience: Duration, left: Duration) -> Duration {
    fitting((2 * patience).min(LONGEST_PATIENCE), left)
}

/// A patience that fits into the time that is left: half of it and again half, so that a last question or two can
/// still be asked.
fn fitting(mut patience: Duration, left: Duration) -> Duration {
    while patience > left && patience > PATIENCE {
        patience /= 2;
    }
    patience.min(left)
}

fn hop(row: Row) -> Hop {
    Hop {
        next_hop: row.next_hop,
        interface: None,
    }
}

#[cfg(test)]
mod tests;
