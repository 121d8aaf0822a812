//! Why a conversation ended before it was over.

use std::fmt;
use std::time::Duration;

use super::limits::Limits;
use super::reply::Malformed;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server has closed the connection.
    Closed,
    /// It has said nothing, or no whole reply, for so long.
    Silence(Duration),
    /// What it said is no reply.
    Malformed(Malformed),
    /// It said more than it was asked for: its answers cannot be told apart any more.
    OutOfTurn,
    /// A reply with this code is none to the command.
    Unexpected(u16),
    /// The server took no other connection, or closed it before it spoke.
    NotAgain,
    /// The server did not want to talk on another connection, by this code.
    NotAgainBy(u16),
    /// The test has lasted for as long as it may.
    Time(Duration),
    /// The server has sent as much as is read.
    Octets(usize),
    /// As many commands were sent as may be.
    Commands(u32),
    /// As many connections were made as may be.
    Connections(u32),
}

impl Fault {
    pub(super) const fn time(limits: &Limits) -> Self {
        Self::Time(limits.time)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Silence(time) => write!(f, "no whole reply within {} s", time.as_secs()),
            Self::Malformed(malformed) => write!(f, "the answer is no reply of SMTP: {malformed}"),
            Self::OutOfTurn => f.write_str("the server said more than it was asked for"),
            Self::Unexpected(code) => write!(f, "{code} is no answer to the command"),
            Self::NotAgain => f.write_str("the server took no other connection"),
            Self::NotAgainBy(code) => {
                write!(
                    f,
                    "the server refused to talk on another connection with {code}"
                )
            }
            Self::Time(time) => write!(f, "the {} s of a test were over", time.as_secs()),
            Self::Octets(octets) => write!(
                f,
                "the server had sent {octets} octets, the most that is read"
            ),
            Self::Commands(commands) => {
                write!(f, "{commands} commands were sent, the most that a test may")
            }
            Self::Connections(connections) => {
                write!(
                    f,
                    "{connections} connections were made, the most that a test may"
                )
            }
        }
    }
}
