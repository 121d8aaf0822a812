//! The parser against etherparse, an independent one, on random and on damaged frames.
//!
//! The two need not agree on what is no segment: etherparse accepts some frames that we skip and
//! the other way round; [`we_may_skip`] and [`it_may_stop`] say where and why. Where both see a
//! segment, they must see the same.

mod cases;
mod frame;

use std::net::IpAddr;

use cases::cases;
use etherparse::{
    IpNumber, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice,
};
use frame::*;
use proptest::prelude::*;
use smtp_common::counter::Skip;
use smtp_common::packet::{Direction, Packet, Segment, parse};

/// What etherparse makes of the network layer.
struct Network {
    source: IpAddr,
    destination: IpAddr,
    bytes: u32,
    fragmented: bool,
}

fn network(packet: &LaxSlicedPacket<'_>) -> Option<Network> {
    match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => Some(Network {
            source: ip.header().source_addr().into(),
            destination: ip.header().destination_addr().into(),
            bytes: ip.header().total_len().into(),
            fragmented: ip.is_payload_fragmented(),
        }),
        LaxNetSlice::Ipv6(ip) => Some(Network {
            source: ip.header().source_addr().into(),
            destination: ip.header().destination_addr().into(),
            bytes: 40 + u32::from(ip.header().payload_length()),
            fragmented: ip.is_payload_fragmented(),
        }),
        LaxNetSlice::Arp(_) => None,
    }
}

fn flags(tcp: &TcpSlice<'_>) -> u8 {
    [
        tcp.fin(),
        tcp.syn(),
        tcp.rst(),
        tcp.psh(),
        tcp.ack(),
        tcp.urg(),
        tcp.ece(),
        tcp.cwr(),
    ]
    .iter()
    .rev()
    .fold(0, |flags, bit| flags << 1 | u8::from(*bit))
}

/// Whether we may skip, for this reason, a frame in which etherparse sees a segment of ours.
fn we_may_skip(skip: Skip, packet: &LaxSlicedPacket<'_>) -> bool {
    match skip {
        // It goes three deep.
        Skip::VlanDepth => packet.link_exts.len() > 2,
        // It knows MACsec, and a VLAN tag of another EtherType.
        Skip::NotIp => !packet.link_exts.is_empty(),
        // Lax, it takes the length of the frame where the header's is too small.
        Skip::Ipv4TotalLength | Skip::Ipv6PayloadLength => true,
        // It has no limit.
        Skip::Ipv6ExtensionLimit => true,
        // It does not care.
        Skip::Ipv6Mapped => true,
        // It reads an authentication header over IPv4 as well.
        Skip::NotTcp => matches!(&packet.net, Some(LaxNetSlice::Ipv4(ip))
            if ip.header().protocol() == IpNumber::AUTHENTICATION_HEADER),
        _ => false,
    }
}

/// Whether etherparse may stop before the TCP header of a frame in which we see a segment: it wants
/// all options of the TCP header in the frame, wants the hop-by-hop header first, and does not look
/// into the first of several fragments.
fn it_may_stop(packet: &LaxSlicedPacket<'_>, network: &Network) -> bool {
    network.fragmented || packet.stop_err.is_some()
}

fn agree(frame: &[u8]) -> Result<Option<Segment>, TestCaseError> {
    let ours = parse(Packet::from_slice(frame), PORTS).map(|(segment, _)| segment);
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else {
        prop_assert_eq!(ours, Err(Skip::ShortEthernet));
        return Ok(None);
    };
    let tcp = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some(tcp),
        _ => None,
    };
    match ours {
        Ok(segment) => {
            let tags = packet.link_exts.iter();
            prop_assert!(
                tags.clone().count() <= 2
                    && tags
                        .clone()
                        .all(|tag| matches!(tag, LaxLinkExtSlice::Vlan(_)))
            );
            let Some(network) = network(&packet) else {
                return Err(TestCaseError::fail("etherparse sees no IP"));
            };
            prop_assert_eq!(IpAddr::from(segment.source), network.source);
            prop_assert_eq!(IpAddr::from(segment.destination), network.destination);
            prop_assert_eq!(segment.bytes, network.bytes);
            let Some(tcp) = tcp else {
                prop_assert!(packet.transport.is_none(), "{:?}", packet.transport);
                prop_assert!(it_may_stop(&packet, &network), "{:?}", packet);
                return Ok(Some(segment));
            };
            prop_assert_eq!(segment.source_port, tcp.source_port());
            prop_assert_eq!(segment.destination_port, tcp.destination_port());
            prop_assert_eq!(segment.sequence, tcp.sequence_number());
            prop_assert_eq!(segment.flags, flags(tcp));
            let to_server = tcp.destination_port() == 25;
            prop_assert_eq!(segment.direction == Direction::ClientToServer, to_server);
            Ok(Some(segment))
        }
        Err(skip) => {
            if let Some(tcp) = tcp {
                let ours = tcp.source_port() == 25 || tcp.destination_port() == 25;
                prop_assert!(
                    !ours || we_may_skip(skip, &packet),
                    "{}: {:?}",
                    skip.name(),
                    packet
                );
                prop_assert!(ours || skip != Skip::NotTcp || we_may_skip(skip, &packet));
            }
            Ok(None)
        }
    }
}

/// A well-formed frame, most often of mail.
fn whole_frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![Just(VLAN), Just(PROVIDER_VLAN)];
    let port = prop_oneof![4 => Just(25_u16), 1 => any::<u16>()];
    let ports = (any::<u16>(), port, any::<bool>())
        .prop_map(|(a, b, swap)| if swap { (b, a) } else { (a, b) });
    let data = prop::collection::vec(any::<u8>(), 0..64);
    let segment = (ports, any::<u32>(), any::<u8>(), 0_usize..=10, data).prop_map(
        |(ports, sequence, flags, words, data)| tcp(ports, sequence, flags, words, &data),
    );
    let extension = prop::sample::select(Extension::WITHOUT_OFFSET.to_vec());
    let protocol = prop_oneof![9 => Just(IpNumber::TCP), 1 => any::<u8>().prop_map(IpNumber)];
    let network = (
        segment,
        protocol,
        0_usize..=10,
        prop::collection::vec(extension, 0..10),
        any::<bool>(),
    )
        .prop_map(|(segment, protocol, words, chain, v4)| {
            if v4 {
                (IPV4, ipv4(words, protocol, &segment))
            } else {
                (IPV6, ipv6(&chain, protocol, &segment))
            }
        });
    (prop::collection::vec(tag, 0..4), network)
        .prop_map(|(tags, (ether_type, network))| ethernet(&tags, ether_type, &network))
}

/// A frame with a few octets overwritten, mostly in the headers, and perhaps cut.
fn damaged_frame() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<prop::sample::Index>(), any::<u8>());
    let cut = prop_oneof![Just(None), any::<prop::sample::Index>().prop_map(Some)];
    (whole_frame(), prop::collection::vec(damage, 0..4), cut).prop_map(
        |(mut frame, damage, cut)| {
            for (at, octet) in damage {
                let at = at.index(frame.len());
                frame[at] = octet;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len() + 1));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn whole_frames_are_what_etherparse_says(frame in whole_frame()) {
        agree(&frame)?;
    }

    #[test]
    fn damaged_frames_are_what_etherparse_says(frame in damaged_frame()) {
        agree(&frame)?;
    }

    #[test]
    fn random_octets_are_what_etherparse_says(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&frame)?;
    }

    #[test]
    fn random_octets_behind_an_ethertype_are_what_etherparse_says(
        octets in prop::collection::vec(any::<u8>(), 0..200),
        ether_type in prop::sample::select(vec![IPV4, IPV6, VLAN, PROVIDER_VLAN]),
        version in prop::sample::select(vec![0x45_u8, 0x60, 0x4f]),
    ) {
        let mut octets = octets;
        if let Some(first) = octets.first_mut() {
            *first = version;
        }
        agree(&ethernet(&[], ether_type, &octets))?;
    }
}

/// The properties above are empty if their frames never reach the end of the parser.
#[test]
fn most_whole_frames_and_some_damaged_ones_are_segments() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let tries = 1000;
    let mut segments = |strategy: BoxedStrategy<Vec<u8>>| {
        (0..tries)
            .filter(|_| {
                let frame = strategy.new_tree(&mut runner).unwrap().current();
                agree(&frame).unwrap().is_some()
            })
            .count()
    };
    let whole = segments(whole_frame().boxed());
    let damaged = segments(damaged_frame().boxed());
    assert!(whole > tries * 45 / 100, "{whole} of {tries}");
    assert!(damaged > tries * 15 / 100, "{damaged} of {tries}");
}
