//! PID 1.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use xtask::command::{self, Ended};
use xtask::guest::{CHECKS, DEVICE, FIGURE, Line, WITHOUT};

use super::checks::{CHECKS as ALL, Check, Work};
use super::kernel;

/// What is mounted, in this order: type, place, options.
const MOUNTS: [(&str, &str, &str); 8] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("tmpfs", "/run", "mode=0755"),
    ("tmpfs", "/tmp", ""),
    ("bpf", "/sys/fs/bpf", "mode=0755"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("debugfs", "/sys/kernel/debug", ""),
];
/// Where the modules are, and the list of them.
const MODULES: &str = "/modules";
/// Lines of a check's output on the console: of one that failed, and of any other.
const SHOWN: [usize; 2] = [400, 60];
/// Lines of a panic's message in the report.
const MESSAGE: usize = 6;

/// Runs the machine from here to its end.
pub fn boot() {
    // A panic of PID 1 is one of the kernel, which the host sees.
    for (kind, place, options) in MOUNTS {
        fs::create_dir_all(place).unwrap_or_else(|error| panic!("{place}: {error}"));
        let mounted = mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            (!options.is_empty()).then_some(options),
        );
        // The kernel may have mounted /dev by itself.
        if let Err(error) = mounted
            && kind != "devtmpfs"
        {
            panic!("cannot mount {kind} at {place}: {error}");
        }
    }
    let mut host = Host::open();
    host.say(&Line::Hello(kernel::release()));
    load_modules();
    command::output(
        &mut command::tool("ip", ["link", "set", "lo", "up"]),
        Duration::from_secs(20),
    )
    .unwrap_or_else(|error| panic!("{error:#}"));
    for name in asked() {
        match ALL.iter().find(|check| check.name == name) {
            Some(check) => run(check, &mut host),
            None => host.say(&Line::Failed(name, "there is no such check".to_owned())),
        }
        reap();
    }
    host.say(&Line::End);
    let error = reboot(RebootMode::RB_POWER_OFF);
    panic!("cannot switch the machine off: {error:?}");
}

/// The line to the host.
struct Host(File);

impl Host {
    fn open() -> Self {
        let line = OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(DEVICE);
        Self(line.unwrap_or_else(|error| panic!("{DEVICE}: {error}")))
    }

    fn say(&mut self, line: &Line) {
        println!("{line}");
        writeln!(self.0, "{line}").unwrap_or_else(|error| panic!("{DEVICE}: {error}"));
    }
}

fn load_modules() {
    let list = Path::new(MODULES).join("order");
    let text = fs::read_to_string(&list).unwrap_or_default();
    for name in text.lines() {
        let path = Path::new(MODULES).join(name);
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        finit_module(&file, c"", ModuleInitFlags::empty())
            .unwrap_or_else(|error| panic!("cannot load {}: {error}", path.display()));
    }
}

/// The checks that the command line of the kernel names.
fn asked() -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").expect("the command line of the kernel");
    let names = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(CHECKS)?.strip_prefix('='))
        .unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn run(check: &Check, host: &mut Host) {
    let name = check.name.to_owned();
    host.say(&Line::Begin(name.clone(), check.limit));
    let mut command = match &check.work {
        Work::Own(_) => {
            let mut command = Command::new("/init");
            command.args(["check", check.name]);
            command
        }
        Work::Tests(program, names) => {
            let mut command = Command::new(Path::new("/tests").join(program));
            command.args(["--test-threads=1", "--show-output"]);
            command.args(*names);
            for name in kernel::not_for_it() {
                command.args(["--skip", name]);
            }
            command
        }
    };
    command.env("SMTPFLOW_BIN", "/bin/smtpflow");
    let log = Path::new("/run/check.log");
    let begun = std::time::Instant::now();
    let ended =
        command::logged(&mut command, log, check.limit).unwrap_or_else(|error| panic!("{error:#}"));
    let seconds = begun.elapsed().as_secs_f64();
    let text = command::read_lossy(log);
    let good = matches!(ended, Ended::Exited(status) if status.success());
    println!("{}", command::tail(&text, SHOWN[usize::from(good)]));
    for line in text.lines() {
        if let Some((figure, value)) = line
            .strip_prefix(FIGURE)
            .and_then(|rest| rest.split_once(' '))
        {
            host.say(&Line::Figure(
                name.clone(),
                figure.to_owned(),
                value.to_owned(),
            ));
        }
    }
    let seconds = format!("{seconds:.1}");
    host.say(&Line::Figure(name.clone(), "seconds".to_owned(), seconds));
    let without = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(WITHOUT));
    let ran_none = matches!(check.work, Work::Tests(..)) && text.contains("running 0 tests");
    host.say(&match (ended, without) {
        _ if ran_none => Line::Failed(name, "no test ran".to_owned()),
        (_, Some(why)) if good => Line::Without(name, why.to_owned()),
        _ if good => Line::Ok(name),
        (Ended::Exited(status), _) => Line::Failed(name, format!("{status}: {}", why(&text))),
        (Ended::TimedOut | Ended::Interrupted, _) => {
            let limit = check.limit.as_secs();
            Line::Failed(name, format!("killed after {limit} s: {}", why(&text)))
        }
    });
}

/// The message of the first panic, or else the last words.
fn why(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let start = panic.unwrap_or(lines.len().saturating_sub(MESSAGE));
    let lines = lines.iter().skip(start).take(MESSAGE);
    lines.copied().collect::<Vec<_>>().join(" ")
}

/// What processes left behind when they were killed is a child of PID 1 now.
fn reap() {
    while matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(status) if status != WaitStatus::StillAlive
    ) {}
}
