//! Counting, as DESIGN's words and the documentation of the counts say it.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use smtp_common::flow::Totals;

use super::dissect::{Segment, dissect};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Client, client port, server, server port.
pub type FlowName = (IpAddr, u16, IpAddr, u16);

/// The counts of one flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Packets and bytes to the server, and from it.
    pub sent: (u64, u64),
    /// Packets and bytes from the server.
    pub received: (u64, u64),
    /// All control bits each way.
    pub control: (u8, u8),
    /// Pure SYNs seen for the first time, and seen again.
    pub syns: (u64, u64),
    /// Whether a SYN-ACK came, and whether a refusal came.
    pub outcome: (bool, bool),
    /// MAIL and RCPT.
    pub commands: [u64; 2],
    /// Replies 2xx to 5xx.
    pub replies: [u64; 4],
    /// Replies 2xx that came next after a 354.
    pub accepted: u64,
    /// Code of the first and of the last reply, as far as the counts tell codes apart: 200, 300, 354,
    /// 400 or 500; 0 for none.
    pub first_and_last: (u16, u16),
}

/// The counts of one window.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Frames by how they ended; segments under `segment`.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Layer-3 bytes of all segments.
    pub segment_bytes: u64,
    /// By address.
    pub sources: BTreeMap<IpAddr, Totals>,
    /// By 4-tuple.
    pub flows: BTreeMap<FlowName, FlowCounts>,
}

/// Counts frames, window by window.
#[derive(Debug, Default)]
pub struct Account {
    counts: Counts,
    /// Sequence numbers of the last command and the last reply counted in this window.
    spoken: BTreeMap<FlowName, (Option<u32>, Option<u32>)>,
    /// SYNs seen since the beginning: they outlive windows.
    syns: HashSet<(FlowName, u32)>,
}

impl Account {
    /// Hands over the window and begins the next.
    pub fn cut(&mut self) -> Counts {
        self.spoken.clear();
        std::mem::take(&mut self.counts)
    }

    /// Counts a frame of which this much can be seen.
    pub fn count(&mut self, visible: &[u8]) {
        let (outcome, segment) = match dissect(visible) {
            Ok(segment) => ("segment", Some(segment)),
            Err(reason) => (reason, None),
        };
        *self.counts.outcomes.entry(outcome).or_default() += 1;
        let Some(segment) = segment else {
            return;
        };
        self.counts.segment_bytes += segment.bytes;
        if segment.is_to_server() {
            self.count_sent(&segment);
        } else {
            self.count_received(&segment);
        }
    }

    fn count_sent(&mut self, segment: &Segment) {
        let (client, server) = (segment.source, segment.destination);
        let name = (client.0, client.1, server.0, server.1);
        let pure_syn = segment.control & (SYN | ACK | RST | FIN) == SYN;
        let new = pure_syn && self.syns.insert((name, segment.sequence));
        let again = pure_syn && !new;

        let source = self.counts.sources.entry(client.0).or_default();
        source.c2s_packets += 1;
        source.c2s_bytes += segment.bytes;
        source.connections += u64::from(new);
        source.syn_retx += u64::from(again);

        let flow = self.counts.flows.entry(name).or_default();
        flow.sent.0 += 1;
        flow.sent.1 += segment.bytes;
        flow.control.0 |= segment.control;
        flow.syns.0 += u64::from(new);
        flow.syns.1 += u64::from(again);
        let last_sequence = &mut self.spoken.entry(name).or_default().0;
        if let Some(command) = command(&segment.payload)
            && *last_sequence != Some(segment.sequence)
        {
            *last_sequence = Some(segment.sequence);
            flow.commands[command] += 1;
        }
    }

    fn count_received(&mut self, segment: &Segment) {
        let (server, client) = (segment.source, segment.destination);
        let name = (client.0, client.1, server.0, server.1);
        let kind = segment.control & (SYN | ACK | RST | FIN);
        let answer = kind == SYN | ACK;
        // RFC 9293, section 3.10.7.1: the reset that answers a SYN has sequence number zero.
        let refusal = kind == RST | ACK && segment.sequence == 0;

        let source = self.counts.sources.entry(server.0).or_default();
        source.s2c_packets += 1;
        source.s2c_bytes += segment.bytes;
        if answer || refusal {
            let source = self.counts.sources.entry(client.0).or_default();
            source.answered += u64::from(answer);
            source.refused += u64::from(refusal);
        }

        let flow = self.counts.flows.entry(name).or_default();
        flow.received.0 += 1;
        flow.received.1 += segment.bytes;
        flow.control.1 |= segment.control;
        flow.outcome.0 |= answer;
        flow.outcome.1 |= refusal;
        let last_sequence = &mut self.spoken.entry(name).or_default().1;
        if let Some(code) = reply(&segment.payload) {
            let again = last_sequence.replace(segment.sequence) == Some(segment.sequence);
            let told_apart = if code == 354 { 354 } else { code / 100 * 100 };
            let (first, last) = &mut flow.first_and_last;
            if !again {
                flow.replies[usize::from(code / 100) - 2] += 1;
                flow.accepted += u64::from(*last == 354 && told_apart == 200);
            }
            if *first == 0 {
                *first = told_apart;
            }
            // Whoever sends another reply in the place of the last one has taken that one back.
            *last = told_apart;
        }
    }
}

/// 0 for MAIL, 1 for RCPT (RFC 5321, sections 4.1.1.2 and 4.1.1.3), by the first eight octets.
fn command(payload: &[u8]) -> Option<usize> {
    let start = payload.get(..8)?.to_ascii_uppercase();
    match start.as_slice() {
        b"MAIL FRO" => Some(0),
        b"RCPT TO:" => Some(1),
        _ => None,
    }
}

/// The code of a reply's last line (RFC 5321, section 4.2), by the first four octets.
fn reply(payload: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(payload.get(..3)?).ok()?;
    let well_formed = matches!(text.as_bytes(), [b'2'..=b'5', b'0'..=b'5', b'0'..=b'9']);
    let last_line = matches!(payload.get(3)?, b' ' | b'\r');
    (well_formed && last_line).then(|| text.parse().expect("three digits"))
}
