//! The routes of a router, by SNMP (RFC 3416) with GETBULK, in version 2c or 3.
//!
//! Contract: read-only, one router at a time, over a socket that hears nobody else. It ends within the time
//! that the router is given, with all of its routes or with none: a router that does not get on, repeats
//! itself, has too many rows or says nothing is a failure that names it. Secrets come from files and are in
//! no message. What is read is decoded by [`decode`]; what does not fit there is counted.

mod decode;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use snmp2::{Oid, SyncSession, Value, v3};

use self::decode::{Row, inet_cidr, ip_cidr, ip_route};
use super::routes::{Hop, RouteTable, Routes};
use super::settings::{Auth, Privacy, Router, Table, Version};
use crate::failure::{Failure, Kind};
use crate::secret::Secret;

/// How long an answer is waited for before the question is asked again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a question is asked.
const ATTEMPTS: u32 = 4;
/// Longest community (a limit of ours) and passphrase.
const LONGEST_SECRET: usize = 255;
/// Shortest passphrase (RFC 3414, section 11.2).
const SHORTEST_PASSPHRASE: usize = 8;

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

/// What opens a router.
enum Access {
    Community(Secret),
    User {
        auth: Secret,
        privacy: Option<Secret>,
    },
}

impl Access {
    fn load(router: &Router) -> Result<Self, Failure> {
        let missing = || {
            Failure::new(
                Kind::BadConfig,
                format!(
                    "the router {} has no file with its secret (owner.router)",
                    router.name
                ),
            )
        };
        let passphrase = |file| {
            Secret::load(
                file,
                "SNMP passphrase",
                SHORTEST_PASSPHRASE..=LONGEST_SECRET,
            )
        };
        match router.version {
            Version::V2c => {
                let file = router.community_file.as_ref().ok_or_else(missing)?;
                Secret::load(file, "SNMP community", 1..=LONGEST_SECRET).map(Self::Community)
            }
            Version::V3 => Ok(Self::User {
                auth: passphrase(router.auth_file.as_ref().ok_or_else(missing)?)?,
                privacy: match &router.privacy_file {
                    Some(file) => Some(passphrase(file)?),
                    None => None,
                },
            }),
        }
    }
}

/// Goes through the tables of one router.
struct Walker<'a> {
    router: &'a Router,
    access: Access,
    session: Box<SyncSession>,
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
        let session = open(router, &access, patience(end)?, 1)?;
        let mut walker = Self {
            router,
            access,
            session,
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
            patience(self.end)?;
            match self.session.init() {
                Ok(()) => return Ok(()),
                Err(error) => last = self.explained(&error),
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
                Table::IpCidr => self.by_index(
                    "ipCidrRouteTable",
                    decode::IP_CIDR_ROUTE_TYPE,
                    ip_cidr,
                    most,
                ),
                Table::IpRoute => self.ip_routes(most),
                Table::InetCidr | Table::Auto => self.by_index(
                    "inetCidrRouteTable",
                    decode::INET_CIDR_ROUTE_TYPE,
                    inet_cidr,
                    most,
                ),
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
            of: "ipRouteTable",
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
            patience(self.end)?;
            let repetitions = self.repetitions;
            let error = match self.session.getbulk(&[&oid], 0, repetitions) {
                Ok(answer) => match answer.error_status {
                    0 => {
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
            last = self.explained(&error);
            match error {
                // The router's clock is known now; the question was not answered.
                snmp2::Error::AuthUpdated => {}
                snmp2::Error::Receive | snmp2::Error::Send => self.reopen()?,
                // A late answer to a question before: a socket of its own for the next one.
                snmp2::Error::RequestIdMismatch => self.reopen()?,
                _ => return Err(last),
            }
        }
        Err(last)
    }

    /// A new socket, which hears no late answer.
    fn reopen(&mut self) -> Result<(), String> {
        self.sessions += 1;
        let first = self.sessions.wrapping_mul(1 << 16);
        self.session = open(self.router, &self.access, patience(self.end)?, first)?;
        self.discover()
    }

    /// An error of the library's, with what to look at.
    fn explained(&self, error: &snmp2::Error) -> String {
        match error {
            snmp2::Error::Receive => format!(
                "no answer to {ATTEMPTS} questions, {} s apart at most: is SNMP on there, does it let this \
                 machine in, and are version and {} right?",
                PATIENCE.as_secs(),
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

/// What is left of the time, at most as long as one answer is waited for.
fn patience(end: Instant) -> Result<Duration, String> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err("its routes take longer than it is given (owner.router, time)".to_owned());
    }
    Ok(left.min(PATIENCE))
}

fn open(
    router: &Router,
    access: &Access,
    patience: Duration,
    first: i32,
) -> Result<Box<SyncSession>, String> {
    let opened = match access {
        Access::Community(community) => {
            SyncSession::new_v2c(router.address, community.bytes(), Some(patience), first)
        }
        Access::User { auth, privacy } => {
            let user = router.user.as_deref().unwrap_or_default();
            let mut security = v3::Security::new(user.as_bytes(), auth.bytes())
                .with_auth_protocol(hash(router.auth))
                .with_context_name(&router.context);
            security = match (router.privacy, privacy) {
                (Some(cipher), Some(privacy)) => security.with_auth(v3::Auth::AuthPriv {
                    cipher: match cipher {
                        Privacy::Des => v3::Cipher::Des,
                        Privacy::Aes128 => v3::Cipher::Aes128,
                        Privacy::Aes256 => v3::Cipher::Aes256,
                    },
                    privacy_password: privacy.bytes().to_vec(),
                }),
                _ => security.with_auth(v3::Auth::AuthNoPriv),
            };
            SyncSession::new_v3(router.address, Some(patience), first, security)
        }
    };
    opened
        .map(Box::new)
        .map_err(|error| format!("cannot open a socket to it: {error}"))
}

fn hash(auth: Option<Auth>) -> v3::AuthProtocol {
    match auth {
        Some(Auth::Md5) => v3::AuthProtocol::Md5,
        Some(Auth::Sha1) => v3::AuthProtocol::Sha1,
        Some(Auth::Sha224) => v3::AuthProtocol::Sha224,
        Some(Auth::Sha384) => v3::AuthProtocol::Sha384,
        Some(Auth::Sha512) => v3::AuthProtocol::Sha512,
        Some(Auth::Sha256) | None => v3::AuthProtocol::Sha256,
    }
}

fn hop(row: Row) -> Hop {
    Hop {
        next_hop: row.next_hop,
        interface: None,
    }
}

#[cfg(test)]
mod tests;
