//! Link types: from a captured packet to what [`smtp_common::packet`] parses.
//!
//! Contract: only the link header is read here, and only to find the EtherType; everything behind it
//! is parsed by the kernel's own functions. A packet that ends inside its link header is a
//! [`Skip::ShortEthernet`], whatever kind of header that is.

use smtp_common::counter::Skip;
use smtp_common::packet::{MailPorts, Packet, Parsed, parse, parse_ether_type};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const PROVIDER_VLAN: u16 = 0x88a8;
/// No EtherType: a length in the sense of IEEE 802.3. What bears it is not IP.
const NONE: u16 = 0;

/// How packets begin, of those kinds that are read. The numbers are the tcpdump project's
/// `LINKTYPE_` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// An Ethernet header.
    Ethernet,
    /// The IP header itself.
    Raw,
    /// Four octets of address family, in the byte order of whoever captured (`NULL`) or in network
    /// order (`LOOP`).
    Family,
    /// Linux "cooked" capture of 16 octets, as made on the interface `any`.
    Cooked,
    /// Its second version, of 20 octets.
    Cooked2,
}

impl LinkType {
    /// What is read, for error messages.
    pub const READ: &'static str = "Ethernet (1), raw IP (12, 14, 101, 228, 229), BSD loopback (0, 108), Linux cooked (113, 276)";

    /// The kind with this number, if it is read.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 | 108 => Some(Self::Family),
            1 => Some(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// Parses a captured packet.
    pub fn parse(self, data: &[u8], ports: MailPorts) -> Result<Parsed<'_>, Skip> {
        let after = |length| data.get(length..).ok_or(Skip::ShortEthernet);
        match self {
            Self::Ethernet => parse(Packet::from_slice(data), ports),
            Self::Raw => {
                let ether_type = match data.first().map(|octet| octet >> 4) {
                    Some(6) => IPV6,
                    Some(4) | None => IPV4,
                    Some(_) => NONE,
                };
                parse_ether_type(Packet::from_slice(data), ether_type, ports)
            }
            Self::Family => {
                let rest = Packet::from_slice(after(4)?);
                let family = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
                parse_ether_type(rest, family_ether_type(family), ports)
            }
            // Its last 14 octets have the EtherType where an Ethernet header has it, with VLAN tags
            // behind it as there.
            Self::Cooked => parse(Packet::from_slice(after(2)?), ports),
            Self::Cooked2 => {
                let rest = after(20)?;
                let ether_type = u16::from_be_bytes([data[0], data[1]]);
                if ether_type == VLAN || ether_type == PROVIDER_VLAN {
                    // Rare: the kernel takes the outer tag off, so this is the inner of two.
                    let frame = [&[0; 12], &data[..2], rest].concat();
                    let (segment, payload) = parse(Packet::from_slice(&frame), ports)?;
                    let payload = &data[data.len() - payload.remaining()..];
                    return Ok((segment, Packet::from_slice(payload)));
                }
                parse_ether_type(Packet::from_slice(rest), ether_type, ports)
            }
        }
    }
}

/// The EtherType of an address family, in whichever byte order it was written: families are small
/// numbers.
const fn family_ether_type(family: u32) -> u16 {
    let family = if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    match family {
        2 => IPV4,
        // Linux, NetBSD and OpenBSD, FreeBSD, macOS.
        10 | 24 | 28 | 30 => IPV6,
        _ => NONE,
    }
}

#[cfg(test)]
mod tests {
    use smtp_common::packet::Segment;

    use super::*;

    const PORTS: MailPorts = MailPorts::new([25, 0, 0, 0]);

    /// A bare SYN to port 25, from its IPv4 header on.
    const SYN: [u8; 40] = [
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
        0x9c, 0x40, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0, // TCP
    ];

    fn cooked(ether_type: [u8; 2]) -> Vec<u8> {
        [&[0; 14][..], &ether_type].concat()
    }

    fn cooked2(ether_type: [u8; 2]) -> Vec<u8> {
        [&ether_type[..], &[0; 18]].concat()
    }

    /// The segment, and how many octets follow its header.
    fn parsed(link: LinkType, data: &[u8]) -> Result<(Segment, usize), Skip> {
        let (segment, payload) = link.parse(data, PORTS)?;
        Ok((segment, payload.remaining()))
    }

    #[test]
    fn every_link_header_leads_to_the_same_segment() {
        let expected = parsed(LinkType::Raw, &SYN).unwrap();
        assert!(expected.0.is_pure_syn());
        assert_eq!((expected.0.bytes, expected.1), (40, 0));
        let tag = [0x00, 0x07, 0x08, 0x00];
        let headers: [(u32, Vec<u8>); 11] = [
            (0, vec![2, 0, 0, 0]),
            (0, vec![0, 0, 0, 2]),
            (108, vec![0, 0, 0, 2]),
            (1, [&[0; 12][..], &[0x08, 0x00]].concat()),
            (12, vec![]),
            (14, vec![]),
            (101, vec![]),
            (113, cooked([0x08, 0x00])),
            (113, [&cooked([0x81, 0x00])[..], &tag].concat()),
            (276, cooked2([0x08, 0x00])),
            (276, [&cooked2([0x81, 0x00])[..], &tag].concat()),
        ];
        for (number, header) in headers {
            let link = LinkType::from_number(number).unwrap();
            let packet = [&header[..], &SYN].concat();
            assert_eq!(
                parsed(link, &packet),
                Ok(expected),
                "link type {number}, header {header:02x?}"
            );
            // What follows the header is the payload, or padding.
            let longer = [&packet[..], b"250"].concat();
            assert_eq!(parsed(link, &longer), Ok((expected.0, 3)));
            for length in 0..header.len() {
                assert_eq!(
                    parsed(link, &packet[..length]),
                    Err(Skip::ShortEthernet),
                    "link type {number}, {length} octets"
                );
            }
        }
    }

    #[test]
    fn what_is_not_ip_is_skipped_as_such() {
        assert_eq!(parsed(LinkType::Raw, &[0x15; 60]), Err(Skip::NotIp));
        assert_eq!(parsed(LinkType::Raw, &[]), Err(Skip::ShortIpv4));
        assert_eq!(parsed(LinkType::Family, &[7; 60]), Err(Skip::NotIp));
        assert_eq!(
            parsed(LinkType::Cooked, &cooked([0x08, 0x06])),
            Err(Skip::NotIp)
        );
        assert_eq!(
            parsed(LinkType::Cooked2, &cooked2([0x08, 0x06])),
            Err(Skip::NotIp)
        );
    }

    #[test]
    fn every_family_of_ipv6_is_known_in_both_byte_orders() {
        for family in [10_u32, 24, 28, 30] {
            assert_eq!(family_ether_type(family), IPV6, "{family}");
            assert_eq!(family_ether_type(family.swap_bytes()), IPV6, "{family}");
        }
    }

    #[test]
    fn other_link_types_are_not_read() {
        for number in [105, 127, 147, 189, u32::MAX] {
            assert_eq!(LinkType::from_number(number), None, "{number}");
        }
    }
}
