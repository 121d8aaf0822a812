//! A gateway with an agent that another user runs, and programs for those who try to get at it.
//!
//! Contract: everything has the prefix of the test and goes with it, the BPF file system as well.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use xtask::command::{self, Finished, finish, poll_until};
use xtask::lab::{Agent, AgentOptions, Lab, Process, ensure_bpffs, http_get, smtpflow_binary};

/// The longest wait for anything here.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The gateway's address.
pub const GATEWAY: &str = "192.0.2.1";
/// The agent's user.
pub const USER: (&str, u32) = ("daemon", 1);
/// Who has no business here.
pub const NOBODY: u32 = 65534;

/// A client and a gateway, joined by `eth0` and `outer`, a BPF file system of its own with this mode, and
/// copies of programs that everybody may run.
pub struct Rig {
    /// Where the file system is.
    pub bpffs: PathBuf,
    /// The folder of the programs.
    pub programs: PathBuf,
    /// Connections that were opened.
    pub knocked: u64,
    /// The laboratory.
    pub lab: Lab,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = umount2(&self.bpffs, MntFlags::MNT_DETACH);
    }
}

impl Rig {
    /// `prefix` is that of the laboratory, `mode` that of the file system.
    pub fn new(prefix: &str, mode: &str, trespasser: &Path) -> Self {
        ensure_bpffs().expect("bpffs");
        let lab = Lab::new(prefix).expect("a laboratory");
        for name in ["client", "gateway"] {
            lab.add_namespace(name).expect("a namespace");
        }
        let folder = lab.folder();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
        let [bpffs, programs] = ["bpf", "bin"].map(|name| folder.join(name));
        for made in [&bpffs, &programs] {
            fs::create_dir_all(made).expect("a folder");
            fs::set_permissions(made, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        mount(
            Some("bpf"),
            &bpffs,
            Some("bpf"),
            MsFlags::empty(),
            Some(format!("mode={mode}").as_str()),
        )
        .expect("a BPF file system");
        let built = [
            ("smtpflow", smtpflow_binary().expect("built")),
            ("trespasser", trespasser.to_owned()),
        ];
        for (name, program) in built {
            let copy = programs.join(name);
            fs::copy(program, &copy).expect("copied");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        let rig = Self {
            bpffs,
            programs,
            knocked: 0,
            lab,
        };
        rig.link();
        rig
    }

    /// Makes the link, with its addresses.
    pub fn link(&self) {
        self.lab
            .link(("client", "eth0"), ("gateway", "outer"), None)
            .expect("a link");
        self.lab
            .ip("client", "addr add 192.0.2.2/24 dev eth0")
            .expect("an address");
        self.lab
            .ip("gateway", &format!("addr add {GATEWAY}/24 dev outer"))
            .expect("an address");
    }

    /// Deletes it and makes it anew.
    pub fn remake_link(&self) {
        self.lab.ip("gateway", "link del outer").expect("deleted");
        self.link();
    }

    /// The directory of pins.
    pub fn pins(&self) -> PathBuf {
        self.bpffs.join("smtpflow")
    }

    /// The file of the store.
    pub fn store(&self) -> PathBuf {
        self.lab.folder().join("store/smtpflow.db")
    }

    /// An agent that counts here, with these arguments.
    pub fn options(&self, extra: &[&str]) -> AgentOptions {
        let mut options = AgentOptions::new(&self.lab).expect("options");
        options.binary = self.programs.join("smtpflow");
        options.interfaces = vec!["outer".to_owned()];
        options.window = "1s".to_owned();
        options.pins = self.pins();
        options.extra = extra.iter().map(|&word| word.to_owned()).collect();
        options
    }

    /// A program that is smtpflow with no more than these capabilities in its bounding set.
    pub fn bounded(&self, capabilities: &str) -> PathBuf {
        let path = self.programs.join("bounded");
        let set = capabilities.replace(',', ",+");
        let text = format!(
            "#!/bin/sh\nexec {} --bounding-set=-all,+{set} {} \"$@\"\n",
            command::find("setpriv")
                .expect("setpriv, of util-linux")
                .display(),
            self.programs.join("smtpflow").display()
        );
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        path
    }

    /// Starts it, and waits until it counts.
    pub fn start(&self, options: &AgentOptions) -> Agent {
        let mut agent = self.lab.agent(options).expect("the agent starts");
        agent.wait_ready(LIMIT).expect("the agent is ready");
        agent
    }

    /// Opens this many connections to a port where nobody listens.
    pub fn knock(&mut self, times: u64) {
        let target: SocketAddr = format!("{GATEWAY}:25").parse().expect("an address");
        self.lab
            .within("client", || {
                for _ in 0..times {
                    TcpStream::connect_timeout(&target, LIMIT).expect_err("a closed port");
                }
            })
            .expect("a thread in the namespace");
        self.knocked += times;
    }

    /// Exactly what was opened is counted.
    pub fn counted(&self, agent: &mut Agent) {
        agent.wait_drained(LIMIT).expect("a drain");
        let status = agent.json("/api/v1/status").expect("status");
        assert_eq!(status["totals"]["connections"], self.knocked, "{status}");
        assert_eq!(status["conservation"]["error"], 0, "{status}");
    }

    /// What this user can do with these paths.
    pub fn trespass(&self, user: u32, paths: &[PathBuf]) -> String {
        let mut command = Command::new(self.programs.join("trespasser"));
        // The groups of whoever runs the tests are left by the standard library.
        command.args(paths).uid(user).gid(user);
        well(&mut command).stdout
    }
}

/// Runs it to a good end.
#[track_caller]
pub fn well(command: &mut Command) -> Finished {
    let finished = finish(command, LIMIT).expect("it ends");
    assert!(
        finished.status.success(),
        "`{}` wrote:\n{}{}",
        command::line(command),
        finished.stdout,
        finished.stderr
    );
    finished
}

/// Runs it to an end with this code, and gives its words.
#[track_caller]
pub fn refused(code: i32, command: &mut Command) -> String {
    let finished = finish(command, LIMIT).expect("it ends");
    assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
    finished.stderr
}

/// The lines of the status of every thread of a process: name of the line and value.
pub fn threads(id: u32) -> Vec<Vec<(String, String)>> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("its threads");
    tasks
        .map(|task| {
            let path = task.expect("a thread").path().join("status");
            let text = fs::read_to_string(path).expect("its status");
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| {
                    let words: Vec<&str> = value.split_whitespace().collect();
                    (name.to_owned(), words.join(" "))
                })
                .collect()
        })
        .collect()
}

/// No thread has a capability in any set, all have this user and `no_new_privs`.
#[track_caller]
pub fn has_nothing(id: u32, user: u32) {
    let threads = threads(id);
    assert!(threads.len() >= 4, "{threads:?}");
    for thread in threads {
        let value = |name: &str| {
            let mut lines = thread.iter();
            let line = lines.find(|(other, _)| other == name);
            line.map(|(_, value)| value.as_str()).expect("the line")
        };
        let name = value("Name");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
            assert_eq!(value(set), "0000000000000000", "{set} of {name}");
        }
        assert_eq!(value("NoNewPrivs"), "1", "{name}");
        let user = user.to_string();
        for line in ["Uid", "Gid"] {
            assert_eq!(value(line), [user.as_str(); 4].join(" "), "{name}");
        }
        assert_eq!(value("Groups"), "", "{name}");
    }
}

/// Waits until the status says this of the interface.
#[track_caller]
pub fn told(agent: &mut Agent, state: &str) -> Value {
    let mut last = Value::Null;
    let told = poll_until(Duration::from_secs(10), || {
        last = agent.json("/api/v1/status").expect("status")["interfaces"][0].take();
        last["state"] == state
    });
    assert!(
        told,
        "not {state} but {last}:\n{}",
        agent.process().log_text()
    );
    last
}

/// `smtpflow attach` for the agent's user.
pub fn attach(rig: &Rig, user: &str) -> Command {
    let mut command = Command::new(rig.programs.join("smtpflow"));
    command.args(["attach", "--interface", "outer", "--user", user]);
    command.args(["--netns", &rig.lab.ns("gateway")]);
    command.arg("--pins").arg(rig.pins());
    command
}

/// An agent that was never anything but the agent's user.
pub fn unprivileged(rig: &Rig) -> Process {
    let store = rig.store();
    let folder = store.parent().expect("a folder");
    fs::create_dir_all(folder).expect("a folder");
    well(Command::new("chown").arg("1:1").arg(folder));
    // It looks at interfaces where it runs: its namespace is entered for it, by whoever starts it.
    let mut command = Command::new(command::find("nsenter").expect("nsenter, of util-linux"));
    command
        .arg(format!("--net=/run/netns/{}", rig.lab.ns("gateway")))
        .arg(command::find("setpriv").expect("setpriv, of util-linux"))
        .args(["--reuid=1", "--regid=1", "--clear-groups", "--no-new-privs"])
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(rig.programs.join("smtpflow"))
        .args(["run", "--attached", "--user", USER.0, "--window", "1s"])
        .args(["--listen", "127.0.0.1:12525"])
        .arg("--pins")
        .arg(rig.pins())
        .arg("--store")
        .arg(store);
    rig.lab.start(&mut command, "smtpflow").expect("it starts")
}

/// What that agent answers, asked inside its namespace.
pub fn ask(rig: &Rig, path: &str) -> Option<Value> {
    let listen: SocketAddr = "127.0.0.1:12525".parse().expect("an address");
    let answer = rig
        .lab
        .within("gateway", || http_get(listen, path, &[]))
        .expect("a thread in the namespace");
    answer.ok()?.json().ok()
}

/// Waits until its status is so.
#[track_caller]
pub fn says(
    rig: &Rig,
    what: &str,
    log: impl Fn() -> String,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    let so = poll_until(Duration::from_secs(20), || {
        last = ask(rig, "/api/v1/status").unwrap_or_default();
        is_so(&last)
    });
    assert!(so, "never {what}: {last}\n{}", log());
    last
}
