//! Steady traffic from known sources: so many packets a second, until told to stop.
//!
//! The packets leave a raw IP socket (raw(7), `IPPROTO_RAW`) of a client's namespace, each with a
//! source address of its own, on the way that the routing table says. What was sent is counted per
//! source, so that it can be compared with what was counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use smtp_common::flow::Totals;

use crate::packets::{Flags, Frame, client, server};

/// How many sources there are.
pub const SOURCES: u8 = 64;
/// Packets that are sent at once, before the clock is looked at.
const BATCH: u64 = 50;

/// Bytes of the Ethernet header, which a raw IP socket makes itself.
const ETHERNET: usize = 14;
/// Where an IPv4 packet without options has its source address, and the port and the sequence number of the
/// TCP segment in it (RFC 791, RFC 9293).
const SOURCE: Range<usize> = 12..16;
const PORT: Range<usize> = 20..22;
const SEQUENCE: Range<usize> = 24..28;

/// Sends this many packets a second until `stop` is set, and says what each source has sent.
///
/// Half of the packets open a connection, each one anew; the others carry 100 bytes.
pub fn fire(per_second: u64, stop: &AtomicBool) -> BTreeMap<IpAddr, Totals> {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .expect("a raw socket needs root");
    let target = SockaddrIn::from(SocketAddrV4::new(octets(server(1)).into(), 0));
    // Built once: what changes is written into them, but for the checksum of TCP, which nobody reads.
    let [opening, carrying] = [(Flags::Syn, 0), (Flags::Ack, 100)].map(|(flags, payload)| {
        let frame = Frame::to_server(client(0), server(1), flags, 0).with_payload(payload);
        let end = ETHERNET + frame.bytes() as usize;
        frame.build()[ETHERNET..end].to_vec()
    });
    let mut packets = [carrying, opening];
    let mut sent: BTreeMap<IpAddr, Totals> = BTreeMap::new();
    let begun = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let source = client((number % u64::from(SOURCES)) as u8);
            // A connection and its data follow each other in rounds over all sources.
            let round = number / u64::from(SOURCES);
            let opens = round.is_multiple_of(2);
            let packet = &mut packets[usize::from(opens)];
            packet[SOURCE].copy_from_slice(&octets(source));
            // Ports change, so that there are flows in plenty.
            let port = 1024 + (round / 2 % 50_000) as u16;
            packet[PORT].copy_from_slice(&port.to_be_bytes());
            packet[SEQUENCE].copy_from_slice(&(round as u32).to_be_bytes());
            while let Err(error) = sendto(raw.as_raw_fd(), packet, &target, MsgFlags::empty()) {
                assert!(
                    matches!(error, Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR),
                    "cannot send: {error}"
                );
            }
            let totals = sent.entry(source).or_default();
            totals.c2s_packets += 1;
            totals.c2s_bytes += packet.len() as u64;
            totals.connections += u64::from(opens);
            number += 1;
        }
        let due = Duration::from_micros(number * 1_000_000 / per_second);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    sent
}

fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("{address} is not IPv4"),
    }
}
