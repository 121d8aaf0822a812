//! A real browser: Chromium without a window, told what to do through the pipe of its debugging
//! protocol (`--remote-debugging-pipe`, Chrome DevTools Protocol).
//!
//! Contract: one message after the other, each answered within a limit. A [`Page`] has cookies and
//! storage of its own. Whatever goes wrong in it, that no visitor should ever meet, is kept as a fault: an
//! error or a warning in its console, an exception, a violation of the content policy, a dialog of
//! JavaScript's own, a request to any other host. Dropping the [`Browser`] ends Chromium.
//!
//! Messages are JSON that ends with a zero octet; Chromium reads them from descriptor 3 and writes to
//! descriptor 4 (`content/browser/devtools/devtools_pipe_handler.cc`). So no WebSocket, no driver
//! program and no library is needed.

mod keys;
mod page;
mod text;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::command;

pub use self::keys::Key;
pub use self::page::{Look, Medium, Page};

/// The longest that Chromium may take to answer: it draws in software, beside other work.
const ANSWER: Duration = Duration::from_secs(60);

/// How Chromium is started: nothing of its own goes to the network, and what it draws is the same
/// everywhere.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--metrics-recording-only",
    "--force-color-profile=srgb",
    "--lang=en-US",
];

/// A running Chromium.
#[derive(Debug)]
pub struct Browser {
    connection: RefCell<Connection>,
}

/// What a page has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The whole address.
    pub url: String,
    /// The method.
    pub method: String,
    /// Octets of headers and body that came over the wire.
    pub octets: u64,
}

/// What is known of a page.
#[derive(Debug, Default)]
struct Seen {
    /// The server that it belongs to: `http://ADDRESS/`.
    home: String,
    faults: Vec<String>,
    requests: Vec<(String, Request)>,
    loads: u64,
}

#[derive(Debug)]
struct Connection {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    /// By session.
    seen: HashMap<String, Seen>,
}

impl Browser {
    /// Starts Chromium with an empty profile and a log in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let program = command::find("chromium").context(
            "no program chromium: install Debian's package of that name, or let \
             `cargo xtask test --stage packages` do it",
        )?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let log = folder.join("chromium.log");
        let log = std::fs::File::create(&log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        // A child's descriptors 3 and 4 can only be set by unsafe code, or by a shell.
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"])
            .arg(program)
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                folder.join("profile").display()
            ));
        if nix::unistd::geteuid().is_root() {
            // Chromium refuses to run as root within its sandbox.
            shell.arg("--no-sandbox");
        }
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start chromium")?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("chromium has no pipes");
        };
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            loop {
                let mut message = Vec::new();
                match from.read_until(0, &mut message) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => message.pop(),
                };
                let Ok(message) = serde_json::from_slice(&message) else {
                    return;
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let browser = Self {
            connection: RefCell::new(Connection {
                child,
                to,
                from: receiver,
                next: 1,
                seen: HashMap::new(),
            }),
        };
        browser.call(None, "Browser.getVersion", json!({}))?;
        Ok(browser)
    }

    /// A new page, with nothing in it yet, for the server at this address.
    pub fn page(&self, server: SocketAddr) -> Result<Page<'_>> {
        let context = self.call(None, "Target.createBrowserContext", json!({}))?;
        let context = text::field(&context, "browserContextId")?;
        self.page_in(server, &context)
    }

    fn page_in(&self, server: SocketAddr, context: &str) -> Result<Page<'_>> {
        let target = self.call(
            None,
            "Target.createTarget",
            json!({"url": "about:blank", "browserContextId": context}),
        )?;
        let target = text::field(&target, "targetId")?;
        let session = self.call(
            None,
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        )?;
        let session = text::field(&session, "sessionId")?;
        let home = format!("http://{server}/");
        let seen = Seen {
            home: home.clone(),
            ..Seen::default()
        };
        self.connection
            .borrow_mut()
            .seen
            .insert(session.clone(), seen);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(Some(&session), &format!("{domain}.enable"), json!({}))?;
        }
        Ok(Page::new(self, session, target, context.to_owned(), home))
    }

    /// Tells Chromium, or a page, to do something, and waits for its answer.
    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        self.connection
            .borrow_mut()
            .call(session, method, parameters)
            .with_context(|| format!("chromium, {method}"))
    }

    /// Takes what has come, for at most so long or until something has.
    fn listen(&self, limit: Duration) -> Result<()> {
        self.connection.borrow_mut().listen(limit)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        command::kill_group(&mut self.connection.get_mut().child);
    }
}

impl Connection {
    fn send(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Result<u64> {
        let id = self.next;
        self.next += 1;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut octets = serde_json::to_vec(&message)?;
        octets.push(0);
        self.to
            .write_all(&octets)
            .and_then(|()| self.to.flush())
            .context("it has ended")?;
        Ok(id)
    }

    fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        let id = self.send(session, method, parameters)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut message = match self.from.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("no answer in {} s", ANSWER.as_secs()),
                Err(RecvTimeoutError::Disconnected) => bail!("it has ended"),
            };
            if message["id"] == id {
                let error = &message["error"];
                ensure!(error.is_null(), "{error}");
                return Ok(message["result"].take());
            }
            self.take(&message)?;
        }
    }

    fn listen(&mut self, limit: Duration) -> Result<()> {
        match self.from.recv_timeout(limit) {
            Ok(message) => self.take(&message)?,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => bail!("chromium has ended"),
        }
        while let Ok(message) = self.from.try_recv() {
            self.take(&message)?;
        }
        Ok(())
    }

    /// Notes what an event says.
    fn take(&mut self, message: &Value) -> Result<()> {
        let (Some(method), Some(session)) =
            (message["method"].as_str(), message["sessionId"].as_str())
        else {
            return Ok(());
        };
        let said = &message["params"];
        let Some(seen) = self.seen.get_mut(session) else {
            return Ok(());
        };
        match method {
            "Page.loadEventFired" => seen.loads += 1,
            "Page.javascriptDialogOpening" => {
                seen.faults.push(format!(
                    "a dialog of JavaScript's own ({}): {}",
                    said["type"], said["message"]
                ));
                let session = session.to_owned();
                // Until somebody answers it, the page stands still.
                self.send(
                    Some(&session),
                    "Page.handleJavaScriptDialog",
                    json!({"accept": false}),
                )?;
            }
            "Runtime.exceptionThrown" => seen
                .faults
                .push(format!("an exception: {}", text::exception(said))),
            "Runtime.consoleAPICalled"
                if matches!(said["type"].as_str(), Some("error" | "warning" | "assert")) =>
            {
                seen.faults
                    .push(format!("in the console: {}", said["args"]));
            }
            "Log.entryAdded"
                if matches!(said["entry"]["level"].as_str(), Some("error" | "warning")) =>
            {
                let entry = &said["entry"];
                seen.faults.push(format!(
                    "{} ({}): {} {}",
                    entry["level"], entry["source"], entry["text"], entry["url"]
                ));
            }
            "Network.requestWillBeSent" => seen.request(said),
            "Network.loadingFinished" => {
                let octets = said["encodedDataLength"].as_f64().unwrap_or_default() as u64;
                seen.received(said, octets);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Seen {
    fn request(&mut self, said: &Value) {
        let url = said["request"]["url"].as_str().unwrap_or_default();
        let own = ["about:", "data:", "blob:"];
        if own.iter().any(|scheme| url.starts_with(scheme)) {
            return;
        }
        if !url.starts_with(&self.home) {
            self.faults.push(format!("a request to elsewhere: {url}"));
        }
        let id = said["requestId"].as_str().unwrap_or_default().to_owned();
        let method = said["request"]["method"].as_str().unwrap_or_default();
        self.requests.push((
            id,
            Request {
                url: url.to_owned(),
                method: method.to_owned(),
                octets: 0,
            },
        ));
    }

    fn received(&mut self, said: &Value, octets: u64) {
        let id = said["requestId"].as_str().unwrap_or_default();
        let newest = self.requests.iter_mut().rev();
        if let Some((_, request)) = newest.into_iter().find(|(of, _)| of == id) {
            request.octets = octets;
        }
    }
}
