//! Debian packages: what is missing is announced, then installed, without recommended packages and
//! without starting a service. A package that is there is never touched, and an installation that
//! would remove another package is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::command::{self, find, tool};

use crate::workspace;

mod unpacked;

pub use unpacked::{provide_opensmtpd, provide_prometheus, provide_qemu};

/// Asking apt's data base.
const QUERY: Duration = Duration::from_secs(60);
/// Fetching and unpacking some hundred MB over a slow line.
const INSTALL: Duration = Duration::from_secs(30 * 60);
/// Debian's hook by which an administrator forbids that installed services start (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// How to see that a package's part is there, wherever it came from.
#[derive(Debug, Clone, Copy)]
pub enum Present {
    /// A program on PATH or in an administrator's folder.
    Program(&'static str),
    /// A Perl module.
    Perl(&'static str),
    /// A Python module.
    Python(&'static str),
    /// A file.
    File(&'static str),
}

/// A package and the part of it that is used.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Debian's name of it.
    pub package: &'static str,
    /// What is used.
    pub part: Present,
}

impl Need {
    const fn program(package: &'static str, program: &'static str) -> Self {
        Self {
            package,
            part: Present::Program(program),
        }
    }

    fn is_met(&self) -> bool {
        match self.part {
            Present::Program(program) => find(program).is_some(),
            Present::Perl(module) => runs("perl", ["-e", &format!("require {module}")]),
            Present::Python(module) => runs("python3", ["-c", &format!("import {module}")]),
            Present::File(path) => Path::new(path).exists(),
        }
    }
}

fn runs(program: &str, args: [&str; 2]) -> bool {
    command::finish(&mut tool(program, args), QUERY).is_ok_and(|finished| finished.status.success())
}

/// What the laboratory needs: namespaces, mail servers, mail clients.
pub const LABORATORY: &[Need] = &[
    Need::program("iproute2", "ip"),
    Need::program("iproute2", "tc"),
    Need::program("ethtool", "ethtool"),
    Need::program("postfix", "smtp-sink"),
    Need::program("swaks", "swaks"),
    Need {
        package: "libio-socket-inet6-perl",
        // swaks speaks IPv6 through it.
        part: Present::Perl("IO::Socket::INET6"),
    },
];

/// What the tests need on top: the counting oracle, and a clock that can be set.
pub const ORACLES: &[Need] = &[
    Need::program("tshark", "tshark"),
    Need::program("tshark", "dumpcap"),
    // Its library is the clock of an agent that is told another time.
    Need::program("faketime", "faketime"),
];

/// What counts packets in the kernel beside us, and what the unpacked OpenSMTPD loads.
pub const RELAYING: &[Need] = &[
    Need::program("nftables", "nft"),
    Need::program("util-linux", "setpriv"),
    Need::program("util-linux", "unshare"),
    Need {
        package: "libevent-2.1-7",
        part: Present::File("/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7"),
    },
];

/// What is slow on purpose.
pub const DAWDLERS: &[Need] = &[Need::program("slowhttptest", "slowhttptest")];

/// The router whose table of routes is read.
pub const ROUTERS: &[Need] = &[Need::program("snmpd", "snmpd")];

/// What the tests send alerts to. It reads its templates from where the package puts them.
pub const MONITORING: &[Need] = &[Need::program(
    "prometheus-alertmanager",
    "prometheus-alertmanager",
)];

/// What looks at the page: a browser, a font for it, and a reader of what it prints. Chromium has no
/// driver program here: it is told what to do through its own pipe.
pub const BROWSER: &[Need] = &[
    Need::program("chromium", "chromium"),
    Need {
        package: "fonts-dejavu-core",
        part: Present::File("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    },
    Need::program("poppler-utils", "pdftotext"),
];

/// What is unpacked and stripped for virtual machines.
pub const MACHINES: &[Need] = &[
    Need::program("xz-utils", "xz"),
    Need::program("binutils", "strip"),
    Need::program("util-linux", "setpriv"),
    Need::program("iproute2", "ip"),
    Need::program("ethtool", "ethtool"),
];

/// What makes the virtual gateway.
pub const GATEWAY: &[Need] = &[
    Need::program("mmdebstrap", "mmdebstrap"),
    Need::program("e2fsprogs", "mke2fs"),
];

/// What makes pictures small.
pub const PICTURES: &[Need] = &[Need::program("pngquant", "pngquant")];

/// What fetches the tools of [`tools`](crate::tools).
pub const PYTHON: &[Need] = &[
    Need::program("python3", "python3"),
    Need {
        package: "python3-venv",
        part: Present::Python("ensurepip"),
    },
];

/// What looks at packages, units and pages of the manual, and the shells that completions are for.
pub const PACKAGING: &[Need] = &[
    Need::program("lintian", "lintian"),
    Need::program("mandoc", "mandoc"),
    Need::program("man-db", "man"),
    Need::program("systemd", "systemd-analyze"),
    Need::program("strace", "strace"),
    Need::program("binutils", "readelf"),
    Need::program("zsh", "zsh"),
    Need::program("fish", "fish"),
];

/// What the benchmark compares with, and what keeps it to a CPU.
pub const RIVALS: &[Need] = &[
    Need::program("nftables", "nft"),
    Need::program("ipset", "ipset"),
    Need::program("iptables", "iptables"),
    Need::program("tcpdump", "tcpdump"),
    Need::program("softflowd", "softflowd"),
    Need::program("softflowd", "softflowctl"),
    Need::program("util-linux", "taskset"),
    Need::program("iproute2", "ip"),
    Need::program("ethtool", "ethtool"),
];

/// What asks the agent as many readers do.
pub const READERS: &[Need] = &[Need::program("hey", "hey")];

/// Installs what is missing of `needs`, having said so; `purpose` is what needs them.
pub fn provide(purpose: &str, needs: &[&[Need]]) -> Result<()> {
    let mut missing: Vec<String> = Vec::new();
    for need in needs.iter().copied().flatten() {
        let package = need.package.to_owned();
        if !missing.contains(&package) && !need.is_met() {
            missing.push(package);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        find("apt-get").is_some(),
        "{purpose}: programs are missing and this is no Debian: \
         install what these Debian packages hold: {}",
        missing.join(" ")
    );
    let plan = simulate(&missing)?;
    println!(
        "{purpose}: Debian packages are missing; installing {}",
        plan.describe(&missing)
    );
    install(&missing, &plan)?;
    let still: Vec<&str> = needs
        .iter()
        .copied()
        .flatten()
        .filter(|need| !need.is_met())
        .map(|need| need.package)
        .collect();
    ensure!(
        still.is_empty(),
        "installed, but their programs are still not found: {}",
        still.join(" ")
    );
    Ok(())
}

/// What an installation would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// Packages that would be installed, and their versions.
    pub installed: Vec<(String, String)>,
    /// Packages that would be removed.
    pub removed: Vec<String>,
}

impl Simulation {
    /// "a b c and 12 packages that they need".
    pub fn describe(&self, asked: &[String]) -> String {
        let named: Vec<String> = asked
            .iter()
            .map(|package| match self.version(package) {
                Some(version) => format!("{package} ({version})"),
                None => package.clone(),
            })
            .collect();
        let others = self
            .installed
            .iter()
            .filter(|(name, _)| !asked.contains(name))
            .count();
        match others {
            0 => named.join(", "),
            1 => format!("{} and 1 package that they need", named.join(", ")),
            n => format!("{} and {n} packages that they need", named.join(", ")),
        }
    }

    fn version(&self, package: &str) -> Option<&str> {
        self.installed
            .iter()
            .find(|(name, _)| name == package)
            .map(|(_, version)| version.as_str())
    }
}

/// Asks apt what installing `packages` would do, and refuses what would remove others.
pub fn simulate(packages: &[String]) -> Result<Simulation> {
    let simulation = plan(packages)?;
    ensure!(
        simulation.removed.is_empty(),
        "refused: installing {} would remove {}. Remove it yourself if you can do without it, \
         or use another machine",
        packages.join(" "),
        simulation.removed.join(" ")
    );
    Ok(simulation)
}

/// Asks apt what installing `packages` would do; fetches the package lists if it does not know them.
fn plan(packages: &[String]) -> Result<Simulation> {
    let ask = || {
        let mut command = apt_get(&["--simulate", "install", "--no-install-recommends"], false)?;
        command::output(command.args(packages), QUERY)
    };
    let text = match ask() {
        Ok(text) => text,
        Err(_) => {
            update()?;
            ask().with_context(|| format!("apt cannot install {}", packages.join(" ")))?
        }
    };
    Ok(parse_simulation(&text))
}

/// Installs `packages`, which the caller has announced.
pub fn install(packages: &[String], plan: &Simulation) -> Result<()> {
    let _quiet = NoServices::start()?;
    if plan.installed.iter().any(|(name, _)| name == "postfix") {
        preseed_postfix()?;
    }
    let log = workspace::log("apt")?;
    let mut command = apt_get(&["install", "--yes", "--no-install-recommends"], true)?;
    command.args(packages);
    if command::succeed(&mut command, &log, INSTALL).is_err() {
        // Most often the lists are old and the archive has moved on.
        update()?;
        command::succeed(&mut command, &log, INSTALL)?;
    }
    Ok(())
}

/// Fetches the package lists.
pub fn update() -> Result<()> {
    println!("fetching Debian's package lists (apt-get update)");
    let log = workspace::log("apt-update")?;
    command::succeed(&mut apt_get(&["update"], true)?, &log, INSTALL)
}

/// The version that apt would install, if it knows the package. Empty lists are fetched first by the
/// caller, with [`update`].
pub fn candidate(package: &str) -> Option<String> {
    let text = command::output(&mut tool("apt-cache", ["policy", package]), QUERY).ok()?;
    parse_candidate(&text)
}

/// The packages that the candidate of `package` depends on.
pub fn depends(package: &str) -> Result<String> {
    let text = command::output(
        &mut tool("apt-cache", ["show", "--no-all-versions", package]),
        QUERY,
    )?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .collect())
}

/// An `apt-get` command that asks nothing and speaks English; through sudo where root is needed and
/// we are not.
fn apt_get(args: &[&str], as_root: bool) -> Result<Command> {
    let environment = ["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"];
    let mut command = if as_root && !nix::unistd::geteuid().is_root() {
        ensure!(
            find("sudo").is_some(),
            "installing packages needs root and there is no sudo: run this again as root, or run \
             `apt-get {}` yourself",
            args.join(" ")
        );
        // The question for a password needs the terminal, which the command itself does not get.
        let asked = tool("sudo", ["-v"]).status().context("cannot start sudo")?;
        ensure!(asked.success(), "sudo was refused: run this again as root");
        let mut command = tool("sudo", ["-n", "env"]);
        command.args(environment);
        command
    } else {
        tool("env", environment)
    };
    command.arg("apt-get").args(args);
    Ok(command)
}

/// Tells postfix's installation to configure nothing: without a main.cf it never starts.
fn preseed_postfix() -> Result<()> {
    let question = "postfix postfix/main_mailer_type select No configuration";
    command::output(
        &mut tool(
            "sh",
            ["-c", &format!("echo {question} | debconf-set-selections")],
        ),
        QUERY,
    )
    .context("cannot tell debconf that postfix is not to be configured")
    .map(drop)
}

/// While it lives, no installed service starts. An administrator's own policy is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn start() -> Result<Self> {
        let path = Path::new(POLICY);
        // Without root only compilers are installed (by sudo), and they bring no service.
        if path.exists() || !nix::unistd::geteuid().is_root() {
            return Ok(Self { ours: false });
        }
        fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {POLICY}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}, which keeps services from starting: {error}");
        }
    }
}

/// The lines "Inst NAME [OLD] (VERSION ...)" and "Remv NAME [OLD]" of `apt-get --simulate`.
fn parse_simulation(text: &str) -> Simulation {
    let mut simulation = Simulation::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Inst"), Some(name)) => {
                let version = words
                    .find_map(|word| word.strip_prefix('('))
                    .unwrap_or_default();
                simulation
                    .installed
                    .push((name.to_owned(), version.to_owned()));
            }
            (Some("Remv"), Some(name)) => simulation.removed.push(name.to_owned()),
            _ => {}
        }
    }
    simulation
}

fn parse_candidate(text: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .filter(|version| *version != "(none)")
        .map(str::to_owned)
}

/// Ends with an error that names the purpose, when the caller needs root.
pub fn require_root(purpose: &str, again: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "{purpose} needs root, for network namespaces and BPF; run:\n  \
             sudo -E env \"PATH=$PATH\" {again}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_is_read() {
        let text = "Reading package lists...\n\
            The following NEW packages will be installed:\n  cpio postfix\n\
            Remv exim4-daemon-light [4.96-15]\n\
            Inst cpio (2.13+dfsg-7.1 Debian:12.15/oldstable [amd64])\n\
            Inst libc6 [2.36-9] (2.36-10 Debian:12.15/oldstable [amd64]) []\n\
            Conf cpio (2.13+dfsg-7.1 Debian:12.15/oldstable [amd64])\n";
        let simulation = parse_simulation(text);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            simulation.installed,
            [pair("cpio", "2.13+dfsg-7.1"), pair("libc6", "2.36-10")]
        );
        assert_eq!(simulation.removed, ["exim4-daemon-light"]);
    }

    #[test]
    fn a_plan_is_described_with_what_comes_along() {
        let plan = parse_simulation("Inst cpio (2.13 D)\nInst postfix (3.7 D)\nInst swaks (1 D)\n");
        let asked = ["postfix".to_owned(), "swaks".to_owned()];
        assert_eq!(
            plan.describe(&asked),
            "postfix (3.7), swaks (1) and 1 package that they need"
        );
    }

    #[test]
    fn a_candidate_is_read_and_none_is_none() {
        let text = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n";
        assert_eq!(parse_candidate(text).as_deref(), Some("1.96.0+dfsg1-1"));
        assert_eq!(parse_candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }
}
