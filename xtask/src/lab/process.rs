//! A program that runs beside the caller, and ends with it.
//!
//! Each is the leader of its own process group, so that a Ctrl-C at the terminal does not reach it
//! before the laboratory has decided in what order things end. Dropping a [`Process`] kills the group
//! and reaps the leader; [`Process::stop`] asks first.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;

/// A running program, its log file, and the duty to end it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs going to the file `log`. `name` is used in messages.
    pub fn start(command: &mut Command, name: &str, log: PathBuf) -> Result<Self> {
        let file = File::create(&log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        let copy = file.try_clone().context("cannot duplicate the log file")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .with_context(|| {
                let line = command::line(command);
                format!("cannot start {name} (`{line}`): is it installed?")
            })?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that takes both outputs.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it wrote until now.
    pub fn log_text(&self) -> String {
        command::read_lossy(&self.log)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let raw = i32::try_from(self.child.id()).context("the process id is no pid_t")?;
        kill(Pid::from_raw(raw), signal)
            .with_context(|| format!("cannot send {signal} to {} (process {raw})", self.name))
    }

    /// Waits for its end, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = command::wait(&mut self.child, limit, || false)
            .with_context(|| format!("cannot wait for {}", self.name))?;
        match status {
            Some(status) => Ok(status),
            None => bail!(
                "{} (process {}) still ran after {} s; its last words:\n{}",
                self.name,
                self.id(),
                limit.as_secs(),
                command::tail(&self.log_text(), 20)
            ),
        }
    }

    /// Waits for its end and takes any status but 0 for an error, with its last words.
    pub fn succeed(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!(
                "{} failed ({status}); its last words:\n{}",
                self.name,
                command::tail(&self.log_text(), 20)
            );
        }
        Ok(())
    }

    /// Sends `signal` and waits for the end. When `limit` passes, it is killed, and that is an error.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            self.signal(signal)?;
        }
        self.wait(limit)
            .with_context(|| format!("{} did not obey {signal}", self.name))
            .inspect_err(|_| command::kill_group(&mut self.child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also when the leader has ended: what it left in its group goes with it.
        command::kill_group(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-process-{name}-{}.log", std::process::id()))
    }

    #[test]
    fn a_stopped_process_says_goodbye() {
        let log = log("stop");
        let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
        let mut process = Process::start(
            &mut command::tool("sh", ["-c", script]),
            "script",
            log.clone(),
        )
        .expect("sh starts");
        assert!(command::poll_until(Duration::from_secs(10), || process
            .log_text()
            .contains("up")));
        let status = process
            .stop(Signal::SIGTERM, Duration::from_secs(10))
            .expect("it obeys");
        assert_eq!(status.code(), Some(7));
        assert!(process.log_text().contains("bye"));
        std::fs::remove_file(log).expect("the log is there");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let log = log("drop");
        let process = Process::start(&mut command::tool("sleep", ["60"]), "sleep", log.clone())
            .expect("sleep starts");
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        std::fs::remove_file(log).expect("the log is there");
    }
}
