//! What the tests about owners share: the program and what it says, and servers that say anything.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use xtask::command::{Finished, finish};
use xtask::lab::smtpflow_binary;

/// The longest that the program may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Writes a file that only its owner can read.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    path
}

/// The program with these arguments.
pub fn smtpflow(words: &[&str]) -> Command {
    let mut command = Command::new(smtpflow_binary().expect("the program is built"));
    command.args(words);
    command
}

/// Runs to the end, which has to come with this exit code.
pub fn ends(code: i32, command: &mut Command) -> Finished {
    let finished = finish(command, LIMIT).expect("it ends");
    assert_eq!(
        finished.status.code(),
        Some(code),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished
}

/// What `smtpflow owner` says of an address.
pub fn owner(config: &Path, address: &str) -> Value {
    let config = config.to_str().expect("a path in UTF-8");
    let finished = ends(
        0,
        &mut smtpflow(&["owner", address, "--json", "--config", config]),
    );
    serde_json::from_str(&finished.stdout).expect("JSON")
}

/// What a source of an answer says, the last one that it says something of.
pub fn finding<'a>(owner: &'a Value, source: &str) -> &'a Value {
    let findings = owner["findings"].as_array().expect("findings");
    findings
        .iter()
        .rev()
        .find(|finding| finding["source"] == source)
        .unwrap_or_else(|| panic!("no {source} in {owner}"))
}

/// A server on loopback that does this with every client; its address.
pub fn server(act: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let act = Arc::new(act);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = Arc::clone(&act);
            thread::spawn(move || act(stream));
        }
    });
    address
}

/// The first line of what a client asks.
pub fn asked(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}
