//! Which entry of a known relay counts.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::relay::{Origin, Relay};

/// How an entry is written, as comments in a configuration without one.
pub const EXAMPLE: &str = "\
# Known relays: hosts that send mail for others. They stay counted and visible, but are never
# judged, and whoever asks why is told the entry. The longest prefix counts.
# [[relay]]
# prefix = \"192.0.2.25/32\"
# reason = \"the mail relay of the staff\"
# owner = \"postmaster@example.org\"
# The last day, in UTC, on which the entry excuses anybody; unset: it has no end.
# expires = \"2027-06-30\"
# If set, more connections than this in a UTC hour are a warning, and no other rule is applied.
# connections = 5000
";

/// Checks what one entry alone does not show: that no two are of the same prefix.
pub fn check_relays(relays: &[Relay]) -> Result<(), (&'static str, String)> {
    for (i, relay) in relays.iter().enumerate() {
        if relays[..i].iter().any(|other| other.prefix == relay.prefix) {
            let error = format!("{} has two entries; give it one", relay.prefix);
            return Err(("relay.prefix", error));
        }
    }
    Ok(())
}

/// Known relays, those with the longest prefix first. One prefix has one entry.
#[derive(Clone, Debug)]
pub(super) struct Relays(Vec<Entry>);

/// An entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) relay: Relay,
    pub(super) origin: Origin,
}

impl Relays {
    /// Those of the configuration, and of the store those whose prefixes are not among them.
    pub(super) fn new(configured: &[Relay], stored: &[Relay]) -> Self {
        let entry = |origin: Origin| {
            move |relay: &Relay| Entry {
                relay: relay.clone(),
                origin,
            }
        };
        let mut entries: Vec<_> = configured.iter().map(entry(Origin::Config)).collect();
        for relay in stored {
            if entries
                .iter()
                .all(|other| other.relay.prefix != relay.prefix)
            {
                entries.push(entry(Origin::Store)(relay));
            }
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.relay.prefix.prefix_len()));
        Self(entries)
    }

    /// The length of the longest prefix with this address, of expired ones as well, so that it stays
    /// the same subject.
    pub(super) fn length(&self, address: IpAddr) -> Option<u8> {
        self.0
            .iter()
            .find(|entry| entry.relay.prefix.contains(&address))
            .map(|entry| entry.relay.prefix.prefix_len())
    }

    /// The entry that counts for this subject now.
    pub(super) fn of(&self, subject: &IpNet, now: u64) -> Option<&Entry> {
        self.0
            .iter()
            .find(|entry| entry.relay.prefix.contains(subject) && !entry.relay.is_expired(now))
    }

    /// Entries that excuse nobody any more.
    pub(super) fn expired(&self, now: u64) -> impl Iterator<Item = &Entry> {
        self.0
            .iter()
            .filter(move |entry| entry.relay.is_expired(now))
    }

    /// IPv6 prefixes longer than this, in order: the hosts in them are subjects of their own.
    pub(super) fn split_off(&self, length: u8) -> Vec<IpNet> {
        let prefixes = self.0.iter().map(|entry| entry.relay.prefix);
        let mut prefixes: Vec<_> = prefixes
            .filter(|prefix| matches!(prefix, IpNet::V6(_)) && prefix.prefix_len() > length)
            .collect();
        prefixes.sort_unstable();
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(expires: &str) -> Relay {
        Relay {
            prefix: "192.0.2.25/32".parse().expect("a prefix"),
            reason: "relay".to_owned(),
            owner: "postmaster".to_owned(),
            expires: Some(expires.parse().expect("a date")),
            connections: None,
        }
    }

    #[test]
    fn the_longest_prefix_that_has_not_expired_counts() {
        let mut wide = relay("2030-01-01");
        wide.prefix = "192.0.2.0/24".parse().expect("a prefix");
        let relays = Relays::new(&[wide.clone()], &[relay("2026-11-24")]);
        let host = "192.0.2.25/32".parse().expect("a prefix");
        let of = |now| relays.of(&host, now).expect("an entry");
        assert_eq!((of(0).relay.prefix, of(0).origin), (host, Origin::Store));
        let later = of(1_795_564_800_000);
        assert_eq!((&later.relay, later.origin), (&wide, Origin::Config));
        assert_eq!(relays.expired(1_795_564_800_000).count(), 1);
    }

    #[test]
    fn one_prefix_has_one_entry_and_the_configuration_s_wins() {
        let host = "192.0.2.25/32".parse().expect("a prefix");
        let stored = Relay {
            reason: "of the store".to_owned(),
            ..relay("2030-01-01")
        };
        // Even where it excuses nobody any more: whoever wrote it has said until when.
        let relays = Relays::new(&[relay("2026-11-24")], std::slice::from_ref(&stored));
        assert_eq!(
            relays.of(&host, 0).map(|entry| entry.origin),
            Some(Origin::Config)
        );
        assert!(relays.of(&host, 1_795_564_800_000).is_none());
    }
}
