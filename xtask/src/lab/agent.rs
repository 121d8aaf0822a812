//! The agent under observation: starts `smtpflow run`, asks its API, and ends it as an operator would,
//! with SIGTERM and time for a last drain.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::state::BPFFS;
use super::{GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE, Lab, Process, Response, http_get};
use crate::command;

/// A last drain, its RCU grace period and the detaching take well under a second; this is for a
/// machine that is very busy.
const STOP: Duration = Duration::from_secs(30);

/// How to run the agent on the laboratory's gateway.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The `smtpflow` program.
    pub binary: PathBuf,
    /// The interfaces in the gateway's namespace.
    pub interfaces: Vec<String>,
    /// The window, as `--window` takes it.
    pub window: String,
    /// Where its HTTP server listens.
    pub listen: SocketAddr,
    /// The directory of pins.
    pub pins: PathBuf,
    /// The file of its store; `None` runs it without one.
    pub store: Option<PathBuf>,
    /// Further arguments.
    pub extra: Vec<String>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl AgentOptions {
    /// Both gateway interfaces, windows of 2 s, a free port, pins and a store of its own.
    pub fn new(lab: &Lab) -> Result<Self> {
        Ok(Self {
            binary: smtpflow_binary()?,
            interfaces: [GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE]
                .map(str::to_owned)
                .to_vec(),
            window: "2s".to_owned(),
            listen: free_listen_address()?,
            pins: Path::new(BPFFS).join(format!("smtpflow-{}", lab.prefix)),
            store: Some(lab.folder().join("store/smtpflow.db")),
            extra: Vec::new(),
            environment: Vec::new(),
        })
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    listen: SocketAddr,
}

impl Lab {
    /// Starts the agent on the gateway. It runs outside the namespace and enters it by `--netns`, for
    /// `ip netns exec` would hide bpffs from it. [`Agent::wait_ready`] waits until it counts.
    pub fn agent(&self, options: &AgentOptions) -> Result<Agent> {
        self.agent_with_environment(options, &[])
    }

    /// The same with further variables in its environment.
    pub fn agent_with_environment(
        &self,
        options: &AgentOptions,
        environment: &[(&str, &str)],
    ) -> Result<Agent> {
        ensure_bpffs()?;
        self.record_pins(&options.pins)?;
        let mut command = Command::new(&options.binary);
        command.envs(environment.iter().copied());
        command.arg("run");
        for interface in &options.interfaces {
            command.args(["--interface", interface]);
        }
        command.args(["--netns", &self.ns("gateway"), "--window", &options.window]);
        command.arg("--pins").arg(&options.pins);
        match &options.store {
            Some(store) => command.arg("--store").arg(store),
            None => command.arg("--no-store"),
        };
        command.args(["--listen", &options.listen.to_string()]);
        command.args(&options.extra);
        for (name, value) in &options.environment {
            command.env(name, value);
        }
        Ok(Agent {
            process: self.start(&mut command, "smtpflow")?,
            listen: options.listen,
        })
    }
}

impl Agent {
    /// Where its HTTP server listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The process, for signals and for its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until it is attached and has drained once.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let (listen, process) = (self.listen, &mut self.process);
        let mut ready = false;
        command::poll_until(limit, || {
            ready = http_get(listen, "/readyz", &[]).is_ok_and(|r| r.status == 200);
            ready || !process.is_running()
        });
        ensure!(
            ready,
            "the agent is not ready ({}); its last words:\n{}",
            if process.is_running() {
                format!("still running after {} s", limit.as_secs())
            } else {
                "it has ended".to_owned()
            },
            command::tail(&process.log_text(), 20)
        );
        Ok(())
    }

    /// One GET, whatever the status.
    pub fn get(&self, path: &str) -> Result<Response> {
        http_get(self.listen, path, &[])
    }

    /// One GET that must answer 200 and JSON.
    pub fn json(&mut self, path: &str) -> Result<Value> {
        let response = self.get(path).map_err(|error| self.explain(error))?;
        if response.status != 200 {
            bail!(
                "GET {path} answered {}: {}",
                response.status,
                response.text()
            );
        }
        response.json().with_context(|| format!("GET {path}"))
    }

    /// An error of a request, or rather that the agent has ended, if it has.
    fn explain(&mut self, error: Error) -> Error {
        if self.process.is_running() {
            return error;
        }
        let words = self.process.log_text();
        error.context(format!(
            "the agent has ended by itself; its last words:\n{}",
            command::tail(&words, 20)
        ))
    }

    /// SIGTERM, and wait: it drains once more and detaches.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(Signal::SIGTERM, STOP)
    }

    /// Waits until a drain has happened that began after this call, so that everything sent before it
    /// is in the answers: two later drains, since one may be under way.
    pub fn wait_drained(&mut self, limit: Duration) -> Result<()> {
        let (mut last, mut changes) = (self.last_drain()?, 0);
        let mut problem = None;
        command::poll_until(limit, || {
            match self.last_drain() {
                Ok(now) if now != last => {
                    last = now;
                    changes += 1;
                }
                Ok(_) => {}
                Err(error) => problem = Some(error),
            }
            changes >= 2 || problem.is_some()
        });
        if let Some(error) = problem {
            return Err(error);
        }
        ensure!(
            changes >= 2,
            "the agent at {} has not drained twice within {} s",
            self.listen,
            limit.as_secs()
        );
        Ok(())
    }

    /// When it last drained, in its own words; JSON null before the first time.
    fn last_drain(&mut self) -> Result<Value> {
        Ok(self.json("/api/v1/status")?["last_drain"]["at"].take())
    }
}

/// The `smtpflow` program: `SMTPFLOW_BIN` if set, else the one beside the running program's target
/// folder (tests run from `target/PROFILE/deps`, the tasks from `target/PROFILE`).
pub fn smtpflow_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SMTPFLOW_BIN") {
        return Ok(PathBuf::from(path));
    }
    let me = std::env::current_exe().context("cannot find out where this program is")?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("smtpflow"))
        .find(|file| file.is_file())
        .with_context(|| {
            format!(
                "no program smtpflow beside {}: build it with `cargo xtask build`, \
                 or name it in SMTPFLOW_BIN",
                me.display()
            )
        })
}

/// An address on loopback where nothing listens, another one each time: stages run side by side, and listening and
/// letting go is no reservation.
pub fn free_listen_address() -> Result<SocketAddr> {
    free(0).context("no free TCP port on 127.0.0.1")
}

/// The agent's usual address if nothing listens there, or a free one.
pub fn usual_listen_address() -> Result<SocketAddr> {
    free(12525).or_else(|_| free_listen_address())
}

fn free(port: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.local_addr().context("a socket without an address")
}

/// Mounts bpffs at its usual place if nothing has yet.
pub fn ensure_bpffs() -> Result<()> {
    let table =
        std::fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if has_bpffs(&table) {
        return Ok(());
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .with_context(|| format!("cannot mount bpffs at {BPFFS}; try: mount -t bpf bpf {BPFFS}"))
}

fn has_bpffs(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(BPFFS) && fields.next() == Some("bpf")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_bpffs_is_seen() {
        let mounts = "proc /proc proc rw 0 0\nnone /sys/fs/bpf bpf rw,mode=700 0 0\n";
        assert!(has_bpffs(mounts));
        assert!(!has_bpffs("tmpfs /sys/fs/bpf tmpfs rw 0 0\n"));
        assert!(!has_bpffs("bpf /mnt/bpf bpf rw 0 0\n"));
    }

    #[test]
    fn a_free_address_can_be_bound() {
        let address = free_listen_address().expect("some port is free");
        assert!(address.ip().is_loopback());
    }
}
