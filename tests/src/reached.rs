//! An agent in the gateway's own namespace, which clients reach from loopback and from elsewhere.
//!
//! Contract: it counts on the side of the clients, in windows of a second, and has both tokens of
//! [`tokens`](crate::tokens). It ends with the laboratory.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use xtask::command::{self, poll_until};
use xtask::lab::{AgentOptions, GATEWAY_CLIENT_SIDE, Lab, Process, http_get};

use crate::tokens::{READ, configuration};

const LIMIT: Duration = Duration::from_secs(60);
/// Where it is from loopback.
pub const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 12525);
/// Where it is for clients.
pub const GATEWAY: SocketAddr = SocketAddr::new(
    IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
    LOCAL.port(),
);

/// Starts it, with `more` in its configuration, and waits until it counts.
pub fn start(lab: &Lab, more: &str) -> Process {
    let config = configuration(lab.folder(), more);
    let options = AgentOptions::new(lab).expect("options");
    lab.record_pins(&options.pins).expect("written down");
    // Unlike `ip netns exec`, nsenter leaves bpffs in sight.
    let mut run = Command::new(command::find("nsenter").expect("nsenter, of util-linux"));
    run.arg(format!("--net=/run/netns/{}", lab.ns("gateway")))
        .arg(&options.binary)
        .args(["run", "--interface", GATEWAY_CLIENT_SIDE, "--window", "1s"])
        .args(["--listen", &format!("0.0.0.0:{}", LOCAL.port()), "--config"])
        .arg(&config)
        .arg("--pins")
        .arg(&options.pins)
        .arg("--store")
        .arg(options.store.as_ref().expect("a store"));
    let mut agent = lab.start(&mut run, "smtpflow").expect("it starts");
    let ready = lab
        .within("gateway", || {
            poll_until(LIMIT, || {
                http_get(LOCAL, "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
            })
        })
        .expect("a thread in the namespace");
    assert!(ready && agent.is_running(), "{}", agent.log_text());
    agent
}

/// What it answers to who is on loopback.
pub fn json(lab: &Lab, path: &str) -> Value {
    let authorization = format!("Bearer {READ}");
    lab.within("gateway", || {
        http_get(LOCAL, path, &[("Authorization", &authorization)]).and_then(|answer| answer.json())
    })
    .expect("a thread in the namespace")
    .unwrap_or_else(|error| panic!("{path}: {error:#}"))
}

/// A number in the status of a process, in the unit that the kernel gives it in.
pub fn in_status(id: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// How many descriptors a process has open.
pub fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd"))
        .expect("its descriptors")
        .count()
}

/// Waits until it has counted so many packets of clients: no more, none lost, and no drain has failed.
pub fn has_counted(lab: &Lab, packets: u64) {
    let mut status = Value::Null;
    poll_until(LIMIT, || {
        status = json(lab, "/api/v1/status");
        status["totals"]["c2s_packets"].as_u64() >= Some(packets)
    });
    assert_eq!(status["totals"]["c2s_packets"], packets, "{status}");
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    assert_eq!(status["drain_failures"], 0, "{status}");
}
