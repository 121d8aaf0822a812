//! The screens of a real store, as they are sent, and what hostile texts can do to them: nothing.

use super::*;
use crate::model::complaint::tests::complaint;
use crate::model::verdict::VerdictState;
use crate::report::tests::{BOT, Scene};
use crate::store::{
    NoticeLedger, PersonalChange, Withdrawal, add_complaint, change_verdict, withdraw_complaint,
};

/// Elements that screens are made of. Whoever adds one says so here.
const ELEMENTS: &[&str] = &[
    "a", "article", "bdi", "body", "br", "button", "caption", "code", "dd", "details", "dialog",
    "div", "dl", "dt", "footer", "form", "h1", "h2", "h3", "head", "header", "html", "input",
    "label", "li", "line", "link", "main", "mark", "meta", "nav", "ol", "option", "p", "path", "q",
    "rect", "script", "section", "select", "small", "span", "strong", "summary", "svg", "table",
    "tbody", "td", "text", "th", "thead", "time", "title", "tr", "ul",
];

/// What people could write into a field that a screen shows.
const HOSTILE: [&str; 7] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "x onclick=alert(1) y",
    "</title></textarea></script><iframe src=//x.example>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)//&lt;&#60;",
];

/// Reads a page as a browser does, tag by tag, and refuses what none of ours has: other elements,
/// handlers of events, styles, and links and scripts from elsewhere.
fn assert_harmless(page: &str, what: &str) {
    let mut rest = page;
    while let Some((_, tag)) = rest.split_once('<') {
        let name: String = tag
            .trim_start_matches(['/', '!'])
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        assert!(
            name == "doctype" || ELEMENTS.contains(&name.as_str()),
            "<{name}> in {what}: {}",
            tag.get(..80).unwrap_or(tag)
        );
        let mut inside = tag
            .trim_start_matches(['/', '!'])
            .get(name.len()..)
            .unwrap_or_default();
        loop {
            inside = inside.trim_start();
            if let Some(after) = inside.strip_prefix('>') {
                rest = after;
                break;
            }
            if let Some(after) = inside.strip_prefix('/') {
                inside = after;
                continue;
            }
            let end = inside
                .find(|c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/'))
                .unwrap_or_else(|| panic!("a tag without an end in {what}: {inside}"));
            let attribute = &inside[..end];
            inside = &inside[end..];
            let mut value = "";
            if let Some(after) = inside.strip_prefix('=') {
                if let Some(quoted) = after.strip_prefix('"') {
                    (value, inside) = quoted.split_once('"').expect("a value that ends");
                } else {
                    let end = after
                        .find(|c: char| c.is_whitespace() || c == '>')
                        .expect("a tag that ends");
                    (value, inside) = after.split_at(end);
                    assert!(
                        value.bytes().all(|o| o.is_ascii_alphanumeric()),
                        "{attribute}={value} needs quotation marks in {what}"
                    );
                }
            }
            assert!(
                !attribute.starts_with("on") && attribute != "style" && attribute != "srcdoc",
                "{attribute}={value} in {what}"
            );
            if ["href", "src", "action"].contains(&attribute) {
                let own = value.starts_with('/') && !value.starts_with("//");
                let here = value.starts_with('?') || value.starts_with('#');
                assert!(own || here, "{attribute}={value} in {what}");
            }
        }
    }
}

/// A store with a spam bot, and what people have said about it.
fn scene(path: &std::path::Path) -> Scene {
    let scene = Scene::in_file(path);
    for (i, text) in HOSTILE.iter().enumerate() {
        let open = i % 2 == 0;
        let change = PersonalChange {
            id: 2,
            to: if open {
                VerdictState::Resolved
            } else {
                VerdictState::New
            },
            who: text,
            why: text,
            at: 1_793_800_000_000 + i as u64,
        };
        change_verdict(path, &change).unwrap_or_else(|error| panic!("{error:?}"));
        let mut told = complaint(BOT, 1_793_800_000_000);
        (*text).clone_into(&mut told.reporter);
        (*text).clone_into(&mut told.reference);
        let told = told.checked(1_793_800_000_000).expect("a complaint");
        let stored = add_complaint(path, &told, text, 1_793_800_000_000);
        let stored = stored.unwrap_or_else(|error| panic!("{error:?}"));
        if !open {
            let withdrawal = Withdrawal {
                id: stored.id,
                who: text,
                why: text,
                at: 1_793_800_000_000,
            };
            withdraw_complaint(path, &withdrawal).unwrap_or_else(|error| panic!("{error:?}"));
        }
    }
    let ledger = NoticeLedger::take(path).expect("a ledger");
    for (id, text) in (1..).zip(HOSTILE) {
        ledger
            .write(&[noticing::waiting(id, text)])
            .expect("written");
    }
    scene
}

const SCREENS: [&str; 29] = [
    "/",
    "/sources",
    "/sources?period=all&sort=addr&order=asc&limit=2&offset=1",
    "/sources?period=2026-11&filter=state:open+connections%3E1",
    "/sources?period=1h&filter=net:203.0.113.0/24",
    "/system",
    "/host/192.0.2.66",
    "/host/192.0.2.66?period=7d&table=yes",
    "/host/192.0.2.99?period=30d",
    "/host/2001:db8::1:1?period=2026-11",
    "/host/198.51.100.200",
    "/distribution",
    "/distribution?item=pair&period=30d&compare=previous",
    "/verdicts",
    "/verdicts?filter=&sort=opened_at&order=asc&period=90d",
    "/verdicts/1",
    "/verdicts/2",
    "/report/2026-11",
    "/relays",
    "/relays?filter=active:no",
    "/complaints",
    "/complaints?period=2026-11&filter=flagged:before",
    "/complaints?filter=withdrawn:yes",
    "/notices",
    "/notices?filter=state:waiting&offset=1",
    "/notices/1",
    "/notices/2",
    "/verdicts?filter=net:192.0.2.0/24+severity:warning",
    "/distribution?period=2026-11",
];

#[test]
fn screens_of_a_real_store_are_whole_and_hostile_texts_do_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = scene(&path);
    let server = Server::start_with(archive(&path));
    for screen in SCREENS {
        let (status, head, body) = server.get(screen);
        assert_eq!(status, 200, "{screen}: {body}");
        assert!(head.contains("content-type: text/html"), "{head}");
        assert!(body.trim_end().ends_with("</html>"), "{screen}");
        assert_eq!(body.matches("<h1").count(), 1, "{screen}");
        assert_harmless(&body, screen);
        let mut words = body.split(|c: char| !c.is_ascii_alphanumeric());
        assert!(
            !words.any(|word| ["NaN", "inf"].contains(&word)),
            "{screen}"
        );
    }
}

#[test]
fn hostile_addresses_and_queries_do_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = scene(&path);
    let server = Server::start_with(archive(&path));
    for text in HOSTILE {
        let coded: String = text.bytes().map(|octet| format!("%{octet:02X}")).collect();
        for screen in [
            format!("/host/{coded}"),
            format!("/host/192.0.2.66?period={coded}"),
            format!("/host/192.0.2.66?{coded}=1"),
            format!("/distribution?item={coded}"),
            format!("/distribution?compare={coded}"),
            format!("/verdicts?filter={coded}"),
            format!("/sources?filter={coded}"),
            format!("/sources?period={coded}"),
            format!("/sources?limit={coded}"),
            format!("/sources?{coded}=1"),
            format!("/verdicts?sort={coded}"),
            format!("/verdicts/{coded}"),
            format!("/report/{coded}"),
            format!("/notices?filter={coded}"),
            format!("/notices/{coded}"),
            format!("/complaints?period={coded}"),
            format!("/complaints?filter={coded}"),
        ] {
            let (status, _, body) = server.get(&screen);
            assert!([400, 404].contains(&status), "{screen}: {status}");
            assert_harmless(&body, &screen);
            assert!(body.contains("class=\"problem\""), "{screen}:\n{body}");
        }
    }
}

#[test]
fn a_long_trail_is_whole_on_the_page_of_its_verdict_and_short_on_that_of_its_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = scene(&path);
    let server = Server::start_with(archive(&path));
    let life = server.json("/api/v1/verdicts/2");
    let events = life["events"].as_array().expect("events").len();
    assert!(events > 6, "{life}");
    let subject = life["verdict"]["subject"].as_str().expect("an address");
    let of_host = server.get(&format!("/host/{subject}")).2;
    let of_verdict = server.get("/verdicts/2").2;
    let trail = |body: &str| {
        let trail = body.split_once("<ol class=\"trail\">").expect("a trail").1;
        let trail = trail.split_once("</ol>").expect("its end").0.to_owned();
        (trail.matches("<time ").count(), trail)
    };
    let (shown, text) = trail(&of_host);
    assert_eq!(shown, 6, "{text}");
    let earlier = format!("<a href=\"/verdicts/2\">{} earlier</a>", events - 6);
    assert!(text.contains(&earlier), "{text}");
    let (shown, text) = trail(&of_verdict);
    assert_eq!(shown, events, "{text}");
    assert!(!text.contains("earlier"), "{text}");
}

#[test]
fn a_host_says_why_and_shows_what_it_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = scene(&path);
    let server = Server::start_with(archive(&path));
    let (_, _, body) = server.get(&format!("/host/{BOT}?period=30d"));
    let why = server.json(&format!("/api/v1/sources/{BOT}/why"));
    let answer = why["answer"].as_str().expect("text");
    for text in [
        answer,
        // Three hours with 120 connections each to 30 servers.
        "<p class=\"number\">360</p>",
        "<p class=\"number\">30</p>",
        "20 of 30, those with the most connections",
        "<td class=h3>120",
        "Over 30 connections in 3 of 24 counted hours, over 100 in 3",
        "smtpflow verdict acknowledge ID",
        "anna",
    ] {
        assert!(body.contains(text), "no {text} in:\n{body}");
    }
    // The day that is not over has no hours to come, and what was not counted is no 0.
    assert!(body.contains("<td class=next"), "{body}");
    assert!(body.contains("title=\"not counted\""), "{body}");
    // The figures are those of the API.
    let chart = body.split_once("data-chart=\"").expect("a chart").1;
    let chart = chart
        .split_once('"')
        .expect("its end")
        .0
        .replace("&#34;", "\"");
    let chart: Value = serde_json::from_str(&chart).expect("JSON");
    let total: u64 = chart["connections"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(total, 360);
    let gaps = chart["connections"].as_array().expect("a list").iter();
    assert_eq!(gaps.filter(|count| count.is_null()).count(), 29, "{chart}");

    let (status, _, body) = server.get("/host/198.51.100.200");
    assert_eq!(status, 200);
    assert!(body.contains("It was never flagged."), "{body}");
    let (status, _, body) = Server::start().get("/host/192.0.2.7");
    assert_eq!(status, 200);
    assert!(
        body.contains("store.enabled") && body.contains("40000"),
        "{body}"
    );
}

#[test]
fn lists_are_filtered_and_a_bad_filter_is_told_with_its_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = scene(&path);
    let server = Server::start_with(archive(&path));
    let (_, _, open) = server.get("/verdicts");
    assert!(
        open.contains("id=\"row-1\"") && !open.contains("id=\"row-2\""),
        "{open}"
    );
    assert!(
        open.contains("data-may=\"notified resolved false_positive\""),
        "{open}"
    );
    let (_, _, all) = server.get("/verdicts?filter=");
    assert!(
        all.contains("id=\"row-1\"") && all.contains("id=\"row-2\""),
        "{all}"
    );
    let (status, _, bad) = server.get("/verdicts?filter=state:open+severity:bad");
    assert_eq!(status, 400);
    assert!(
        bad.contains("severity") && bad.contains("critical"),
        "{bad}"
    );
    let (status, _, none) = server.get("/verdicts/77");
    assert_eq!(status, 404);
    assert!(none.contains("there is no verdict 77"), "{none}");
}

#[test]
fn a_month_is_the_one_of_the_report() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = scene(&path);
    let server = Server::start_with(archive(&path));
    let (status, head, _) = server.get("/report");
    assert_eq!(status, 303);
    assert!(head.contains("location: /report/2026-11"), "{head}");
    let (_, _, body) = server.get("/report/2026-11");
    for text in [
        "Mail traffic of 2026-11, to date",
        "15,048",
        "Repeat offenders",
        "class=\"host\" href=\"/host/192.0.2.66\"",
        "2026-11-03 10:00",
    ] {
        assert!(body.contains(text), "no {text} in:\n{body}");
    }
    for month in ["2026-10", "2026-12", "1970-01"] {
        let (status, _, body) = server.get(&format!("/report/{month}"));
        assert_eq!(status, 404, "{month}");
        assert!(body.contains(month), "{body}");
    }
}
