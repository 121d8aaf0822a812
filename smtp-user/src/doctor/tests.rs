//! The doctor's findings about the machine.

use super::*;

#[test]
fn releases_are_compared_as_numbers() {
    assert_eq!(Release::parse("6.18.44-cloud-amd64"), Some(Release(6, 18)));
    assert_eq!(Release::parse("5.9-rc1"), Some(Release(5, 9)));
    assert_eq!(Release::parse("4"), None);
    assert_eq!(Release::parse(""), None);
    assert!(Release(5, 9) < Release(5, 10) && Release(6, 1) > Release(5, 18));
}

#[test]
fn the_kernel_has_a_floor() {
    for (text, outcome) in [
        ("4.19.0", Outcome::Fails),
        ("5.9.16", Outcome::Fails),
        ("5.10.0-28-amd64", Outcome::Ok),
        ("6.18.1", Outcome::Ok),
        ("something", Outcome::Warning),
    ] {
        assert_eq!(kernel(text).outcome, outcome, "{text}");
    }
    assert!(kernel("5.10.1").text.contains("jumbo"));
    assert!(!kernel("5.18.0").text.contains("jumbo"));
}

#[test]
fn missing_capabilities_are_named() {
    let set = |bits: &[u32]| Some(bits.iter().map(|bit| 1_u64 << bit).sum());
    let mut config = Config::default();
    let here = capabilities(set(&[]), &config, None);
    assert!(!here.text.contains("CAP_SYS_ADMIN"), "{}", here.text);
    let attach = privilege::CAP_NET_ADMIN;
    let enough = set(&[privilege::CAP_BPF, privilege::CAP_PERFMON, attach]);
    assert_eq!(capabilities(enough, &config, None).outcome, Outcome::Ok);
    let without = set(&[privilege::CAP_BPF, privilege::CAP_PERFMON]);
    let finding = capabilities(without, &config, None);
    assert!(finding.text.contains("CAP_NET_ADMIN"));
    assert_eq!(capabilities(None, &config, None).outcome, Outcome::Warning);

    config.meter.netns = Some("lab".to_owned());
    let finding = capabilities(set(&[]), &config, None);
    assert_eq!(finding.outcome, Outcome::Fails);
    for name in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"] {
        assert!(finding.text.contains(name), "{name}: {}", finding.text);
    }
    let containing = set(&[privilege::CAP_SYS_ADMIN]);
    assert_eq!(capabilities(containing, &config, None).outcome, Outcome::Ok);
    assert_eq!(capabilities(enough, &config, None).outcome, Outcome::Fails);
}

#[test]
fn one_for_whom_others_attach_needs_nothing_or_before_5_19_one_capability() {
    let mut config = Config::default();
    config.meter.attached = true;
    for (release, set, outcome) in [
        (Release(5, 19), 0, Outcome::Ok),
        (Release(5, 18), 0, Outcome::Fails),
        (Release(5, 18), 1 << privilege::CAP_BPF, Outcome::Ok),
    ] {
        let finding = capabilities(Some(set), &config, Some(release));
        assert_eq!(
            finding.outcome, outcome,
            "{release} {set}: {}",
            finding.text
        );
    }
}

#[test]
fn what_is_given_up_later_is_told() {
    let mut config = Config::default();
    let finding = confinement(
        &config,
        Some(Release(6, 1)),
        Held::Part { version: 2 },
        true,
    );
    assert_eq!(finding.outcome, Outcome::Warning);
    assert!(finding.text.contains("user 0"), "{}", finding.text);
    assert!(
        finding
            .way_out
            .is_some_and(|text| text.contains("agent.user"))
    );
    config.agent.user = Some("daemon".to_owned());
    let all = Held::All { version: 6 };
    let finding = confinement(&config, Some(Release(6, 18)), all, true);
    assert_eq!(finding.outcome, Outcome::Ok);
    assert!(finding.text.contains("user daemon"), "{}", finding.text);
    assert!(finding.text.contains("no capability"), "{}", finding.text);
    let finding = confinement(&config, Some(Release(5, 10)), Held::Nothing, true);
    assert_eq!(finding.outcome, Outcome::Warning);
    assert!(finding.text.contains("CAP_BPF"), "{}", finding.text);
}

#[test]
fn pins_that_others_can_enter_fail() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pins");
    assert_eq!(pins(&path, None).outcome, Outcome::Ok, "not there yet");
    fs::create_dir(&path).expect("made");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("mode set");
    assert_eq!(pins(&path, None).outcome, Outcome::Ok);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode set");
    let finding = pins(&path, None);
    assert_eq!(finding.outcome, Outcome::Fails);
    assert!(finding.text.contains("0755"), "{}", finding.text);
}

#[test]
fn a_folder_outside_bpffs_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let finding = bpffs(&folder.path().join("not/there/yet"));
    assert_eq!(finding.outcome, Outcome::Fails);
    assert!(finding.way_out.expect("one").contains("mount -t bpf"));
}

#[test]
fn memory_is_read_from_the_kernels_text() {
    let text = "MemTotal:       16316340 kB\nMemAvailable:   1024 kB\n";
    assert_eq!(available_memory(Some(text)), Some(1 << 20));
    assert_eq!(available_memory(Some("MemTotal: 1 kB\n")), None);
    let limits = "Max locked memory         8388608              8388608              bytes\n";
    assert!(locked_memory(Some(limits)).text.contains("8388608"));
    let limits = "Max locked memory         unlimited            unlimited            bytes\n";
    assert_eq!(locked_memory(Some(limits)).outcome, Outcome::Ok);
}

#[test]
fn a_report_works_unless_something_fails() {
    let mut report = Report {
        findings: vec![
            Finding::ok("kernel", "6.18.0"),
            Finding::warning("JIT", "off", "turn it on"),
        ],
    };
    assert!(report.works());
    assert!(report.text().contains("warning  JIT: off; turn it on\n"));
    report
        .findings
        .push(Finding::fails("bpffs", "not there", "mount one"));
    assert!(!report.works());
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["works"], false);
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(keys(&json), ["findings", "schema", "works"]);
    let finding = keys(&json["findings"][0]);
    assert_eq!(finding, ["check", "outcome", "text", "way_out"]);
    assert_eq!(json["findings"][0]["outcome"], "ok");
    assert_eq!(json["findings"][1]["outcome"], "warning");
    assert_eq!(json["findings"][2]["outcome"], "fails");
    assert_eq!(json["findings"][2]["way_out"], "mount one");
    assert_eq!(json["findings"][0]["way_out"], serde_json::Value::Null);
}

#[test]
fn a_port_in_use_fails_unless_a_smtpflow_seems_to_run() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.serve.listen = taken.local_addr().expect("an address");
    config.meter.pins = folder.path().join("not-there");
    let finding = http(&config);
    assert_eq!(finding.outcome, Outcome::Fails);
    assert!(finding.text.contains("in use"), "{}", finding.text);
    config.meter.pins = folder.path().to_owned();
    assert_eq!(http(&config).outcome, Outcome::Warning);
    drop(taken);
    assert_eq!(http(&config).outcome, Outcome::Ok);
}
