//! Which hosts may be tested: own ones, and nobody else.
//!
//! Contract: a [`Target`] is an address inside of the operator's prefixes. Nothing else leads to one: no name
//! is ever resolved, no text of a server is followed, an IPv4 address written as IPv6 is judged as the IPv4
//! address that it is, and addresses that end elsewhere than they say (this machine, the link, many hosts, a
//! translator) are none even if a prefix holds them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::failure::{Failure, Kind};

/// The only port that is ever connected to.
pub(super) const PORT: u16 = 25;

/// An address that may be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target(IpAddr);

impl Target {
    /// Looks whether an address is one.
    pub(super) fn check(address: IpAddr, local: &[IpNet]) -> Result<Self, Failure> {
        if local.is_empty() {
            return Err(Failure::new(
                Kind::BadConfig,
                "there are no prefixes of your own (networks.local), so that no host may be tested; name them \
                 in the configuration",
            ));
        }
        let refuse = |why: &str| {
            Err(Failure::new(
                Kind::NoPermission,
                format!("{address} is not tested: {why}"),
            ))
        };
        let real = address.to_canonical();
        if let Some(what) = special(real) {
            return refuse(&format!("it is {what}, and no host of yours"));
        }
        // By family: a prefix of IPv6 holds no address of IPv4.
        if !local.iter().any(|prefix| prefix.contains(&real)) {
            return refuse(
                "it is not inside of your own prefixes (networks.local), and others' hosts are none of our \
                 business",
            );
        }
        Ok(Self(real))
    }

    /// Where it is connected to.
    pub(super) const fn socket(self) -> SocketAddr {
        SocketAddr::new(self.0, PORT)
    }

    pub(super) const fn address(self) -> IpAddr {
        self.0
    }

    /// Whether this is who is at the other end.
    pub(super) fn is_peer(self, peer: SocketAddr, local: &[IpNet]) -> bool {
        peer.ip().to_canonical() == self.0
            && peer.port() == PORT
            && Self::check(peer.ip(), local).is_ok_and(|target| target == self)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An address as SMTP writes it where a domain may stand (RFC 5321, section 4.1.3).
pub(super) fn literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

/// What an address is, if it does not stand for one host that can be told from its prefix.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

/// As IANA's registry of special-purpose addresses has them (RFC 6890).
fn special_v4(v4: Ipv4Addr) -> Option<&'static str> {
    match v4.octets() {
        [0, ..] => Some("an address of this machine (0.0.0.0/8)"),
        [127, ..] => Some("a loopback address"),
        // That of the cloud's metadata is among them.
        [169, 254, ..] => Some("a link-local address"),
        [224..=239, ..] => Some("a multicast address"),
        [255, 255, 255, 255] => Some("the broadcast address"),
        // Relays of 6to4 (RFC 7526).
        [192, 88, 99, _] => Some("an address of 6to4 relays"),
        _ => None,
    }
}

fn special_v6(v6: Ipv6Addr) -> Option<&'static str> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an address of this machine (::)"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        // The metadata of a cloud.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] => Some("the address of a cloud's metadata"),
        // Each stands for an IPv4 address, which would be connected to by a translator or a tunnel.
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, ..]
        | [0x2002, ..] => Some("an IPv4 address in another form"),
        // Teredo (RFC 4380).
        [0x2001, 0, ..] => Some("an address of a tunnel"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes(list: &[&str]) -> Vec<IpNet> {
        list.iter()
            .map(|prefix| prefix.parse().expect("a prefix"))
            .collect()
    }

    fn check(address: &str, local: &[&str]) -> Result<IpAddr, Failure> {
        let address = address.parse().expect("an address");
        Target::check(address, &prefixes(local)).map(Target::address)
    }

    #[test]
    fn only_own_hosts_are_targets() {
        let local = ["192.0.2.0/24", "2001:db8::/32"];
        for own in ["192.0.2.0", "192.0.2.255", "2001:db8::1", "2001:db8:ffff::"] {
            check(own, &local).unwrap_or_else(|failure| panic!("{failure}"));
        }
        for other in [
            "192.0.3.0",
            "192.0.1.255",
            "2001:db9::",
            "2001:db7:ffff::",
            "198.51.100.1",
        ] {
            let failure = check(other, &local).expect_err(other);
            assert_eq!(failure.kind, Kind::NoPermission);
            assert!(failure.to_string().contains("networks.local"), "{failure}");
        }
    }

    #[test]
    fn without_own_prefixes_there_is_nobody_to_test() {
        let failure = check("192.0.2.1", &[]).expect_err("no prefixes");
        assert_eq!(failure.kind, Kind::BadConfig);
    }

    #[test]
    fn ipv4_as_ipv6_is_ipv4() {
        let address = check("::ffff:192.0.2.1", &["192.0.2.0/24"]).expect("an own host");
        assert_eq!(address, "192.0.2.1".parse::<IpAddr>().expect("an address"));
        for wide in [&["::/0"][..], &["::ffff:0:0/96"], &["192.0.3.0/24", "::/0"]] {
            check("::ffff:192.0.2.1", wide).expect_err("a prefix of IPv6 holds no IPv4");
            check("192.0.2.1", wide).expect_err("a prefix of IPv6 holds no IPv4");
        }
    }

    #[test]
    fn what_ends_elsewhere_is_no_target_even_in_the_widest_prefix() {
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "fd00:ec2::254",
            "::192.0.2.1",
            "::ffff:0:192.0.2.1",
            "64:ff9b::192.0.2.1",
            "64:ff9b:1::1",
            "2002:c000:201::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            let failure = check(special, &["0.0.0.0/0", "::/0"]).expect_err(special);
            assert_eq!(failure.kind, Kind::NoPermission, "{special}");
        }
    }

    #[test]
    fn another_peer_is_none() {
        let local = prefixes(&["192.0.2.0/24"]);
        let target = Target::check("192.0.2.1".parse().expect("an address"), &local);
        let target = target.unwrap_or_else(|failure| panic!("{failure}"));
        let is_peer = |peer: &str| target.is_peer(peer.parse().expect("an address"), &local);
        assert!(is_peer("192.0.2.1:25") && is_peer("[::ffff:192.0.2.1]:25"));
        assert!(
            !is_peer("192.0.2.1:26") && !is_peer("192.0.2.2:25") && !is_peer("198.51.100.1:25")
        );
    }

    #[test]
    fn literals_are_as_smtp_has_them() {
        let literal = |text: &str| literal(text.parse().expect("an address"));
        assert_eq!(literal("192.0.2.1"), "[192.0.2.1]");
        assert_eq!(literal("2001:db8::1"), "[IPv6:2001:db8::1]");
    }

    proptest! {
        #[test]
        fn no_address_outside_is_ever_a_target(octets in any::<[u8; 16]>(), mapped in any::<bool>()) {
            let local = prefixes(&["192.0.2.0/24", "2001:db8::/32"]);
            let v6 = Ipv6Addr::from(octets);
            let v4 = Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]);
            let address = if mapped { IpAddr::V6(v4.to_ipv6_mapped()) } else { IpAddr::V6(v6) };
            let own = match address.to_canonical() {
                IpAddr::V4(v4) => v4.octets()[..3] == [192, 0, 2],
                IpAddr::V6(v6) => v6.segments()[..2] == [0x2001, 0xdb8],
            };
            prop_assert_eq!(Target::check(address, &local).is_ok(), own);
        }
    }
}
