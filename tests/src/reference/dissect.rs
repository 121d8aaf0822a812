//! From a frame to a TCP segment, by IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 4302 and
//! RFC 9293.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of SMTP (RFC 5321, section 4.5.4.2).
const SMTP: u16 = 25;

/// A TCP segment from or to port 25.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender and its port.
    pub source: (IpAddr, u16),
    /// Receiver and its port.
    pub destination: (IpAddr, u16),
    /// Length of the IP packet as its header says.
    pub bytes: u64,
    /// The octet of control bits (RFC 9293, section 3.1).
    pub control: u8,
    /// Sequence number.
    pub sequence: u32,
    /// The octets of the payload that are there.
    pub payload: Vec<u8>,
}

impl Segment {
    /// To a mail port, whatever the port at the other end.
    pub fn is_to_server(&self) -> bool {
        self.destination.1 == SMTP
    }
}

/// What the IP header says and what follows it.
struct Datagram<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// Length of the IP packet as its header says.
    bytes: u64,
    /// How much of that is left for TCP.
    tcp_length: usize,
    /// What of it is there, and perhaps padding.
    tcp: &'a [u8],
    /// The reason if `tcp_length` does not hold the TCP header.
    too_short: &'static str,
}

/// Reads as much of a frame as is there. The error is the name of the reason for which it is no
/// segment of interest.
pub fn dissect(frame: &[u8]) -> Result<Segment, &'static str> {
    let mut at = 12;
    let mut tags = 0;
    let ether_type = loop {
        let ether_type = word(frame, at).ok_or("short_ethernet")?;
        // IEEE 802.1Q, table 9-1: customer and service tags. A tag is the type and two octets.
        if ether_type != 0x8100 && ether_type != 0x88a8 {
            break ether_type;
        }
        tags += 1;
        if tags > 2 {
            return Err("vlan_depth");
        }
        at += 4;
    };
    let packet = &frame[at + 2..];
    let datagram = match ether_type {
        0x0800 => internet(packet)?,
        0x86dd => internet_6(packet)?,
        _ => return Err("not_ip"),
    };
    transmission(&datagram)
}

/// RFC 791, section 3.1.
fn internet(packet: &[u8]) -> Result<Datagram<'_>, &'static str> {
    let fixed = packet.get(..20).ok_or("short_ipv4")?;
    if fixed[0] >> 4 != 4 {
        return Err("ipv4_version");
    }
    let header = usize::from(fixed[0] & 15) * 4;
    if header < 20 {
        return Err("ipv4_header_length");
    }
    if fixed[9] != 6 {
        return Err("not_tcp");
    }
    let total = usize::from(word(fixed, 2).expect("20 octets"));
    if total < header {
        return Err("ipv4_total_length");
    }
    let fragment_offset = word(fixed, 6).expect("20 octets") & 0x1fff;
    if fragment_offset != 0 {
        return Err("ipv4_fragment");
    }
    let address = |at: usize| {
        let octets: [u8; 4] = fixed[at..at + 4].try_into().expect("four octets");
        IpAddr::from(Ipv4Addr::from(octets))
    };
    Ok(Datagram {
        source: address(12),
        destination: address(16),
        bytes: total as u64,
        tcp_length: total - header,
        // Options may be cut off, and then there is nothing of TCP.
        tcp: packet.get(header..).unwrap_or_default(),
        too_short: "ipv4_total_length",
    })
}

/// RFC 8200, sections 3 and 4; RFC 4302, section 2.
fn internet_6(packet: &[u8]) -> Result<Datagram<'_>, &'static str> {
    let fixed = packet.get(..40).ok_or("short_ipv6")?;
    if fixed[0] >> 4 != 6 {
        return Err("ipv6_version");
    }
    let payload_length = usize::from(word(fixed, 4).expect("40 octets"));
    let address = |at: usize| {
        let octets: [u8; 16] = fixed[at..at + 16].try_into().expect("sixteen octets");
        Ipv6Addr::from(octets)
    };
    let (source, destination) = (address(8), address(24));

    let mut next = fixed[6];
    let mut rest = &packet[40..];
    let mut chain = 0;
    let mut extensions = 0;
    while [0, 43, 44, 51, 60].contains(&next) {
        extensions += 1;
        if extensions > 8 {
            return Err("ipv6_extension_limit");
        }
        // Every one of them has eight octets at least.
        let start = rest.get(..8).ok_or("short_ipv6_extension")?;
        let length = match next {
            44 => 8,
            // In units of four octets, without the first two units.
            51 => (usize::from(start[1]) + 2) * 4,
            // In units of eight octets, without the first.
            _ => (usize::from(start[1]) + 1) * 8,
        };
        if next == 44 && word(start, 2).expect("8 octets") >> 3 != 0 {
            return Err("ipv6_fragment");
        }
        chain += length;
        next = start[0];
        // Its end may be cut off, and then there is nothing of what follows.
        rest = rest.get(length..).unwrap_or_default();
    }
    if next != 6 {
        return Err("not_tcp");
    }
    let left = payload_length
        .checked_sub(chain)
        .ok_or("ipv6_payload_length")?;
    if source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some() {
        return Err("ipv6_mapped");
    }
    Ok(Datagram {
        source: source.into(),
        destination: destination.into(),
        bytes: 40 + payload_length as u64,
        tcp_length: left,
        tcp: rest,
        too_short: "ipv6_payload_length",
    })
}

/// RFC 9293, section 3.1.
fn transmission(datagram: &Datagram<'_>) -> Result<Segment, &'static str> {
    let fixed = datagram.tcp.get(..20).ok_or("short_tcp")?;
    let ports = (
        word(fixed, 0).expect("20 octets"),
        word(fixed, 2).expect("20 octets"),
    );
    if ports.0 != SMTP && ports.1 != SMTP {
        return Err("not_mail_port");
    }
    let header = usize::from(fixed[12] >> 4) * 4;
    if header < 20 {
        return Err("tcp_data_offset");
    }
    let payload_length = datagram
        .tcp_length
        .checked_sub(header)
        .ok_or(datagram.too_short)?;
    let sequence = fixed[4..8].try_into().expect("four octets");
    // The frame may end early, or be padded.
    let there = datagram.tcp.get(header..).unwrap_or_default();
    Ok(Segment {
        source: (datagram.source, ports.0),
        destination: (datagram.destination, ports.1),
        bytes: datagram.bytes,
        control: fixed[13],
        sequence: u32::from_be_bytes(sequence),
        payload: there[..there.len().min(payload_length)].to_vec(),
    })
}

/// Two octets in network order.
fn word(octets: &[u8], at: usize) -> Option<u16> {
    let pair = octets.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(pair))
}
