//! `smtpflow evidence` as the desk and the recipient meet it: a store and a capture of the same traffic, a mail log, the
//! report of a relay test; and whoever gets the folder comes to the same numbers with programs of others.

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use smtp_user::connections::{Follower, Limits};
use smtp_user::detect::{Court, Settings};
use smtp_user::meter::Meter as _;
use smtp_user::meter::pcap::PcapMeter;
use smtp_user::model::period::{Bucket, Tier, milliseconds, rfc3339};
use smtp_user::store::Store;
use smtpflow_tests::evaluation::local;
use smtpflow_tests::oracle;
use smtpflow_tests::{SMTP, totals};
use xtask::command::{self, Finished, finish, poll_until};
use xtask::lab::{GATEWAY_SERVER_SIDE, Lab, Messages, Topology, smtpflow_binary, tshark_fields};
use xtask::traffic::habit::MINUTE;
use xtask::traffic::kind::named;
use xtask::traffic::{Population, pcap};

const LIMIT: Duration = Duration::from_secs(120);
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(10);

/// A store, a capture of all that is in it, and who of it is flagged and who is not.
struct Scene {
    folder: tempfile::TempDir,
    hammer: IpAddr,
    innocent: IpAddr,
    /// When the windows began that were counted, in milliseconds since 1970. A capture has none of a time without
    /// packets.
    windows: Vec<u64>,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let kinds = [("mail_server", 2), ("hammer", 1)];
        let population = Population::of(
            5,
            120 * MINUTE,
            kinds.map(|(name, hosts)| (named(name), hosts)),
        );
        let capture = folder.path().join("all.pcap");
        let file = File::create(&capture).expect("a file");
        pcap::write(population.traffic(), &mut BufWriter::new(file)).expect("a capture");
        let store = folder.path().join("smtpflow.db");
        let mut store =
            Store::open_for(&store, local(), 100_000).unwrap_or_else(|failure| panic!("{failure}"));
        let mut follower = Follower::new(&Limits::default());
        let mut court = Court::new(&Settings::default(), local(), Vec::new());
        let mut meter =
            PcapMeter::open(&capture, WINDOW, SMTP).unwrap_or_else(|failure| panic!("{failure}"));
        let mut windows = Vec::new();
        while let Some(window) = meter.window().unwrap_or_else(|failure| panic!("{failure}")) {
            windows.push(milliseconds(window.started_at));
            let followed = follower.follow(&window);
            store.commit(1, &window, &followed.folded);
            let hour = Bucket {
                segment: 0,
                start: Tier::Hour.start_of(milliseconds(window.started_at)),
                tier: Tier::Hour,
            };
            let changes = court.add(&window, &followed.folded, hour);
            store
                .write_verdicts(&changes)
                .unwrap_or_else(|failure| panic!("{failure}"));
            while store.tidy() {}
            meter
                .release()
                .unwrap_or_else(|failure| panic!("{failure}"));
        }
        store
            .write_verdicts(&court.docket.unsaved())
            .unwrap_or_else(|failure| panic!("{failure}"));
        let prefixes: Vec<_> = local().iter().map(ToString::to_string).collect();
        let config = format!(
            "[networks]\nlocal = {prefixes:?}\n[store]\npath = {:?}\n[maillog]\naddresses = \"domain\"\n\
             time_zone = \"UTC\"\n[relay_test]\nenabled = true\nrecipient = \"desk@abuse.example.org\"\nstate = {:?}\n\
             [owner]\norder = [\"contacts\"]\ncontacts = [{:?}]\n",
            folder.path().join("smtpflow.db").display().to_string(),
            folder.path().join("relay-test").display().to_string(),
            folder.path().join("contacts.csv").display().to_string(),
        );
        fs::write(folder.path().join("smtpflow.toml"), config).expect("written");
        let contacts = "prefix,name,mail\n0.0.0.0/0,Physics,abuse@physics.example.org\n";
        fs::write(folder.path().join("contacts.csv"), contacts).expect("written");
        let address = |kind: &str| {
            let host = population.hosts.iter().find(|host| host.kind.name == kind);
            host.expect("a host of this kind").address
        };
        Self {
            hammer: address("hammer"),
            innocent: address("mail_server"),
            windows,
            folder,
        }
    }

    /// `smtpflow evidence` with these words.
    fn evidence(&self, host: IpAddr, output: &Path, words: &[&str]) -> Finished {
        let mut command = Command::new(smtpflow_binary().expect("the program is built"));
        command.args(["evidence", &host.to_string(), "--output"]);
        command.arg(output).arg("--config");
        command.arg(self.path("smtpflow.toml")).args(words);
        finish(&mut command, LIMIT).expect("it ends")
    }
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(Scene::new)
}

fn succeeds(finished: &Finished) -> &str {
    assert!(
        finished.status.success(),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    &finished.stdout
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

/// A shell in the folder of the recipient, with our program on its PATH.
fn shell(folder: &Path, line: &str) -> Finished {
    let program = smtpflow_binary().expect("the program is built");
    let programs = program.parent().expect("a folder");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path)),
    );
    let mut command = command::tool("sh", ["-c", line]);
    command
        .current_dir(folder)
        .env("PATH", path.expect("a PATH"));
    finish(&mut command, LIMIT).expect("it ends")
}

/// What Postfix logs of a message of this host, in March, when the traffic was.
fn mail_log(host: IpAddr) -> String {
    [
        format!("4ABCD12345: client=unknown[{host}]"),
        "4ABCD12345: message-id=<1@client.example>".to_owned(),
        "4ABCD12345: from=<ann@client.example>, size=2345, nrcpt=1 (queue active)".to_owned(),
        "4ABCD12345: to=<bob@other.example>, relay=mx.other.example[198.51.100.4]:25, delay=1, delays=0/0/1/0, \
         dsn=2.0.0, status=sent (250 Ok)"
            .to_owned(),
        "4ABCD12345: removed".to_owned(),
        format!(
            "NOQUEUE: reject: RCPT from unknown[{host}]: 554 5.7.1 <x@y.example>: Relay access denied; \
             from=<a@b.example> to=<x@y.example> proto=ESMTP helo=<friend>"
        ),
    ]
    .iter()
    .zip(["smtpd", "cleanup", "qmgr", "smtp", "qmgr", "smtpd"])
    .map(|(text, daemon)| format!("2026-03-03T09:00:00+00:00 mx1 postfix/{daemon}[1]: {text}\n"))
    .collect()
}

#[test]
fn whoever_gets_the_folder_comes_to_the_same_numbers() {
    let scene = scene();
    let host = scene.hammer;
    let log = scene.path("mail.log");
    fs::write(&log, mail_log(host)).expect("written");
    let reports = scene.path("relay-test/reports");
    fs::create_dir_all(&reports).expect("a folder");
    let report = r#"{"outcome":"rejected","code":554,"patterns":[],"transcript":[{"at_ms":1,"who":"server","text":"220 x"}]}"#;
    fs::write(reports.join(format!("{host}.json")), report).expect("written");
    let output = scene.path("pack");
    let all = scene.path("all.pcap");
    let finished = scene.evidence(
        host,
        &output,
        &[
            "--since",
            "30d",
            "--pcap",
            &all.display().to_string(),
            "--maillog",
            &log.display().to_string(),
            "--json",
        ],
    );
    let said: Value = serde_json::from_str(succeeds(&finished)).expect("JSON");
    let names: Vec<_> = said["files"]
        .as_array()
        .expect("files")
        .iter()
        .filter_map(|file| file["name"].as_str())
        .collect();
    assert_eq!(names, ["evidence.json", "evidence.txt", "host.pcap"]);

    let pack = read(&output.join("evidence.json"));
    let counted = totals(&pack["capture"]["counted"]);
    assert!(counted.connections > 100, "{counted:?}");
    // The store was filled from the same capture, content and all.
    assert_eq!(counted, totals(&pack["host"]["totals"]));
    // And the count of others, before and after.
    for file in [&all, &output.join("host.pcap")] {
        let expected = oracle::expected(&oracle::segments(file));
        assert_eq!(counted, expected[&host], "{}", file.display());
    }
    // With our own program, and with the command that the folder names.
    let commands = pack["capture"]["commands"].as_array().expect("commands");
    let run = |at: usize| {
        let line = commands[at]["command"].as_str().expect("a command");
        succeeds(&shell(&output, line)).to_owned()
    };
    let replayed: Value = serde_json::from_str(&run(0)).expect("JSON");
    let sources = replayed["sources"].as_array().expect("sources");
    let source = sources
        .iter()
        .find(|source| source["addr"] == host.to_string());
    assert_eq!(totals(source.expect("the host")), counted);
    let number = |at| run(at).trim().parse::<u64>().expect("a number");
    assert_eq!(number(1), counted.c2s_packets);
    assert_eq!(number(2), counted.connections + counted.syn_retx);

    // Nothing of what was said.
    let octets = fs::read(output.join("host.pcap")).expect("read");
    let whole = fs::read(&all).expect("read");
    for word in [&b"MAIL FROM"[..], b"EHLO", b"250 "] {
        let has = |octets: &[u8]| octets.windows(word.len()).any(|part| part == word);
        assert!(has(&whole) && !has(&octets), "{word:?}");
    }

    assert_eq!(pack["missing"], Value::Array(Vec::new()));
    assert_eq!(pack["relay_test"]["code"], 554);
    assert_eq!(pack["owner"]["contact"]["name"], "Physics");
    assert_eq!(pack["owner"]["findings"][0]["source"], "contacts");
    let client = &pack["mail_log"]["clients"][0];
    assert_eq!(
        (&client["messages"], &client["rejected"]),
        (&1.into(), &1.into()),
        "{client}"
    );
    let text = fs::read_to_string(output.join("evidence.txt")).expect("text");
    for part in [
        "whose host it is: Physics",
        "220 x",
        "client.example",
        "4ABCD12345",
        "tshark -r host.pcap",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(!text.contains("ann@"), "only domains are kept:\n{text}");

    // What is changed is seen.
    let check = "sha256sum --strict --check SHA256SUMS";
    assert_eq!(succeeds(&shell(&output, check)).lines().count(), 3);
    let json = output.join("evidence.json");
    let changed = fs::read_to_string(&json)
        .expect("text")
        .replacen('1', "2", 1);
    fs::write(&json, changed).expect("written");
    let finished = shell(&output, check);
    assert!(!finished.status.success());
    assert!(
        finished.stdout.contains("evidence.json: FAILED"),
        "{}",
        finished.stdout
    );
}

#[test]
fn evidence_is_of_the_hours_of_its_verdict_and_never_written_over() {
    let scene = scene();
    let output = scene.path("plain");
    let finished = scene.evidence(scene.hammer, &output, &[]);
    let said = succeeds(&finished);
    assert!(said.contains("sha256sum --check SHA256SUMS"), "{said}");
    let pack = read(&output.join("evidence.json"));
    let hours = pack["host"]["series"].as_array().expect("hours");
    assert!((1..=3).contains(&hours.len()), "{hours:?}");
    assert!(hours.iter().all(|hour| hour["tier"] == "hour"), "{hours:?}");
    // What was not counted is told to the window.
    let coverage = &pack["coverage"];
    let period = ["from", "to"].map(|end| pack["host"]["period"][end].as_str().expect("a time"));
    let starts = scene.windows.iter().copied().map(rfc3339);
    let counted = starts
        .filter(|start| (period[0]..period[1]).contains(&start.as_str()))
        .count();
    assert!(counted > 10, "{counted} windows");
    let counted = WINDOW * u32::try_from(counted).expect("few windows");
    let number = |name: &str| coverage[name].as_u64().expect("a number");
    assert_eq!(
        u128::from(number("milliseconds") - number("missing_milliseconds")),
        counted.as_millis(),
        "{coverage}"
    );
    let finished = scene.evidence(scene.hammer, &output, &[]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(
        finished.stderr.contains("never written over"),
        "{}",
        finished.stderr
    );
    for (host, words, code, part) in [
        (scene.innocent, &[][..], 1, "there is no verdict about"),
        (
            scene.hammer,
            &["--verdict", "424242"],
            1,
            "its verdicts are",
        ),
        (
            scene.hammer,
            &["--pcap", "/nowhere.pcap"],
            1,
            "/nowhere.pcap",
        ),
        (
            scene.hammer,
            &["--maillog", "/nowhere.log"],
            1,
            "/nowhere.log",
        ),
        (scene.hammer, &["--store", "/nowhere.db"], 69, "/nowhere.db"),
    ] {
        let other = scene.path("other");
        let finished = scene.evidence(host, &other, words);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
        assert!(!other.exists(), "{words:?}");
    }
    let left: Vec<_> = fs::read_dir(scene.folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with(".other"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A run of `smtpflow evidence` in the gateway of a laboratory, and the folder that it makes.
struct Tapped<'l> {
    lab: &'l Lab,
    config: PathBuf,
    output: PathBuf,
}

impl Tapped<'_> {
    fn command(&self, before: &[&str], words: &[&str]) -> Command {
        let scene = scene();
        let program = smtpflow_binary().expect("the program is built");
        let program = program.display().to_string();
        let line: Vec<&str> = before.iter().copied().chain([&*program]).collect();
        let mut command = command::tool(line[0], &line[1..]);
        command.args([
            "evidence",
            &scene.hammer.to_string(),
            "--since",
            "30d",
            "--output",
        ]);
        command.arg(&self.output).arg("--config").arg(&self.config);
        command.args(words);
        command
    }

    /// Taps the interface while `work` is done; gives the pack.
    fn during(&self, words: &[&str], work: impl FnOnce()) -> Value {
        let mut command = self.command(&[], words);
        thread::scope(|scope| {
            let run = scope.spawn(move || finish(&mut command, LIMIT).expect("it ends"));
            let waits = || self.lab.run("gateway", "cat", &["/proc/net/packet"], LIMIT);
            // A packet socket that has no link headers (SOCK_DGRAM, 2) and an interface.
            let is_ours = |line: &str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.get(2) == Some(&"2") && fields.get(4).is_some_and(|at| *at != "0")
            };
            let taps = poll_until(LIMIT, || waits().expect("a list").lines().any(is_ours));
            assert!(taps, "nothing was tapped");
            thread::sleep(Duration::from_millis(100));
            work();
            let finished = run.join().expect("a run");
            succeeds(&finished);
        });
        read(&self.output.join("evidence.json"))
    }
}

#[test]
fn what_is_tapped_is_the_headers_of_the_host_and_all_of_them() {
    let scene = scene();
    let host = scene.hammer;
    let topology = Topology {
        servers: 1,
        ..Topology::default()
    };
    let lab = Lab::gateway("sfevtap", topology).expect("a laboratory");
    let bot = lab.add_client("bot").expect("a client");
    lab.add_client("other").expect("a client");
    let ip = |name: &str, args: &str| drop(lab.ip(name, args).expect(args));
    let side = lab
        .ip("bot", "-o -4 addr show scope global")
        .expect("a list");
    let side = side
        .split_whitespace()
        .nth(1)
        .expect("an interface")
        .to_owned();
    ip("bot", &format!("addr add {host}/32 dev {side}"));
    let gateway = "198.51.100.1";
    ip(
        "bot",
        &format!("route replace default via {gateway} src {host}"),
    );
    ip("gateway", &format!("route add {host}/32 via {}", bot.v4));
    let server = |port| SocketAddr::from((lab.server_v4(0), port));
    let _sinks = lab
        .sinks(&[server(25), server(2525)], &[])
        .expect("servers");
    let config = scene.path("tap.toml");
    let text = fs::read_to_string(scene.path("smtpflow.toml")).expect("a configuration");
    let text = format!("{text}[meter]\nnetns = {:?}\n", lab.ns("gateway"));
    fs::write(&config, text).expect("written");
    let send = |client: &str, count: u32, port: u16| {
        let messages = Messages {
            count,
            parallel: 2,
            size: 3000,
            reuse: false,
        };
        lab.send(client, server(port), messages, LIMIT)
            .expect("sent");
    };

    let control = lab
        .capture("gateway", GATEWAY_SERVER_SIDE, "tcp")
        .expect("a capture");
    let tapped = Tapped {
        lab: &lab,
        config: config.clone(),
        output: scene.path("tapped"),
    };
    let words = ["--capture-from", GATEWAY_SERVER_SIDE, "--seconds", "4"];
    let pack = tapped.during(&words, || {
        send("bot", 20, 25);
        send("other", 10, 25);
        send("bot", 5, 2525);
    });
    let control = control.stop().expect("a capture");
    assert_eq!(control.dropped, 0);
    let capture = &pack["capture"];
    assert_eq!(
        (
            &capture["packets_lost"],
            &capture["packets_uncut"],
            &capture["ended"]
        ),
        (&0.into(), &0.into(), &Value::Null),
        "{capture}"
    );
    // As others count what others have captured at the same place.
    let whole = totals(&capture["counted"]);
    assert_eq!(whole.connections, 20);
    assert_eq!(
        whole,
        oracle::expected(&oracle::segments(&control.file))[&host]
    );
    let file = tapped.output.join("host.pcap");
    let fields = ["frame.cap_len", "ip.hdr_len", "tcp.hdr_len"];
    let rows = |file: &Path, filter: &str| tshark_fields(file, filter, &fields).expect("rows");
    let of_host = format!("ip.addr == {host} && tcp.port == 25");
    let taken = rows(&file, &of_host);
    assert_eq!(taken.len(), rows(&control.file, &of_host).len());
    assert_eq!(capture["packets"], taken.len());
    assert_eq!(
        capture["packets_read"],
        taken.len(),
        "the kernel gave more than was asked for"
    );
    assert_eq!(
        rows(&file, &format!("!({of_host})")),
        Vec::<Vec<String>>::new()
    );
    for row in &taken {
        let lengths: Vec<u32> = row
            .iter()
            .map(|text| text.parse().expect("a length"))
            .collect();
        assert_eq!(lengths[0], lengths[1] + lengths[2], "more than headers");
    }
    let octets = fs::read(&file).expect("read");
    assert!(!octets.windows(9).any(|part| part == b"MAIL FROM"));

    // It ends when there are enough.
    let few = Tapped {
        output: scene.path("few"),
        ..tapped
    };
    let words = [
        "--capture-from",
        GATEWAY_SERVER_SIDE,
        "--seconds",
        "60",
        "--packets",
        "7",
    ];
    let pack = few.during(&words, || send("bot", 3, 25));
    assert_eq!(pack["capture"]["packets"], 7);

    // Without the right to it there is no folder, and a way out.
    let refused = Tapped {
        output: scene.path("refused"),
        ..few
    };
    for (before, interface, code, expected) in [
        (
            &["setpriv", "--bounding-set", "-net_raw"][..],
            GATEWAY_SERVER_SIDE,
            77,
            "CAP_NET_RAW",
        ),
        (&[], "eth7", 1, "no such interface (have: "),
    ] {
        let mut command = refused.command(before, &["--capture-from", interface]);
        let finished = finish(&mut command, LIMIT).expect("it ends");
        assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert!(!refused.output.exists());
    }
}
