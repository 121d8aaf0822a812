//! Open verdicts as alerts of a real Alertmanager: they appear, they are ended, they come again after
//! it was away, and those of a dead agent run out.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_user::model::period::milliseconds;
use smtp_user::model::verdict::{VerdictFilter, VerdictState};
use smtp_user::store::{PersonalChange, Reader, change_verdict};
use smtpflow_tests::suspect::{LIMIT, SUSPECT, Scene, free_port, wait_for_room_in_the_hour};
use xtask::command::{poll_until, tool};
use xtask::lab::{Agent, Lab, Process, http_get};

/// What the test may take of one UTC hour.
const NEEDED: Duration = Duration::from_secs(120);

/// Starts an Alertmanager that tells nobody and remembers nothing of an earlier one.
fn alertmanager(lab: &Lab, listen: SocketAddr, name: &str) -> Process {
    let folder = lab.folder().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = folder.join("alertmanager.yml");
    let text = "route:\n  receiver: nobody\nreceivers:\n- name: nobody\n";
    std::fs::write(&config, text).expect("written");
    let mut command = tool("prometheus-alertmanager", [] as [&str; 0]);
    command
        .arg(flag("config.file", &config))
        .arg(flag("storage.path", &folder.join("data")))
        .arg(format!("--web.listen-address={listen}"))
        // Alone: no gossip with others.
        .arg("--cluster.listen-address=");
    let process = lab.start(&mut command, name).expect("the Alertmanager");
    let ready = poll_until(LIMIT, || {
        http_get(listen, "/-/ready", &[]).is_ok_and(|answer| answer.status == 200)
    });
    assert!(ready, "{}", process.log_text());
    process
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// The alerts that fire.
fn firing(listen: SocketAddr) -> Vec<Value> {
    let answer = http_get(listen, "/api/v2/alerts?active=true", &[]).expect("an answer");
    let alerts = answer.json().expect("JSON");
    alerts.as_array().expect("a list").clone()
}

fn detectors(listen: SocketAddr) -> Vec<String> {
    let mut names: Vec<String> = firing(listen)
        .iter()
        .map(|alert| {
            alert["labels"]["detector"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

/// Waits until these detectors' alerts fire, and no others.
fn wait_for(listen: SocketAddr, expected: &[&str], what: &str) {
    let mut have = Vec::new();
    let met = poll_until(LIMIT, || {
        have = detectors(listen);
        have == expected
    });
    assert!(met, "{what}: expected {expected:?}, have {have:?}");
}

/// The value of a sample of the metrics page.
fn sample(agent: &Agent, name: &str) -> f64 {
    let page = agent.get("/metrics").expect("a page").text();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name}")).trim();
    value.parse().expect("a number")
}

/// When an alert runs out, if it is not sent again.
fn ends_at(alert: &Value) -> Timestamp {
    let text = alert["endsAt"].as_str().expect("a time");
    text.parse().expect("RFC 3339")
}

const FAILED: &str = "smtpflow_notifications_total{kind=\"alertmanager\",result=\"failed\"}";
const SENT: &str = "smtpflow_notifications_total{kind=\"alertmanager\",result=\"sent\"}";

#[test]
fn open_verdicts_are_alerts_as_long_as_they_are_open() {
    let listen = free_port();
    let config = format!(
        "[alertmanager]\nurl = \"http://{listen}\"\nevery = \"10s\"\ngateway = \"north\"\n"
    );
    let scene = Scene::new("talerts", &config);
    wait_for_room_in_the_hour(NEEDED);
    let mut manager = alertmanager(&scene.lab, listen, "alertmanager-1");
    let mut agent = scene.agent();
    assert!(firing(listen).is_empty());

    // Of 31 connections all are refused: volume and failure.
    scene.knock(SUSPECT, 31);
    wait_for(listen, &["failure", "volume"], "a flagged host");
    let alerts = firing(listen);
    let alert = alerts
        .iter()
        .find(|alert| alert["labels"]["detector"] == "volume")
        .expect("an alert of volume");
    let expected = serde_json::json!({
        "alertname": "SmtpflowSourceFlagged",
        "src": SUSPECT,
        "detector": "volume",
        "severity": "notice",
        "gateway": "north",
    });
    assert_eq!(alert["labels"], expected);
    let summary = alert["annotations"]["summary"].as_str().expect("a summary");
    assert!(
        summary.starts_with("192.0.2.2 sends mail like a spammer: more than 30 connections"),
        "{summary}"
    );
    let page = format!("http://{}", agent.listen());
    let link = alert["generatorURL"].as_str().expect("a link");
    let path = link.strip_prefix(&page).expect("a link to the agent");
    let host = agent.get(path).expect("a page");
    assert_eq!(host.status, 200, "{link}");
    assert!(host.text().contains(SUSPECT));
    assert!(poll_until(LIMIT, || sample(&agent, SENT) > 0.0));
    assert_eq!(sample(&agent, FAILED), 0.0);

    // A person ends one of them.
    let alerts = firing(listen);
    let alert = alerts
        .iter()
        .find(|alert| alert["labels"]["detector"] == "volume")
        .expect("an alert of volume");
    let store = scene.options.store.as_ref().expect("a store");
    let reader = Reader::open(store).unwrap_or_else(|failure| panic!("{failure}"));
    let verdicts = reader
        .verdicts(&VerdictFilter::default())
        .unwrap_or_else(|failure| panic!("{failure}"));
    let volume = verdicts.iter().find(|verdict| verdict.detector == "volume");
    change_verdict(
        store,
        &PersonalChange {
            id: volume.expect("a verdict of volume").id,
            to: VerdictState::FalsePositive,
            who: "test",
            why: "it knocks by order",
            at: milliseconds(SystemTime::now()),
        },
    )
    .expect("changed");
    wait_for(listen, &["failure"], "one was ended");
    // It did not just run out.
    assert!(Timestamp::now() < ends_at(alert), "ended too late");

    // Away: the agent counts on, and says so once.
    manager.stop(Signal::SIGTERM, LIMIT).expect("it obeys");
    let failed = poll_until(LIMIT, || sample(&agent, FAILED) >= 3.0);
    assert!(failed, "{}", agent.process().log_text());
    agent.wait_drained(LIMIT).expect("it drains as before");
    let log = agent.process().log_text();
    let told = log.matches("cannot tell the Alertmanager").count();
    assert_eq!(told, 1, "{log}");

    // And back, without what it knew.
    let mut manager = alertmanager(&scene.lab, listen, "alertmanager-2");
    wait_for(listen, &["failure"], "the Alertmanager is there again");
    let again = poll_until(LIMIT, || {
        agent.process().log_text().contains("takes alerts again")
    });
    assert!(again);

    // A dead agent ends nothing; its alerts run out.
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("the agent dies where it stands");
    assert_eq!(detectors(listen), ["failure"]);
    wait_for(listen, &[], "the agent is dead");
    manager.stop(Signal::SIGTERM, LIMIT).expect("it obeys");
}

/// One that takes connections and never answers.
#[test]
fn an_alertmanager_that_hangs_holds_up_neither_a_drain_nor_the_end() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = hanging.local_addr().expect("its address");
    let config = format!("[alertmanager]\nurl = \"http://{listen}\"\nevery = \"5s\"\n");
    let scene = Scene::new("talerthang", &config);
    wait_for_room_in_the_hour(NEEDED);
    let mut agent = scene.agent();
    scene.knock(SUSPECT, 31);
    let (asked, _) = hanging.accept().expect("the agent comes");
    // While it waits for the answer.
    let begun = Instant::now();
    agent.wait_drained(LIMIT).expect("it drains");
    assert!(agent.stop().expect("it obeys").success());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    drop(asked);
}
