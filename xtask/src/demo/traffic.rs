//! The clients of the demo: what they do, and how much of it they have done.
//!
//! Each client has one address family and one habit, and counts the sessions that it made from the
//! exit status of the program that made them. A session is counted after it is over, and a client is
//! only stopped between two, so what is counted is what went over the wire.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use xtask::command;
use xtask::lab::{Agent, Client, Lab, Messages};

use super::{CLOSED, MTA};

/// How long a program that sends may take.
const SEND: Duration = Duration::from_secs(60);

/// What a client does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Writes a letter to the MTA, by IPv4 or IPv6.
    Letter,
    /// Sends ten messages over two connections.
    Newsletter,
    /// Sends five messages to each of the sinks in turn, a connection each.
    Spam,
    /// Connects to a port that is closed.
    Knock,
}

impl Habit {
    fn title(self) -> &'static str {
        match self {
            Self::Letter => "letters, one at a time",
            Self::Newsletter => "newsletter",
            Self::Spam => "SPAMMER: 40 servers",
            Self::Knock => "knocks at a closed port",
        }
    }

    fn pause(self) -> Duration {
        Duration::from_millis(match self {
            Self::Letter => 2500,
            Self::Newsletter => 4000,
            Self::Spam => 150,
            Self::Knock => 100,
        })
    }
}

const SPAM_PER_SERVER: u32 = 5;
const NEWSLETTER: Messages = Messages {
    count: 10,
    parallel: 2,
    size: 20_000,
    reuse: true,
};

/// A client and what it has done.
#[derive(Debug)]
pub struct Host {
    client: Client,
    v6: bool,
    habit: Habit,
    // Relaxed suffices: each is written by one thread and read after that thread was joined.
    connections: AtomicU64,
    refused: AtomicU64,
    problem: Mutex<Option<String>>,
    /// What was counted of it before it began.
    past: Counted,
}

/// What the agent has counted of a host.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    connections: u64,
    refused: u64,
}

/// A host's figures beside the agent's.
#[derive(Debug)]
pub struct Comparison {
    /// Both are the same and nothing went wrong.
    pub exact: bool,
    /// The sessions that were made.
    pub sent: u64,
    /// The sessions that were counted.
    pub counted: u64,
    /// The line that says so.
    pub text: String,
}

/// Makes the clients.
pub fn hosts(lab: &Lab) -> Result<Vec<Host>> {
    [
        ("alice", false, Habit::Letter),
        ("bob", true, Habit::Letter),
        ("news", false, Habit::Newsletter),
        ("spammer", false, Habit::Spam),
        ("knocker", false, Habit::Knock),
    ]
    .into_iter()
    .map(|(name, v6, habit)| {
        Ok(Host {
            client: lab.add_client(name)?,
            v6,
            habit,
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            problem: Mutex::new(None),
            past: Counted::default(),
        })
    })
    .collect()
}

impl Host {
    /// The address that it sends from.
    pub fn address(&self) -> IpAddr {
        if self.v6 {
            self.client.v6.into()
        } else {
            self.client.v4.into()
        }
    }

    /// What it is, in a few words.
    pub fn title(&self) -> &'static str {
        self.habit.title()
    }

    /// Whether this is the one that the demo is about.
    pub fn spams(&self) -> bool {
        self.habit == Habit::Spam
    }

    /// Whether the operator knows that it sends much mail.
    pub fn is_known(&self) -> bool {
        self.habit == Habit::Newsletter
    }

    /// The kind of host that it is in labelled traffic.
    pub fn kind(&self) -> &'static str {
        match self.habit {
            Habit::Letter if self.v6 => "busy",
            Habit::Letter => "ordinary",
            Habit::Newsletter => "newsletter",
            Habit::Spam => "slow",
            Habit::Knock => "refused",
        }
    }

    /// What the agent has counted of it.
    fn counted(&self, agent: &mut Agent) -> Result<Counted> {
        let address = self.address();
        let length = if self.v6 { 128 } else { 32 };
        let sources = agent.json(&format!("/api/v1/sources?filter=net:{address}/{length}"))?;
        let total = &sources["sources"][0]["total"];
        let count = |field: &str| total[field].as_u64().unwrap_or(0);
        Ok(Counted {
            connections: count("connections"),
            refused: count("refused"),
        })
    }

    /// Notes what was counted of it before it does anything.
    pub fn begin(&mut self, agent: &mut Agent) -> Result<()> {
        self.past = self.counted(agent)?;
        Ok(())
    }

    /// Compares with what the agent has counted since then.
    pub fn compare(&self, agent: &mut Agent) -> Result<Comparison> {
        let address = self.address().to_string();
        let all = self.counted(agent)?;
        let counted = all.connections - self.past.connections;
        let counted_refused = all.refused - self.past.refused;
        let sent = self.connections.load(Ordering::Relaxed);
        let refused = self.refused.load(Ordering::Relaxed);
        let problem = self
            .problem
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        let exact = counted == sent && counted_refused == refused && problem.is_none();
        let name = &self.client.name;
        let mut text = format!(
            "{} {name:<8} {address:<16} made {sent} sessions, counted {counted}",
            if exact { "exact " } else { "WRONG " },
        );
        if refused > 0 || counted_refused > 0 {
            text.push_str(&format!("; refused {refused}, counted {counted_refused}"));
        }
        if let Some(problem) = problem {
            text.push_str(&format!("; {problem}"));
        }
        Ok(Comparison {
            exact,
            sent,
            counted,
            text,
        })
    }
}

/// All clients at work.
#[derive(Debug)]
pub struct Traffic<'a> {
    lab: &'a Lab,
    hosts: &'a [Host],
    sinks: &'a [SocketAddr],
    // Relaxed suffices: it is polled, and guards nothing.
    stopped: AtomicBool,
}

impl<'a> Traffic<'a> {
    /// Clients that have not begun yet.
    pub fn new(lab: &'a Lab, hosts: &'a [Host], sinks: &'a [SocketAddr]) -> Self {
        Self {
            lab,
            hosts,
            sinks,
            stopped: AtomicBool::new(false),
        }
    }

    /// Lets each client work on a thread of its own until [`Traffic::stop`].
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for host in self.hosts {
            scope.spawn(move || {
                let mut round = 0;
                while !self.stopped.load(Ordering::Relaxed) {
                    if let Err(error) = self.work(host, round) {
                        *host
                            .problem
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner) =
                            Some(format!("{error:#}"));
                        return;
                    }
                    round += 1;
                    command::poll_until(host.habit.pause(), || {
                        self.stopped.load(Ordering::Relaxed)
                    });
                }
            });
        }
    }

    /// Tells the clients to stop after what they are doing.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// One round of a client's habit.
    fn work(&self, host: &Host, round: usize) -> Result<()> {
        let name = &host.client.name;
        let made = match host.habit {
            Habit::Letter => {
                let ip = if host.v6 {
                    IpAddr::from(self.lab.server_v6(MTA))
                } else {
                    self.lab.server_v4(MTA).into()
                };
                self.lab.swaks(name, SocketAddr::new(ip, 25), &[])?;
                1
            }
            Habit::Newsletter => {
                self.lab.send(name, self.sink(round)?, NEWSLETTER, SEND)?;
                NEWSLETTER.parallel
            }
            Habit::Spam => {
                let messages = Messages {
                    count: SPAM_PER_SERVER,
                    ..Messages::default()
                };
                self.lab.send(name, self.sink(round)?, messages, SEND)?;
                SPAM_PER_SERVER
            }
            Habit::Knock => {
                let closed = SocketAddr::new(self.lab.server_v4(CLOSED).into(), 25);
                let answer = self.lab.within(name, || {
                    TcpStream::connect_timeout(&closed, Duration::from_secs(10))
                })?;
                match answer {
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                        host.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error).context("knocking got no answer"),
                    Ok(_) => bail!("{closed} should be closed and is open"),
                }
                1
            }
        };
        host.connections
            .fetch_add(u64::from(made), Ordering::Relaxed);
        Ok(())
    }

    fn sink(&self, round: usize) -> Result<SocketAddr> {
        self.sinks
            .get(round % self.sinks.len().max(1))
            .copied()
            .context("the demo has no sink")
    }
}
