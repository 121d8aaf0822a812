use clap::CommandFactory as _;

use super::*;

fn parsed(words: &str) -> Arguments {
    Arguments::try_parse_from(words.split_whitespace())
        .unwrap_or_else(|error| panic!("{words}: {error}"))
}

fn refused(words: &str) -> String {
    let error = Arguments::try_parse_from(words.split_whitespace()).expect_err(words);
    assert_eq!(error.exit_code(), 2, "{words}");
    error.to_string()
}

fn run_config(words: &str) -> Result<Config, Failure> {
    match parsed(words).command {
        Command::Run(run) => run.config(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Arguments::command().debug_assert();
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("smtpflow.toml");
    std::fs::write(
        &file,
        "[meter]\ninterfaces = [\"eth8\", \"eth9\"]\nwindow = \"20s\"\nmode = \"skb\"\n\
         [networks]\nlocal = [\"192.0.2.0/24\"]\n",
    )
    .expect("written");
    let file = file.display();

    let config = run_config(&format!("smtpflow run --config {file}")).expect("valid");
    assert_eq!(config.meter.interfaces, ["eth8", "eth9"]);
    assert_eq!(config.meter.window, Duration::from_secs(20));

    let config = run_config(&format!(
        "smtpflow run --config {file} --interface eth0 --window 5s --mode driver --netns gw \
         --pins /sys/fs/bpf/x --keep-attached --local 10.0.0.0/8 --local fd00::/8 \
         --listen [::1]:99 --store /srv/ledger.db"
    ))
    .expect("valid");
    assert_eq!(config.meter.interfaces, ["eth0"]);
    assert_eq!(config.meter.window, Duration::from_secs(5));
    assert_eq!(config.meter.mode, AttachChoice::Driver);
    assert_eq!(config.meter.netns.as_deref(), Some("gw"));
    assert_eq!(config.meter.pins, PathBuf::from("/sys/fs/bpf/x"));
    assert!(config.meter.keep_attached);
    assert_eq!(config.networks.local.len(), 2);
    assert_eq!(config.serve.listen.port(), 99);
    assert_eq!(config.store.path, PathBuf::from("/srv/ledger.db"));
}

#[test]
fn there_is_a_store_unless_somebody_says_no() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("smtpflow.toml");
    std::fs::write(&file, "[store]\nenabled = false\n").expect("written");
    let file = file.display();
    for (words, enabled) in [
        (String::new(), true),
        ("--no-store".to_owned(), false),
        (format!("--config {file}"), false),
        (format!("--config {file} --store /srv/a.db"), true),
    ] {
        let config = run_config(&format!("smtpflow run --interface x {words}"));
        assert_eq!(config.expect("valid").store.enabled, enabled, "{words}");
    }
}

#[test]
fn no_interface_is_a_mistake_of_usage_that_says_the_way_out() {
    let failure = run_config("smtpflow run").expect_err("no interface");
    assert_eq!(failure.kind.exit_code(), 2);
    let text = failure.to_string();
    assert!(
        text.contains("--interface") && text.contains("have: "),
        "{text}"
    );
}

#[test]
fn mistakes_are_told_with_what_was_expected() {
    for (words, expected) in [
        ("smtpflow run --interfaces eth0", "--interfaces"),
        ("smtpflow run --interface a/b", "cannot be the name"),
        ("smtpflow run --window 1h", "expected 1s to 10m"),
        (
            "smtpflow run --mode fast",
            "[possible values: auto, driver, skb]",
        ),
        ("smtpflow run --local 10.1.1.1/8", "write 10.0.0.0/8"),
        ("smtpflow run --listen 80", "no address with a port"),
        ("smtpflow run --store x.db", "no absolute path"),
        (
            "smtpflow run --store /x.db --no-store",
            "cannot be used with",
        ),
        ("smtpflow replay", "<FILE>"),
        ("smtpflow replay x --port 0", "expected 1 to 65535"),
        ("smtpflow reply x", "replay"),
        ("smtpflow config check", "<FILE>"),
    ] {
        let text = refused(words);
        assert!(text.contains(expected), "{words}: {text}");
    }
}

#[test]
fn the_same_interface_twice_is_refused() {
    let failure = run_config("smtpflow run --interface a --interface a").expect_err("twice");
    assert!(failure.to_string().contains("named twice"), "{failure}");
}

#[test]
fn a_replay_has_its_defaults_and_its_ports() {
    for (words, ports) in [
        ("smtpflow replay f.pcap", vec![25]),
        (
            "smtpflow replay f.pcap --port 465 --port 587",
            vec![465, 587],
        ),
    ] {
        let Command::Replay(replay) = parsed(words).command else {
            panic!("{words}");
        };
        let options = replay.options().expect("valid");
        assert_eq!(options.ports, ports);
        assert_eq!((options.top, options.json), (20, false));
        assert_eq!(options.window, Duration::from_secs(10));
    }
}

#[test]
fn a_replay_has_at_most_four_ports() {
    let words = "smtpflow replay f --port 1 --port 2 --port 3 --port 4 --port 5";
    let Command::Replay(replay) = parsed(words).command else {
        panic!("{words}");
    };
    let failure = replay.options().expect_err("five ports");
    assert_eq!(failure.kind.exit_code(), 2);
}

#[test]
fn the_log_is_chosen_behind_the_command() {
    let arguments = parsed("smtpflow run --interface x --log-format json --log-level debug");
    assert_eq!(arguments.log.log_format, LogFormat::Json);
    assert_eq!(arguments.log.log_level, LogLevel::Debug);
}
