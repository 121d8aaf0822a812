//! Windows merged into an account, and the exact shape of the JSON report.

use std::time::SystemTime;

use smtp_common::counter::Counter;

use super::*;

/// Yields windows that are given, then perhaps a failure.
struct Given {
    windows: std::vec::IntoIter<Window>,
    failure: Option<Failure>,
}

impl Meter for Given {
    fn window(&mut self) -> Result<Option<Window>, Failure> {
        match self.windows.next() {
            Some(window) => Ok(Some(window)),
            None => self.failure.take().map_or(Ok(None), Err),
        }
    }

    fn release(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A window in which each address opened connections, each with one packet of 60 bytes, and one
/// frame was ARP.
fn window(sources: &[(&str, u64)]) -> Window {
    let mut tally = Tally::default();
    let sources: Vec<Source> = sources
        .iter()
        .map(|(address, connections)| Source {
            address: address.parse::<std::net::IpAddr>().unwrap().into(),
            totals: Totals {
                connections: *connections,
                c2s_packets: *connections,
                c2s_bytes: 60 * connections,
                ..Totals::default()
            },
        })
        .collect();
    for source in &sources {
        tally.sources.merge(&source.totals);
    }
    tally.segment_bytes = tally.sources.bytes();
    tally.outcomes[Counter::Segment.index()] = tally.sources.packets();
    tally.outcomes[Counter::Skip(Skip::NotIp).index()] = 1;
    tally.frames = tally.sources.packets() + 1;
    Window {
        epoch: 1,
        started_at: SystemTime::UNIX_EPOCH,
        length: Duration::from_secs(10),
        tally,
        sources,
        flows: Vec::new(),
        lines_used: 0,
        flip: Duration::ZERO,
    }
}

/// A judge of 192.0.2.0/24.
fn judged() -> Judged {
    let local = ["192.0.2.0/24".parse().expect("a prefix")];
    Judged::new(&detect::Settings::default(), &local, &[])
}

fn account(windows: Vec<Window>, limit: usize) -> Account {
    let mut meter = Given {
        windows: windows.into_iter(),
        failure: None,
    };
    let (account, outcome) = Account::of(&mut meter, limit, judged());
    assert!(outcome.is_ok());
    assert_eq!(account.tally.conservation_error(), 0);
    account
}

fn listed(account: &Account) -> Vec<(String, u64)> {
    let sources = account.sources.iter();
    sources
        .map(|source| (source.ip().to_string(), source.totals.connections))
        .collect()
}

#[test]
fn windows_add_up_and_sources_come_by_connections_and_then_by_address() {
    let account = account(
        vec![
            window(&[("10.0.0.9", 1), ("2001:db8::1", 2), ("10.0.0.10", 1)]),
            window(&[("10.0.0.9", 1), ("::1", 3), ("192.0.2.1", 2)]),
        ],
        10,
    );
    let expected = [
        ("::1", 3),
        ("10.0.0.9", 2),
        ("192.0.2.1", 2),
        ("2001:db8::1", 2),
        ("10.0.0.10", 1),
    ];
    assert_eq!(
        listed(&account),
        expected.map(|(address, count)| (address.to_owned(), count))
    );
    assert_eq!((account.windows, account.tally.frames), (2, 12));
    assert_eq!(account.tally.skipped(Skip::NotIp), 2);
}

#[test]
fn sources_above_the_limit_are_overflow_and_part_of_the_totals() {
    let account = account(
        vec![
            window(&[("10.0.0.1", 1), ("10.0.0.2", 5)]),
            window(&[("10.0.0.3", 7), ("10.0.0.1", 1)]),
        ],
        2,
    );
    assert_eq!(listed(&account).len(), 2);
    assert_eq!(account.tally.overflow.packets(), 7);
    assert_eq!(account.totals().connections, 14);
}

#[test]
fn a_failure_keeps_what_was_read() {
    let mut meter = Given {
        windows: vec![window(&[("10.0.0.1", 1)])].into_iter(),
        failure: Some(Failure::new(Kind::Failed, "broken")),
    };
    let (account, outcome) = Account::of(&mut meter, 10, judged());
    assert_eq!(account.tally.frames, 2);
    assert!(outcome.is_err());
}

#[test]
fn own_hosts_are_judged_and_strangers_are_not() {
    let account = account(
        vec![window(&[
            ("192.0.2.1", 30),
            ("192.0.2.2", 31),
            ("10.0.0.1", 5000),
        ])],
        10,
    );
    let mut text = Vec::new();
    account.judged.write_text(&mut text).expect("written");
    let text = String::from_utf8(text).expect("text");
    assert_eq!(
        text,
        "\nverdicts: 1\n  1970-01-01T00:00:10.000Z  192.0.2.2  notice    volume       more than 30 \
         connections in the hour\n"
    );
}

fn report(account: Account) -> Report<'static> {
    Report {
        file: Path::new("a.pcap"),
        complete: false,
        distribution: Distribution::of(
            account
                .sources
                .iter()
                .map(|source| (source.totals.connections, source.totals.c2s_bytes)),
        ),
        account,
        window: Duration::from_secs(10),
        top: 1,
    }
}

#[test]
fn the_json_report_has_this_shape_and_no_other() {
    let account = account(vec![window(&[("10.0.0.1", 12), ("::2", 1)])], 10);
    let mut out = Vec::new();
    report(account).write_json(&mut out).unwrap();
    let skipped = Skip::ALL.map(|skip| {
        let count = u64::from(skip == Skip::NotIp);
        format!("\"{}\":{count}", skip.name())
    });
    let counts = |connections: u64| {
        format!(
            "\"connections\":{connections},\"syn_retx\":0,\"c2s_packets\":{connections},\
             \"c2s_bytes\":{},\"s2c_packets\":0,\"s2c_bytes\":0,\"answered\":0,\"refused\":0",
            60 * connections
        )
    };
    let conduct = "\"outcomes\":{\"unknown\":0,\"silent\":0,\"refused\":0,\"answered\":0,\
                   \"spoke\":0,\"rejected\":0,\"delivered\":0},\"unfollowed\":0,\
                   \"visibility\":null,\"replies\":{\"2xx\":0,\"3xx\":0,\"4xx\":0,\"5xx\":0},\
                   \"commands\":{\"mail\":0,\"rcpt\":0},\"accepted\":0";
    let expected = format!(
        "{{\"schema\":1,\"file\":\"a.pcap\",\"frames\":14,\"windows\":1,\"skipped\":{{{}}},\
         \"totals\":{{{}}},\"overflow\":{{\"packets\":0,\"bytes\":0}},\"flows\":{{\
         \"segments\":0,\"packets\":0,\"bytes\":0,\"refused_packets\":0,\"refused_bytes\":0,\
         {conduct},\"pairs\":0}},\"sources\":[\
         {{\"addr\":\"10.0.0.1\",{},{conduct},\"servers\":0,\"servers_exact\":true}},\
         {{\"addr\":\"::2\",{},{conduct},\"servers\":0,\"servers_exact\":true}}],\"distribution\":[\
         {{\"from\":1,\"to\":10,\"items\":1,\"item_share\":0.5,\"connections\":1,\"bytes\":60,\
         \"byte_share\":{},\"cumulative_share\":0.5}},\
         {{\"from\":11,\"to\":30,\"items\":1,\"item_share\":0.5,\"connections\":12,\"bytes\":720,\
         \"byte_share\":{},\"cumulative_share\":1.0}},",
        skipped.join(","),
        counts(13),
        counts(12),
        counts(1),
        60.0 / 780.0,
        720.0 / 780.0,
    );
    let json = String::from_utf8(out).unwrap();
    assert!(json.starts_with(&expected), "{json}\n{expected}");
    let last = "{\"from\":1001,\"to\":null,\"items\":0,\"item_share\":0.0,\"connections\":0,\
                \"bytes\":0,\"byte_share\":0.0,\"cumulative_share\":1.0}],\"judged\":true,\
                \"verdicts\":[],\"complete\":false}\n";
    assert!(json.ends_with(last), "{json}");
}

#[test]
fn the_text_shows_the_top_only_and_says_loudly_that_counts_are_wrong() {
    let mut account = account(vec![window(&[("10.0.0.1", 12), ("::2", 1)])], 10);
    let text = |account: Account| {
        let mut out = Vec::new();
        report(account).write_text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    account.tally.segment_bytes += 1;
    let shown = text(account);
    assert!(shown.contains("sources: 1 of 2"), "{shown}");
    assert!(
        shown.contains("10.0.0.1") && !shown.contains("::2"),
        "{shown}"
    );
    assert!(shown.contains("complete: NO"), "{shown}");
    assert!(shown.contains("CONSERVATION ERROR 1"), "{shown}");
}

#[test]
fn one_to_four_ports_are_taken() {
    for ports in [&[][..], &[0], &[25, 0], &[1, 2, 3, 4, 5]] {
        assert!(mail_ports(ports).is_err(), "{ports:?}");
    }
    for ports in [&[25][..], &[25, 465, 587, 2525]] {
        assert!(mail_ports(ports).is_ok(), "{ports:?}");
    }
}
