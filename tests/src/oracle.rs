//! An independent account of a capture: tshark reads it, and a few lines count.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use smtp_common::flow::Totals;
use xtask::lab::tshark_fields;

const CAPTURED: [&str; 9] = [
    "ip.src",
    "ip.dst",
    "ip.len",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.plen",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
];

/// What tshark says about one segment.
#[derive(Debug)]
pub struct Seen {
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
    bytes: u64,
    flags: u32,
    sequence: u32,
}

/// The segments of a capture from or to port 25, read by tshark.
///
/// An ICMP error that quotes a TCP header has TCP's fields as well, and is no segment.
pub fn segments(file: &Path) -> Vec<Seen> {
    let fields: Vec<_> = CAPTURED.iter().copied().chain(["tcp.seq_raw"]).collect();
    let rows = tshark_fields(file, "tcp.port == 25 && !icmp && !icmpv6", &fields)
        .expect("tshark reads the capture");
    let rows = rows.into_iter().map(|row| {
        let number = |i: usize| row[i].parse::<u64>().unwrap_or_else(|_| panic!("{row:?}"));
        let address = |four: usize, six: usize| -> IpAddr {
            let text = if row[four].is_empty() {
                &row[six]
            } else {
                &row[four]
            };
            text.parse().unwrap_or_else(|_| panic!("{row:?}"))
        };
        let bytes = if row[0].is_empty() {
            40 + number(5)
        } else {
            number(2)
        };
        let flags = row[8].trim_start_matches("0x");
        Seen {
            source: address(0, 3),
            destination: address(1, 4),
            ports: (number(6) as u16, number(7) as u16),
            bytes,
            flags: u32::from_str_radix(flags, 16).unwrap_or_else(|_| panic!("{row:?}")),
            sequence: number(9) as u32,
        }
    });
    rows.collect()
}

/// The counts that DESIGN.md's words mean for these segments; written for the tests, without a line
/// of the product.
pub fn expected(seen: &[Seen]) -> BTreeMap<IpAddr, Totals> {
    const FIN: u32 = 0x01;
    const SYN: u32 = 0x02;
    const RST: u32 = 0x04;
    const ACK: u32 = 0x10;
    let mut counts: BTreeMap<IpAddr, Totals> = BTreeMap::new();
    let mut syns = HashSet::new();
    for segment in seen {
        let kind = segment.flags & (FIN | SYN | RST | ACK);
        let sender = counts.entry(segment.source).or_default();
        if segment.ports.1 == 25 {
            sender.c2s_packets += 1;
            sender.c2s_bytes += segment.bytes;
            if kind == SYN {
                let syn = (
                    segment.source,
                    segment.destination,
                    segment.ports,
                    segment.sequence,
                );
                if syns.insert(syn) {
                    sender.connections += 1;
                } else {
                    sender.syn_retx += 1;
                }
            }
        } else {
            sender.s2c_packets += 1;
            sender.s2c_bytes += segment.bytes;
            let client = counts.entry(segment.destination).or_default();
            if kind == SYN | ACK {
                client.answered += 1;
            } else if kind == RST | ACK && segment.sequence == 0 {
                client.refused += 1;
            }
        }
    }
    counts
}
