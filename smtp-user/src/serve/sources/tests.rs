//! Sorting, filtering, paging and what is refused.

use axum::http::StatusCode;

use super::super::fixture;
use super::super::query::Filter;
use super::*;
use crate::model::SourceRow;
use crate::model::verdict::Verdict;

fn parse(query: &str) -> Result<Query, Problem> {
    // Clients have to encode these two.
    let query = query.replace('<', "%3C").replace('>', "%3E");
    let uri: Uri = format!("/api/v1/sources?{query}")
        .parse()
        .expect("a target");
    Query::parse(&uri, Span::All)
}

fn verdict(id: u64, subject: &str, severity: Severity, state: VerdictState) -> Verdict {
    let mut verdict = crate::report::cases::tests::verdict(id, subject, "volume", 0);
    (verdict.severity, verdict.state) = (severity, state);
    verdict
}

fn background(list: SourceList) -> Background {
    let relay = crate::detect::Relay {
        prefix: "198.51.100.0/31".parse().expect("a prefix"),
        reason: "newsletters".to_owned(),
        owner: "postmaster@example.org".to_owned(),
        expires: None,
        connections: None,
    };
    let verdicts = [
        verdict(
            7,
            "192.0.2.7/32",
            Severity::Warning,
            VerdictState::Acknowledged,
        ),
        verdict(
            9,
            "192.0.2.7/32",
            Severity::Critical,
            VerdictState::Notified,
        ),
        verdict(8, "2001:db8::/64", Severity::Notice, VerdictState::New),
        verdict(
            6,
            "198.51.100.2/32",
            Severity::Notice,
            VerdictState::Resolved,
        ),
    ];
    Background {
        flags: Flags::new(&verdicts),
        policy: Some(Arc::new(Policy::new(
            crate::detect::Settings::default(),
            Vec::new(),
            vec![relay],
        ))),
        now: 0,
        sources: crate::source_list::SharedSources::new(list),
        columns: Columns::default(),
    }
}

fn answer_of(query: &Query, rows: &[SourceRow]) -> Sources {
    live(
        query,
        &fixture::snapshot(rows),
        &fixture::list(rows),
        &fixture::connections(),
        &background(fixture::list(rows)),
    )
}

fn addresses(query: &str) -> Vec<String> {
    answer_of(&parse(query).expect(query), &fixture::rows())
        .sources
        .iter()
        .map(|source| source.addr.to_string())
        .collect()
}

#[test]
fn rows_are_sorted_by_any_field_with_ties_by_address() {
    for (query, expected) in [
        (
            "",
            ["192.0.2.7", "198.51.100.1", "198.51.100.2", "2001:db8::25"],
        ),
        (
            "sort=connections&order=asc",
            ["2001:db8::25", "198.51.100.1", "198.51.100.2", "192.0.2.7"],
        ),
        (
            "sort=addr",
            ["2001:db8::25", "198.51.100.2", "198.51.100.1", "192.0.2.7"],
        ),
        (
            "sort=addr&order=asc",
            ["192.0.2.7", "198.51.100.1", "198.51.100.2", "2001:db8::25"],
        ),
        (
            "sort=s2c_bytes",
            ["2001:db8::25", "192.0.2.7", "198.51.100.1", "198.51.100.2"],
        ),
        (
            "sort=window.connections",
            ["198.51.100.1", "192.0.2.7", "198.51.100.2", "2001:db8::25"],
        ),
    ] {
        assert_eq!(addresses(query), expected, "{query}");
    }
}

#[test]
fn terms_of_a_filter_all_hold() {
    for (filter, expected) in [
        ("net:198.51.100.0/24", &["198.51.100.1", "198.51.100.2"][..]),
        ("net:192.0.2.7", &["192.0.2.7"]),
        ("scope:local", &["192.0.2.7"]),
        ("scope:unknown", &[]),
        ("connections>5", &["192.0.2.7"]),
        ("connections=5", &["198.51.100.1", "198.51.100.2"]),
        ("connections<5", &["2001:db8::25"]),
        ("connections=5 net:198.51.100.2/32", &["198.51.100.2"]),
        ("window.connections>0 connections=5", &["198.51.100.1"]),
        ("net:::/0", &["2001:db8::25"]),
        ("addr:192.0.2.7", &["192.0.2.7"]),
        ("state:open", &["192.0.2.7", "2001:db8::25"]),
        ("state:notified", &["192.0.2.7"]),
        ("state:none", &["198.51.100.1", "198.51.100.2"]),
        ("severity:notice", &["2001:db8::25"]),
        (
            "severity:none connections=5",
            &["198.51.100.1", "198.51.100.2"],
        ),
        ("relay:yes", &["198.51.100.1"]),
        ("relay:no connections=5", &["198.51.100.2"]),
        ("score>1", &["192.0.2.7", "2001:db8::25"]),
        ("bytes_per_packet<40", &["192.0.2.7"]),
        ("bytes_per_packet=40", &["198.51.100.1", "198.51.100.2"]),
        ("servers>0", &["192.0.2.7"]),
        (
            "outcomes.delivered=1 replies.2xx=4 commands.rcpt=1 accepted=1",
            &["192.0.2.7"],
        ),
        ("visibility=0.5 unfollowed=0", &["192.0.2.7"]),
        ("previous_connections>=0", &[]),
        ("active_hours>=0", &[]),
    ] {
        let query = format!("filter={}", filter.replace(' ', "+"));
        assert_eq!(addresses(&query), expected, "{filter}");
    }
}

#[test]
fn pages_neither_repeat_nor_miss_a_source() {
    let rows: Vec<SourceRow> = (0..1000_u32)
        .map(|i| fixture::row(i, u64::from(i % 7)))
        .collect();
    for query in [
        "order=desc",
        "sort=addr&order=asc",
        "order=asc",
        "sort=window.refused",
    ] {
        let mut seen = Vec::new();
        for offset in (0..1100).step_by(100) {
            let page = parse(&format!("{query}&limit=100&offset={offset}")).expect("valid");
            let page = answer_of(&page, &rows);
            assert_eq!((page.total, page.offset, page.limit), (1000, offset, 100));
            seen.extend(page.sources.iter().map(|source| source.addr));
        }
        let all = parse(&format!("{query}&limit=10000")).expect("valid");
        let all = answer_of(&all, &rows);
        let all: Vec<_> = all.sources.iter().map(|source| source.addr).collect();
        assert_eq!(seen, all, "{query}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000, "{query}");
    }
}

#[test]
fn an_offset_behind_the_end_is_an_empty_page() {
    assert!(addresses("offset=4").is_empty());
    assert!(addresses("offset=16777216").is_empty());
}

#[test]
fn mistakes_name_parameter_value_and_what_is_allowed() {
    for (query, parameter, value, allowed) in [
        ("sort=size", "sort", "size", "connections"),
        ("sort=window.addr", "sort", "window.addr", "addr"),
        ("order=up", "order", "up", "asc, desc"),
        ("limit=0", "limit", "0", "1 to 10000"),
        ("limit=10001", "limit", "10001", "1 to 10000"),
        ("limit=-1", "limit", "-1", "1 to 10000"),
        ("offset=x", "offset", "x", "0 to 16777216"),
        (
            "filter=net:10.0.0.0/33",
            "filter",
            "net:10.0.0.0/33",
            "PREFIX",
        ),
        (
            "filter=scope:mine",
            "filter",
            "scope:mine",
            "scope:local|remote|unknown",
        ),
        (
            "filter=connections>",
            "filter",
            "connections>",
            "a whole number",
        ),
        ("filter=size>1", "filter", "size>1", "connections>N"),
        ("filter=spam", "filter", "spam", "net:PREFIX"),
        (
            "filter=connections>5%C3%A9",
            "filter",
            "connections>5é",
            "a whole number",
        ),
        ("lmit=5", "lmit", "5", "limit"),
        ("limit=5&limit=6", "limit", "6", "once"),
    ] {
        let problem = parse(query).expect_err(query);
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
        assert_eq!(problem.body["parameter"], parameter, "{query}");
        assert_eq!(problem.body["value"], value, "{query}");
        let text = problem.body["allowed"].as_str().expect("text");
        assert!(text.contains(allowed), "{query}: {text}");
    }
}

#[test]
fn rows_say_what_is_known_of_a_source_beside_its_counts() {
    let answer = answer_of(&parse("").expect("valid"), &fixture::rows());
    let own = &answer.sources[0];
    assert_eq!((own.rank, own.severity), (1, Some(Severity::Critical)));
    assert_eq!(own.state, Some(VerdictState::Notified));
    assert_eq!(own.verdicts, [7, 9]);
    assert!((own.score - 31.0 / 30.0).abs() < 1e-9, "{}", own.score);
    assert_eq!(own.bytes_per_packet, Some(4000.0 / 110.0));
    assert!(own.relay.is_none() && own.hours.is_none() && own.previous_connections.is_none());
    let relay = answer.sources[1].relay.as_ref().expect("a relay");
    assert_eq!(
        (&*relay.prefix, &*relay.reason),
        ("198.51.100.0/31", "newsletters")
    );
    assert_eq!(answer.sources[2].state, None);
    assert!(answer.period.is_none() && answer.counted_period.is_some());
    // A server alone sends nothing to a mail port; it is judged with its neighbours.
    assert_eq!(answer.sources[3].bytes_per_packet, None);
    assert_eq!(answer.sources[3].verdicts, [8]);
}

#[test]
fn the_last_window_has_its_own_counts_and_order() {
    let answer = answer_of(
        &parse("period=window&limit=2").expect("valid"),
        &fixture::rows(),
    );
    let rows: Vec<_> = answer
        .sources
        .iter()
        .map(|row| (row.addr.to_string(), row.total.connections))
        .collect();
    let expected = [("198.51.100.1".to_owned(), 3), ("192.0.2.7".to_owned(), 1)];
    assert_eq!(rows, expected);
    assert!(answer.period.is_some());
}

proptest::proptest! {
    #[test]
    fn the_first_ones_are_known_exactly_without_a_search(
        restored in proptest::collection::vec((0_u32..3000, 0_u64..4), 0..1500),
        windows in proptest::collection::vec(
            proptest::collection::vec((0_u32..3000, 0_u64..4), 0..2500), 1..4),
        count in 0..COUNTS.len(),
        limit in 1_usize..400,
        offset in 0_usize..900,
    ) {
        use smtp_common::flow::Totals;
        let source = |(number, connections): &(u32, u64)| crate::model::Source {
            address: fixture::row(*number, 0).address.into(),
            totals: Totals {
                connections: *connections,
                c2s_packets: u64::from(number % 5) * connections,
                s2c_bytes: u64::from(*number),
                ..Totals::default()
            },
        };
        let mut list = SourceList::new(Vec::new(), 2500, [3, 5, 7, 11, 13]);
        for one in &restored {
            list.restore(&source(one));
        }
        list.arrange(64);
        for window in &windows {
            let mut window = window.clone();
            window.sort_unstable();
            window.dedup_by_key(|(number, _)| *number);
            list.begin_window();
            list.count(&window.iter().map(source).collect::<Vec<_>>());
            let snapshot = fixture::snapshot(&fixture::rows());
            let (connections, background) =
                (fixture::connections(), background(fixture::list(&[])));
            for (period, sort) in [("all", ""), ("all", "window."), ("window", "")] {
                let query = format!(
                    "period={period}&sort={sort}{}&limit={limit}&offset={offset}", COUNTS[count]
                );
                let rows = |query: &str| {
                    let query = parse(query).expect("valid");
                    let answer = live(&query, &snapshot, &list, &connections, &background);
                    let sources = answer.sources.iter().map(|row| (row.rank, row.addr));
                    (sources.collect::<Vec<_>>(), answer.total)
                };
                // With a filter, every source is looked at.
                let searched = rows(&format!("{query}&filter=connections>=0"));
                proptest::prop_assert_eq!(rows(&query), searched, "{}", query);
                if (period, sort) == ("all", "") && limit + offset <= crate::source_list::TOP {
                    let query = parse(&query).expect("valid");
                    proptest::prop_assert!(query.first(&list).is_some());
                }
            }
        }
    }

    #[test]
    fn what_the_document_says_of_filters_is_understood(
        text in crate::serve::query::tests::described(&Filter::<Rows>::pattern()),
    ) {
        let understood = Filter::<Rows>::parse(&text);
        proptest::prop_assert!(understood.is_ok(), "{text}: {understood:?}");
    }
}
