//! The configuration's tests: what is accepted, and how it is printed.

use std::time::Duration;

use super::document::SECTIONS;
use super::*;
use crate::detect::{DETECTORS, RELAY_EXAMPLE, Share, Span};
use crate::model::mail::KeptAddresses;

mod any;
mod refused;

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
