//! Files written octet by octet, in both byte orders.

use std::io::{self, Read};
use std::time::Duration;

use super::super::link::LinkType;
use super::{CaptureFile, Fault, MAX_INTERFACES, MAX_RECORD, block};

/// Writes numbers in one byte order.
#[derive(Clone, Copy, Debug)]
struct Order {
    big: bool,
}

const ORDERS: [Order; 2] = [Order { big: false }, Order { big: true }];

impl Order {
    fn words(self, words: &[u32]) -> Vec<u8> {
        let (little, big) = (u32::to_le_bytes, u32::to_be_bytes);
        let octets = if self.big { big } else { little };
        words.iter().flat_map(|word| octets(*word)).collect()
    }

    fn halves(self, halves: &[u16]) -> Vec<u8> {
        let (little, big) = (u16::to_le_bytes, u16::to_be_bytes);
        let octets = if self.big { big } else { little };
        halves.iter().flat_map(|half| octets(*half)).collect()
    }

    fn pcap(self, magic: u32, snap_length: u32, link: u32) -> Vec<u8> {
        let rest = self.words(&[0, 0, snap_length, link]);
        [self.words(&[magic]), self.halves(&[2, 4]), rest].concat()
    }

    fn record(self, seconds: u32, fraction: u32, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32;
        [&self.words(&[seconds, fraction, length, length]), data].concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = body.len().next_multiple_of(4) - body.len();
        let length = self.words(&[(12 + body.len() + padding) as u32]);
        let kind = self.words(&[kind]);
        [&kind, &length, body, &[0; 3][..padding], &length].concat()
    }

    fn section(self) -> Vec<u8> {
        let words = self.words(&[0x1a2b_3c4d]);
        let body = [words, self.halves(&[1, 0]), vec![0xff; 8]].concat();
        self.block(block::SECTION_HEADER, &body)
    }

    /// With options given as code and value.
    fn interface(self, link: u16, snap_length: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [self.halves(&[link, 0]), self.words(&[snap_length])].concat();
        for (code, value) in options {
            body.extend(self.halves(&[*code, value.len() as u16]));
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(block::INTERFACE_DESCRIPTION, &body)
    }

    fn enhanced(self, interface: u32, units: u64, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32;
        let words = self.words(&[
            interface,
            (units >> 32) as u32,
            units as u32,
            length,
            length,
        ]);
        self.block(block::ENHANCED_PACKET, &[&words, data].concat())
    }

    fn simple(self, original: u32, data: &[u8]) -> Vec<u8> {
        self.block(
            block::SIMPLE_PACKET,
            &[&self.words(&[original]), data].concat(),
        )
    }

    fn obsolete(self, interface: u16, units: u64, data: &[u8]) -> Vec<u8> {
        let length = data.len() as u32;
        let head = self.halves(&[interface, 0xffff]);
        let words = self.words(&[(units >> 32) as u32, units as u32, length, length]);
        self.block(block::PACKET, &[&head, &words, data].concat())
    }
}

/// A packet as it was read.
type Found = (Option<Duration>, LinkType, Vec<u8>);

/// All packets, and the fault that ended them if one did.
fn read(file: &[u8]) -> (Vec<Found>, Option<Fault>) {
    read_from(file)
}

fn read_from(input: impl Read) -> (Vec<Found>, Option<Fault>) {
    let mut frames = Vec::new();
    let mut file = match CaptureFile::new(input) {
        Ok(file) => file,
        Err(fault) => return (frames, Some(fault)),
    };
    loop {
        match file.next_frame() {
            Ok(Some(frame)) => frames.push((frame.at, frame.link, frame.data.to_vec())),
            Ok(None) => return (frames, None),
            Err(fault) => {
                assert!(matches!(file.next_frame(), Ok(None)), "after {fault:?}");
                return (frames, Some(fault));
            }
        }
    }
}

/// All packets of a file without faults.
fn whole(file: &[u8]) -> Vec<Found> {
    let (frames, fault) = read(file);
    assert!(fault.is_none(), "{fault:?}");
    frames
}

fn ethernet(nanoseconds: u64, data: &[u8]) -> Found {
    let at = Some(Duration::from_nanos(nanoseconds));
    (at, LinkType::Ethernet, data.to_vec())
}

#[test]
fn pcap_is_read_in_both_byte_orders_and_both_resolutions() {
    for order in ORDERS {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let records = [
                order.record(7, 999_999, b"first"),
                order.record(6, 1, b""),
                order.record(u32::MAX, 2, b"third"),
            ];
            let file = [order.pcap(magic, 65_535, 1), records.concat()].concat();
            let second = 1_000_000_000;
            let expected = [
                ethernet(7 * second + 999_999 * unit, b"first"),
                ethernet(6 * second + unit, b""),
                ethernet(u64::from(u32::MAX) * second + 2 * unit, b"third"),
            ];
            assert_eq!(whole(&file), expected, "{order:?}, {magic:x}");
        }
    }
}

#[test]
fn kuznetzovs_records_have_eight_octets_more() {
    let order = ORDERS[0];
    let head = order.words(&[7, 8, 4, 4, 0, 0]);
    let file = [order.pcap(0xa1b2_cd34, 0, 1), head, b"data".to_vec()].concat();
    assert_eq!(whole(&file), [ethernet(7_000_008_000, b"data")]);
}

#[test]
fn the_check_sequence_bits_are_no_part_of_the_link_type() {
    let order = ORDERS[0];
    let file = [
        order.pcap(0xa1b2_c3d4, 0, 0x1400_0000 | 101),
        order.record(0, 0, b"x"),
    ]
    .concat();
    assert_eq!(whole(&file)[0].1, LinkType::Raw);
}

#[test]
fn pcapng_is_read_with_every_kind_of_packet_and_several_interfaces() {
    for order in ORDERS {
        let offset = if order.big {
            100_i64.to_be_bytes()
        } else {
            100_i64.to_le_bytes()
        };
        let file = [
            order.section(),
            order.interface(1, 0, &[]),
            order.interface(101, 0, &[(9, &[9]), (14, &offset)]),
            // Statistics, which hold no packet.
            order.block(5, &[0; 12]),
            order.block(0x0bad, &[]),
            order.enhanced(0, 3_000_001, b"microseconds"),
            order.enhanced(1, 3_000_000_001, b"nanoseconds"),
            order.simple(6, b"simple"),
            order.obsolete(1, 5, b"old"),
            // 2^-1 seconds.
            order.interface(1, 0, &[(9, &[0x81])]),
            order.enhanced(2, 7, b""),
        ];
        let second = Duration::from_secs(1);
        let (one, raw) = (Duration::from_nanos(1), LinkType::Raw);
        let expected = [
            ethernet(3_000_001_000, b"microseconds"),
            (Some(103 * second + one), raw, b"nanoseconds".to_vec()),
            (None, LinkType::Ethernet, b"simple".to_vec()),
            (Some(100 * second + 5 * one), raw, b"old".to_vec()),
            ethernet(3_500_000_000, b""),
        ];
        assert_eq!(whole(&file.concat()), expected, "{order:?}");
    }
}

#[test]
fn a_new_section_has_its_own_byte_order_and_interfaces() {
    let [little, big] = ORDERS;
    let first = [
        little.section(),
        little.interface(1, 0, &[]),
        little.enhanced(0, 0, b"one"),
    ];
    let second = [
        big.section(),
        big.interface(101, 0, &[]),
        big.enhanced(0, 0, b"two"),
    ];
    let frames = whole(&[first.concat(), second.concat()].concat());
    assert_eq!(frames[0].1, LinkType::Ethernet);
    assert_eq!(
        (frames[1].1, &frames[1].2[..]),
        (LinkType::Raw, &b"two"[..])
    );

    let orphan = [first.concat(), big.section(), big.enhanced(0, 0, b"two")].concat();
    let (frames, fault) = read(&orphan);
    assert_eq!(frames.len(), 1);
    let text = fault.unwrap().to_string();
    assert!(
        text.contains("interface 0, which is not described"),
        "{text}"
    );
}

#[test]
fn a_simple_packet_ends_at_the_snap_length_of_its_interface() {
    let order = ORDERS[0];
    let file = [
        order.section(),
        order.interface(1, 5, &[]),
        // 1500 on the wire, 5 captured, 3 of padding.
        order.simple(1500, b"12345"),
    ];
    assert_eq!(whole(&file.concat())[0].2, b"12345");
}

#[test]
fn times_beyond_every_resolution_and_before_1970_are_still_times() {
    let order = ORDERS[0];
    let back = (-10_i64).to_le_bytes();
    let file = [
        order.section(),
        order.interface(1, 0, &[(9, &[0x7f])]),
        order.interface(1, 0, &[(9, &[0xff])]),
        order.interface(1, 0, &[(14, &back)]),
        order.interface(1, 0, &[(9, &[0])]),
    ];
    let packets = [0, 1, 2, 3].map(|interface| order.enhanced(interface, u64::MAX / 2, b""));
    let early = order.enhanced(2, 0, b"");
    let frames = whole(&[file.concat(), packets.concat(), early].concat());
    assert_eq!(frames[0].0, Some(Duration::ZERO));
    assert_eq!(frames[1].0, Some(Duration::ZERO));
    assert_eq!(frames[3].0, Some(Duration::from_secs(u64::MAX / 2)));
    assert_eq!(frames[4].0, Some(Duration::ZERO));
}

/// One file of each format, with three packets.
fn three_packets() -> [Vec<u8>; 2] {
    let order = ORDERS[0];
    let records = [&b"one"[..], b"two", b"three"];
    let pcap = records.map(|data| order.record(1, 0, data)).concat();
    let blocks = records.map(|data| order.enhanced(0, 0, data)).concat();
    [
        [order.pcap(0xa1b2_c3d4, 65_535, 1), pcap].concat(),
        [order.section(), order.interface(1, 0, &[]), blocks].concat(),
    ]
}

#[test]
fn a_file_may_be_cut_anywhere_and_gives_what_is_whole_and_where_it_broke() {
    for file in three_packets() {
        let all = whole(&file);
        let mut boundaries = 0;
        for length in 0..file.len() {
            let (frames, fault) = read(&file[..length]);
            assert_eq!(frames, all[..frames.len()], "{length}");
            match fault {
                // Between two records there is nothing to see.
                None => boundaries += 1,
                Some(Fault::Cut { start }) => {
                    assert!(start <= length as u64, "{start}, {length}");
                    let (before, whole) = read(&file[..start as usize]);
                    // The record at `start` is the first that is not whole.
                    assert!(start == 0 || whole.is_none(), "{start}: {whole:?}");
                    assert_eq!(before.len(), frames.len());
                }
                Some(Fault::Empty) => assert_eq!(length, 0),
                Some(Fault::NotACapture { .. }) => assert!(length < 4, "{length}"),
                Some(fault) => panic!("{length}: {fault:?}"),
            }
        }
        assert!((3..=4).contains(&boundaries), "{boundaries}");
    }
}

#[test]
fn damage_is_named_with_its_place_and_all_before_it_is_given() {
    let order = ORDERS[0];
    let [pcap, pcapng] = three_packets();
    let with = |file: &[u8], tail: Vec<u8>| [file, &tail].concat();
    let mut bad_trailer = order.enhanced(0, 0, b"four");
    *bad_trailer.last_mut().unwrap() ^= 1;
    // The packet claims more octets than its block has, though the file goes on.
    let mut too_long = order.enhanced(0, 0, b"four");
    too_long[20] = 0xff;
    let too_long = [too_long, vec![0; 1000]].concat();
    let mut skipped = order.block(4, &[0; 64]);
    *skipped.last_mut().unwrap() = 9;
    let huge = (MAX_RECORD as u32 + 4).to_le_bytes();
    let cases = [
        (
            with(&pcap, order.words(&[1, 0, 262_145, 60])),
            "a packet of 262145 bytes",
        ),
        (with(&pcap, vec![0xff; 64]), "a packet of 4294967295 bytes"),
        (with(&pcapng, order.words(&[6, 0, 0])), "a block of 0 bytes"),
        (
            with(&pcapng, order.words(&[6, 33, 0])),
            "a block of 33 bytes",
        ),
        (
            with(&pcapng, [&[6, 0, 0, 0][..], &huge, &[0; 4]].concat()),
            "are the most",
        ),
        (with(&pcapng, bad_trailer), "at its end"),
        (with(&pcapng, too_long), "does not fit"),
        (with(&pcapng, skipped), "at its end"),
        (with(&pcapng, order.simple(60, b"four")), "does not fit"),
        (
            with(&pcapng, order.block(block::PACKET, &[0; 8])),
            "does not fit",
        ),
        (with(&pcapng, order.enhanced(1, 0, b"four")), "interface 1"),
        (
            with(&pcapng, order.block(block::SECTION_HEADER, &[0; 16])),
            "without byte order",
        ),
        (
            with(&pcapng, order.block(block::INTERFACE_DESCRIPTION, &[])),
            "interface description",
        ),
    ];
    for (file, words) in cases {
        let (frames, fault) = read(&file);
        assert_eq!(frames.len(), 3, "{words}");
        let start = if file.starts_with(&pcapng) {
            pcapng.len()
        } else {
            pcap.len()
        };
        let text = fault.expect(words).to_string();
        assert!(text.contains(words), "{words}: {text}");
        assert!(
            text.contains(&format!("damaged at byte {start}:")),
            "{words}: {text}"
        );
    }
}

#[test]
fn bytes_that_are_passed_over_count_in_the_place_of_a_fault() {
    let order = ORDERS[0];
    let before = [order.section(), order.block(4, &[0; 500])].concat();
    let file = [&before[..], &[0xff; 12]].concat();
    let text = read(&file).1.unwrap().to_string();
    let place = format!("at byte {}:", before.len());
    assert!(text.contains(&place), "{place} {text}");
}

#[test]
fn interfaces_without_end_do_not_take_memory_without_end() {
    let order = ORDERS[0];
    let mut file = order.section();
    file.extend(order.interface(1, 0, &[]).repeat(MAX_INTERFACES));
    assert!(whole(&file).is_empty());
    file.extend(order.interface(1, 0, &[]));
    let text = read(&file).1.unwrap().to_string();
    assert!(text.contains("more than 65536 interfaces"), "{text}");
}

#[test]
fn long_records_are_read_up_to_the_limit_of_their_file() {
    let order = ORDERS[0];
    let packet = vec![0xaa; 1 << 20];
    let records = [order.record(0, 0, &packet), order.record(0, 0, b"next")].concat();
    let jumbo = [order.pcap(0xa1b2_c3d4, 1 << 20, 1), records.clone()].concat();
    assert_eq!(whole(&jumbo).len(), 2);
    // A file that says its packets are short is believed only above what libpcap captures.
    let (frames, fault) = read(&[order.pcap(0xa1b2_c3d4, 96, 1), records].concat());
    assert!(frames.is_empty() && fault.is_some());
    let usual = order.record(0, 0, &packet[..262_144]);
    assert_eq!(
        whole(&[order.pcap(0xa1b2_c3d4, 96, 1), usual].concat()).len(),
        1
    );

    let block = order.enhanced(0, 0, &packet);
    let file = [order.section(), order.interface(1, 0, &[]), block].concat();
    assert_eq!(whole(&file)[0].2.len(), 1 << 20);
}

#[test]
fn packets_of_an_unknown_link_type_are_refused_by_number_before_any_is_counted() {
    let order = ORDERS[0];
    let pcap = [order.pcap(0xa1b2_c3d4, 0, 105), order.record(0, 0, b"x")].concat();
    let (frames, fault) = read(&pcap);
    let text = fault.unwrap().to_string();
    assert!(
        frames.is_empty() && text.contains("link type 105"),
        "{text}"
    );

    let pcapng = [
        order.section(),
        order.interface(1, 0, &[]),
        order.interface(189, 0, &[]),
        order.enhanced(0, 0, b"counts"),
        order.enhanced(1, 0, b"does not"),
    ];
    let (frames, fault) = read(&pcapng.concat());
    let text = fault.unwrap().to_string();
    assert_eq!(frames.len(), 1);
    assert!(text.contains("interface 1 are of link type 189"), "{text}");
    // Nobody misses packets that are not there.
    assert_eq!(whole(&pcapng[..4].concat()).len(), 1);
}

#[test]
fn what_is_no_capture_is_told_from_its_first_octets() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"From: me", "begins with 46 72 6f 6d"),
        (&[0x1f, 0x8b, 8, 0, 0], "gunzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "unzstd"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\n\r\r\n and then anything", "begins with 0a 0d 0d 0a"),
    ];
    for (file, words) in cases {
        let text = read(file).1.expect(words).to_string();
        assert!(text.contains(words), "{text}");
    }
}

/// Yields one octet at a time, is interrupted before each, and fails at the end if it is to.
struct Trickle<'a> {
    rest: &'a [u8],
    interrupted: bool,
    failure: Option<io::ErrorKind>,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.failure {
            Some(kind) if self.rest.is_empty() => Err(kind.into()),
            _ => self
                .rest
                .take(1)
                .read(buffer)
                .inspect(|n| self.rest = &self.rest[*n..]),
        }
    }
}

#[test]
fn short_reads_and_interruptions_change_nothing_and_errors_come_through() {
    let [pcap, pcapng] = three_packets();
    for file in [pcap, pcapng] {
        let trickle = |failure| Trickle {
            rest: &file,
            interrupted: false,
            failure,
        };
        let (frames, fault) = read_from(trickle(None));
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!(frames, whole(&file));
        let (frames, fault) = read_from(trickle(Some(io::ErrorKind::TimedOut)));
        assert_eq!(frames.len(), 3);
        assert!(matches!(fault, Some(Fault::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
    }
}
