//! SIGHUP: a configuration comes into force while the agent counts, all of it that can or nothing, and
//! no packet is lost by that.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use smtp_common::flow::Totals;
use smtpflow_tests::load::laboratory;
use smtpflow_tests::suspect::{LIMIT, NEIGHBOUR, SUSPECT, Scene, wait_for_room_in_the_hour};
use smtpflow_tests::tokens::{ACT, READ};
use smtpflow_tests::{long, totals, volley};
use xtask::command::poll_until;
use xtask::lab::{Agent, AgentOptions, http_request};

/// What a test may take of one UTC hour.
const NEEDED: Duration = Duration::from_secs(120);
const OWN: &str = "[networks]\nlocal = [\"192.0.2.0/24\"]\n";

/// An agent and its configuration file.
struct Rig {
    scene: Scene,
    agent: Agent,
    file: PathBuf,
    /// Times that the configuration was read.
    reads: usize,
}

impl Rig {
    fn new(prefix: &str, config: &str) -> Self {
        Self::with(prefix, config, &[])
    }

    fn with(prefix: &str, config: &str, flags: &[&str]) -> Self {
        let mut scene = Scene::new(prefix, config);
        let file = scene.lab.folder().join("smtpflow.toml");
        scene.options.extra = vec!["--config".to_owned(), file.display().to_string()];
        scene
            .options
            .extra
            .extend(flags.iter().map(|f| (*f).to_owned()));
        let agent = scene.agent();
        Self {
            scene,
            agent,
            file,
            reads: 0,
        }
    }

    fn log(&mut self) -> String {
        self.agent.process().log_text()
    }

    /// Has it read this, and waits until it has said what came of it: the new lines of its log.
    fn reload(&mut self, config: &str) -> String {
        std::fs::write(&self.file, config).expect("written");
        self.hang_up()
    }

    fn hang_up(&mut self) -> String {
        let before = self.log().len();
        let words = [
            "the configuration was read again",
            "the configuration is not taken",
        ];
        let said = |log: &str| {
            words
                .iter()
                .map(|word| log.matches(word).count())
                .sum::<usize>()
        };
        self.agent
            .process()
            .signal(Signal::SIGHUP)
            .expect("a signal");
        self.reads += 1;
        let done = poll_until(LIMIT, || said(&self.log()) == self.reads);
        assert!(done, "{}", self.log());
        // What follows the line in the log is written by then as well, but for its end.
        thread::sleep(Duration::from_millis(50));
        self.log()[before..].to_owned()
    }

    fn json(&mut self, path: &str) -> Value {
        self.agent.json(path).expect("an answer")
    }

    fn metric(&self, name: &str) -> f64 {
        let page = self.agent.get("/metrics").expect("metrics").text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        let value = line.unwrap_or_else(|| panic!("no {name} in {page}"));
        value.parse().expect("a number")
    }

    fn is_flagged(&mut self, host: &str) -> bool {
        let verdicts = self.json("/api/v1/verdicts");
        let mut list = verdicts["verdicts"].as_array().expect("a list").iter();
        list.any(|verdict| {
            let of_volume = verdict["detector"] == "volume" && verdict["subject"] == host;
            of_volume && verdict["state"] == "new"
        })
    }

    /// Waits until a host is flagged.
    fn flagged(&mut self, host: &str) {
        let mut is = false;
        poll_until(LIMIT, || {
            is = self.is_flagged(host);
            is
        });
        assert!(is, "{host} is not flagged: {}", self.log());
    }

    fn drained(&mut self) {
        self.agent.wait_drained(LIMIT).expect("drains");
    }

    /// Whether the kernel has this own prefix, of IPv4.
    fn kernel_knows(&self, network: [u8; 4], length: u32) -> bool {
        let version = format!("v{}", smtp_common::LAYOUT_VERSION);
        let pin = self.scene.options.pins.join(version).join("OWN");
        let map = MapData::from_pin(pin).expect("the map of own prefixes");
        let map: LpmTrie<_, [u8; 16], u32> = Map::LpmTrie(map).try_into().expect("its form");
        let mut address = [0; 16];
        address[10..12].fill(0xff);
        address[12..].copy_from_slice(&network);
        let key = Key::new(96 + length, address);
        // A look-up would also find a shorter one.
        let keys: Result<Vec<_>, _> = map.keys().collect();
        let found = keys.expect("keys");
        found
            .iter()
            .any(|other| (other.prefix_len(), other.data()) == (key.prefix_len(), key.data()))
    }
}

#[test]
fn what_can_be_changed_comes_into_force_and_the_rest_is_named() {
    wait_for_room_in_the_hour(NEEDED);
    let limits = "[detect.volume]\nwarning = 600\nserver_notice = 600\nserver_warning = 600\n";
    let mut rig = Rig::new("rlda", &format!("{OWN}{limits}notice = 500\n"));
    let started = rig.metric("smtpflow_config_last_reload_success_timestamp_seconds");
    assert!(started > 1.7e9);
    rig.scene.knock(SUSPECT, 40);
    rig.drained();
    assert!(!rig.is_flagged(SUSPECT), "40 connections are not over 500");

    let log = rig.reload(&format!(
        "{OWN}[meter]\nwindow = \"7s\"\nports = [25, 587]\n[history]\nkeep_bins = \"7h\"\n\
         [metrics]\nsources = 3\n{limits}notice = 30\n"
    ));
    assert!(
        log.contains("read again: detect.volume.notice, history.keep_bins, metrics.sources\n"),
        "{log}"
    );
    // The window was given by a flag, which wins over either file.
    assert!(
        log.contains("a restart, until then the values before are in force: meter.ports\n"),
        "{log}"
    );
    let config = rig.json("/api/v1/config");
    assert_eq!(config["config"]["detect"]["volume"]["notice"], 30);
    assert_eq!(config["config"]["history"]["keep_bins"], "7h");
    assert_eq!(config["config"]["meter"]["ports"], json!([25]));
    assert_eq!(config["last_reload_successful"], true);
    assert_eq!(config["restart"], json!(["meter.ports"]));
    assert_eq!(
        rig.agent.get("/metrics/sources").expect("an answer").status,
        200
    );
    let loaded = rig.metric("smtpflow_config_last_reload_success_timestamp_seconds");
    assert!(loaded > started, "{loaded} is not after {started}");

    // The new limit is that of the next window, for what was counted before as well.
    rig.scene.knock(SUSPECT, 1);
    rig.flagged(SUSPECT);

    // A known relay of the file is not judged any more, and what was found is over.
    let relay = "[[relay]]\nprefix = \"192.0.2.2/32\"\nreason = \"r\"\nowner = \"o\"\n";
    let log = rig.reload(&format!("{OWN}{relay}"));
    assert!(log.contains("read again: "), "{log}");
    rig.drained();
    assert!(!rig.is_flagged(SUSPECT), "{log}");
    let why = rig.json(&format!("/api/v1/sources/{SUSPECT}/why"));
    assert!(why.to_string().contains("known relay"), "{why}");

    // Of the same file, nothing changes, and nothing is said to take a restart.
    let log = rig.hang_up();
    assert!(
        log.contains("read again: nothing else is in force\n"),
        "{log}"
    );
    assert!(!log.contains("take a restart"), "{log}");
    rig.agent.stop().expect("it ends");
}

#[test]
fn with_other_own_prefixes_history_is_judged_anew() {
    wait_for_room_in_the_hour(NEEDED);
    let mut rig = Rig::new("rldn", "[networks]\nlocal = [\"203.0.113.0/24\"]\n");
    rig.scene.knock(SUSPECT, 40);
    rig.drained();
    let scope = |rig: &mut Rig| rig.json(&format!("/api/v1/sources/{SUSPECT}"))["scope"].clone();
    assert_eq!(scope(&mut rig), "remote");
    assert!(!rig.is_flagged(SUSPECT));
    assert!(rig.kernel_knows([203, 0, 113, 0], 24) && !rig.kernel_knows([192, 0, 2, 0], 24));

    let log = rig.reload(OWN);
    assert!(log.contains("read again: networks.local\n"), "{log}");
    assert_eq!(scope(&mut rig), "local");
    assert!(!rig.kernel_knows([203, 0, 113, 0], 24) && rig.kernel_knows([192, 0, 2, 0], 24));
    // What it did as a stranger counts.
    rig.scene.knock(SUSPECT, 1);
    rig.flagged(SUSPECT);
    rig.agent.stop().expect("it ends");

    // By a flag it is not the file that says it.
    let mut rig = Rig::with("rldf", OWN, &["--local", "198.51.100.0/24"]);
    let log = rig.reload("[networks]\nlocal = [\"203.0.113.0/24\"]\n");
    assert!(
        log.contains("read again: nothing else is in force\n"),
        "{log}"
    );
    let local = &rig.json("/api/v1/config")["config"]["networks"]["local"];
    assert_eq!(local, &json!(["198.51.100.0/24"]));
    rig.agent.stop().expect("it ends");
}

#[test]
fn of_a_file_that_is_wrong_nothing_comes_into_force() {
    let good = format!("{OWN}[detect.volume]\nnotice = 77\n");
    let mut rig = Rig::new("rldw", &good);
    let file = rig.file.display().to_string();
    let loaded = rig.metric("smtpflow_config_last_reload_success_timestamp_seconds");
    let secret = rig.scene.lab.folder().join("token");
    std::fs::write(&secret, READ).expect("written");
    std::fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("a mode");
    let open = format!("{good}[serve]\ntoken_file = \"{}\"\n", secret.display());
    for (config, why) in [
        // Good up to its last line.
        (
            format!("{OWN}[detect.volume]\nnotice = 5\nwarnings = 9\n"),
            ":5:1: unknown field",
        ),
        (
            format!("{OWN}[history]\nkeep_hours = \"3d\"\nkeep_days = \"2d\"\n"),
            "history.keep_days",
        ),
        ("[networks]\nlocal = \"192.0.2.0/24\"\n".to_owned(), ":2:9"),
        (open, "close it: chmod 600"),
    ] {
        rig.scene.knock(NEIGHBOUR, 3);
        let log = rig.reload(&config);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            log.contains("not taken, the one before stays in force: "),
            "{log}"
        );
        assert!(log.contains(why), "no {why} in {log}");
        assert_eq!(rig.metric("smtpflow_config_last_reload_successful"), 0.0);
    }
    std::fs::remove_file(&rig.file).expect("removed");
    let log = rig.hang_up();
    assert!(
        log.contains(&format!("cannot read the configuration {file}")),
        "{log}"
    );
    let state = rig.json("/api/v1/config");
    assert_eq!(state["last_reload_successful"], false);
    assert_eq!(state["config"]["detect"]["volume"]["notice"], 77);
    assert_eq!(
        rig.metric("smtpflow_config_last_reload_success_timestamp_seconds"),
        loaded
    );
    // It counts on.
    rig.scene.knock(NEIGHBOUR, 3);
    rig.drained();
    let source = rig.json(&format!("/api/v1/sources/{NEIGHBOUR}"));
    assert_eq!(source["total"]["connections"], 15, "{source}");

    rig.reload(&format!("{OWN}[detect.volume]\nnotice = 78\n"));
    assert_eq!(rig.metric("smtpflow_config_last_reload_successful"), 1.0);
    assert_eq!(
        rig.json("/api/v1/config")["config"]["detect"]["volume"]["notice"],
        78
    );
    rig.agent.stop().expect("it ends");
}

/// A file with a token, as it has to be.
fn token(path: &Path, token: &str) {
    std::fs::write(path, token).expect("written");
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("a mode");
}

#[test]
fn tokens_are_exchanged_and_alerts_go_elsewhere() {
    // Or the kernel holds it to the port of the Alertmanager that it was started with.
    let own = format!("{OWN}[agent]\nlandlock = false\n");
    let mut rig = Rig::new("rldt", &own);
    let listen = rig.agent.listen();
    let ends = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", &*authorization),
        ];
        let body = json!({ "prefix": "192.0.2.9/32", "who": "anna", "why": "gone" }).to_string();
        let target = ("POST", "/api/v1/relays/expire");
        http_request(listen, target, &headers, Some(&body))
            .expect("an answer")
            .status
    };
    assert_eq!(ends(ACT), 403, "nobody can while no act token is named");
    let path = rig.scene.lab.folder().join("act");
    let act = format!("{own}[serve]\nact_token_file = \"{}\"\n", path.display());
    token(&path, ACT);
    rig.reload(&act);
    // It may, and there is no such relay.
    assert_eq!((ends(ACT), ends(READ)), (404, 401));
    // The same key, another content: that is how a token is exchanged.
    token(&path, READ);
    let log = rig.hang_up();
    assert!(log.contains("nothing else is in force"), "{log}");
    assert_eq!((ends(ACT), ends(READ)), (401, 404));

    let alerts = |gateway: &str, at: SocketAddr| {
        format!(
            "{act}[alertmanager]\nurl = \"http://{at}\"\ngateway = \"{gateway}\"\nevery = \"5s\"\n"
        )
    };
    // Something to tell.
    wait_for_room_in_the_hour(NEEDED);
    rig.scene.knock(SUSPECT, 40);
    rig.flagged(SUSPECT);
    let (first, second) = (Taker::new(), Taker::new());
    rig.reload(&alerts("one", first.address));
    let told = first.next();
    assert!(
        told.contains("\"gateway\":\"one\"") && told.contains(SUSPECT),
        "{told}"
    );
    rig.reload(&alerts("two", second.address));
    let told = second.next();
    assert!(
        told.contains("\"gateway\":\"two\"") && told.contains(SUSPECT),
        "{told}"
    );
    let name = "smtpflow_notifications_total{kind=\"alertmanager\",result=\"sent\"}";
    let went_on = poll_until(LIMIT, || rig.metric(name) >= 2.0);
    assert!(went_on, "{name} began anew");
    let log = rig.reload(&act);
    assert!(log.contains("no Alertmanager is told"), "{log}");
    rig.agent.stop().expect("it ends");
}

/// An Alertmanager, as far as it takes alerts.
struct Taker {
    listener: TcpListener,
    address: SocketAddr,
}

impl Taker {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        Self { listener, address }
    }

    /// The body of the next request.
    fn next(&self) -> String {
        let (mut stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let length = stream.read(&mut buffer).expect("a request");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
            // Its body is a list.
            if length == 0 || text.trim_end().ends_with(']') {
                break;
            }
        }
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("answered");
        text
    }
}

/// Some hundred reloads of two good files and a bad one while packets come.
#[test]
fn a_storm_of_reloads_under_load_loses_no_packet() {
    let times = if long() { 2000 } else { 400 };
    let lab = laboratory("rlds");
    let file = lab.folder().join("smtpflow.toml");
    let configs = [
        "[networks]\nlocal = [\"198.51.100.0/24\", \"2001:db8::/32\"]\n[detect.volume]\nnotice = 3\n",
        "[networks]\nlocal = [\"192.0.2.0/24\"]\n[detect]\nipv6_prefix = 48\n[metrics]\nsources = 2\n",
        "[networks]\nlocal = [\"192.0.2.0/24\"]\nremote = []\n",
    ];
    let write = |config: &str| {
        // At once, as an editor does: half a file is a file.
        let new = file.with_extension("new");
        std::fs::write(&new, config)
            .and_then(|()| std::fs::rename(&new, &file))
            .expect("written");
    };
    write(configs[0]);
    let mut options = AgentOptions::new(&lab).expect("options");
    options.interfaces = vec!["outer".to_owned()];
    options.window = "1s".to_owned();
    options.extra = vec!["--config".to_owned(), file.display().to_string()];
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("it is ready");

    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let fire = || volley::fire(30_000, &stop);
            lab.within("client", fire).expect("the client's namespace")
        });
        for i in 0..times {
            write(configs[i % configs.len()]);
            agent.process().signal(Signal::SIGHUP).expect("a signal");
            thread::sleep(Duration::from_millis(if i % 10 < 5 { 1 } else { 30 }));
        }
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load")
    });
    let packets: u64 = sent.values().map(Totals::packets).sum();
    write(configs[0]);
    agent.process().signal(Signal::SIGHUP).expect("a signal");
    let mut status = Value::Null;
    poll_until(LIMIT, || {
        status = agent.json("/api/v1/status").expect("status");
        status["totals"]["c2s_packets"].as_u64() >= Some(packets)
    });
    agent.wait_drained(LIMIT).expect("windows");
    status = agent.json("/api/v1/status").expect("status");
    assert_eq!(status["totals"]["c2s_packets"], packets, "{status}");
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    let document = agent.json("/api/v1/sources?limit=1000").expect("sources");
    for (address, expected) in &sent {
        let rows = document["sources"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["addr"] == address.to_string());
        let row = row.unwrap_or_else(|| panic!("{address} in {document}"));
        assert_eq!(&totals(&row["total"]), expected, "{address}");
    }
    for (name, interface) in [("client", "eth0"), ("gateway", "outer")] {
        let drops = lab.drops(name, interface).expect("counts of drops");
        assert_eq!(drops, 0, "{name} {interface} dropped");
    }
    // The last one of all is in force.
    let config = agent.json("/api/v1/config").expect("the configuration");
    assert_eq!(config["last_reload_successful"], true);
    assert_eq!(config["config"]["detect"]["volume"]["notice"], 3);
    let log = agent.process().log_text();
    let read = log.matches("the configuration was read again").count();
    let refused = log.matches("the configuration is not taken").count();
    assert!(read > 50 && refused > 20, "{read} read, {refused} refused");
    assert!(agent.stop().expect("it ends").success());
    println!(
        "{times} signals, {read} taken, {refused} refused, {packets} packets: 0 lost, 0 doubled"
    );
}
