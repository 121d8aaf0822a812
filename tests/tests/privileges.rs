//! What the agent may do and what others may not: nothing is kept once it counts, nobody gets at what is
//! its own, no secret is told, and an agent that never had a privilege counts what a loader has attached.
//!
//! The agent's user is `daemon`, and whoever has no business here is `nobody`: both are on every machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use smtpflow_tests::guarded::{
    LIMIT, NOBODY, Rig, USER, attach, has_nothing, refused, says, told, unprivileged, well,
};
use smtpflow_tests::tokens::{ACT, READ};
use xtask::command;
use xtask::lab::{http_get, http_request};

/// A laboratory of this prefix, whose BPF file system has this mode.
fn guarded(prefix: &str, mode: &str) -> Rig {
    Rig::new(prefix, mode, Path::new(env!("CARGO_BIN_EXE_trespasser")))
}

/// The directory of the pins of this version.
fn tables(rig: &Rig) -> PathBuf {
    let mut versions = fs::read_dir(rig.pins()).expect("pins");
    versions
        .next()
        .expect("a version")
        .expect("a version")
        .path()
}

#[test]
fn an_agent_keeps_nothing_and_still_attaches_to_an_interface_that_is_back() {
    // As systemd mounts it: closed to all but root.
    let mut rig = guarded("sfprivone", "0700");
    for user in [None, Some(USER)] {
        let (words, uid) = match user {
            Some((name, uid)) => (vec!["--user", name], uid),
            None => (vec![], 0),
        };
        let mut agent = rig.start(&rig.options(&words));
        has_nothing(agent.process().id(), uid);
        rig.knock(5);
        rig.counted(&mut agent);
        rig.remake_link();
        let back = told(&mut agent, "attached");
        assert_eq!(back["mode"], "driver", "{back}");
        rig.knock(6);
        rig.counted(&mut agent);
        has_nothing(agent.process().id(), uid);
        let log = agent.process().log_text();
        assert!(log.contains("capabilities=\"none\""), "{log}");
        assert!(log.contains("all rules held"), "{log}");
        assert!(agent.stop().expect("the agent ends").success());
        let link = rig.lab.ip("gateway", "link show outer").expect("ip link");
        assert!(!link.contains("xdp"), "still attached: {link}");
        let left = fs::read_dir(&rig.bpffs).expect("a folder");
        let left: Vec<PathBuf> = left
            .map(|file| file.expect("a file").path())
            // The kernel puts two files of its own into a new one.
            .filter(|path| path.is_dir())
            .collect();
        assert!(
            user.is_some() || left.is_empty(),
            "root leaves nothing: {left:?}"
        );
        for file in left {
            // Only root could remove the empty folders from its file system.
            let mut find = Command::new("find");
            let found = well(find.arg(file).args(["-type", "f"])).stdout;
            assert_eq!(found, "", "pins are left");
        }
        if user.is_none() {
            // It is root's, and another user shall have it: that is refused and said.
            let folder = rig.lab.folder().join("store");
            let mut other = rig
                .lab
                .agent(&rig.options(&["--user", USER.0]))
                .expect("a start");
            let ended = other.process().wait(LIMIT).expect("it ends by itself");
            let log = other.process().log_text();
            assert_eq!(ended.code(), Some(77), "{log}");
            assert!(log.contains("chown -R 1:1"), "{log}");
            well(Command::new("chown").args(["-R", "1:1"]).arg(folder));
        }
    }
}

#[test]
fn a_killed_agent_of_another_user_is_followed_by_one_that_goes_on() {
    let mut rig = guarded("sfprivkill", "0700");
    let mut options = rig.options(&["--user", USER.0]);
    // Root, with what the documentation gives a unit: it may not override modes.
    options.binary = rig.bounded("bpf,perfmon,net_admin,chown,setuid,setgid,setpcap,sys_admin");
    let mut agent = rig.start(&options);
    rig.knock(3);
    rig.counted(&mut agent);
    // Made by the agent itself, without privilege.
    rig.remake_link();
    told(&mut agent, "attached");
    rig.knock(2);
    agent
        .process()
        .stop(Signal::SIGKILL, LIMIT)
        .expect("killed");
    rig.knock(4);
    let mut agent = rig.start(&options);
    rig.counted(&mut agent);
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn nobody_gets_at_pins_lock_store_tokens_or_configuration() {
    // Everybody may make something beside our pins, and look at them.
    let mut rig = guarded("sfprivmob", "1777");
    let config = smtpflow_tests::tokens::configuration(rig.lab.folder(), "");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o640)).expect("its mode");
    let config_words = ["--config", config.to_str().expect("text"), "--user", USER.0];
    // The folder of the laboratory is not what is tried here.
    let mut agent = rig.start(&rig.options(&config_words));
    rig.knock(2);
    let mut paths = vec![rig.pins()];
    let directory = tables(&rig);
    let pins = fs::read_dir(&directory).expect("pins");
    paths.extend(pins.map(|pin| pin.expect("a pin").path()));
    paths.push(directory);
    assert!(paths.len() > 10, "{paths:?}");
    let store = rig.store();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        paths.push(format!("{}{suffix}", store.display()).into());
    }
    paths.push(store.with_file_name(""));
    paths.extend(["read", "act", "smtpflow.toml"].map(|name| rig.lab.folder().join(name)));
    for path in &paths {
        assert!(path.exists(), "{}", path.display());
    }
    assert_eq!(rig.trespass(NOBODY, &paths), "", "nobody could do this");
    // Whoever tries the same as root can do something, so the try is one.
    let copied = rig.lab.folder().join("copied");
    fs::copy(&config, &copied).expect("copied");
    let root = rig.trespass(0, &[copied]);
    for verb in ["read", "lock", "write", "chmod", "rename"] {
        assert!(root.contains(verb), "{root}");
    }
    rig.counted(&mut agent);
    assert!(agent.stop().expect("the agent ends").success());

    // Somebody was there before: nothing of it is used.
    let squatted = rig.bpffs.join("squatted");
    let mut squat = Command::new("mkdir");
    well(squat.arg("-m700").arg(&squatted).uid(NOBODY).gid(NOBODY));
    for (folder, why) in [(&squatted, "belongs to user 65534")] {
        for words in [
            vec!["attach"],
            vec!["run", "--listen", "127.0.0.1:0", "--no-store"],
        ] {
            let mut command = Command::new(rig.programs.join("smtpflow"));
            command.args(words).args(["--interface", "outer"]);
            command.args(["--netns", &rig.lab.ns("gateway")]);
            let error = refused(77, command.arg("--pins").arg(folder));
            assert!(error.contains(why), "{error}");
        }
    }
}

#[test]
fn what_is_confined_reaches_its_own_files_and_no_others() {
    let rig = guarded("sfprivlock", "0755");
    let folder = rig.lab.folder();
    let make = |path: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, "0123456789abcdef0123456789abcdef").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    };
    let token = make("etc/token");
    let foreign = make("foreign/file");
    let ours = make("var/smtpflow.db");
    fs::create_dir(rig.pins()).expect("pins");
    let config = folder.join("etc/smtpflow.toml");
    let text = format!(
        "[meter]\npins = \"{}\"\n[store]\npath = \"{}\"\n[serve]\ntoken_file = \"{}\"\n",
        rig.pins().display(),
        ours.display(),
        token.display()
    );
    fs::write(&config, text).expect("written");
    let mut command = Command::new(rig.programs.join("trespasser"));
    command.arg("--confined").arg(&config);
    command.args([&token, &foreign, &ours]);
    command.args(["/etc/shadow", "/root", "/sys/fs/bpf", "/tmp", "/run"]);
    let done = well(&mut command).stdout;
    let done: Vec<(&str, &str)> = done
        .lines()
        .filter_map(|line| line.split_once(' '))
        // Rules are about what a file holds, not about its mode, and root owns all of these.
        .filter(|(verb, _)| *verb != "chmod")
        .collect();
    let of = |path: &Path| -> BTreeSet<&str> {
        let path = path.to_str().expect("text");
        let verbs = done.iter().filter(|(_, other)| *other == path);
        verbs.map(|(verb, _)| *verb).collect()
    };
    assert_eq!(of(&token), ["lock", "read"].into());
    assert_eq!(of(&ours), ["lock", "read", "rename", "write"].into());
    let named = [&token, &ours].map(|path| path.to_str().expect("text"));
    let else_done: Vec<_> = done
        .iter()
        .filter(|(_, path)| !named.contains(path))
        .collect();
    assert!(else_done.is_empty(), "{else_done:?}");
}

#[test]
fn a_secret_comes_from_a_credential_and_is_told_nobody() {
    let rig = guarded("sfprivcred", "0755");
    let folder = rig.lab.folder();
    // As systemd leaves them: root's, and an access list that lets the user in, which shows as the
    // group's right.
    let credentials = folder.join("credentials");
    fs::create_dir(&credentials).expect("a folder");
    for (name, token) in [("read-token", READ), ("act-token", ACT)] {
        let path = credentials.join(name);
        fs::write(&path, token).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).expect("its mode");
    }
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o550)).expect("its mode");
    let config = folder.join("smtpflow.toml");
    fs::write(
        &config,
        "[serve]\ntoken_file = \"credential:read-token\"\nact_token_file = \"credential:act-token\"\n",
    )
    .expect("written");
    let mut options = rig.options(&[
        "--log-level",
        "trace",
        "--config",
        config.to_str().expect("text"),
        "--user",
        USER.0,
    ]);
    let given = credentials.to_str().expect("text").to_owned();
    options.environment = vec![("CREDENTIALS_DIRECTORY".to_owned(), given)];
    let mut agent = rig.start(&options);
    let listen = agent.listen();

    // Both are in use: a change with the right token gets as far as its content, which is no relay.
    let change = |token: &str| {
        let header = format!("Bearer {token}");
        let headers = [
            ("authorization", header.as_str()),
            ("content-type", "application/json"),
        ];
        let answer = http_request(listen, ("POST", "/api/v1/relays"), &headers, Some("{}"));
        answer.expect("an answer").status
    };
    assert_eq!(change(ACT), 400);
    assert_eq!(change(READ), 403);
    assert_eq!(change(&"x".repeat(READ.len())), 401);

    let secret = |what: &str, text: &[u8]| {
        for token in [READ, ACT] {
            let found = text
                .windows(token.len())
                .any(|part| part == token.as_bytes());
            assert!(!found, "a token is in {what}");
        }
    };
    let id = agent.process().id();
    for file in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{id}/{file}")).expect("readable for root");
        assert!(!text.is_empty());
        secret(file, &text);
    }
    let document = http_get(listen, "/api/openapi.json", &[]).expect("the document");
    let document = document.json().expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let mut asked = 0;
    let pages = ["/", "/system", "/sources", "/verdicts", "/relays"].map(str::to_owned);
    let streams = |path: &&String| !path.contains("events") && !path.contains("stream");
    for path in paths.keys().filter(streams).chain(&pages) {
        let path = path
            .replace("{addr}", "192.0.2.2")
            .replace("{id}", "1")
            .replace("{month}", "2026-11");
        for token in [READ, ACT] {
            let header = format!("Bearer {token}");
            let answer = http_get(listen, &path, &[("authorization", &header)]);
            let answer = answer.unwrap_or_else(|error| panic!("{path}: {error:#}"));
            // Held to the rules, it still finds all that it needs.
            assert!(answer.status < 500, "{path}: {}", answer.text());
            secret(&path, answer.text().as_bytes());
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
    secret("the log", agent.process().log_text().as_bytes());
    // No core file would have them either.
    let owner = fs::metadata(format!("/proc/{id}/environ"))
        .expect("there")
        .uid();
    assert_eq!(owner, 0, "others of its user can look into its memory");
    assert!(agent.stop().expect("the agent ends").success());

    // A credential that others could read is none.
    let act = credentials.join("act-token");
    fs::set_permissions(&act, fs::Permissions::from_mode(0o444)).expect("its mode");
    let mut agent = rig.lab.agent(&options).expect("a start");
    let ended = agent.process().wait(LIMIT).expect("it ends by itself");
    assert_eq!(ended.code(), Some(78), "{}", agent.process().log_text());
}

#[test]
fn an_agent_that_never_had_a_privilege_counts_what_a_loader_has_attached() {
    let mut rig = guarded("sfprivtwo", "0755");
    // Without a loader there is nothing, and it is said what to do.
    let mut early = unprivileged(&rig);
    let ended = early.wait(LIMIT).expect("it ends by itself");
    assert_eq!(ended.code(), Some(69), "{}", early.log_text());
    assert!(early.log_text().contains("run smtpflow attach as root"));

    let said = well(&mut attach(&rig, USER.0)).stdout;
    assert_eq!(said, "attached to outer in driver mode\n");
    rig.knock(3);
    let mut agent = unprivileged(&rig);
    let log = agent.log().to_owned();
    let log = || command::read_lossy(&log);
    let counted = |rig: &Rig| {
        let knocked = rig.knocked;
        let status = says(rig, "counted", log, |status| {
            status["totals"]["connections"].as_u64() >= Some(knocked)
        });
        assert_eq!(status["totals"]["connections"], knocked, "{status}");
        assert_eq!(status["conservation"]["error"], 0, "{status}");
        let interface = &status["interfaces"][0];
        assert_eq!(
            (
                &interface["state"],
                &interface["mode"],
                &interface["program"]
            ),
            (&"attached".into(), &"driver".into(), &"xdp.frags".into()),
            "{status}"
        );
    };
    counted(&rig);
    has_nothing(agent.id(), USER.1);

    // It cannot end, replace or squat anything; what it drains it may open, and nothing else.
    let directory = tables(&rig);
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("pins")
        .map(|pin| pin.expect("a pin").path())
        .collect();
    paths.extend([rig.pins(), directory.clone()]);
    let done = rig.trespass(USER.1, &paths);
    let verbs: BTreeSet<&str> = done
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let harmless: BTreeSet<&str> = ["list", "lock", "open_pin", "read", "write"].into();
    assert!(verbs.is_subset(&harmless), "{done}");
    let opened: BTreeSet<&str> = done
        .lines()
        .filter_map(|line| line.strip_prefix("open_pin "))
        .filter_map(|path| path.rsplit('/').next())
        .collect();
    let wanted = [
        "COUNTERS_0",
        "COUNTERS_1",
        "EPOCH",
        "FLOWS",
        "IDENTITY",
        "PROGRAMS",
        "SOURCES",
        "SPILL",
    ];
    assert_eq!(opened, wanted.into(), "{done}");

    // The loader comes again while it drains: nothing is lost, and it is known for ours.
    for _ in 0..3 {
        rig.knock(4);
        well(&mut attach(&rig, USER.0));
        rig.knock(4);
    }
    counted(&rig);

    // An interface that is made anew is counted when the loader has been there, and until then it says so.
    rig.remake_link();
    let status = says(&rig, "refused", log, |status| {
        status["interfaces"][0]["state"] == "refused"
    });
    let reason = status["interfaces"][0]["reason"].as_str().expect("why");
    assert!(reason.contains("smtpflow attach"), "{reason}");
    well(&mut attach(&rig, USER.0));
    says(&rig, "attached", log, |status| {
        status["interfaces"][0]["state"] == "attached"
    });
    rig.knock(5);
    counted(&rig);

    // Killed, and followed by another one.
    agent.stop(Signal::SIGKILL, LIMIT).expect("killed");
    rig.knock(7);
    let mut agent = unprivileged(&rig);
    counted(&rig);
    let ended = agent.stop(Signal::SIGTERM, LIMIT).expect("it ends");
    assert!(ended.success(), "{}", agent.log_text());
    let link = rig.lab.ip("gateway", "link show outer").expect("ip link");
    assert!(link.contains("xdp"), "it has detached: {link}");
    let mut detach = Command::new(rig.programs.join("smtpflow"));
    well(detach.arg("detach").arg("--pins").arg(rig.pins()));
    assert!(!rig.pins().exists(), "pins are left");
}

#[test]
fn a_file_system_that_is_closed_to_the_agent_is_told_with_the_way_in() {
    let rig = guarded("sfprivshut", "0700");
    well(&mut attach(&rig, USER.0));
    let mut agent = unprivileged(&rig);
    let ended = agent.wait(LIMIT).expect("it ends by itself");
    let log = agent.log_text();
    assert_eq!(ended.code(), Some(77), "{log}");
    assert!(log.contains("BindPaths="), "{log}");
    let mut detach = Command::new(rig.programs.join("smtpflow"));
    well(detach.arg("detach").arg("--pins").arg(rig.pins()));
}

#[test]
fn the_smallest_sets_of_capabilities_are_those_of_the_documentation() {
    let rig = guarded("sfprivcaps", "0755");
    let mut command = Command::new(command::find("nsenter").expect("nsenter, of util-linux"));
    command
        .arg(format!("--net=/run/netns/{}", rig.lab.ns("gateway")))
        .arg(env!("CARGO_BIN_EXE_capabilities"))
        .args(["--interface", "outer", "--bpffs"])
        .arg(&rig.bpffs);
    let found = well(&mut command).stdout;
    println!("{found}");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    // CAP_SYS_ADMIN stands for each of the three, and for a hundred other things.
    assert_eq!(
        found["load"],
        serde_json::json!([
            ["CAP_SYS_ADMIN"],
            ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"],
        ]),
        "{found}"
    );
    // Nothing is needed after that, since 5.19.
    assert_eq!(found["run"], serde_json::json!([[]]), "{found}");
}
