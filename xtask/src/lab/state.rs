//! What a laboratory has started and must remove, written down as it happens, so that a run that was
//! killed can be cleaned up by the next one.
//!
//! The file holds one record per line: `pid PID START PROGRAM` for a process, `path PATH` for a
//! directory of pins. A process is killed only if the process that has the number now started at the
//! recorded time and runs the recorded program: a number that was given away again is left alone.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;

/// How long a process may take to obey a signal before the next, stronger step.
const PATIENCE: Duration = Duration::from_secs(5);

/// Only directories below this one are ever removed on a record's word.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// The record of one laboratory.
#[derive(Debug)]
pub(super) struct State {
    file: PathBuf,
}

impl State {
    pub(super) fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Writes down a process that was just started.
    pub(super) fn process(&self, pid: u32, program: &str) -> Result<()> {
        let start = Stat::of(pid).map_or(0, |stat| stat.start);
        self.append(&format!("pid {pid} {start} {program}\n"))
    }

    /// Writes down a directory of pins.
    pub(super) fn pins(&self, path: &Path) -> Result<()> {
        self.append(&format!("path {}\n", path.display()))
    }

    fn append(&self, line: &str) -> Result<()> {
        // One write of one short line to a file opened for appending: threads do not mix lines.
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.file)
            .and_then(|mut file: File| file.write_all(line.as_bytes()))
            .with_context(|| format!("cannot write to {}", self.file.display()))
    }

    /// Kills the recorded processes that still run, then removes the recorded pins.
    pub(super) fn undo(&self) -> Leftovers {
        let text = command::read_lossy(&self.file);
        let mut done = Leftovers::default();
        // Processes first: an agent that is told to end removes its own pins.
        for record in text.lines().filter_map(Record::parse) {
            if let Record::Process {
                pid,
                start,
                program,
            } = record
                && is_same(pid, start, program)
            {
                end(pid, || is_same(pid, start, program));
                done.processes += 1;
            }
        }
        for record in text.lines().filter_map(Record::parse) {
            if let Record::Pins(path) = record
                && is_below_bpffs(Path::new(path))
                && fs::remove_dir_all(path).is_ok()
            {
                done.pins += 1;
            }
        }
        done
    }
}

/// What an earlier run had left behind and was removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes that were ended.
    pub processes: usize,
    /// Directories of pins that were removed.
    pub pins: usize,
    /// Namespaces that were removed.
    pub namespaces: usize,
}

impl Leftovers {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processes,
            pins,
            namespaces,
        } = self;
        write!(
            f,
            "{processes} processes, {namespaces} namespaces, {pins} directories of pins"
        )
    }
}

/// Ends process `pid` as politely as it lets us, as long as `alive` says that it is there.
pub(super) fn end(pid: u32, alive: impl Fn() -> bool) {
    let Ok(raw) = i32::try_from(pid) else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // The only failures are that it is gone or not ours; the wait below sees both.
        let _ = kill(Pid::from_raw(raw), signal);
        if command::poll_until(PATIENCE, || !alive()) {
            return;
        }
    }
}

/// Whether a process `pid` exists that is not just waiting to be reaped.
pub(super) fn is_alive(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state != 'Z')
}

fn is_same(pid: u32, start: u64, program: &str) -> bool {
    let named = fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(program));
    named && Stat::of(pid).is_some_and(|stat| stat.state != 'Z' && stat.start == start)
}

fn is_below_bpffs(path: &Path) -> bool {
    path.starts_with(BPFFS)
        && path != Path::new(BPFFS)
        && path
            .components()
            .all(|part| part != std::path::Component::ParentDir)
}

#[derive(Debug, PartialEq, Eq)]
enum Record<'a> {
    Process {
        pid: u32,
        start: u64,
        program: &'a str,
    },
    Pins(&'a str),
}

impl<'a> Record<'a> {
    /// A line that is cut (the writer was killed) is no record.
    fn parse(line: &'a str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "pid" => {
                let mut words = rest.splitn(3, ' ');
                Some(Self::Process {
                    pid: words.next()?.parse().ok()?,
                    start: words.next()?.parse().ok()?,
                    program: words.next().filter(|program| !program.is_empty())?,
                })
            }
            "path" => Some(Self::Pins(rest)),
            _ => None,
        }
    }
}

/// The two fields of `/proc/PID/stat` that tell one process from another (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in brackets and may itself hold brackets and spaces.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            // Field 22; the list starts with field 3.
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_last_bracket() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 20";
        assert_eq!(
            Stat::parse(text),
            Some(Stat {
                state: 'S',
                start: 987_654
            })
        );
        assert_eq!(Stat::parse("42 (cut"), None);
    }

    #[test]
    fn records_are_read_back_and_cut_lines_are_not() {
        assert_eq!(
            Record::parse("pid 7 99 smtp-sink"),
            Some(Record::Process {
                pid: 7,
                start: 99,
                program: "smtp-sink"
            })
        );
        assert_eq!(
            Record::parse("path /sys/fs/bpf/x"),
            Some(Record::Pins("/sys/fs/bpf/x"))
        );
        for cut in ["", "pid", "pid 7", "pid 7 99", "pid 7 99 ", "pid x 99 a"] {
            assert_eq!(Record::parse(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn only_folders_below_bpffs_are_pins() {
        assert!(is_below_bpffs(Path::new("/sys/fs/bpf/smtpflow")));
        for other in [
            "/sys/fs/bpf",
            "/sys/fs/bpf/",
            "/sys/fs/bpf/../../x",
            "/etc",
            "",
        ] {
            assert!(!is_below_bpffs(Path::new(other)), "{other:?}");
        }
    }

    #[test]
    fn a_process_with_another_start_time_is_another_process() {
        let me = std::process::id();
        let start = Stat::of(me).expect("own stat").start;
        let line = fs::read(format!("/proc/{me}/cmdline")).expect("own command line");
        let name = String::from_utf8_lossy(&line)
            .split('\0')
            .next()
            .unwrap_or_default()
            .to_owned();
        assert!(is_same(me, start, &name));
        assert!(!is_same(me, start + 1, &name));
        assert!(!is_same(me, start, "some-other-program"));
    }
}
