//! The operator's hooks: an HTTP server, a command, or both, which get the JSON of a notice when it begins to
//! wait for somebody to approve it, and when it was sent.
//!
//! Contract: beside the mail, which never waits for them. At least once: what a hook has not taken is tried again,
//! later each time and at most [`MOST_TRIES`] times, also after a restart, with the same number of the event.
//! At most [`AT_ONCE`] calls at a time, each of which is over after its time; a command is killed then with all of its
//! group, and also when it says more than [`MOST_OUTPUT`]. No shell is asked.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client;
use crate::config::HttpUrl;
use crate::failure::{Failure, Kind};
use crate::model::notice::{Hook, HookCall};
use crate::model::period::{milliseconds, rfc3339};
use crate::notice::Settings;
use crate::report::document::printable;
use crate::report::notices as written;
use crate::store::NoticeLedger;
use crate::tls::Trust;

/// Calls at a time.
const AT_ONCE: usize = 4;
/// Tries of a call, over two hours.
const MOST_TRIES: u32 = 8;
/// How long is waited after each of them, in minutes.
const DELAYS: [u64; MOST_TRIES as usize] = [1, 2, 5, 10, 20, 30, 60, 60];
/// What a command may say, in octets.
const MOST_OUTPUT: u64 = 1 << 20;
/// What of it is kept for the log, in octets.
const MOST_LOGGED: usize = 200;
/// How long is read on when a command has ended, from those that it has left behind.
const REST: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Hooks {
    webhook: Option<HttpUrl>,
    /// Who is believed by a webhook of `https`.
    trust: Option<Trust>,
    command: Vec<String>,
    time: Duration,
}

impl Hooks {
    /// As these settings say.
    ///
    /// # Errors
    ///
    /// The webhook wants TLS, and there is no authority that it could be believed by.
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let tls = settings.webhook.as_ref().is_some_and(|url| url.tls);
        let trust = match tls {
            true => Some(
                Trust::new(&settings.authorities, "notice.authorities").map_err(|error| {
                    Failure::new(Kind::BadConfig, format!("notice.webhook: {error}"))
                })?,
            ),
            false => None,
        };
        Ok(Self {
            webhook: settings.webhook.clone(),
            trust,
            command: settings.command.clone(),
            time: Duration::from_secs(settings.hook_timeout_seconds.into()),
        })
    }

    fn configured(&self) -> impl Iterator<Item = Hook> {
        let webhook = self.webhook.is_some().then_some(Hook::Webhook);
        let command = (!self.command.is_empty()).then_some(Hook::Command);
        webhook.into_iter().chain(command)
    }

    /// Makes all calls that are due, in `calls`; gives how many. Whoever drops this ends them by ending that.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub(super) async fn pass(
        self: &Arc<Self>,
        ledger: &Arc<NoticeLedger>,
        calls: &mut JoinSet<()>,
    ) -> Result<usize, Failure> {
        let mut made = 0;
        for hook in self.configured() {
            for call in ledger.calls(hook, milliseconds(SystemTime::now()))? {
                while calls.len() >= AT_ONCE {
                    calls.join_next().await;
                }
                let (hooks, ledger) = (self.clone(), ledger.clone());
                calls.spawn(async move { hooks.attempt(hook, &ledger, &call).await });
                made += 1;
            }
        }
        while calls.join_next().await.is_some() {}
        Ok(made)
    }

    /// Makes a call, and notes what came of it.
    async fn attempt(&self, hook: Hook, ledger: &NoticeLedger, call: &HookCall) {
        let name = hook.name();
        let (notice, event) = (call.notice, call.event);
        let made = match json(ledger, call) {
            Ok(json) => match hook {
                Hook::Webhook => self.post(json).await,
                Hook::Command => self.run(json).await,
            },
            Err(failure) => Err(failure.to_string()),
        };
        let now = milliseconds(SystemTime::now());
        let tries = call.attempts.saturating_add(1);
        let next = match made {
            Ok(()) => {
                tracing::info!(notice, event, "the {name} of notices was told: {}", call.to);
                None
            }
            Err(why) if tries >= MOST_TRIES => {
                tracing::error!(
                    notice,
                    event,
                    "the {name} of notices has failed {tries} times and is given up: {why}"
                );
                None
            }
            Err(why) => {
                let minutes = DELAYS[call.attempts.min(MOST_TRIES - 1) as usize];
                let next = now.saturating_add(minutes * 60_000);
                tracing::warn!(
                    notice,
                    event,
                    "the {name} of notices has failed, and is tried again after {}: {why}",
                    rfc3339(next)
                );
                Some(next)
            }
        };
        if let Err(failure) = ledger.write_call(hook, call, next) {
            tracing::warn!(
                notice,
                event,
                "the {name} is going to be called again: {failure}"
            );
        }
    }

    /// Posts to the HTTP server.
    async fn post(&self, json: Vec<u8>) -> Result<(), String> {
        let Some(url) = self.webhook.clone() else {
            return Ok(());
        };
        let time = self.time;
        let path = if url.path.is_empty() { "/" } else { "" };
        let shown = url.to_string();
        let trust = self.trust.clone();
        let posted = tokio::task::spawn_blocking(move || {
            client::post(&url, path, &json, time, trust.as_ref())
        });
        // A name may be looked up for longer.
        match timeout(time + REST, posted).await {
            Ok(Ok(answer)) => answer.map_err(|error| format!("{shown}: {error}")),
            Ok(Err(error)) => Err(format!("{shown}: {error}")),
            Err(_) => Err(format!("{shown}: no answer within {time:?}")),
        }
    }

    /// Runs the command.
    async fn run(&self, json: Vec<u8>) -> Result<(), String> {
        let Some((program, words)) = self.command.split_first() else {
            return Ok(());
        };
        let mut group = Group::spawn(program, words)?;
        let (output, ended) = match timeout(self.time, talk(&mut group.child, &json)).await {
            Ok((output, ended)) => (output, ended),
            Err(_) => (
                Vec::new(),
                Err(format!("it did not end within {:?}", self.time)),
            ),
        };
        // With whatever it has started, unless it has ended by itself.
        drop(group);
        let output = String::from_utf8_lossy(&output);
        let said = printable(output.trim());
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{program} has failed ({status}): {said}")),
            Err(why) => Err(format!("{program}: {why}")),
        }
    }
}

/// What a hook gets.
fn json(ledger: &NoticeLedger, call: &HookCall) -> Result<Vec<u8>, Failure> {
    let found = ledger.reader()?.notice(call.notice)?;
    let json = found.map(|(notice, events)| written::json_of_call(call, &notice, &events));
    let json = json.ok_or_else(|| {
        Failure::new(
            Kind::Failed,
            format!("there is no notice {} any more", call.notice),
        )
    })?;
    Ok(json.to_string().into_bytes())
}

/// A command with all that it starts: none of it lives on when this is dropped before it was waited for.
struct Group {
    child: Child,
}

impl Group {
    fn spawn(program: &str, words: &[String]) -> Result<Self, String> {
        let child = Command::new(program)
            .args(words)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run {program} (notice.command): {error}"))?;
        Ok(Self { child })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // None once it was waited for: its number may be somebody else's by then.
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Gives a command its JSON and waits for its end; gives the beginning of what it says, and how it ended.
async fn talk(child: &mut Child, json: &[u8]) -> (Vec<u8>, Result<ExitStatus, String>) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not want it says why by its status.
            let _ = stdin.write_all(json).await;
        }
    };
    let mut output = Vec::new();
    let mut errors = Vec::new();
    let ended = {
        let read = async {
            let both = tokio::join!(read(stdout, &mut output), read(stderr, &mut errors));
            if !(both.0 && both.1) {
                return;
            }
            // It has said all that it has to say; only its end is waited for.
            std::future::pending::<()>().await;
        };
        let wait = async {
            let ((), status) = tokio::join!(write, child.wait());
            status
        };
        tokio::pin!(read);
        tokio::select! {
            () = &mut read => Err(format!("it says more than {} KiB", MOST_OUTPUT >> 10)),
            status = wait => {
                let _ = timeout(REST, &mut read).await;
                status.map_err(|error| format!("it cannot be waited for: {error}"))
            }
        }
    };
    // What went wrong is said there.
    if !errors.is_empty() {
        output = errors;
    }
    (output, ended)
}

/// Reads to the end, and keeps the beginning; whether the end came within [`MOST_OUTPUT`].
async fn read(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) -> bool {
    let Some(mut from) = from else {
        return true;
    };
    let mut buffer = [0; 8192];
    let mut left = MOST_OUTPUT;
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return true,
            Ok(read) => {
                let Some(rest) = left.checked_sub(read as u64) else {
                    return false;
                };
                left = rest;
                let room = MOST_LOGGED.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..read.min(room)]);
            }
        }
    }
}
