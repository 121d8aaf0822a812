//! The configuration's tests: what is accepted, what is refused and with which words.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::detect::{Share, Span, Within};

/// The error of a text, without its name.
fn refused(text: &str) -> String {
    let failure = Config::from_toml("smtpflow.toml", text).expect_err(text);
    assert_eq!(failure.kind, Kind::BadConfig);
    let text = failure.to_string();
    text.strip_prefix("smtpflow.toml:")
        .unwrap_or_else(|| panic!("no place in {text}"))
        .to_owned()
}

#[test]
fn an_empty_text_is_the_default() {
    let config = Config::from_toml("empty", "").expect("valid");
    assert_eq!(config, Config::default());
    assert_eq!(config.serve.listen.to_string(), "127.0.0.1:12525");
    assert_eq!(config.meter.window, Duration::from_secs(10));
    assert_eq!(config.meter.ports, [25]);
    assert_eq!(config.table.syn_slots, 262_144);
}

#[test]
fn every_key_is_read() {
    let text = r#"
[meter]
interfaces = ["eth0", "eth1.100"]
mode = "driver"
window = "1m 30s"
netns = "gateway"
pins = "/sys/fs/bpf/other"
keep_attached = true
attached = true
ports = [25, 465, 587]
[agent]
user = "smtpflow"
landlock = false
[table]
sets_per_cpu = 1024
flow_sets_per_cpu = 0
syn_slots = 2048
spill = 10
[networks]
local = ["192.0.2.0/24", "2001:db8::/32"]
[history]
sources = 5
pairs = 6
idle = "2m"
keep_bins = "1d"
keep_hours = "100h"
keep_days = "365d"
[store]
enabled = false
path = "/srv/ledger.db"
cache_mib = 8
[serve]
listen = "[::1]:80"
token_file = "/etc/smtpflow/token"
act_token_file = "/etc/smtpflow/act-token"
public_url = "https://watch.example.org/mail"
[metrics]
sources = 40
top = 10
ipv4_prefix = 24
ipv6_prefix = 64
[alertmanager]
url = "http://127.0.0.1:9093"
every = "30s"
gateway = "north"
[owner]
order = ["contacts", "routers", "kernel", "rwhois", "whois", "rdap"]
contacts = ["/etc/smtpflow/contacts.csv"]
rwhois = ["rwhois.example.net:4321"]
whois = ["whois.iana.org:43"]
rdap_bootstrap = ["/srv/ipv4.json"]
authorities = "/etc/authorities.pem"
timeout = "5s"
keep = "12h"
keep_nobody = "30m"
state = "/srv/owner"
serve_rwhois = "192.0.2.1:4321"
[[owner.router]]
name = "border"
address = "192.0.2.1:161"
community_file = "/etc/smtpflow/community"
table = "ip_cidr"
[relay_test]
enabled = true
recipient = "relay-test@example.org"
sender = "probe@example.net"
helo = "probe.example.net"
data = true
state = "/srv/relay-test"
[maillog]
files = ["/var/log/mail.log", "/srv/exim/mainlog"]
journal = true
addresses = "domain"
queue_ids = 5000
keep_open = "12h"
sources = 1000
time_zone = "UTC"
state = "/srv/maillog"
[complaint]
keep = "headers"
[notice]
enabled = true
mode = "automatic"
from = "abuse@example.org"
organisation = "Example University"
operator = "noc@example.org"
escalate_to = ["security@example.org"]
languages = ["de", "en"]
templates = "/etc/smtpflow/notices"
domains = ["customer.example"]
severity = "critical"
conversations = 50
quiet_hours = "22:00-07:00"
time_zone = "UTC"
per_hour = 10
escalate_hours = 48
expire_hours = 36
relay = "mail.example.org:587"
tls = "starttls"
authorities = "/etc/authorities.pem"
user = "smtpflow"
password_file = "/etc/smtpflow/relay-password"
helo = "gateway.example.org"
# Instead of a relay:
# sendmail = "/usr/sbin/sendmail"
timeout_seconds = 60
every_seconds = 30
webhook = "http://127.0.0.1:8080/notices"
command = ["/usr/local/bin/ticket", "--new"]
hook_timeout_seconds = 10
[detect]
quiet = "12h"
reopen = "3d"
mute = "90d"
ipv6_prefix = 128
subjects = 1000
[detect.volume]
notice = 31
warning = 101
server_notice = 32
server_warning = 102
[detect.persistence]
high = 101
hours = 4
of = 7
low = 31
slow_hours = 13
slow_of = 71
[detect.burst]
per_second = 51
[detect.fanout]
servers = 21
[detect.failure]
answered = 0.25
attempts = 31
visible = 0.75
[detect.rejection]
rejected = 0.5
replies = 21
[detect.messages]
notice = 61
warning = 201
[detect.size]
bytes = 120
[[relay]]
prefix = "192.0.2.25/32"
reason = "the mail relay of the staff"
owner = "postmaster@example.org"
expires = "2027-06-30"
connections = 5000
[[relay]]
prefix = "2001:db8::25/128"
reason = "newsletter"
owner = "press office"
"#;
    let config = Config::from_toml("all", text).expect("valid");
    assert_eq!(config.meter.interfaces, ["eth0", "eth1.100"]);
    assert_eq!(config.meter.mode, AttachChoice::Driver);
    assert_eq!(config.meter.window, Duration::from_secs(90));
    assert_eq!(config.table.sets_per_cpu, Some(1024));
    assert_eq!(config.table.flow_sets_per_cpu, Some(0));
    assert_eq!(config.networks.local.len(), 2);
    assert_eq!(config.history.sources, 5);
    assert_eq!(config.history.pairs, 6);
    assert_eq!(config.history.idle, Duration::from_secs(120));
    assert_eq!(config.history.keep_bins, Span::hours(24));
    assert_eq!(config.history.keep_hours, Span::hours(100));
    assert_eq!(config.history.keep_days, Span::days(365));
    assert!(!config.store.enabled);
    assert_eq!(config.store.path, Path::new("/srv/ledger.db"));
    assert_eq!(config.store.cache_mib, 8);
    assert_eq!(config.serve.listen.port(), 80);
    assert_eq!(
        config.serve.public_url.as_ref().map(HttpUrl::to_string),
        Some("https://watch.example.org/mail".to_owned())
    );
    assert_eq!((config.metrics.sources, config.metrics.top), (40, 10));
    assert_eq!(
        (config.metrics.ipv4_prefix, config.metrics.ipv6_prefix),
        (24, 64)
    );
    assert_eq!(config.alertmanager.every, Duration::from_secs(30));
    assert_eq!(config.alertmanager.gateway.as_deref(), Some("north"));
    assert!(config.relay_test.enabled && config.relay_test.data);
    assert_eq!(config.relay_test.state, Path::new("/srv/relay-test"));
    assert_eq!(config.maillog.files.len(), 2);
    assert!(config.maillog.journal);
    assert_eq!(config.maillog.addresses, KeptAddresses::Domain);
    assert_eq!(config.complaint.keep, complaint::KeptMessages::Headers);
    assert_eq!(config.notice.mode, notice::Mode::Automatic);
    assert_eq!(
        config.notice.severity,
        crate::model::verdict::Severity::Critical
    );
    assert_eq!(config.detect.ipv6_prefix.get(), 128);
    assert_eq!(config.detect.volume.warning, 101);
    assert_eq!(config.detect.failure.answered, Share::thousandths(250));
    assert_eq!(config.relay.len(), 2);
    assert_eq!(config.relay[0].connections, Some(5000));
    assert_eq!(config.owner.order.len(), 6);
    assert_eq!(config.owner.router[0].address.port(), 161);
    let detectors = DETECTORS
        .iter()
        .map(|entry| (entry.name, entry.about, entry.keys));
    for (section, _, keys) in SECTIONS.iter().copied().chain(detectors) {
        for (key, _) in keys {
            assert!(
                text.contains(&format!("\n{key} = ")) || text.contains(&format!("\n# {key} = ")),
                "{section}.{key} is not in this test"
            );
        }
    }
    // What is printed is read back as the same.
    let printed = config.to_toml();
    assert_eq!(
        Config::from_toml("printed", &printed).expect("valid"),
        config,
        "{printed}"
    );
}

#[test]
fn the_default_is_printed_with_its_documentation_and_read_back() {
    let printed = Config::default().to_toml();
    assert_eq!(
        Config::from_toml("printed", &printed).expect("valid"),
        Config::default(),
        "{printed}"
    );
    for line in [
        "[meter]",
        "window = \"10s\"",
        "# token_file = (not set)",
        "listen = \"127.0.0.1:12525\"",
        "mode = \"auto\"",
        "ports = [25]",
    ] {
        assert!(
            printed.lines().any(|l| l == line),
            "no {line} in:\n{printed}"
        );
    }
    for line in printed.lines() {
        assert!(line.len() <= 100, "too long: {line}");
    }
}

#[test]
fn every_section_is_printed() {
    let table = toml::Table::try_from(Config::default()).expect("a table");
    let mut have: Vec<&str> = SECTIONS.iter().map(|(name, _, _)| *name).collect();
    have.push("relay");
    have.sort_unstable();
    assert_eq!(table.keys().collect::<Vec<_>>(), have);
    let mut have: Vec<&str> = DETECTORS.iter().map(|entry| entry.name).collect();
    let (_, _, keys) = SECTIONS.last().expect("sections");
    have.extend(keys.iter().map(|(key, _)| *key));
    have.sort_unstable();
    let detect = table["detect"].as_table().expect("a table");
    assert_eq!(detect.keys().collect::<Vec<_>>(), have);
}

#[test]
fn every_detector_is_printed_with_its_defaults_and_documentation() {
    let printed = Config::default().to_toml();
    let defaults = toml::Table::try_from(detect::Settings::default()).expect("a table");
    for entry in DETECTORS {
        let start = printed
            .find(&format!("\n[detect.{}]\n", entry.name))
            .unwrap_or_else(|| panic!("no {} in:\n{printed}", entry.name));
        let section = printed[start + 1..]
            .split("\n\n")
            .next()
            .expect("a section");
        let about: Vec<_> = entry
            .about
            .iter()
            .map(|line| format!("#{line}\n"))
            .collect();
        assert!(
            printed[..=start].ends_with(&about.concat()),
            "{}",
            entry.name
        );
        let values = defaults[entry.name].as_table().expect("a table");
        assert_eq!(values.len(), entry.keys.len(), "{}", entry.name);
        for (key, docs) in entry.keys {
            let docs: Vec<_> = docs.iter().map(|line| format!("#{line}\n")).collect();
            let expected = format!("{}{key} = {}", docs.concat(), values[*key]);
            assert!(section.contains(&expected), "no {expected} in:\n{section}");
        }
    }
}

#[test]
fn the_example_of_a_relay_is_one() {
    let example: String = RELAY_EXAMPLE
        .lines()
        .filter(|line| line.starts_with("# [[") || line.contains(" = "))
        .map(|line| format!("{}\n", &line[2..]))
        .collect();
    let config = Config::from_toml("example", &example).expect(&example);
    assert_eq!(config.relay.len(), 1);
    assert_eq!(config.relay[0].connections, Some(5000));
    assert!(config.relay[0].expires.is_some());
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (text, expected) in [
        (
            "[meter]\n  windw = \"10s\"\n",
            "2:3: unknown field `windw`, expected one of `interfaces`",
        ),
        (
            "[metre]\n",
            "1:2: unknown field `metre`, expected one of `meter`",
        ),
        (
            "[meter]\nmode = \"fast\"\n",
            "2:8: unknown variant `fast`, expected one of `auto`, `driver`, `skb`",
        ),
        (
            "[meter]\nwindow = 10\n",
            "2:10: invalid type: integer `10`, expected a duration as text",
        ),
        (
            "[meter]\nwindow = \"soon\"\n",
            "2:10: \"soon\" is no duration: expected a duration such as \"10s\"",
        ),
        (
            "[meter]\nwindow = \"1h\"\n",
            "2:10: a window of 1h is out of range: expected 1s to 10m",
        ),
        (
            "[store]\npath = \"\"\n",
            "2:8: \"\" is no absolute path of a file; the default is /var/lib/smtpflow/smtpflow.db",
        ),
        (
            "[store]\npath = \"/var/lib/\"\n",
            "2:8: \"/var/lib/\" is no absolute path of a file",
        ),
        (
            "[store]\ncache_mib = 0\n",
            "2:13: 0 is out of range: expected 1 to 4096",
        ),
        (
            "[meter]\nwindow = \"-10s\"\n",
            "2:10: \"-10s\" lies in the past",
        ),
        ("[meter]\nports = []\n", "2:9: 0 ports: expected one to 4"),
        ("[meter]\nports = [25, 25]\n", "2:9: port 25 is named twice"),
        ("[meter]\nports = [0]\n", "2:9: 0 is no TCP port"),
        (
            "[meter]\nports = [70000]\n",
            "2:10: invalid value: integer `70000`, expected u16",
        ),
        (
            "[meter]\ninterfaces = [\"a b\"]\n",
            "2:14: \"a b\" cannot be the name of an interface",
        ),
        (
            "[meter]\ninterfaces = \"eth0\"\n",
            "2:14: invalid type: string \"eth0\", expected a sequence",
        ),
        (
            "[table]\nsets_per_cpu = 1000\n",
            "2:16: 1000 does not fit: expected a power of two from 64 to 4194304, for example 1024",
        ),
        (
            "[table]\nsyn_slots = 4\n",
            "2:13: 4 does not fit: expected a power of two from 1024 to 67108864, for example 1024",
        ),
        (
            "[table]\nspill = 0\n",
            "2:9: 0 is out of range: expected 1 to 1048576",
        ),
        (
            "[networks]\nlocal = [\"192.0.2.0/24\",\n \"10.1.2.3/16\"]\n",
            "3:2: 10.1.2.3/16 has bits set behind its length; write 10.1.0.0/16 for the network, or 10.1.2.3/32 for the host",
        ),
        (
            "[networks]\nlocal = [\"10.1.2.3\"]\n",
            "2:10: \"10.1.2.3\" is an address without a length; for this host alone write 10.1.2.3/32",
        ),
        (
            "[networks]\nlocal = [\"::ffff:10.0.0.0/104\"]\n",
            "2:10: ::ffff:10.0.0.0/104 is IPv4 written as IPv6",
        ),
        ("[history]\nsources = 0\n", "2:11: 0 is out of range"),
        ("[history]\npairs = 0\n", "2:9: 0 is out of range"),
        (
            "[history]\nidle = \"9s\"\n",
            "2:8: 9s is out of range: expected 10s to",
        ),
        (
            "[history]\nkeep_bins = \"5m\"\n",
            "2:13: \"5m\" is out of range: expected whole seconds from 1h to 3650d",
        ),
        (
            "[serve]\nlisten = \"12525\"\n",
            "2:10: \"12525\" is no address with a port: expected one such as 127.0.0.1:12525",
        ),
        (
            "[serve]\npublic_url = \"watch.example.org\"\n",
            "2:14: \"watch.example.org\" is no address of an HTTP server: expected one such as",
        ),
        (
            "[metrics]\nsources = 51\n",
            "2:11: 51 is out of range: expected 0 to 50",
        ),
        (
            "[metrics]\nipv4_prefix = 33\n",
            "2:15: 33 is out of range: expected 8 to 32",
        ),
        (
            "[metrics]\nipv6_prefix = 8\n",
            "2:15: 8 is out of range: expected 16 to 128",
        ),
        (
            "[alertmanager]\nurl = \"https://a.example\"\n",
            "2:7: https://a.example wants TLS",
        ),
        (
            "[alertmanager]\nevery = \"1s\"\n",
            "2:9: 1s is out of range: expected 5s to 1h",
        ),
        (
            "[alertmanager]\ngateway = \"\"\n",
            "2:11: \"\" is no name of a gateway",
        ),
        (
            "[complaint]\nkeep = \"all\"\n",
            "2:8: unknown variant `all`, expected `none` or `headers`",
        ),
        (
            "[relay_test]\nenabled = true\n",
            "1:2: relay_test.recipient: it is not set, and without it there is nobody to relay to",
        ),
        (
            "[relay_test]\nrecipient = \"a%b@example.org\"\n",
            "2:13: \"a%b@example.org\" is no mailbox that can be used here: expected one such as",
        ),
        (
            "[relay_test]\nhelo = \"localhost\"\n",
            "2:8: \"localhost\" is no full name of a host: expected one such as",
        ),
        (
            "[relay_test]\nstate = \"here\"\n",
            "2:1: relay_test.state: here is no absolute path",
        ),
        (
            "[detect.volume]\nnotise = 3\n",
            "2:1: unknown field `notise`, expected one of `notice`",
        ),
        (
            "[detect.volumes]\n",
            "1:9: unknown field `volumes`, expected one of `quiet`",
        ),
        (
            "[detect]\nquiet = \"5m\"\n",
            "2:9: \"5m\" is out of range: expected whole seconds from 1h to 3650d",
        ),
        (
            "[detect]\nipv6_prefix = 0\n",
            "2:15: 0 is out of range: expected 1 to 128",
        ),
        (
            "[detect.failure]\nanswered = 1.5\n",
            "2:12: 1.5 is no share: expected 0.0 to 1.0",
        ),
        (
            "[detect.fanout]\nservers = 2000\n",
            "2:11: 2000 is out of range: expected 0 to 1000",
        ),
        (
            "[detect.burst]\nper_second = -1\n",
            "2:14: invalid value: integer `-1`, expected u32",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25\"\nreason = \"a\"\nowner = \"b\"\n",
            "2:10: \"192.0.2.25\" is an address without a length",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25/32\"\nowner = \"b\"\n",
            "1:1: missing field `reason`",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25/32\"\nreason = \"\"\nowner = \"b\"\n",
            "3:10: \"\" is no text of 1 to 200 characters",
        ),
        (
            "[[relay]]\nprefix = \"192.0.2.25/32\"\nreason = \"a\"\nowner = \"b\"\nexpires = \"soon\"\n",
            "5:11: \"soon\" is no date: expected one such as \"2027-06-30\"",
        ),
        (
            "[agent]\nuser = \"0; rm\"\n",
            "2:8: \"0; rm\" is no name of a user",
        ),
        // Its default is at odds with what is set.
        (
            "[detect.persistence]\nslow_of = 7\n",
            "1:9: detect.persistence.slow_hours: there are no 12 hours among 7",
        ),
        (
            "[detect.persistence]\nslow_of = 7\nslow_hours = 8\n",
            "3:1: detect.persistence.slow_hours: there are no 8 hours among 7",
        ),
        (
            "history.keep_days = \"89d\"\n",
            "1:9: history.keep_days: 89d is shorter than keep_hours = 90d",
        ),
        ("[serve\n", "1:7: "),
        ("\"é\" = é\n", "1:7: "),
    ] {
        let error = refused(text);
        assert!(
            error.starts_with(expected),
            "{text}\n  have {error}\n  want {expected}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn values_from_elsewhere_are_checked_alike() {
    let mut config = Config::default();
    config.validate().expect("the default is valid");
    config.meter.window = Duration::from_millis(1);
    let failure = config.validate().expect_err("too short");
    assert!(
        failure.to_string().starts_with("meter.window: "),
        "{failure}"
    );

    let mut config = Config::default();
    config.meter.interfaces = vec!["eth0".to_owned(), "eth0".to_owned()];
    let failure = config.validate().expect_err("twice");
    assert!(failure.to_string().contains("eth0"), "{failure}");

    let mut config = Config::default();
    config.meter.pins = PathBuf::from("relative");
    assert!(config.validate().is_err());

    let mut config = Config::default();
    config.detect.persistence.hours = Within::new(7);
    let failure = config.validate().expect_err("7 of 6").to_string();
    assert!(
        failure.starts_with("detect.persistence.hours: "),
        "{failure}"
    );

    let relay = "[[relay]]\nprefix = \"192.0.2.25/32\"\nreason = \"a\"\nowner = \"b\"\n";
    let failure = Config::from_toml("twice", &relay.repeat(2)).expect_err("twice");
    assert!(
        failure
            .to_string()
            .contains("192.0.2.25/32 has two entries"),
        "{failure}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let failure = Config::from_file(Path::new("/nonexistent/smtpflow.toml")).expect_err("missing");
    assert_eq!(failure.kind, Kind::BadConfig);
    assert!(
        failure.to_string().contains("/nonexistent/smtpflow.toml"),
        "{failure}"
    );
}

#[test]
fn a_file_that_is_no_text_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("smtpflow.toml");
    std::fs::write(&path, b"[meter]\n#\xff\n").expect("written");
    let failure = Config::from_file(&path).expect_err("no text");
    assert!(
        failure.to_string().contains("smtpflow.toml:2:2:"),
        "{failure}"
    );
}

/// Configurations that a user could mean.
fn valid() -> impl Strategy<Value = Config> {
    let modes = [AttachChoice::Auto, AttachChoice::Driver, AttachChoice::Skb];
    let meter = (
        proptest::collection::hash_set("[a-z][a-z0-9.-]{0,14}", 0..4),
        proptest::sample::select(modes.to_vec()),
        1_000..=600_000u64,
        proptest::option::of("[a-z]{1,8}"),
        any::<bool>(),
        proptest::collection::hash_set(1..=u16::MAX, 1..=4),
    );
    let meter = meter.prop_map(
        |(interfaces, mode, window, netns, keep_attached, ports)| Meter {
            interfaces: interfaces.into_iter().collect(),
            mode,
            window: Duration::from_millis(window),
            netns,
            keep_attached,
            attached: !keep_attached && window % 2 == 0,
            ports: ports.into_iter().collect(),
            ..Meter::default()
        },
    );
    let flow_sets = prop_oneof![Just(0), (6..=20u32).prop_map(|log2| 1 << log2)];
    let table = (
        proptest::option::of(6..=22u32),
        proptest::option::of(flow_sets),
        10..=26u32,
        1..=1u32 << 20,
    );
    let table = table.prop_map(|(sets, flow_sets, slots, spill)| Table {
        sets_per_cpu: sets.map(|log2| 1 << log2),
        flow_sets_per_cpu: flow_sets,
        syn_slots: 1 << slots,
        spill,
    });
    let prefix = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(octets, length)| {
        IpNet::new(IpAddr::from(octets), length)
            .expect("a length")
            .trunc()
    });
    let networks = proptest::collection::hash_set(prefix, 0..4);
    let networks = networks.prop_map(|local| Networks {
        local: local.into_iter().collect(),
    });
    let keep = (1..=1_000_u64, 72..=10_000_u64, 1..=80_000_u64);
    let history = (1..=1u32 << 24, 1..=1u32 << 24, 10_u64..=3600, keep);
    let store = (any::<bool>(), "/[a-z ]{1,9}\\.db", 1..=4096_u32);
    let limits = (any::<u32>(), 0..=1000_u32, 0..=1000_u32, 1..=87_600_u64);
    let detect = limits.prop_map(|(limit, thousandths, servers, hours)| {
        let mut detect = detect::Settings {
            quiet: Span::hours(hours),
            ..detect::Settings::default()
        };
        detect.volume.notice = limit;
        detect.failure.answered = Share::thousandths(thousandths);
        detect.fanout.servers = Within::new(servers);
        detect
    });
    let expires = proptest::option::of((2000..=2100_i16, 1..=12_i8, 1..=28_i8));
    let relay = (
        "[ -~é]{0,9}[!-~]",
        proptest::option::of(any::<u32>()),
        expires,
    );
    let relay = relay.prop_map(|(text, connections, expires)| Relay {
        prefix: "192.0.2.25/32".parse().expect("a prefix"),
        reason: text.clone(),
        owner: text,
        expires: expires.map(|(year, month, day)| jiff::civil::date(year, month, day)),
        connections,
    });
    let relay = proptest::collection::vec(relay, 0..2);
    (
        meter,
        table,
        networks,
        history,
        store,
        1..=u16::MAX,
        detect,
        relay,
    )
        .prop_map(
            |(
                meter,
                table,
                networks,
                (sources, pairs, idle, (bins, hours, days)),
                (enabled, path, cache_mib),
                port,
                detect,
                relay,
            )| Config {
                relay_test: relay_test::Settings {
                    data: enabled,
                    ..relay_test::Settings::default()
                },
                maillog: Maillog {
                    addresses: match enabled {
                        true => KeptAddresses::Full,
                        false => KeptAddresses::None,
                    },
                    ..Maillog::default()
                },
                detect,
                relay,
                owner: owner::Settings::default(),
                complaint: complaint::Settings {
                    keep: match enabled {
                        true => complaint::KeptMessages::Headers,
                        false => complaint::KeptMessages::None,
                    },
                },
                notice: notice::Settings {
                    per_hour: u32::from(port) % 1000 + 1,
                    ..notice::Settings::default()
                },
                agent: Agent {
                    user: meter.netns.clone(),
                    landlock: enabled,
                },
                meter,
                table,
                networks,
                history: History {
                    sources,
                    pairs,
                    idle: Duration::from_secs(idle),
                    keep_bins: Span::hours(bins.min(hours)),
                    keep_hours: Span::hours(hours),
                    keep_days: Span::hours(days.max(hours)),
                },
                store: Store {
                    enabled,
                    path: path.into(),
                    cache_mib,
                },
                serve: Serve {
                    listen: (Ipv4Addr::LOCALHOST, port).into(),
                    token_file: None,
                    act_token_file: None,
                    public_url: None,
                },
                metrics: Metrics {
                    sources: u32::from(port) % 51,
                    ..Metrics::default()
                },
                alertmanager: Alertmanager {
                    every: Duration::from_secs(idle.min(3600)),
                    ..Alertmanager::default()
                },
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn what_is_printed_is_read_back_as_it_was(config in valid()) {
        prop_assert!(config.validate().is_ok(), "{:?}", config.validate());
        let text = config.to_toml();
        let read = Config::from_toml("printed", &text);
        prop_assert_eq!(read.ok(), Some(config), "{}", text);
    }

    #[test]
    fn a_damaged_text_is_read_or_refused_with_its_place(
        config in valid(),
        at in any::<proptest::sample::Index>(),
        with in "[\\[\\]=\"a-z0-9\n. ]{0,4}",
    ) {
        let mut text = config.to_toml();
        let at = at.index(text.len());
        prop_assume!(text.is_char_boundary(at));
        text.insert_str(at, &with);
        if let Err(failure) = Config::from_toml("damaged", &text) {
            prop_assert_eq!(failure.kind, Kind::BadConfig);
            let message = failure.to_string();
            let mut place = message.strip_prefix("damaged:").expect("the name").split(':');
            let mut number = || {
                let number = place.next().and_then(|number| number.parse::<usize>().ok());
                number.ok_or_else(|| TestCaseError::fail(message.clone()))
            };
            let (line, column) = (number()?, number()?);
            prop_assert!(line >= 1 && line <= text.lines().count() + 1 && column >= 1, "{}", message);
        }
    }
}

#[test]
fn the_coarser_history_is_the_longer_it_is_kept() {
    for (text, expected) in [
        (
            "keep_bins = \"1h\"\nkeep_hours = \"71h\"",
            "history.keep_hours: 71h is out of range: expected 3d or more",
        ),
        (
            "keep_bins = \"91d\"",
            "history.keep_hours: 90d is shorter than keep_bins = 91d",
        ),
        (
            "keep_days = \"89d\"",
            "history.keep_days: 89d is shorter than keep_hours = 90d",
        ),
    ] {
        let failure = Config::from_toml("keep", &format!("[history]\n{text}\n")).expect_err(text);
        assert_eq!(failure.kind, Kind::BadConfig);
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}
