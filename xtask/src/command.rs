//! Runs programs: every run has a limit in time, and every failure says which command failed, how,
//! and what it wrote.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;

/// How often a wait looks again. Short against every wait here, long against a system call.
const POLL: Duration = Duration::from_millis(20);

/// The administrator's folders: they are missing from an ordinary user's PATH, but `ip`, `ethtool`
/// and `smtp-sink` live there.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The full path of `program`, from PATH and then from the administrator's folders.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(ADMIN_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A command for `program` with `args`, found as by [`find`]. A program that is nowhere is left to
/// fail at the start, where the error names it.
pub fn tool<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = match find(program) {
        Some(path) => Command::new(path),
        None => Command::new(program),
    };
    command.args(args);
    command
}

/// The command as a line that can be read, for messages.
pub fn line(command: &Command) -> String {
    let mut text = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        // Writing to a String cannot fail.
        let _ = write!(text, " {}", arg.to_string_lossy());
    }
    text
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs `command` to its end and keeps what it wrote, whatever its exit status.
pub fn finish(command: &mut Command, limit: Duration) -> Result<Finished> {
    let name = line(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: a Ctrl-C at the terminal must not hit a half-done `ip` or `tc`, and a
        // command that overruns its limit is killed with all that it started.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{name}`: is it installed?"))?;
    // Both pipes are read while the child runs: a full pipe would stop it for ever.
    let stdout = child.stdout.take().map(read_on_thread);
    let stderr = child.stderr.take().map(read_on_thread);
    let status = wait(&mut child, limit, || false);
    if !matches!(status, Ok(Some(_))) {
        kill_group(&mut child);
    }
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|r| r.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    match status.with_context(|| format!("cannot wait for `{name}`"))? {
        Some(status) => Ok(Finished {
            status,
            stdout,
            stderr,
        }),
        None => bail!(
            "`{name}` was still running after {} s and was killed\n{}",
            limit.as_secs(),
            tail(&stderr, 20)
        ),
    }
}

/// Runs `command` to its end and returns its standard output; any other status than 0 is an error
/// that carries what it wrote.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let name = line(command);
    let Finished {
        status,
        stdout,
        stderr,
    } = finish(command, limit)?;
    if !status.success() {
        let said = if stderr.trim().is_empty() {
            &stdout
        } else {
            &stderr
        };
        bail!("`{name}` failed ({status}): {}", tail(said.trim(), 20));
    }
    Ok(stdout)
}

/// How a command that wrote to a log file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(ExitStatus),
    /// Killed: it had run for longer than it may.
    TimedOut,
    /// Killed: the user asked to stop.
    Interrupted,
}

/// Runs `command` with both outputs going to the file `log`, which is made anew.
pub fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<Ended> {
    let name = line(command);
    let folder = log.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file =
        File::create(log).with_context(|| format!("cannot write the log {}", log.display()))?;
    let copy = file.try_clone().context("cannot duplicate the log file")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{name}`: is it installed?"))?;
    match wait(&mut child, limit, interrupt::requested) {
        Ok(Some(status)) => Ok(Ended::Exited(status)),
        Ok(None) => {
            kill_group(&mut child);
            Ok(if interrupt::requested() {
                Ended::Interrupted
            } else {
                Ended::TimedOut
            })
        }
        Err(error) => {
            kill_group(&mut child);
            Err(error).with_context(|| format!("cannot wait for `{name}`"))
        }
    }
}

/// Runs `command` as [`logged`] does; any end but success is an error with the end of the log.
pub fn succeed(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let name = line(command);
    let how = match logged(command, log, limit)? {
        Ended::Exited(status) if status.success() => return Ok(()),
        Ended::Exited(status) => format!("failed ({status})"),
        Ended::TimedOut => format!("was killed after {} s", limit.as_secs()),
        Ended::Interrupted => "was stopped on request".to_owned(),
    };
    bail!(
        "`{name}` {how}; the end of {}:\n{}",
        log.display(),
        tail(&read_lossy(log), 30)
    );
}

/// The child's exit status, or `None` when `limit` passed or `cancelled` said so.
pub fn wait(
    child: &mut Child,
    limit: Duration,
    cancelled: impl Fn() -> bool,
) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if cancelled() || Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Waits until `ready` says yes; false when `limit` passed first.
pub fn poll_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Kills a child that leads its own process group, with all of the group, and reaps it.
pub fn kill_group(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        // An error means that the group is gone already, which is what is wanted.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// The last `lines` lines of `text`.
pub fn tail(text: &str, lines: usize) -> &str {
    let start = text
        .trim_end()
        .rmatch_indices('\n')
        .nth(lines.saturating_sub(1))
        .map_or(0, |(at, _)| at + 1);
    &text[start..]
}

/// A file's text, empty when it cannot be read: for logs in messages, where the message matters more.
pub fn read_lossy(file: &Path) -> String {
    std::fs::read(file)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn read_on_thread(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A read error ends the text early; the exit status still tells how the command ended.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb", 5), "a\nb");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn a_failure_carries_the_command_and_what_it_wrote() {
        let error = output(
            &mut tool("sh", ["-c", "echo no such thing >&2; exit 3"]),
            Duration::from_secs(10),
        )
        .expect_err("exit status 3");
        let text = format!("{error:#}");
        assert!(text.contains("no such thing"), "{text}");
        assert!(text.contains("sh -c"), "{text}");
    }

    #[test]
    fn a_command_that_overruns_is_killed() {
        let begun = Instant::now();
        let error = output(&mut tool("sleep", ["60"]), Duration::from_millis(200))
            .expect_err("a minute does not fit into 200 ms");
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(format!("{error:#}").contains("still running"), "{error:#}");
    }

    #[test]
    fn find_sees_the_shell_and_not_a_fantasy() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
