//! Frames for tests, built by etherparse, header by header.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test binary uses its own part"
)]

use etherparse::{
    EtherType, Ethernet2Header, IpAuthHeader, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options,
    Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, SingleVlanHeader, TcpHeader,
    VlanId, VlanPcp,
};
use smtp_common::packet::MailPorts;

/// The port of the shipped configuration.
pub const PORTS: MailPorts = MailPorts::new([25, 0, 0, 0]);

pub const CLIENT: [u8; 4] = [192, 0, 2, 1];
pub const SERVER: [u8; 4] = [198, 51, 100, 25];
pub const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const SERVER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x25];

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const VLAN: u16 = 0x8100;
pub const PROVIDER_VLAN: u16 = 0x88a8;

pub const ETHERNET_LENGTH: usize = 14;
pub const IPV4_LENGTH: usize = 20;
pub const IPV6_LENGTH: usize = 40;
pub const TCP_LENGTH: usize = 20;

pub const ACK: u8 = 0x10;
pub const SYN: u8 = 0x02;

/// A TCP header with `option_words` words of no-operation options, and `payload` behind it.
pub fn tcp(
    ports: (u16, u16),
    sequence: u32,
    flags: u8,
    option_words: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = TcpHeader::new(ports.0, ports.1, sequence, 1024);
    header.set_options_raw(&vec![1; option_words * 4]).unwrap();
    let mut octets = header.to_bytes().to_vec();
    octets[13] = flags;
    octets.extend_from_slice(payload);
    octets
}

/// A segment from the client to port 25, without options and data.
pub fn to_server() -> Vec<u8> {
    tcp((40_000, 25), 7, ACK, 0, &[])
}

/// An IPv4 header with `option_words` words of no-operation options in front of `payload`.
pub fn ipv4(option_words: usize, protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().try_into().unwrap();
    let mut header = Ipv4Header::new(length, 64, protocol, CLIENT, SERVER).unwrap();
    header.options = Ipv4Options::try_from(&vec![1; option_words * 4][..]).unwrap();
    header.set_payload_len(payload.len()).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

/// An IPv6 extension header, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    HopByHop,
    Routing,
    Destination,
    /// With 8 octets more than it needs.
    LongDestination,
    Authentication,
    FirstFragment,
    LaterFragment,
}

impl Extension {
    pub const WITHOUT_OFFSET: [Self; 6] = [
        Self::HopByHop,
        Self::Routing,
        Self::Destination,
        Self::LongDestination,
        Self::Authentication,
        Self::FirstFragment,
    ];

    fn number(self) -> IpNumber {
        match self {
            Self::HopByHop => IpNumber::IPV6_HEADER_HOP_BY_HOP,
            Self::Routing => IpNumber::IPV6_ROUTE_HEADER,
            Self::Destination | Self::LongDestination => IpNumber::IPV6_DESTINATION_OPTIONS,
            Self::Authentication => IpNumber::AUTHENTICATION_HEADER,
            Self::FirstFragment | Self::LaterFragment => IpNumber::IPV6_FRAGMENTATION_HEADER,
        }
    }

    fn octets(self, next: IpNumber) -> Vec<u8> {
        let raw = |length: usize| {
            let header = Ipv6RawExtHeader::new_raw(next, &vec![0; length]).unwrap();
            header.to_bytes().to_vec()
        };
        let fragment = |offset: u16| {
            let offset = IpFragOffset::try_new(offset).unwrap();
            let header = Ipv6FragmentHeader::new(next, offset, true, 1);
            header.to_bytes().to_vec()
        };
        match self {
            Self::HopByHop | Self::Routing | Self::Destination => raw(6),
            Self::LongDestination => raw(14),
            Self::Authentication => {
                let header = IpAuthHeader::new(next, 1, 2, &[0; 12]).unwrap();
                header.to_bytes().to_vec()
            }
            Self::FirstFragment => fragment(0),
            Self::LaterFragment => fragment(1),
        }
    }
}

/// The extension headers of `chain`, one pointing to the next and the last to `protocol`.
pub fn extensions(chain: &[Extension], protocol: IpNumber) -> Vec<u8> {
    let mut octets = Vec::new();
    for (i, extension) in chain.iter().enumerate() {
        let next = chain.get(i + 1).map_or(protocol, |next| next.number());
        octets.extend_from_slice(&extension.octets(next));
    }
    octets
}

/// An IPv6 header and a chain of extension headers in front of `payload`.
pub fn ipv6(chain: &[Extension], protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    let extensions = extensions(chain, protocol);
    let header = Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: (extensions.len() + payload.len()).try_into().unwrap(),
        next_header: chain.first().map_or(protocol, |first| first.number()),
        hop_limit: 64,
        source: CLIENT6,
        destination: SERVER6,
    };
    [&header.to_bytes()[..], &extensions, payload].concat()
}

/// An Ethernet header and VLAN tags, given by their EtherTypes, in front of `network`.
pub fn ethernet(tags: &[u16], ether_type: u16, network: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
        ether_type: EtherType(tags.first().copied().unwrap_or(ether_type)),
    };
    let mut octets = header.to_bytes().to_vec();
    for i in 0..tags.len() {
        let tag = SingleVlanHeader {
            pcp: VlanPcp::ZERO,
            drop_eligible_indicator: false,
            vlan_id: VlanId::try_new(100).unwrap(),
            ether_type: EtherType(tags.get(i + 1).copied().unwrap_or(ether_type)),
        };
        octets.extend_from_slice(&tag.to_bytes());
    }
    octets.extend_from_slice(network);
    octets
}

/// An untagged frame with a segment over IPv4.
pub fn over_ipv4(segment: &[u8]) -> Vec<u8> {
    ethernet(&[], IPV4, &ipv4(0, IpNumber::TCP, segment))
}

/// An untagged frame with a segment over IPv6.
pub fn over_ipv6(segment: &[u8]) -> Vec<u8> {
    ethernet(&[], IPV6, &ipv6(&[], IpNumber::TCP, segment))
}

/// The frame with other octets at an offset.
pub fn patched(mut frame: Vec<u8>, at: usize, octets: &[u8]) -> Vec<u8> {
    frame[at..at + octets.len()].copy_from_slice(octets);
    frame
}
