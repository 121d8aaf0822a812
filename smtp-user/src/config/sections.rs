//! The sections of the configuration that belong to no other room, key by key.
//!
//! Contract: each value is checked as it is read; what makes sense only beside others is checked by [`Config`].
//!
//! [`Config`]: super::Config

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{HttpUrl, logs, url, value};
use crate::detect::Span;
use crate::model::mail::KeptAddresses;

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
