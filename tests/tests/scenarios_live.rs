//! Labelled traffic on a real wire, past a real agent: it says what a replay of the same traffic says.
//!
//! The frames of both directions enter the gateway on one interface, which is all that XDP asks for.
//! They are sent at the times of their scripts, or so many times as fast, from a whole window of the
//! clock on, so that the windows of the agent and those of the replay hold the same. The hour does not
//! end in between: where it soon would, the next one is waited for.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smtp_user::model::verdict::VerdictFilter;
use smtp_user::store::Reader;
use smtpflow_tests::evaluation::{Verdicts, configuration, replay, show, subject, verdicts_of};
use smtpflow_tests::measure::stay_on_last_cpu;
use smtpflow_tests::wire::Transmitter;
use xtask::lab::{AgentOptions, GATEWAY_CLIENT_SIDE, Lab, ensure_bpffs};
use xtask::traffic::habit::{HOUR, SECOND};
use xtask::traffic::kind::named;
use xtask::traffic::{Label, MONDAY, Population, pcap};

const LIMIT: Duration = Duration::from_secs(60);

fn since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_millis() as u64
}

/// Sends the frames of a population, `speed` times as fast as they were scripted, in about `seconds`;
/// says how many.
fn send(population: &Population, speed: u64, window: u64, seconds: u64) -> u64 {
    // All segments of a connection are received by the CPU that sends them: only so are replies seen in
    // their order, as with a network card.
    stay_on_last_cpu();
    let mut transmitter = Transmitter::open("eth0");
    let now = since_1970();
    // Hours are whole in UTC.
    let left = HOUR - now % HOUR;
    let earliest = if left < (seconds + 20) * SECOND {
        now + left
    } else {
        now + window
    };
    let begin = earliest.next_multiple_of(window);
    let mut frames = 0;
    let mut due: Vec<Vec<u8>> = Vec::new();
    pcap::in_order(population.traffic(), |step, frame| {
        let at = begin + (step.at - MONDAY) / speed;
        let wait = at.saturating_sub(since_1970());
        if wait > 0 || due.len() == 32 {
            transmitter.send(&due);
            due.clear();
            std::thread::sleep(Duration::from_millis(wait));
        }
        due.push(frame.to_vec());
        frames += 1;
        Ok::<_, ()>(())
    })
    .expect("nothing fails");
    transmitter.send(&due);
    frames
}

/// What an agent says of a population on the wire, in windows of a second.
fn live(prefix: &str, population: &Population, speed: u64, seconds: u64) -> Verdicts {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["left", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("left", "eth0"), ("gateway", GATEWAY_CLIENT_SIDE), None)
        .expect("a link");
    // Room for two tags.
    for (host, port) in [("left", "eth0"), ("gateway", GATEWAY_CLIENT_SIDE)] {
        lab.ip(host, &format!("link set {port} mtu 2000"))
            .expect("an MTU");
    }
    let config = lab.folder().join("smtpflow.toml");
    std::fs::write(&config, configuration(population)).expect("a file");
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec![GATEWAY_CLIENT_SIDE.to_owned()];
    options.window = "1s".to_owned();
    options.extra = vec!["--config".to_owned(), config.display().to_string()];
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    let frames = lab
        .within("left", || send(population, speed, SECOND, seconds))
        .expect("a thread in the namespace");
    agent.wait_drained(LIMIT).expect("a drain");
    let status = agent.json("/api/v1/status").expect("status");
    assert_eq!(status["conservation"]["segments"], frames, "{status}");
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    assert!(agent.stop().expect("the agent ends").success());
    let store = options.store.expect("a store");
    let reader = Reader::open(&store).unwrap_or_else(|failure| panic!("{failure}"));
    let found = reader
        .verdicts(&VerdictFilter::default())
        .unwrap_or_else(|failure| panic!("{failure}"));
    let mut verdicts = Verdicts::new();
    for verdict in found {
        let detectors = verdicts.entry(show(&verdict.subject)).or_default();
        detectors.insert(verdict.detector);
    }
    verdicts
}

/// What a replay says of it when all of it is so many milliseconds later, in windows of so many seconds.
fn replayed(population: &Population, later: u64, window: u64) -> Verdicts {
    let traffic = population.traffic().map(|(hour, mut scripts)| {
        scripts.iter_mut().for_each(|script| script.start += later);
        (hour, scripts)
    });
    verdicts_of(&replay(traffic, &configuration(population), window))
}

fn live_and_replay_agree(prefix: &str, population: &Population, speed: u64) {
    // In windows that hold what those of the agent do. A frame that is late is in the next one: so only
    // traffic will do whose verdicts do not hang on that.
    let expected = replayed(population, 0, speed);
    for tenth in [1, 2, 5] {
        let later = replayed(population, tenth * 100 * speed, speed);
        assert_eq!(expected, later, "{tenth} tenths of a window later");
    }
    let bots = population.hosts.iter();
    let bots = bots.filter(|host| host.kind.label == Label::Bot);
    let bots: BTreeSet<_> = bots.map(|host| show(&subject(host))).collect();
    let accused: BTreeSet<_> = expected.keys().cloned().collect();
    assert_eq!(accused, bots, "by replay");
    let seconds = (population.span.to - population.span.from) / speed / SECOND;
    let live = live(prefix, population, speed, seconds);
    println!("{live:#?}");
    assert_eq!(live, expected);
}

#[test]
fn floods_scans_and_bursts_are_judged_live_as_by_replay() {
    let kinds = [
        "ordinary",
        "busy",
        "mail_server",
        "relay",
        "newsletter",
        "qinq",
        "privacy",
        "one_sided",
        "spoofed",
        "burst",
        "scanner",
        "syn_flood",
    ];
    let population = Population::of(8, 40 * SECOND, kinds.map(|name| (named(name), 2)));
    live_and_replay_agree("sfscenfl", &population, 1);
}

#[test]
fn an_hour_in_forty_seconds_is_judged_live_as_by_replay() {
    let kinds = [
        "ordinary",
        "busy",
        "mail_server",
        "relay",
        "monitor",
        "inbound",
        "privacy",
        "one_sided",
        "ladder",
        "qinq",
        "once_each",
        "refused",
        "privacy_bot",
        "qinq_bot",
        "one_sided_bot",
    ];
    let population = Population::of(4, HOUR, kinds.map(|name| (named(name), 2)));
    live_and_replay_agree("sfscenhr", &population, 90);
}
