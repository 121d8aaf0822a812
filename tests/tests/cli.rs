//! The program as people and scripts meet it: what it says when something is wrong, and with which
//! exit code it ends. An error is one line, it begins with `smtpflow: `, and it names the object,
//! the cause and the way out.

use std::io::pipe;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_user::link;
use smtpflow_tests::foreign;
use xtask::command::{self, Finished, finish};
use xtask::lab::{Lab, ensure_bpffs, smtpflow_binary};

const LIMIT: Duration = Duration::from_secs(60);
/// The user `nobody`, who owns nothing.
const NOBODY: u32 = 65534;

/// `smtpflow` with these words.
fn smtpflow(words: &[&str]) -> Command {
    let mut command = Command::new(smtpflow_binary().expect("the program is built"));
    command.args(words);
    command
}

/// Runs it to its end and checks the exit code.
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

/// The error that it ends with: one line, after what it logged before.
fn error(code: i32, command: &mut Command) -> String {
    let stderr = ends_with(code, command).stderr;
    let mut errors = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("smtpflow: "));
    let error = errors
        .next()
        .unwrap_or_else(|| panic!("no error in:\n{stderr}"));
    assert_eq!(errors.next(), None, "told twice:\n{stderr}");
    error.to_owned()
}

/// Whether the error has all these parts.
fn names(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

/// A laboratory with two namespaces and a link between them, `eth0` to `eth0`.
fn two_ends(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["near", "far"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("near", "eth0"), ("far", "eth0"), None)
        .expect("a link");
    lab
}

/// Pins of this laboratory's own.
fn pins(lab: &Lab) -> PathBuf {
    let pins = Path::new("/sys/fs/bpf").join(format!("smtpflow-{}", lab.ns("pins")));
    lab.record_pins(&pins).expect("written down");
    pins
}

/// `smtpflow run` in the namespace `near` of a laboratory, on a free port, with further words.
fn run_in(lab: &Lab, words: &[&str]) -> Command {
    let mut command = smtpflow(&["run", "--listen", "127.0.0.1:0", "--netns", &lab.ns("near")]);
    command.arg("--pins").arg(pins(lab)).args(words);
    command
        .arg("--store")
        .arg(lab.folder().join("store/smtpflow.db"));
    command
}

/// A file that does not outlive the test.
fn file(name: &str, contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, contents).expect("written");
    (folder, path)
}

/// A copy of the program that anybody can run, as whoever may not look into the build's folder.
fn program_for_nobody() -> (tempfile::TempDir, PathBuf) {
    let program = smtpflow_binary().expect("the program is built");
    let (folder, path) = file("smtpflow", b"");
    std::fs::copy(program, &path).expect("copied");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode set");
    (folder, path)
}

#[test]
fn a_missing_interface_is_told_with_those_that_exist() {
    let lab = two_ends("tclimissing");
    let error = error(1, &mut run_in(&lab, &["--interface", "eth7"]));
    names(&error, &["eth7: no such interface", "(have: lo, ", "eth0"]);
    assert!(!pins(&lab).exists(), "pins are left behind");
}

#[test]
fn a_missing_namespace_is_told_with_those_that_exist() {
    let lab = two_ends("tclinetns");
    let mut command = smtpflow(&["run", "--interface", "eth0", "--listen", "127.0.0.1:0"]);
    command
        .args(["--no-store", "--netns", "surely-not-there", "--pins"])
        .arg(pins(&lab));
    let error = error(1, &mut command);
    names(
        &error,
        &["surely-not-there", &lab.ns("near"), &lab.ns("far")],
    );
}

#[test]
fn nobody_may_not_count_and_is_told_what_is_missing() {
    let (_folder, program) = program_for_nobody();
    let mut command = Command::new(program);
    command
        .args(["run", "--interface", "lo", "--listen", "127.0.0.1:0"])
        .arg("--no-store")
        .uid(NOBODY)
        .gid(NOBODY);
    let error = error(77, &mut command);
    names(&error, &["CAP_BPF", "CAP_NET_ADMIN", "root"]);
}

#[test]
fn a_foreign_program_is_named_and_left_alone() {
    let lab = two_ends("tcliforeign");
    let object = foreign::object(lab.folder());
    let object = object.display();
    lab.ip(
        "near",
        &format!("link set dev eth0 xdpgeneric object {object} section xdp"),
    )
    .expect("a foreign program");
    let attached = || {
        let links = link::links_in(Some(&lab.ns("near"))).expect("the links");
        let eth0 = link::find(&links, "eth0", "look at").expect("eth0");
        eth0.xdp.clone().expect("a program")
    };
    let foreign = attached();

    let id = foreign.program_id.to_string();
    for mode in ["auto", "driver", "skb"] {
        let error = error(
            69,
            &mut run_in(&lab, &["--interface", "eth0", "--mode", mode]),
        );
        names(&error, &["eth0", &id, "foreign", "skb"]);
    }
    assert_eq!(attached(), foreign, "it is not there as it was");

    let mut doctor = smtpflow(&["doctor", "--interface", "eth0", "--netns", &lab.ns("near")]);
    let report = ends_with(1, &mut doctor).stdout;
    names(
        &report,
        &["fails    interface eth0", &id, "refuses to replace"],
    );
}

#[test]
fn a_port_in_use_is_told_with_the_way_out() {
    let lab = two_ends("tcliport");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = smtpflow(&["run", "--interface", "eth0", "--netns", &lab.ns("near")]);
    command
        .args(["--no-store", "--listen", &address, "--pins"])
        .arg(pins(&lab));
    let error = error(69, &mut command);
    names(&error, &[&address, "in use", "--listen"]);
}

#[test]
fn a_broken_configuration_is_told_with_line_and_column() {
    let (_folder, path) = file("smtpflow.toml", b"[meter]\nwindw = \"10s\"\n");
    let shown = path.display().to_string();
    let at = format!("{shown}:2:1: unknown field `windw`");
    names(
        &error(78, &mut smtpflow(&["config", "check", &shown])),
        &[&at, "`window`"],
    );
    names(
        &error(78, &mut smtpflow(&["run", "--config", &shown])),
        &[&at],
    );
    names(
        &error(78, &mut smtpflow(&["doctor", "--config", &shown])),
        &[&at],
    );
    let missing = error(78, &mut smtpflow(&["config", "check", "/nonexistent.toml"]));
    names(&missing, &["/nonexistent.toml", "config print"]);
}

#[test]
fn a_printed_configuration_is_a_good_one() {
    let printed = ends_with(0, &mut smtpflow(&["config", "print"])).stdout;
    let (_folder, path) = file("smtpflow.toml", printed.as_bytes());
    let shown = path.display().to_string();
    ends_with(0, &mut smtpflow(&["config", "check", &shown]));
    let again = ends_with(0, &mut smtpflow(&["config", "print", "--config", &shown])).stdout;
    assert_eq!(again, printed);
}

#[test]
fn a_public_address_needs_a_token_that_others_cannot_read() {
    let run = ["run", "--interface", "lo", "--listen", "0.0.0.0:0"];
    let refused = error(78, &mut smtpflow(&run));
    names(&refused, &["0.0.0.0:0", "token", "serve.token_file"]);

    let (_folder, token) = file("token", b"0123456789abcdef0123456789abcdef");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("mode set");
    let token = token.display().to_string();
    let text = format!("[serve]\ntoken_file = \"{token}\"\n");
    let (_folder, config) = file("smtpflow.toml", text.as_bytes());
    let config = config.display().to_string();
    let refused = error(78, smtpflow(&run).args(["--config", &config]));
    names(&refused, &[&token, "0644", "chmod 600"]);
    assert!(!refused.contains("0123456789abcdef"), "{refused}");
}

#[test]
fn mistakes_of_usage_end_with_2() {
    for (words, expected) in [
        (&["run", "--interfaces", "eth0"][..], "--interface"),
        (&["run", "--window", "0s"], "expected 1s to 10m"),
        (&["reply"], "replay"),
        (&[], "Usage: smtpflow"),
    ] {
        let stderr = ends_with(2, &mut smtpflow(words)).stderr;
        assert!(stderr.contains(expected), "{words:?}: {stderr}");
    }
    let nowhere = error(2, &mut smtpflow(&["run"]));
    names(&nowhere, &["--interface", "have: "]);
}

#[test]
fn a_broken_capture_is_told_with_its_name() {
    let (_folder, garbage) = file("garbage.pcap", b"this is no capture at all, but a sentence");
    let garbage = garbage.display().to_string();
    names(&error(1, &mut smtpflow(&["replay", &garbage])), &[&garbage]);
    let missing = error(1, &mut smtpflow(&["replay", "/nonexistent.pcap"]));
    names(&missing, &["/nonexistent.pcap"]);

    // What was read before the break is reported.
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/smtp.pcap");
    let bytes = std::fs::read(whole).expect("a capture");
    let (_folder, cut) = file("cut.pcap", &bytes[..bytes.len() - 7]);
    let cut = cut.display().to_string();
    let finished = ends_with(1, &mut smtpflow(&["replay", "--json", &cut]));
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(report["complete"], false);
    assert!(report["frames"].as_u64().expect("a number") > 0, "{report}");
    names(&finished.stderr, &["smtpflow: ", &cut]);
}

#[test]
fn limits_are_tried_on_a_capture_that_is_shorter_than_an_hour() {
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/data/smtp-many-addresses.pcap");
    let finished = ends_with(
        0,
        &mut smtpflow(&["tune", "--pcap", capture, "--threshold", "0", "--json"]),
    );
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let over = &report["limits"][0];
    assert_eq!(over["above"], 0, "{report}");
    let hosts = over["hosts"].as_u64().expect("a number");
    assert!(hosts > 0, "{report}");

    let replayed = ends_with(0, &mut smtpflow(&["replay", capture, "--json"]));
    let replayed: Value = serde_json::from_str(&replayed.stdout).expect("JSON");
    let opened = replayed["sources"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|source| source["connections"] != 0)
        .count();
    assert_eq!(hosts, opened as u64);
}

#[test]
fn a_reader_who_has_had_enough_is_no_error() {
    for words in [&["config", "print"][..], &["doctor", "--json"], &["--help"]] {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        // Not `finish`, which reads to the end.
        let output = smtpflow(words)
            .stdout(writer)
            .output()
            .expect("it ends by itself");
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{words:?}: {output:?}"
        );
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{words:?}: {stderr}");
        assert!(!stderr.contains("smtpflow: "), "{words:?}: {stderr}");
    }
}

#[test]
fn the_doctor_is_content_with_a_good_machine_and_names_what_nobody_lacks() {
    let lab = two_ends("tclidoctor");
    let netns = lab.ns("near");
    // The usual port may be somebody's.
    let (_folder, config) = file("smtpflow.toml", b"[serve]\nlisten = \"127.0.0.1:0\"\n");
    let config = config.display().to_string();
    let words = [
        "doctor",
        "--interface",
        "eth0",
        "--netns",
        &netns,
        "--config",
        &config,
    ];
    let report = ends_with(0, &mut smtpflow(&words)).stdout;
    names(
        &report,
        &[
            "ok       interface eth0: veth",
            "ok       kernel: ",
            "ok       bpffs: ",
        ],
    );
    let json = ends_with(0, smtpflow(&words).arg("--json")).stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["works"], true);

    let report = ends_with(1, &mut smtpflow(&["doctor", "--interface", "eth7"])).stdout;
    names(
        &report,
        &["fails    interface eth7: no such interface (have: lo"],
    );

    let (_folder, program) = program_for_nobody();
    let mut command = Command::new(program);
    let report = ends_with(1, command.arg("doctor").uid(NOBODY).gid(NOBODY)).stdout;
    names(
        &report,
        &["fails    capabilities: ", "CAP_BPF", "ok       kernel: "],
    );
}

#[test]
fn what_stays_attached_is_detached_by_its_own_command() {
    let lab = two_ends("tclidetach");
    let pins = pins(&lab);
    let is_attached = || {
        let links = link::links_in(Some(&lab.ns("near"))).expect("the links");
        let eth0 = link::find(&links, "eth0", "look at").expect("eth0");
        eth0.xdp.is_some()
    };
    let mut detach = smtpflow(&["detach", "--pins"]);
    detach.arg(&pins);
    let nothing = ends_with(0, &mut detach).stdout;
    assert_eq!(nothing, "nothing is attached\n");

    let mut run = run_in(&lab, &["--interface", "eth0", "--keep-attached"]);
    let mut agent = lab.start(&mut run, "smtpflow").expect("it starts");
    assert!(
        command::poll_until(LIMIT, || is_attached() || !agent.is_running()),
        "{}",
        agent.log_text()
    );
    // The signal handlers are there before anything is attached.
    let status = agent.stop(Signal::SIGTERM, LIMIT).expect("it obeys");
    assert!(status.success(), "{status}: {}", agent.log_text());
    assert!(is_attached(), "{}", agent.log_text());

    let mut other = smtpflow(&["detach", "--interface", "eth7", "--pins"]);
    names(
        &error(1, other.arg(&pins)),
        &["eth7", &pins.display().to_string()],
    );
    assert!(is_attached());
    let detached = ends_with(0, &mut detach).stdout;
    assert_eq!(detached, "detached from eth0\n");
    assert!(!is_attached());
    assert!(!pins.exists(), "pins are left behind");
}

/// The findings about `eth0` in a report of the doctor's, a line each: outcome and text.
fn findings(report: &str) -> String {
    let report: Value = serde_json::from_str(report).expect("JSON");
    let findings = report["findings"].as_array().expect("an array").iter();
    findings
        .filter(|finding| finding["check"] == "interface eth0")
        .map(|finding| format!("{} {}\n", finding["outcome"], finding["text"]))
        .collect()
}

/// The same of `near`, as smtpflow with these pins and this mode would meet it.
fn findings_in_near(code: i32, lab: &Lab, pins: &Path, mode: &str) -> String {
    let pins = pins.display();
    let text = format!(
        "[meter]\nmode = \"{mode}\"\npins = \"{pins}\"\n[serve]\nlisten = \"127.0.0.1:0\"\n"
    );
    let (_folder, config) = file("smtpflow.toml", text.as_bytes());
    let mut doctor = smtpflow(&["doctor", "--json", "--interface", "eth0", "--netns"]);
    doctor.arg(lab.ns("near")).arg("--config").arg(config);
    findings(&ends_with(code, &mut doctor).stdout)
}

#[test]
fn the_doctor_tells_its_own_program_from_that_of_another_smtpflow() {
    let lab = two_ends("tclidocown");
    let pins = pins(&lab);
    let mut run = run_in(&lab, &["--interface", "eth0", "--keep-attached"]);
    let mut agent = lab.start(&mut run, "smtpflow").expect("it starts");
    let own = "smtpflow counts there already (mode driver";
    let seen = || findings_in_near(0, &lab, &pins, "auto").contains(own);
    let seen = command::poll_until(LIMIT, || !agent.is_running() || seen());
    assert!(seen && agent.is_running(), "{}", agent.log_text());
    let status = agent.stop(Signal::SIGTERM, LIMIT).expect("it obeys");
    assert!(status.success(), "{status}: {}", agent.log_text());
    names(&findings_in_near(0, &lab, &pins, "auto"), &[own]);

    let others = pins.with_file_name("smtpflow-tclidocown-others");
    let foreign = findings_in_near(1, &lab, &others, "auto");
    names(&foreign, &["\"fails\" ", "smtpflow never replaces one"]);

    // Who may not look into the pins is told that, and no guess.
    let (_folder, program) = program_for_nobody();
    let text = format!("[meter]\npins = \"{}\"\n", pins.display());
    let (_folder_too, config) = file("smtpflow.toml", text.as_bytes());
    let mut doctor = Command::new(program);
    doctor.args(["doctor", "--json", "--interface", "eth0", "--config"]);
    doctor.arg(config).uid(NOBODY).gid(NOBODY);
    let report = lab.within("near", || ends_with(1, &mut doctor).stdout);
    let unknown = findings(&report.expect("within"));
    names(&unknown, &["\"warning\" ", "closed to this user"]);
    assert!(!unknown.contains("\"fails\""), "{unknown}");

    ends_with(0, smtpflow(&["detach", "--pins"]).arg(&pins));
}

#[test]
fn the_doctor_warns_of_what_merges_frames_before_they_are_counted() {
    let lab = two_ends("tclidocgro");
    let pins = pins(&lab);
    // The other end has another state, as may an eth0 of the namespace that the test runs in.
    for (near, far, skb, driver) in [
        ("on", "off", "leaves it out", "after they are counted"),
        (
            "off",
            "on",
            "nothing merges frames",
            "nothing merges frames",
        ),
    ] {
        for (name, gro) in [("near", near), ("far", far)] {
            lab.run(name, "ethtool", &["-K", "eth0", "gro", gro], LIMIT)
                .expect("ethtool obeys");
        }
        // A veth hands over what the other end sends, and TSO there cannot be seen from here.
        let found = findings_in_near(0, &lab, &pins, "skb");
        names(&found, &["\"warning\" ", "frames arrive merged", skb]);
        let found = findings_in_near(0, &lab, &pins, "driver");
        names(&found, &[driver]);
        assert!(!found.contains("\"warning\""), "{found}");
    }
    for name in ["near", "far"] {
        lab.ip(name, "link set dev eth0 mtu 9000").expect("jumbo");
    }
    let found = findings_in_near(0, &lab, &pins, "auto");
    names(&found, &["MTU 9000 needs frames in several buffers"]);
}
