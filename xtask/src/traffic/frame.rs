//! Frames of a script: Ethernet, tags, IP, TCP, with right checksums, so that a network stack takes
//! them as well (RFC 791, RFC 8200, RFC 9293, RFC 1071).

use std::net::IpAddr;

use super::script::{Script, Side, Step, Tags, flag};

/// The shortest frame on a wire, without its check sequence.
const SHORTEST: usize = 60;
/// Hardware addresses, locally administered: those of the hosts' side of the gateway and of its other
/// side.
const SIDES: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const MAIL: u16 = 25;

/// Writes the frame of a step into `frame`, in place of what was there.
pub fn write(script: &Script, step: &Step, frame: &mut Vec<u8>) {
    frame.clear();
    let ((source, source_port), (destination, destination_port)) = match step.side {
        Side::Client => ((script.client, script.port), (script.server, MAIL)),
        Side::Server => ((script.server, MAIL), (script.client, script.port)),
    };
    let from = usize::from(step.side == Side::Server);
    frame.extend(SIDES[1 - from]);
    frame.extend(SIDES[from]);
    tag(script.tags, frame);
    frame.extend(if source.is_ipv4() {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    let tcp_length = 20 + step.options + step.payload;
    let pseudo = internet(source, destination, tcp_length, frame);

    let tcp = frame.len();
    frame.extend(source_port.to_be_bytes());
    frame.extend(destination_port.to_be_bytes());
    frame.extend(step.sequence.to_be_bytes());
    frame.extend(step.acknowledgement.to_be_bytes());
    frame.push((((20 + step.options) / 4) << 4) as u8);
    frame.push(step.flags);
    frame.extend(64_240_u16.to_be_bytes());
    frame.extend([0; 4]);
    options(step, frame);
    let payload = frame.len();
    let end = payload + usize::from(step.payload);
    frame.extend(step.line.text());
    // Where a message goes on in another segment, and whatever else is longer than its beginning.
    frame.resize(end, b'.');
    let sum = fold(pseudo + sum(&frame[tcp..]));
    frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
    frame.resize(frame.len().max(SHORTEST), 0);
}

fn tag(tags: Tags, frame: &mut Vec<u8>) {
    match tags {
        Tags::None => {}
        Tags::Vlan(id) => {
            frame.extend([0x81, 0x00]);
            frame.extend(id.to_be_bytes());
        }
        Tags::QinQ(outer, inner) => {
            frame.extend([0x88, 0xa8]);
            frame.extend(outer.to_be_bytes());
            frame.extend([0x81, 0x00]);
            frame.extend(inner.to_be_bytes());
        }
    }
}

/// Writes the header of IP; gives the sum of the pseudo-header of TCP.
fn internet(source: IpAddr, destination: IpAddr, tcp: u16, frame: &mut Vec<u8>) -> u32 {
    let start = frame.len();
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x45, 0]);
            frame.extend((20 + tcp).to_be_bytes());
            // No identification: it is never to be fragmented (RFC 6864).
            frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            let check = fold(sum(&frame[start..]));
            frame[start + 10..start + 12].copy_from_slice(&check.to_be_bytes());
            start + 12
        }
        (source, destination) => {
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(tcp.to_be_bytes());
            frame.extend([6, 64]);
            for address in [source, destination] {
                match address {
                    IpAddr::V4(address) => frame.extend(address.to_ipv6_mapped().octets()),
                    IpAddr::V6(address) => frame.extend(address.octets()),
                }
            }
            start + 8
        }
    };
    sum(&frame[addresses..]) + u32::from(tcp) + 6
}

/// As a Unix and a Windows write them; what is in them nobody reads here.
fn options(step: &Step, frame: &mut Vec<u8>) {
    let stamp = (step.at as u32).to_be_bytes();
    match (step.options, step.flags & flag::SYN != 0) {
        (20, _) => {
            frame.extend([2, 4, 5, 0xb4, 4, 2, 8, 10]);
            frame.extend(stamp);
            frame.extend([0, 0, 0, 0, 1, 3, 3, 7]);
        }
        (12, true) => frame.extend([2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2]),
        (12, false) => {
            frame.extend([1, 1, 8, 10]);
            frame.extend(stamp);
            frame.extend([0, 0, 0, 0]);
        }
        _ => {}
    }
}

/// The sum of 16-bit words; an odd octet at the end is followed by a zero.
fn sum(octets: &[u8]) -> u32 {
    octets
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
