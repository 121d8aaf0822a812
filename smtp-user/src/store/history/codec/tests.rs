//! Golden octets.
