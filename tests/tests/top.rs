//! `smtpflow top` in a real pseudo-terminal, on a real agent with real traffic: it shows who sends,
//! sorts, waits for an agent that is away, and leaves the terminal as it was.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use xtask::command;
use xtask::lab::{Agent, AgentOptions, Client, Lab, Topology, smtpflow_binary};

const LIMIT: Duration = Duration::from_secs(60);
const HOME: &str = "\x1b[H";
/// Cursor, wrapping and the screen of before.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// A laboratory with an agent, and clients that go on opening connections: the first one more than
/// the second.
struct Scene {
    lab: Lab,
    options: AgentOptions,
    agent: Agent,
    clients: [Client; 2],
}

impl Scene {
    fn new(prefix: &str) -> Self {
        let lab = Lab::gateway(prefix, Topology::default()).expect("a laboratory");
        let clients = ["one", "two"].map(|name| lab.add_client(name).expect("a client"));
        let mut options = AgentOptions::new(&lab).expect("options");
        options.window = "1s".to_owned();
        // One that no other test takes.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        options.listen = free.local_addr().expect("its address");
        drop(free);
        let agent = started(&lab, &options);
        Self {
            lab,
            options,
            agent,
            clients,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.options.listen)
    }

    /// Works while both clients send: nobody listens, so each connection is refused.
    fn with_traffic<T>(&self, work: impl FnOnce() -> T) -> T {
        let closed = SocketAddr::new(self.lab.server_v4(0).into(), 25);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for (client, connections) in self.clients.iter().zip([4, 1]) {
                let (lab, over) = (&self.lab, &over);
                scope.spawn(move || {
                    lab.within(&client.name, || {
                        while !over.load(Ordering::Relaxed) {
                            for _ in 0..connections {
                                TcpStream::connect_timeout(&closed, LIMIT)
                                    .expect_err("the port is closed");
                            }
                            thread::sleep(Duration::from_millis(50));
                        }
                    })
                    .expect("a thread in the namespace");
                });
            }
            let over = Over(&over);
            let result = work();
            drop(over);
            result
        })
    }
}

/// Ends the traffic, also when the work has panicked.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn started(lab: &Lab, options: &AgentOptions) -> Agent {
    let mut agent = lab.agent(options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    agent
}

/// `smtpflow top` in a terminal of its own.
struct Top {
    child: Child,
    master: File,
    slave: OwnedFd,
    before: Termios,
    /// All that it has written.
    written: Arc<Mutex<String>>,
}

impl Top {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).expect("a pseudo-terminal");
        let before = tcgetattr(&pty.slave).expect("its settings");
        let end = || Stdio::from(pty.slave.try_clone().expect("a copy"));
        // A session of its own, whose terminal this is.
        let mut top = Command::new(command::find("setsid").expect("setsid, of util-linux"));
        top.arg("--ctty")
            .arg(smtpflow_binary().expect("the program"))
            .arg("top")
            .args(arguments)
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = top.spawn().expect("it starts");
        let master = File::from(pty.master);
        let written = Arc::new(Mutex::new(String::new()));
        let mut from = master.try_clone().expect("a copy");
        let to = written.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends when the last descriptor of the slave is closed.
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]);
                to.lock().expect("nobody panics").push_str(&text);
            }
        });
        Self {
            child,
            master,
            slave: pty.slave,
            before,
            written,
        }
    }

    fn all(&self) -> String {
        self.written.lock().expect("nobody panics").clone()
    }

    /// The lines of the last whole frame, without what is no text.
    fn frame(&self) -> Vec<String> {
        let all = self.all();
        let mut frames = all.rsplit(HOME);
        // The last one may be half written.
        frames.next();
        let frame = frames.next().unwrap_or_default();
        frame.split("\r\n").map(bare).collect()
    }

    /// Waits for a frame of which this holds.
    fn wait(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let mut frame = Vec::new();
        let held = command::poll_until(LIMIT, || {
            frame = self.frame();
            holds(&frame)
        });
        assert!(held, "{what}:\n{}", frame.join("\n"));
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    fn wait_raw(&self) {
        let raw = command::poll_until(LIMIT, || {
            let settings = tcgetattr(self.slave.as_fd()).expect("settings");
            !settings.local_flags.contains(LocalFlags::ECHO)
        });
        assert!(raw, "{}", self.all());
    }

    /// Waits for its end, and looks at what it leaves behind.
    fn ended(mut self) -> ExitStatus {
        let mut status = None;
        command::poll_until(LIMIT, || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        let status = status.unwrap_or_else(|| panic!("it goes on:\n{}", self.all()));
        let after = tcgetattr(self.slave.as_fd()).expect("settings");
        assert_eq!(after, self.before, "other settings than before");
        let left = command::poll_until(LIMIT, || self.all().ends_with(LEAVE));
        assert!(left, "it ends with {:?}", self.all());
        status
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // After a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line without control sequences (ECMA-48, 5.4).
fn bare(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            rest.by_ref().find(char::is_ascii_alphabetic);
        } else if c != '\r' {
            // The terminal itself puts one more before each end of a line.
            text.push(c);
        }
    }
    text
}

/// Where a line begins with this text and a space.
fn place(frame: &[String], start: &str) -> Option<usize> {
    frame
        .iter()
        .position(|line| line.starts_with(&format!("{start} ")))
}

/// Whether both have lines, the first one above.
fn in_order(frame: &[String], first: &str, second: &str) -> bool {
    let places = place(frame, first).zip(place(frame, second));
    places.is_some_and(|(first, second)| first < second)
}

#[test]
fn it_shows_who_sends_sorts_and_quits() {
    let scene = Scene::new("ttopshow");
    let [one, two] = scene.clients.each_ref().map(|client| client.v4.to_string());
    scene.with_traffic(|| {
        let mut top = Top::start(&["--url", &scene.url()], &[]);
        top.wait_raw();
        top.wait("both clients, the busier one first", |frame| {
            in_order(frame, &one, &two)
        });
        let frame = top.frame();
        assert!(frame[1].starts_with("counting on gw-c (driver), gw-s (driver); last drain "));
        assert!(
            frame[2].contains(" connections/s   3 sources   nobody is judged"),
            "{frame:?}"
        );
        assert_eq!(frame.len(), 24, "{frame:?}");
        assert!(frame.iter().all(|line| line.len() <= 80), "{frame:?}");

        top.press("r");
        top.wait("fewest connections first", |frame| {
            frame
                .iter()
                .any(|line| line.contains("fewest connections first"))
                && in_order(frame, &two, &one)
        });
        top.press("a");
        top.wait("by address", |frame| {
            frame.iter().any(|line| line.ends_with("by address:")) && in_order(frame, &one, &two)
        });
        top.press("rt");
        top.wait("since counting began, the last address first", |frame| {
            frame
                .iter()
                .any(|line| line.contains("since counting began, by address, the last first"))
                && in_order(frame, &two, &one)
        });
        for (keys, caption) in [
            ("hs", "Sources, last hour, most servers first:"),
            ("dp", "Sources, last 24 hours, most packets first:"),
            ("wb", "Sources, last window, most bytes first:"),
        ] {
            top.press(keys);
            top.wait(caption, |frame| {
                frame.contains(&caption.to_owned())
                    && place(frame, &one).is_some()
                    && !frame.iter().any(|line| line.starts_with("NO ANSWER"))
            });
        }
        let resized = Command::new("stty")
            .args(["rows", "6", "cols", "60"])
            .stdin(Stdio::from(top.slave.try_clone().expect("a copy")))
            .status()
            .expect("stty, of coreutils");
        assert!(resized.success());
        top.wait("a smaller screen", |frame| {
            frame.len() == 6 && frame.iter().all(|line| line.len() <= 60)
        });
        top.press("q");
        assert!(top.ended().success());
    });
}

#[test]
fn ctrl_c_and_signals_end_it_and_the_terminal_is_as_before() {
    let scene = Scene::new("ttopend");
    let url = scene.url();
    let mut top = Top::start(&["--url", &url], &[]);
    top.wait_raw();
    top.press("\x03");
    assert!(top.ended().success());
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let top = Top::start(&["--url", &url], &[]);
        top.wait_raw();
        top.wait("a table", |frame| place(frame, "ADDRESS").is_some());
        kill(Pid::from_raw(top.child.id() as i32), signal).expect("sent");
        assert!(top.ended().success(), "{signal}");
    }
}

#[test]
fn an_agent_that_goes_away_is_waited_for() {
    let mut scene = Scene::new("ttopaway");
    let one = scene.clients[0].v4.to_string();
    let mut top = Top::start(&["--url", &scene.url(), "--span", "all"], &[]);
    scene.with_traffic(|| {
        top.wait("the client", |frame| place(frame, &one).is_some());
    });
    scene.agent.stop().expect("it obeys");
    top.wait("that the agent is away, and what was there", |frame| {
        frame.iter().any(|line| line.starts_with("AGENT AWAY for "))
            && frame
                .iter()
                .any(|line| line.starts_with("What follows is "))
            && place(frame, &one).is_some()
    });
    scene.agent = started(&scene.lab, &scene.options);
    top.wait("the agent again", |frame| {
        frame.iter().any(|line| line.starts_with("counting on ")) && place(frame, &one).is_some()
    });
    top.press("q");
    assert!(top.ended().success());
}

#[test]
fn without_a_terminal_it_prints_one_table() {
    let mut scene = Scene::new("ttoponce");
    let one = scene.clients[0].v4.to_string();
    let url = scene.url();
    let ask = |arguments: &[&str]| {
        Command::new(smtpflow_binary().expect("the program"))
            .args(["top", "--url", &url, "--span", "all"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    };
    scene.with_traffic(|| {
        scene.wait_counted(&one);
        let answer = ask(&[]);
        assert!(answer.status.success());
        let text = String::from_utf8(answer.stdout).expect("text");
        assert!(text.is_ascii() && !text.contains('\x1b'), "{text}");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert!(place(&lines, &one) > place(&lines, "ADDRESS"), "{text}");
        let json = ask(&["--json", "--rows", "1"]).stdout;
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["sources"]["sources"][0]["addr"], one.as_str());
        assert!(json["status"]["drains"].as_u64() > Some(0));

        // On a terminal that can do nothing, and on one that shall have no colours.
        let arguments = ["--url", &url, "--span", "all"];
        let mut dumb = Top::start(&arguments, &[("TERM", "dumb")]);
        assert!(dumb.child.wait().expect("a child").success());
        let held = command::poll_until(LIMIT, || dumb.all().contains(&one));
        assert!(held && !dumb.all().contains('\x1b'), "{:?}", dumb.all());
        for (value, coloured) in [("1", false), ("", true)] {
            let mut top = Top::start(&arguments, &[("NO_COLOR", value)]);
            top.wait("a table", |frame| place(frame, &one).is_some());
            top.press("q");
            // Reverse, for the head of the table.
            assert_eq!(top.all().contains("\x1b[7m"), coloured, "NO_COLOR={value}");
            assert!(top.ended().success());
        }
    });
    scene.agent.stop().expect("it obeys");
    let answer = ask(&["--once"]);
    assert_eq!(answer.status.code(), Some(69));
    let error = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(error.contains("is it running (smtpflow run)"), "{error}");
}

impl Scene {
    /// Waits until the agent lists this source.
    fn wait_counted(&self, address: &str) {
        let listed = command::poll_until(LIMIT, || {
            let answer = self.agent.get("/api/v1/sources").expect("an answer");
            answer.text().contains(&format!("{address:?}"))
        });
        assert!(listed, "{address} is not listed");
    }
}
