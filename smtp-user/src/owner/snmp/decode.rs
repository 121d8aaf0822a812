//! Rows of the three tables of routes that routers have, from the index of a row.
//!
//! Contract: pure functions over the numbers that stand behind a column's own. What does not fit is no route
//! and says why; nothing is guessed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// `inetCidrRouteType` (RFC 4292): what the index of a row stands for is its whole route.
pub(super) const INET_CIDR_ROUTE_TYPE: &[u64] = &[1, 3, 6, 1, 2, 1, 4, 24, 7, 1, 8];
/// `ipCidrRouteType` (RFC 2096): the same for IPv4.
pub(super) const IP_CIDR_ROUTE_TYPE: &[u64] = &[1, 3, 6, 1, 2, 1, 4, 24, 4, 1, 6];
/// `ipRouteNextHop` (RFC 1213).
pub(super) const IP_ROUTE_NEXT_HOP: &[u64] = &[1, 3, 6, 1, 2, 1, 4, 21, 1, 7];
/// `ipRouteMask` (RFC 1213).
pub(super) const IP_ROUTE_MASK: &[u64] = &[1, 3, 6, 1, 2, 1, 4, 21, 1, 11];

/// Kinds of addresses (InetAddressType of RFC 4001).
mod kind {
    pub(super) const UNKNOWN: u64 = 0;
    pub(super) const IPV4: u64 = 1;
    pub(super) const IPV6: u64 = 2;
    pub(super) const IPV4_WITH_ZONE: u64 = 3;
    pub(super) const IPV6_WITH_ZONE: u64 = 4;
}

/// A route as a row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) destination: IpNet,
    /// `None` if there is none, or the unspecified address stands there, as for what is reached directly.
    pub(super) next_hop: Option<IpAddr>,
}

/// Why something is no route.
type Unfit = &'static str;

/// The index of `inetCidrRouteTable`: kind, length and octets of the destination, the length of its prefix,
/// a policy (an object identifier), kind, length and octets of the next hop.
///
/// A policy has its length before it, as RFC 2578 (section 7.7) wants it; agents exist that write `0.0`
/// without one. So the index is read from both ends, and what is left in the middle has to be a policy.
pub(super) fn inet_cidr(index: &[u64]) -> Result<Row, Unfit> {
    let (kind, rest) = index.split_first().ok_or("the index is empty")?;
    let (length, rest) = rest.split_first().ok_or("the index has no destination")?;
    let octets = usize::try_from(*length).map_err(|_| "the destination is too long")?;
    if rest.len() < octets {
        return Err("the index ends in the destination");
    }
    let (octets, rest) = rest.split_at(octets);
    let address = address(*kind, octets)?.ok_or("the destination is of no known kind")?;
    let (prefix_length, rest) = rest.split_first().ok_or("the prefix has no length")?;
    let prefix_length = u8::try_from(*prefix_length).map_err(|_| "the prefix is too long")?;
    let destination = network(address, prefix_length)?;
    let next_hop = next_hop(rest)?;
    Ok(Row {
        destination,
        next_hop,
    })
}

/// The next hop behind a policy.
fn next_hop(policy_and_hop: &[u64]) -> Result<Option<IpAddr>, Unfit> {
    let mut without_length = Vec::new();
    // The lengths that addresses have, the longest first.
    for octets in [20, 16, 8, 4, 0] {
        let Some(start) = policy_and_hop.len().checked_sub(octets + 2) else {
            continue;
        };
        let (policy, hop) = policy_and_hop.split_at(start);
        if hop[1] != octets as u64 {
            continue;
        }
        let Ok(address) = address(hop[0], &hop[2..]) else {
            continue;
        };
        match policy.split_first() {
            Some((length, policy)) if *length == policy.len() as u64 => {
                return Ok(specified(address));
            }
            Some(_) if policy.iter().all(|arc| *arc == 0) => without_length.push(address),
            _ => {}
        }
    }
    // A policy without its length is one of zeros, and there is only one way to read it.
    match without_length[..] {
        [address] => Ok(specified(address)),
        [] => Err("the lengths of policy and next hop do not fit"),
        _ => Err("the policy can be read in two ways"),
    }
}

/// The index of `ipCidrRouteTable`: destination, mask, service, next hop.
pub(super) fn ip_cidr(index: &[u64]) -> Result<Row, Unfit> {
    let index: [u64; 13] = index
        .try_into()
        .map_err(|_| "the index has not 13 numbers")?;
    let destination = ipv4(&index[..4])?;
    let mask = ipv4(&index[4..8])?;
    Ok(Row {
        destination: network(destination.into(), mask_length(mask)?)?,
        next_hop: specified(Some(ipv4(&index[9..])?.into())),
    })
}

/// A row of `ipRouteTable`, whose index is the destination alone.
pub(super) fn ip_route(index: &[u64], mask: [u8; 4], hop: [u8; 4]) -> Result<Row, Unfit> {
    let destination = ipv4(index)?;
    Ok(Row {
        destination: network(destination.into(), mask_length(mask.into())?)?,
        next_hop: specified(Some(Ipv4Addr::from(hop).into())),
    })
}

/// An address of a kind; `None` if there is none.
fn address(kind: u64, octets: &[u64]) -> Result<Option<IpAddr>, Unfit> {
    match (kind, octets.len()) {
        (kind::UNKNOWN, 0) => Ok(None),
        (kind::IPV4, 4) => Ok(Some(ipv4(octets)?.into())),
        (kind::IPV6, 16) => Ok(Some(ipv6(octets)?.into())),
        // The zone is the router's own affair.
        (kind::IPV4_WITH_ZONE, 8) => Ok(Some(ipv4(&octets[..4])?.into())),
        (kind::IPV6_WITH_ZONE, 20) => Ok(Some(ipv6(&octets[..16])?.into())),
        _ => Err("kind and length of an address do not fit"),
    }
}

fn octets<const N: usize>(numbers: &[u64]) -> Result<[u8; N], Unfit> {
    let numbers: [u64; N] = numbers
        .try_into()
        .map_err(|_| "an address has another length")?;
    let mut octets = [0; N];
    for (octet, number) in octets.iter_mut().zip(numbers) {
        *octet = u8::try_from(number).map_err(|_| "an octet of an address is above 255")?;
    }
    Ok(octets)
}

fn ipv4(numbers: &[u64]) -> Result<Ipv4Addr, Unfit> {
    octets::<4>(numbers).map(Ipv4Addr::from)
}

fn ipv6(numbers: &[u64]) -> Result<Ipv6Addr, Unfit> {
    octets::<16>(numbers).map(Ipv6Addr::from)
}

fn mask_length(mask: Ipv4Addr) -> Result<u8, Unfit> {
    let bits = mask.to_bits();
    if bits.count_ones() != bits.leading_ones() {
        return Err("the mask has holes");
    }
    // At most 32.
    Ok(bits.leading_ones() as u8)
}

fn network(address: IpAddr, length: u8) -> Result<IpNet, Unfit> {
    let long = |_| "the prefix is longer than its address";
    let prefix: IpNet = match address {
        IpAddr::V4(v4) => Ipv4Net::new(v4, length).map_err(long)?.into(),
        IpAddr::V6(v6) => Ipv6Net::new(v6, length).map_err(long)?.into(),
    };
    if prefix.trunc() != prefix {
        return Err("the destination has bits behind the length of its prefix");
    }
    Ok(prefix)
}

fn specified(address: Option<IpAddr>) -> Option<IpAddr> {
    address
        .map(|address| address.to_canonical())
        .filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(text: &str) -> Vec<u64> {
        text.split('.')
            .map(|number| number.parse().expect("a number"))
            .collect()
    }

    fn row(destination: &str, next_hop: &str) -> Row {
        Row {
            destination: destination.parse().expect("a prefix"),
            next_hop: next_hop.parse().ok(),
        }
    }

    #[test]
    fn golden_rows_of_inet_cidr_route_table() {
        for (index, destination, next_hop) in [
            // net-snmp: the policy is two zeros with their length.
            (
                "1.4.10.0.0.0.24.2.0.0.1.4.192.168.1.1",
                "10.0.0.0/24",
                "192.168.1.1",
            ),
            // A policy without its length.
            (
                "1.4.0.0.0.0.0.0.0.1.4.64.220.0.1",
                "0.0.0.0/0",
                "64.220.0.1",
            ),
            (
                "1.4.10.208.143.81.32.2.0.0.1.4.10.208.143.1",
                "10.208.143.81/32",
                "10.208.143.1",
            ),
            // Five zeros.
            (
                "1.4.10.0.0.0.8.5.0.0.0.0.0.1.4.10.1.1.1",
                "10.0.0.0/8",
                "10.1.1.1",
            ),
            // A policy of no length, and one that is no zeros.
            ("1.4.10.0.0.0.8.0.1.4.10.1.1.1", "10.0.0.0/8", "10.1.1.1"),
            (
                "1.4.10.0.0.0.8.3.1.4.1.1.4.10.1.1.1",
                "10.0.0.0/8",
                "10.1.1.1",
            ),
            // Reached directly: an unspecified next hop, or none.
            ("1.4.192.0.2.0.24.2.0.0.1.4.0.0.0.0", "192.0.2.0/24", ""),
            ("1.4.192.0.2.0.24.2.0.0.0.0", "192.0.2.0/24", ""),
            (
                "2.16.32.1.13.184.0.0.0.0.0.0.0.0.0.0.0.0.32.2.0.0.2.16.254.128.0.0.0.0.0.0.0.0.0.0.0.0.0.1",
                "2001:db8::/32",
                "fe80::1",
            ),
            // With a zone, and an IPv4 destination behind an IPv6 neighbour (RFC 8950).
            (
                "1.4.10.0.0.0.8.2.0.0.4.20.254.128.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.3",
                "10.0.0.0/8",
                "fe80::1",
            ),
            (
                "3.8.10.0.0.0.0.0.0.7.8.2.0.0.3.8.10.0.0.1.0.0.0.7",
                "10.0.0.0/8",
                "10.0.0.1",
            ),
        ] {
            assert_eq!(
                inet_cidr(&numbers(index)),
                Ok(row(destination, next_hop)),
                "{index}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_no_route() {
        for index in [
            "1",
            "1.4",
            "1.4.10.0.0",
            "1.4.10.0.0.0",
            "1.4.10.0.0.0.33.2.0.0.1.4.10.1.1.1",
            "1.4.10.0.0.0.300.2.0.0.1.4.10.1.1.1",
            "1.4.10.0.0.1.24.2.0.0.1.4.10.1.1.1",
            "1.4.10.0.0.256.32.2.0.0.1.4.10.1.1.1",
            "1.5.10.0.0.0.0.24.2.0.0.1.4.10.1.1.1",
            "2.4.10.0.0.0.24.2.0.0.1.4.10.1.1.1",
            "16.4.10.0.0.0.24.2.0.0.1.4.10.1.1.1",
            // A policy of another length than it says, and none at all.
            "1.4.10.0.0.0.24.3.1.2.1.4.10.1.1.1",
            "1.4.10.0.0.0.24.1.4.10.1.1.1",
            // A next hop that breaks off.
            "1.4.10.0.0.0.24.2.0.0.1.4.10.1.1",
            "1.18446744073709551615.10.0.0.0.24",
        ] {
            assert!(
                inet_cidr(&numbers(index)).is_err(),
                "{index}: {:?}",
                inet_cidr(&numbers(index))
            );
        }
        assert!(inet_cidr(&[]).is_err());
    }

    #[test]
    fn rows_of_the_older_tables() {
        assert_eq!(
            ip_cidr(&numbers("203.68.52.0.255.255.252.0.0.203.71.2.209")),
            Ok(row("203.68.52.0/22", "203.71.2.209"))
        );
        assert_eq!(
            ip_cidr(&numbers("0.0.0.0.0.0.0.0.0.192.0.2.1")),
            Ok(row("0.0.0.0/0", "192.0.2.1"))
        );
        for bad in [
            "203.68.52.0.255.255.252.0.0.203.71.2",
            "203.68.52.0.255.0.252.0.0.203.71.2.209",
            "203.68.52.1.255.255.252.0.0.203.71.2.209",
            "203.68.52.0.255.255.252.0.0.203.71.2.999",
        ] {
            assert!(ip_cidr(&numbers(bad)).is_err(), "{bad}");
        }
        let (mask, hop) = ([255, 255, 252, 0], [203, 71, 2, 209]);
        assert_eq!(
            ip_route(&numbers("203.68.52.0"), mask, hop),
            Ok(row("203.68.52.0/22", "203.71.2.209"))
        );
        assert!(ip_route(&numbers("203.68.52"), mask, hop).is_err());
        assert!(ip_route(&numbers("203.68.52.0"), [0, 255, 0, 0], hop).is_err());
    }

    proptest! {
        #[test]
        fn no_index_is_a_panic(index in proptest::collection::vec(prop_oneof![0_u64..40, any::<u64>()], 0..60)) {
            let _ = inet_cidr(&index);
            let _ = ip_cidr(&index);
            let _ = ip_route(&index, [255, 0, 255, 0], [1, 2, 3, 4]);
        }

        /// Whatever the policy, if it has its length.
        #[test]
        fn a_route_is_read_back(
            bits in any::<u32>(), length in 0_u8..=32, hop in 1_u32.., policy in proptest::collection::vec(0_u64..9, 0..8),
        ) {
            let destination = Ipv4Net::new(bits.into(), length).expect("a length").trunc();
            let four = |address: Ipv4Addr| address.octets().map(u64::from);
            let mut index = vec![1, 4];
            index.extend(four(destination.addr()));
            index.extend([u64::from(length), policy.len() as u64]);
            index.extend(&policy);
            index.extend([1, 4]);
            index.extend(four(hop.into()));
            // Only one way to read it gives the policy the length that it says.
            let row = Row { destination: destination.into(), next_hop: Some(Ipv4Addr::from(hop).into()) };
            prop_assert_eq!(inet_cidr(&index), Ok(row));
        }
    }
}
