//! What counting costs per packet, over a program that does nothing: medians of one run, side by
//! side, round by round (`BPF_PROG_TEST_RUN` with repeat).
//!
//! `cargo bench -p smtpflow-tests --bench kernel`, as root.

use std::time::Duration;

use smtpflow_tests::packets::{Flags, Frame, client, server, six};
use smtpflow_tests::programs::Programs;
use smtpflow_tests::{meter, options};

const ROUNDS: usize = 7;
const REPEAT: u32 = 10_000_000;

fn main() {
    let mut frames: Vec<(&str, Vec<u8>)> = vec![
        (
            "SMTP data, IPv4",
            Frame::to_server(client(1), server(1), Flags::Ack, 1)
                .with_payload(400)
                .build(),
        ),
        (
            "SMTP data, IPv4, one VLAN tag",
            Frame::to_server(client(1), server(1), Flags::Ack, 1)
                .with_payload(400)
                .with_vlans(&[5])
                .build(),
        ),
        (
            "SMTP data, IPv6",
            Frame::to_server(six(1), six(2), Flags::Ack, 1)
                .with_payload(400)
                .build(),
        ),
        (
            "SMTP SYN retransmitted, IPv4",
            Frame::to_server(client(1), server(1), Flags::Syn, 1).build(),
        ),
        (
            "SMTP SYN-ACK, IPv4",
            Frame::to_client(server(1), client(1), Flags::SynAck, 1).build(),
        ),
    ];
    let mut other = Frame::to_server(client(1), server(1), Flags::Ack, 1).with_payload(400);
    other.destination.1 = 443;
    frames.push(("TCP, not a mail port", other.build()));
    let mut udp = other.build();
    udp[23] = 17;
    frames.push(("UDP", udp));

    let mut options = options("bench", 15);
    options.geometry.syn_slots = 1 << 18;
    let meter = meter(&options);
    let agent = Programs::of_agent(&meter);
    let bare = Programs::bare();
    let mut bare_times = Vec::new();
    let sections = [("xdp", "smtpflow"), ("xdp.frags", "smtpflow_frags")];
    let mut times = vec![[Vec::new(), Vec::new()]; frames.len()];
    for _ in 0..ROUNDS {
        for ((_, frame), times) in frames.iter().zip(&mut times) {
            bare_times.push(bare.time("pass", frame, REPEAT));
            for ((_, program), times) in sections.iter().zip(times) {
                times.push(agent.time(program, frame, REPEAT));
            }
        }
    }
    meter.detach().expect("the pins can be removed");
    let bare = median(&mut bare_times);
    println!(
        "bare XDP_PASS: {bare:.1} ns per packet (median of {})",
        bare_times.len()
    );
    for ((name, _), times) in frames.iter().zip(&mut times) {
        for ((section, _), times) in sections.iter().zip(times) {
            let this = median(times);
            println!(
                "{name:32} {section:10} {this:6.1} ns, over bare {:5.1} ns, ratio {:.2}",
                this - bare,
                this / bare
            );
        }
    }
}

/// Nanoseconds per run.
fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_nanos() as f64 / f64::from(REPEAT)
}
