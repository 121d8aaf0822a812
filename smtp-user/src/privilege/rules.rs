//! What the agent may still open and connect to, held by the kernel itself (Landlock, Linux 5.13).
//!
//! Contract: what is not named here is refused by the kernel: files and folders, TCP ports to listen on
//! and to connect to (6.7), signals to other processes and abstract sockets of theirs (6.12). Files that
//! are open already stay so. Where the kernel has less of it, less is held, and [`Held`] says so. A rule
//! is about the file that is there when it is made: a file that is replaced by another one is only
//! reached by a rule for its folder.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

/// The version of the kernel's interface that is asked for: the newest one that is tested. Later ones
/// would refuse more than what is thought about here, such as sockets of the service manager's (9).
const TESTED: ABI = ABI::V6;

/// What may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Files, and folders with all that is in them, that may be read.
    pub read: Vec<PathBuf>,
    /// Files, and folders with all that is in them, that may be read and run as programs.
    pub run: Vec<PathBuf>,
    /// Folders in which files may be read, written, made, renamed and removed.
    pub write: Vec<PathBuf>,
    /// Folders from which empty folders may be removed.
    pub tidy: Vec<PathBuf>,
    /// TCP ports that may be connected to.
    pub connect: Vec<u16>,
}

impl Rules {
    /// Lets a file be read that the operator has named, also when it is replaced by another one of the
    /// same name, as editors do: by its folder. A folder that everybody uses, such as /etc, is not
    /// opened for one file; then only that file can be read, as it is now.
    pub fn read_configured(&mut self, file: &Path) {
        let Ok(file) = fs::canonicalize(file) else {
            return;
        };
        let folder = file
            .parent()
            .filter(|folder| folder.ancestors().count() > 2);
        self.read
            .push(folder.map_or_else(|| file.clone(), Path::to_path_buf));
    }

    /// Makes the rules ready, while everything in them can still be opened. What does not exist is left
    /// out.
    pub fn prepare(&self) -> anyhow::Result<Prepared> {
        let Self {
            read,
            run,
            write,
            tidy,
            connect,
        } = self;
        let reading = AccessFs::ReadFile | AccessFs::ReadDir;
        let writing = reading
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir;
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(TESTED))?
            .handle_access(AccessNet::from_all(TESTED))?
            .scope(Scope::from_all(TESTED))?
            .create()
            .context("cannot make a ruleset of Landlock")?;
        let folders = [
            (read, reading),
            (run, reading | AccessFs::Execute),
            (write, writing),
            (tidy, AccessFs::RemoveDir.into()),
        ];
        for (paths, access) in folders {
            for path in paths {
                ruleset = allow(ruleset, path, access)
                    .with_context(|| format!("cannot make a rule for {}", path.display()))?;
            }
        }
        for port in connect {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        Ok(Prepared(ruleset))
    }
}

fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> anyhow::Result<RulesetCreated> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(ruleset);
    };
    let access = if metadata.is_dir() {
        access
    } else {
        access & AccessFs::from_file(TESTED)
    };
    Ok(ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, access))?)
}

/// Rules that threads can be held to.
pub struct Prepared(RulesetCreated);

impl Prepared {
    /// Holds the calling thread, and those that it starts, to the rules for good.
    pub fn hold(&self) -> anyhow::Result<Held> {
        let status = self
            .0
            .try_clone()
            .context("cannot duplicate the ruleset of Landlock")?
            .restrict_self()
            .context("cannot hold a thread to Landlock's rules")?;
        let version = match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
            _ => 0,
        };
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Held::All { version },
            RulesetStatus::PartiallyEnforced => Held::Part { version },
            RulesetStatus::NotEnforced => Held::Nothing,
        })
    }
}

/// How much of the rules the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All that is in them.
    All {
        /// Of the kernel's interface, as far as it is used.
        version: u32,
    },
    /// What its version of the interface knows of.
    Part {
        /// Likewise.
        version: u32,
    },
    /// Nothing: it has no Landlock, or was started without.
    Nothing,
    /// Nothing, because the operator does not want it.
    Unwanted,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All { version } => write!(f, "all rules held (version {version})"),
            Self::Part { version } => write!(
                f,
                "files held to the rules, but not all else (version {version} of {})",
                TESTED as u32
            ),
            Self::Nothing => f.write_str("not in this kernel"),
            Self::Unwanted => f.write_str("off (agent.landlock)"),
        }
    }
}

/// What the running kernel holds of [`Rules`], tried on a thread that ends here.
pub fn offered() -> Held {
    let tried = std::thread::spawn(|| Rules::default().prepare()?.hold());
    match tried.join() {
        Ok(Ok(held)) => held,
        _ => Held::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_file_opens_its_folder_unless_everybody_uses_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("smtpflow.toml");
        fs::write(&file, "").expect("written");
        let mut rules = Rules::default();
        rules.read_configured(&file);
        rules.read_configured(Path::new("/etc/passwd"));
        rules.read_configured(Path::new("/surely/there/is/none"));
        let folder = folder.path().canonicalize().expect("a path");
        assert_eq!(rules.read, [folder, PathBuf::from("/etc/passwd")]);
    }

    #[test]
    fn a_thread_reaches_what_the_rules_name_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let [open, closed, ours] = ["open", "closed", "ours"].map(|name| folder.path().join(name));
        for path in [&open, &closed, &ours] {
            fs::create_dir(path).expect("a folder");
            fs::write(path.join("file"), "text").expect("written");
        }
        let rules = Rules {
            read: vec![open.clone()],
            write: vec![ours.clone()],
            ..Rules::default()
        };
        // Only that thread is held, and it ends with the test.
        std::thread::spawn(move || {
            let prepared = rules.prepare().expect("rules");
            let held = prepared.hold().expect("held");
            assert!(
                !matches!(held, Held::Nothing),
                "this kernel has no Landlock, so nothing could be proved"
            );
            fs::read(open.join("file")).expect("may be read");
            fs::write(open.join("file"), "").expect_err("may only be read");
            fs::read(closed.join("file")).expect_err("may not be read");
            fs::read_dir(&closed).expect_err("may not be listed");
            fs::write(ours.join("file"), "other").expect("may be written");
            fs::rename(ours.join("file"), ours.join("renamed")).expect("may be renamed");
            fs::remove_file(ours.join("renamed")).expect("may be removed");
            fs::rename(open.join("file"), ours.join("file")).expect_err("may not be moved");
            fs::create_dir(ours.join("folder")).expect_err("no folder is made");
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
