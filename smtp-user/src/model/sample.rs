//! Headers of messages that somebody has complained about.
//!
//! Contract: kept only where the operator chose that, and not for long. What is in here was cleaned where it came in: it
//! can leave as it is, and has no more of people than was chosen then.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::mail::KeptAddresses;

/// How long a header is kept and used after the complaint was made, in milliseconds: a week.
pub const SAMPLE_AGE: u64 = 7 * 86_400_000;

/// What is kept of a message, beside the complaint about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHeader {
    /// What is in it of the addresses of people.
    pub addresses: KeptAddresses,
    /// The domain that the complaint is about, if it names one.
    pub domain: Option<String>,
    /// Whole fields in visible ASCII, each line ended by CRLF.
    pub text: String,
}

/// A message of a host, as far as it may be handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The host that the complaint is about.
    pub address: IpAddr,
    /// When the message came, in milliseconds since 1970, if the complaint says so.
    pub happened_at: Option<u64>,
    /// Its header.
    pub header: KeptHeader,
}
