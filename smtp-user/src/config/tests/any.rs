//! Any configuration that a user could mean.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::config::*;
use crate::detect::{Share, Span, Within};
use crate::model::mail::KeptAddresses;

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
