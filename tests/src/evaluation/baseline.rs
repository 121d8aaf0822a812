//! What was done before: thresholds on hourly tables of NetFlow.
//!
//! Contract: a flow is what a router exports of a connection: the client's segments without a pause of
//! more than 15 s (the usual inactive timeout); after one, the next segment begins another flow. So a
//! SYN that is sent again 16 s later is a flow of its own. A flow counts for the clock hour in which it
//! begins, and for the address that it comes from. The table of an hour is judged when the hour closes.
//! Known relays are excused, but for one with a limit of its own: that is judged by its flows and its
//! limit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use smtp_user::detect::Relay;
use xtask::evaluation::Method;
use xtask::traffic::habit::HOUR;
use xtask::traffic::script::Side;
use xtask::traffic::{Population, Script};

use super::{Accused, local, subject_of};

/// Longest pause in a flow, in milliseconds.
const INACTIVE: u64 = 15_000;

#[derive(Default)]
struct Row {
    flows: u64,
    servers: HashSet<IpAddr>,
}

/// Who is accused by each of the simpler methods.
pub(super) fn run(population: &Population, relays: &[Relay]) -> BTreeMap<Method, Accused> {
    let local = local();
    let mut hours: BTreeMap<u64, HashMap<IpAddr, Row>> = BTreeMap::new();
    let mut accused = BTreeMap::new();
    for (hour, scripts) in population.traffic() {
        for script in &scripts {
            if !local.iter().any(|own| own.contains(&script.client)) {
                continue;
            }
            for start in flows(script) {
                let hour = hours.entry(start - start % HOUR).or_default();
                let row = hour.entry(script.client).or_default();
                row.flows += 1;
                row.servers.insert(script.server);
            }
        }
        // What starts later counts for later hours.
        if let Some(table) = hours.remove(&hour) {
            judge(&table, hour + HOUR, relays, &mut accused);
        }
    }
    accused
}

fn judge(
    table: &HashMap<IpAddr, Row>,
    end: u64,
    relays: &[Relay],
    accused: &mut BTreeMap<Method, Accused>,
) {
    for (address, row) in table {
        let relay = relays.iter().find(|relay| relay.prefix.contains(address));
        let own_limit = relay.and_then(|relay| relay.connections).map(u64::from);
        let over = |limit| match relay {
            Some(_) => own_limit.is_some_and(|own| row.flows > own),
            None => row.flows > limit,
        };
        let fanout = relay.is_none() && row.servers.len() > 5;
        for (method, found) in [
            (Method::Flows30, over(30)),
            (Method::Flows100, over(100)),
            (Method::Servers5, fanout),
        ] {
            if found {
                let accused = accused.entry(method).or_default();
                accused.entry(subject_of(*address)).or_insert(end);
            }
        }
    }
}

/// When each flow of a connection begins.
fn flows(script: &Script) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut last = None;
    script.play(|step| {
        if step.side == Side::Client {
            if last.is_none_or(|last| step.at - last > INACTIVE) {
                starts.push(step.at);
            }
            last = Some(step.at);
        }
    });
    starts
}
