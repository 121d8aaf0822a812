//! Logs of all three servers as they write them, what attackers put into them, and octets that are no log.

mod golden;
mod hostile;

use std::net::IpAddr;

use super::*;
use crate::model::mail::KeptAddresses;

/// 2026-11-27T12:00:00Z.
const NOW: i64 = 1_795_780_800;

const LIMITS: Limits = Limits {
    queue_ids: 1000,
    keep_open: 86_400,
    sources: 1000,
    addresses: KeptAddresses::Full,
};

fn read_with(limits: Limits, log: &[u8]) -> Reader {
    let mut reader = Reader::new(TimeZone::UTC, NOW, limits);
    let mut lines = line::Lines::default();
    lines.push(log, |line| reader.line(line));
    lines.finish(|line| reader.line(line));
    reader.finish();
    reader
}

fn read(log: &str) -> Reader {
    read_with(LIMITS, log.as_bytes())
}

fn figures<'a>(reader: &'a Reader, address: &str) -> &'a Figures {
    let address: IpAddr = address.parse().expect("an address");
    let clients = reader.joiner().clients();
    clients.get(address).unwrap_or_else(|| {
        let known: Vec<_> = clients.iter().map(|(address, _)| address).collect();
        panic!("nothing of {address}; known are {known:?}")
    })
}

fn addresses(reader: &Reader) -> Vec<String> {
    let clients = reader.joiner().clients();
    let mut addresses: Vec<_> = clients.iter().map(|(address, _)| *address).collect();
    addresses.sort();
    addresses.iter().map(ToString::to_string).collect()
}

fn rejects(figures: &Figures, reason: Reason) -> u64 {
    figures.rejects[reason as usize]
}
