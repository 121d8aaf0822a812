//! The verbs that ask a running agent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::load;
use crate::client::{self, Agent, Url};
use crate::failure::Failure;
use crate::report::check::Limits;
use crate::secret::Token;
use crate::top;

/// Which agent.
#[derive(Debug, Default, Args)]
pub struct AgentArgs {
    /// Where it serves [default: as in the configuration, or http://127.0.0.1:12525]
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    pub url: Option<Url>,
    /// File with its token [default: as in the configuration]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Configuration file of the agent; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Longest wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = client::TIME.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=300))]
    pub timeout: u64,
}

impl AgentArgs {
    /// The agent.
    pub fn agent(self) -> Result<Agent, Failure> {
        let serve = load(self.config.as_ref())?.serve;
        let token_file = self.token_file.or(serve.token_file);
        Ok(Agent {
            url: self.url.unwrap_or_else(|| serve.listen.into()),
            token: token_file.as_deref().map(Token::load).transpose()?,
            time: Duration::from_secs(self.timeout),
        })
    }
}

/// `smtpflow status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Write the agent's own JSON
    #[arg(long)]
    pub json: bool,
}

/// `smtpflow check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints one line with performance data. Exit codes, other than those of all \
                        other commands: 0 OK; 1 WARNING: the store cannot be written, the drain is \
                        late, a limit is passed; 2 CRITICAL: the agent does not answer, an interface \
                        is not attached, the counts do not add up, a drain is overdue, a limit is \
                        passed; 3 UNKNOWN: wrong usage or configuration, no token, an answer that is \
                        not understood. A limit is passed by more than it."
)]
pub struct CheckArgs {
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Warning above this age of the last drain, in seconds [default: three windows]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warning_age: Option<f64>,
    /// Critical above this age of the last drain, in seconds [default: ten windows]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub critical_age: Option<f64>,
    /// Warning above so many packets that found no place in the kernel's table
    #[arg(long, value_name = "N")]
    pub warning_overflow: Option<u64>,
    /// Critical above so many packets that found no place in the kernel's table
    #[arg(long, value_name = "N")]
    pub critical_overflow: Option<u64>,
    /// Warning above so many open verdicts
    #[arg(long, value_name = "N")]
    pub warning_verdicts: Option<u64>,
    /// Critical above so many open verdicts
    #[arg(long, value_name = "N")]
    pub critical_verdicts: Option<u64>,
    /// Write JSON, with the line and what the agent has said
    #[arg(long)]
    pub json: bool,
}

impl CheckArgs {
    /// When to warn.
    pub const fn limits(&self) -> Limits {
        Limits {
            warning_age: self.warning_age,
            critical_age: self.critical_age,
            warning_overflow: self.warning_overflow,
            critical_overflow: self.critical_overflow,
            warning_verdicts: self.warning_verdicts,
            critical_verdicts: self.critical_verdicts,
        }
    }
}

/// `smtpflow top`.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys: c, p, b, s, a sort by connections, packets, bytes, servers, address; r reverses \
                        the order; w, h, d, t show the last window, the last hour, the last day, all; q \
                        or Ctrl-C ends. Packets and bytes are those sent to servers. Without a terminal, \
                        one table is printed. NO_COLOR=1 in the environment keeps colours away."
)]
pub struct TopArgs {
    /// Which agent.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// What to sort by
    #[arg(long, value_enum, value_name = "FIGURE", default_value = "connections")]
    pub sort: SortChoice,
    /// Of when counts are
    #[arg(long, value_enum, value_name = "SPAN", default_value = "window")]
    pub span: SpanChoice,
    /// Most sources, 1 to 500 [default: as many as fit, or 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub rows: Option<u16>,
    /// Print one table and end
    #[arg(long)]
    pub once: bool,
    /// Write the agent's own JSON and end
    #[arg(long)]
    pub json: bool,
}

/// What sources are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortChoice {
    /// Connections opened
    Connections,
    /// Packets sent to servers
    Packets,
    /// Bytes sent to servers
    Bytes,
    /// Different servers
    Servers,
    /// The address
    Address,
}

/// Of when counts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpanChoice {
    /// The last window
    Window,
    /// The last hour
    Hour,
    /// The last 24 hours
    Day,
    /// All that the agent has counted
    All,
}

impl TopArgs {
    /// What to do.
    pub fn options(self) -> Result<top::Options, Failure> {
        let key = match self.sort {
            SortChoice::Connections => top::SortKey::Connections,
            SortChoice::Packets => top::SortKey::Packets,
            SortChoice::Bytes => top::SortKey::Bytes,
            SortChoice::Servers => top::SortKey::Servers,
            SortChoice::Address => top::SortKey::Address,
        };
        Ok(top::Options {
            agent: self.agent.agent()?,
            sort: top::Sort {
                key,
                reversed: false,
            },
            span: match self.span {
                SpanChoice::Window => top::Span::Window,
                SpanChoice::Hour => top::Span::Hour,
                SpanChoice::Day => top::Span::Day,
                SpanChoice::All => top::Span::All,
            },
            rows: self.rows.map(usize::from),
            once: self.once,
            json: self.json,
        })
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=1e9).contains(seconds))
        .ok_or_else(|| format!("{text:?} is no number of seconds"))
}
