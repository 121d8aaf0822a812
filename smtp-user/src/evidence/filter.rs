//! Which packets the kernel hands to a live capture, and how much of each: a program of classic BPF.
//!
//! Contract: of a packet that is not the host's mail, nothing is copied; of one that is, its IP header and its TCP
//! header, and not an octet behind them. Packets begin with their IP header (packet(7), SOCK_DGRAM). Of IPv6 only
//! packets without extension headers are taken, and of fragments the first.

use std::net::IpAddr;

// Documentation/networking/filter.rst; the numbers are those of linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_INDEXED: u16 = 0x48;
const LOAD_BYTE_INDEXED: u16 = 0x50;
const LOAD_INDEX: u16 = 0x01;
/// X = 4 * (the low four bits of an octet).
const LOAD_INDEX_HEADER: u16 = 0xb1;
const AND: u16 = 0x54;
const SHIFT_RIGHT: u16 = 0x74;
const ADD_INDEX: u16 = 0x0c;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;

const TCP: u32 = 6;
/// The length of an IPv6 header.
const IPV6_HEADER: u32 = 40;

/// A jump that is filled in at the end: where to if it holds, and if not. `None` is the next step.
type Target = Option<Label>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// Nothing is copied.
    Drop,
    /// The address is the host's: see to the ports.
    Ports,
    /// It is mail: see to the length.
    Take,
    /// The address of the destination.
    Destination,
}

/// An instruction: its code, how many others are passed over if its test holds, how many if not, its operand.
pub(super) type Instruction = (u16, u8, u8, u32);

/// A step: its code, its jumps, its operand.
type Step = (u16, Target, Target, u32);

/// A program that is being written.
#[derive(Default)]
struct Program {
    steps: Vec<Step>,
    labels: Vec<(Label, usize)>,
}

impl Program {
    fn step(&mut self, code: u16, operand: u32) {
        self.steps.push((code, None, None, operand));
    }

    /// Goes to one label if the test holds, and to the other if not.
    fn test(&mut self, code: u16, operand: u32, holds: Target, fails: Target) {
        self.steps.push((code, holds, fails, operand));
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.steps.len()));
    }

    /// The words of an address are at this offset, or else it goes there.
    fn address(&mut self, words: &[u32], offset: u32, else_to: Label) {
        for (word, at) in words.iter().zip((offset..).step_by(4)) {
            self.step(LOAD_WORD, at);
            self.test(JUMP_IF_EQUAL, *word, None, Some(else_to));
        }
    }

    fn finish(self) -> Vec<Instruction> {
        let Self { steps, labels } = self;
        let place = |label: Label| {
            let found = labels.iter().find(|(of, _)| *of == label);
            found.map_or(0, |(_, at)| *at)
        };
        // Jumps are counted from the next step, and none is longer than an octet: the program is short.
        let way = |from: usize, to: Target| {
            let steps = to.map_or(0, |label| place(label).saturating_sub(from + 1));
            u8::try_from(steps).unwrap_or(u8::MAX)
        };
        let steps = steps.iter().enumerate();
        steps
            .map(|(at, (code, holds, fails, operand))| match (*code, holds) {
                (JUMP, Some(label)) => {
                    let far = place(*label).saturating_sub(at + 1);
                    (JUMP, 0, 0, far as u32)
                }
                _ => (*code, way(at, *holds), way(at, *fails), *operand),
            })
            .collect()
    }
}

/// The program for the mail of a host on these ports.
pub(super) fn program(host: IpAddr, ports: &[u16]) -> Vec<Instruction> {
    let mut program = Program::default();
    let drop = Some(Label::Drop);
    let (version, protocol, words, offsets) = match host {
        IpAddr::V4(v4) => (0x40, 9, vec![v4.to_bits()], [12, 16]),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
            (0x60, 6, words.to_vec(), [8, 24])
        }
    };
    program.step(LOAD_BYTE, 0);
    program.step(AND, 0xf0);
    program.test(JUMP_IF_EQUAL, version, None, drop);
    program.step(LOAD_BYTE, protocol);
    program.test(JUMP_IF_EQUAL, TCP, None, drop);
    if host.is_ipv4() {
        program.step(LOAD_HALF, 6);
        program.test(JUMP_IF_SET, 0x1fff, drop, None);
    }
    program.address(&words, offsets[0], Label::Destination);
    program.test(JUMP, 0, Some(Label::Ports), None);
    program.label(Label::Destination);
    program.address(&words, offsets[1], Label::Drop);
    program.label(Label::Ports);
    match host {
        IpAddr::V4(_) => program.step(LOAD_INDEX_HEADER, 0),
        IpAddr::V6(_) => program.step(LOAD_INDEX, IPV6_HEADER),
    }
    for side in [0, 2] {
        program.step(LOAD_HALF_INDEXED, side);
        for port in ports {
            program.test(JUMP_IF_EQUAL, u32::from(*port), Some(Label::Take), None);
        }
    }
    program.label(Label::Drop);
    program.step(RETURN, 0);
    program.label(Label::Take);
    // The length of the TCP header in octets: its upper four bits are words.
    program.step(LOAD_BYTE_INDEXED, 12);
    program.step(AND, 0xf0);
    program.step(SHIFT_RIGHT, 2);
    program.step(ADD_INDEX, 0);
    program.step(RETURN_ACCUMULATOR, 0);
    program.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does: how much of the packet is copied. What reads behind the end drops it.
    fn run(program: &[Instruction], packet: &[u8]) -> usize {
        let read = |at: u32, length: usize| -> Option<u32> {
            let octets = packet.get(at as usize..)?.get(..length)?;
            Some(
                octets
                    .iter()
                    .fold(0, |value, octet| value << 8 | u32::from(*octet)),
            )
        };
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
        for _ in 0..1000 {
            let (code, holds, fails, k) = program[at];
            at += 1;
            let loaded = match code {
                LOAD_WORD => read(k, 4),
                LOAD_HALF => read(k, 2),
                LOAD_BYTE => read(k, 1),
                LOAD_HALF_INDEXED => read(x + k, 2),
                LOAD_BYTE_INDEXED => read(x + k, 1),
                LOAD_INDEX_HEADER => {
                    let Some(octet) = read(k, 1) else { return 0 };
                    x = 4 * (octet & 0xf);
                    continue;
                }
                LOAD_INDEX => {
                    x = k;
                    continue;
                }
                AND => Some(a & k),
                SHIFT_RIGHT => Some(a >> k),
                ADD_INDEX => Some(a + x),
                JUMP => {
                    at += k as usize;
                    continue;
                }
                JUMP_IF_EQUAL | JUMP_IF_SET => {
                    let test = if code == JUMP_IF_EQUAL {
                        a == k
                    } else {
                        a & k != 0
                    };
                    at += usize::from(if test { holds } else { fails });
                    continue;
                }
                RETURN => return (k as usize).min(packet.len()),
                RETURN_ACCUMULATOR => return (a as usize).min(packet.len()),
                other => panic!("{other:#x} is no code"),
            };
            match loaded {
                Some(value) => a = value,
                None => return 0,
            }
        }
        panic!("it does not end: {program:?}");
    }

    /// A packet of TCP with content: addresses, ports, words of options of IPv4 and of TCP.
    fn packet(from: IpAddr, to: IpAddr, ports: (u16, u16), options: (u8, u8)) -> Vec<u8> {
        let mut packet = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header = vec![0x45 + options.0, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
                header.extend(from.octets().iter().chain(&to.octets()));
                header.resize(header.len() + 4 * usize::from(options.0), 1);
                header
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
                header.extend(from.octets().iter().chain(&to.octets()));
                header
            }
            other => panic!("{other:?}"),
        };
        packet.extend(ports.0.to_be_bytes());
        packet.extend(ports.1.to_be_bytes());
        packet.extend([
            0,
            0,
            0,
            7,
            0,
            0,
            0,
            0,
            0x50 + 16 * options.1,
            0x18,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        packet.resize(packet.len() + 4 * usize::from(options.1), 1);
        packet.extend(b"MAIL FROM:<secret@example.org>");
        packet
    }

    #[test]
    fn headers_of_the_host_are_copied_and_nothing_else() {
        let parsed = |text: &str| text.parse::<IpAddr>().expect("an address");
        for (host, server, other, header) in [
            ("192.0.2.66", "203.0.113.1", "192.0.2.67", 20),
            ("2001:db8::66", "2001:db8:1::1", "2001:db8:0:1::66", 40),
        ] {
            let (host, server, other) = (parsed(host), parsed(server), parsed(other));
            let program = program(host, &[25, 587]);
            assert!(program.len() < 60, "{}", program.len());
            let taken = |from, to, ports, options| run(&program, &packet(from, to, ports, options));
            for tcp in 0..=10 {
                let ip = if host.is_ipv4() { tcp } else { 0 };
                let expected = header + 20 + 4 * usize::from(ip) + 4 * usize::from(tcp);
                for ports in [(40_000, 25), (40_000, 587), (25, 40_000), (587, 25)] {
                    assert_eq!(taken(host, server, ports, (ip, tcp)), expected, "{ports:?}");
                    assert_eq!(taken(server, host, ports, (ip, tcp)), expected, "{ports:?}");
                }
            }
            assert_eq!(taken(other, server, (40_000, 25), (0, 0)), 0);
            assert_eq!(taken(server, other, (25, 40_000), (0, 0)), 0);
            assert_eq!(taken(host, server, (40_000, 80), (0, 0)), 0);
            assert_eq!(taken(host, server, (40_000, 26), (0, 0)), 0);
            let whole = packet(host, server, (40_000, 25), (0, 0));
            for length in 0..header + 13 {
                assert_eq!(run(&program, &whole[..length]), 0, "{length} octets");
            }
            // Another protocol, another version.
            for at in [0, if header == 20 { 9 } else { 6 }] {
                let mut wrong = whole.clone();
                wrong[at] ^= 0x11;
                assert_eq!(run(&program, &wrong), 0, "octet {at}");
            }
            if header == 20 {
                // A fragment behind the first has no ports: what looks like them is content.
                let mut fragment = whole;
                fragment[7] = 1;
                assert_eq!(run(&program, &fragment), 0);
            }
        }
        let mixed = program(parsed("192.0.2.66"), &[25]);
        let six = packet(
            parsed("2001:db8::66"),
            parsed("2001:db8::1"),
            (1, 25),
            (0, 0),
        );
        assert_eq!(run(&mixed, &six), 0);
    }
}
