//! A desk that tests hosts for relaying, as a user without any right, in a laboratory.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use xtask::command::{Finished, finish};
use xtask::lab::{Lab, Topology, smtpflow_binary};

/// The longest that one command may take.
pub const LIMIT: Duration = Duration::from_secs(200);
/// The user `nobody`, who owns nothing.
const NOBODY: u32 = 65534;
/// Where mail is relayed to.
pub const RECIPIENT: &str = "relay-test@abuse-desk.example.org";

/// A laboratory with a desk that tests, and what it needs for that.
pub struct Desk {
    /// The laboratory.
    pub lab: Lab,
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
    // Held: it goes with the test.
    _folder: tempfile::TempDir,
}

impl Desk {
    /// `local` are the own prefixes, `more` further keys of the section.
    pub fn new(prefix: &str, servers: u16, local: &[&str], more: &str) -> Self {
        let topology = Topology {
            servers,
            ..Topology::default()
        };
        let lab = Lab::gateway(prefix, topology).expect("a laboratory");
        lab.add_client("desk").expect("a client");
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a folder");
        let program = folder.path().join("smtpflow");
        std::fs::copy(smtpflow_binary().expect("the program is built"), &program).expect("copied");
        let home = folder.path().join("home");
        std::fs::create_dir(&home).expect("a folder");
        chown(
            &home,
            Some(Uid::from_raw(NOBODY)),
            Some(Gid::from_raw(NOBODY)),
        )
        .expect("an owner");
        let (config, state) = (folder.path().join("smtpflow.toml"), home.join("relay-test"));
        let text = format!(
            "[networks]\nlocal = {local:?}\n[relay_test]\nenabled = true\nrecipient = {RECIPIENT:?}\n\
             sender = \"probe@abuse-desk.example.org\"\nhelo = \"probe.example.net\"\nstate = {:?}\n{more}\n",
            state.display().to_string()
        );
        std::fs::write(&config, text).expect("written");
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&config, readable).expect("a mode");
        Self {
            lab,
            program,
            config,
            state,
            _folder: folder,
        }
    }

    /// The command as nobody, without any capability.
    pub fn command(&self, address: &str, words: &[&str]) -> Command {
        let nobody = NOBODY.to_string();
        let mut command = self.lab.command(
            "desk",
            "setpriv",
            &[
                "--reuid",
                &nobody,
                "--regid",
                &nobody,
                "--clear-groups",
                "--no-new-privs",
                "--bounding-set",
                "-all",
            ],
        );
        command
            .arg(&self.program)
            .args(["relay-test", address])
            .arg("--config");
        command.arg(&self.config).args(words);
        command
    }

    /// What it ends with.
    pub fn run(&self, address: &str, words: &[&str]) -> Finished {
        finish(&mut self.command(address, words), LIMIT).expect("it ends")
    }

    /// What a test says that ends with this code.
    pub fn test(&self, address: impl Into<IpAddr>, code: i32) -> Value {
        let address = address.into();
        let finished = self.run(&address.to_string(), &["--json"]);
        assert_eq!(
            finished.status.code(),
            Some(code),
            "{address}: {}{}",
            finished.stdout,
            finished.stderr
        );
        let test: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(
            (&test["target"], &test["port"]),
            (&address.to_string().into(), &25.into())
        );
        // It is there for later, too.
        let kept = self.state.join("reports").join(format!("{address}.json"));
        let kept = std::fs::read(&kept).expect("a report");
        assert_eq!(serde_json::from_slice::<Value>(&kept).expect("JSON"), test);
        test
    }

    /// The error of a command that ends with this code.
    pub fn refused(&self, address: &str, code: i32) -> String {
        let finished = self.run(address, &[]);
        assert_eq!(
            finished.status.code(),
            Some(code),
            "{address}: {}{}",
            finished.stdout,
            finished.stderr
        );
        assert_eq!(finished.stdout, "", "{address}");
        finished.stderr
    }

    /// Forgets which hosts were tested.
    pub fn forget(&self) {
        std::fs::remove_file(self.state.join("tests")).expect("there are notes");
    }
}

/// Name and outcome of the patterns.
pub fn outcomes(test: &Value) -> Vec<(&str, &str)> {
    let patterns = test["patterns"].as_array().expect("patterns");
    assert!(patterns.len() >= 20, "{test}");
    patterns
        .iter()
        .map(|pattern| {
            (
                pattern["name"].as_str().expect("a name"),
                pattern["outcome"].as_str().expect("an outcome"),
            )
        })
        .collect()
}

/// The names of those with this outcome.
pub fn named<'a>(outcomes: &[(&'a str, &'a str)], outcome: &str) -> Vec<&'a str> {
    let found = outcomes.iter().filter(|(_, have)| *have == outcome);
    found.map(|(name, _)| *name).collect()
}

/// What was said, a line each.
pub fn transcript(test: &Value) -> String {
    let lines = test["transcript"].as_array().expect("a transcript");
    lines
        .iter()
        .map(|line| {
            format!(
                "{} {}\n",
                line["who"].as_str().expect("who"),
                line["text"].as_str().expect("text")
            )
        })
        .collect()
}
