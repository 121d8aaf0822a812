//! Frames to try a parser with: mostly whole ones from few hosts, so that tables are used, and every
//! kind of broken one.
//!
//! Contract: [`Generator::frame`] depends on the seed alone. A frame has 14 to about 9,050 octets.
//! [`grid`] is the part that leaves nothing to chance.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::random::Random;

/// The smallest frame that the kernel's test run takes: an Ethernet header.
pub const SHORTEST: usize = 14;

/// Extension headers and what is near them: mobility, ESP, no next header.
const EXTENSIONS: [u8; 5] = [0, 43, 44, 51, 60];
const OTHER_PROTOCOLS: [u8; 9] = [17, 1, 58, 41, 47, 50, 59, 135, 255];

/// What a payload may begin with: what counts, and what nearly does.
const STARTS: [&[u8]; 32] = [
    b"MAIL FROM:<a@example.org>\r\n",
    b"mail from:<a@example.org>\r\n",
    b"MaIl FrO",
    b"MAIL FR",
    b"MAIL\tFROM:<>",
    b"MAIL FROG",
    b"EMAIL FROM",
    b"RCPT TO:<b@example.org>\r\n",
    b"rcpt to:",
    b"RCPT TO;",
    b"RCPT TO",
    b"RCPT TO\x1a",
    b"\x2dAIL FRO",
    b"MAIL\x00FRO",
    b"220 mx.example.org ESMTP\r\n",
    b"250 OK\r\n",
    b"250-mx.example.org\r\n250 SIZE\r\n",
    b"250\r\n",
    b"250\n",
    b"250",
    b"354 go ahead\r\n",
    b"354 ",
    b"334 VXNlcm5hbWU6",
    b"421 too busy\r\n",
    b"451\rx",
    b"550 no such user\r\n",
    b"554-no\r\n",
    b"559 x",
    b"599 x",
    b"650 x",
    b"150 x",
    b"2 0 x",
];

/// Makes frames.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    /// Frames of a while ago, as material for splices.
    earlier: Vec<Vec<u8>>,
    /// Sequence numbers in use: few, so that SYNs come again.
    sequences: u32,
}

/// A TCP segment that is yet to be put into a packet.
struct Ports {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

impl Generator {
    /// The frames of this seed.
    pub const fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            earlier: Vec::new(),
            sequences: 0,
        }
    }

    /// From now on, other sequence numbers: another generation of connections.
    pub const fn next_generation(&mut self) {
        self.sequences = self.sequences.wrapping_add(16);
    }

    /// The next frame.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut frame = self.whole();
        if self.random.chance(12) {
            self.flip_bits(&mut frame);
        }
        if self.random.chance(3) {
            self.splice(&mut frame);
        }
        if self.random.chance(12) {
            let length = SHORTEST + self.random.below(frame.len().saturating_sub(SHORTEST) + 1);
            frame.truncate(length);
        }
        if self.random.chance(50) && frame.len() < 60 {
            // As Ethernet pads; not always with zeros (RFC 1042).
            let filler = self.random.of(&[0, b'2', 0xff]);
            frame.resize(60, filler);
        }
        frame.resize(frame.len().max(SHORTEST), 0);
        if self.earlier.len() < 64 {
            self.earlier.push(frame.clone());
        } else {
            let place = self.random.below(64);
            self.earlier[place].clone_from(&frame);
        }
        frame
    }

    fn flip_bits(&mut self, frame: &mut [u8]) {
        for _ in 0..=self.random.below(4) {
            // Headers are where it matters.
            let range = if self.random.chance(80) { 110 } else { 9_100 };
            let place = self.random.below(frame.len().min(range));
            frame[place] ^= 1 << self.random.below(8);
        }
    }

    fn splice(&mut self, frame: &mut Vec<u8>) {
        if self.earlier.is_empty() {
            return;
        }
        let place = self.random.below(self.earlier.len());
        let other = &self.earlier[place];
        let from = self.random.below(other.len());
        let to = from + self.random.below((other.len() - from).min(64));
        let begin = self.random.below(frame.len());
        let end = begin + self.random.below((frame.len() - begin).min(64));
        frame.splice(begin..end, other[from..to].iter().copied());
    }

    /// A frame of which at most the numbers in it are wrong.
    fn whole(&mut self) -> Vec<u8> {
        let six = self.random.chance(50);
        let ports = self.ports(six);
        let tcp = self.tcp(&ports);
        let (ether_type, packet) = if six {
            (0x86dd, self.internet_6(&ports, &tcp))
        } else {
            (0x0800, self.internet(&ports, &tcp))
        };
        let ether_type: u16 = if self.random.chance(3) {
            self.random
                .of(&[0x0806, 0x8864, 0x8847, 0x0800, 0x86dd, 0x9100, 60])
        } else {
            ether_type
        };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let tags = self.random.of(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3]);
        for _ in 0..tags {
            frame.extend(self.random.of(&[[0x81, 0x00], [0x88, 0xa8]]));
            frame.extend(self.random.octets(2));
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn ports(&mut self, six: bool) -> Ports {
        let random = &mut self.random;
        let mut host = |net: u16, hosts: usize| -> IpAddr {
            let host = 1 + random.below(hosts) as u16;
            if !six {
                return Ipv4Addr::new(198, 51, net as u8, host as u8).into();
            }
            if random.chance(2) {
                return Ipv4Addr::new(198, 51, net as u8, host as u8)
                    .to_ipv6_mapped()
                    .into();
            }
            Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host).into()
        };
        let client = host(100, 6);
        let server = host(200, 4);
        let client_port = match random.below(20) {
            0 => 25,
            1 => random.bits() as u16,
            _ => 40_000 + random.below(3) as u16,
        };
        let server_port = match random.below(20) {
            0 => random.of(&[26, 587, 465, 0x1900, 24]),
            _ => 25,
        };
        let (client, server) = ((client, client_port), (server, server_port));
        if random.chance(50) {
            Ports {
                source: client,
                destination: server,
            }
        } else {
            Ports {
                source: server,
                destination: client,
            }
        }
    }

    fn tcp(&mut self, ports: &Ports) -> Vec<u8> {
        let random = &mut self.random;
        let control = if random.chance(10) {
            random.bits() as u8
        } else {
            random.of(&[0x02, 0x02, 0x12, 0x14, 0x10, 0x18, 0x18, 0x11, 0x04, 0xc2])
        };
        let sequence = match random.below(10) {
            0 => 0,
            1 => random.bits() as u32,
            _ => self.sequences + random.below(8) as u32,
        };
        let data_offset = if random.chance(75) {
            5 + random.below(3)
        } else {
            random.below(16)
        };
        let mut tcp = Vec::new();
        tcp.extend(ports.source.1.to_be_bytes());
        tcp.extend(ports.destination.1.to_be_bytes());
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(random.octets(4));
        tcp.push((data_offset << 4) as u8 | random.below(16) as u8);
        tcp.push(control);
        tcp.extend(random.octets(6));
        tcp.extend(random.octets((data_offset * 4).saturating_sub(20)));
        if random.chance(60) {
            tcp.extend(random.of(&STARTS));
        }
        if random.chance(40) {
            let most = match random.below(40) {
                0 => 8_900,
                1..4 => 1_460,
                _ => 40,
            };
            tcp.resize(tcp.len() + random.below(most), b'x');
        }
        tcp
    }

    /// A length field: mostly the truth.
    fn length(&mut self, truth: usize) -> u16 {
        let lie = match self.random.below(60) {
            0 => 0,
            1 => self.random.below(100),
            2 => self.random.bits() as usize,
            3 | 4 => truth.wrapping_add(self.random.below(50)),
            5..8 => truth.wrapping_sub(self.random.below(50)),
            _ => truth,
        };
        lie as u16
    }

    fn internet(&mut self, ports: &Ports, tcp: &[u8]) -> Vec<u8> {
        let ihl = if self.random.chance(75) {
            5 + self.random.below(2)
        } else {
            self.random.below(16)
        };
        let options = (ihl * 4).saturating_sub(20);
        let total = self.length(20 + options + tcp.len());
        let fragment: u16 = match self.random.below(30) {
            0 => 0x2000,
            1 => self.random.bits() as u16,
            2 => 0x2000 | self.random.below(4) as u16,
            3 => 0x8000,
            _ => 0x4000,
        };
        let protocol = if self.random.chance(95) {
            6
        } else {
            self.random.of(&OTHER_PROTOCOLS)
        };
        let version = if self.random.chance(98) {
            4
        } else {
            self.random.below(16)
        };
        let mut packet = vec![(version << 4 | ihl) as u8, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(self.random.octets(2));
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol]);
        packet.extend(self.random.octets(2));
        for (address, _) in [ports.source, ports.destination] {
            let IpAddr::V4(address) = address else {
                unreachable!("an IPv4 packet from {address}");
            };
            packet.extend(address.octets());
        }
        packet.extend(self.random.octets(options));
        packet.extend(tcp);
        packet
    }

    fn internet_6(&mut self, ports: &Ports, tcp: &[u8]) -> Vec<u8> {
        let count = match self.random.below(10) {
            0..5 => 0,
            5..8 => self.random.below(4),
            _ => self.random.below(13),
        };
        let kinds: Vec<u8> = (0..count).map(|_| self.random.of(&EXTENSIONS)).collect();
        let last = if self.random.chance(95) {
            6
        } else {
            self.random.of(&OTHER_PROTOCOLS)
        };
        let mut chain = Vec::new();
        for (i, kind) in kinds.iter().enumerate() {
            let next = kinds.get(i + 1).copied().unwrap_or(last);
            chain.extend(self.extension(*kind, next));
        }
        let length = self.length(chain.len() + tcp.len());
        let version = if self.random.chance(98) {
            6
        } else {
            self.random.below(16)
        };
        let mut packet = vec![(version << 4 | self.random.below(16)) as u8];
        packet.extend(self.random.octets(3));
        packet.extend(length.to_be_bytes());
        packet.push(kinds.first().copied().unwrap_or(last));
        packet.push(64);
        for (address, _) in [ports.source, ports.destination] {
            let IpAddr::V6(address) = address else {
                unreachable!("an IPv6 packet from {address}");
            };
            packet.extend(address.octets());
        }
        packet.extend(chain);
        packet.extend(tcp);
        packet
    }

    /// An extension header and its octets.
    fn extension(&mut self, kind: u8, next: u8) -> Vec<u8> {
        let units = match self.random.below(20) {
            0 => self.random.below(256),
            1..4 => self.random.below(8),
            _ if kind == 51 => 4,
            _ => 0,
        };
        let mut header = vec![next, units as u8];
        let length = match kind {
            44 => {
                // Mostly an atomic or a first fragment (RFC 6946).
                let offset: u16 = match self.random.below(8) {
                    0 => self.random.bits() as u16,
                    1 => 1 << 3,
                    2 => 7,
                    _ => self.random.below(2) as u16,
                };
                header.extend(offset.to_be_bytes());
                8
            }
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let rest = length - header.len();
        header.extend(self.random.octets(rest));
        header
    }
}

/// Every combination of VLAN depth, IPv4 header length and data offset; every chain of one kind of
/// extension header from none to twelve; and every truncation of a frame of each of these sorts.
pub fn grid() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let tcp = |data_offset: usize| {
        let mut tcp = vec![0x9c, 0x40, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0];
        tcp.extend([(data_offset << 4) as u8, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.resize((data_offset * 4).max(20), 1);
        tcp.extend(b"MAIL FROM:<>\r\n");
        tcp
    };
    let ethernet = |vlans: usize, ether_type: [u8; 2]| {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in 0..vlans {
            frame.extend([[0x88, 0xa8, 0, 7], [0x81, 0x00, 0, 7]][tag.min(1)]);
        }
        frame.extend(ether_type);
        frame
    };
    for vlans in 0..=3 {
        for ihl in 0..=15 {
            for data_offset in 0..=15 {
                let tcp = tcp(data_offset);
                let header = (ihl * 4).max(20);
                let mut frame = ethernet(vlans, [8, 0]);
                let start = frame.len();
                frame.extend([0x40 | ihl as u8, 0]);
                frame.extend(((header + tcp.len()) as u16).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend([198, 51, 100, 1, 198, 51, 200, 1]);
                frame.resize(start + header, 1);
                frame.extend(tcp);
                frames.push(frame);
            }
        }
    }
    for kind in EXTENSIONS {
        for count in 0..=12 {
            for units in [0, 1, 4] {
                let tcp = tcp(5);
                let mut frame = ethernet(count % 3, [0x86, 0xdd]);
                let length = match kind {
                    44 => 8,
                    51 => (units + 2) * 4,
                    _ => (units + 1) * 8,
                };
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(((length * count + tcp.len()) as u16).to_be_bytes());
                frame.extend([if count == 0 { 6 } else { kind }, 64]);
                for host in [100, 200] {
                    let address = Ipv6Addr::new(0x2001, 0xdb8, host, 0, 0, 0, 0, 1);
                    frame.extend(address.octets());
                }
                for i in 0..count {
                    let next = if i + 1 == count { 6 } else { kind };
                    let start = frame.len();
                    frame.extend([next, units as u8]);
                    frame.resize(start + length, 0);
                }
                frame.extend(tcp);
                frames.push(frame);
            }
        }
    }
    let cut: Vec<Vec<u8>> = frames
        .iter()
        .step_by(17)
        .flat_map(|frame| (SHORTEST..frame.len()).map(|length| frame[..length].to_vec()))
        .collect();
    frames.extend(cut);
    frames
}
