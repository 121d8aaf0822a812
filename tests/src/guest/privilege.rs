//! What the agent needs to be allowed, on this kernel.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use xtask::command::{self, finish, tool};
use xtask::lab::{Lab, Process, ensure_bpffs, http_get, smtpflow_binary};

use super::checks::figure;
use super::kernel;

const LIMIT: Duration = Duration::from_secs(60);
const PINS: &str = "/sys/fs/bpf/smtpflow-guest-privilege";
const LISTEN: &str = "127.0.0.1:12525";
/// `Kind::NoPermission`.
const NO_PERMISSION: i32 = 77;

/// Loads and attaches with the documented capabilities alone, and is refused without each of them.
pub fn reduced() {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new("guestcap").expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");

    let mut needed = vec!["bpf", "net_admin", "perfmon"];
    for (without, name) in needed.iter().enumerate() {
        let mut some = needed.clone();
        some.remove(without);
        let finished = lab
            .within("gateway", || finish(&mut agent(&some), LIMIT))
            .expect("a thread in the namespace")
            .expect("it ends by itself");
        let error = finished.stderr;
        assert_eq!(finished.status.code(), Some(NO_PERMISSION), "{error}");
        let named = format!("CAP_{}", name.to_uppercase());
        assert!(error.contains(&named), "without {named}: {error}");
    }
    // Before 5.11 maps are charged to the limit of locked memory, which takes this one to raise.
    if kernel::version() < (5, 11) {
        needed.push("sys_resource");
    }
    let log = lab.folder().join("reduced.log");
    let address: SocketAddr = LISTEN.parse().expect("an address");
    let said = lab
        .within("gateway", || {
            let mut process = Process::start(&mut agent(&needed), "smtpflow", log.clone())
                .unwrap_or_else(|error| panic!("{error:#}"));
            command::poll_until(LIMIT, || {
                !process.is_running()
                    || http_get(address, "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
            });
            let status = http_get(address, "/api/v1/status", &[]);
            let mine = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
            let log = process.log_text();
            let status = status.unwrap_or_else(|error| panic!("{error:#}; its log: {log}"));
            (status.text(), mine.unwrap_or_default())
        })
        .expect("a thread in the namespace");
    let (status, process) = said;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let interface = &status["interfaces"][0];
    assert_eq!(interface["state"], "attached", "{status}");
    assert_eq!(interface["mode"], "driver", "{status}");
    let effective = process.lines().find(|line| line.starts_with("CapEff:"));
    println!("{effective:?}");
    figure("needs", needed.join("+"));
}

/// The agent with these capabilities alone, as root.
fn agent(capabilities: &[&str]) -> Command {
    let set = capabilities.iter().map(|name| format!(",+{name}"));
    let set = format!("-all{}", set.collect::<String>());
    let mut command = tool("setpriv", ["--bounding-set", &set, "--inh-caps", "-all"]);
    command.arg(smtpflow_binary().expect("the program"));
    command.args([
        "run",
        "--interface",
        "outer",
        "--window",
        "1s",
        "--no-store",
    ]);
    command
        .args(["--listen", LISTEN, "--pins"])
        .arg(Path::new(PINS));
    command
}
