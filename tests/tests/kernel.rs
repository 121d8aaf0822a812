//! The loaded kernel program, frame by frame (`BPF_PROG_TEST_RUN`): every frame passes unchanged,
//! and is counted as expected.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::Totals;
use smtp_user::meter::Meter as _;
use smtp_user::meter::xdp::{FRAGS, Options, PLAIN, Section, XdpMeter};
use smtp_user::model::Window;
use smtpflow_tests::packets::{Flags, Frame, client, server, six};
use smtpflow_tests::{meter, options};

/// `XDP_PASS` of include/uapi/linux/bpf.h.
const XDP_PASS: u32 = 2;

/// Runs a frame and asserts that it passes unchanged.
fn run(meter: &mut XdpMeter, section: Section, frame: &[u8]) {
    let (action, out) = meter
        .test_run(section, frame)
        .unwrap_or_else(|error| panic!("{frame:02x?}: {error:#}"));
    assert_eq!(action, XDP_PASS, "{frame:02x?}");
    assert_eq!(out, frame, "the program changed the frame");
}

fn window(meter: &mut XdpMeter) -> Window {
    smtpflow_tests::window(meter).expect("a live meter has no end")
}

fn sources(window: &Window) -> BTreeMap<IpAddr, Totals> {
    let entries = window.sources.iter();
    let map: BTreeMap<_, _> = entries.map(|source| (source.ip(), source.totals)).collect();
    assert_eq!(
        map.len(),
        window.sources.len(),
        "an address is listed twice"
    );
    map
}

/// A frame of `length` bytes with this EtherType and this start of its payload.
fn raw(ether_type: u16, start: &[u8], length: usize) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(start);
    frame.resize(length, 0);
    frame
}

/// A plain SYN to port 25, to be bent out of shape: the Ethernet header is 14 bytes, IPv4 and TCP
/// headers 20 each.
fn syn4() -> Vec<u8> {
    Frame::to_server(client(1), server(1), Flags::Syn, 1).build()
}

fn syn6() -> Vec<u8> {
    Frame::to_server(six(1), six(2), Flags::Syn, 1).build()
}

fn bent(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in changes {
        frame[*at] = *value;
    }
    frame
}

/// An IPv6 SYN with `count` destination-options headers of 8 bytes in front of TCP.
fn syn6_with_extensions(count: usize) -> Vec<u8> {
    let mut frame = syn6()[..54].to_vec();
    let tcp = syn6()[54..74].to_vec();
    let length = 20 + 8 * count;
    frame[18..20].copy_from_slice(&(length as u16).to_be_bytes());
    frame[20] = if count == 0 { 6 } else { 60 };
    for i in 0..count {
        let next = if i + 1 == count { 6 } else { 60 };
        frame.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    frame.extend(tcp);
    frame
}

/// Every way a frame can end, with a frame that ends so.
fn table() -> Vec<(&'static str, Vec<u8>, Counter)> {
    use Counter::Segment;
    let skip = Counter::Skip;
    let vlan = |count: usize| {
        let mut frame = syn4();
        for _ in 0..count {
            frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        }
        frame
    };
    vec![
        ("a SYN over IPv4", syn4(), Segment),
        ("a SYN over IPv6", syn6(), Segment),
        ("one VLAN tag", vlan(1), Segment),
        ("two VLAN tags", vlan(2), Segment),
        (
            "802.1ad outside, 802.1Q inside",
            bent(vlan(2), &[(12, 0x88), (13, 0xa8)]),
            Segment,
        ),
        ("three VLAN tags", vlan(3), skip(Skip::VlanDepth)),
        (
            "a frame that ends in its VLAN tag",
            vlan(1)[..16].to_vec(),
            skip(Skip::ShortEthernet),
        ),
        ("ARP", raw(0x0806, &[], 60), skip(Skip::NotIp)),
        ("PPPoE", raw(0x8864, &[], 60), skip(Skip::NotIp)),
        (
            "19 bytes of IPv4",
            syn4()[..33].to_vec(),
            skip(Skip::ShortIpv4),
        ),
        (
            "version 6 under EtherType IPv4",
            bent(syn4(), &[(14, 0x65)]),
            skip(Skip::Ipv4Version),
        ),
        (
            "IPv4 header length 16",
            bent(syn4(), &[(14, 0x44)]),
            skip(Skip::Ipv4HeaderLength),
        ),
        (
            "total length below the IPv4 header",
            bent(syn4(), &[(16, 0), (17, 19)]),
            skip(Skip::Ipv4TotalLength),
        ),
        (
            "total length below the TCP header",
            bent(syn4(), &[(16, 0), (17, 39)]),
            skip(Skip::Ipv4TotalLength),
        ),
        (
            "a first fragment",
            bent(syn4(), &[(20, 0x20), (21, 0)]),
            Segment,
        ),
        (
            "a later fragment",
            bent(syn4(), &[(20, 0), (21, 1)]),
            skip(Skip::Ipv4Fragment),
        ),
        (
            "UDP over IPv4",
            bent(syn4(), &[(23, 17)]),
            skip(Skip::NotTcp),
        ),
        (
            "ICMP that quotes a TCP header",
            bent(syn4(), &[(23, 1)]),
            skip(Skip::NotTcp),
        ),
        (
            "39 bytes of IPv6",
            syn6()[..53].to_vec(),
            skip(Skip::ShortIpv6),
        ),
        (
            "version 4 under EtherType IPv6",
            bent(syn6(), &[(14, 0x45)]),
            skip(Skip::Ipv6Version),
        ),
        (
            "IPv6 with a mapped source",
            bent(
                syn6(),
                &[(22, 0), (23, 0), (24, 0), (25, 0), (32, 0xff), (33, 0xff)],
            ),
            skip(Skip::Ipv6Mapped),
        ),
        (
            "payload length below the TCP header",
            bent(syn6(), &[(19, 19)]),
            skip(Skip::Ipv6PayloadLength),
        ),
        ("one extension header", syn6_with_extensions(1), Segment),
        ("eight extension headers", syn6_with_extensions(8), Segment),
        (
            "nine extension headers",
            syn6_with_extensions(9),
            skip(Skip::Ipv6ExtensionLimit),
        ),
        (
            "a frame that ends in an extension header",
            syn6_with_extensions(2)[..68].to_vec(),
            skip(Skip::ShortIpv6Extension),
        ),
        (
            "a first IPv6 fragment",
            bent(syn6_with_extensions(1), &[(20, 44), (56, 0), (57, 1)]),
            Segment,
        ),
        (
            "a later IPv6 fragment",
            bent(syn6_with_extensions(1), &[(20, 44), (56, 0), (57, 8)]),
            skip(Skip::Ipv6Fragment),
        ),
        (
            "UDP over IPv6",
            bent(syn6(), &[(20, 17)]),
            skip(Skip::NotTcp),
        ),
        (
            "no next header",
            bent(syn6(), &[(20, 59)]),
            skip(Skip::NotTcp),
        ),
        (
            "19 bytes of TCP",
            syn4()[..53].to_vec(),
            skip(Skip::ShortTcp),
        ),
        (
            "TCP data offset 16",
            bent(syn4(), &[(46, 0x40)]),
            skip(Skip::TcpDataOffset),
        ),
        (
            "TCP to port 26",
            bent(syn4(), &[(37, 26)]),
            skip(Skip::NotMailPort),
        ),
        (
            "TCP to port 25 x 256",
            bent(syn4(), &[(36, 25), (37, 0)]),
            skip(Skip::NotMailPort),
        ),
    ]
}

fn each_frame_ends_as_expected(section: Section, name: &str) {
    let mut meter = meter(&options(name, 6));
    let table = table();
    for (what, frame, expected) in &table {
        run(&mut meter, section, frame);
        let window = window(&mut meter);
        let mut outcomes = [0; Counter::COUNT];
        outcomes[expected.index()] = 1;
        assert_eq!(window.tally.frames, 1, "{what}");
        assert_eq!(window.tally.outcomes, outcomes, "{what}: {expected:?}");
    }
    // A frame shorter than an Ethernet header is refused by the kernel's test run itself, so that
    // reason has to be met in the table only by its longer form.
    for skip in Skip::ALL {
        assert!(
            table
                .iter()
                .any(|(_, _, counter)| *counter == Counter::Skip(skip)),
            "no frame ends as {}",
            skip.name()
        );
    }
    meter.detach().unwrap();
}

#[test]
fn each_frame_passes_unchanged_and_ends_as_expected_in_the_plain_section() {
    each_frame_ends_as_expected(PLAIN, "kernel-plain");
}

#[test]
fn each_frame_passes_unchanged_and_ends_as_expected_in_the_frags_section() {
    each_frame_ends_as_expected(FRAGS, "kernel-frags");
}

#[test]
fn a_connection_is_counted_for_both_its_ends() {
    let mut meter = meter(&options("kernel-both", 6));
    for (client, server, vlans) in [(client(1), server(1), &[][..]), (six(1), six(2), &[7][..])] {
        let frames = [
            Frame::to_server(client, server, Flags::Syn, 1000),
            // The same initial sequence number again, and then another.
            Frame::to_server(client, server, Flags::Syn, 1000),
            Frame::to_client(server, client, Flags::SynAck, 5000),
            Frame::to_server(client, server, Flags::Ack, 1001),
            Frame::to_client(server, client, Flags::Ack, 5001).with_payload(80),
            Frame::to_server(client, server, Flags::Ack, 1001).with_payload(1400),
            Frame::to_server(client, server, Flags::FinAck, 2401),
            Frame::to_server(client, server, Flags::Syn, 90_000),
            Frame::to_client(server, client, Flags::RstAck, 0),
            // A reset of an established connection is not a refusal.
            Frame::to_client(server, client, Flags::RstAck, 5081),
        ];
        for frame in &frames {
            run(&mut meter, PLAIN, &frame.clone().with_vlans(vlans).build());
        }
        let window = window(&mut meter);
        let sources = sources(&window);
        let sent = |from_client: bool| {
            let frames = frames
                .iter()
                .filter(|frame| (frame.source.0 == client) == from_client);
            frames.fold((0, 0), |(packets, bytes), frame| {
                (packets + 1, bytes + frame.bytes())
            })
        };
        let (c2s_packets, c2s_bytes) = sent(true);
        let (s2c_packets, s2c_bytes) = sent(false);
        assert_eq!(
            sources[&client],
            Totals {
                connections: 2,
                syn_retx: 1,
                c2s_packets,
                c2s_bytes,
                answered: 1,
                refused: 1,
                ..Totals::default()
            }
        );
        assert_eq!(
            sources[&server],
            Totals {
                s2c_packets,
                s2c_bytes,
                ..Totals::default()
            }
        );
        assert_eq!(sources.len(), 2);
    }
    meter.detach().unwrap();
}

#[test]
fn a_retransmission_is_known_across_windows() {
    let mut meter = meter(&options("kernel-retx", 6));
    let syn = Frame::to_server(client(1), server(1), Flags::Syn, 77).build();
    run(&mut meter, PLAIN, &syn);
    assert_eq!(sources(&window(&mut meter))[&client(1)].connections, 1);
    for _ in 0..3 {
        run(&mut meter, PLAIN, &syn);
        let totals = sources(&window(&mut meter))[&client(1)];
        assert_eq!((totals.connections, totals.syn_retx), (0, 1));
    }
    meter.detach().unwrap();
}

#[test]
fn windows_are_empty_when_nothing_comes_and_hold_what_came_once() {
    let mut meter = meter(&options("kernel-empty", 6));
    for round in 0..4u32 {
        assert_eq!(window(&mut meter).tally.frames, 0);
        for n in 0..=round {
            run(
                &mut meter,
                PLAIN,
                &Frame::to_server(client(1), server(1), Flags::Ack, n).build(),
            );
        }
        let window = window(&mut meter);
        assert_eq!(window.tally.segments(), u64::from(round) + 1);
        assert_eq!(
            sources(&window)[&client(1)].c2s_packets,
            u64::from(round) + 1
        );
    }
    meter.detach().unwrap();
}

/// 64 sets on one CPU hold 128 addresses: this sends from many more.
fn crowd(options: &Options) -> (XdpMeter, u64) {
    let mut meter = meter(options);
    let mut sent = 0;
    for n in 0..2000u32 {
        let [_, _, high, low] = n.to_be_bytes();
        let stranger = IpAddr::from([100, 64, high, low]);
        run(
            &mut meter,
            PLAIN,
            &Frame::to_server(stranger, server(1), Flags::Syn, n).build(),
        );
        sent += 1;
    }
    for n in 0..50 {
        for sequence in 0..3 {
            run(
                &mut meter,
                PLAIN,
                &Frame::to_server(client(n), server(1), Flags::Syn, sequence).build(),
            );
            sent += 1;
        }
    }
    (meter, sent)
}

#[test]
fn strangers_overflow_and_own_hosts_stay_exact_when_the_table_is_full() {
    let mut options = options("kernel-full", 6);
    options.local = vec![
        "198.51.100.0/24".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    let (mut meter, sent) = crowd(&options);
    let window = window(&mut meter);
    assert_eq!(window.tally.segments(), sent);
    let sources = sources(&window);
    for n in 0..50 {
        let totals = sources[&client(n)];
        assert_eq!(
            (totals.connections, totals.c2s_packets),
            (3, 3),
            "own host {n}"
        );
    }
    let overflow = window.tally.overflow;
    assert!(overflow.connections > 1000, "{overflow:?}");
    assert_eq!(overflow.connections, overflow.c2s_packets);
    assert!(window.tally.spilled > 0 && window.tally.spill_refused == 0);
    assert_eq!(
        window.tally.sources.connections + overflow.connections,
        sent
    );

    // The spill is cut by the flip like everything else.
    run(
        &mut meter,
        PLAIN,
        &Frame::to_server(client(1), server(1), Flags::Ack, 1).build(),
    );
    let next = self::window(&mut meter);
    assert_eq!((next.tally.segments(), next.tally.spilled), (1, 0));
    meter.detach().unwrap();
}

#[test]
fn without_a_prefix_list_everybody_overflows_and_nothing_is_lost() {
    let (mut meter, sent) = crowd(&options("kernel-nolist", 6));
    let window = window(&mut meter);
    assert_eq!(window.tally.segments(), sent);
    assert_eq!(window.tally.spilled, 0);
    assert_eq!(
        window.tally.sources.packets() + window.tally.overflow.packets(),
        sent
    );
    meter.detach().unwrap();
}

#[test]
fn a_full_spill_overflows_with_a_count_of_its_own() {
    let mut options = options("kernel-spill", 6);
    options.local = vec!["0.0.0.0/0".parse().unwrap()];
    options.spill = 16;
    let (mut meter, sent) = crowd(&options);
    let window = window(&mut meter);
    assert_eq!(window.tally.segments(), sent);
    assert!(
        window.tally.spilled > 0 && window.tally.spill_refused > 0,
        "{:?}",
        window.tally
    );
    meter.detach().unwrap();
}

#[test]
fn the_verifier_walks_few_enough_instructions() {
    let mut meter = meter(&options("kernel-verifier", 6));
    for section in [PLAIN, FRAGS] {
        let walked = meter.verified_instructions(section).unwrap();
        // Linux tells since 5.16.
        if let Some(walked) = walked {
            println!("section {}: {walked} instructions", section.name);
            assert!(walked <= 20_000, "section {}: {walked}", section.name);
        }
    }
    meter.detach().unwrap();
}

#[test]
fn a_meter_takes_over_what_an_earlier_one_counted() {
    let options = options("kernel-takeover", 6);
    let mut first = meter(&options);
    let frame = |sequence| Frame::to_server(client(9), server(1), Flags::Syn, sequence).build();
    run(&mut first, PLAIN, &frame(1));
    window(&mut first);
    run(&mut first, PLAIN, &frame(2));
    run(&mut first, PLAIN, &frame(3));
    // As if killed: nothing is drained, nothing detached.
    drop(first);

    let mut second = meter(&options);
    run(&mut second, PLAIN, &frame(3));
    run(&mut second, PLAIN, &frame(4));
    // First the half that was silent, of which the second cannot know whether somebody has it in
    // safety; nobody read it again, so it is clear.
    assert_eq!(window(&mut second).tally.frames, 0);
    let totals = sources(&window(&mut second))[&client(9)];
    assert_eq!(
        (totals.connections, totals.syn_retx, totals.c2s_packets),
        (3, 1, 4)
    );

    drop(second);
    let mut other = options.clone();
    other.geometry.sets *= 2;
    let failure = XdpMeter::open(&other)
        .err()
        .expect("another geometry is refused");
    assert!(failure.to_string().contains("smtpflow detach"), "{failure}");
    assert_eq!(failure.kind.exit_code(), 69);
    meter(&options).detach().unwrap();
    assert!(
        !options.pins.exists(),
        "pins are left in {}",
        options.pins.display()
    );
}

/// A meter that read a window and died before it could clear it; what the next one makes of that is
/// decided by what was put into safety.
#[test]
fn epochs_decide_whether_a_window_is_handed_over_again() {
    for (safe, expected) in [(false, 2), (true, 0)] {
        let options = options("kernel-epochs", 6);
        let mut first = meter(&options);
        assert!(!first.recover(None).unwrap(), "new tables have no past");
        let frame = |sequence| Frame::to_server(client(9), server(1), Flags::Syn, sequence).build();
        run(&mut first, PLAIN, &frame(1));
        window(&mut first);
        run(&mut first, PLAIN, &frame(2));
        run(&mut first, PLAIN, &frame(3));
        let read = first.window().unwrap().expect("a window");
        assert_eq!(read.tally.segments(), 2);
        let again = first.window().unwrap().expect("the same window");
        assert_eq!((again.epoch, &again.tally), (read.epoch, &read.tally));
        run(&mut first, PLAIN, &frame(4));
        let table_id = first.table_id();
        drop(first);

        let mut second = meter(&options);
        assert_eq!(second.table_id(), table_id);
        let committed = if safe { read.epoch } else { read.epoch - 1 };
        assert_eq!(second.recover(Some(committed)).unwrap(), !safe);
        if !safe {
            let again = window(&mut second);
            assert_eq!(again.epoch, read.epoch);
            assert_eq!(again.tally.segments(), expected);
            assert_eq!(again.sources, read.sources);
            assert_eq!(again.flows.len(), read.flows.len());
        }
        let next = window(&mut second);
        assert_eq!(next.epoch, read.epoch + 1);
        assert_eq!(next.tally.segments(), 1, "what came after the flip");
        assert_eq!(window(&mut second).tally.frames, 0);
        second.detach().unwrap();
    }
}

#[test]
fn two_meters_never_share_their_pins() {
    let options = options("kernel-lock", 6);
    let first = meter(&options);
    let failure = XdpMeter::open(&options)
        .err()
        .expect("the second is refused");
    assert!(
        failure.to_string().contains("another smtpflow"),
        "{failure}"
    );
    assert_eq!(failure.kind.exit_code(), 69);
    first.detach().unwrap();
}
