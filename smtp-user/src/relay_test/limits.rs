//! What a relay test may cost the host and us.

use std::time::Duration;

/// See the module. Those of a line and of a reply are in [`super::reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// The longest that a test may take. Servers that wait half a minute before they greet are common, and a
    /// test needs a handful of connections.
    pub(super) time: Duration,
    /// The longest wait for a connection or a whole reply, however slowly it comes.
    pub(super) reply: Duration,
    /// Most octets that are read in all.
    pub(super) octets: usize,
    /// Most commands in all.
    pub(super) commands: u32,
    /// Most connections in all, one after the other.
    pub(super) connections: u32,
    /// Patterns on one connection: fewer than make a server slow down or hang up. Postfix slows down from
    /// ten errors on and hangs up at twenty (`smtpd_soft_error_limit`, `smtpd_hard_error_limit`).
    pub(super) patterns: u32,
    /// Messages that are tried, of which at most one is accepted.
    pub(super) messages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(120),
            reply: Duration::from_secs(30),
            octets: 64 << 10,
            commands: 200,
            connections: 32,
            patterns: 8,
            messages: 3,
        }
    }
}
