//! The configuration: one typed value, from TOML.
//!
//! Contract: a [`Config`] that [`Config::from_toml`] or [`Config::validate`] let through can be
//! used without looking at it again. Every error says where (file, line and column), what is there
//! and what was expected; unknown keys are errors. The documentation, the default and the type of a
//! key stand in one place, in the lists below: the documentation of the fields and the comments
//! that [`Config::to_toml`] writes are the same text.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::complaint;
use crate::detect::{self, DETECTORS, Policy, RELAY_EXAMPLE, Relay, Span};
use crate::failure::{Failure, Kind};
use crate::model::mail::KeptAddresses;
use crate::notice;
use crate::owner;
use crate::relay_test;

mod logs;
mod reload;
mod url;
mod value;
pub use logs::parse_time_zone;
pub use reload::Reload;
pub use url::HttpUrl;
pub use value::{
    check_ports, parse_interface, parse_listen, parse_port, parse_prefix, parse_store, parse_user,
    parse_window,
};

/// Where the agent serves if nothing else is said.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 12525);
/// Where the agent pins its maps and links if nothing else is said.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/smtpflow";
/// The file that the agent keeps its counts in if nothing else is said.
pub const DEFAULT_STORE: &str = "/var/lib/smtpflow/smtpflow.db";
/// Where the agent keeps how far it has read mail logs if nothing else is said.
pub const DEFAULT_MAILLOG_STATE: &str = "/var/lib/smtpflow/maillog";
/// The port of SMTP between mail servers.
pub const DEFAULT_PORT: u16 = 25;
/// Length of a window if nothing else is said.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

/// Which way to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachChoice {
    /// In the driver; where that is refused, in the generic path, and say so.
    #[default]
    Auto,
    /// In the driver or not at all.
    Driver,
    /// In the generic path, which works on every interface and costs more per packet.
    Skb,
}

section! {
    /// What is counted, and where.
    pub struct Meter {
        /// Interfaces to count on, for example ["eth0", "eth1"]. XDP sees what an interface
        /// receives, so both sides of a gateway are needed to see both directions.
        #[serde(deserialize_with = "value::interfaces")]
        pub interfaces: Vec<String> = Vec::new();
        /// How to attach: "auto" tries the driver and falls back to "skb", the kernel's generic path
        /// (every interface, more cost per packet); "driver" fails where the driver cannot.
        pub mode: AttachChoice = AttachChoice::Auto;
        /// Length of a window, the time between two drains of the kernel's tables: "1s" to "10m".
        /// Shorter ones show changes earlier, longer ones need a larger table.
        #[serde(with = "value::window")]
        pub window: Duration = DEFAULT_WINDOW;
        /// Network namespace of the interfaces: a name as in `ip netns list`, or a path such as
        /// /proc/PID/ns/net. The HTTP server stays in the namespace where the agent was started.
        pub netns: Option<String> = None;
        /// Directory for pinned maps and links; its parent is on a mounted bpffs.
        #[serde(deserialize_with = "value::pins")]
        pub pins: PathBuf = PathBuf::from(DEFAULT_PINS);
        /// Whether the kernel goes on counting when the agent ends in an orderly way. After a crash
        /// it always does, and the next start takes the counts over.
        pub keep_attached: bool = false;
        /// Whether the agent only counts where `smtpflow attach` has attached, which is run before as
        /// root. Then it needs no privilege at all, and never attaches or detaches itself.
        pub attached: bool = false;
        /// TCP ports that are mail: one to four, for example [25, 465, 587].
        #[serde(deserialize_with = "value::ports")]
        pub ports: Vec<u16> = vec![DEFAULT_PORT];
    }
}

section! {
    /// What the agent itself may do once it counts. It has given up every capability by then.
    pub struct Agent {
        /// The user that an agent started as root becomes, such as "smtpflow". Its group may use the
        /// pins. Unset: it stays the user that it was started as.
        #[serde(deserialize_with = "value::user")]
        pub user: Option<String> = None;
        /// Whether the kernel holds it to its own files and ports (Landlock, Linux 5.13).
        pub landlock: bool = true;
    }
}

section! {
    /// Sizes of the kernel's tables. All memory is taken at start.
    pub struct Table {
        /// Sets of two lines in the table of sources, per possible CPU and half: a power of two from
        /// 64 to 4194304. One set is 128 bytes. Unset: chosen to stay in the CPU's cache.
        #[serde(deserialize_with = "value::sets_per_cpu")]
        pub sets_per_cpu: Option<u32> = None;
        /// Sets of two flows in the table of flows, per possible CPU and half: 0 to count no flows,
        /// or a power of two from 64 to 1048576. One set is 256 bytes. Unset: chosen to stay in the
        /// CPU's cache.
        #[serde(deserialize_with = "value::flow_sets_per_cpu")]
        pub flow_sets_per_cpu: Option<u32> = None;
        /// Slots of 8 bytes that tell a retransmitted SYN from a new connection: a power of two from
        /// 1024 to 67108864. Too few, and retransmissions count as connections.
        #[serde(deserialize_with = "value::syn_slots")]
        pub syn_slots: u32 = 1 << 18;
        /// Own hosts (see `networks.local`) that are still counted one by one when their place in the
        /// table is taken by strangers: 1 to 1048576.
        #[serde(deserialize_with = "value::spill")]
        pub spill: u32 = 16_384;
    }
}

section! {
    /// Whose addresses are whose.
    pub struct Networks {
        /// The operator's own prefixes, for example ["192.0.2.0/24", "2001:db8::/32"]. Hosts inside
        /// are `local` and keep exact counts under any flood of strange addresses.
        #[serde(deserialize_with = "value::prefixes")]
        pub local: Vec<IpNet> = Vec::new();
    }
}

section! {
    /// What is remembered: in memory, and how long in the store.
    pub struct History {
        /// Most sources kept, 1 to 16777216, at about 130 bytes each, in memory and in the store. The
        /// counts of those that come later are summed up as untracked. The last eighth is for own hosts
        /// (see `networks.local`), so that no flood of strange addresses keeps them out.
        #[serde(deserialize_with = "value::sources")]
        pub sources: u32 = 1_000_000;
        /// Most pairs of client and server kept since the start, 1 to 16777216, at about 160 bytes
        /// each. The counts of those that come later are summed up as untracked.
        #[serde(deserialize_with = "value::pairs")]
        pub pairs: u32 = 114_688;
        /// A connection without a segment for this long has ended: "10s" to "1h".
        #[serde(with = "value::idle")]
        pub idle: Duration = Duration::from_secs(300);
        /// How long the store keeps counts by five minutes, by source and by pair: "1h" to "3650d".
        pub keep_bins: Span = Span::hours(48);
        /// How long it keeps them by hour, at least "3d" and no less than `keep_bins`.
        pub keep_hours: Span = Span::days(90);
        /// How long it keeps them by day, no less than `keep_hours`.
        pub keep_days: Span = Span::days(730);
    }
}

section! {
    /// The file that keeps the counts: over restarts, and exactly once over crashes.
    pub struct Store {
        /// Whether counts are kept in a file. Without one they are lost when the agent ends, and a
        /// crash may lose or double those of one window.
        pub enabled: bool = true;
        /// The file: an absolute path. Its folder is made if need be. It belongs to one agent alone.
        #[serde(deserialize_with = "value::store")]
        pub path: PathBuf = PathBuf::from(DEFAULT_STORE);
        /// Memory for the file's pages, in MiB, 1 to 4096. It fills as the file grows. Where hundreds of
        /// thousands of sources send, less of it means that they are read again with each window.
        #[serde(deserialize_with = "value::cache")]
        pub cache_mib: u32 = 64;
    }
}

section! {
    /// The HTTP server: page, metrics and API.
    pub struct Serve {
        /// Address and port. Anything but loopback needs a token.
        #[serde(deserialize_with = "value::listen")]
        pub listen: SocketAddr = DEFAULT_LISTEN;
        /// File with the read token: 16 to 4096 bytes, owned by root or the agent's user, closed to
        /// everybody else (chmod 600); or credential:NAME for one that systemd provides
        /// (LoadCredential=NAME:FILE). Whoever does not come from loopback must send it.
        pub token_file: Option<PathBuf> = None;
        /// File with the act token, under the same rules and with another token in it. Whoever changes
        /// verdicts or known relays over HTTP must send it, also from loopback. Unset: nobody can.
        pub act_token_file: Option<PathBuf> = None;
        /// Where a browser finds the page, such as `https://mail-watch.example.org`, for links in
        /// alerts. Unset: at the address that is listened on.
        #[serde(deserialize_with = "url::public")]
        pub public_url: Option<HttpUrl> = None;
    }
}

section! {
    /// What Prometheus is told beside /metrics, which never names an address.
    pub struct Metrics {
        /// Most sources on the page /metrics/sources, 0 to 50, each with a handful of series; 0 means
        /// that there is no such page. Own hosts with an open verdict come first, the worst in front.
        #[serde(deserialize_with = "value::metric_sources")]
        pub sources: u32 = 0;
        /// How many of these places go to the sources with the most connections in the last window
        /// that are not flagged, as far as flagged ones leave room: 0 to 50.
        #[serde(deserialize_with = "value::metric_sources")]
        pub top: u32 = 0;
        /// Length of the prefix that an IPv4 address is shown as, 8 to 32; 24 shows whole /24.
        #[serde(deserialize_with = "value::ipv4_length")]
        pub ipv4_prefix: u8 = 32;
        /// The same for an IPv6 address, 16 to 128. Hosts are judged by `detect.ipv6_prefix`.
        #[serde(deserialize_with = "value::ipv6_length")]
        pub ipv6_prefix: u8 = 128;
    }
}

section! {
    /// Open verdicts as alerts of an Alertmanager, which tells people, silences and groups.
    pub struct Alertmanager {
        /// Where it is, such as "http://127.0.0.1:9093"; its API of version 2 is used. Unset: no alerts
        /// are sent. Only http: see to TLS with a proxy on this machine.
        #[serde(deserialize_with = "url::alertmanager")]
        pub url: Option<HttpUrl> = None;
        /// How often all open ones are sent again, "5s" to "1h". An alert that was not sent again for
        /// three times as long ends by itself, so that those of a dead agent do not stay.
        #[serde(with = "value::every")]
        pub every: Duration = Duration::from_secs(60);
        /// What the alerts have as their label `gateway`. Unset: the name of this machine.
        #[serde(deserialize_with = "value::gateway")]
        pub gateway: Option<String> = None;
    }
}

section! {
    /// Logs of mail servers as evidence: who sent how many messages, and what was refused. Off until
    /// a file or the journal is named.
    pub struct Maillog {
        /// Log files of sendmail, Postfix or Exim, as absolute paths, for example ["/var/log/mail.log"].
        /// They are followed through their rotations.
        #[serde(deserialize_with = "logs::files")]
        pub files: Vec<PathBuf> = Vec::new();
        /// Whether the journal of systemd is followed as well, its entries of the facility mail. It takes
        /// journalctl, and the group systemd-journal for the agent's user.
        pub journal: bool = false;
        /// How much of the mail addresses of people is kept: "none", "domain" or "full".
        pub addresses: KeptAddresses = KeptAddresses::None;
        /// Messages whose lines are put together at a time, 100 to 4194304, at about 400 bytes each, or
        /// at most 3 KiB where mail addresses are kept. The first one gives way to one more.
        #[serde(deserialize_with = "logs::queue_ids")]
        pub queue_ids: u32 = 100_000;
        /// How long further lines of a message are waited for.
        pub keep_open: Span = Span::days(1);
        /// Most clients with figures of their own, 1 to 1048576, at up to 3 KiB each, or at most 32 KiB where
        /// mail addresses are kept.
        #[serde(deserialize_with = "logs::clients")]
        pub sources: u32 = 16_384;
        /// The time zone of logs that name none, such as "Europe/Berlin". Unset: that of this machine.
        #[serde(deserialize_with = "logs::time_zone")]
        pub time_zone: Option<String> = None;
        /// Directory for what is known from the logs and how far each was read: an absolute path.
        #[serde(deserialize_with = "logs::state")]
        pub state: PathBuf = PathBuf::from(DEFAULT_MAILLOG_STATE);
    }
}

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

/// A section as it is printed: its name, what it is about, its keys with their documentation.
type Section = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static [&'static str])],
);

/// The sections in the order in which they are printed, but for those of the detectors.
const SECTIONS: &[Section] = &[
    ("meter", Meter::ABOUT, Meter::KEYS),
    ("agent", Agent::ABOUT, Agent::KEYS),
    ("table", Table::ABOUT, Table::KEYS),
    ("networks", Networks::ABOUT, Networks::KEYS),
    ("history", History::ABOUT, History::KEYS),
    ("store", Store::ABOUT, Store::KEYS),
    ("serve", Serve::ABOUT, Serve::KEYS),
    ("metrics", Metrics::ABOUT, Metrics::KEYS),
    ("alertmanager", Alertmanager::ABOUT, Alertmanager::KEYS),
    ("owner", owner::Settings::ABOUT, owner::Settings::KEYS),
    (
        "relay_test",
        relay_test::Settings::ABOUT,
        relay_test::Settings::KEYS,
    ),
    ("maillog", Maillog::ABOUT, Maillog::KEYS),
    (
        "complaint",
        complaint::Settings::ABOUT,
        complaint::Settings::KEYS,
    ),
    ("notice", notice::Settings::ABOUT, notice::Settings::KEYS),
    ("detect", detect::Settings::ABOUT, detect::Settings::KEYS),
];

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

    /// Every section with its documentation and its keys, in the order of the file: of each key its
    /// name, the lines of its documentation and its shipped value, if it has one.
    pub fn documentation() -> Vec<DocumentedSection> {
        let table = toml::Table::try_from(Self::default()).expect("every value has a form in TOML");
        let documented =
            |name: String, about: &Lines, keys: &[(&str, &Lines)], values: &toml::Value| {
                DocumentedSection {
                    name,
                    about: join(about),
                    keys: keys
                        .iter()
                        .map(|(key, docs)| DocumentedKey {
                            name: (*key).to_owned(),
                            about: join(docs),
                            default: values.get(key).map(toml::Value::to_string),
                        })
                        .collect(),
                }
            };
        let mut sections = Vec::new();
        for (section, about, keys) in SECTIONS {
            sections.push(documented(
                (*section).to_owned(),
                about,
                keys,
                &table[*section],
            ));
        }
        for entry in DETECTORS {
            let values = &table["detect"][entry.name];
            let name = format!("detect.{}", entry.name);
            sections.push(documented(name, entry.about, entry.keys, values));
        }
        sections
    }

    /// The configuration as a file that [`Config::from_toml`] reads back, with the documentation of
    /// every key above it.
    pub fn to_toml(&self) -> String {
        let table = toml::Table::try_from(self).expect("every value has a form in TOML");
        let mut text = String::new();
        for (section, about, keys) in SECTIONS {
            print(&mut text, section, about, keys, &table[*section]);
        }
        for entry in DETECTORS {
            let section = format!("detect.{}", entry.name);
            let values = &table["detect"][entry.name];
            print(&mut text, &section, entry.about, entry.keys, values);
        }
        text.push('\n');
        text.push_str(RELAY_EXAMPLE);
        for relay in table["relay"].as_array().into_iter().flatten() {
            text.push_str("\n[[relay]]\n");
            text.push_str(
                &relay
                    .as_table()
                    .map(toml::Table::to_string)
                    .unwrap_or_default(),
            );
        }
        text.push('\n');
        text.push_str(owner::ROUTER_EXAMPLE);
        for router in table["owner"]["router"].as_array().into_iter().flatten() {
            text.push_str("\n[[owner.router]]\n");
            text.push_str(
                &router
                    .as_table()
                    .map(toml::Table::to_string)
                    .unwrap_or_default(),
            );
        }
        text
    }
}

/// A section with its documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedSection {
    /// As in brackets.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Its keys, in their order.
    pub keys: Vec<DocumentedKey>,
}

/// A key with its documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedKey {
    /// Its name in the section.
    pub name: String,
    /// What it says.
    pub about: String,
    /// Its shipped value in TOML; `None` where it is not set.
    pub default: Option<String>,
}

type Lines = [&'static str];

/// Lines of documentation, each of which begins with a space, as one text.
fn join(lines: &Lines) -> String {
    lines.concat().trim().to_owned()
}

/// A section with the documentation of all that is in it.
fn print(
    text: &mut String,
    section: &str,
    about: &[&str],
    keys: &[(&str, &[&str])],
    values: &toml::Value,
) {
    if !text.is_empty() {
        text.push('\n');
    }
    comment(text, about);
    let _ = writeln!(text, "[{section}]");
    for (key, docs) in keys {
        comment(text, docs);
        let _ = match values.get(key) {
            Some(value) => writeln!(text, "{key} = {value}"),
            None => writeln!(text, "# {key} = (not set)"),
        };
    }
}

/// Lines of documentation, each of which begins with a space.
fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{line}");
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
