//! `smtpflow relay-test`: whether an own host relays mail for strangers.
//!
//! Contract: only hosts inside of the operator's own prefixes are connected to, on port 25 alone
//! (`target`); one test per host and day and two at once (`ledger`); a conversation is bounded whatever
//! the server does (`conversation`, `limits`). Mail goes to the operator's own mailbox alone, and only where
//! he has said so. It needs no privilege and no agent, and is off until it is configured.
#![forbid(unsafe_code)]

mod conversation;
mod fault;
mod ledger;
mod limits;
mod message;
mod pattern;
mod reply;
mod reports;
mod settings;
mod socket;
mod target;
mod transcript;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use self::conversation::{Findings, Plan};
use self::ledger::Ledger;
use self::limits::Limits;
pub use self::message::FIELD;
use self::message::Message;
use self::pattern::{Names, PATTERNS};
pub use self::settings::{HostName, Mailbox, Settings};
use self::target::{PORT, Target};
use crate::failure::{Failure, Kind};
use crate::model::relay_test::{Finding, RelayOutcome, RelayTest, TestedPattern};

/// Version of the form in JSON.
const SCHEMA: u32 = crate::report::SCHEMA;

/// What is to be tested, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host.
    pub address: IpAddr,
    /// The operator's own prefixes.
    pub local: Vec<IpNet>,
    /// What the operator says about tests.
    pub settings: Settings,
}

/// Tests a host.
///
/// # Errors
///
/// Tests are off, the host is none of the operator's own, it was tested within a day, as many tests run as
/// may, or the test cannot be noted. What the host does is no error.
pub fn run(options: &Options) -> Result<RelayTest, Failure> {
    let Options {
        address,
        local,
        settings,
    } = options;
    let recipient = match (&settings.recipient, settings.enabled) {
        (Some(recipient), true) => recipient,
        _ => {
            return Err(Failure::new(
                Kind::BadConfig,
                "relay tests are off: set relay_test.enabled and relay_test.recipient in the configuration, \
                 and name its file with --config",
            ));
        }
    };
    let target = Target::check(*address, local)?;
    let message = settings.data.then(message).transpose()?;
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ledger = Ledger::open(&settings.state)?;
    let _permit = ledger.begin(target.address(), seconds)?;
    tracing::info!(%target, recipient = %recipient, data = settings.data, "a relay test begins");
    let begun = Instant::now();
    let token = message.as_ref().map(|message| message.token.clone());
    let findings = socket::converse(
        target,
        local,
        Plan {
            target: target.address(),
            helo: settings.helo.clone(),
            sender: settings.sender.clone().unwrap_or_else(|| recipient.clone()),
            recipient: recipient.clone(),
            message,
            limits: Limits::default(),
        },
    );
    let Findings {
        greeting,
        host_name,
        starttls,
        connections,
        commands,
        octets,
        patterns,
        transcript,
    } = findings;
    let finding = worst(&patterns);
    let mut cautions = Vec::new();
    if let Some(name) = &host_name
        && name.is_within(recipient.domain())
        && finding.outcome >= RelayOutcome::AcceptedBut
    {
        cautions.push(format!(
            "the server calls itself {name}, of the recipient's own domain: it may take mail for {recipient} \
             rightly; test with a mailbox of another domain (relay_test.recipient)"
        ));
    }
    if finding.outcome == RelayOutcome::AcceptedBut {
        cautions.push(
            "an accepted recipient is no proof: many servers refuse the message, or bounce it; only a message \
             that is accepted (relay_test.data) and arrives is one"
                .to_owned(),
        );
    }
    if finding.outcome == RelayOutcome::Open {
        cautions.push(format!(
            "the message was accepted; it was relayed if it arrives at {recipient} with {FIELD}: {}",
            token.as_deref().unwrap_or_default()
        ));
    }
    tracing::info!(
        %target,
        outcome = finding.outcome.name(),
        code = finding.code,
        connections,
        commands,
        "the relay test is over"
    );
    let test = RelayTest {
        schema: SCHEMA,
        target: target.address(),
        port: PORT,
        started_at: Timestamp::try_from(now)
            .map(|time| format!("{time:.3}"))
            .unwrap_or_default(),
        seconds: begun.elapsed().as_secs_f64(),
        finding,
        greeting,
        host_name: host_name.map(String::from),
        starttls,
        recipient: recipient.to_string(),
        token,
        cautions,
        connections,
        commands,
        octets,
        patterns,
        transcript,
    };
    let kept = serde_json::to_vec(&test)
        .map_err(io::Error::from)
        .and_then(|json| ledger.keep(target.address(), &json));
    if let Err(error) = kept {
        tracing::warn!(%target, %error, "the report of the relay test cannot be kept in relay_test.state");
    }
    Ok(test)
}

/// The report of the last test of a host, as JSON, if one is kept in this folder (`relay_test.state`).
///
/// # Errors
///
/// It cannot be read, or is none.
pub fn last_report(state: &Path, host: IpAddr) -> Result<Option<Value>, Failure> {
    let failed = |kind, error: &dyn fmt::Display| {
        Failure::new(
            kind,
            format!(
                "cannot read the report of the relay test of {host} in {} (relay_test.state): {error}; test the \
                 host anew, or do without",
                reports::folder(state).display()
            ),
        )
    };
    let json = reports::last(state, host).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::NoPermission,
            _ => Kind::Failed,
        };
        failed(kind, &error)
    })?;
    json.map(|json| serde_json::from_slice(&json).map_err(|error| failed(Kind::Failed, &error)))
        .transpose()
}

/// A pattern, for documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedPattern {
    /// Its name.
    pub name: &'static str,
    /// Why it is tried.
    pub why: &'static str,
    /// Its first command.
    pub mail: String,
    /// Its second command.
    pub rcpt: String,
}

/// All patterns, as a host at 192.0.2.7 that calls itself mx.example.com is asked to relay from
/// sender@example.net to user@example.org.
pub fn patterns() -> Vec<DocumentedPattern> {
    let names = Names {
        sender: "sender@example.net".to_owned(),
        user: "user".to_owned(),
        domain: "example.org".to_owned(),
        host: "mx.example.com".to_owned(),
        literal: "[192.0.2.7]".to_owned(),
    };
    PATTERNS
        .iter()
        .map(|pattern| DocumentedPattern {
            name: pattern.name,
            why: pattern.why,
            mail: pattern.mail(&names),
            rcpt: pattern.rcpt(&names),
        })
        .collect()
}

/// The finding that says most about the host: the first of the worst.
fn worst(patterns: &[TestedPattern]) -> Finding {
    let worst = patterns.iter().map(|tested| tested.finding.outcome).max();
    let of = |outcome| {
        let mut found = patterns
            .iter()
            .filter(move |tested| tested.finding.outcome == outcome);
        found.next().map(|first| (first, found.count() + 1))
    };
    let Some((first, count)) = worst.and_then(of) else {
        return Finding {
            outcome: RelayOutcome::Unclear,
            code: None,
            detail: "nothing was tried".to_owned(),
        };
    };
    Finding {
        detail: format!(
            "{count} of {} patterns, the first is {}: {}",
            patterns.len(),
            first.name,
            first.finding.detail
        ),
        ..first.finding.clone()
    }
}

fn message() -> Result<Message, Failure> {
    let mut random = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .context("cannot read random numbers from /dev/urandom")?;
    Ok(Message {
        token: random.iter().map(|octet| format!("{octet:02x}")).collect(),
        date: rfc2822::DateTimePrinter::new()
            .timestamp_to_string(&Timestamp::now())
            .context("cannot write the date of a message")?,
    })
}
