//! Windows of generated traffic, as a meter would hand them over, without frames: for days of traffic.
//!
//! Contract: what is counted is told from the scripts alone; no parser and no table of smtpflow has a
//! part in it. For the same scripts [`PcapMeter`](smtp_user::meter::pcap::PcapMeter) gives the same
//! windows; `tests/scenarios.rs` compares them. Of two segments in the same millisecond the script that
//! started first is first. Windows without traffic are there as well, as with a live meter.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use smtp_common::counter::Counter;
use smtp_common::flow::{FlowKey, Totals};
use smtp_common::packet::Address;
use smtp_common::speech::Speech;
use smtp_user::model::period::system_time;
use smtp_user::model::{Flow, FlowTally, Source, Tally, Window};
use xtask::traffic::Script;
use xtask::traffic::script::{Line, Side, Step, flag};

/// Makes windows of the scripts of hours, as [`Traffic`](xtask::traffic::Traffic) gives them.
pub struct Stream<I> {
    hours: I,
    /// Milliseconds.
    length: u64,
    /// By their number since 1970.
    open: BTreeMap<u64, Building>,
    /// The number of the next window, once it is known.
    next: Option<u64>,
    /// Windows from this one on may still get more.
    until: u64,
    epoch: u64,
}

impl<I: Iterator<Item = (u64, Vec<Script>)>> Stream<I> {
    /// Windows of this length, which divides an hour.
    pub fn new(hours: I, length: Duration) -> Self {
        let length = length.as_millis() as u64;
        assert_eq!(3_600_000 % length, 0, "windows are cut at whole hours");
        Self {
            hours,
            length,
            open: BTreeMap::new(),
            next: None,
            until: 0,
            epoch: 0,
        }
    }
}

impl<I: Iterator<Item = (u64, Vec<Script>)>> Iterator for Stream<I> {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        loop {
            let first = self.open.keys().next().copied();
            if self.until == u64::MAX && first.is_none() {
                return None;
            }
            let next = self.next.or(first);
            if let Some(number) = next.filter(|number| *number < self.until) {
                self.next = Some(number + 1);
                let building = self.open.remove(&number).unwrap_or_default();
                self.epoch += 1;
                return Some(building.finish(self.epoch, number * self.length, self.length));
            }
            match self.hours.next() {
                Some((hour, scripts)) => {
                    self.next = self.next.or(Some(hour / self.length));
                    for script in &scripts {
                        self.add(script);
                    }
                    self.until = (hour + 3_600_000) / self.length;
                }
                None => self.until = u64::MAX,
            }
        }
    }
}

impl<I> Stream<I> {
    fn add(&mut self, script: &Script) {
        let key = FlowKey {
            client: address(script.client),
            server: address(script.server),
            client_port: script.port,
            server_port: 25,
        };
        let mut part: Option<(u64, Part)> = None;
        let mut opened = false;
        script.play(|step| {
            let number = step.at / self.length;
            if let Some((before, done)) = part.take_if(|(before, _)| *before != number) {
                self.open.entry(before).or_default().add(key, done);
            }
            let (_, part) = part.get_or_insert_with(|| (number, Part::begin(key, step.at)));
            part.count(script, step, &mut opened);
        });
        if let Some((number, done)) = part {
            self.open.entry(number).or_default().add(key, done);
        }
    }
}

/// As smtpflow writes an address.
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::from_ipv4(ip.octets()),
        IpAddr::V6(ip) => Address::from_ipv6(ip.octets()),
    }
}

/// What counts of a line.
const fn heard(line: Line) -> Speech {
    match line {
        Line::Greeting | Line::TlsReady | Line::Ok | Line::Queued | Line::Bye => Speech::COMPLETION,
        Line::GoAhead => Speech::START_INPUT,
        Line::Unavailable | Line::NoSuchUser => Speech::PERMANENT,
        Line::Mail => Speech::MAIL,
        Line::Recipient => Speech::RCPT,
        // The answer to EHLO lies in one segment, whose first line is not its last.
        Line::Extensions
        | Line::Nothing
        | Line::Hello
        | Line::StartTls
        | Line::Record
        | Line::Data
        | Line::Message
        | Line::Reset
        | Line::Quit => Speech::OTHER,
    }
}

/// What one script does in one window.
struct Part {
    flow: Flow,
    client: Totals,
    server: Totals,
}

impl Part {
    fn begin(key: FlowKey, at: u64) -> Self {
        let at = system_time(at);
        Self {
            flow: Flow {
                key,
                c2s_packets: 0,
                c2s_bytes: 0,
                s2c_packets: 0,
                s2c_bytes: 0,
                connections: 0,
                syn_retx: 0,
                c2s_flags: 0,
                s2c_flags: 0,
                answered: false,
                refused: false,
                said: [0; smtp_common::speech::KINDS],
                accepted: 0,
                first_reply: 0,
                last_reply: 0,
                reply_sequence: 0,
                first: at,
                last: at,
            },
            client: Totals::default(),
            server: Totals::default(),
        }
    }

    fn count(&mut self, script: &Script, step: &Step, opened: &mut bool) {
        let Self {
            flow,
            client,
            server,
        } = self;
        flow.last = system_time(step.at);
        let ip = if script.client.is_ipv4() { 20 } else { 40 };
        let bytes = ip + 20 + u64::from(step.options) + u64::from(step.payload);
        let heard = heard(step.line);
        match step.side {
            Side::Client => {
                for (packets, sum) in [
                    (&mut flow.c2s_packets, &mut flow.c2s_bytes),
                    (&mut client.c2s_packets, &mut client.c2s_bytes),
                ] {
                    *packets += 1;
                    *sum += bytes;
                }
                flow.c2s_flags |= step.flags;
                if step.flags == flag::SYN {
                    let again = u64::from(*opened);
                    flow.connections += 1 - again;
                    client.connections += 1 - again;
                    flow.syn_retx += again;
                    client.syn_retx += again;
                    *opened = true;
                }
            }
            Side::Server => {
                for (packets, sum) in [
                    (&mut flow.s2c_packets, &mut flow.s2c_bytes),
                    (&mut server.s2c_packets, &mut server.s2c_bytes),
                ] {
                    *packets += 1;
                    *sum += bytes;
                }
                flow.s2c_flags |= step.flags;
                let answers = step.flags == flag::SYN | flag::ACK;
                let refuses = step.flags == flag::RST | flag::ACK && step.sequence == 0;
                flow.answered |= answers;
                flow.refused |= refuses;
                client.answered += u64::from(answers);
                client.refused += u64::from(refuses);
                if heard != Speech::OTHER {
                    let waits = flow.last_reply == Speech::START_INPUT.number();
                    flow.accepted += u64::from(waits && heard == Speech::COMPLETION);
                    if flow.first_reply == 0 {
                        flow.first_reply = heard.number();
                    }
                    flow.last_reply = heard.number();
                    flow.reply_sequence = step.sequence;
                }
            }
        }
        let place = match heard {
            Speech::OTHER => return,
            Speech::START_INPUT => Speech::INTERMEDIATE,
            other => other,
        };
        flow.said[usize::from(place.number())] += 1;
    }
}

#[derive(Default)]
struct Building {
    sources: HashMap<Address, usize>,
    totals: Vec<Source>,
    places: HashMap<FlowKey, usize>,
    flows: Vec<Flow>,
}

impl Building {
    fn add(&mut self, key: FlowKey, part: Part) {
        self.count(key.client, &part.client);
        self.count(key.server, &part.server);
        match self.places.get(&key) {
            None => {
                self.places.insert(key, self.flows.len());
                self.flows.push(part.flow);
            }
            // The port is used again.
            Some(place) => follow(&mut self.flows[*place], &part.flow),
        }
    }

    fn count(&mut self, address: Address, totals: &Totals) {
        if *totals == Totals::default() {
            return;
        }
        let place = *self.sources.entry(address).or_insert_with(|| {
            self.totals.push(Source {
                address,
                totals: Totals::default(),
            });
            self.totals.len() - 1
        });
        self.totals[place].totals.merge(totals);
    }

    fn finish(self, epoch: u64, start: u64, length: u64) -> Window {
        let mut tally = Tally::default();
        for source in &self.totals {
            tally.frames += source.totals.packets();
            tally.segment_bytes += source.totals.bytes();
        }
        tally.outcomes[Counter::Segment.index()] = tally.frames;
        tally.flows = FlowTally::default();
        tally.place(&self.totals, Some(&self.flows));
        Window {
            epoch,
            started_at: system_time(start),
            length: Duration::from_millis(length),
            tally,
            lines_used: self.totals.len() as u64,
            sources: self.totals,
            flows: self.flows,
            flip: Duration::ZERO,
        }
    }
}

/// Adds what follows on the same 4-tuple in the same window.
fn follow(flow: &mut Flow, next: &Flow) {
    assert!(flow.last <= next.first, "{flow:?} and {next:?} at a time");
    let awaited = flow.last_reply == Speech::START_INPUT.number()
        && next.first_reply == Speech::COMPLETION.number();
    flow.c2s_packets += next.c2s_packets;
    flow.c2s_bytes += next.c2s_bytes;
    flow.s2c_packets += next.s2c_packets;
    flow.s2c_bytes += next.s2c_bytes;
    flow.connections += next.connections;
    flow.syn_retx += next.syn_retx;
    flow.c2s_flags |= next.c2s_flags;
    flow.s2c_flags |= next.s2c_flags;
    flow.answered |= next.answered;
    flow.refused |= next.refused;
    for (mine, theirs) in flow.said.iter_mut().zip(next.said) {
        *mine += theirs;
    }
    flow.accepted += next.accepted + u64::from(awaited);
    if flow.first_reply == 0 {
        flow.first_reply = next.first_reply;
    }
    if next.last_reply != 0 {
        flow.last_reply = next.last_reply;
        flow.reply_sequence = next.reply_sequence;
    }
    flow.last = next.last;
}
