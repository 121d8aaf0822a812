//! Labelled mail traffic from a seed: who is a spammer in it is known.
//!
//! Contract: the same seed gives the same traffic on every machine; there is no clock in it and no
//! number that depends on a library. A [`Population`] is of hosts of some [`kind`]s; its [`Traffic`] is
//! of [`Script`]s, one for each connection, which say every segment. [`pcap`] writes them as frames.
//! Whoever counts them in another way, as windows of a meter, must get the same: a test compares
//! both.
//!
//! Nothing is shared with what reads frames in smtpflow. The definitions of the kinds are in
//! [`kind::KINDS`], and in the report of `cargo xtask evaluate`.

mod ancestor;
mod bots;
pub mod frame;
pub mod habit;
mod innocents;
pub mod kind;
mod limits;
pub mod pcap;
mod population;
pub mod script;
#[cfg(test)]
mod tests;

pub use self::ancestor::{DISTRIBUTION, Distribution};
pub use self::kind::{KINDS, Kind, Label};
pub use self::population::{Host, Listed, MONDAY, Maker, PREFIXES, Population, Traffic, world};
pub use self::script::{Script, Step};
