//! What is handed out: the Debian package, the static program, the kernel program, the bill of materials.
//! Installation under a real systemd is the virtual gateway's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::command::{finish, output};
use xtask::lab::{AgentOptions, Lab, smtpflow_binary};

const QUICK: Duration = Duration::from_secs(120);
/// The first build of a tool or of another kind of program takes minutes.
const BUILD: Duration = Duration::from_secs(14 * 60);
/// The most that `systemd-analyze security` may say, in tenths.
const EXPOSURE: &str = "20";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn run(program: &str, words: &[&str]) -> String {
    output(Command::new(program).args(words), QUICK).unwrap_or_else(|error| panic!("{error:#}"))
}

/// `cargo xtask` with these words.
fn xtask(words: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).arg("xtask").args(words);
    output(&mut command, BUILD).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The path that a task has printed last.
fn made(words: &[&str]) -> PathBuf {
    let text = xtask(words);
    PathBuf::from(text.lines().last().expect("a path"))
}

fn smtpflow() -> String {
    let binary = smtpflow_binary().expect("the program is built");
    binary.display().to_string()
}

#[test]
fn the_debian_package_is_a_good_one() {
    let package = made(&["deb", "--dev"]).display().to_string();
    run("lintian", &["--allow-root", "--fail-on", "error", &package]);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path).display().to_string();
    run("dpkg-deb", &["--raw-extract", &package, &at("")]);

    let conffiles = fs::read_to_string(at("DEBIAN/conffiles")).expect("conffiles");
    assert_eq!(conffiles, "/etc/smtpflow/config.toml\n");
    for path in [
        "usr/bin/smtpflow",
        "usr/lib/systemd/system/smtpflow.service",
        "usr/lib/systemd/system/smtpflow-attach@.service",
        "usr/lib/systemd/system/smtpflow-notice.service",
        "usr/lib/sysusers.d/smtpflow.conf",
        "usr/lib/tmpfiles.d/smtpflow.conf",
        "usr/share/man/man1/smtpflow.1.gz",
        "usr/share/man/man5/smtpflow.toml.5.gz",
        "usr/share/man/man8/smtpflow-run.8.gz",
        "usr/share/bash-completion/completions/smtpflow",
        "usr/share/zsh/vendor-completions/_smtpflow",
        "usr/share/fish/vendor_completions.d/smtpflow.fish",
        "usr/share/doc/smtpflow/changelog.Debian.gz",
        "usr/share/doc/smtpflow/copyright",
        "usr/share/doc/smtpflow/sbom.cdx.json.gz",
        "usr/share/doc/smtpflow/upgrade.md",
        "usr/share/doc/smtpflow/examples/rules.yml",
        "usr/share/doc/smtpflow/examples/prometheus.yml",
        "usr/share/doc/smtpflow/examples/grafana-dashboard.json",
        "usr/share/doc/smtpflow/examples/nginx.conf",
        "usr/share/doc/smtpflow/examples/alertmanager.yml",
    ] {
        assert!(Path::new(&at(path)).is_file(), "the package has no {path}");
    }
    for script in ["postinst", "prerm", "postrm"] {
        run("sh", &["-n", &at(&format!("DEBIAN/{script}"))]);
        let text = fs::read_to_string(at(&format!("DEBIAN/{script}"))).expect("a script");
        assert!(!text.contains("#DEBHELPER#"), "{script}:\n{text}");
    }
    // Of an upgrade nothing stops or detaches; of a removal both, in this order.
    let prerm = fs::read_to_string(at("DEBIAN/prerm")).expect("prerm");
    let stop = prerm.find("deb-systemd-invoke stop").expect("a stop");
    assert!(
        prerm.find("smtpflow detach").expect("a detach") > stop,
        "{prerm}"
    );
    for (what, line) in [
        (
            "the stop",
            "[ \"$1\" = remove ]; then\n\tdeb-systemd-invoke stop",
        ),
        ("the detach", "[ \"$1\" = remove ] && "),
    ] {
        assert!(
            prerm.contains(line),
            "{what} is not of a removal alone:\n{prerm}"
        );
    }

    // The user and the folder are such as systemd takes.
    run(
        "systemd-sysusers",
        &["--dry-run", &at("usr/lib/sysusers.d/smtpflow.conf")],
    );
    run(
        "amtool",
        &[
            "check-config",
            &at("usr/share/doc/smtpflow/examples/alertmanager.yml"),
        ],
    );
    // The shipped configuration is good.
    let config = at("etc/smtpflow/config.toml");
    run(&smtpflow(), &["config", "check", &config]);
    let version = run("dpkg-deb", &["--field", &package, "Version"]);
    let packaged = run(&at("usr/bin/smtpflow"), &["--version"]);
    let number = packaged
        .trim()
        .strip_prefix("smtpflow ")
        .expect("a version");
    assert_eq!(version.trim().split('-').next(), Some(number));

    // The same sources make the same package.
    let sum = |path: &str| run("sha256sum", &[path])[..64].to_owned();
    let before = sum(&package);
    let again = made(&["deb", "--dev"]).display().to_string();
    assert_eq!(sum(&again), before, "another package of the same sources");
}

#[test]
fn the_units_are_good_and_expose_little() {
    // The template by the name of one of its units.
    for (file, name) in [
        ("smtpflow.service", "smtpflow.service"),
        ("smtpflow-attach@.service", "smtpflow-attach@lan.service"),
        ("smtpflow-notice.service", "smtpflow-notice.service"),
    ] {
        is_good_and_exposes_little(file, name);
    }
}

fn is_good_and_exposes_little(file: &str, name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(root().join("packaging/debian").join(file)).expect("a unit");
    let path = folder.path().join(name);
    // It looks for the program.
    fs::write(&path, unit.replace("/usr/bin/smtpflow", &smtpflow())).expect("written");
    let path = path.display().to_string();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no", &path]);
    let finished = finish(&mut verify, QUICK).expect("it ends");
    assert!(
        finished.status.success() && finished.stderr.is_empty(),
        "{}",
        finished.stderr
    );
    let threshold = format!("--threshold={EXPOSURE}");
    let said = run(
        "systemd-analyze",
        &[
            "security",
            "--offline=true",
            "--no-pager",
            &threshold,
            &path,
        ],
    );
    println!("{}", said.lines().last().expect("a verdict"));
    // It refuses what is worse, or the threshold would say nothing.
    let worse: String = unit
        .replace("/usr/bin/smtpflow", &smtpflow())
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("SystemCallFilter=") && !line.starts_with("Protect"))
        .collect();
    fs::write(&path, worse).expect("written");
    let mut worse = Command::new("systemd-analyze");
    worse.args([
        "security",
        "--offline=true",
        "--no-pager",
        &threshold,
        &path,
    ]);
    assert!(!finish(&mut worse, QUICK).expect("it ends").status.success());
}

/// The system calls that a filter of the unit lets through, as systemd expands its sets.
fn allowed_calls() -> BTreeSet<String> {
    let unit =
        fs::read_to_string(root().join("packaging/debian/smtpflow.service")).expect("a unit");
    let mut allowed = BTreeSet::new();
    for line in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let (taken, names) = match line.strip_prefix('~') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        for name in names.split_whitespace() {
            for call in expand(name) {
                match taken {
                    true => allowed.remove(&call),
                    false => allowed.insert(call),
                };
            }
        }
    }
    // What systemd lets through in any case.
    allowed.extend(expand("@default"));
    allowed
}

fn expand(name: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let text = run("systemd-analyze", &["syscall-filter", "--no-pager", name]);
    let words = text.lines().skip(1).map(str::trim);
    let words = words.filter(|word| !word.is_empty() && !word.starts_with('#'));
    words.flat_map(expand).collect()
}

#[test]
fn the_unit_lets_through_what_the_agent_calls() {
    let lab = Lab::new("pkgsc").expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    let calls = lab.folder().join("calls");
    let mut options = AgentOptions::new(&lab).expect("options");
    let binary = std::mem::replace(&mut options.binary, PathBuf::from("strace"));
    options.interfaces = vec!["outer".to_owned()];
    options.window = "1s".to_owned();
    // The tracer stands aside, so that signals reach the agent.
    let wrapper = lab.folder().join("traced");
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -qq -o {} -e trace=all {} \"$@\"\n",
        calls.display(),
        binary.display()
    );
    fs::write(&wrapper, script).expect("written");
    run("chmod", &["755", &wrapper.display().to_string()]);
    options.binary = wrapper;
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(QUICK).expect("ready");
    agent.wait_drained(QUICK).expect("drains");
    agent.json("/api/v1/sources").expect("an answer");
    agent.get("/").expect("a page");
    agent
        .process()
        .stop(Signal::SIGTERM, QUICK)
        .expect("it ends");

    let text = fs::read_to_string(&calls).expect("the calls");
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        // "PID name(arguments", "PID <... name resumed>", "PID +++ exited".
        let Some((_, call)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let Some((name, _)) = call.trim_start().split_once('(') else {
            continue;
        };
        if name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            *seen.entry(name).or_default() += 1;
        }
    }
    assert!(seen.contains_key("bpf") && seen.len() > 40, "{seen:?}");
    let allowed = allowed_calls();
    // To enter the namespace of the laboratory, which the unit's comment speaks of.
    let refused: Vec<_> = seen
        .keys()
        .filter(|name| **name != "setns" && !allowed.contains(**name))
        .collect();
    println!("{} kinds of calls", seen.len());
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}

#[test]
fn the_pages_of_the_manual_and_the_completions_are_read_without_complaint() {
    let folder = tempfile::tempdir().expect("a folder");
    for page in ["smtpflow.1", "smtpflow.toml.5", "smtpflow-run.8"] {
        let path = folder.path().join(page).display().to_string();
        fs::write(&path, run(&smtpflow(), &["man", page])).expect("written");
        let mut man = Command::new("man");
        man.args([
            "--warnings",
            "--encoding=UTF-8",
            "--local-file",
            "--troff-device=utf8",
            "--ditroff",
            &path,
        ]);
        man.envs([("LC_ALL", "C.UTF-8"), ("MANWIDTH", "80")]);
        let finished = finish(&mut man, QUICK).expect("it ends");
        assert!(
            finished.status.success() && finished.stderr.is_empty(),
            "{page}: {}",
            finished.stderr
        );
        run("mandoc", &["-T", "lint", "-W", "warning", &path]);
    }
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let path = folder.path().join(shell).display().to_string();
        fs::write(&path, run(&smtpflow(), &["completions", shell])).expect("written");
        run(shell, &[check, &path]);
    }
    // What bash offers, as it would.
    let bash = folder.path().join("bash").display().to_string();
    let offer = format!(
        "source {bash}; COMP_WORDS=(smtpflow compl); COMP_CWORD=1; _smtpflow smtpflow compl smtpflow; \
         echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(run("bash", &["-c", &offer]).trim(), "complaint completions");
}

#[test]
fn the_kernel_program_is_the_same_to_the_byte_when_it_is_built_again() {
    let folder = tempfile::tempdir().expect("a folder");
    xtask(&["ebpf", &folder.path().display().to_string()]);
    let again = fs::read(folder.path().join("smtpflow-xdp")).expect("the object");
    let built_in = Path::new(env!("SMTPFLOW_OBJECTS")).join("smtpflow-xdp");
    let built_in = fs::read(built_in).expect("the object of the agent");
    assert!(
        again == built_in,
        "{} and {} bytes differ",
        again.len(),
        built_in.len()
    );
    println!("{} bytes, twice the same", again.len());
}

#[test]
fn the_static_program_needs_no_library() {
    let program = made(&["static", "--dev"]).display().to_string();
    let interpreter = run("readelf", &["--program-headers", &program]);
    assert!(!interpreter.contains("INTERP"), "{interpreter}");
    // In a folder with nothing else, a capture gives what it should.
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().display().to_string();
    fs::copy(&program, folder.path().join("smtpflow")).expect("copied");
    fs::copy(
        smtpflow_tests::data("smtp.pcap"),
        folder.path().join("c.pcap"),
    )
    .expect("copied");
    let text = run("chroot", &[&at, "/smtpflow", "replay", "--json", "/c.pcap"]);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        answer["totals"]["c2s_packets"]
            .as_u64()
            .map(|count| count > 0),
        Some(true),
        "{answer}"
    );
}

#[test]
fn the_bill_of_materials_has_what_cargo_links() {
    let bill: Value = serde_json::from_str(&xtask(&["sbom"])).expect("JSON");
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"]),
        (&"CycloneDX".into(), &"1.5".into())
    );
    let listed: BTreeSet<String> = bill["components"]
        .as_array()
        .expect("components")
        .iter()
        .map(|one| {
            format!(
                "{} {}",
                one["name"].as_str().expect("a name"),
                one["version"].as_str().expect("a version")
            )
        })
        .collect();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.current_dir(root());
    tree.args([
        "tree",
        "--locked",
        "--package=smtp-user",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
    ]);
    tree.arg("--target=x86_64-unknown-linux-gnu");
    let tree = output(&mut tree, QUICK).expect("a tree");
    let mut linked = 0;
    for line in tree.lines().filter(|line| !line.starts_with("smtp-user ")) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let entry = format!("{name} {}", version.trim_start_matches('v'));
        assert!(listed.contains(&entry), "no {entry} in the bill");
        linked += 1;
    }
    assert!(linked > 100, "{linked} packages");
    for one in bill["components"].as_array().expect("components") {
        assert!(one["licenses"][0]["expression"].is_string(), "{one}");
    }
}

#[test]
fn licences_and_sources_are_those_that_we_allow() {
    let said = xtask(&["deny"]);
    assert!(said.contains("bans, licences and sources: good"), "{said}");
    println!("{said}");
}
