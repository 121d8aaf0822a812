//! Why a command ended badly, and with which exit code.
//!
//! Contract: every error that reaches `main` is a [`Failure`]. Its text names the object, the cause
//! and the way out; its [`Kind`] is the exit code, so that scripts and service managers can tell a
//! wrong configuration (do not restart) from a passing fault.

use std::fmt;

/// What went wrong, as far as the caller of the program has to tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything without a code of its own.
    Failed,
    /// The command line lacks something.
    Usage,
    /// A service or a resource is not to be had now: a port in use, a foreign XDP program.
    Unavailable,
    /// The kernel says no: not root, no capability, wrong owner or mode.
    NoPermission,
    /// The configuration is wrong.
    BadConfig,
}

impl Kind {
    /// The exit code: 1, or as in BSD's sysexits.h.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::NoPermission => 77,
            Self::BadConfig => 78,
        }
    }
}

/// An error with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// What to tell the user.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure of this kind with this text.
    pub fn new(kind: Kind, text: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self {
            kind,
            error: anyhow::Error::msg(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            kind: Kind::Failed,
            error,
        }
    }
}

/// Gives the error of a result a kind.
pub trait ResultExt<T> {
    /// Turns the error into a [`Failure`] of this kind.
    fn kind(self, kind: Kind) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> ResultExt<T> for Result<T, E> {
    fn kind(self, kind: Kind) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            kind,
            error: error.into(),
        })
    }
}
