//! The conversation of a relay test, without a socket.
//!
//! Contract: what happens to the connection comes in as an [`Event`] with the time since the test began,
//! and what is to be done next goes out as a [`Wish`]. Whatever comes in, in whatever order, nothing panics,
//! [`Limits`] hold, every pattern gets a finding, and [`Wish::End`] is final. A reply's text is written down and
//! never followed.

mod heard;

use std::net::IpAddr;
use std::time::Duration;

use super::fault::Fault;
use super::limits::Limits;
use super::message::Message;
use super::pattern::{Names, PATTERNS, Pattern};
use super::reply::{Lines, Replies};
use super::settings::{HostName, Mailbox};
use super::transcript::{Transcript, escape};
use crate::model::relay_test::{Finding, RelayOutcome, StartTls, TestedPattern, TranscriptLine};

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// The connection is there, from this address of ours.
    Connected(IpAddr),
    /// It was refused, or nobody answered; in words.
    NotConnected(String),
    /// It is with somebody else than was asked for, and was closed at once; in words.
    Stranger(String),
    /// These octets have come.
    Received(&'a [u8]),
    /// The other side has ended the connection.
    Closed,
    /// Nothing has happened for as long as was said.
    Nothing,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Close the connection, if there is one, and make another.
    Connect {
        /// The longest that it may take.
        within: Duration,
    },
    /// Send this, then receive.
    Send {
        /// Whole lines.
        octets: Vec<u8>,
        /// The longest that both may take.
        within: Duration,
    },
    /// Receive.
    Receive {
        /// The longest that it may take.
        within: Duration,
    },
    /// Close the connection, if there is one. It is over.
    End,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) target: IpAddr,
    pub(super) helo: Option<HostName>,
    pub(super) sender: Mailbox,
    pub(super) recipient: Mailbox,
    /// The message, if one is to be sent.
    pub(super) message: Option<Message>,
    pub(super) limits: Limits,
}

/// What was found out.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    pub(super) greeting: Option<String>,
    pub(super) host_name: Option<HostName>,
    pub(super) starttls: StartTls,
    pub(super) connections: u32,
    pub(super) commands: u32,
    pub(super) octets: usize,
    pub(super) patterns: Vec<TestedPattern>,
    pub(super) transcript: Vec<TranscriptLine>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connection,
    Greeting,
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    /// The answer to the message.
    Text,
    Rset,
    Quit,
    Over,
}

/// See the module.
pub(super) struct Conversation {
    plan: Plan,
    phase: Phase,
    elapsed: Duration,
    /// When the wait ends.
    deadline: Duration,
    lines: Lines,
    replies: Replies,
    transcript: Transcript,
    /// What we call ourselves on this connection.
    helo: String,
    /// Set by the first server that says what it can.
    names: Option<Names>,
    greeting: Option<String>,
    host_name: Option<HostName>,
    starttls: StartTls,
    connections: u32,
    commands: u32,
    octets: usize,
    /// Patterns begun on this connection.
    begun: u32,
    /// Whether the pattern that is next was begun before, on a connection that was lost.
    is_second_try: bool,
    /// Messages tried.
    messages: u32,
    /// Whether one was accepted, or may have been.
    is_sent: bool,
    tested: Vec<TestedPattern>,
}

impl Conversation {
    /// A conversation, and what is to be done first.
    pub(super) fn begin(plan: Plan) -> (Self, Wish) {
        let mut this = Self {
            plan,
            phase: Phase::Connection,
            elapsed: Duration::ZERO,
            deadline: Duration::ZERO,
            lines: Lines::default(),
            replies: Replies::default(),
            transcript: Transcript::default(),
            helo: String::new(),
            names: None,
            greeting: None,
            host_name: None,
            starttls: StartTls::Unknown,
            connections: 0,
            commands: 0,
            octets: 0,
            begun: 0,
            is_second_try: false,
            messages: 0,
            is_sent: false,
            tested: Vec::new(),
        };
        let wish = this.connect();
        (this, wish)
    }

    /// Goes on after an event.
    pub(super) fn handle(&mut self, elapsed: Duration, event: Event<'_>) -> Wish {
        self.elapsed = self.elapsed.max(elapsed);
        if self.phase == Phase::Over {
            return Wish::End;
        }
        // What has come with the last moment is still taken.
        let wish = match event {
            Event::Connected(local) => self.connected(local),
            Event::NotConnected(why) => self.not_connected(&why),
            Event::Stranger(why) => self.stranger(&why),
            Event::Received(octets) => self.received(octets),
            Event::Closed => self.lost(Fault::Closed),
            Event::Nothing if self.elapsed >= self.plan.limits.time => self.out_of_time(),
            Event::Nothing => self.lost(Fault::Silence(self.plan.limits.reply)),
        };
        if self.phase != Phase::Over && self.elapsed >= self.plan.limits.time {
            return self.out_of_time();
        }
        wish
    }

    /// What was found out; patterns without a finding were not tried.
    pub(super) fn into_findings(mut self) -> Findings {
        if self.phase != Phase::Over {
            self.give_up(Fault::Closed);
        }
        Findings {
            greeting: self.greeting,
            host_name: self.host_name,
            starttls: self.starttls,
            connections: self.connections,
            commands: self.commands,
            octets: self.octets,
            patterns: self.tested,
            transcript: self.transcript.into_lines(),
        }
    }

    fn pattern(&self) -> Option<&'static Pattern> {
        PATTERNS.get(self.tested.len())
    }

    // What is to be done.

    fn connect(&mut self) -> Wish {
        if self.connections == self.plan.limits.connections {
            return self.give_up(Fault::Connections(self.connections));
        }
        self.connections += 1;
        self.begun = 0;
        self.lines = Lines::default();
        self.replies = Replies::default();
        self.phase = Phase::Connection;
        self.note(&format!("connecting to {}", self.plan.target));
        Wish::Connect {
            within: self.wait(),
        }
    }

    /// Begins to wait; gives the longest time.
    fn wait(&mut self) -> Duration {
        let limits = &self.plan.limits;
        self.deadline = (self.elapsed + limits.reply).min(limits.time);
        self.left()
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.elapsed)
    }

    fn send(&mut self, phase: Phase, command: &str) -> Wish {
        if self.commands == self.plan.limits.commands {
            return self.give_up(Fault::Commands(self.commands));
        }
        self.commands += 1;
        self.transcript.client(self.elapsed, command.as_bytes());
        self.phase = phase;
        Wish::Send {
            octets: format!("{command}\r\n").into_bytes(),
            within: self.wait(),
        }
    }

    fn send_message(&mut self, message: &Message, pattern: &Pattern) -> Wish {
        let Plan {
            target,
            sender,
            recipient,
            ..
        } = &self.plan;
        let mut lines = message.lines(*target, pattern.name, sender, recipient, &self.helo);
        lines.push(".".to_owned());
        let mut octets = Vec::new();
        for line in lines {
            self.transcript.client(self.elapsed, line.as_bytes());
            octets.extend_from_slice(line.as_bytes());
            octets.extend_from_slice(b"\r\n");
        }
        self.phase = Phase::Text;
        Wish::Send {
            octets,
            within: self.wait(),
        }
    }

    fn mail(&mut self) -> Wish {
        let (Some(pattern), Some(names)) = (self.pattern(), &self.names) else {
            return self.send(Phase::Quit, "QUIT");
        };
        let mail = pattern.mail(names);
        self.begun += 1;
        self.send(Phase::Mail, &mail)
    }

    fn note(&mut self, text: &str) {
        self.transcript.note(self.elapsed, text);
    }

    /// The connection is at its end.
    fn leave(&mut self) -> Wish {
        if self.pattern().is_some() {
            return self.connect();
        }
        self.over()
    }

    /// The connection is of no use any more.
    fn lost(&mut self, fault: Fault) -> Wish {
        let begun = escape(self.lines.begun());
        if !begun.is_empty() {
            self.note(&format!("unfinished line: {}", cut(&begun)));
        }
        self.note(&fault.to_string());
        match self.phase {
            Phase::Over => Wish::End,
            Phase::Connection => self.give_up(fault),
            Phase::Greeting | Phase::Ehlo | Phase::Helo if self.connections > 1 => {
                self.give_up(Fault::NotAgain)
            }
            Phase::Greeting | Phase::Ehlo | Phase::Helo if fault == Fault::Closed => {
                let detail = "the server closed the connection before it was asked for anything";
                self.all(RelayOutcome::Refused, None, detail)
            }
            Phase::Greeting | Phase::Ehlo | Phase::Helo => self.give_up(fault),
            Phase::Mail | Phase::Rcpt => {
                if fault == Fault::Closed && !self.is_second_try {
                    self.is_second_try = true;
                } else {
                    self.found(RelayOutcome::Unclear, None, &fault.to_string());
                }
                self.leave()
            }
            Phase::Data | Phase::Text => {
                // It may have been accepted: there is no second one.
                self.is_sent |= self.phase == Phase::Text;
                let what = if self.phase == Phase::Data {
                    "DATA"
                } else {
                    "the message"
                };
                let detail = format!("RCPT was accepted, and {what} not answered: {fault}");
                self.found(RelayOutcome::AcceptedBut, None, &detail);
                self.leave()
            }
            Phase::Rset | Phase::Quit => self.leave(),
        }
    }

    fn out_of_time(&mut self) -> Wish {
        let fault = Fault::time(&self.plan.limits);
        self.abandon(fault)
    }

    /// It ends in the middle of a pattern, whose recipient may have been accepted.
    fn abandon(&mut self, fault: Fault) -> Wish {
        self.note(&fault.to_string());
        if matches!(self.phase, Phase::Data | Phase::Text) {
            let detail = format!("RCPT was accepted, and DATA not answered: {fault}");
            self.found(RelayOutcome::AcceptedBut, None, &detail);
        }
        self.give_up(fault)
    }

    fn found(&mut self, outcome: RelayOutcome, code: Option<u16>, detail: &str) {
        let Some(pattern) = self.pattern() else {
            return;
        };
        // No server has said that it can be asked if there are no names.
        let (mail, rcpt) = match &self.names {
            Some(names) => (pattern.mail(names), pattern.rcpt(names)),
            None => Default::default(),
        };
        self.is_second_try = false;
        self.tested.push(TestedPattern {
            name: pattern.name,
            why: pattern.why,
            mail,
            rcpt,
            finding: Finding {
                outcome,
                code,
                detail: detail.to_owned(),
            },
        });
    }

    /// Every pattern that has no finding gets this one, and it is over.
    fn all(&mut self, outcome: RelayOutcome, code: Option<u16>, detail: &str) -> Wish {
        while self.pattern().is_some() {
            self.found(outcome, code, detail);
        }
        self.over()
    }

    fn give_up(&mut self, fault: Fault) -> Wish {
        self.all(RelayOutcome::Unclear, None, &fault.to_string())
    }

    fn over(&mut self) -> Wish {
        self.phase = Phase::Over;
        self.note("closed");
        Wish::End
    }
}

/// Enough of an escaped text to recognise it.
fn cut(text: &str) -> &str {
    text.get(..text.len().min(200)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
