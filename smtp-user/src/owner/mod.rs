//! Whose host it is: contact files, routes of this machine and of other routers, RWhois, whois and RDAP.
//!
//! Contract: nothing is asked that the operator has not put into the order of sources, and nothing here is
//! on the way of counting. Whatever comes from outside is bounded in time, bytes, entries and referrals, and
//! ends in an answer or in a failure that says why. Each answer says where it is from and how old it is.
#![forbid(unsafe_code)]

mod cache;
mod contacts;
mod desk;
mod directory;
mod prefixes;
mod rdap;
mod register;
mod remembered;
mod routes;
mod rwhois;
pub mod settings;
mod snmp;
mod tables;
mod web;
mod whois;
mod wire;

pub use self::desk::{Desk, ports};
pub use self::register::serve_rwhois;
pub use self::settings::{ROUTER_EXAMPLE, Router, Settings};
