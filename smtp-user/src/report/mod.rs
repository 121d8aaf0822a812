//! Reports from history and verdicts.
//!
//! Contract: what is asked for is read from the store through [`Reader`](crate::store::Reader), put
//! into plain data, and rendered from there: as a [`Document`](document::Document) of tables (text,
//! CSV, HTML), or as JSON of schema 1, named as in the API. Nothing here writes to the store. All
//! times are UTC. The address `::` stands for sources and servers that are not kept one by one; their
//! counts are in totals, but they are no items.
#![forbid(unsafe_code)]

pub mod cases;
pub mod check;
pub mod complaints;
pub mod counts;
pub mod distribution;
pub mod document;
pub mod gaps;
pub mod host;
mod html;
pub mod mail_log;
pub mod month;
pub mod notices;
pub mod owner;
pub mod relay_test;
pub mod relays;
pub(crate) mod round;
pub mod scorecard;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod time;
pub mod tune;
pub mod verdicts;
pub mod why;

use smtp_common::packet::Address;

/// Version of the form of all JSON here; a new field does not change it.
pub const SCHEMA: u32 = 1;

/// Stands for sources and servers that are not kept one by one.
pub(crate) const UNKEPT: Address = Address::from_ipv6([0; 16]);

/// What a report says where there is no list of own prefixes.
const NOBODY_JUDGED: &str =
    "nobody is judged: it is not known which hosts are yours (networks.local, or --local PREFIX)";
