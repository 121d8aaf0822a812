//! The routes of a network namespace.
//!
//! Contract: the main table of the calling thread's network namespace, IPv4 and IPv6, without the kernel's
//! own entries for its addresses and for broadcast and multicast. Nothing is changed and no privilege is
//! needed. A route that cannot be read costs only itself; one that the kernel tells while its table changes
//! costs another look.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::parse_u32;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Kernel, attributes};
use crate::failure::{Failure, Kind};

/// Asks for routes (linux/rtnetlink.h).
const RTM_GETROUTE: u16 = 26;
/// A copy that the kernel made for one destination (IPv6 before 4.2).
const RTM_F_CLONED: u32 = 0x200;
/// The length of struct rtmsg.
const HEADER: usize = 12;
/// The length of struct rtnexthop.
const NEXT_HOP: usize = 8;

/// Families of addresses (linux/socket.h).
mod family {
    pub(super) const INET: u8 = 2;
    pub(super) const INET6: u8 = 10;
}

/// Kinds of routes (linux/rtnetlink.h).
mod kind {
    pub(super) const UNICAST: u8 = 1;
    /// What is thrown away, with or without a word.
    pub(super) const BLACKHOLE: u8 = 6;
    pub(super) const UNREACHABLE: u8 = 7;
    pub(super) const PROHIBIT: u8 = 8;
}

/// Attributes of a route (linux/rtnetlink.h). The parser of netlink-packet-route gives up the whole route at
/// the first attribute that it does not understand, so the few that matter are read here.
mod attribute {
    pub(super) const DESTINATION: u16 = 1;
    pub(super) const INTERFACE: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const TABLE: u16 = 15;
    /// A gateway of another family than the destination.
    pub(super) const VIA: u16 = 18;
}

/// The table that routing daemons and `ip route` write to (RT_TABLE_MAIN).
const MAIN: u32 = 254;

/// A way to a destination. One with several ways is told once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRoute {
    /// What is reached.
    pub destination: IpNet,
    /// By which neighbour; `None` if directly, or if it is not reached at all.
    pub next_hop: Option<IpAddr>,
    /// Through which interface, by its index; 0 if it is not reached at all.
    pub interface: u32,
    /// The lower, the better.
    pub metric: u32,
}

/// All routes; a failure if there are more than `most`.
pub fn routes(most: usize) -> Result<Vec<KernelRoute>, Failure> {
    for _ in 0..4 {
        if let Some(routes) = dump(most).context("cannot read the routes of this machine")? {
            return Ok(routes);
        }
    }
    Err(Failure::new(
        Kind::Unavailable,
        "cannot read the routes of this machine: they change faster than they can be read; try again",
    ))
}

/// One look; `None` if it was disturbed.
fn dump(most: usize) -> anyhow::Result<Option<Vec<KernelRoute>>> {
    let mut kernel = Kernel::open(NETLINK_ROUTE)?;
    let mut routes = Vec::new();
    for family in [family::INET, family::INET6] {
        // Nothing but the family: all of its tables.
        let mut question = [0; HEADER];
        question[0] = family;
        let disturbed = kernel.ask_each(RTM_GETROUTE, &question, |message| {
            read(message, &mut routes);
            ensure!(
                routes.len() <= most,
                "there are more than {most} routes, which is more than is taken"
            );
            Ok(())
        })?;
        if disturbed {
            return Ok(None);
        }
    }
    Ok(Some(routes))
}

/// Adds the routes that a message describes, if they are of the kinds that matter.
fn read(message: &[u8], to: &mut Vec<KernelRoute>) {
    let Some((header, rest)) = message.split_first_chunk::<HEADER>() else {
        return;
    };
    let [family, length, _, _, table, _, _, kind, flags @ ..] = *header;
    let reached = match kind {
        kind::UNICAST => true,
        kind::BLACKHOLE | kind::UNREACHABLE | kind::PROHIBIT => false,
        _ => return,
    };
    if u32::from_ne_bytes(flags) & RTM_F_CLONED != 0 {
        return;
    }
    let mut table = u32::from(table);
    let mut destination = match family {
        family::INET => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        family::INET6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return,
    };
    let mut way = Way::default();
    let mut ways = Vec::new();
    let mut metric = 0;
    for (kind, value) in attributes(rest) {
        match kind {
            attribute::DESTINATION => match address(value) {
                Some(address) => destination = address,
                None => return,
            },
            attribute::TABLE => table = parse_u32(value).unwrap_or(table),
            attribute::PRIORITY => metric = parse_u32(value).unwrap_or(metric),
            attribute::MULTIPATH => ways = several(value),
            other => way.take(other, value),
        }
    }
    let prefix = match destination {
        IpAddr::V4(v4) => Ipv4Net::new(v4, length).map(IpNet::V4),
        IpAddr::V6(v6) => Ipv6Net::new(v6, length).map(IpNet::V6),
    };
    let (MAIN, Ok(destination)) = (table, prefix) else {
        return;
    };
    if !reached {
        // IPv6 names the loopback interface there.
        ways = vec![Way::default()];
    } else if ways.is_empty() {
        ways.push(way);
    }
    to.extend(ways.into_iter().map(|way| KernelRoute {
        destination,
        next_hop: way.next_hop,
        interface: way.interface,
        metric,
    }));
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    next_hop: Option<IpAddr>,
    interface: u32,
}

impl Way {
    fn take(&mut self, kind: u16, value: &[u8]) {
        match kind {
            attribute::INTERFACE => self.interface = parse_u32(value).unwrap_or_default(),
            attribute::GATEWAY => self.next_hop = address(value),
            // Its family, which its length says as well, and the address.
            attribute::VIA => self.next_hop = value.get(2..).and_then(address),
            _ => {}
        }
    }
}

/// The ways of a route that has several (struct rtnexthop, attributes behind each), up to the first broken one.
fn several(mut value: &[u8]) -> Vec<Way> {
    let mut ways = Vec::new();
    while let Some((header, _)) = value.split_first_chunk::<NEXT_HOP>() {
        let [length_0, length_1, _, _, interface @ ..] = *header;
        let length = usize::from(u16::from_ne_bytes([length_0, length_1]));
        let Some(inside) = value.get(NEXT_HOP..length) else {
            break;
        };
        let mut way = Way {
            next_hop: None,
            interface: u32::from_ne_bytes(interface),
        };
        for (kind, value) in attributes(inside) {
            way.take(kind, value);
        }
        ways.push(way);
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ways
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute as field;
    use super::*;

    fn header(family: u8, length: u8, table: u8, kind: u8) -> Vec<u8> {
        vec![family, length, 0, 0, table, 3, 0, kind, 0, 0, 0, 0]
    }

    fn routes_of(message: &[u8]) -> Vec<KernelRoute> {
        let mut routes = Vec::new();
        read(message, &mut routes);
        routes
    }

    fn route(destination: &str, next_hop: &str, interface: u32, metric: u32) -> KernelRoute {
        KernelRoute {
            destination: destination.parse().expect("a prefix"),
            next_hop: next_hop.parse().ok(),
            interface,
            metric,
        }
    }

    #[test]
    fn a_route_is_read_from_its_attributes() {
        let mut message = header(2, 22, 254, 1);
        message.extend(field(attribute::TABLE, &254_u32.to_ne_bytes()));
        message.extend(field(attribute::DESTINATION, &[203, 68, 52, 0]));
        message.extend(field(attribute::PRIORITY, &7_u32.to_ne_bytes()));
        message.extend(field(attribute::GATEWAY, &[203, 71, 2, 209]));
        message.extend(field(attribute::INTERFACE, &3_u32.to_ne_bytes()));
        let whole = route("203.68.52.0/22", "203.71.2.209", 3, 7);
        assert_eq!(routes_of(&message), [whole]);
        for length in 0..HEADER {
            assert_eq!(routes_of(&message[..length]), [], "{length}");
        }
        for length in HEADER..message.len() {
            // No panic, and nothing but routes to the destination or to everything.
            assert!(routes_of(&message[..length]).len() <= 1, "{length}");
        }
    }

    #[test]
    fn several_ways_and_a_gateway_of_another_family() {
        let mut via = vec![10, 0];
        via.extend(
            "fe80::1"
                .parse::<std::net::Ipv6Addr>()
                .expect("an address")
                .octets(),
        );
        let mut ways = Vec::new();
        for (interface, inside) in [
            (4_u32, field(attribute::GATEWAY, &[192, 0, 2, 1])),
            (5, field(attribute::VIA, &via)),
        ] {
            let length = u16::try_from(NEXT_HOP + inside.len()).expect("short");
            ways.extend(length.to_ne_bytes());
            ways.extend([0, 0]);
            ways.extend(interface.to_ne_bytes());
            ways.extend(inside);
        }
        let mut message = header(2, 0, 254, 1);
        message.extend(field(attribute::MULTIPATH, &ways));
        assert_eq!(
            routes_of(&message),
            [
                route("0.0.0.0/0", "192.0.2.1", 4, 0),
                route("0.0.0.0/0", "fe80::1", 5, 0)
            ]
        );
        // A way that says it is longer than what is there.
        ways[0] = 200;
        let mut message = header(2, 0, 254, 1);
        message.extend(field(attribute::MULTIPATH, &ways));
        assert_eq!(routes_of(&message), [route("0.0.0.0/0", "", 0, 0)]);
    }

    #[test]
    fn what_is_no_route_of_the_main_table_is_passed_over() {
        // The local table, multicast, a length that does not fit, another family.
        for message in [
            header(2, 32, 255, 1),
            header(2, 8, 254, 5),
            header(2, 33, 254, 1),
            header(28, 0, 254, 1),
        ] {
            assert_eq!(routes_of(&message), [], "{message:?}");
        }
        let mut blackhole = header(10, 0, 254, 6);
        blackhole.extend(field(attribute::INTERFACE, &1_u32.to_ne_bytes()));
        assert_eq!(routes_of(&blackhole), [route("::/0", "", 0, 0)]);
    }

    #[test]
    fn this_machine_is_asked_without_privilege_and_within_the_limit() {
        let all = routes(1 << 20).expect("netlink works without privilege");
        if !all.is_empty() {
            let failure = routes(0).expect_err("too many");
            assert!(
                failure.to_string().contains("more than 0 routes"),
                "{failure}"
            );
        }
    }
}
