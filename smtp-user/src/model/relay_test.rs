//! What a relay test has found, with its form in JSON.

use std::net::IpAddr;

use serde::Serialize;

/// What came of a pattern, or of all of them: the later one is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayOutcome {
    /// Nobody listens: the connection was refused or not answered.
    Closed,
    /// The server listens and does not want to talk: it refuses in its greeting or at EHLO and HELO, or
    /// closes the connection before them.
    Refused,
    /// MAIL or RCPT was answered with 4xx or 5xx.
    Rejected,
    /// It is not known: the conversation ended before an answer, or the answer is no reply.
    Unclear,
    /// RCPT was accepted, but no message was: none was sent, or it was refused at DATA or behind it.
    AcceptedBut,
    /// A message was accepted.
    Open,
}

impl RelayOutcome {
    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unclear => "unclear",
            Self::AcceptedBut => "accepted-but",
            Self::Open => "OPEN",
        }
    }
}

/// What is known of a pattern, or of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// See there.
    pub outcome: RelayOutcome,
    /// The code of the reply that decided it, if it was one.
    pub code: Option<u16>,
    /// What happened, in words; control characters are escaped.
    pub detail: String,
}

/// A pattern of MAIL and RCPT with what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestedPattern {
    /// Its name.
    pub name: &'static str,
    /// Why it is tried.
    pub why: &'static str,
    /// Its first command; empty if the server was never ready for one.
    pub mail: String,
    /// Its second one, which is sent if the first was accepted.
    pub rcpt: String,
    /// What came of it.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Whether the server offers TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StartTls {
    /// EHLO was not answered.
    #[default]
    Unknown,
    /// It is among the extensions.
    Offered,
    /// It is not.
    NotOffered,
}

impl StartTls {
    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Offered => "offered",
            Self::NotOffered => "not offered",
        }
    }
}

/// Who said a line of a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// smtpflow.
    Client,
    /// The host that is tested.
    Server,
    /// Nobody: what happened to the connection.
    Note,
}

/// A line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TranscriptLine {
    /// Milliseconds since the test began.
    pub at_ms: u64,
    /// Who said it.
    pub who: Speaker,
    /// What was said: printable ASCII, all else as \r, \n, \t, \\ or \xHH.
    pub text: String,
}

/// A relay test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelayTest {
    /// Version of this form.
    pub schema: u32,
    /// The host.
    pub target: IpAddr,
    /// Always 25.
    pub port: u16,
    /// When it began, RFC 3339, UTC.
    pub started_at: String,
    /// How long it took.
    pub seconds: f64,
    /// The worst that came of any pattern.
    #[serde(flatten)]
    pub finding: Finding,
    /// How the server greets, escaped.
    pub greeting: Option<String>,
    /// What the server calls itself, if that is the name of a host.
    pub host_name: Option<String>,
    /// Whether it offers TLS.
    pub starttls: StartTls,
    /// Where a relayed message would have gone.
    pub recipient: String,
    /// What a relayed message bears, if one was to be sent.
    pub token: Option<String>,
    /// What to keep in mind.
    pub cautions: Vec<String>,
    /// Connections made.
    pub connections: u32,
    /// Commands sent.
    pub commands: u32,
    /// Octets read.
    pub octets: usize,
    /// All patterns, in the order in which they were tried.
    pub patterns: Vec<TestedPattern>,
    /// All that was said.
    pub transcript: Vec<TranscriptLine>,
}
