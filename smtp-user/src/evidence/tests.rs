//! Evidence of a real store and a real capture.

use std::collections::BTreeMap;
use std::fs;

use smtp_common::packet::MailPorts;

use super::*;
use crate::model::complaint::tests::complaint;
use crate::report::tests::{BOT, Scene, local};
use crate::store::add_complaint;

const PORTS: MailPorts = MailPorts::new([25, 0, 0, 0]);

struct Desk {
    place: tempfile::TempDir,
    options: Options,
    _scene: Scene,
}

impl Desk {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("smtpflow.db");
        let scene = Scene::in_file(&path);
        let mut config = Config::default();
        config.store.path = path;
        config.networks.local = local();
        let options = Options {
            config,
            address: BOT.parse().expect("an address"),
            verdict: None,
            asked: None,
            output: place.path().join("pack"),
            capture: None,
            logs: None,
            json: false,
        };
        Self {
            place,
            options,
            _scene: scene,
        }
    }

    fn run(&self) -> String {
        run(&self.options).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn failure(&self) -> String {
        let failure = run(&self.options).expect_err("no evidence").to_string();
        let left: Vec<_> = fs::read_dir(self.place.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| !name.to_string_lossy().starts_with("smtpflow.db"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        failure
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.options.output.join(name)).expect(name)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.read(JSON)).expect("JSON")
    }
}

#[test]
fn it_has_the_verdict_the_hours_the_pairs_and_what_is_missing() {
    let desk = Desk::new();
    let said = desk.run();
    assert!(said.contains("sha256sum --check SHA256SUMS"), "{said}");
    let pack = desk.json();
    let host = &pack["host"];
    assert_eq!((&pack["schema"], &host["addr"]), (&1.into(), &BOT.into()));
    let about = pack["about"].as_array().expect("verdicts");
    assert!(!about.is_empty(), "{pack}");
    let verdicts = host["verdicts"].as_array().expect("verdicts");
    for id in about {
        assert!(verdicts.iter().any(|verdict| verdict["id"] == *id), "{id}");
    }
    let hours = host["series"].as_array().expect("hours");
    assert!(!hours.is_empty(), "{host}");
    let sum = |key: &str| -> u64 { hours.iter().filter_map(|hour| hour[key].as_u64()).sum() };
    assert!(hours.iter().all(|hour| hour["tier"] == "hour"), "{host}");
    assert_eq!(host["totals"]["connections"], sum("connections"));
    let pairs = host["pairs"].as_array().expect("pairs");
    let of_pairs: u64 = pairs
        .iter()
        .filter_map(|pair| pair["connections"].as_u64())
        .sum();
    assert_eq!(of_pairs, sum("connections"));
    let missing: BTreeMap<&str, &str> = pack["missing"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| Some((one["part"].as_str()?, one["why"].as_str()?)))
        .collect();
    assert_eq!(
        missing.keys().copied().collect::<Vec<_>>(),
        ["capture", "mail_log", "owner", "relay_test"]
    );
    assert!(missing["relay_test"].contains("relay_test.enabled"));
    let text = desk.read(TEXT);
    assert!(
        text.starts_with(&format!("Evidence about {BOT}\n")),
        "{text}"
    );
    for part in ["UTC hours", "servers that it went to", "what is not here"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn whose_it_is_and_who_has_complained_is_in_it() {
    let mut desk = Desk::new();
    let contacts = desk.place.path().join("smtpflow.db-contacts.csv");
    fs::write(
        &contacts,
        "prefix,name,mail\n192.0.2.0/24,Physics,abuse@physics.example.org\n",
    )
    .expect("written");
    let text = format!("[owner]\norder = [\"contacts\"]\ncontacts = [{contacts:?}]\n");
    desk.options.config.owner = Config::from_toml("c", &text)
        .expect("a configuration")
        .owner;
    let mut told = complaint(BOT, 1_793_793_600_000);
    "a\n\u{202e}b".clone_into(&mut told.reporter);
    let told = told.checked(1_793_800_000_000).expect("a complaint");
    add_complaint(
        &desk.options.config.store.path,
        &told,
        "anna",
        1_793_800_000_000,
    )
    .unwrap_or_else(|error| panic!("{error:?}"));
    desk.run();
    let pack = desk.json();
    assert_eq!(pack["owner"]["contact"]["name"], "Physics", "{pack}");
    assert_eq!(pack["owner"]["findings"][0]["source"], "contacts", "{pack}");
    assert_eq!(pack["complaints"][0]["flagged"], "before", "{pack}");
    assert_eq!(
        (&pack["unlisted_complaints"], &pack["notices"]),
        (&0.into(), &Value::Array(vec![]))
    );
    let text = desk.read(TEXT);
    for part in [
        "whose host it is: Physics",
        "abuse@physics.example.org",
        "smtpflow.db-contacts.csv",
        "complaints about it: 1",
        "a\u{fffd}b",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(!text.contains("what its owner was told"), "{text}");
}

#[test]
fn the_report_of_the_relay_test_is_in_it() {
    let mut desk = Desk::new();
    let settings = &mut desk.options.config.relay_test;
    settings.enabled = true;
    settings.state = desk.place.path().join("smtpflow.db-relay-test");
    let reports = settings.state.join("reports");
    fs::create_dir_all(&reports).expect("a folder");
    let report = serde_json::json!({
        "outcome": "open", "code": 250, "started_at": "2026-11-03T12:00:00.000Z", "detail": "\u{1b}[2J",
        "patterns": [{"name": "plain", "outcome": "open", "code": 250, "mail": "MAIL", "rcpt": "RCPT"}],
        "transcript": [{"at_ms": 3, "who": "server", "text": "220 mx.example"}],
    });
    fs::write(reports.join(format!("{BOT}.json")), report.to_string()).expect("written");
    desk.run();
    let pack = desk.json();
    assert_eq!(pack["relay_test"], report);
    let text = desk.read(TEXT);
    for part in ["220 mx.example", "plain", "2026-11-03T12:00:00"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    // What cannot be read is named, and costs nobody the rest.
    fs::write(reports.join(format!("{BOT}.json")), "{").expect("written");
    desk.options.output = desk.place.path().join("other");
    desk.run();
    let why = desk.json()["missing"][0]["why"].to_string();
    assert!(why.contains("test the host anew"), "{why}");
}

#[test]
fn who_has_no_verdict_has_no_evidence() {
    let mut desk = Desk::new();
    desk.options.verdict = Some(9_999);
    let failure = desk.failure();
    assert!(failure.contains("its verdicts are "), "{failure}");
    desk.options.verdict = None;
    desk.options.address = "192.0.2.200".parse().expect("an address");
    let failure = desk.failure();
    assert!(failure.contains("smtpflow why 192.0.2.200"), "{failure}");
    desk.options.address = BOT.parse().expect("an address");
    desk.options.capture = Some(Packets::File(desk.place.path().join("smtpflow.db")));
    let failure = desk.failure();
    assert!(failure.contains("cannot read"), "{failure}");
}

/// A packet from the IPv4 header on: from and to, ports, flags, options of TCP, content.
fn packet(from: [u8; 4], to: [u8; 4], ports: (u16, u16), flags: u8, content: &[u8]) -> Vec<u8> {
    let length = (40 + content.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend([0, 0, 0, 7, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    packet.extend(content);
    packet
}

/// A capture of Ethernet frames, each longer than its packet, as padding makes it.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (at, packet) in packets.iter().enumerate() {
        let frame = [&[2; 12][..], &[8, 0], packet, b"pad"].concat();
        let length = frame.len() as u32;
        for word in [1_793_700_000 + at as u32, 5, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

#[test]
fn only_headers_of_the_host_are_cut_and_they_count_as_before() {
    let host = [192, 0, 2, 66];
    let server = [203, 0, 113, 1];
    let packets = [
        packet(host, server, (40_000, 25), 0x02, b""),
        packet(server, host, (25, 40_000), 0x12, b""),
        packet(
            host,
            server,
            (40_000, 25),
            0x18,
            b"MAIL FROM:<secret@example.org>\r\n",
        ),
        packet(server, host, (25, 40_000), 0x18, b"250 secret\r\n"),
        // Others, and other ports.
        packet([192, 0, 2, 7], server, (40_000, 25), 0x02, b""),
        packet(host, server, (40_000, 80), 0x18, b"GET /secret"),
    ];
    let place = tempfile::tempdir().expect("a folder");
    let (from, to) = (
        place.path().join("all.pcap"),
        place.path().join("host.pcap"),
    );
    let octets = capture(&packets);
    fs::write(&from, &octets).expect("written");
    let address = IpAddr::from(host).into();
    let cut = |from: &Path| {
        let file = fs::File::create(&to).expect("a file");
        capture::cut(from, address, PORTS, file).unwrap_or_else(|failure| panic!("{failure}"))
    };
    let found = cut(&from);
    assert_eq!((found.read, found.written, found.uncut), (6, 4, 0));
    assert_eq!(found.ended, None);
    let written = fs::read(&to).expect("read");
    assert_eq!(written.len(), 24 + 4 * (16 + 40));
    assert!(!written.windows(6).any(|part| part == b"secret"));
    let before =
        capture::count(&from, address, PORTS).unwrap_or_else(|failure| panic!("{failure}"));
    let after = capture::count(&to, address, PORTS).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(before, after);
    assert_eq!((after.connections, after.answered), (1, 1));
    assert_eq!((after.c2s_packets, after.c2s_bytes), (2, 40 + 72));
    // One that was cut off in the middle of a record.
    fs::write(&from, &octets[..octets.len() - 80]).expect("written");
    let found = cut(&from);
    assert_eq!((found.read, found.written), (5, 4));
    assert!(found.ended.is_some(), "{found:?}");
}
