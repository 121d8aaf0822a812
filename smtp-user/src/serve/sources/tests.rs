//! Sorting, filtering, paging and what is refused.

use axum::http::StatusCode;

use super::super::fixture;
use super::*;

fn parse(query: &str) -> Result<Query, Problem> {
    // Clients have to encode these two.
    let query = query.replace('<', "%3C").replace('>', "%3E");
    let uri: Uri = format!("/api/v1/sources?{query}")
        .parse()
        .expect("a target");
    let pairs = QueryPairs::<Vec<(String, String)>>::try_from_uri(&uri).expect("pairs");
    Query::parse(&pairs)
}

fn addresses(query: &str) -> Vec<String> {
    let list = fixture::list(&fixture::rows());
    parse(query)
        .expect(query)
        .answer(&list, &fixture::connections())
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
    let list = fixture::list(&rows);
    for query in [
        "order=desc",
        "sort=addr&order=asc",
        "order=asc",
        "sort=window.refused",
    ] {
        let mut seen = Vec::new();
        for offset in (0..1100).step_by(100) {
            let page = parse(&format!("{query}&limit=100&offset={offset}"))
                .expect("valid")
                .answer(&list, &fixture::connections());
            assert_eq!((page.total, page.offset, page.limit), (1000, offset, 100));
            seen.extend(page.sources.iter().map(|source| source.addr));
        }
        let all = parse(&format!("{query}&limit=10000"))
            .expect("valid")
            .answer(&list, &fixture::connections());
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
    assert!(addresses(&format!("offset={}", usize::MAX)).is_empty());
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
        ("offset=x", "offset", "x", "0 and more"),
        (
            "filter=net:10.0.0.0/33",
            "filter",
            "net:10.0.0.0/33",
            "net:PREFIX",
        ),
        ("filter=scope:mine", "filter", "scope:mine", "scope:local"),
        ("filter=connections>", "filter", "connections>", "FIELD>N"),
        ("filter=size>1", "filter", "size>1", "FIELD>N"),
        ("filter=spam", "filter", "spam", "net:PREFIX"),
        (
            "filter=connections>5%C3%A9",
            "filter",
            "connections>5é",
            "FIELD>N",
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
