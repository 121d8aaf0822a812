//! What will work on this machine, what will not, and what to do about it.
//!
//! Contract: looks and changes nothing (the port of the HTTP server is taken for a moment); needs
//! no privilege, and says where it could not look for lack of it. A finding fails only if
//! `smtpflow run` with the same configuration would fail, or would count nothing.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statfs::{FsType, statfs};
use serde::Serialize;

use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::kernel::Release;
use crate::link::{Abilities, Link};
use crate::privilege::Held;
use crate::{link, meter, privilege, serve};

mod interface;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS: FsType = FsType(0xcafe_4a11);
/// The oldest kernel that is tested. Attaching by links came with 5.9, the ring buffer with 5.8.
const OLDEST_KERNEL: Release = Release(5, 10);
/// Since then, XDP programs may take frames in several buffers.
const FRAGS_KERNEL: Release = Release(5, 18);
/// Since then, memory of maps counts to the memory of the process and not to its locked memory.
const MAP_MEMORY_KERNEL: Release = Release(5, 11);

/// What to examine the machine for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration that shall run.
    pub config: Config,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Works.
    Ok,
    /// Works, with something that is better known.
    Warning,
    /// Does not work.
    Fails,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it ended.
    pub outcome: Outcome,
    /// What was looked at: `kernel`, `bpffs`, `interface eth0`.
    pub check: String,
    /// What is there, and what follows from it.
    pub text: String,
    /// What to do about it.
    pub way_out: Option<String>,
}

impl Finding {
    fn ok(check: &str, text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Ok,
            check: check.to_owned(),
            text: text.into(),
            way_out: None,
        }
    }

    fn warning(check: &str, text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Warning,
            way_out: Some(way_out.into()),
            ..Self::ok(check, text)
        }
    }

    fn fails(check: &str, text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Fails,
            ..Self::warning(check, text, way_out)
        }
    }
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Whether everything needed works.
    pub fn works(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.outcome != Outcome::Fails)
    }

    /// One line per finding.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let outcome = match finding.outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "warning",
                Outcome::Fails => "fails",
            };
            let _ = write!(text, "{outcome:<8} {}: {}", finding.check, finding.text);
            if let Some(way_out) = &finding.way_out {
                let _ = write!(text, "; {way_out}");
            }
            text.push('\n');
        }
        text.push_str(if self.works() {
            "Everything needed works.\n"
        } else {
            "Something needed does not work: see the lines that begin with `fails`.\n"
        });
        text
    }

    /// The same as JSON, with a newline at the end: `schema` (1), `works`, and `findings`, each with
    /// `check`, `outcome` (`ok`, `warning` or `fails`), `text` and `way_out` (null where none is
    /// needed). Scripts may rely on these names and outcomes, and not on the words of `text`.
    pub fn json(&self) -> String {
        let value = serde_json::json!({
            "schema": 1,
            "works": self.works(),
            "findings": self.findings,
        });
        format!("{value:#}\n")
    }
}

/// Looks at everything.
pub fn examine(options: &Options) -> Report {
    let config = &options.config;
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![
        kernel(&release),
        btf(Path::new("/sys/kernel/btf/vmlinux").exists()),
        jit(read("/proc/sys/net/core/bpf_jit_enable").as_deref()),
        capabilities(
            privilege::effective().ok(),
            config,
            Release::parse(&release),
        ),
        confinement(
            config,
            Release::parse(&release),
            privilege::offered(),
            nix::unistd::geteuid().is_root(),
        ),
        bpffs(&config.meter.pins),
        pins(&config.meter.pins, config.agent.user.as_deref()),
        tables(config),
        http(config),
    ];
    let release = Release::parse(&release);
    if release.is_some_and(|release| release < MAP_MEMORY_KERNEL) {
        findings.push(locked_memory(read("/proc/self/limits").as_deref()));
    }
    match interfaces(config) {
        Ok(links) => findings.extend(interface::all(config, &links, release)),
        Err(failure) => findings.push(Finding::fails(
            "interfaces",
            failure.to_string(),
            "without the list nothing can be said about them",
        )),
    }
    Report { findings }
}

/// All interfaces with what they can do, as the configured network namespace has them.
fn interfaces(config: &Config) -> Result<Vec<(Link, Abilities)>, Failure> {
    link::within(config.meter.netns.as_deref(), || {
        let links = link::links()?;
        let indices: Vec<u32> = links.iter().map(|link| link.index).collect();
        let abilities = link::abilities(&indices);
        Ok(links.into_iter().zip(abilities).collect())
    })
}

/// The text of a file of the kernel's, without its newline.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

fn kernel(text: &str) -> Finding {
    match Release::parse(text) {
        None => Finding::warning(
            "kernel",
            format!("release {text:?} is no number that can be compared"),
            format!("make sure that it is {OLDEST_KERNEL} or later"),
        ),
        Some(release) if release < OLDEST_KERNEL => Finding::fails(
            "kernel",
            format!("{text} is too old: links of XDP programs and ring buffers are needed"),
            format!("run {OLDEST_KERNEL} or later"),
        ),
        Some(release) if release < FRAGS_KERNEL => Finding::ok(
            "kernel",
            format!("{text}; jumbo frames need skb mode before {FRAGS_KERNEL}"),
        ),
        Some(_) => Finding::ok("kernel", text),
    }
}

fn btf(there: bool) -> Finding {
    Finding::ok(
        "BTF",
        if there {
            "the kernel describes its types; smtpflow does not need it"
        } else {
            "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF); smtpflow does not need it"
        },
    )
}

fn jit(value: Option<&str>) -> Finding {
    match value {
        Some("0") => Finding::warning(
            "JIT",
            "the kernel interprets BPF programs: every packet costs many times more",
            "turn it on: sysctl net.core.bpf_jit_enable=1",
        ),
        Some(_) => Finding::ok("JIT", "the kernel compiles BPF programs"),
        None => Finding::warning(
            "JIT",
            "cannot read /proc/sys/net/core/bpf_jit_enable: the kernel has no JIT, or this is a \
             container",
            "see whether the kernel has CONFIG_BPF_JIT",
        ),
    }
}

fn capabilities(set: Option<u64>, config: &Config, release: Option<Release>) -> Finding {
    const CHECK: &str = "capabilities";
    let Some(set) = set else {
        return Finding::warning(
            CHECK,
            "cannot read them from /proc",
            "make sure that /proc is mounted",
        );
    };
    let relaxed = release.is_none_or(|release| release >= privilege::UNPRIVILEGED_MAPS);
    let mut missing: Vec<String> = if !config.meter.attached {
        privilege::missing(set)
            .into_iter()
            .map(|(name, purpose)| format!("{name} ({purpose})"))
            .collect()
    } else if relaxed || privilege::has(set, privilege::CAP_BPF) {
        Vec::new()
    } else {
        vec!["CAP_BPF (uses maps, before Linux 5.19)".to_owned()]
    };
    if config.meter.netns.is_some() && !privilege::has(set, privilege::CAP_SYS_ADMIN) {
        missing.push("CAP_SYS_ADMIN (enters another network namespace)".to_owned());
    }
    if !missing.is_empty() {
        return Finding::fails(
            CHECK,
            format!("this process lacks {}", missing.join(" and ")),
            "run as root, or give them to the service (AmbientCapabilities=)",
        );
    }
    Finding::ok(
        CHECK,
        if config.meter.attached {
            "smtpflow attach needs them, and the agent does not"
        } else {
            "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are there"
        },
    )
}

/// What the agent is held to once it counts.
fn confinement(
    config: &Config,
    release: Option<Release>,
    landlock: Held,
    is_root: bool,
) -> Finding {
    const CHECK: &str = "privileges";
    let landlock = if config.agent.landlock {
        landlock
    } else {
        Held::Unwanted
    };
    let relaxed = release.is_none_or(|release| release >= privilege::UNPRIVILEGED_MAPS);
    let kept = if relaxed {
        "no capability"
    } else {
        "CAP_BPF alone, as this kernel lets nobody use maps without it (5.19 does)"
    };
    let user = match &config.agent.user {
        Some(name) => name.clone(),
        None => nix::unistd::geteuid().to_string(),
    };
    let text =
        format!("once it counts, the agent is user {user} with {kept}; Landlock: {landlock}");
    if is_root && config.agent.user.is_none() {
        return Finding::warning(
            CHECK,
            text,
            "name a user that it becomes then, with --user (agent.user)",
        );
    }
    match landlock {
        Held::All { .. } | Held::Part { .. } => Finding::ok(CHECK, text),
        Held::Unwanted => Finding::warning(CHECK, text, "set agent.landlock to true"),
        Held::Nothing => Finding::warning(
            CHECK,
            text,
            "a later kernel, or one that is started with landlock in its list lsm=, holds it to its own \
             files and ports",
        ),
    }
}

fn bpffs(pins: &Path) -> Finding {
    const CHECK: &str = "bpffs";
    let mount = "mount one (mount -t bpf bpf /sys/fs/bpf), or name a directory in one with --pins";
    // The directory itself is made at start, so what counts is where it will be.
    for parent in pins.ancestors().skip(1) {
        match statfs(parent) {
            Ok(stat) if stat.filesystem_type() == BPF_FS => {
                return Finding::ok(CHECK, format!("{} is on one", parent.display()));
            }
            Ok(_) => {
                return Finding::fails(
                    CHECK,
                    format!("{} is not on a BPF file system", parent.display()),
                    mount,
                );
            }
            Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => {
                return Finding::warning(
                    CHECK,
                    format!("cannot look at {}: {error}", parent.display()),
                    "run the doctor as root to know",
                );
            }
        }
    }
    Finding::fails(CHECK, format!("{} has no parent", pins.display()), mount)
}

fn pins(directory: &Path, user: Option<&str>) -> Finding {
    const CHECK: &str = "pins";
    let shown = directory.display();
    let metadata = match fs::symlink_metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::ok(
                CHECK,
                format!("{shown} is not there yet; it is made at start"),
            );
        }
        Err(error) => {
            return Finding::warning(
                CHECK,
                format!("cannot look at {shown}: {error}"),
                "run the doctor as root to know",
            );
        }
    };
    let group = user.and_then(|name| privilege::Account::find(name).ok());
    let problem = meter::xdp::distrust(&metadata, group.map(|account| account.gid));
    let Some(problem) = problem else {
        return Finding::ok(
            CHECK,
            format!("{shown} is there; a smtpflow runs, or has left its counts for the next one"),
        );
    };
    Finding::fails(
        CHECK,
        format!("what is in {shown} cannot be trusted: {problem}"),
        "find out who made it and remove it, or name another with --pins",
    )
}

fn tables(config: &Config) -> Finding {
    const CHECK: &str = "tables";
    let options = match meter::xdp::Options::new(config) {
        Ok(options) => options,
        Err(failure) => {
            return Finding::fails(
                CHECK,
                failure.to_string(),
                "without the number of CPUs they have no size",
            );
        }
    };
    let (geometry, bytes) = (options.geometry, options.table_bytes());
    let text = format!(
        "{} for {} possible CPUs with {} sets each",
        mebibytes(bytes),
        geometry.cpus,
        geometry.sets
    );
    match available_memory(read("/proc/meminfo").as_deref()) {
        Some(available) if bytes > available => Finding::fails(
            CHECK,
            format!("{text}, but only {} are available", mebibytes(available)),
            "set table.sets_per_cpu to a smaller power of two",
        ),
        Some(available) if bytes > available / 2 => Finding::warning(
            CHECK,
            format!("{text}, of {} available", mebibytes(available)),
            "set table.sets_per_cpu to a smaller power of two if that is too much",
        ),
        Some(_) | None => Finding::ok(CHECK, text),
    }
}

/// Takes the port as `run` does, and gives it back.
fn http(config: &Config) -> Finding {
    const CHECK: &str = "HTTP";
    let Err(failure) = serve::bind(&config.serve) else {
        return Finding::ok(CHECK, format!("{} is free", config.serve.listen));
    };
    let text = failure.to_string();
    match failure.kind {
        Kind::Unavailable if config.meter.pins.exists() => {
            Finding::warning(CHECK, text, "that is well if it is a smtpflow that runs")
        }
        Kind::NoPermission => Finding::warning(CHECK, text, "run the doctor as root to know"),
        _ => Finding {
            way_out: None,
            ..Finding::fails(CHECK, text, "")
        },
    }
}

/// Bytes that can be had without swapping, from /proc/meminfo.
fn available_memory(meminfo: Option<&str>) -> Option<u64> {
    let line = meminfo?
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Before [`MAP_MEMORY_KERNEL`], maps larger than the limit of locked memory cannot be made.
fn locked_memory(limits: Option<&str>) -> Finding {
    const CHECK: &str = "locked memory";
    let soft = limits
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("Max locked memory"))
        })
        .and_then(|line| line.split_whitespace().next());
    match soft {
        Some("unlimited") => Finding::ok(CHECK, "unlimited"),
        soft => Finding::warning(
            CHECK,
            format!(
                "limited to {} bytes, and this kernel counts maps to it; root raises it by itself",
                soft.unwrap_or("an unknown number of")
            ),
            "without root, set LimitMEMLOCK=infinity in the unit",
        ),
    }
}

#[cfg(test)]
mod tests;
