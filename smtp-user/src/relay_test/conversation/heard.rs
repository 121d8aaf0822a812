//! What the other side says, and what is done next because of it.
//!
//! Contract: as in the module above.

use std::net::IpAddr;

use super::super::fault::Fault;
use super::super::pattern::Names;
use super::super::reply::Reply;
use super::super::settings::HostName;
use super::super::target::literal;
use super::super::transcript::escape;
use super::{Conversation, Phase, Wish};
use crate::model::relay_test::{RelayOutcome, StartTls};

impl Conversation {
    pub(super) fn connected(&mut self, local: IpAddr) -> Wish {
        if self.phase != Phase::Connection {
            return self.lost(Fault::Closed);
        }
        self.note("connected");
        self.helo = match &self.plan.helo {
            Some(name) => name.to_string(),
            None => literal(local),
        };
        self.phase = Phase::Greeting;
        Wish::Receive {
            within: self.wait(),
        }
    }

    pub(super) fn not_connected(&mut self, why: &str) -> Wish {
        self.note(why);
        if self.connections == 1 {
            return self.all(RelayOutcome::Closed, None, &escape(why.as_bytes()));
        }
        self.give_up(Fault::NotAgain)
    }

    pub(super) fn stranger(&mut self, why: &str) -> Wish {
        self.note(why);
        self.all(RelayOutcome::Unclear, None, &escape(why.as_bytes()))
    }

    pub(super) fn received(&mut self, octets: &[u8]) -> Wish {
        if matches!(self.phase, Phase::Connection | Phase::Over) {
            return self.lost(Fault::OutOfTurn);
        }
        for (at, octet) in octets.iter().enumerate() {
            if self.octets == self.plan.limits.octets {
                return self.abandon(Fault::Octets(self.octets));
            }
            self.octets += 1;
            let line = match self.lines.push(*octet) {
                Ok(None) => continue,
                Ok(Some(line)) => line,
                Err(malformed) => return self.lost(Fault::Malformed(malformed)),
            };
            self.transcript.server(self.elapsed, &line);
            match self.replies.push(&line) {
                Ok(None) => {}
                Ok(Some(reply)) => {
                    let rest = octets.get(at + 1..).unwrap_or_default();
                    if !rest.is_empty() {
                        self.note(&format!("and {} octets out of turn", rest.len()));
                        return self.lost(Fault::OutOfTurn);
                    }
                    return self.replied(&reply);
                }
                Err(malformed) => return self.lost(Fault::Malformed(malformed)),
            }
        }
        if self.left().is_zero() {
            return self.lost(Fault::Silence(self.plan.limits.reply));
        }
        Wish::Receive {
            within: self.left(),
        }
    }

    fn replied(&mut self, reply: &Reply) -> Wish {
        // The server hangs up (RFC 5321, section 3.8).
        let leaves = reply.code == 421;
        match self.phase {
            Phase::Connection | Phase::Over => self.lost(Fault::OutOfTurn),
            Phase::Greeting => {
                if self.greeting.is_none() {
                    self.greeting = Some(escape(reply.text()));
                    self.host_name = host_name(reply);
                }
                if reply.code == 220 {
                    let command = format!("EHLO {}", self.helo);
                    self.send(Phase::Ehlo, &command)
                } else {
                    self.unwilling(reply, "its greeting")
                }
            }
            Phase::Ehlo if reply.class() == 2 => {
                let offers = reply.lines.iter().skip(1).any(|line| is_starttls(line));
                self.starttls = if offers {
                    StartTls::Offered
                } else {
                    StartTls::NotOffered
                };
                self.greeted(reply)
            }
            Phase::Ehlo if leaves => self.unwilling(reply, "EHLO"),
            Phase::Ehlo => {
                let command = format!("HELO {}", self.helo);
                self.send(Phase::Helo, &command)
            }
            Phase::Helo if reply.class() == 2 => self.greeted(reply),
            Phase::Helo => self.unwilling(reply, "HELO"),
            Phase::Mail | Phase::Rcpt if leaves && !self.is_second_try => {
                self.is_second_try = true;
                self.connect()
            }
            Phase::Mail => match reply.class() {
                2 => match (self.pattern(), &self.names) {
                    (Some(pattern), Some(names)) => {
                        let rcpt = pattern.rcpt(names);
                        self.send(Phase::Rcpt, &rcpt)
                    }
                    _ => self.send(Phase::Quit, "QUIT"),
                },
                4 | 5 => self.decide(RelayOutcome::Rejected, reply, "MAIL was answered with"),
                _ => self.lost(Fault::Unexpected(reply.code)),
            },
            Phase::Rcpt => match reply.class() {
                2 if self.may_send() => {
                    self.messages += 1;
                    self.send(Phase::Data, "DATA")
                }
                2 => {
                    let why = match (&self.plan.message, self.is_sent) {
                        (None, _) => "RCPT was accepted, and no message tried",
                        (Some(_), true) => {
                            "RCPT was accepted; one message was accepted before, and no other tried"
                        }
                        (Some(_), false) => "RCPT was accepted; enough messages were tried before",
                    };
                    self.decide(RelayOutcome::AcceptedBut, reply, why)
                }
                4 | 5 => self.decide(RelayOutcome::Rejected, reply, "RCPT was answered with"),
                _ => self.lost(Fault::Unexpected(reply.code)),
            },
            Phase::Data => match (reply.code, self.plan.message.clone(), self.pattern()) {
                (354, Some(message), Some(pattern)) => self.send_message(&message, pattern),
                _ => self.decide(
                    RelayOutcome::AcceptedBut,
                    reply,
                    "RCPT was accepted, and DATA answered with",
                ),
            },
            Phase::Text if reply.class() == 2 => {
                self.is_sent = true;
                self.decide(RelayOutcome::Open, reply, "a message was accepted with")
            }
            Phase::Text => self.decide(
                RelayOutcome::AcceptedBut,
                reply,
                "RCPT was accepted, and the message answered with",
            ),
            Phase::Rset if reply.class() == 2 => self.mail(),
            Phase::Rset => self.connect(),
            Phase::Quit => self.leave(),
        }
    }

    /// It may be asked for patterns now.
    fn greeted(&mut self, reply: &Reply) -> Wish {
        if self.names.is_none() {
            self.host_name = self.host_name.take().or_else(|| host_name(reply));
            self.names = Some(Names::new(
                &self.plan.sender,
                &self.plan.recipient,
                self.host_name.as_ref(),
                &literal(self.plan.target),
            ));
        }
        self.mail()
    }

    /// The server does not want to talk.
    fn unwilling(&mut self, reply: &Reply, to: &str) -> Wish {
        if self.connections > 1 {
            return self.give_up(Fault::NotAgainBy(reply.code));
        }
        let detail = format!("{to} is {} {}", reply.code, escape(reply.text()));
        self.all(RelayOutcome::Refused, Some(reply.code), detail.trim_end())
    }

    fn may_send(&self) -> bool {
        self.plan.message.is_some() && !self.is_sent && self.messages < self.plan.limits.messages
    }

    /// The pattern has its finding, by a reply.
    fn decide(&mut self, outcome: RelayOutcome, reply: &Reply, what: &str) -> Wish {
        let detail = format!("{what}: {} {}", reply.code, escape(reply.text()));
        self.found(outcome, Some(reply.code), detail.trim_end());
        let leaves = reply.code == 421;
        if self.pattern().is_none() || self.begun >= self.plan.limits.patterns {
            if leaves {
                return self.leave();
            }
            return self.send(Phase::Quit, "QUIT");
        }
        // Behind an odd answer to DATA nobody knows what the server takes for a command.
        let is_odd = self.phase == Phase::Data && !(400..600).contains(&reply.code);
        if leaves || is_odd {
            return self.connect();
        }
        self.send(Phase::Rset, "RSET")
    }
}

/// What a server calls itself at the start of a reply, if that is a host's full name.
fn host_name(reply: &Reply) -> Option<HostName> {
    let word = reply.text().split(|octet| *octet == b' ').next()?;
    HostName::parse(std::str::from_utf8(word).ok()?).ok()
}

/// Whether a line of the answer to EHLO offers TLS (RFC 3207).
fn is_starttls(line: &[u8]) -> bool {
    let word = line
        .split(|octet| *octet == b' ')
        .next()
        .unwrap_or_default();
    word.eq_ignore_ascii_case(b"STARTTLS")
}
