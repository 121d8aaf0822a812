//! Verdicts of a running agent: opened by real traffic, and the same after it was killed.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_user::model::period::{Tier, milliseconds};
use smtp_user::model::verdict::{Severity, VerdictFilter, VerdictState};
use smtp_user::store::{PersonalChange, Reader, change_verdict};
use xtask::command::poll_until;
use xtask::lab::{Agent, AgentOptions, Lab, ensure_bpffs};

const LIMIT: Duration = Duration::from_secs(60);
const CLIENT: &str = "192.0.2.2";
const GATEWAY: &str = "192.0.2.1";
/// What the test may take of one UTC hour.
const NEEDED: u64 = 60_000;

/// A client and a gateway, joined by `eth0` and `outer`.
fn lab(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab.ip("client", &format!("addr add {CLIENT}/24 dev eth0"))
        .expect("an address");
    lab.ip("gateway", &format!("addr add {GATEWAY}/24 dev outer"))
        .expect("an address");
    lab
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

/// What the status says of verdicts once all that was sent is drained.
fn verdicts(agent: &mut Agent) -> Value {
    agent.wait_drained(LIMIT).expect("a drain");
    let status = agent.json("/api/v1/status").expect("status");
    status["verdicts"].clone()
}

/// Detectors are about UTC hours, and the test is about one of them.
fn wait_for_room_in_the_hour() {
    let hour = Tier::Hour.length().expect("an hour has a length");
    let left = hour - milliseconds(SystemTime::now()) % hour;
    if left < NEEDED {
        std::thread::sleep(Duration::from_millis(left));
    }
}

#[test]
fn a_verdict_goes_on_over_a_kill_and_a_person_s_word_counts() {
    let lab = lab("sfverdict");
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec!["outer".to_owned()];
    options.window = "1s".to_owned();
    options.extra = vec!["--local".to_owned(), "192.0.2.0/24".to_owned()];
    wait_for_room_in_the_hour();

    let mut agent = start(&lab, &options);
    knock(&lab, 30);
    let before = verdicts(&mut agent);
    assert_eq!(before["judged"], true);
    assert_eq!(before["opened"], 1, "{before}");
    assert_eq!(
        before["open"]["warning"], 1,
        "30 of 30 refused, which is failure's limit"
    );
    assert_eq!(before["open"]["notice"], 0, "exactly 30 is not over 30");
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("the agent dies where it stands");

    // The thirty-first of the hour comes after the kill.
    let mut agent = start(&lab, &options);
    let again = verdicts(&mut agent);
    assert_eq!(
        (&again["opened"], &again["open"]["warning"]),
        (&0.into(), &1.into())
    );
    knock(&lab, 1);
    let after = verdicts(&mut agent);
    assert_eq!(
        (&after["opened"], &after["open"]["notice"]),
        (&1.into(), &1.into())
    );

    // A person changes one in the file while the agent runs.
    let store = options.store.as_ref().expect("a store");
    let listed = || {
        let reader = Reader::open(store).unwrap_or_else(|failure| panic!("{failure}"));
        reader
            .verdicts(&VerdictFilter::default())
            .unwrap_or_else(|failure| panic!("{failure}"))
    };
    let volume = listed()
        .into_iter()
        .find(|verdict| verdict.detector == "volume")
        .expect("a verdict of volume");
    assert_eq!(volume.subject.to_string(), format!("{CLIENT}/32"));
    assert_eq!(
        (volume.severity, volume.state),
        (Severity::Notice, VerdictState::New)
    );
    assert_eq!(volume.rule.figures[0].value, 31.0);
    change_verdict(
        store,
        &PersonalChange {
            id: volume.id,
            to: VerdictState::FalsePositive,
            who: "test",
            why: "it knocks by order",
            at: milliseconds(SystemTime::now()),
        },
    )
    .expect("changed");
    knock(&lab, 1);
    let muted = poll_until(LIMIT, || verdicts(&mut agent)["open"]["notice"] == 0);
    assert!(muted, "the agent does not see what a person has decided");
    knock(&lab, 1);
    assert_eq!(verdicts(&mut agent)["open"]["notice"], 0, "flagged again");
    assert!(agent.stop().expect("the agent ends").success());

    let states: Vec<_> = listed()
        .into_iter()
        .map(|verdict| (verdict.detector, verdict.state))
        .collect();
    assert_eq!(
        states.len(),
        2,
        "a verdict is there twice, or one is missing: {states:?}"
    );
    assert!(states.contains(&("volume".to_owned(), VerdictState::FalsePositive)));
    assert!(states.contains(&("failure".to_owned(), VerdictState::New)));
}
