//! Complaints as they come in, and what they say of verdicts: by the program itself, on the store of an
//! agent that has it open, from mailboxes as mail servers write them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};
use smtp_user::model::period::Period;
use smtp_user::model::person::SMTPFLOW;
use smtp_user::model::verdict::{
    Holding, Rule, Severity, SizeClass, Verdict, VerdictChange, VerdictEvent, VerdictState,
};
use smtp_user::model::{Folded, Tally, Window};
use smtp_user::report::time::Month;
use smtp_user::store::Store;
use xtask::command::{self, Finished, finish};
use xtask::lab::smtpflow_binary;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// The months of the system that smtpflow descends from: hosts that it had flagged before, of those that
/// were reported.
const ANCESTOR: [(u64, u64); 5] = [(12, 16), (15, 22), (6, 8), (7, 8), (7, 9)];

/// The store of an agent that runs, and files beside it.
struct Scene {
    folder: tempfile::TempDir,
    /// The agent's hand on it.
    store: Store,
    verdicts: u64,
}

impl Scene {
    /// In which somebody has sent mail in October 2026 alone: what is told of earlier months is verdicts.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let local: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a prefix")];
        let mut store = Store::open_for(&folder.path().join("smtpflow.db"), local, 1000)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let window = Window {
            epoch: 1,
            started_at: std::time::UNIX_EPOCH + Duration::from_millis(months()[4].start()),
            length: Duration::from_secs(10),
            tally: Tally::default(),
            sources: Vec::new(),
            flows: Vec::new(),
            lines_used: 0,
            flip: Duration::ZERO,
        };
        store.commit(1, &window, &Folded::default());
        std::fs::write(
            folder.path().join("smtpflow.toml"),
            format!(
                "[networks]\nlocal = [\"10.0.0.0/8\"]\n[store]\npath = \"{}\"\n",
                folder.path().join("smtpflow.db").display()
            ),
        )
        .expect("written");
        Self {
            folder,
            store,
            verdicts: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent flags a host.
    fn flag(&mut self, address: &str, at: u64) {
        self.verdicts += 1;
        let (verdict, event) = verdict(self.verdicts, address, at);
        let change = VerdictChange::Opened(verdict, event);
        self.store
            .write_verdicts(&[change])
            .unwrap_or_else(|failure| panic!("{failure}"));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(smtpflow_binary().expect("the program is built"));
        command
            .args(words)
            .arg("--config")
            .arg(self.path("smtpflow.toml"));
        command
    }

    /// What it prints.
    fn printed(&self, words: &[&str]) -> String {
        ends_with(0, &mut self.command(words)).stdout
    }

    fn json(&self, words: &[&str]) -> Value {
        let text = self.printed(&[words, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}\n{text}"))
    }

    /// The error that it ends with.
    fn error(&self, code: i32, words: &[&str]) -> String {
        ends_with(code, &mut self.command(words)).stderr
    }

    fn import(&self, name: &str, text: &str) -> Value {
        std::fs::write(self.path(name), text).expect("written");
        let file = self.path(name).display().to_string();
        self.json(&["complaint", "import", &file, "--who", "anna"])
    }
}

fn ends_with(code: i32, command: &mut Command) -> Finished {
    let finished = finish(command, LIMIT).expect("it ends");
    let line = command::line(command);
    assert_eq!(
        finished.status.code(),
        Some(code),
        "`{line}` wrote:\n{}{}",
        finished.stdout,
        finished.stderr
    );
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// From June to October 2026.
fn months() -> [Month; 5] {
    let last = Month::parse("2026-10").expect("a month");
    std::array::from_fn(|number| last.plus(number as i32 - 4))
}

fn verdict(id: u64, address: &str, at: u64) -> (Verdict, VerdictEvent) {
    let rule = Rule {
        detector: "volume".to_owned(),
        text: "more than 30 connections in the hour".to_owned(),
        severity: Severity::Notice,
        period: Period {
            from: at - HOUR,
            to: at,
        },
        figures: Vec::new(),
        holding: Holding::Holds,
    };
    let verdict = Verdict {
        id,
        subject: format!("{address}/32").parse().expect("a prefix"),
        detector: "volume".to_owned(),
        severity: Severity::Notice,
        size: Some(SizeClass::Large),
        failing: false,
        state: VerdictState::New,
        opened_at: at,
        last_at: at,
        changed_at: at,
        reopened: 0,
        rule,
    };
    let event = VerdictEvent {
        verdict: id,
        at,
        who: SMTPFLOW.to_owned(),
        from: None,
        to: VerdictState::New,
        why: "more than 30 connections in the hour".to_owned(),
    };
    (verdict, event)
}

/// As mail has it (RFC 5322, section 3.3).
fn date(at: u64) -> String {
    let command = ["-u", "-R", "-d", &format!("@{}", at / 1000)].map(str::to_owned);
    let date = ends_with(0, Command::new("date").args(command));
    date.stdout.trim().to_owned()
}

/// A report about a host (RFC 5965) that reached the operator at this time.
fn report(address: &str, at: u64, number: u64) -> String {
    let date = date(at);
    format!(
        "Received: from mx.isp.example (mx.isp.example [198.51.100.25])\r\n\
         \tby mail.example.org with ESMTPS id {number}; {date}\r\n\
         From: Feedback <fbl@isp.example>\r\nTo: abuse@example.org\r\n\
         Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <{number}@isp.example>\r\n\
         Subject: spam from {address}\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSpam.\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\n\
         Feedback-Type: abuse\r\nUser-Agent: Desk/1.0\r\nVersion: 1\r\n\
         Source-IP: {address}\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: Earn money\r\n--b--\r\n"
    )
}

#[test]
fn the_months_of_the_ancestor_come_out_of_its_mailbox() {
    let mut scene = Scene::new();
    let mut mailbox = String::new();
    let mut number = 0;
    for (month, (before, reported)) in ANCESTOR.into_iter().enumerate() {
        for host in 0..reported {
            let address = format!("10.0.{month}.{host}");
            let at = months()[month].start() + 5 * DAY + host * HOUR;
            if host < before {
                scene.flag(&address, at - (host + 1) * HOUR);
            } else if host % 2 == 0 {
                scene.flag(&address, at + HOUR);
            }
            number += 1;
            let report = report(&address, at, number);
            write!(
                mailbox,
                "From fbl@isp.example Tue Nov 24 14:00:00 2026\r\n{report}\r\n"
            )
            .expect("a string");
        }
    }
    // Of two flagged hosts more nobody complains.
    scene.flag("10.9.9.1", months()[4].start() + DAY);
    scene.flag("10.9.9.2", months()[4].start() + DAY);
    let noted = scene.import("abuse.mbox", &mailbox);
    assert_eq!(
        (&noted["added"], &noted["known"]),
        (&json!(63), &json!(0)),
        "{noted}"
    );
    // The next night all of it is read again, with one more.
    let more = report("10.0.4.0", months()[4].start() + 20 * DAY, 64);
    let mailbox = format!("{mailbox}From fbl@isp.example Tue Nov 24 14:00:00 2026\r\n{more}\r\n");
    let noted = scene.import("abuse.mbox", &mailbox);
    assert_eq!(
        (&noted["added"], &noted["known"]),
        (&json!(1), &json!(63)),
        "{noted}"
    );

    let csv = scene.printed(&["report", "--month", "2026-10", "--format", "csv"]);
    let table = |name: &str| -> Vec<Vec<&str>> {
        let lines = csv
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{name},")));
        lines.map(|line| line.split(',').collect()).collect()
    };
    let by_month = table("scorecard_months");
    let column = |name: &str| -> Vec<&str> {
        let place = by_month[0]
            .iter()
            .position(|column| *column == name)
            .expect(name);
        by_month[1..].iter().map(|row| row[place]).collect()
    };
    assert_eq!(
        column("month"),
        ["2026-06", "2026-07", "2026-08", "2026-09", "2026-10", "all"]
    );
    assert_eq!(column("spam"), ["16", "22", "8", "8", "9", "63"]);
    assert_eq!(
        column("recall_percent"),
        ["75.0", "68.2", "75.0", "87.5", "77.8", "74.6"]
    );
    assert_eq!(column("low")[5], "62.7");
    assert_eq!(column("high")[5], "83.7");
    // Seven leads of one to seven hours.
    assert_eq!(column("median_lead")[4], "4h");
    let report = scene.json(&["report", "--month", "2026-10"]);
    let card = &report["scorecard"];
    assert_eq!(card["complaints"], 10);
    assert_eq!(card["mail"]["hosts"], 9);
    assert_eq!(card["all"]["mail"]["recall"]["part"], 47);
    // Seven before and one after, and the two of which nobody complains.
    assert_eq!(card["unconfirmed"]["part"], 2);
    assert_eq!(card["precision"]["whole"], 0);
    let text = scene.printed(&["report", "--month", "2026-10"]);
    has(
        &text,
        &[
            "hosts that were reported, in 10 complaints",
            "77.8",
            "(5.7 to 51.0)",
        ],
    );
    let html = scene.printed(&["report", "--month", "2026-10", "--format", "html"]);
    has(&html, &["<h2 id=\"scorecard_months\">", "</html>"]);
}

#[test]
fn complaints_come_in_as_mail_json_csv_and_by_hand_and_each_once() {
    let mut scene = Scene::new();
    let at = months()[4].start() + DAY;
    scene.flag("10.1.0.66", at - HOUR);
    for name in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(scene.path("Maildir").join(name)).expect("a folder");
    }
    let write = |name: &str, text: &str| {
        std::fs::write(scene.path("Maildir").join(name), text).expect("written");
    };
    write("new/1790000000.M1P1.mx", &report("10.1.0.66", at, 1));
    write("cur/1790000001.M2P1.mx:2,S", &report("198.51.100.9", at, 2));
    write(
        "cur/1790000002.M3P1.mx:2,S",
        "Subject: Cheap watches\r\n\r\nBuy!\r\n",
    );
    let maildir = scene.path("Maildir").display().to_string();
    let import: &[&str] = &["complaint", "import", &maildir, "--who", "anna"];
    let noted = scene.json(import);
    assert_eq!(
        (&noted["added"], &noted["refused"]),
        (&json!(1), &json!(2)),
        "{noted}"
    );
    let text = scene.printed(import);
    has(
        &text,
        &[
            "noted 0 complaints; known already: 1; refused: 2",
            "198.51.100.9 is none of your hosts (networks.local)",
            "1790000002.M3P1.mx:2,S: there is no report in it (ARF or XARF)",
        ],
    );

    let xarf = json!({
        "xarf_version": "4.2.0", "report_id": "9ac39cd1-85f3-4c31-ae87-a0a95f3ebc83",
        "timestamp": "2026-10-02T09:21:23Z",
        "reporter": {"org": "M", "contact": "r@monitor.example", "domain": "monitor.example"},
        "sender": {"org": "M", "contact": "r@monitor.example", "domain": "monitor.example"},
        "source_identifier": "10.1.0.67", "category": "connection", "type": "ddos",
        "protocol": "tcp", "attack_vector": "syn_flood", "first_seen": "2026-10-02T09:00:00Z"
    });
    let noted = scene.import("report.json", &xarf.to_string());
    assert_eq!(noted["added"], 1, "{noted}");
    let noted = scene.import(
        "tickets.csv",
        "address,time,kind,reporter,reference\n\
         10.1.0.68,2026-10-03,infringement,label.example,T-1\n10.1.0.69,2026-10-33,spam,x,y\n",
    );
    assert_eq!(
        (&noted["added"], &noted["refused"]),
        (&json!(1), &json!(1)),
        "{noted}"
    );
    has(
        &noted["refusals"][0].to_string(),
        &["tickets.csv, line 3", "no time"],
    );

    // From a filter of the mail server, on standard input.
    let mut command = scene.command(&["complaint", "import", "-", "--who", "anna"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(report("10.1.0.70", at, 3).as_bytes())
        .expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    has(
        &String::from_utf8_lossy(&output.stdout),
        &["noted 1 complaint;"],
    );

    let by_hand: &[&str] = &[
        "complaint",
        "add",
        "10.1.0.66",
        "--reporter",
        "Frau Maier, by phone",
        "--time",
        "2026-10-04",
        "--who",
        "bob",
    ];
    has(
        &scene.printed(by_hand),
        &["about 10.1.0.66 (spam) is noted", "was flagged: before"],
    );
    has(
        &scene.error(2, by_hand),
        &["noted already, as", "by bob", "--reference"],
    );
    let foreign = [
        "complaint",
        "add",
        "203.0.113.1",
        "--reporter",
        "x",
        "--who",
        "bob",
    ];
    has(&scene.error(2, &foreign), &["none of your hosts"]);

    let list = scene.json(&["complaint", "list"]);
    assert_eq!(list["total"], 5, "{list}");
    let rows = list["complaints"].as_array().expect("a list");
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            [&row["addr"], &row["kind"], &row["form"], &row["flagged"]]
                .map(|v| v.as_str().expect("a text"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ["10.1.0.66", "spam", "hand", "before"],
            ["10.1.0.68", "infringement", "csv", "never"],
            ["10.1.0.67", "syn_flood", "xarf", "never"],
            ["10.1.0.70", "spam", "arf", "never"],
            ["10.1.0.66", "spam", "arf", "before"],
        ]
    );
    let one = scene.json(&[
        "complaint",
        "list",
        "--host",
        "10.1.0.66",
        "--from",
        "2026-10-03",
    ]);
    assert_eq!(one["total"], 1);

    // One was wrong: it is out of the score, and stays in the list of all.
    let id = rows[2]["id"].to_string();
    let withdraw: &[&str] = &[
        "complaint",
        "withdraw",
        &id,
        "--why",
        "spoofed",
        "--who",
        "anna",
    ];
    has(
        &scene.printed(withdraw),
        &["complaint", "about 10.1.0.67 is withdrawn"],
    );
    has(
        &scene.error(2, withdraw),
        &["withdrawn already, by anna: spoofed"],
    );
    assert_eq!(scene.json(&["complaint", "list"])["total"], 4);
    has(
        &scene.printed(&["complaint", "list", "--all"]),
        &["by anna: spoofed"],
    );
    assert_eq!(scene.import("report.json", &xarf.to_string())["known"], 1);
    let report = scene.json(&["report", "--month", "2026-10"]);
    assert_eq!(report["scorecard"]["complaints"], 4);
    assert_eq!(report["scorecard"]["kinds"][1]["hosts"], 0);
}

#[test]
fn what_cannot_be_read_is_an_error_with_the_way_out_and_notes_nothing() {
    let scene = Scene::new();
    let import = |code: i32, name: &str, text: Option<&[u8]>| -> String {
        if let Some(text) = text {
            std::fs::write(scene.path(name), text).expect("written");
        }
        let file = scene.path(name).display().to_string();
        scene.error(code, &["complaint", "import", &file, "--who", "anna"])
    };
    has(&import(1, "nowhere", None), &["nowhere", "No such file"]);
    has(
        &import(1, "zip", Some(b"PK\x03\x04")),
        &["no mail, no mbox, no XARF and no CSV"],
    );
    has(
        &import(1, "names.csv", Some(b"address,time\n")),
        &["no field kind"],
    );
    has(
        &import(
            1,
            "spam.eml",
            Some(b"Subject: \x1b[2Jwatches\r\n\r\nBuy!\r\n"),
        ),
        &[
            "nothing that was read is a complaint (refused: 1)",
            "no report in it",
        ],
    );
    let nested = b"Content-Type: message/rfc822\n\n".repeat(1 << 16);
    has(
        &import(1, "nested.eml", Some(&nested)),
        &["no report in it"],
    );
    std::fs::create_dir(scene.path("folder")).expect("a folder");
    has(&import(2, "folder", None), &["no maildir"]);
    assert_eq!(scene.json(&["complaint", "list"])["total"], 0);
}
