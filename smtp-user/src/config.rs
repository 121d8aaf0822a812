//! The configuration: one typed value, from TOML.
//!
//! Contract: a [`Config`] that [`Config::from_toml`] or [`Config::validate`] let through can be
//! used without looking at it again. Every error says where (file, line and column), what is there
//! and what was expected; unknown keys are errors. The documentation, the default and the type of a
//! key stand in one place, in the lists of `sections` and of other rooms: the documentation of the
//! fields and the comments that [`Config::to_toml`] writes are the same text.
#![forbid(unsafe_code)]

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::complaint;
use crate::detect::{self, Policy, Relay};
use crate::failure::{Failure, Kind};
use crate::notice;
use crate::owner;
use crate::relay_test;

mod document;
mod logs;
mod reload;
mod sections;
mod url;
mod value;
pub use document::{DocumentedKey, DocumentedSection};
pub use logs::parse_time_zone;
pub use reload::Reload;
pub use sections::{
    Agent, Alertmanager, AttachChoice, DEFAULT_LISTEN, DEFAULT_MAILLOG_STATE, DEFAULT_PINS,
    DEFAULT_PORT, DEFAULT_STORE, DEFAULT_WINDOW, History, Maillog, Meter, Metrics, Networks, Serve,
    Store, Table,
};
pub use url::HttpUrl;
pub use value::{
    check_ports, parse_interface, parse_listen, parse_port, parse_prefix, parse_store, parse_user,
    parse_window,
};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is counted, and where.
    pub meter: Meter,
    /// What the agent itself may do.
    pub agent: Agent,
    /// Sizes of the kernel's tables.
    pub table: Table,
    /// Whose addresses are whose.
    pub networks: Networks,
    /// What is remembered in memory.
    pub history: History,
    /// The file that keeps the counts.
    pub store: Store,
    /// The HTTP server.
    pub serve: Serve,
    /// What Prometheus is told beside the common metrics.
    pub metrics: Metrics,
    /// Who is told of verdicts.
    pub alertmanager: Alertmanager,
    /// Whose hosts are whose.
    pub owner: owner::Settings,
    /// Tests of own hosts for open relaying.
    pub relay_test: relay_test::Settings,
    /// Logs of mail servers.
    pub maillog: Maillog,
    /// Complaints about own hosts.
    pub complaint: complaint::Settings,
    /// Notices to the owners of flagged hosts.
    pub notice: notice::Settings,
    /// Which hosts are flagged.
    pub detect: detect::Settings,
    /// Known relays.
    pub relay: Vec<Relay>,
}

impl Config {
    /// Reads and checks a file.
    pub fn from_file(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Kind::NoPermission,
                _ => Kind::BadConfig,
            };
            Failure::new(
                kind,
                format!(
                    "cannot read the configuration {}: {error}; `smtpflow config print` writes one",
                    path.display()
                ),
            )
        })?;
        let name = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let (line, column) = position(&String::from_utf8_lossy(good), good.len());
            Failure::new(
                Kind::BadConfig,
                format!("{name}:{line}:{column}: this is no text in UTF-8, which TOML must be"),
            )
        })?;
        Self::from_toml(&name, &text)
    }

    /// Reads and checks a text; `name` is what errors call it.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, Failure> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let at = match error.span() {
                Some(span) => {
                    let (line, column) = position(text, span.start);
                    format!("{name}:{line}:{column}")
                }
                None => name.to_owned(),
            };
            // The parser's longer explanations have lines of their own.
            let message = error.message().trim().replace('\n', "; ");
            Failure::new(Kind::BadConfig, format!("{at}: {message}"))
        })?;
        config.check().map_err(|(key, error)| {
            let at = match position_of(text, key) {
                Some((line, column)) => format!("{name}:{line}:{column}"),
                None => name.to_owned(),
            };
            Failure::new(Kind::BadConfig, format!("{at}: {key}: {error}"))
        })?;
        Ok(config)
    }

    /// Who is judged, and by which rules, without the known relays of a store.
    pub fn policy(&self) -> Policy {
        let local = self.networks.local.clone();
        Policy::new(self.detect.clone(), local, self.relay.clone())
    }

    /// Checks what a text would be checked for, for values that came from elsewhere.
    pub fn validate(&self) -> Result<(), Failure> {
        self.check()
            .map_err(|(key, error)| Failure::new(Kind::BadConfig, format!("{key}: {error}")))
    }

    /// The first value that is not allowed, alone or beside others: its key, and why.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let Self {
            meter,
            agent,
            table,
            networks,
            history,
            store,
            serve: _,
            metrics,
            alertmanager,
            owner,
            relay_test,
            maillog,
            complaint: _,
            notice,
            detect,
            relay,
        } = self;
        let results = [
            (
                "meter.interfaces",
                value::check_interfaces(&meter.interfaces),
            ),
            ("meter.window", value::check_window(meter.window)),
            ("meter.pins", value::check_pins(&meter.pins)),
            ("meter.ports", check_ports(&meter.ports)),
            (
                "agent.user",
                agent
                    .user
                    .as_ref()
                    .map_or(Ok(()), |name| value::check_user(name)),
            ),
            (
                "table.sets_per_cpu",
                table.sets_per_cpu.map_or(Ok(()), value::check_sets_per_cpu),
            ),
            (
                "table.flow_sets_per_cpu",
                table
                    .flow_sets_per_cpu
                    .map_or(Ok(()), value::check_flow_sets_per_cpu),
            ),
            ("table.syn_slots", value::check_syn_slots(table.syn_slots)),
            ("table.spill", value::check_spill(table.spill)),
            ("networks.local", value::check_prefixes(&networks.local)),
            ("history.sources", value::check_sources(history.sources)),
            ("history.pairs", value::check_sources(history.pairs)),
            ("history.idle", value::check_idle(history.idle)),
            (
                "history.keep_hours",
                value::check_keep_hours(history.keep_hours, history.keep_bins),
            ),
            (
                "history.keep_days",
                value::check_keep_days(history.keep_days, history.keep_hours),
            ),
            ("store.path", value::check_store(&store.path)),
            ("store.cache_mib", value::check_cache(store.cache_mib)),
            (
                "metrics.sources",
                value::check_metric_sources(metrics.sources),
            ),
            ("metrics.top", value::check_metric_sources(metrics.top)),
            (
                "metrics.ipv4_prefix",
                value::check_ipv4_length(metrics.ipv4_prefix),
            ),
            (
                "metrics.ipv6_prefix",
                value::check_ipv6_length(metrics.ipv6_prefix),
            ),
            (
                "alertmanager.url",
                alertmanager
                    .url
                    .as_ref()
                    .map_or(Ok(()), url::check_alertmanager),
            ),
            ("alertmanager.every", value::check_every(alertmanager.every)),
            (
                "alertmanager.gateway",
                alertmanager
                    .gateway
                    .as_ref()
                    .map_or(Ok(()), |name| value::check_gateway(name)),
            ),
            ("maillog.files", logs::check_files(&maillog.files)),
            (
                "maillog.queue_ids",
                logs::check_queue_ids(maillog.queue_ids),
            ),
            ("maillog.sources", logs::check_clients(maillog.sources)),
            (
                "maillog.time_zone",
                maillog
                    .time_zone
                    .as_ref()
                    .map_or(Ok(()), |name| parse_time_zone(name).map(drop)),
            ),
            ("maillog.state", logs::check_state(&maillog.state)),
        ];
        for (key, result) in results {
            result.map_err(|error| (key, error))?;
        }
        owner.check()?;
        relay_test.check()?;
        notice.check()?;
        detect.check()?;
        detect::check_relays(relay)
    }
}

/// Where a key such as `detect.persistence.slow_hours` stands in a text; where it does not, because
/// its default is what is wrong beside others, the section that comes nearest to it.
fn position_of(text: &str, key: &str) -> Option<(usize, usize)> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    for part in key.split('.') {
        let Some((name, value)) = table.get_key_value(part) else {
            break;
        };
        found = Some(name.span().start);
        let Some(inner) = value.get_ref().as_table() else {
            break;
        };
        table = inner;
    }
    found.map(|byte| position(text, byte))
}

/// Line and column of a byte, both counted from 1, the column in characters.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests;
