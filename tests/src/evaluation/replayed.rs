//! What `smtpflow replay` says of generated traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::time::Duration;

use serde_json::Value;
use xtask::command;
use xtask::lab::smtpflow_binary;
use xtask::traffic::{Script, pcap};

const LIMIT: Duration = Duration::from_secs(300);

/// The detectors that accuse, by whom they accuse.
pub type Verdicts = BTreeMap<String, BTreeSet<String>>;

/// The report of the program on a capture of these scripts, with this configuration and windows of so
/// many seconds.
pub fn replay(
    traffic: impl IntoIterator<Item = (u64, Vec<Script>)>,
    configuration: &str,
    window: u64,
) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let capture = folder.path().join("scenario.pcap");
    let file = File::create(&capture).expect("a file");
    pcap::write(traffic, &mut BufWriter::new(file)).expect("a capture");
    let config = folder.path().join("smtpflow.toml");
    std::fs::write(&config, configuration).expect("a file");
    let binary = smtpflow_binary().expect("a binary");
    let mut smtpflow = std::process::Command::new(binary);
    smtpflow.args(["replay", "--json", "--window", &format!("{window}s")]);
    smtpflow.arg("--config").arg(&config).arg(&capture);
    let json = command::output(&mut smtpflow, LIMIT).unwrap_or_else(|error| panic!("{error:#}"));
    serde_json::from_str(&json).expect("JSON")
}

/// The verdicts of a report.
pub fn verdicts_of(report: &Value) -> Verdicts {
    let mut verdicts = Verdicts::new();
    for verdict in report["verdicts"].as_array().expect("verdicts") {
        let word = |name: &str| verdict[name].as_str().expect("text").to_owned();
        let detectors = verdicts.entry(word("subject")).or_default();
        detectors.insert(word("detector"));
    }
    verdicts
}
