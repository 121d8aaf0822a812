//! Frames, built by etherparse: a writer that shares no line with the parser under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;

/// TCP flags of a frame to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// ACK.
    Ack,
    /// RST and ACK.
    RstAck,
    /// FIN and ACK.
    FinAck,
}

/// A TCP segment in an Ethernet frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Sender and its port.
    pub source: (IpAddr, u16),
    /// Receiver and its port.
    pub destination: (IpAddr, u16),
    /// Flags.
    pub flags: Flags,
    /// Sequence number.
    pub sequence: u32,
    /// Bytes after the TCP header.
    pub payload: usize,
    /// VLAN identifiers, from the outer to the inner; at most two.
    pub vlans: Vec<u16>,
}

/// The IPv4 address `198.51.100.n`.
pub fn client(n: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, n).into()
}

/// The IPv4 address `203.0.113.n`.
pub fn server(n: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, n).into()
}

/// The IPv6 address `2001:db8::n`.
pub fn six(n: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into()
}

impl Frame {
    /// A segment from a client to port 25 of a server.
    pub fn to_server(client: IpAddr, server: IpAddr, flags: Flags, sequence: u32) -> Self {
        Self {
            source: (client, 40_000),
            destination: (server, 25),
            flags,
            sequence,
            payload: 0,
            vlans: Vec::new(),
        }
    }

    /// A segment from port 25 of a server to a client.
    pub fn to_client(server: IpAddr, client: IpAddr, flags: Flags, sequence: u32) -> Self {
        Self {
            source: (server, 25),
            destination: (client, 40_000),
            ..Self::to_server(client, server, flags, sequence)
        }
    }

    /// With this many bytes of payload.
    #[must_use]
    pub fn with_payload(mut self, payload: usize) -> Self {
        self.payload = payload;
        self
    }

    /// With these VLAN tags.
    #[must_use]
    pub fn with_vlans(mut self, vlans: &[u16]) -> Self {
        self.vlans = vlans.to_vec();
        self
    }

    /// Layer-3 bytes.
    pub fn bytes(&self) -> u64 {
        let ip = if self.source.0.is_ipv4() { 20 } else { 40 };
        ip + 20 + self.payload as u64
    }

    /// The frame, padded to the 60 bytes that Ethernet asks for.
    pub fn build(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let id = |vlan: u16| vlan.try_into().expect("a VLAN identifier");
        let (source_port, destination_port) = (self.source.1, self.destination.1);
        macro_rules! ip {
            ($step:expr) => {
                match (self.source.0, self.destination.0) {
                    (IpAddr::V4(source), IpAddr::V4(destination)) => {
                        $step.ipv4(source.octets(), destination.octets(), 64)
                    }
                    (IpAddr::V6(source), IpAddr::V6(destination)) => {
                        $step.ipv6(source.octets(), destination.octets(), 64)
                    }
                    _ => panic!("{self:?} mixes families"),
                }
            };
        }
        let ip = match *self.vlans {
            [] => ip!(ethernet),
            [one] => ip!(ethernet.single_vlan(id(one))),
            [outer, inner] => ip!(ethernet.double_vlan(id(outer), id(inner))),
            _ => panic!("{self:?} has more than two VLAN tags"),
        };
        let tcp = ip.tcp(source_port, destination_port, self.sequence, 65_535);
        let tcp = match self.flags {
            Flags::Syn => tcp.syn(),
            Flags::SynAck => tcp.syn().ack(1),
            Flags::Ack => tcp.ack(1),
            Flags::RstAck => tcp.rst().ack(1),
            Flags::FinAck => tcp.fin().ack(1),
        };
        let mut frame = Vec::new();
        tcp.write(&mut frame, &vec![b'x'; self.payload])
            .expect("a frame in memory");
        frame.resize(frame.len().max(60), 0);
        frame
    }
}
