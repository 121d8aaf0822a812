//! Flows: both directions on one line, what was said, and what a full table does.

mod cases;
mod meter;

use cases::cases;
use meter::*;
use proptest::prelude::*;
use smtp_common::flow::{FlowKey, FlowLine, event};
use smtp_common::packet::{Direction, Packet, Segment, flags};
use smtp_common::speech::{Speech, listen};

const MAIL: usize = Speech::MAIL.number() as usize;
const RCPT: usize = Speech::RCPT.number() as usize;
const COMPLETION: usize = Speech::COMPLETION.number() as usize;
const INTERMEDIATE: usize = Speech::INTERMEDIATE.number() as usize;
const TRANSIENT: usize = Speech::TRANSIENT.number() as usize;
const PERMANENT: usize = Speech::PERMANENT.number() as usize;

/// What follows the SYN: each step has a sequence number of its own.
fn data(direction: Direction, sequence: u32) -> Segment {
    let ack = flags::ACK;
    match direction {
        Direction::ClientToServer => sent(1, 2, 40_000, sequence, ack),
        Direction::ServerToClient => replied(1, 2, sequence, ack),
    }
}

/// A conversation on one line: who says what.
fn conversation(steps: &[(Direction, &[u8])]) -> FlowLine {
    let mut meter = Meter::roomy(1);
    for (i, (direction, payload)) in steps.iter().enumerate() {
        meter.observe_saying(0, &data(*direction, 100 + i as u32), payload);
    }
    let counts = meter.flip();
    counts.assert_conserved();
    let [flow] = counts.flows[..] else {
        panic!("one flow: {:?}", counts.flows);
    };
    flow
}

use Direction::{ClientToServer as C, ServerToClient as S};

#[test]
fn a_delivery_is_counted_from_both_sides_on_one_line() {
    let mut meter = Meter::roomy(1);
    meter.tick = 7;
    meter.observe(0, &sent(1, 2, 40_000, 9, SYN));
    meter.observe(0, &sent(1, 2, 40_000, 9, SYN));
    meter.observe(0, &replied(1, 2, 50, SYN_ACK));
    meter.tick = 12;
    let said: [(Direction, &[u8]); 11] = [
        (S, b"220 mail.example ESMTP\r\n"),
        (C, b"EHLO client.example\r\n"),
        (S, b"250-mail.example\r\n250 8BITMIME\r\n"),
        (C, b"MAIL FROM:<a@example>\r\n"),
        (S, b"250 ok\r\n"),
        (C, b"rcpt to:<b@example>\r\n"),
        (S, b"250\r\n"),
        (C, b"DATA\r\n"),
        (S, b"354 go on\r\n"),
        (C, b"RCPT is the first word of this message\r\n.\r\n"),
        (S, b"250 taken\r\n"),
    ];
    for (i, (direction, payload)) in said.into_iter().enumerate() {
        meter.observe_saying(0, &data(direction, 100 + i as u32), payload);
    }
    let counts = meter.flip();
    counts.assert_conserved();
    let [flow] = counts.flows[..] else {
        panic!("one flow: {:?}", counts.flows);
    };
    assert_eq!(
        flow.key(),
        FlowKey {
            client: host(1),
            server: host(2),
            client_port: 40_000,
            server_port: 25
        }
    );
    assert_eq!((flow.c2s_packets, flow.c2s_bytes), (7, 7 * 60));
    assert_eq!((flow.s2c_packets, flow.s2c_bytes), (7, 7 * 40));
    assert_eq!((flow.connections, flow.syn_retx), (1, 1));
    assert_eq!(flow.c2s_flags, flags::SYN | flags::ACK);
    assert_eq!(flow.s2c_flags, flags::SYN | flags::ACK);
    assert_eq!(flow.events & event::ANSWERED, event::ANSWERED);
    assert_eq!(flow.events & event::REFUSED, 0);
    assert_eq!((flow.first, flow.last), (7, 12));
    assert_eq!((flow.said[MAIL], flow.said[RCPT]), (1, 1));
    // 220, 250 and 250, 250; the answer to EHLO begins with 250-.
    assert_eq!((flow.said[COMPLETION], flow.said[INTERMEDIATE]), (4, 1));
    assert_eq!((flow.said[TRANSIENT], flow.said[PERMANENT]), (0, 0));
    assert_eq!(flow.accepted, 1);
    assert_eq!(flow.first_reply, Speech::COMPLETION.number());
}

#[test]
fn a_message_is_accepted_only_by_the_reply_after_354() {
    let flow = conversation(&[(S, b"354 go\r\n"), (S, b"550 no\r\n"), (S, b"250 ok\r\n")]);
    assert_eq!((flow.accepted, flow.said[PERMANENT]), (0, 1));
    // 334 is of AUTH.
    let flow = conversation(&[(S, b"334 VXNl\r\n"), (S, b"235 ok\r\n")]);
    assert_eq!((flow.accepted, flow.said[INTERMEDIATE]), (0, 1));
    let flow = conversation(&[(S, b"354 go\r\n"), (S, b"250-ok\r\n"), (S, b"250 ok\r\n")]);
    assert_eq!(flow.accepted, 1);
    let flow = conversation(&[(S, b"451 later\r\n"), (S, b"354 go\r\n")]);
    assert_eq!(flow.first_reply, Speech::TRANSIENT.number());
    assert_eq!(flow.last_reply, Speech::START_INPUT.number());
    assert_eq!(flow.said[TRANSIENT], 1);
}

#[test]
fn a_retransmission_says_nothing_new() {
    let mut meter = Meter::roomy(1);
    for _ in 0..3 {
        meter.observe_saying(0, &data(C, 500), b"MAIL FROM:<a@example>\r\n");
        meter.observe_saying(0, &data(S, 500), b"250 ok\r\n");
    }
    let flow = meter.flip().flows[0];
    assert_eq!((flow.c2s_packets, flow.s2c_packets), (3, 3));
    assert_eq!((flow.said[MAIL], flow.said[COMPLETION]), (1, 1));
    // Nothing was said before, so sequence number 0 is no repetition.
    let flow = {
        meter.observe_saying(0, &data(S, 0), b"250 ok\r\n");
        meter.observe_saying(0, &data(C, 0), b"MAIL FROM:<a@example>\r\n");
        meter.flip().flows[0]
    };
    assert_eq!((flow.said[MAIL], flow.said[COMPLETION]), (1, 1));
}

#[test]
fn a_refusal_is_told_from_a_reset() {
    for (sequence, expected) in [(0, event::REFUSED), (7, 0)] {
        let mut meter = Meter::roomy(1);
        meter.observe(0, &replied(1, 2, sequence, RST_ACK));
        let flow = meter.flip().flows[0];
        assert_eq!(flow.events & event::REFUSED, expected);
    }
}

#[test]
fn what_counts_as_speech() {
    let server: [(&[u8], Speech); 19] = [
        (b"220 x", Speech::COMPLETION),
        (b"250\r\n", Speech::COMPLETION),
        (b"299 x", Speech::OTHER),
        (b"259 x", Speech::COMPLETION),
        (b"260 x", Speech::OTHER),
        (b"250-x", Speech::OTHER),
        (b"250x", Speech::OTHER),
        (b"25 0", Speech::OTHER),
        (b"2:0 ", Speech::OTHER),
        (b"200", Speech::OTHER),
        (b"354 x", Speech::START_INPUT),
        (b"354-x", Speech::OTHER),
        (b"354!x", Speech::OTHER),
        (b"334 x", Speech::INTERMEDIATE),
        (b"421 x", Speech::TRANSIENT),
        (b"554 x", Speech::PERMANENT),
        (b"150 x", Speech::OTHER),
        (b"650 x", Speech::OTHER),
        (b"\x16\x03\x03\x00", Speech::OTHER),
    ];
    for (payload, expected) in server {
        assert_eq!(said(S, payload), expected, "{payload:?}");
    }
    let client: [(&[u8], Speech); 11] = [
        (b"MAIL FROM:<>", Speech::MAIL),
        (b"mail From:", Speech::MAIL),
        (b"MAIL FR", Speech::OTHER),
        (b"RCPT TO:<a>", Speech::RCPT),
        (b"RcPt tO:", Speech::RCPT),
        (b"RCPT TOO", Speech::OTHER),
        // One bit from a space and from a colon.
        (b"MAIL\x00FROM:", Speech::OTHER),
        (b"RCPT\x00TO:", Speech::OTHER),
        (b"RCPT TO\x1a", Speech::OTHER),
        (b"DATA\r\n..", Speech::OTHER),
        (b"250 x...", Speech::OTHER),
    ];
    for (payload, expected) in client {
        assert_eq!(said(C, payload), expected, "{payload:?}");
    }
}

fn said(direction: Direction, payload: &[u8]) -> Speech {
    let segment = Segment {
        payload: payload.len() as u32,
        ..data(direction, 1)
    };
    listen(&segment, Packet::from_slice(payload))
}

#[test]
fn neither_padding_nor_what_was_cut_off_speaks() {
    let segment = data(S, 1);
    assert_eq!(segment.payload, 0);
    let padding = Packet::from_slice(b"250 ok\r\n");
    assert_eq!(listen(&segment, padding), Speech::OTHER);
    let announced = Segment {
        payload: 100,
        ..segment
    };
    for length in 0..4 {
        let cut = Packet::from_slice(&b"250 ok"[..length]);
        assert_eq!(listen(&announced, cut), Speech::OTHER);
    }
}

#[test]
fn a_full_set_of_flows_refuses_and_leaves_the_sources_alone() {
    let mut meter = Meter::with_flows(1, 1 << 10, 1 << 10, 1);
    for port in 0..10 {
        for _ in 0..2 {
            meter.observe(0, &sent(1, 2, port, 1, flags::ACK));
        }
    }
    let counts = meter.flip();
    counts.assert_conserved();
    assert_eq!(counts.flows.len(), 2);
    assert_eq!(counts.flow_refused, (16, 16 * 60));
    assert_eq!(counts.sources[&host(1)].c2s_packets, 20);
}

#[test]
fn without_a_table_no_flow_is_counted_and_none_refused() {
    let mut meter = Meter::new(1, 1 << 10, 1 << 10);
    meter.observe(0, &sent(1, 2, 1, 1, flags::ACK));
    let counts = meter.flip();
    assert!(counts.flows.is_empty());
    assert_eq!(counts.flow_refused, (0, 0));
}

proptest! {
    #![proptest_config(cases(300))]

    /// Whatever comes, on whichever CPU: flows and refusals add up to the segments, and each source
    /// has what its flows have.
    #[test]
    fn flows_and_sources_tell_the_same(
        segments in prop::collection::vec((0..4_u32, 0..8_u8, 0..4_u16, any::<bool>()), 0..300),
    ) {
        let mut meter = Meter::roomy(4);
        for (cpu, client, port, forth) in segments {
            let segment = if forth {
                sent(client, 200, port, 1, flags::ACK)
            } else {
                Segment { destination_port: port, ..replied(client, 200, 1, flags::ACK) }
            };
            meter.observe(cpu, &segment);
        }
        let counts = meter.flip();
        prop_assert_eq!(counts.flow_refused, (0, 0));
        counts.assert_conserved();
        for client in 0..8 {
            let of_flows: u64 = counts
                .flows
                .iter()
                .filter(|flow| flow.key().client == host(client))
                .map(|flow| flow.c2s_packets)
                .sum();
            let of_source = counts.sources.get(&host(client));
            prop_assert_eq!(of_flows, of_source.map_or(0, |totals| totals.c2s_packets));
        }
    }
}
