//! Steady traffic from known sources: so many packets a second, until told to stop.
//!
//! The packets leave a raw IP socket (raw(7), `IPPROTO_RAW`) of a client's namespace, each with a
//! source address of its own, on the way that the routing table says. What was sent is counted per
//! source, so that it can be compared with what was counted.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};
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
    let IpAddr::V4(target) = server(1) else {
        panic!("{} is not IPv4", server(1));
    };
    let target = SockaddrIn::from(SocketAddrV4::new(target, 0));
    let mut sent: BTreeMap<IpAddr, Totals> = BTreeMap::new();
    let begun = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let source = client((number % u64::from(SOURCES)) as u8);
            // A connection and its data follow each other in rounds over all sources.
            let round = number / u64::from(SOURCES);
            let opens = round.is_multiple_of(2);
            let (flags, payload) = if opens {
                (Flags::Syn, 0)
            } else {
                (Flags::Ack, 100)
            };
            let mut frame =
                Frame::to_server(source, server(1), flags, round as u32).with_payload(payload);
            // Ports change, so that there are flows in plenty.
            frame.source.1 = 1024 + (round / 2 % 50_000) as u16;
            let packet = frame.build();
            let packet = &packet[14..14 + frame.bytes() as usize];
            while let Err(error) = sendto(raw.as_raw_fd(), packet, &target, MsgFlags::empty()) {
                assert!(
                    matches!(error, Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR),
                    "cannot send: {error}"
                );
            }
            let totals = sent.entry(source).or_default();
            totals.c2s_packets += 1;
            totals.c2s_bytes += frame.bytes();
            totals.connections += u64::from(opens);
            number += 1;
        }
        let due = Duration::from_micros(number * 1_000_000 / per_second);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    sent
}
