//! What the agent needs to be allowed, on this kernel: what is documented, and the smallest sets that the
//! program `capabilities` finds by trying them all.

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

/// The smallest sets to load and attach, and to go on with: the documented one, and no smaller one.
pub fn smallest() {
    // Linux 5.11 charges maps to their control group, and 5.19 takes a descriptor for the permission.
    let mut documented = "CAP_BPF CAP_NET_ADMIN CAP_PERFMON".to_owned();
    if kernel::version() < (5, 11) {
        documented.push_str(" CAP_SYS_RESOURCE");
    }
    ensure_bpffs().expect("bpffs");
    let lab = rig("guestleast");
    let mut find = Command::new("/bin/capabilities");
    find.args(["--interface", "outer", "--bpffs", "/sys/fs/bpf"]);
    // All sets of whatever the kernel has are tried on the test machine itself.
    find.args(["--among", &documented.replace(' ', ",")]);
    let found = lab
        .within("gateway", || command::output(&mut find, 2 * LIMIT))
        .expect("a thread in the namespace")
        .unwrap_or_else(|error| panic!("{error:#}"));
    println!("{found}");
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let sets = |which: &str| -> Vec<String> {
        let sets = found[which].as_array().expect("a list").iter();
        sets.map(|set| {
            let names = set.as_array().expect("a set").iter();
            let names: Vec<&str> = names.filter_map(serde_json::Value::as_str).collect();
            names.join(" ")
        })
        .collect()
    };
    let (load, run) = (sets("load"), sets("run"));
    assert!(
        load.contains(&documented),
        "{documented} is not one of {load:?}"
    );
    let nothing = run.iter().any(String::is_empty);
    assert_eq!(nothing, kernel::version() >= (5, 19), "{run:?}");
    figure("load", &documented);
    figure("run", if nothing { "nothing" } else { &run[0] });
}

/// A client and a gateway, joined by `eth0` and `outer`.
fn rig(prefix: &str) -> Lab {
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab
}

/// Loads and attaches with the documented capabilities alone, and is refused without each of them.
pub fn reduced() {
    ensure_bpffs().expect("bpffs");
    let lab = rig("guestcap");
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
