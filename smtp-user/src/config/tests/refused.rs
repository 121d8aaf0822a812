//! What is refused, and with which words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::detect::Within;
use crate::failure::Kind;

/// The error of a text, without its name.
fn refused(text: &str) -> String {
    let failure = Config::from_toml("smtpflow.toml", text).expect_err(text);
    assert_eq!(failure.kind, Kind::BadConfig);
    let text = failure.to_string();
    text.strip_prefix("smtpflow.toml:")
        .unwrap_or_else(|| panic!("no place in {text}"))
        .to_owned()
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (text, expected) in [
        (
            "[meter]\n  windw = \"10s\"\n",
            "2:3: unknown field `windw`, expected one of `interfaces`",
        ),
        (
            "[metre]\n",
            "1:2: unknown field `metre`, expected one of `meter`",
        ),
        (
            "[meter]\nmode = \"fast\"\n",
            "2:8: unknown variant `fast`, expected one of `auto`, `driver`, `skb`",
        ),
        (
            "[meter]\nwindow = 10\n",
            "2:10: invalid type: integer `10`, expected a duration as text",
        ),
        (
            "[meter]\nwindow = \"soon\"\n",
            "2:10: \"soon\" is no duration: expected a duration such as \"10s\"",
        ),
        (
            "[meter]\nwindow = \"1h\"\n",
            "2:10: a window of 1h is out of range: expected 1s to 10m",
        ),
        (
            "[store]\npath = \"\"\n",
            "2:8: \"\" is no absolute path of a file; the default is /var/lib/smtpflow/smtpflow.db",
        ),
        (
            "[store]\npath = \"/var/lib/\"\n",
            "2:8: \"/var/lib/\" is no absolute path of a file",
        ),
        (
            "[store]\ncache_mib = 0\n",
            "2:13: 0 is out of range: expected 1 to 4096",
        ),
        (
            "[meter]\nwindow = \"-10s\"\n",
            "2:10: \"-10s\" lies in the past",
        ),
        ("[meter]\nports = []\n", "2:9: 0 ports: expected one to 4"),
        ("[meter]\nports = [25, 25]\n", "2:9: port 25 is named twice"),
        ("[meter]\nports = [0]\n", "2:9: 0 is no TCP port"),
        (
            "[meter]\nports = [70000]\n",
            "2:10: invalid value: integer `70000`, expected u16",
        ),
        (
            "[meter]\ninterfaces = [\"a b\"]\n",
            "2:14: \"a b\" cannot be the name of an interface",
        ),
        (
            "[meter]\ninterfaces = \"eth0\"\n",
            "2:14: invalid type: string \"eth0\", expected a sequence",
        ),
        (
            "[table]\nsets_per_cpu = 1000\n",
            "2:16: 1000 does not fit: expected a power of two from 64 to 4194304, for example 1024",
        ),
        (
            "[table]\nsyn_slots = 4\n",
            "2:13: 4 does not fit: expected a power of two from 1024 to 67108864, for example 1024",
        ),
        (
            "[table]\nspill = 0\n",
            "2:9: 0 is out of range: expected 1 to 1048576",
        ),
        (
            "[networks]\nlocal = [\"192.0.2.0/24\",\n \"10.1.2.3/16\"]\n",
            "3:2: 10.1.2.3/16 has bits set behind its length; write 10.1.0.0/16 for the network, or 10.1.2.3/32 for the host",
        ),
        (
            "[networks]\nlocal = [\"10.1.2.3\"]\n",
            "2:10: \"10.1.2.3\" is an address without a length; for this host alone write 10.1.2.3/32",
        ),
        (
            "[networks]\nlocal = [\"::ffff:10.0.0.0/104\"]\n",
            "2:10: ::ffff:10.0.0.0/104 is IPv4 written as IPv6",
        ),
        ("[history]\nsources = 0\n", "2:11: 0 is out of range"),
        ("[history]\npairs = 0\n", "2:9: 0 is out of range"),
        (
            "[history]\nidle = \"9s\"\n",
            "2:8: 9s is out of range: expected 10s to",
        ),
        (
            "[history]\nkeep_bins = \"5m\"\n",
            "2:13: \"5m\" is out of range: expected whole seconds from 1h to 3650d",
        ),
        (
            "[serve]\nlisten = \"12525\"\n",
            "2:10: \"12525\" is no address with a port: expected one such as 127.0.0.1:12525",
        ),
        (
            "[serve]\npublic_url = \"watch.example.org\"\n",
            "2:14: \"watch.example.org\" is no address of an HTTP server: expected one such as",
        ),
        (
            "[metrics]\nsources = 51\n",
            "2:11: 51 is out of range: expected 0 to 50",
        ),
        (
            "[metrics]\nipv4_prefix = 33\n",
            "2:15: 33 is out of range: expected 8 to 32",
        ),
        (
            "[metrics]\nipv6_prefix = 8\n",
            "2:15: 8 is out of range: expected 16 to 128",
        ),
        (
            "[alertmanager]\nurl = \"https://a.example\"\n",
            "2:7: https://a.example wants TLS",
        ),
        (
            "[alertmanager]\nevery = \"1s\"\n",
            "2:9: 1s is out of range: expected 5s to 1h",
        ),
        (
            "[alertmanager]\ngateway = \"\"\n",
            "2:11: \"\" is no name of a gateway",
        ),
        (
            "[complaint]\nkeep = \"all\"\n",
            "2:8: unknown variant `all`, expected `none` or `headers`",
        ),
        (
            "[relay_test]\nenabled = true\n",
            "1:2: relay_test.recipient: it is not set, and without it there is nobody to relay to",
        ),
        (
            "[relay_test]\nrecipient = \"a%b@example.org\"\n",
            "2:13: \"a%b@example.org\" is no mailbox that can be used here: expected one such as",
        ),
        (
            "[relay_test]\nhelo = \"localhost\"\n",
            "2:8: \"localhost\" is no full name of a host: expected one such as",
        ),
        (
            "[relay_test]\nstate = \"here\"\n",
            "2:1: relay_test.state: here is no absolute path",
        ),
        (
            "[detect.volume]\nnotise = 3\n",
            "2:1: unknown field `notise`, expected one of `notice`",
        ),
        (
            "[detect.volumes]\n",
            "1:9: unknown field `volumes`, expected one of `quiet`",
        ),
        (
            "[detect]\nquiet = \"5m\"\n",
            "2:9: \"5m\" is out of range: expected whole seconds from 1h to 3650d",
        ),
        (
            "[detect]\nipv6_prefix = 0\n",
            "2:15: 0 is out of range: expected 1 to 128",
        ),
        (
            "[detect.failure]\nanswered = 1.5\n",
            "2:12: 1.5 is no share: expected 0.0 to 1.0",
        ),
        (
            "[detect.fanout]\nservers = 2000\n",
            "2:11: 2000 is out of range: expected 0 to 1000",
        ),
        (
            "[detect.burst]\nper_second = -1\n",
            "2:14: invalid value: integer `-1`, expected u32",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25\"\nreason = \"a\"\nowner = \"b\"\n",
            "2:10: \"192.0.2.25\" is an address without a length",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25/32\"\nowner = \"b\"\n",
            "1:1: missing field `reason`",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25/32\"\nreason = \"\"\nowner = \"b\"\n",
            "3:10: \"\" is no text of 1 to 200 characters",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25/32\"\nreason = \"a\"\nowner = \"b\"\nexpires = \"soon\"\n",
            "5:11: \"soon\" is no date: expected one such as \"2027-06-30\"",
        ),
        (
            "[agent]\nuser = \"0; rm\"\n",
            "2:8: \"0; rm\" is no name of a user",
        ),
        // Its default is at odds with what is set.
        (
            "[detect.persistence]\nslow_of = 7\n",
            "1:9: detect.persistence.slow_hours: there are no 12 hours among 7",
        ),
        (
            "[detect.persistence]\nslow_of = 7\nslow_hours = 8\n",
            "3:1: detect.persistence.slow_hours: there are no 8 hours among 7",
        ),
        (
            "history.keep_days = \"89d\"\n",
            "1:9: history.keep_days: 89d is shorter than keep_hours = 90d",
        ),
        ("[serve\n", "1:7: "),
        ("\"é\" = é\n", "1:7: "),
    ] {
        let error = refused(text);
        assert!(
            error.starts_with(expected),
            "{text}\n  have {error}\n  want {expected}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn values_from_elsewhere_are_checked_alike() {
    let mut config = Config::default();
    config.validate().expect("the default is valid");
    config.meter.window = Duration::from_millis(1);
    let failure = config.validate().expect_err("too short");
    assert!(
        failure.to_string().starts_with("meter.window: "),
        "{failure}"
    );

    let mut config = Config::default();
    config.meter.interfaces = vec!["eth0".to_owned(), "eth0".to_owned()];
    let failure = config.validate().expect_err("twice");
    assert!(failure.to_string().contains("eth0"), "{failure}");

    let mut config = Config::default();
    config.meter.pins = PathBuf::from("relative");
    assert!(config.validate().is_err());

    let mut config = Config::default();
    config.detect.persistence.hours = Within::new(7);
    let failure = config.validate().expect_err("7 of 6").to_string();
    assert!(
        failure.starts_with("detect.persistence.hours: "),
        "{failure}"
    );

    let relay = "[[relay]]\nprefix = \"192.0.2.25/32\"\nreason = \"a\"\nowner = \"b\"\n";
    let failure = Config::from_toml("twice", &relay.repeat(2)).expect_err("twice");
    assert!(
        failure
            .to_string()
            .contains("192.0.2.25/32 has two entries"),
        "{failure}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let failure = Config::from_file(Path::new("/nonexistent/smtpflow.toml")).expect_err("missing");
    assert_eq!(failure.kind, Kind::BadConfig);
    assert!(
        failure.to_string().contains("/nonexistent/smtpflow.toml"),
        "{failure}"
    );
}

#[test]
fn a_file_that_is_no_text_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("smtpflow.toml");
    std::fs::write(&path, b"[meter]\n#\xff\n").expect("written");
    let failure = Config::from_file(&path).expect_err("no text");
    assert!(
        failure.to_string().contains("smtpflow.toml:2:2:"),
        "{failure}"
    );
}

#[test]
fn the_coarser_history_is_the_longer_it_is_kept() {
    for (text, expected) in [
        (
            "keep_bins = \"1h\"\nkeep_hours = \"71h\"",
            "history.keep_hours: 71h is out of range: expected 3d or more",
        ),
        (
            "keep_bins = \"91d\"",
            "history.keep_hours: 90d is shorter than keep_bins = 91d",
        ),
        (
            "keep_days = \"89d\"",
            "history.keep_days: 89d is shorter than keep_hours = 90d",
        ),
    ] {
        let failure = Config::from_toml("keep", &format!("[history]\n{text}\n")).expect_err(text);
        assert_eq!(failure.kind, Kind::BadConfig);
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}
