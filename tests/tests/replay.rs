//! `smtpflow replay` as a user runs it: exact on every capture, clear on every broken one, and small
//! on large ones.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use smtp_common::flow::Totals;
use smtpflow_tests::oracle::{expected, segments};
use smtpflow_tests::{ANSWERS, data, totals};
use xtask::command::{Finished, finish};
use xtask::lab::smtpflow_binary;

const LIMIT: Duration = Duration::from_secs(120);

fn command(file: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(smtpflow_binary().expect("the program is built"));
    command.arg("replay").arg(file).args(extra);
    command
}

fn replay(file: &Path, extra: &[&str]) -> Finished {
    finish(&mut command(file, extra), LIMIT).expect("it ends")
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}{}", finished.stdout, finished.stderr))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no count: {value}"))
}

#[test]
fn every_source_of_every_capture_has_the_counts_that_tshark_finds() {
    for (name, connections, packets, bytes) in ANSWERS {
        let finished = replay(&data(name), &["--json"]);
        assert!(finished.status.success(), "{name}: {}", finished.stderr);
        let report = json(&finished);
        assert_eq!(report["complete"], true, "{name}");
        let sources = report["sources"].as_array().expect("sources").iter();
        let sources: BTreeMap<IpAddr, Totals> = sources
            .map(|source| {
                let address = source["addr"].as_str().expect("an address");
                (address.parse().expect("an address"), totals(source))
            })
            .collect();
        let seen = segments(&data(name));
        assert_eq!(sources, expected(&seen), "{name}");

        let all = totals(&report["totals"]);
        assert_eq!(all.connections, connections, "{name}");
        assert_eq!((all.packets(), all.bytes()), (packets, bytes), "{name}");
        let skipped = report["skipped"].as_object().expect("skips").values();
        let skipped: u64 = skipped.map(number).sum();
        assert_eq!(number(&report["frames"]), packets + skipped, "{name}");
        assert_eq!(number(&report["overflow"]["packets"]), 0, "{name}");

        let rows = report["distribution"].as_array().expect("a distribution");
        let in_rows: u64 = rows.iter().map(|row| number(&row["connections"])).sum();
        assert_eq!((rows.len(), in_rows), (7, connections), "{name}");
    }
}

#[test]
fn the_text_names_totals_skips_sources_and_the_distribution() {
    let finished = replay(&data("smtp.pcap"), &[]);
    assert!(finished.status.success(), "{}", finished.stderr);
    for part in [
        "125 frames",
        "80 segments",
        "not_mail_port",
        "10.10.1.4",
        "21673",
        "1001-",
    ] {
        assert!(
            finished.stdout.contains(part),
            "no {part} in {}",
            finished.stdout
        );
    }
    assert_eq!(
        finished.stderr, "",
        "nothing but the report, where no terminal is"
    );
}

#[test]
fn one_source_of_fan_out_one_opens_three_connections() {
    let report = json(&replay(&data("smtp-bdat-cmd-invalid.pcapng"), &["--json"]));
    let opened = report["sources"].as_array().expect("sources").iter();
    let opened: Vec<u64> = opened
        .map(|source| number(&source["connections"]))
        .collect();
    assert_eq!(
        opened.iter().filter(|count| **count > 0).count(),
        1,
        "{opened:?}"
    );
    assert_eq!(opened.iter().sum::<u64>(), 3);
}

#[test]
fn another_port_is_counted_when_it_is_named() {
    let file = data("connect-with-smtp.pcap");
    let usual = json(&replay(&file, &["--json"]));
    let also = json(&replay(
        &file,
        &["--json", "--port", "25", "--port", "3378"],
    ));
    let segments = |report: &Value| totals(&report["totals"]).packets();
    assert!(segments(&also) > segments(&usual));
}

/// A capture cut at `length`, in a folder of its own.
fn cut(name: &str, length: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(name);
    let bytes = fs::read(data(name)).expect("the capture");
    fs::write(&file, &bytes[..length]).expect("the cut capture");
    (folder, file)
}

#[test]
fn a_capture_that_ends_early_is_reported_as_far_as_it_goes_and_then_refused() {
    for name in ["smtp.pcap", "smtp-bdat-cmd-invalid.pcapng"] {
        let whole = fs::metadata(data(name)).expect("the capture").len() as usize;
        let frames = number(&json(&replay(&data(name), &["--json"]))["frames"]);
        let (_folder, file) = cut(name, whole - 3);
        let finished = replay(&file, &["--json"]);
        assert_eq!(
            finished.status.code(),
            Some(1),
            "{name}: {}",
            finished.stderr
        );
        let report = json(&finished);
        assert_eq!(report["complete"], false, "{name}");
        let read = number(&report["frames"]);
        assert!(read > 0 && read <= frames, "{name}: {read} of {frames}");
        let error = finished.stderr.trim();
        assert!(
            error.starts_with("smtpflow: ") && error.contains(name),
            "{error}"
        );

        let text = replay(&file, &[]);
        assert_eq!(text.status.code(), Some(1), "{name}");
        assert!(text.stdout.contains("complete: NO"), "{}", text.stdout);
    }
}

#[test]
fn what_is_no_capture_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("empty.pcap"), b"").expect("a file");
    fs::write(at("garbage.pcap"), [0x5a; 4096]).expect("a file");
    fs::create_dir(at("folder.pcap")).expect("a folder");
    let (_header, header) = cut("smtp.pcap", 10);
    let files = ["empty.pcap", "garbage.pcap", "folder.pcap", "missing.pcap"].map(at);
    for file in files.iter().chain([&header]) {
        let finished = replay(file, &[]);
        assert_eq!(finished.status.code(), Some(1), "{}", file.display());
        let error = finished.stderr.trim();
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(
            error.starts_with("smtpflow: ") && error.contains(&*name),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn a_large_capture_takes_no_more_memory_than_a_small_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large.pcap");
    let small = fs::read(data("smtp-many-addresses.pcap")).expect("the capture");
    let (header, packets) = small.split_at(24);
    let repeats = (100 << 20) / packets.len() + 1;
    let mut large = header.to_vec();
    large.extend(packets.repeat(repeats));
    fs::write(&file, &large).expect("the large capture");
    drop(large);

    let measured = |file: &Path| {
        let out = folder.path().join("out.json");
        let mut child = command(file, &["--json"])
            .stdout(fs::File::create(&out).expect("a file"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it starts");
        let mut highest = 0;
        let status = loop {
            highest = highest.max(peak(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait().expect("its state") {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success());
        let report = fs::read_to_string(out).expect("the report");
        (
            highest,
            serde_json::from_str::<Value>(&report).expect("JSON"),
        )
    };
    let (small_peak, report) = measured(&data("smtp-many-addresses.pcap"));
    let (large_peak, large_report) = measured(&file);
    println!("peak: {small_peak} KiB for a small capture, {large_peak} KiB for 100 MiB");
    assert_eq!(
        number(&large_report["frames"]),
        number(&report["frames"]) * repeats as u64
    );
    assert!(
        large_peak < small_peak + (16 << 10),
        "{large_peak} KiB for 100 MiB, {small_peak} KiB for a small capture"
    );
}
