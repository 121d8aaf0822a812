//! From a frame to a [`Segment`], or to the one [`Skip`] that says why not.
//!
//! Contract: [`parse`] reads only bytes that a bounds check has proven to be there, never reads a
//! port at a fragment offset above zero, and ends after a bounded number of steps for every input.
//! It does not look at checksums, and it believes the length fields of the IP header as long as
//! they hold the headers they announce: a capture cut short by a snap length, or a frame whose tail
//! lies in another buffer, counts with the bytes that were on the wire.

use crate::counter::Skip;
use crate::packet::{Address, Direction, MailPorts, Packet, Segment, blur};

/// A segment, and the cursor at its payload. Less may be there than [`Segment::payload`] says, and
/// more: Ethernet pads.
pub type Parsed<'a> = (Segment, Packet<'a>);

const ETHERNET_HEADER: usize = 14;
const VLAN_TAG: usize = 4;
const MAX_VLAN_TAGS: usize = 2;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
/// How many IPv6 extension headers a segment may have in front of its TCP header.
pub const MAX_IPV6_EXTENSIONS: usize = 8;

/// EtherTypes (IEEE 802 Numbers).
mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const VLAN: u16 = 0x8100; // 802.1Q
    pub const IPV6: u16 = 0x86dd;
    pub const PROVIDER_VLAN: u16 = 0x88a8; // 802.1ad
}

/// IP protocol numbers (IANA Assigned Internet Protocol Numbers).
mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const TCP: u8 = 6;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const DESTINATION: u8 = 60;
}

/// Parses an Ethernet II frame.
#[inline(always)]
pub fn parse(mut packet: Packet<'_>, ports: MailPorts) -> Result<Parsed<'_>, Skip> {
    let header = packet
        .peek::<ETHERNET_HEADER>()
        .ok_or(Skip::ShortEthernet)?;
    let mut ether_type = header.u16::<12>();
    packet.advance(ETHERNET_HEADER);

    for _ in 0..MAX_VLAN_TAGS {
        if ether_type != ether_type::VLAN && ether_type != ether_type::PROVIDER_VLAN {
            break;
        }
        let tag = packet.peek::<VLAN_TAG>().ok_or(Skip::ShortEthernet)?;
        ether_type = tag.u16::<2>();
        packet.advance(VLAN_TAG);
    }
    parse_ether_type(packet, ether_type, ports)
}

/// Parses what follows an EtherType field, for captures without an Ethernet header.
#[inline(always)]
pub fn parse_ether_type(
    packet: Packet<'_>,
    ether_type: u16,
    ports: MailPorts,
) -> Result<Parsed<'_>, Skip> {
    match ether_type {
        ether_type::IPV4 => parse_ipv4(packet, ports),
        ether_type::IPV6 => parse_ipv6(packet, ports),
        ether_type::VLAN | ether_type::PROVIDER_VLAN => Err(Skip::VlanDepth),
        _ => Err(Skip::NotIp),
    }
}

/// RFC 791, section 3.1.
#[inline(always)]
fn parse_ipv4(mut packet: Packet<'_>, ports: MailPorts) -> Result<Parsed<'_>, Skip> {
    let header = packet.peek::<IPV4_HEADER>().ok_or(Skip::ShortIpv4)?;
    let version_and_length = header.u8::<0>();
    // Version 4 and at least five words, by one comparison.
    if version_and_length.wrapping_sub(0x45) > 0x4f - 0x45 {
        return Err(if version_and_length >> 4 == 4 {
            Skip::Ipv4HeaderLength
        } else {
            Skip::Ipv4Version
        });
    }
    let header_length = (version_and_length as usize & 0x0f) * 4;
    if header.u8::<9>() != protocol::TCP {
        return Err(Skip::NotTcp);
    }
    let total_length = header.u16::<2>() as usize;
    if total_length < header_length {
        return Err(Skip::Ipv4TotalLength);
    }
    let fragment_offset = header.u16::<6>() & 0x1fff;
    if fragment_offset != 0 {
        return Err(Skip::Ipv4Fragment);
    }
    packet.advance(header_length);
    let network = Network {
        // Not before the ports have been seen: mostly they are others.
        addresses: || (header.ipv4::<12>(), header.ipv4::<16>()),
        bytes: total_length as u32,
        payload: total_length - header_length,
        too_short: Skip::Ipv4TotalLength,
    };
    parse_tcp(packet, network, ports)
}

/// How an IPv6 extension header is read. All kinds have their next header in octet 0 and are at
/// least 8 octets long.
///
/// It is data, not a `match`, for the verifier's sake: what comes out of a table is one unknown
/// number, so the loop has one path; with a branch for each kind the verifier walks 3^8 of them.
#[derive(Clone, Copy)]
#[repr(C)]
struct Extension {
    /// Whether octet 1 counts in the length, as 0xff or 0: not in a fragment header.
    once: u8,
    /// Whether it counts in units of 8 octets and not of 4, as 0xff or 0: not in AH.
    twice: u8,
    /// The bits of octets 2 and 3 that are a fragment offset.
    offset_mask: u16,
}

impl Extension {
    #[inline(always)]
    const fn is_extension(self) -> bool {
        self.once as u16 | self.offset_mask != 0
    }

    /// The length in octets: (n + 1) * 8, for AH (n + 2) * 4, for a fragment header 8.
    #[inline(always)]
    const fn length(self, octet: u8) -> usize {
        let words = 2 + (octet & self.once) as usize + (octet & self.twice) as usize;
        words * 4
    }
}

/// By next-header number. RFC 8200, section 4; RFC 4302, section 2.2.
static EXTENSIONS: [Extension; 256] = {
    let none = Extension {
        once: 0,
        twice: 0,
        offset_mask: 0,
    };
    let octets = Extension {
        once: 0xff,
        twice: 0xff,
        offset_mask: 0,
    };
    let mut kinds = [none; 256];
    kinds[protocol::HOP_BY_HOP as usize] = octets;
    kinds[protocol::ROUTING as usize] = octets;
    kinds[protocol::DESTINATION as usize] = octets;
    kinds[protocol::AUTHENTICATION as usize] = Extension { twice: 0, ..octets };
    kinds[protocol::FRAGMENT as usize] = Extension {
        offset_mask: 0xfff8,
        ..none
    };
    kinds
};

/// RFC 8200, sections 3 and 4; the authentication header is RFC 4302, section 2.
#[inline(always)]
fn parse_ipv6(mut packet: Packet<'_>, ports: MailPorts) -> Result<Parsed<'_>, Skip> {
    let header = packet.peek::<IPV6_HEADER>().ok_or(Skip::ShortIpv6)?;
    if header.u8::<0>() >> 4 != 6 {
        return Err(Skip::Ipv6Version);
    }
    let payload_length = header.u16::<4>() as usize;
    let mut next = header.u8::<6>();
    packet.advance(IPV6_HEADER);

    let mut extensions = 0;
    for _ in 0..MAX_IPV6_EXTENSIONS {
        let kind = EXTENSIONS[next as usize];
        if !kind.is_extension() {
            break;
        }
        let extension = packet
            .at(extensions)
            .peek::<8>()
            .ok_or(Skip::ShortIpv6Extension)?;
        if extension.u16::<2>() & kind.offset_mask != 0 {
            return Err(Skip::Ipv6Fragment);
        }
        next = extension.u8::<0>();
        extensions = blur(extensions + kind.length(extension.u8::<1>()));
    }
    // Nearly always there are none, and then nothing has to be laundered for the verifier.
    if extensions != 0 {
        packet = packet.at(extensions);
    }
    if EXTENSIONS[next as usize].is_extension() {
        return Err(Skip::Ipv6ExtensionLimit);
    }
    if next != protocol::TCP {
        return Err(Skip::NotTcp);
    }
    if payload_length < extensions {
        return Err(Skip::Ipv6PayloadLength);
    }
    let (source, destination) = (header.ipv6::<8, 16>(), header.ipv6::<24, 32>());
    if source.is_mapped() || destination.is_mapped() {
        return Err(Skip::Ipv6Mapped);
    }
    let network = Network {
        addresses: || (source, destination),
        bytes: (IPV6_HEADER + payload_length) as u32,
        payload: payload_length - extensions,
        too_short: Skip::Ipv6PayloadLength,
    };
    parse_tcp(packet, network, ports)
}

/// What the network layer said about the TCP segment behind it.
struct Network<A> {
    /// Gives source and destination.
    addresses: A,
    /// Layer-3 bytes.
    bytes: u32,
    /// Bytes that the network layer announces for TCP header and data.
    payload: usize,
    /// The reason when `payload` does not hold the TCP header.
    too_short: Skip,
}

/// RFC 9293, section 3.1.
#[inline(always)]
fn parse_tcp<A: FnOnce() -> (Address, Address)>(
    mut packet: Packet<'_>,
    network: Network<A>,
    ports: MailPorts,
) -> Result<Parsed<'_>, Skip> {
    let header = packet.peek::<TCP_HEADER>().ok_or(Skip::ShortTcp)?;
    let (source_port, destination_port) = (header.u16::<0>(), header.u16::<2>());
    if ports.both_above(source_port, destination_port) != 0 {
        return Err(Skip::NotMailPort);
    }
    let (to_mail, from_mail) = (ports.lane(destination_port), ports.lane(source_port));
    if to_mail | from_mail == 0 {
        return Err(Skip::NotMailPort);
    }
    let direction = if to_mail == 0 {
        Direction::ServerToClient
    } else {
        Direction::ClientToServer
    };
    let header_length = (header.u8::<12>() as usize >> 4) * 4;
    if header_length < TCP_HEADER {
        return Err(Skip::TcpDataOffset);
    }
    if network.payload < header_length {
        return Err(network.too_short);
    }
    packet.advance(header_length);
    let (source, destination) = (network.addresses)();
    let segment = Segment {
        source,
        destination,
        source_port,
        destination_port,
        sequence: header.u32::<4>(),
        flags: header.u8::<13>(),
        direction,
        bytes: network.bytes,
        payload: (network.payload - header_length) as u32,
    };
    Ok((segment, packet))
}
