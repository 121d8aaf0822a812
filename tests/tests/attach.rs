//! Coming, staying and going: which mode an interface gets and what is said about it, and that no
//! count is lost when the agent is killed, stopped or cut off.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_common::LAYOUT_VERSION;
use xtask::command::{finish, poll_until};
use xtask::lab::{Agent, AgentOptions, Lab, ensure_bpffs, smtpflow_binary};

const LIMIT: Duration = Duration::from_secs(60);
const GATEWAY: &str = "192.0.2.1";

/// A client and a gateway, joined by `eth0` and `outer`.
fn lab(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab.ip("client", "addr add 192.0.2.2/24 dev eth0")
        .expect("an address");
    lab
}

/// Gives the gateway its address on this interface.
fn address(lab: &Lab, interface: &str) {
    lab.ip("gateway", &format!("addr add {GATEWAY}/24 dev {interface}"))
        .expect("an address");
}

fn options(lab: &Lab, interface: &str, extra: &[&str]) -> AgentOptions {
    let mut options = AgentOptions::new(lab).expect("options");
    options.interfaces = vec![interface.to_owned()];
    options.window = "1s".to_owned();
    options.extra = extra.iter().map(|&word| word.to_owned()).collect();
    options
}

fn start(lab: &Lab, options: &AgentOptions) -> Agent {
    let mut agent = lab.agent(options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    agent
}

/// Opens this many connections to a port where nobody listens.
fn knock(lab: &Lab, times: u64) {
    let target: SocketAddr = format!("{GATEWAY}:25").parse().expect("an address");
    lab.within("client", || {
        for _ in 0..times {
            TcpStream::connect_timeout(&target, LIMIT).expect_err("the port is closed");
        }
    })
    .expect("a thread in the namespace");
}

fn status(agent: &mut Agent) -> Value {
    agent.json("/api/v1/status").expect("status")
}

fn connections(agent: &mut Agent) -> u64 {
    agent.wait_drained(LIMIT).expect("a drain");
    let status = status(agent);
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    status["totals"]["connections"]
        .as_u64()
        .expect("connections")
}

fn metric(agent: &Agent, sample: &str) -> String {
    let page = agent.get("/metrics").expect("metrics").text();
    page.lines()
        .find_map(|line| line.strip_prefix(sample))
        .unwrap_or_else(|| panic!("no {sample} in:\n{page}"))
        .trim()
        .to_owned()
}

#[test]
fn where_the_driver_refuses_it_falls_back_to_skb_and_says_so_everywhere() {
    let lab = lab("sfattskb");
    lab.ip("gateway", "link add br0 type bridge")
        .expect("a bridge");
    lab.ip("gateway", "link set outer master br0")
        .expect("a port");
    lab.ip("gateway", "link set br0 up").expect("up");
    address(&lab, "br0");

    let mut agent = start(&lab, &options(&lab, "br0", &[]));
    let interface = &status(&mut agent)["interfaces"][0];
    assert_eq!(
        (
            &interface["name"],
            &interface["mode"],
            &interface["program"]
        ),
        (&"br0".into(), &"skb".into(), &"xdp".into())
    );
    let why = interface["fallback"].as_str().expect("the reason");
    assert!(why.contains("driver"), "{why}");
    assert_eq!(
        metric(&agent, "smtpflow_xdp_fallback{interface=\"br0\"}"),
        "1"
    );
    assert_eq!(
        metric(
            &agent,
            "smtpflow_xdp_attached{interface=\"br0\",mode=\"skb\"}"
        ),
        "1"
    );
    let log = agent.process().log_text();
    assert!(log.contains("in skb mode"), "{log}");
    knock(&lab, 7);
    assert_eq!(connections(&mut agent), 7);
    assert!(agent.stop().expect("the agent ends").success());

    let mut agent = lab
        .agent(&options(&lab, "br0", &["--mode", "driver"]))
        .expect("a start");
    let status = agent.process().wait(LIMIT).expect("it ends by itself");
    let log = agent.process().log_text();
    assert_eq!(status.code(), Some(69), "{log}");
    assert!(
        log.contains("cannot attach to br0: driver") && log.contains("--mode auto"),
        "{log}"
    );
}

#[test]
fn a_large_mtu_gets_the_multi_buffer_program_in_driver_mode() {
    let lab = lab("sfattmtu");
    for (name, interface) in [("client", "eth0"), ("gateway", "outer")] {
        lab.ip(name, &format!("link set {interface} mtu 9000"))
            .expect("a large MTU");
    }
    address(&lab, "outer");
    let mut agent = start(&lab, &options(&lab, "outer", &[]));
    let interface = &status(&mut agent)["interfaces"][0];
    assert_eq!(interface["mode"], "driver");
    assert_eq!(interface["program"], "xdp.frags");
    assert!(interface["fallback"].is_null());
    knock(&lab, 5);
    assert_eq!(connections(&mut agent), 5);
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn the_kernel_counts_on_while_a_killed_agent_is_away() {
    let lab = lab("sfattkill");
    address(&lab, "outer");
    let options = options(&lab, "outer", &[]);
    let mut agent = start(&lab, &options);
    knock(&lab, 4);
    assert_eq!(connections(&mut agent), 4);
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("killed");
    let link = lab.ip("gateway", "link show outer").expect("ip link");
    assert!(link.contains("xdp"), "detached by the kill: {link}");
    knock(&lab, 6);
    let mut agent = start(&lab, &options);
    knock(&lab, 3);
    // The first four are in the store.
    assert_eq!(connections(&mut agent), 4 + 6 + 3);
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!options.pins.exists(), "pins are left");
}

#[test]
fn an_agent_told_to_keep_attached_leaves_the_counting_to_the_next() {
    let lab = lab("sfattkeep");
    address(&lab, "outer");
    let keeping = options(&lab, "outer", &["--keep-attached"]);
    let mut agent = start(&lab, &keeping);
    assert!(agent.stop().expect("the agent ends").success());
    knock(&lab, 8);
    let mut agent = start(&lab, &options(&lab, "outer", &[]));
    assert_eq!(connections(&mut agent), 8);
    assert!(agent.stop().expect("the agent ends").success());
    let link = lab.ip("gateway", "link show outer").expect("ip link");
    assert!(!link.contains("xdp"), "still attached: {link}");
}

#[test]
fn one_command_detaches_even_while_an_agent_runs_and_the_agent_says_so() {
    let lab = lab("sfattdet");
    address(&lab, "outer");
    let options = options(&lab, "outer", &[]);
    let mut agent = start(&lab, &options);
    let mut detach = std::process::Command::new(smtpflow_binary().expect("the program"));
    detach.arg("detach").arg("--pins").arg(&options.pins);
    let finished = finish(&mut detach, LIMIT).expect("it ends");
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stdout.contains("outer"), "{}", finished.stdout);
    let link = lab.ip("gateway", "link show outer").expect("ip link");
    assert!(!link.contains("xdp"), "still attached: {link}");

    let noticed = poll_until(LIMIT, || {
        agent
            .get("/readyz")
            .is_ok_and(|answer| answer.status == 503)
    });
    assert!(noticed, "the agent still says that it is ready");
    let interface = &status(&mut agent)["interfaces"][0];
    assert_eq!(interface["name"], "outer");
    assert_eq!(interface["state"], "detached");
    let reason = interface["reason"].as_str().expect("the reason");
    assert!(reason.contains("smtpflow detach"), "{reason}");
    // It was an operator's wish: it stays so, whatever else changes and over whole windows.
    lab.ip("gateway", "link set outer down").expect("down");
    lab.ip("gateway", "link set outer up").expect("up");
    agent.wait_drained(LIMIT).expect("two windows");
    assert_eq!(status(&mut agent)["interfaces"][0]["state"], "detached");
    let link = lab.ip("gateway", "link show outer").expect("ip link");
    assert!(!link.contains("xdp"), "attached again: {link}");
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!options.pins.exists(), "pins are left");
}

/// Runs the agent in a namespace and expects it to end by itself with this code; gives its words.
fn refused(
    lab: &Lab,
    code: i32,
    namespace: &str,
    options: &AgentOptions,
    extra: &[&str],
) -> String {
    let mut run = std::process::Command::new(&options.binary);
    run.args(["run", "--interface", "outer", "--listen", "127.0.0.1:0"]);
    run.args(["--netns", &lab.ns(namespace)]).args(extra);
    run.arg("--pins").arg(&options.pins);
    run.arg("--store")
        .arg(options.store.as_ref().expect("a store"));
    let finished = finish(&mut run, LIMIT).expect("it ends");
    assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
    finished.stderr
}

#[test]
fn what_a_smtpflow_of_another_layout_left_is_told_with_the_way_out() {
    let lab = lab("sfattlay");
    address(&lab, "outer");
    let keeping = options(&lab, "outer", &["--keep-attached"]);
    let mut agent = start(&lab, &keeping);
    assert!(agent.stop().expect("the agent ends").success());
    // As an older or a newer one calls its directory.
    let ours = keeping.pins.join(format!("v{LAYOUT_VERSION}"));
    let theirs = keeping.pins.join(format!("v{}", LAYOUT_VERSION + 1));
    std::fs::rename(&ours, &theirs).expect("renamed");
    let error = refused(&lab, 69, "gateway", &keeping, &[]);
    let way_out = format!("smtpflow detach --pins {}", keeping.pins.display());
    assert!(
        error.contains("another table layout") && error.contains(&way_out),
        "{error}"
    );
    let link = lab.ip("gateway", "link show outer").expect("ip link");
    assert!(link.contains("xdp"), "no longer attached: {link}");
    let mut detach = std::process::Command::new(&keeping.binary);
    detach.arg("detach").arg("--pins").arg(&keeping.pins);
    let finished = finish(&mut detach, LIMIT).expect("it ends");
    assert!(finished.status.success(), "{}", finished.stderr);
    let mut agent = start(&lab, &options(&lab, "outer", &[]));
    knock(&lab, 2);
    assert_eq!(connections(&mut agent), 2);
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!keeping.pins.exists(), "pins are left");
}

#[test]
fn a_link_to_an_interface_of_the_same_name_elsewhere_is_left_alone() {
    let lab = lab("sfattname");
    lab.add_namespace("other").expect("a namespace");
    lab.link(("client", "eth1"), ("other", "outer"), None)
        .expect("a link");
    address(&lab, "outer");
    let keeping = options(&lab, "outer", &["--keep-attached"]);
    let mut agent = start(&lab, &keeping);
    assert!(agent.stop().expect("the agent ends").success());
    let error = refused(&lab, 69, "other", &keeping, &[]);
    assert!(error.contains("another network namespace"), "{error}");
    knock(&lab, 5);
    let mut agent = start(&lab, &options(&lab, "outer", &[]));
    assert_eq!(connections(&mut agent), 5);
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn a_mode_that_was_asked_for_is_not_replaced_by_one_that_is_there() {
    let lab = lab("sfattmode");
    address(&lab, "outer");
    let keeping = options(&lab, "outer", &["--keep-attached", "--mode", "skb"]);
    let mut agent = start(&lab, &keeping);
    assert!(agent.stop().expect("the agent ends").success());
    let error = refused(&lab, 69, "gateway", &keeping, &["--mode", "driver"]);
    assert!(error.contains("in skb mode"), "{error}");
    // Nobody asked for a mode: then it goes on in the one that is there, and says so.
    let mut agent = start(&lab, &options(&lab, "outer", &[]));
    let interface = status(&mut agent)["interfaces"][0].clone();
    assert_eq!(interface["mode"], "skb");
    assert!(interface["fallback"].is_string(), "{interface}");
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn an_interface_that_was_made_anew_is_attached_to_anew() {
    let lab = lab("sfattnew");
    address(&lab, "outer");
    let options = options(&lab, "outer", &[]);
    let mut agent = start(&lab, &options);
    knock(&lab, 2);
    agent.wait_drained(LIMIT).expect("a drain");
    knock(&lab, 3);
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("killed");
    lab.ip("gateway", "link del outer").expect("deleted");
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("made anew");
    lab.ip("client", "addr add 192.0.2.2/24 dev eth0")
        .expect("an address");
    address(&lab, "outer");
    let mut agent = start(&lab, &options);
    knock(&lab, 4);
    // What the killed agent had committed, what it had not drained, and the four.
    assert_eq!(connections(&mut agent), 2 + 3 + 4);
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!options.pins.exists(), "pins are left");
}

#[test]
fn an_interface_renamed_while_no_agent_runs_is_taken_over_under_its_new_name() {
    let lab = lab("sfattren");
    lab.link(("client", "eth1"), ("gateway", "inner"), None)
        .expect("a second link");
    address(&lab, "outer");
    let both = |name: &str| {
        let mut options = options(&lab, name, &[]);
        options.interfaces.push("inner".to_owned());
        options
    };
    let mut agent = start(&lab, &both("outer"));
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("killed");
    lab.ip("gateway", "link set outer name wan0")
        .expect("renamed");
    knock(&lab, 4);
    let options = both("wan0");
    let mut agent = start(&lab, &options);
    knock(&lab, 3);
    assert_eq!(connections(&mut agent), 7);
    let log = agent.process().log_text();
    assert!(log.contains("renamed since"), "{log}");
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!options.pins.exists(), "pins are left");
}

#[test]
fn a_start_that_fails_takes_nothing_from_what_was_counting() {
    let lab = lab("sfattfail");
    address(&lab, "outer");
    let options = options(&lab, "outer", &[]);
    let mut agent = start(&lab, &options);
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("killed");
    knock(&lab, 6);
    let error = refused(&lab, 1, "gateway", &options, &["--interface", "inner"]);
    assert!(error.contains("inner: no such interface"), "{error}");
    let link = lab.ip("gateway", "link show outer").expect("ip link");
    assert!(
        link.contains("xdp"),
        "the failed start has detached: {link}"
    );
    knock(&lab, 5);
    let mut agent = start(&lab, &options);
    assert_eq!(connections(&mut agent), 11);
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!options.pins.exists(), "pins are left");
}
