//! One message by a command that takes what `sendmail` takes.
//!
//! Contract: as in the module above. The command gets recipients as arguments behind `--`, so that none is an
//! option; no shell is asked. When the time is up it is killed, and may have taken the message by then.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::super::retry::Outcome;
use super::Progress;

/// What is kept of its words, in bytes.
const MOST: u64 = 4096;
/// Codes of `sysexits.h` by which it says that there is no such recipient.
const EX_NOUSER: i32 = 67;
const EX_NOHOST: i32 = 68;

/// See the module.
pub(super) struct Sendmail {
    command: PathBuf,
}

impl Sendmail {
    pub(super) fn new(command: &Path) -> Self {
        Self {
            command: command.to_owned(),
        }
    }

    pub(super) async fn send(&self, from: &str, message: &[u8], progress: &mut Progress) -> String {
        let name = self.command.display();
        progress.doing = "waiting for the command";
        let spawned = Command::new(&self.command)
            .args(["-i", "-f", from, "--"])
            .args(progress.outcomes.iter().map(|(mail, _)| mail))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return format!("cannot run {name} (notice.sendmail): {error}"),
        };
        progress.reached = true;
        progress.set_open(Outcome::Unknown);
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that does not want all of it says why by its code.
                let _ = stdin.write_all(message).await;
            }
        };
        let read = async {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(MOST).read_to_end(&mut said).await;
                // The rest, so that it does not wait for a reader.
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            said
        };
        let ((), said, status) = tokio::join!(write, read, child.wait());
        let said = String::from_utf8_lossy(&said);
        let said = said.trim();
        match status {
            Ok(status) if status.success() => {
                progress.set_open(Outcome::Taken);
                format!("{name} has taken it")
            }
            Ok(status) => {
                match status.code() {
                    Some(EX_NOUSER | EX_NOHOST) => progress.set_open(Outcome::Refused),
                    Some(_) => progress.set_open(Outcome::Later),
                    // Killed by somebody: it may have taken it before.
                    None => {}
                }
                format!("{name} has failed ({status}): {said}")
            }
            Err(error) => format!("{name} cannot be waited for: {error}"),
        }
    }
}
