//! A pair of veth interfaces that this process fills with frames as fast as one CPU can.
//!
//! The frames leave a kernel program (`BPF_PROG_TEST_RUN` with live frames, then `XDP_REDIRECT`), so
//! they arrive as they do from a driver: no packet buffer yet. The CPU that sends them receives them
//! as well, before `send` returns.

use std::path::Path;
use std::time::Duration;

use aya::programs::XdpMode;
use aya::programs::xdp::XdpLink;

use crate::measure::{ip, run};
use crate::packets::{Flags, Frame, client};
use crate::programs::Programs;

/// The interface that sends.
const SENDER: &str = "road-a";
/// The interface that receives.
pub const RECEIVER: &str = "road-b";

/// See the module. It is in the network namespace of the thread that made it, and lives as long.
pub struct Road {
    programs: Programs,
    frame: Vec<u8>,
    sender: u32,
    _held: XdpLink,
}

impl Road {
    /// Makes both interfaces. To be called in a namespace of one's own.
    #[expect(clippy::new_without_default, reason = "it makes interfaces")]
    pub fn new() -> Self {
        // In this namespace, whose switches /proc shows to its own processes. Neighbour discovery
        // would be packets that nobody sent here.
        for (switch, value) in [
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/ip_early_demux", "0"),
            ("ipv6/conf/all/disable_ipv6", "1"),
        ] {
            let path = Path::new("/proc/sys/net").join(switch);
            std::fs::write(&path, value)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        ip(&format!("link add {SENDER} type veth peer name {RECEIVER}"));
        for interface in [SENDER, RECEIVER] {
            ip(&format!("link set {interface} up"));
            // Without NAPI a veth takes no frames from XDP. It has NAPI when GRO is switched on while
            // it is up.
            for gro in ["off", "on"] {
                run("ethtool", &format!("-K {interface} gro {gro}"));
            }
        }
        ip(&format!("addr add 192.0.2.1/24 dev {RECEIVER}"));
        // Nothing is ever routed to loopback from outside: the stack drops such a packet when it looks
        // for its way, behind all hooks.
        let to = "127.0.0.25".parse().expect("an address");
        let mut frame = Frame::to_server(client(1), to, Flags::Ack, 1).build();
        frame[..6].copy_from_slice(&hardware_address(RECEIVER));
        let mut programs = Programs::sender();
        Self {
            // See `Programs::hold`; not on loopback, where an agent may be asked.
            _held: programs.attach("send", SENDER, XdpMode::Skb),
            programs,
            frame,
            sender: interface_index(SENDER),
        }
    }

    /// Starts again with the first source: the packets that follow come from `sources` in turn.
    pub fn vary(&mut self, sources: u32) {
        self.programs.vary(&self.frame, sources, self.sender);
    }

    /// Sends packets, and says how long it took to send and to receive them.
    pub fn send(&self, packets: u32) -> Duration {
        let before = self.received();
        let time = self.programs.send(&self.frame, packets);
        let arrived = self.received() - before;
        assert!(
            arrived * 100 >= u64::from(packets) * 99,
            "{arrived} of {packets} packets arrived: their time is no measure of receiving"
        );
        time
    }

    /// Sends packets that are not TCP, so that a reader which takes whole blocks of captured packets
    /// gets the last block with TCP in it.
    pub fn push(&mut self) {
        let mut frame = self.frame.clone();
        frame[14 + 9] = 17;
        self.programs.vary(&frame, 1, self.sender);
        self.programs.send(&frame, 1 << 13);
    }

    /// Packets that the receiver has received.
    pub fn received(&self) -> u64 {
        interface(RECEIVER)["stats64"]["rx"]["packets"]
            .as_u64()
            .expect("a count")
    }
}

fn interface(name: &str) -> serde_json::Value {
    let text = run("ip", &format!("-s -j link show {name}"));
    let links: serde_json::Value = serde_json::from_str(&text).expect("JSON from ip");
    links[0].clone()
}

fn interface_index(name: &str) -> u32 {
    let index = interface(name)["ifindex"].as_u64().expect("an index");
    index as u32
}

fn hardware_address(name: &str) -> [u8; 6] {
    let link = interface(name);
    let text = link["address"].as_str().expect("an address");
    let octets = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).expect("an octet"));
    octets.collect::<Vec<_>>().try_into().expect("six octets")
}
