//! Known relays: those of the configuration and those of the store, in one list.

use ipnet::IpNet;
use serde::Serialize;

use super::SCHEMA;
use super::document::{Document, Table, number, text};
use super::time;
use crate::answer::answer;
use crate::model::period::rfc3339;
use crate::model::prefix::show;
use crate::model::relay::{Ended, Origin, Relay, StoredRelay};
use crate::store::Unchanged;

/// An entry, wherever it is from.
#[derive(Clone, Debug)]
pub struct KnownRelay {
    /// The entry.
    pub relay: Relay,
    /// Who added it and when, and how it was ended; `None` for one of the configuration.
    pub stored: Option<StoredRelay>,
    /// Whether it counts now: it is not ended, its last day is not over, and the configuration has no other
    /// one of its prefix.
    pub active: bool,
    /// Whether the configuration has another one of its prefix.
    pub overruled: bool,
}

impl KnownRelay {
    /// Where it comes from.
    pub const fn origin(&self) -> Origin {
        match self.stored {
            Some(_) => Origin::Store,
            None => Origin::Config,
        }
    }

    /// How it was ended, if it was.
    pub fn ended(&self) -> Option<&Ended> {
        self.stored.as_ref()?.ended.as_ref()
    }
}

/// All entries: those of the configuration, then those of the store in their order. `now` is in
/// milliseconds since 1970.
pub fn all(configured: &[Relay], stored: Vec<StoredRelay>, now: u64) -> Vec<KnownRelay> {
    let of_config = configured.iter().map(|relay| KnownRelay {
        relay: relay.clone(),
        stored: None,
        active: !relay.is_expired(now),
        overruled: false,
    });
    let of_store = stored.into_iter().map(|stored| {
        let StoredRelay { relay, ended, .. } = &stored;
        let overruled = configured.iter().any(|other| other.prefix == relay.prefix);
        KnownRelay {
            relay: relay.clone(),
            active: ended.is_none() && !overruled && !relay.is_expired(now),
            overruled,
            stored: Some(stored),
        }
    });
    of_config.chain(of_store).collect()
}

/// Checks what the store cannot know of an entry that is to be added: that it is about own hosts, and
/// that the configuration has none of its prefix.
///
/// # Errors
///
/// One of these, with the way out.
pub fn check_new(prefix: IpNet, configured: &[Relay], local: &[IpNet]) -> Result<(), Unchanged> {
    if !local.iter().any(|own| own.contains(&prefix)) {
        let own: Vec<_> = local.iter().map(IpNet::to_string).collect();
        return Err(Unchanged::Invalid(match &own[..] {
            [] => "there is no list of own prefixes, so nobody is judged and there is nothing to \
                   excuse (networks.local)"
                .to_owned(),
            own => format!(
                "{prefix} is not inside the own prefixes ({}): only own hosts are judged, so there \
                 is nothing to excuse",
                own.join(", ")
            ),
        }));
    }
    match configured.iter().find(|other| other.prefix == prefix) {
        None => Ok(()),
        Some(other) => Err(Unchanged::Conflict(format!(
            "{prefix} is a known relay of the configuration ({}); change it there ([[relay]])",
            other.reason
        ))),
    }
}

/// Why an entry was not ended: what the store does not have, the configuration may have.
pub fn explain_end(unchanged: Unchanged, prefix: IpNet, configured: &[Relay]) -> Unchanged {
    match unchanged {
        Unchanged::Absent(_) if configured.iter().any(|other| other.prefix == prefix) => {
            Unchanged::Conflict(format!(
                "{prefix} is a known relay of the configuration: delete it there ([[relay]]) and start \
                 the agent again"
            ))
        }
        other => other,
    }
}

answer! {
    /// An entry of a known relay.
    pub(crate) struct JsonRelay {
        /// Whom it excuses.
        prefix: String,
        /// Why it is known.
        reason: String,
        /// Who answers for it.
        owner: String,
        /// The last day, in UTC, on which it excuses anybody; null if it has no end.
        expires: Option<String>,
        /// More connections than this in a UTC hour are a warning, and no other rule is applied; null if it is never judged.
        connections: Option<u32>,
        /// Where it comes from: config or store.
        origin: &'static str,
        /// Whether it counts now: it is not ended, its last day is not over, and the configuration has no other one of its prefix.
        active: bool,
        /// When it was added; null for one of the configuration.
        added_at: Option<String>,
        /// Who added it; null for one of the configuration.
        added_by: Option<String>,
        /// When it was ended, or null.
        ended_at: Option<String>,
        /// Who ended it, or null.
        ended_by: Option<String>,
        /// Why it was ended, or null.
        ended_why: Option<String>,
    }
}

impl From<&KnownRelay> for JsonRelay {
    fn from(known: &KnownRelay) -> Self {
        let Relay {
            prefix,
            reason,
            owner,
            expires,
            connections,
        } = &known.relay;
        let stored = known.stored.as_ref();
        let ended = known.ended();
        Self {
            prefix: prefix.to_string(),
            reason: reason.clone(),
            owner: owner.clone(),
            expires: expires.map(|day| day.to_string()),
            connections: *connections,
            origin: known.origin().name(),
            active: known.active,
            added_at: stored.map(|stored| rfc3339(stored.added_at)),
            added_by: stored.map(|stored| stored.added_by.clone()),
            ended_at: ended.map(|ended| rfc3339(ended.at)),
            ended_by: ended.map(|ended| ended.by.clone()),
            ended_why: ended.map(|ended| ended.why.clone()),
        }
    }
}

answer! {
    /// An entry that was changed.
    pub(crate) struct JsonChanged {
        /// Version of the form of this answer.
        schema: u32,
        /// The entry as it is now.
        relay: JsonRelay [JsonRelay],
        /// The verdicts that were resolved by it.
        resolved: Vec<u64>,
    }
}

impl JsonChanged {
    /// Of an entry of the store, which the configuration has none in the place of.
    pub(crate) fn new(stored: StoredRelay, resolved: Vec<u64>, now: u64) -> Self {
        let known = KnownRelay {
            active: stored.ended.is_none() && !stored.relay.is_expired(now),
            relay: stored.relay.clone(),
            stored: Some(stored),
            overruled: false,
        };
        Self {
            schema: SCHEMA,
            relay: (&known).into(),
            resolved,
        }
    }
}

/// A list in JSON.
#[derive(Serialize)]
pub(crate) struct JsonRelays {
    schema: u32,
    total: usize,
    relays: Vec<JsonRelay>,
}

impl JsonRelays {
    /// Of all these.
    pub(crate) fn new(relays: &[KnownRelay]) -> Self {
        Self {
            schema: SCHEMA,
            total: relays.len(),
            relays: relays.iter().map(JsonRelay::from).collect(),
        }
    }
}

/// A list as a document.
pub fn document(relays: &[KnownRelay]) -> Document {
    let row = |known: &KnownRelay| {
        let relay = &known.relay;
        let state = match (known.ended(), known.active) {
            (Some(ended), _) => format!(
                "ended {} by {}: {}",
                time::minutes(ended.at),
                ended.by,
                ended.why
            ),
            (None, true) => "active".to_owned(),
            (None, false) if known.overruled => "the configuration has another".to_owned(),
            (None, false) => "its last day is over".to_owned(),
        };
        vec![
            show(&relay.prefix),
            relay.reason.clone(),
            relay.owner.clone(),
            relay.expires.map(|day| day.to_string()).unwrap_or_default(),
            relay.connections.map(|n| n.to_string()).unwrap_or_default(),
            known.origin().name().to_owned(),
            known
                .stored
                .as_ref()
                .map(|stored| time::minutes(stored.added_at))
                .unwrap_or_default(),
            known
                .stored
                .as_ref()
                .map(|stored| stored.added_by.clone())
                .unwrap_or_default(),
            state,
        ]
    };
    Document {
        title: format!("{} known relays", relays.len()),
        notes: Vec::new(),
        tables: vec![Table {
            name: "relays",
            title: "whom they excuse, times in UTC".to_owned(),
            notes: Vec::new(),
            columns: vec![
                text("prefix"),
                text("reason"),
                text("owner"),
                text("last day"),
                number("limit"),
                text("origin"),
                text("added"),
                text("by"),
                text("state"),
            ],
            rows: relays.iter().map(row).collect(),
        }],
    }
}
