//! The journalctl of an agent that follows the journal.
//!
//! Contract: it is started once, before the agent gives up running programs, by a thread that gives up all else first
//! and ends with it: the agent's user, in no other group but systemd-journal where it is a member of that, without any
//! capability, and under rules by which it reads the journal, writes nothing and connects nowhere. Nobody waits for it,
//! neither here nor at its end.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::maillog::journal::follow::{Place, Started};
use crate::maillog::one;
use crate::maillog::watch::Starting;
use crate::privilege::{Account, Confinement, Rules};

/// Who may read all of the journal (systemd-journald.service(8)).
const GROUP: &str = "systemd-journal";
/// Where programs and their libraries are.
const PROGRAMS: [&str; 7] = [
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr",
    "/gnu/store",
    "/nix/store",
];
/// What it reads beside them. The journal is in folders below these, which may be made later.
const READ: [&str; 7] = [
    "/dev/null",
    "/dev/urandom",
    "/etc/ld.so.cache",
    "/etc/machine-id",
    "/proc",
    "/run/log",
    "/var/log",
];

/// Starts it behind what was read in the life before. It comes back when the thread that does so has given up its
/// privileges.
pub(super) fn start(config: &Config, confinement: &Arc<Confinement>) -> Option<Starting> {
    if !config.maillog.journal {
        return None;
    }
    let (state, landlock) = (config.maillog.state.clone(), config.agent.landlock);
    let confinement = Arc::clone(confinement);
    let (confined, given_up) = mpsc::channel::<()>();
    let starting = thread::Builder::new()
        .name("journalctl".to_owned())
        .spawn(move || {
            let program = find()?;
            let rules = match landlock {
                true => Some(rules(&program, &state).prepare()?),
                false => None,
            };
            let group = confinement.account().and_then(of_journal);
            confinement
                .beside(group.into_iter().collect(), rules)
                .thread(false)?;
            drop(confined);
            let place = one::journal(&state)?;
            let place = place.unwrap_or_else(|| Place::from_now(SystemTime::now()));
            Started::start(Command::new(program), place)
        });
    match starting {
        Ok(starting) => {
            // It sends nothing: it has confined itself, or has ended.
            let _ = given_up.recv();
            Some(starting)
        }
        Err(error) => {
            tracing::error!("the journal is not followed: cannot start a thread: {error}");
            None
        }
    }
}

fn of_journal(account: &Account) -> Option<u32> {
    account.group(GROUP)
}

/// Where it is.
fn find() -> Result<PathBuf, Failure> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .find_map(|folder| fs::canonicalize(folder.join("journalctl")).ok())
        .ok_or_else(|| {
            Failure::new(
                Kind::Unavailable,
                "there is no journalctl on this machine to follow the journal with (maillog.journal): without systemd \
                 name the log's files instead (maillog.files)",
            )
        })
}

/// What it may reach, and the thread that starts it: that looks where to begin.
fn rules(program: &Path, state: &Path) -> Rules {
    let mut rules = Rules {
        read: READ.map(PathBuf::from).to_vec(),
        run: PROGRAMS.map(PathBuf::from).to_vec(),
        ..Rules::default()
    };
    rules.read.push(state.to_path_buf());
    rules.run.push(program.to_path_buf());
    rules
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn it_reads_what_it_needs_and_writes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [state, program, other] =
            ["state", "bin", "other"].map(|name| folder.path().join(name));
        for path in [&state, &other] {
            fs::create_dir(path).expect("a folder");
            fs::write(path.join("file"), "text").expect("written");
        }
        // In the place of journalctl: it says whether it may read and write.
        let script = "#!/bin/sh\ncat \"$1/file\"; echo x > \"$1/new\" || echo -refused\n";
        fs::write(&program, script).expect("written");
        let mut modes = fs::metadata(&program).expect("a file").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut modes, 0o755);
        fs::set_permissions(&program, modes).expect("its mode");
        fs::copy(&program, other.join("program")).expect("copied");
        // Only that thread is held, and it ends with the test.
        thread::spawn(move || {
            let prepared = rules(&program, &state).prepare().expect("rules");
            prepared.hold().expect("held");
            let said = |folder: &Path| {
                let output = Command::new(&program)
                    .arg(folder)
                    .output()
                    .expect("it runs");
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            assert_eq!(said(&state), "text-refused\n");
            assert_eq!(said(&other), "-refused\n");
            let denied = Command::new(other.join("program"))
                .spawn()
                .expect_err("no rule");
            assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
