//! Telling owners: who is told what about which host, when, and how it leaves.
//!
//! Contract: off until it is configured, and then nothing leaves that nobody approved, unless the operator has
//! said so. Never a word about a host outside of the own prefixes, nor on evidence that somebody else could
//! have made in its name (`evidence`). What is decided ([`plan`], `gate`, `retry`) has no I/O and no clock: what is
//! known comes in as a [`Book`](crate::model::notice::Book), what is to be noted goes out as changes, and whoever keeps
//! them notes all of a step or nothing. A message is made once (`message`), is kept whole, and is the same
//! in every attempt to send it (`send`).
#![forbid(unsafe_code)]

mod arf;
mod evidence;
mod gate;
mod message;
mod plan;
mod quiet;
mod retry;
mod send;
mod settings;
mod template;
#[cfg(test)]
mod tests;
mod xarf;

pub use self::evidence::{Policy, Silence};
pub use self::gate::{Gate, Wait, queue};
pub use self::message::{Composer, Rendered};
pub use self::plan::{Draft, Plan, plan};
pub use self::quiet::QuietHours;
pub use self::retry::{Attempt, Outcome, after, before};
pub use self::send::Sender;
pub use self::settings::{Mode, Settings, Tls};
pub use self::template::{SHIPPED, Templates};

/// An hour, in milliseconds.
const HOUR: u64 = 3_600_000;
/// A day, in milliseconds.
const DAY: u64 = 24 * HOUR;
