//! The language, on a small table of its own.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::json;

use super::filter::Fault;
use super::*;
use crate::answer::answer;

/// A made-up row.
#[derive(Clone, Debug)]
struct Thing {
    net: IpNet,
    count: u64,
    share: Option<f64>,
    at: Option<u64>,
    colour: usize,
}

struct Things;

const COLOURS: &[&str] = &["red", "green"];

impl Table for Things {
    type Row<'a> = &'a Thing;
    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "net",
            value: Value::Net(|thing| thing.net),
        },
        Field {
            name: "addr",
            value: Value::Address(|thing| thing.net.addr()),
        },
        Field {
            name: "count",
            value: Value::Count(|thing| thing.count),
        },
        Field {
            name: "share.of",
            value: Value::Number(|thing| thing.share),
        },
        Field {
            name: "at",
            value: Value::Time(|thing| thing.at),
        },
        Field {
            name: "since",
            value: Value::Since(|thing| thing.at),
        },
        Field {
            name: "colour",
            value: Value::Word {
                words: COLOURS,
                holds: |thing, word| thing.colour == word,
                rank: Some(|thing| Some(thing.colour as u64)),
            },
        },
    ];
}

fn thing(net: &str, count: u64, share: Option<f64>) -> Thing {
    Thing {
        net: net.parse().expect("a prefix"),
        count,
        share,
        // 2026-11-24T14:47:49Z
        at: share.map(|_| 1_795_531_669_000),
        colour: usize::from(count > 10),
    }
}

fn things() -> Vec<Thing> {
    vec![
        thing("192.0.2.7/32", 100, Some(0.5)),
        thing("198.51.100.9/32", 5, None),
        thing("2001:db8::/64", 5, Some(0.25)),
        thing("2001:db8:1::25/128", u64::MAX, Some(40.0)),
    ]
}

fn parse(text: &str) -> Result<Filter<Things>, Fault> {
    Filter::parse(text)
}

#[test]
fn all_terms_must_hold_and_what_is_unknown_is_never_compared() {
    for (text, expected) in [
        ("", &[0, 1, 2, 3][..]),
        ("  ", &[0, 1, 2, 3]),
        ("net:192.0.2.0/24", &[0]),
        ("net:2001:db8::/32", &[2, 3]),
        ("net:2001:db8::1", &[]),
        ("net:::ffff:192.0.2.7", &[0]),
        ("addr:2001:db8:1::25", &[3]),
        ("count>5", &[0, 3]),
        ("count>=5 count<=100", &[0, 1, 2]),
        ("count!=5", &[0, 3]),
        ("count=18446744073709551615", &[3]),
        ("count<5", &[]),
        ("share.of>0.25", &[0, 3]),
        ("share.of!=0.5", &[2, 3]),
        ("at>2026-11-24", &[0, 2, 3]),
        ("at<2026-11-24T14:47", &[]),
        ("since:2026-11-24T14:47:49Z", &[0, 2, 3]),
        ("since:2026-11-25", &[]),
        ("colour:green net:::/0", &[3]),
    ] {
        let filter = parse(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        let things = things();
        let found: Vec<_> = (0..things.len())
            .filter(|i| filter.holds(&&things[*i]))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn a_mistake_is_told_with_its_position_in_characters() {
    for (text, position, term, allowed) in [
        ("spam", 1, "spam", "net:PREFIX, addr:ADDRESS, count>N"),
        ("count>5 spam:1", 9, "spam:1", "colour:red|green"),
        ("count>5\u{3000}size>1", 9, "size>1", "count>N"),
        ("count", 6, "count", "count>N or another of >="),
        ("count:5", 6, "count:5", "count>N or another"),
        ("count>", 7, "count>", "a whole number"),
        ("count>5é", 7, "count>5é", "a whole number"),
        ("count>>5", 7, "count>>5", "a whole number"),
        ("count>-1", 7, "count>-1", "a whole number"),
        (
            "count>18446744073709551616",
            7,
            "count>18446744073709551616",
            "whole",
        ),
        ("é:1", 1, "é:1", "net:PREFIX"),
        ("share.of>.5", 10, "share.of>.5", "100 or 0.5"),
        ("share.of>1e3", 10, "share.of>1e3", "100 or 0.5"),
        ("share.of>NaN", 10, "share.of>NaN", "100 or 0.5"),
        ("net=10.0.0.0/8", 4, "net=10.0.0.0/8", "net:PREFIX"),
        ("net:10.0.0.0/33", 5, "net:10.0.0.0/33", "PREFIX"),
        ("addr:10.0.0.0/8", 6, "addr:10.0.0.0/8", "no name"),
        ("since:yesterday", 7, "since:yesterday", "2026-11-24"),
        ("colour:blue", 8, "colour:blue", "red|green"),
        ("  colour:", 10, "colour:", "red|green"),
    ] {
        let fault = parse(text).expect_err(text);
        assert_eq!((fault.position, &*fault.term), (position, term), "{text}");
        assert!(fault.allowed.contains(allowed), "{text}: {}", fault.allowed);
    }
}

/// Texts that fit a pattern of the document.
pub(in crate::serve) fn described(pattern: &str) -> impl Strategy<Value = String> + use<> {
    let inner = pattern.trim_start_matches('^').trim_end_matches('$');
    prop::string::string_regex(inner).expect("a pattern")
}

/// The pattern of periods in history, written another way.
fn described_period(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    if let Some((year, month)) = text.split_once('-') {
        let fits = year.len() == 4 && month.len() == 2 && digits(year) && digits(month);
        return fits && year >= "1970" && ("01"..="12").contains(&month);
    }
    let Some((number, unit)) = text.split_at_checked(text.len() - 1) else {
        return false;
    };
    let most = match unit {
        "m" => 999_999,
        "h" => 9_999,
        "d" => 730,
        _ => return false,
    };
    digits(number)
        && !number.starts_with('0')
        && number
            .parse()
            .is_ok_and(|number: u64| (1..=most).contains(&number))
}

/// A term as people might write it, most of them right.
fn terms() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        (0_u64..1_000_000_000, 0_u32..1000).prop_map(|(a, b)| format!("{a}.{b:03}")),
    ];
    let compared = (
        prop_oneof![Just("count"), Just("share.of")],
        prop_oneof![
            Just(">"),
            Just("<"),
            Just("="),
            Just(">="),
            Just("<="),
            Just("!=")
        ],
        number,
    );
    prop_oneof![
        compared.prop_map(|(name, how, number)| format!("{name}{how}{number}")),
        (any::<u32>(), 0_u8..33).prop_map(|(bits, length)| {
            format!("net:{}/{length}", std::net::Ipv4Addr::from_bits(bits))
        }),
        (any::<u128>(), 0_u8..129).prop_map(|(bits, length)| {
            format!("net:{}/{length}", std::net::Ipv6Addr::from_bits(bits))
        }),
        any::<IpAddr>().prop_map(|address| format!("addr:{address}")),
        (0_u64..4_000_000_000_000)
            .prop_map(|at| format!("at>{}", crate::model::period::rfc3339(at))),
        (0_u64..4_000_000_000_000)
            .prop_map(|at| format!("since:{}", crate::model::period::rfc3339(at))),
        Just("colour:red".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_positions_are_in_the_text(text in any::<String>()) {
        if let Err(fault) = parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&fault.position));
        }
    }

    #[test]
    fn no_nearly_right_text_makes_it_panic(
        text in "((net|addr|count|share[.]of|since|colour)[:<>=!]{0,2}[0-9a-f.:/é-]{0,9} {0,2}){0,4}"
    ) {
        if let Err(fault) = parse(&text) {
            prop_assert!((1..=text.chars().count() + 1).contains(&fault.position));
        }
    }

    #[test]
    fn what_is_printed_is_read_again(terms in prop::collection::vec(terms(), 0..5)) {
        if let Ok(filter) = parse(&terms.join("  ")) {
            let printed = filter.to_string();
            prop_assert_eq!(parse(&printed).expect("it was printed"), filter);
        }
    }

    #[test]
    fn what_the_pattern_describes_is_understood(text in described(&Filter::<Things>::pattern())) {
        let understood = parse(&text);
        prop_assert!(understood.is_ok(), "{text}: {understood:?}");
    }

    #[test]
    fn so_is_a_period(text in described(&Span::pattern(true))) {
        let span = Span::parse(&text);
        prop_assert!(span.is_some(), "{text}");
    }

    #[test]
    fn what_the_pattern_of_periods_does_not_describe_is_refused(text in "[0-9a-z-]{1,8}") {
        let described = text == "all" || text == "window" || described_period(&text);
        prop_assert_eq!(Span::parse(&text).is_some(), described, "{}", text);
    }

    #[test]
    fn pages_neither_repeat_nor_miss_a_row(
        counts in prop::collection::vec((0_u64..5, prop::option::of(0_u8..3)), 0..3000),
        limit in 1_usize..700,
        sort in prop::sample::select(vec!["count", "share.of", "addr", "colour"]),
        ascending in any::<bool>(),
    ) {
        let things: Vec<Thing> = (0_u32..)
            .zip(&counts)
            .map(|(i, (count, share))| Thing {
                net: IpAddr::V4(std::net::Ipv4Addr::from_bits(i % 1000)).into(),
                ..thing("::/0", *count, share.map(f64::from))
            })
            .collect();
        let page = |offset, limit| {
            let list = List::<Things> { ascending, offset, ..List::by(sort, limit) };
            let mut chooser = Chooser::new(&list);
            for (i, thing) in things.iter().enumerate() {
                chooser.add(&thing, i);
            }
            chooser.finish()
        };
        let mut seen = Vec::new();
        for offset in (0..things.len() + limit).step_by(limit) {
            let (rows, total) = page(offset, limit);
            prop_assert_eq!(total, things.len());
            seen.extend(rows);
        }
        prop_assert_eq!(&seen, &page(0, things.len().max(1)).0);
        let unknown = seen.iter().position(|i| things[*i].share.is_none());
        if sort == "share.of" && let Some(first) = unknown {
            prop_assert!(seen[first..].iter().all(|i| things[*i].share.is_none()));
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..things.len()).collect::<Vec<_>>());
    }
}

fn ask(query: &str) -> Result<(List<Things>, Option<Span>), Problem> {
    let uri: Uri = format!("/things?{query}").parse().expect("a target");
    let mut params = Params::of(&uri)?;
    let span = params.take("period", Span::ALLOWED, Span::parse)?;
    let list = List::parse(&mut params, "count")?;
    params.finish()?;
    Ok((list, span))
}

#[test]
fn parameters_are_taken_once_and_others_are_refused() {
    let (list, span) =
        ask("sort=addr&order=asc&limit=5&offset=6&filter=count%3E5++colour:red&period=90m")
            .expect("understood");
    assert_eq!(
        list.canonical(),
        "sort=addr order=asc limit=5 offset=6 filter=count>5 colour:red"
    );
    assert_eq!(span.map(|span| span.to_string()), Some("90m".to_owned()));
    assert_eq!(
        ask("").expect("nothing").0.canonical(),
        "sort=count order=desc limit=100 offset=0 filter="
    );
    for (query, parameter, value, allowed) in [
        ("sort=since", "sort", "since", "net, addr, count"),
        ("order=up", "order", "up", "asc, desc"),
        ("limit=0", "limit", "0", "1 to 10000"),
        ("limit=%2B1", "limit", "+1", "1 to 10000"),
        ("offset=16777217", "offset", "16777217", "0 to 16777216"),
        ("format=xml", "format", "xml", "json, csv"),
        ("period=731d", "period", "731d", "730d"),
        ("lmit=5", "lmit", "5", "sort, order, limit"),
        ("limit=5&limit=6", "limit", "6", "once"),
    ] {
        let problem = ask(query).expect_err(query);
        assert_eq!(problem.body["parameter"], parameter, "{query}");
        assert_eq!(problem.body["value"], value, "{query}");
        let text = problem.body["allowed"].as_str().expect("text");
        assert!(text.contains(allowed), "{query}: {text}");
    }
    let problem = ask("filter=colour:red+colour:blue").expect_err("blue");
    assert_eq!(problem.body["position"], 19);
}

#[test]
fn periods_are_read_and_printed() {
    for text in [
        "all", "window", "5m", "999999m", "1h", "25h", "7d", "730d", "2026-11",
    ] {
        let span = Span::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(span.to_string(), text);
        assert_eq!(
            Span::parse_kept(text).is_none(),
            ["all", "window"].contains(&text)
        );
    }
    // Longer in hours or minutes than in days.
    assert_eq!(Span::parse("9999h").expect("hours").to_string(), "9999h");
    for text in [
        "", "0m", "01m", "m", "5", "5s", "4w", "+5m", "731d", "2026-13", "1000000m", "é",
    ] {
        assert_eq!(Span::parse(text), None, "{text}");
    }
    let Period { from, to } = Span::Last(HOUR).period(5 * HOUR).expect("kept");
    assert_eq!((from, to), (4 * HOUR, 5 * HOUR));
    assert_eq!(Span::All.period(7), None);
}

use crate::model::period::Period;
const HOUR: u64 = 3_600_000;

answer! {
    /// What is inside.
    struct Inner {
        /// A number that may not be known.
        number: Option<u64>,
    }
}

answer! {
    /// A row.
    struct Row {
        /// Text from outside.
        text: String,
        /// Some numbers.
        hours: Vec<Option<u64>>,
        /// What is inside.
        inner: Option<Inner> [Inner],
        /// Several of them.
        many: Vec<Inner> [Inner],
    }
}

#[test]
fn csv_has_the_rows_and_columns_of_the_json_and_no_formula() {
    let rows = [
        Row {
            text: "=HYPERLINK(\"http://x.example\"),\r\n2".to_owned(),
            hours: vec![None, Some(0), Some(7)],
            inner: Some(Inner { number: Some(3) }),
            many: vec![Inner { number: Some(1) }, Inner { number: None }],
        },
        Row {
            text: "+41".to_owned(),
            hours: Vec::new(),
            inner: None,
            many: Vec::new(),
        },
    ];
    let text = csv(Row::FIELDS, &rows).expect("CSV");
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(
        lines,
        [
            "text,hours,inner.number,many.number",
            "\"'=HYPERLINK(\"\"http://x.example\"\"),\u{fffd}\u{fffd}2\",;0;7,3,1;",
            "'+41,,,",
            "",
        ]
    );
    assert_eq!(
        serde_json::to_value(&rows[1]).expect("JSON"),
        json!({"text": "+41", "hours": [], "inner": null, "many": []})
    );
}
