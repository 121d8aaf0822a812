//! The routes of a router, as they are kept: 9 octets for a route of IPv4 and 21 for one of IPv6.
//!
//! Contract: what is read is a table within the same bounds as one that a router gives, or a failure. Numbers are in
//! big endian.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};

use crate::owner::prefixes::Drafts as Rows;
use crate::owner::routes::{Hop, MOST_ROUTES, RouteTable};
use crate::owner::settings::Router;
use crate::owner::snmp::{Reading, TABLES};

/// How the names of files begin and end.
const NAME: (&str, &str) = ("routes-", ".kept");
/// Octets of a name that are of the router.
const SHORT: usize = 8;
/// What is added to the length of a prefix of IPv6: more than the longest one of IPv4.
const V6: u8 = 64;
/// For so many next hops there is room from the beginning.
const CAPACITY: usize = 4096;

/// The file of a router: another one when it is asked in another way.
pub(super) fn name(router: &Router) -> String {
    let (begin, end) = NAME;
    let digest = digest(router);
    let middle: String = digest[..SHORT]
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    format!("{begin}{middle}{end}")
}

/// Whether a file is one of a router.
pub(super) fn is_name(name: &str) -> bool {
    let (begin, end) = NAME;
    name.starts_with(begin) && name.ends_with(end)
}

/// What makes the answer another one. Where the secrets are does not.
fn digest(router: &Router) -> [u8; 32] {
    let Router {
        name,
        address,
        version,
        community_file: _,
        user,
        auth: _,
        auth_file: _,
        privacy: _,
        privacy_file: _,
        context,
        table,
        repetitions: _,
        time: _,
    } = router;
    let text = format!("{name:?} {address} {version:?} {user:?} {context:?} {table:?}");
    Sha256::digest(text).into()
}

/// Routes, whose reading began at this time in milliseconds since 1970.
pub(super) fn encode(router: &Router, reading: &Reading, at: u64) -> Vec<u8> {
    let Reading {
        table,
        of,
        unfit: _,
    } = reading;
    let mut body = Vec::with_capacity(64 + 21 * table.len());
    body.extend(digest(router));
    body.extend(at.to_be_bytes());
    let number = TABLES
        .iter()
        .position(|name| name == of)
        .unwrap_or(TABLES.len());
    body.push(u8::try_from(number).unwrap_or(u8::MAX));
    body.extend(count(table.hops().len()));
    for hop in table.hops() {
        match hop.next_hop {
            None => body.push(0),
            Some(IpAddr::V4(v4)) => {
                body.push(4);
                body.extend(v4.octets());
            }
            Some(IpAddr::V6(v6)) => {
                body.push(6);
                body.extend(v6.octets());
            }
        }
    }
    body.extend(count(table.len()));
    for (destination, hop) in table.numbered() {
        match destination {
            IpNet::V4(v4) => {
                body.push(v4.prefix_len());
                body.extend(v4.addr().octets());
            }
            IpNet::V6(v6) => {
                body.push(V6 + v6.prefix_len());
                body.extend(v6.addr().octets());
            }
        }
        body.extend(hop.to_be_bytes());
    }
    body
}

/// What a file of [`encode`] holds, and when reading it began.
pub(super) fn decode(router: &Router, body: &[u8]) -> Result<(Reading, u64), String> {
    let mut body = Octets(body);
    if body.take::<32>()? != digest(router) {
        return Err("it is of another router".to_owned());
    }
    let at = u64::from_be_bytes(body.take()?);
    let [number] = body.take()?;
    let of = TABLES
        .get(usize::from(number))
        .ok_or_else(|| "it is of a table that nobody knows".to_owned())?;
    let count = body.count()?;
    let mut hops = Vec::with_capacity(count.min(CAPACITY));
    for _ in 0..count {
        let next_hop = match body.take()? {
            [0] => None,
            [4] => Some(IpAddr::from(body.take::<4>()?)),
            [6] => Some(IpAddr::from(body.take::<16>()?)),
            [kind] => return Err(format!("it has a next hop of the kind {kind}")),
        };
        hops.push(Hop {
            next_hop,
            interface: None,
        });
    }
    let count = body.count()?;
    let mut rows = Rows::default();
    for _ in 0..count {
        let [kind] = body.take()?;
        let destination = match kind.checked_sub(V6) {
            None => Ipv4Net::new(body.take::<4>()?.into(), kind).map(IpNet::V4),
            Some(length) => Ipv6Net::new(body.take::<16>()?.into(), length).map(IpNet::V6),
        };
        let destination = destination.map_err(|_| "it has a prefix that is too long".to_owned())?;
        let hop = u32::from_be_bytes(body.take()?);
        if hop as usize >= hops.len() {
            return Err("it has a route without a next hop".to_owned());
        }
        rows.add(destination, 0, hop);
    }
    if !body.0.is_empty() {
        return Err("there is something behind its routes".to_owned());
    }
    let reading = Reading {
        table: RouteTable::of(hops, rows),
        of,
        unfit: 0,
    };
    Ok((reading, at))
}

/// What is left of a file.
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| "it ends too early".to_owned())?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A number of hops or routes, not more than a router may have.
    fn count(&mut self) -> Result<usize, String> {
        let count = u32::from_be_bytes(self.take()?) as usize;
        if count > MOST_ROUTES {
            return Err(format!("it has more than {MOST_ROUTES} routes"));
        }
        Ok(count)
    }
}

/// There are fewer than that.
fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()
}
