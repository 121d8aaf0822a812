//! Whose host it is: contact files, routes of this machine and of other routers, RWhois, whois and RDAP.
//!
//! Contract: nothing is asked that the operator has not put into the order of sources, and nothing here is
//! on the way of counting. Whatever comes from outside is bounded in time, bytes, entries and referrals, and
//! ends in an answer or in a failure that says why. Each answer says where it is from and how old it is.
#![forbid(unsafe_code)]

mod contacts;
mod prefixes;
mod routes;
mod settings;
mod snmp;
