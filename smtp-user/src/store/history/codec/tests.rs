//! Octets that were written down once, and records by chance.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("an address"))
}

/// Counts that are all different.
fn row(first: u64) -> Row {
    Row(std::array::from_fn(|place| first + place as u64))
}

fn records(kind: Kind, chunk: &[u8]) -> Vec<(Key, Row, Option<Vec<u8>>)> {
    let records = &chunk[HEAD..];
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    while let Some(key) = decoder.key(kind, records).expect("well formed") {
        let (mut row, mut sketch) = (Row::ZERO, None);
        decoder
            .add(records, &mut row, &mut sketch)
            .expect("well formed");
        all.push((key, row, sketch.map(|sketch| sketch.to_bytes())));
    }
    all
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Files hold these octets: they never change.
#[test]
fn the_form_is_frozen() {
    let mut encoder = Encoder::new(Kind::Sources);
    let mut sketch = Sketch::default();
    sketch.insert(at("192.0.2.1"));
    sketch.insert(at("198.51.100.7"));
    for (address, row, sketch) in [
        ("192.0.2.1", row(0), None),
        (
            "192.0.2.200",
            Row([
                300, 2, 80, 0, 0, 0, 30_000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]),
            None,
        ),
        ("2001:db8::25", Row::ZERO, Some(&sketch)),
    ] {
        let key = Key {
            client: rank(at(address)),
            server: 0,
        };
        assert_eq!(encoder.push(key, &row, sketch), None);
    }
    let mut chunk = encoder.finish().expect("a chunk");
    seal(0x0102_0304_0506, &mut chunk);
    assert_eq!(hex(&chunk), FROZEN_SOURCES,);
    let mut encoder = Encoder::new(Kind::Pairs);
    for (client, server, first) in [
        ("192.0.2.1", "192.0.2.2", 1),
        ("192.0.2.1", "192.0.2.3", 100),
        ("192.0.2.1", "::", 1 << 60),
        ("192.0.2.9", "192.0.2.2", u64::MAX - 23),
    ] {
        let key = Key {
            client: rank(at(client)),
            server: rank(at(server)),
        };
        assert_eq!(encoder.push(key, &row(first), None), None);
    }
    let mut chunk = encoder.finish().expect("a chunk");
    seal(-1, &mut chunk);
    assert_eq!(hex(&chunk[..60]), FROZEN_PAIRS);
    assert_eq!(records(Kind::Pairs, &chunk).len(), 4);
}

/// Computed by another program from the description of the module.
const FROZEN_SOURCES: &str = "ef7df0a6818480800cfeffff070102030405060708090a0b0c0d0e0f1011121314151617c70147ac020250b0ea01ddfaffffe3ffbf80808080808080ee8681408080800802e00f05c10a01";
const FROZEN_PAIRS: &str = "d177db14818480800c828480800cffffff070102030405060708090a0b0c0d0e0f1011121314151617180001ffffff076465666768696a6b6c6d6e6f";

#[test]
fn ranks_and_shards_are_frozen() {
    assert_eq!(rank(at("192.0.2.1")), 0xc000_0201);
    assert_eq!(rank(at("::")), 0xffff_0000_0000);
    assert_eq!(
        rank(at("2001:db8::25")),
        0x2001_0db8_0000_0000_0000_ffff_0000_0025
    );
    let shards = [
        "192.0.2.1",
        "192.0.2.2",
        "198.51.100.7",
        "2001:db8::25",
        "::",
    ];
    assert_eq!(shards.map(|text| shard(at(text))), FROZEN_SHARDS);
    for text in shards {
        assert_eq!(address(rank(at(text))), at(text));
    }
}

const FROZEN_SHARDS: [u8; 5] = [12, 8, 14, 8, 0];

#[test]
fn a_chunk_is_known_by_its_number_and_by_each_of_its_bits() {
    let mut encoder = Encoder::new(Kind::Sources);
    for client in 0..50 {
        encoder.push(Key { client, server: 0 }, &row(client as u64), None);
    }
    let mut chunk = encoder.finish().expect("a chunk");
    seal(7, &mut chunk);
    assert!(open(7, &chunk).is_ok());
    assert_eq!(open(8, &chunk), Err(Malformed));
    assert_eq!(open(7, &chunk[..3]), Err(Malformed));
    for bit in 0..8 * chunk.len() {
        chunk[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(7, &chunk), Err(Malformed), "bit {bit}");
        chunk[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_chunk_fits_on_a_page() {
    let mut encoder = Encoder::new(Kind::Pairs);
    let mut chunks = Vec::new();
    for number in 0..2_000_u128 {
        let key = Key {
            client: (number * number) << 60,
            server: number << 90,
        };
        chunks.extend(encoder.push(key, &row(u64::MAX / 2), None));
    }
    chunks.extend(encoder.finish());
    assert!(chunks.len() > 100);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
    let held: usize = chunks
        .iter()
        .map(|chunk| records(Kind::Pairs, chunk).len())
        .sum();
    assert_eq!(held, 2_000);
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => 0..300_u64, 1 => any::<u64>()]
}

/// The sketch of so many servers; none of none.
fn sketch_of(number: u32) -> Option<Sketch> {
    (number > 0).then(|| {
        let mut sketch = Sketch::default();
        for server in 0..number {
            sketch.insert(Address::from_ipv4(server.to_be_bytes()));
        }
        sketch
    })
}

fn servers() -> impl Strategy<Value = u32> {
    prop_oneof![9 => Just(0), 1 => 1..5_000_u32]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_is_read_back(
        pairs in any::<bool>(),
        given in prop::collection::btree_map(
            (prop_oneof![0..50_u128, any::<u128>()], any::<u128>()),
            (prop::collection::vec(count(), FIELDS), servers()),
            0..200,
        ),
    ) {
        let kind = if pairs { Kind::Pairs } else { Kind::Sources };
        let mut expected: Vec<(Key, Row, Option<Sketch>)> = given
            .into_iter()
            .map(|((client, server), (counts, servers))| {
                let key = Key { client, server: if pairs { server } else { 0 } };
                (key, Row(counts.try_into().expect("as many")), sketch_of(servers))
            })
            .collect();
        expected.dedup_by_key(|(key, ..)| *key);
        let mut encoder = Encoder::new(kind);
        let mut chunks = Vec::new();
        for (key, row, sketch) in &expected {
            chunks.extend(encoder.push(*key, row, sketch.as_ref()));
        }
        chunks.extend(encoder.finish());
        let found: Vec<_> = chunks.iter().flat_map(|chunk| records(kind, chunk)).collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(key, row, sketch)| (key, row, sketch.map(|sketch| sketch.to_bytes())))
            .collect();
        prop_assert_eq!(found, expected);
        for chunk in &chunks {
            let first = first_client(chunk).expect("a client");
            prop_assert_eq!(first, records(kind, chunk)[0].0.client);
        }
    }

    #[test]
    fn counts_are_the_same_as_a_row(counts in prop::collection::vec(any::<u64>(), FIELDS)) {
        let row = Row(counts.try_into().expect("as many"));
        prop_assert_eq!(Row::of(&row.counts()), row);
    }

    /// What was not found by the checksum is refused or read, and no more.
    #[test]
    fn octets_by_chance_are_no_panic(pairs in any::<bool>(), octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let kind = if pairs { Kind::Pairs } else { Kind::Sources };
        let mut decoder = Decoder::default();
        while let Ok(Some(_)) = decoder.key(kind, &octets) {
            if decoder.add(&octets, &mut Row::ZERO.clone(), &mut None).is_err() {
                break;
            }
        }
        let _ = first_client(&octets);
    }
}
