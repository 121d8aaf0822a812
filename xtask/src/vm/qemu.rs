//! A virtual machine from its start to its end, without network, disk or screen.
//!
//! Contract: a machine has a limit for booting, for each check, and for switching itself off; one that
//! panics, hangs, is silent or ends early is a failure that names the end of its console. KVM is used where a
//! machine has been seen to run with it, and emulation otherwise.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::command;
use xtask::guest::{CHECKS, Line};
use xtask::interrupt;

use super::kernels::Kernel;

/// From power on to PID 1: three seconds under emulation on an idle machine; other work may go before this.
const BOOT: Duration = Duration::from_secs(300);
/// The same where the processor itself runs the machine; one that faults does so at once.
const TRIAL: Duration = Duration::from_secs(20);
/// What a check may take over its own limit, which the guest itself enforces.
const GRACE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// For a kernel that is emulated. One that trusts its time-stamp counter rewrites `sched_clock_cpu`, late and with
/// all CPUs running: what is not rewritten cannot be seen half done (see [`Accelerator::words`]).
const STEADY: &str = "tsc=unstable";
/// What a kernel says that is not well, at the start of a message.
const TROUBLE: [&str; 5] = [
    "Kernel panic - not syncing",
    "BUG: ",
    "Oops: ",
    "general protection fault",
    "Unable to mount root fs",
];
/// Lines of the console in an error.
const TAIL: usize = 30;

/// Who runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// This machine's processor.
    Kvm,
    /// QEMU's emulation, with the same processor everywhere.
    Tcg,
}

impl Accelerator {
    /// The one that works here: a machine has to boot with it.
    pub fn find(qemu: &Path, kernel: &Kernel, initramfs: &Path, logs: &Path) -> Self {
        let there = File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        let trial = Machine {
            name: "kvm-trial".to_owned(),
            qemu,
            kernel,
            initramfs,
            checks: &[],
            cpus: "2",
            words: "",
            accelerator: Self::Kvm,
        };
        if there && trial.run(logs).is_ok_and(|run| run.problem.is_none()) {
            Self::Kvm
        } else {
            Self::Tcg
        }
    }

    /// Emulated CPUs share a thread: on threads of their own, one may still run the breakpoint that stood in the
    /// kernel's code while another rewrote it, which is an "Oops: int3" in one boot of many. Machines run side by
    /// side, so that no processor idles for it.
    const fn words(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With random numbers, so that nothing waits for them.
            Self::Tcg => ["-accel", "tcg,thread=single", "-cpu", "Nehalem,+rdrand"],
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulation (TCG)",
        })
    }
}

/// A machine to boot.
pub struct Machine<'a> {
    /// The name of its logs.
    pub name: String,
    /// The program that runs it.
    pub qemu: &'a Path,
    /// What it boots.
    pub kernel: &'a Kernel,
    /// What the kernel unpacks.
    pub initramfs: &'a Path,
    /// What the guest checks.
    pub checks: &'a [&'a str],
    /// The number of its CPUs.
    pub cpus: &'a str,
    /// Further words of the kernel's command line.
    pub words: &'a str,
    /// Who runs it.
    pub accelerator: Accelerator,
}

/// What became of a machine.
#[derive(Debug)]
pub struct Run {
    /// What the guest said.
    pub lines: Vec<Line>,
    /// Why it is a failure, whatever the guest said.
    pub problem: Option<String>,
    /// From start to end.
    pub time: Duration,
}

impl Run {
    /// One of which there was nothing to hear.
    pub fn without_start(error: &anyhow::Error) -> Self {
        Self {
            lines: Vec::new(),
            problem: Some(format!("{error:#}")),
            time: Duration::ZERO,
        }
    }
}

impl Machine<'_> {
    /// Boots it and waits for its end. Logs go to `NAME.console.log` and `NAME.report.log` in `logs`.
    pub fn run(&self, logs: &Path) -> Result<Run> {
        fs::create_dir_all(logs)
            .with_context(|| format!("cannot make the folder {}", logs.display()))?;
        let [console, report, own] = ["console", "report", "qemu"]
            .map(|kind| logs.join(format!("{}.{kind}.log", self.name)));
        for file in [&console, &report] {
            File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let messages =
            File::create(&own).with_context(|| format!("cannot write {}", own.display()))?;
        let mut qemu = self.command(&console, &report);
        let mut child = qemu
            .stdin(Stdio::null())
            .stdout(
                messages
                    .try_clone()
                    .context("cannot duplicate a log file")?,
            )
            .stderr(messages)
            .spawn()
            .context("cannot start qemu-system-x86_64: is it installed?")?;
        let begun = Instant::now();
        let mut watch = Watch::new(self.boot_limit());
        let (mut report, mut console) = (Follow::new(report), Follow::new(console));
        let problem = loop {
            let ended = child.try_wait().context("cannot wait for QEMU")?;
            for line in report.lines()? {
                watch.hear(&line);
            }
            let trouble = console.lines()?.into_iter().find(|line| is_trouble(line));
            if let Some(trouble) = trouble {
                break Some(format!("the kernel says: {}", trouble.trim()));
            }
            if let Some(status) = ended {
                break watch.at_end().map(|what| {
                    let said = command::read_lossy(&own);
                    format!("{what} (QEMU: {status}) {}", said.trim())
                });
            }
            if interrupt::requested() {
                break Some("stopped on request".to_owned());
            }
            if let Some(late) = watch.late() {
                break Some(late);
            }
            std::thread::sleep(POLL);
        };
        // It is no leader of a group of its own; an error means that it has ended.
        let _ = child.kill();
        let _ = child.wait();
        let problem = problem.map(|what| {
            let text = command::read_lossy(&console.path);
            format!(
                "{what}; the end of {}:\n{}",
                console.path.display(),
                command::tail(&text, TAIL)
            )
        });
        Ok(Run {
            lines: watch.lines,
            problem,
            time: begun.elapsed(),
        })
    }

    fn boot_limit(&self) -> Duration {
        match self.accelerator {
            Accelerator::Kvm => TRIAL,
            Accelerator::Tcg => BOOT,
        }
    }

    fn command(&self, console: &Path, report: &Path) -> Command {
        let mut command = Command::new(self.qemu);
        command.args(self.accelerator.words());
        command.args(["-machine", "q35", "-m", "2048", "-smp", self.cpus]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        // The kernel's reboot after a panic ends QEMU.
        command.arg("-no-reboot");
        for (id, file) in [("console", console), ("report", report)] {
            command.arg("-chardev");
            command.arg(format!("file,id={id},path={}", file.display()));
            command.args(["-serial", &format!("chardev:{id}")]);
        }
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        command.arg("-append").arg(format!(
            "console=ttyS0 loglevel=5 panic=-1 random.trust_cpu=on {CHECKS}={} {}",
            self.checks.join(","),
            match self.accelerator {
                Accelerator::Kvm => String::from(self.words),
                Accelerator::Tcg => format!("{STEADY} {}", self.words),
            }
        ));
        command
    }
}

fn is_trouble(line: &str) -> bool {
    // "[    1.234567] Kernel panic ...": what user space writes has no time before it.
    let Some(rest) = line.trim_start().strip_prefix('[') else {
        return false;
    };
    let message = rest.split_once("] ").map(|(_, message)| message);
    message.is_some_and(|message| TROUBLE.iter().any(|start| message.starts_with(start)))
}

/// Where a machine is on its way, and until when it may be there.
struct Watch {
    lines: Vec<Line>,
    doing: String,
    until: Instant,
}

impl Watch {
    fn new(boot: Duration) -> Self {
        Self {
            lines: Vec::new(),
            doing: "booting".to_owned(),
            until: Instant::now() + boot,
        }
    }

    fn hear(&mut self, text: &str) {
        let Some(line) = Line::parse(text) else {
            return;
        };
        let now = Instant::now();
        match &line {
            Line::Begin(name, limit) => {
                self.doing = format!("in the check {name}");
                self.until = now + *limit + GRACE;
            }
            Line::End => {
                self.doing = "switching itself off".to_owned();
                self.until = now + GRACE;
            }
            Line::Hello(_) | Line::Ok(_) | Line::Failed(..) | Line::Without(..) => {
                self.doing = "between two checks".to_owned();
                self.until = now + GRACE;
            }
            Line::Figure(..) => {}
        }
        self.lines.push(line);
    }

    fn late(&self) -> Option<String> {
        (Instant::now() > self.until).then(|| format!("it hangs, {}", self.doing))
    }

    /// What is wrong with ending now.
    fn at_end(&self) -> Option<String> {
        let done = self.lines.last() == Some(&Line::End);
        (!done).then(|| format!("it ended, {}", self.doing))
    }
}

/// A file that grows, read line by line.
struct Follow {
    path: PathBuf,
    at: u64,
}

impl Follow {
    const fn new(path: PathBuf) -> Self {
        Self { path, at: 0 }
    }

    /// The whole lines that have come since the last look.
    fn lines(&mut self) -> Result<Vec<String>> {
        let mut new = Vec::new();
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.at))?;
                file.read_to_end(&mut new)
            })
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let whole = new.iter().rposition(|octet| *octet == b'\n');
        new.truncate(whole.map_or(0, |at| at + 1));
        self.at += new.len() as u64;
        let text = String::from_utf8_lossy(&new);
        Ok(text.lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_kernels_own_words() {
        assert!(is_trouble(
            "[    2.718281] Kernel panic - not syncing: Attempted to kill init!"
        ));
        assert!(is_trouble("[   12.3] BUG: kernel NULL pointer dereference"));
        assert!(!is_trouble("a test says: Kernel panic - not syncing"));
        assert!(!is_trouble("[    1.0] DEBUG: fine"));
    }

    #[test]
    fn a_machine_is_done_when_it_has_said_so() {
        let mut watch = Watch::new(Duration::from_secs(60));
        assert!(watch.late().is_none());
        assert!(watch.at_end().expect("nothing said").contains("booting"));
        watch.hear(&Line::Hello("6.1".into()).to_string());
        watch.hear(&Line::Begin("load".into(), Duration::from_secs(9)).to_string());
        watch.hear("what else is on the line");
        assert!(watch.at_end().expect("not done").contains("load"));
        watch.hear(&Line::Ok("load".into()).to_string());
        watch.hear(&Line::End.to_string());
        assert!(watch.at_end().is_none());
        assert_eq!(watch.lines.len(), 4);
    }

    #[test]
    fn a_machine_that_says_nothing_is_late() {
        let watch = Watch::new(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(watch.late().expect("late").contains("booting"));
    }
}
