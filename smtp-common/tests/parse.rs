//! From frames to segments and skips: every outcome, every header length, every place to be cut.

mod frame;

use std::collections::HashSet;
use std::net::IpAddr;

use etherparse::IpNumber;
use frame::*;
use smtp_common::counter::Skip;
use smtp_common::packet::{Address, Direction, MailPorts, Packet, Segment, parse};

fn parsed(frame: &[u8]) -> Result<Segment, Skip> {
    parse(Packet::from_slice(frame), PORTS).map(|(segment, _)| segment)
}

/// What [`to_server`] is over IPv4 or IPv6, with this many layer-3 bytes.
fn segment(ether_type: u16, bytes: usize) -> Segment {
    let (source, destination) = if ether_type == IPV4 {
        (Address::from_ipv4(CLIENT), Address::from_ipv4(SERVER))
    } else {
        (Address::from_ipv6(CLIENT6), Address::from_ipv6(SERVER6))
    };
    Segment {
        source,
        destination,
        source_port: 40_000,
        destination_port: 25,
        sequence: 7,
        flags: ACK,
        direction: Direction::ClientToServer,
        bytes: bytes as u32,
        payload: 0,
    }
}

/// Offset of the network header in an untagged frame.
const NETWORK: usize = ETHERNET_LENGTH;
/// Offset of the TCP header in an untagged frame without options and extensions.
const TCP4: usize = NETWORK + IPV4_LENGTH;
const TCP6: usize = NETWORK + IPV6_LENGTH;

#[test]
fn every_way_of_not_being_a_segment_has_its_own_skip() {
    let v4 = || over_ipv4(&to_server());
    let v6 = || over_ipv6(&to_server());
    let chain =
        |chain: &[Extension]| ethernet(&[], IPV6, &ipv6(chain, IpNumber::TCP, &to_server()));
    let mapped = Address::from_ipv4(CLIENT).octets();
    let table: Vec<(&str, Vec<u8>, Skip)> = vec![
        ("nothing", vec![], Skip::ShortEthernet),
        ("13 octets", v4()[..13].to_vec(), Skip::ShortEthernet),
        (
            "inside the second VLAN tag",
            ethernet(&[PROVIDER_VLAN, VLAN], IPV4, &[])[..21].to_vec(),
            Skip::ShortEthernet,
        ),
        (
            "three VLAN tags",
            ethernet(&[VLAN; 3], IPV4, &v4()),
            Skip::VlanDepth,
        ),
        ("ARP", ethernet(&[], 0x0806, &[0; 46]), Skip::NotIp),
        (
            "PPPoE behind a tag",
            ethernet(&[VLAN], 0x8864, &[0; 46]),
            Skip::NotIp,
        ),
        ("an 802.3 length", ethernet(&[], 46, &[0; 46]), Skip::NotIp),
        (
            "19 octets of IPv4",
            v4()[..NETWORK + 19].to_vec(),
            Skip::ShortIpv4,
        ),
        (
            "version 6 as IPv4",
            patched(v4(), NETWORK, &[0x65]),
            Skip::Ipv4Version,
        ),
        (
            "header length 16",
            patched(v4(), NETWORK, &[0x44]),
            Skip::Ipv4HeaderLength,
        ),
        (
            "header length 0",
            patched(v4(), NETWORK, &[0x40]),
            Skip::Ipv4HeaderLength,
        ),
        (
            "total length 0",
            patched(v4(), NETWORK + 2, &[0, 0]),
            Skip::Ipv4TotalLength,
        ),
        (
            "total length 19",
            patched(v4(), NETWORK + 2, &[0, 19]),
            Skip::Ipv4TotalLength,
        ),
        (
            "total length 39",
            patched(v4(), NETWORK + 2, &[0, 39]),
            Skip::Ipv4TotalLength,
        ),
        (
            "total length 59 before TCP options of 20 octets",
            patched(
                over_ipv4(&tcp((40_000, 25), 7, ACK, 5, &[])),
                NETWORK + 2,
                &[0, 59],
            ),
            Skip::Ipv4TotalLength,
        ),
        (
            "fragment at 8",
            patched(v4(), NETWORK + 6, &[0, 1]),
            Skip::Ipv4Fragment,
        ),
        (
            "the last fragment",
            patched(v4(), NETWORK + 6, &[0x1f, 0xff]),
            Skip::Ipv4Fragment,
        ),
        (
            "39 octets of IPv6",
            v6()[..NETWORK + 39].to_vec(),
            Skip::ShortIpv6,
        ),
        (
            "version 4 as IPv6",
            patched(v6(), NETWORK, &[0x40]),
            Skip::Ipv6Version,
        ),
        (
            "7 octets of an extension",
            chain(&[Extension::Routing])[..TCP6 + 7].to_vec(),
            Skip::ShortIpv6Extension,
        ),
        (
            "nine extensions",
            chain(&[Extension::Destination; 9]),
            Skip::Ipv6ExtensionLimit,
        ),
        (
            "payload length 19",
            patched(v6(), NETWORK + 4, &[0, 19]),
            Skip::Ipv6PayloadLength,
        ),
        (
            "payload length 0",
            patched(v6(), NETWORK + 4, &[0, 0]),
            Skip::Ipv6PayloadLength,
        ),
        (
            "payload length inside the extension",
            patched(chain(&[Extension::Routing]), NETWORK + 4, &[0, 7]),
            Skip::Ipv6PayloadLength,
        ),
        (
            "a later fragment",
            chain(&[Extension::LaterFragment]),
            Skip::Ipv6Fragment,
        ),
        (
            "a later fragment behind a header",
            chain(&[Extension::HopByHop, Extension::LaterFragment]),
            Skip::Ipv6Fragment,
        ),
        (
            "a mapped source",
            patched(v6(), NETWORK + 8, &mapped),
            Skip::Ipv6Mapped,
        ),
        (
            "a mapped destination",
            patched(v6(), NETWORK + 24, &mapped),
            Skip::Ipv6Mapped,
        ),
        (
            "UDP to port 25",
            ethernet(&[], IPV4, &ipv4(0, IpNumber::UDP, &to_server())),
            Skip::NotTcp,
        ),
        (
            "ICMP that quotes a segment",
            ethernet(&[], IPV4, &ipv4(0, IpNumber::ICMP, &v4()[NETWORK..])),
            Skip::NotTcp,
        ),
        (
            "no next header",
            ethernet(
                &[],
                IPV6,
                &ipv6(&[], IpNumber::IPV6_NO_NEXT_HEADER, &to_server()),
            ),
            Skip::NotTcp,
        ),
        (
            "19 octets of TCP over IPv4",
            v4()[..TCP4 + 19].to_vec(),
            Skip::ShortTcp,
        ),
        (
            "19 octets of TCP over IPv6",
            v6()[..TCP6 + 19].to_vec(),
            Skip::ShortTcp,
        ),
        (
            "data offset 16",
            patched(v4(), TCP4 + 12, &[0x40]),
            Skip::TcpDataOffset,
        ),
        (
            "data offset 0",
            patched(v6(), TCP6 + 12, &[0x00]),
            Skip::TcpDataOffset,
        ),
        (
            "port 24",
            over_ipv4(&tcp((26, 24), 7, SYN, 0, &[])),
            Skip::NotMailPort,
        ),
        (
            "port 0, as unused places have",
            over_ipv4(&tcp((0, 0), 7, SYN, 0, &[])),
            Skip::NotMailPort,
        ),
        (
            "port 25 with its octets swapped",
            over_ipv4(&tcp((1, 0x1900), 7, SYN, 0, &[])),
            Skip::NotMailPort,
        ),
    ];
    for (name, frame, skip) in &table {
        assert_eq!(parsed(frame), Err(*skip), "{name}: {frame:02x?}");
    }
    let covered: HashSet<Skip> = table.iter().map(|(_, _, skip)| *skip).collect();
    for skip in Skip::ALL {
        assert!(covered.contains(&skip), "{} has no frame here", skip.name());
    }
}

#[test]
fn up_to_two_vlan_tags_of_both_kinds_change_nothing() {
    let tags = [&[][..], &[VLAN], &[PROVIDER_VLAN]];
    let pairs =
        [VLAN, PROVIDER_VLAN].map(|outer| [VLAN, PROVIDER_VLAN].map(|inner| [outer, inner]));
    let pairs = pairs.as_flattened().iter().map(<[u16; 2]>::as_slice);
    for tags in tags.into_iter().chain(pairs) {
        let v4 = ethernet(tags, IPV4, &ipv4(0, IpNumber::TCP, &to_server()));
        let v6 = ethernet(tags, IPV6, &ipv6(&[], IpNumber::TCP, &to_server()));
        assert_eq!(parsed(&v4), Ok(segment(IPV4, 40)), "{tags:04x?}");
        assert_eq!(parsed(&v6), Ok(segment(IPV6, 60)), "{tags:04x?}");
        for third in [VLAN, PROVIDER_VLAN] {
            let three = [&[third], tags, &[third; 2]].concat();
            let frame = ethernet(&three[..3], IPV4, &ipv4(0, IpNumber::TCP, &to_server()));
            assert_eq!(parsed(&frame), Err(Skip::VlanDepth), "{three:04x?}");
        }
    }
}

#[test]
fn every_length_of_both_headers_is_read_over_ipv4() {
    for ip_words in 0..=10 {
        for tcp_words in 0..=10 {
            for data in [0, 1, 1000] {
                let tcp = tcp((40_000, 25), 7, ACK, tcp_words, &vec![0xaa; data]);
                let ip = ipv4(ip_words, IpNumber::TCP, &tcp);
                let bytes = 40 + 4 * (ip_words + tcp_words) + data;
                assert_eq!(ip.len(), bytes);
                let expected = Segment {
                    payload: data as u32,
                    ..segment(IPV4, bytes)
                };
                assert_eq!(
                    parsed(&ethernet(&[], IPV4, &ip)),
                    Ok(expected),
                    "{ip_words} words of IPv4 options, {tcp_words} of TCP options, {data} octets"
                );
            }
        }
    }
}

#[test]
fn padding_and_what_follows_the_packet_are_not_counted() {
    let padded = [over_ipv4(&to_server()), vec![0; 6 + 4]].concat();
    assert_eq!(parsed(&padded), Ok(segment(IPV4, 40)));
    let padded = [over_ipv6(&to_server()), vec![0xff; 900]].concat();
    assert_eq!(parsed(&padded), Ok(segment(IPV6, 60)));
}

#[test]
fn up_to_eight_extension_headers_of_every_kind_are_read() {
    for length in 0..=10 {
        let mut chains: Vec<Vec<Extension>> = Extension::WITHOUT_OFFSET
            .map(|kind| vec![kind; length])
            .to_vec();
        for start in 0..Extension::WITHOUT_OFFSET.len() {
            let kinds = Extension::WITHOUT_OFFSET.iter().cycle().skip(start);
            chains.push(kinds.take(length).copied().collect());
        }
        for chain in chains {
            let ip = ipv6(&chain, IpNumber::TCP, &to_server());
            let expected = if length <= 8 {
                Ok(segment(IPV6, ip.len()))
            } else {
                Err(Skip::Ipv6ExtensionLimit)
            };
            assert_eq!(parsed(&ethernet(&[], IPV6, &ip)), expected, "{chain:?}");
        }
    }
}

#[test]
fn a_fragment_offset_anywhere_in_a_chain_hides_the_ports() {
    for length in 1..=8 {
        for place in 0..length {
            let mut chain = vec![Extension::Destination; length];
            chain[place] = Extension::LaterFragment;
            let frame = ethernet(&[], IPV6, &ipv6(&chain, IpNumber::TCP, &to_server()));
            assert_eq!(parsed(&frame), Err(Skip::Ipv6Fragment), "{chain:?}");
        }
    }
}

#[test]
fn every_bit_of_a_fragment_offset_counts_and_no_other_does() {
    let fragment = ipv6(&[Extension::FirstFragment], IpNumber::TCP, &to_server());
    for bit in 0..16 {
        let octets = (1_u16 << bit).to_be_bytes();
        // Reserved, don't fragment and more fragments are above the offset in IPv4; more fragments
        // and two reserved bits are below it in IPv6.
        let found = parsed(&patched(over_ipv4(&to_server()), NETWORK + 6, &octets));
        assert_eq!(
            found == Err(Skip::Ipv4Fragment),
            bit < 13,
            "bit {bit}: {found:?}"
        );
        let frame = ethernet(&[], IPV6, &fragment);
        let found = parsed(&patched(frame, TCP6 + 2, &octets));
        assert_eq!(
            found == Err(Skip::Ipv6Fragment),
            bit >= 3,
            "bit {bit}: {found:?}"
        );
    }
}

#[test]
fn a_first_fragment_is_a_segment() {
    let more_fragments = patched(over_ipv4(&to_server()), NETWORK + 6, &[0x20, 0]);
    assert_eq!(parsed(&more_fragments), Ok(segment(IPV4, 40)));
    let dont_fragment = patched(over_ipv4(&to_server()), NETWORK + 6, &[0x40, 0]);
    assert_eq!(parsed(&dont_fragment), Ok(segment(IPV4, 40)));
    let ip = ipv6(&[Extension::FirstFragment], IpNumber::TCP, &to_server());
    assert_eq!(parsed(&ethernet(&[], IPV6, &ip)), Ok(segment(IPV6, 68)));
}

/// A frame, and where its parts end, each with the skip of a frame that ends before.
struct Cut {
    frame: Vec<u8>,
    parts: Vec<(usize, Skip)>,
}

#[test]
fn a_frame_may_be_cut_anywhere_and_counts_from_its_ports_on() {
    let data = tcp((40_000, 25), 7, ACK, 3, b"MAIL FROM:<a@example.org>\r\n");
    let cases = [
        Cut {
            frame: over_ipv4(&data),
            parts: vec![
                (NETWORK, Skip::ShortEthernet),
                (TCP4, Skip::ShortIpv4),
                (TCP4 + TCP_LENGTH, Skip::ShortTcp),
            ],
        },
        Cut {
            frame: ethernet(
                &[PROVIDER_VLAN, VLAN],
                IPV4,
                &ipv4(10, IpNumber::TCP, &data),
            ),
            parts: vec![
                (NETWORK + 8, Skip::ShortEthernet),
                (TCP4 + 8, Skip::ShortIpv4),
                (TCP4 + 8 + 40 + TCP_LENGTH, Skip::ShortTcp),
            ],
        },
        Cut {
            frame: ethernet(
                &[],
                IPV6,
                &ipv6(
                    &[Extension::LongDestination, Extension::Authentication],
                    IpNumber::TCP,
                    &data,
                ),
            ),
            parts: vec![
                (NETWORK, Skip::ShortEthernet),
                (TCP6, Skip::ShortIpv6),
                // Only the first 8 octets of an extension are read.
                (TCP6 + 16 + 8, Skip::ShortIpv6Extension),
                (TCP6 + 16 + 24 + TCP_LENGTH, Skip::ShortTcp),
            ],
        },
    ];
    for Cut { frame, parts } in cases {
        let whole = parsed(&frame);
        assert!(whole.is_ok(), "{frame:02x?}");
        for length in 0..=frame.len() {
            let part = parts.iter().find(|(end, _)| length < *end);
            let expected = part.map_or(whole, |(_, skip)| Err(*skip));
            assert_eq!(
                parsed(&frame[..length]),
                expected,
                "{length} octets of {frame:02x?}"
            );
        }
    }
}

#[test]
fn the_direction_follows_the_mail_port_and_the_destination_wins() {
    let ports = MailPorts::new([25, 465, 587, 0]);
    let table = [
        ((40_000, 25), Some(Direction::ClientToServer)),
        ((25, 40_000), Some(Direction::ServerToClient)),
        ((40_000, 587), Some(Direction::ClientToServer)),
        ((465, 40_000), Some(Direction::ServerToClient)),
        ((25, 25), Some(Direction::ClientToServer)),
        ((25, 587), Some(Direction::ClientToServer)),
        ((0, 40_000), None),
        ((40_000, 0), None),
        ((24, 26), None),
    ];
    for (pair, direction) in table {
        let frame = over_ipv6(&tcp(pair, 7, ACK, 0, &[]));
        let found = parse(Packet::from_slice(&frame), ports).map(|(segment, _)| segment);
        assert_eq!(
            found.ok().map(|segment| segment.direction),
            direction,
            "{pair:?}"
        );
    }
}

#[test]
fn a_port_is_a_mail_port_exactly_when_it_is_named() {
    for named in [
        [25, 0, 0, 0],
        [25, 465, 587, 2525],
        [65_535, 1, 32_768, 32_767],
    ] {
        let ports = MailPorts::new(named);
        assert_eq!(MailPorts::from_word(ports.word()), ports);
        let mut frame = over_ipv4(&to_server());
        for port in 0..=65_535_u16 {
            frame = patched(frame, TCP4, &[0, 0]);
            frame = patched(frame, TCP4 + 2, &port.to_be_bytes());
            let found = parse(Packet::from_slice(&frame), ports).is_ok();
            assert_eq!(
                found,
                port != 0 && named.contains(&port),
                "{port} of {named:?}"
            );
        }
    }
}

#[test]
fn all_sixteen_octets_of_the_addresses_are_in_their_places() {
    let source: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
    let destination: [u8; 16] = std::array::from_fn(|i| i as u8 + 101);
    let frame = patched(over_ipv6(&to_server()), NETWORK + 8, &source);
    let frame = patched(frame, NETWORK + 24, &destination);
    let found = parsed(&frame).unwrap();
    assert_eq!(IpAddr::from(found.source), IpAddr::from(source));
    assert_eq!(IpAddr::from(found.destination), IpAddr::from(destination));
}
