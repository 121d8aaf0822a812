//! Text from outside is text everywhere: what would be markup, script, a formula or a command to a
//! terminal arrives as it was written, or is refused, in every form that smtpflow gives it.
//!
//! [`CORPUS`] goes through every field that takes text: reason and owner of known relays, in the file and
//! over HTTP, who adds and ends them and why, who and why of verdicts, rules in a store that somebody else
//! has written, names of interfaces, the parameters of queries, paths, the Host header; and is looked at on
//! every screen in a real browser, in JSON, in CSV, in HTML, in metrics, and in the log.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use smtp_user::model::verdict::{VerdictChange, VerdictEvent, VerdictFilter, VerdictState};
use smtp_user::store::Store;
use smtpflow_tests::hostile::{
    CONTROL, CORPUS, INTERFACE, TURNED, cells, encoded, harmless, is_clean, without_commands,
};
use smtpflow_tests::watched::{ACT_TOKEN, Good as _, Watched, fault_free, watch_at};
use xtask::browser::Look;
use xtask::lab::{GATEWAY_CLIENT_SIDE, http_get, http_request};

fn post(watched: &Watched<'_>, path: &str, body: &Value) -> (u16, Value) {
    let authorization = format!("Bearer {ACT_TOKEN}");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = body.to_string();
    let request = ("POST", path);
    let answer = http_request(watched.options.listen, request, &headers, Some(&body)).good();
    (answer.status, answer.json().good())
}

#[test]
fn what_people_write_about_verdicts_is_text() {
    watch_at(
        "sfinverdict",
        GATEWAY_CLIENT_SIDE,
        "",
        |_| (),
        |watched| {
            let verdicts = watched.json("/api/v1/verdicts");
            let verdict = verdicts["verdicts"]
                .as_array()
                .expect("verdicts")
                .iter()
                .find(|verdict| verdict["state"] == "new")
                .expect("a new verdict");
            let (id, subject) = (
                &verdict["id"],
                verdict["subject"].as_str().expect("a subject"),
            );
            let path = format!("/api/v1/verdicts/{id}");
            for text in CONTROL {
                for (who, why) in [(*text, "why"), ("who", *text)] {
                    let body = json!({"state": "acknowledged", "who": who, "why": why});
                    let (status, answer) = post(watched, &path, &body);
                    assert_eq!(status, 422, "{text:?}: {answer}");
                }
            }
            let long = "<b>".repeat(10_000);
            let body = json!({"state": "acknowledged", "who": "who", "why": long});
            assert!((400..500).contains(&post(watched, &path, &body).0));
            // From state to state, with a text each time.
            let mut may = watched.json(&path)["may_become"].clone();
            for text in CORPUS {
                let allowed = |state: &&str| {
                    may.as_array()
                        .is_some_and(|may| may.contains(&json!(state)))
                };
                let state = ["acknowledged", "resolved", "new"]
                    .iter()
                    .find(|state| allowed(state));
                let state = state.unwrap_or_else(|| panic!("{may} after {text:?}"));
                let who: String = text.chars().take(64).collect();
                let body = json!({"state": state, "who": who, "why": text});
                let (status, answer) = post(watched, &path, &body);
                assert_eq!(status, 200, "{text:?}: {answer}");
                let events = answer["events"].as_array().expect("events");
                let event = events.iter().find(|event| event["why"] == *text);
                let event = event.unwrap_or_else(|| panic!("{text:?} is not in {answer}"));
                assert_eq!(event["who"], who, "{event}");
                may = answer["may_become"].clone();
            }
            let subject = subject.trim_end_matches("/32");
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            for path in [
                "/".to_owned(),
                format!("/host/{subject}"),
                format!("/verdicts/{id}"),
                "/verdicts".to_owned(),
            ] {
                harmless(&page, &path, false);
            }
            // The page of a host has the latest of them, this one all.
            page.open(&format!("/verdicts/{id}")).good();
            let shown = page.text("document.body.textContent").good();
            for text in CORPUS {
                let text = without_commands(text);
                assert!(shown.contains(&text), "{text:?} is not shown as it is");
            }
            let log = watched.agent.borrow_mut().process().log_text();
            assert!(is_clean(&log), "a terminal obeys the log: {log:?}");
        },
    );
}

#[test]
fn names_in_the_configuration_and_of_interfaces_are_text() {
    let mut config = String::new();
    for (number, text) in CORPUS.iter().enumerate() {
        let quoted = |text: &str| json!(text).to_string().replace('\u{7f}', "\\u007f");
        config.push_str(&format!(
            "[[relay]]\nprefix = \"10.20.0.{number}/32\"\nreason = {}\nowner = {}\n",
            quoted(text),
            quoted(text)
        ));
    }
    watch_at(
        "sfinconfig",
        INTERFACE,
        &config,
        |_| (),
        |watched| {
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            for path in [
                "/",
                "/system",
                "/relays",
                "/sources",
                "/distribution",
                "/report",
            ] {
                harmless(&page, path, false);
            }
            page.open("/").good();
            let shown = page.text("document.body.textContent").good();
            assert!(shown.contains(INTERFACE), "{shown}");
            page.open("/relays").good();
            let shown = page.text("document.body.textContent").good();
            for text in CORPUS {
                let text = without_commands(text);
                assert!(shown.contains(&text), "{text:?} is not shown as it is");
            }
            for number in [0, 3, 26, 31] {
                harmless(&page, &format!("/host/10.20.0.{number}"), false);
            }
            let relays = watched.json("/api/v1/relays");
            let relays = relays["relays"].as_array().expect("relays");
            for text in CORPUS {
                let there = relays
                    .iter()
                    .any(|relay| relay["reason"] == *text && relay["owner"] == *text);
                assert!(there, "{text:?} is not among the known relays");
            }
            let csv = http_get(watched.options.listen, "/api/v1/relays?format=csv", &[]).good();
            assert_eq!(csv.status, 200, "{}", csv.text());
            let cells = cells(&csv.text());
            for text in CORPUS {
                let text = without_commands(text);
                assert!(cells.contains(&text), "{text:?} is not in the CSV");
            }
            let status = watched.json("/api/v1/status");
            assert_eq!(status["interfaces"][0]["name"], INTERFACE);
            let metrics = http_get(watched.options.listen, "/metrics", &[])
                .good()
                .text();
            let escaped = INTERFACE.replace('\\', "\\\\").replace('"', "\\\"");
            let named = format!("interface=\"{escaped}\"");
            assert!(metrics.contains(&named), "no {named} in:\n{metrics}");
            let log = watched.agent.borrow_mut().process().log_text();
            assert!(is_clean(&log), "a terminal obeys the log: {log:?}");
        },
    );
}

#[test]
fn what_people_write_about_known_relays_is_text() {
    watch_at(
        "sfinrelay",
        GATEWAY_CLIENT_SIDE,
        "",
        |_| (),
        |watched| {
            let add = |prefix: &str, text: &str, who: &str| {
                let body = json!({"prefix": prefix, "reason": text, "owner": text, "who": who});
                post(watched, "/api/v1/relays", &body)
            };
            for text in CONTROL {
                for (text, who) in [(*text, "who"), ("text", *text)] {
                    let (status, answer) = add("10.20.1.0/32", text, who);
                    assert_eq!(status, 422, "{text:?} of {who:?}: {answer}");
                }
            }
            for (number, text) in CORPUS.iter().enumerate() {
                // Nor is a prefix anything but a prefix.
                let (status, answer) = add(text, "text", "who");
                assert!((400..500).contains(&status), "{text:?}: {answer}");
                let who: String = text.chars().take(64).collect();
                let (status, answer) = add(&format!("10.20.1.{number}/32"), text, &who);
                assert_eq!(status, 201, "{text:?}: {answer}");
                // Every second one is ended, with the same words.
                if number % 2 == 0 {
                    let prefix = format!("10.20.1.{number}/32");
                    let body = json!({"prefix": prefix, "who": who, "why": text});
                    let (status, answer) = post(watched, "/api/v1/relays/expire", &body);
                    assert_eq!(status, 200, "{text:?}: {answer}");
                }
            }
            let relays = watched.json("/api/v1/relays?filter=origin:store");
            let relays = relays["relays"].as_array().expect("relays");
            let csv = http_get(
                watched.options.listen,
                "/api/v1/relays?filter=origin:store&format=csv",
                &[],
            )
            .good();
            let cells = cells(&csv.text());
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            harmless(&page, "/relays", false);
            harmless(&page, "/relays?filter=active:no", false);
            page.open("/relays?filter=origin:store").good();
            let shown = page.text("document.body.textContent").good();
            for text in CORPUS {
                let there = relays
                    .iter()
                    .any(|relay| relay["reason"] == *text && relay["owner"] == *text);
                assert!(there, "{text:?} is not among the known relays");
                let text = without_commands(text);
                assert!(cells.contains(&text), "{text:?} is not in the CSV");
                assert!(shown.contains(&text), "{text:?} is not shown as it is");
            }
            // The check sees what it is there for.
            page.evaluate(
                "for (const one of document.querySelectorAll('main bdi')) one.replaceWith(one.textContent); 0",
            )
            .good();
            assert_ne!(page.evaluate(TURNED).good(), json!([]));
            page.open("/relays").good();
            page.evaluate("document.querySelector('main bdi').title = '\\u202e'; 0")
                .good();
            assert_ne!(page.evaluate(TURNED).good(), json!([]));
            for number in [1, 3, 27, 33] {
                harmless(&page, &format!("/host/10.20.1.{number}"), false);
            }
            for path in ["/", "/sources", "/report"] {
                harmless(&page, path, false);
            }
            let log = watched.agent.borrow_mut().process().log_text();
            assert!(is_clean(&log), "a terminal obeys the log: {log:?}");
        },
    );
}

/// Gives every verdict of a store a rule and an event of other words, also such that no API takes.
fn spoil(store: &Path) {
    let mut store = Store::open(store, 100_000).unwrap_or_else(|failure| panic!("{failure}"));
    let verdicts = store
        .verdicts(&VerdictFilter::default())
        .unwrap_or_else(|failure| panic!("{failure}"));
    let texts: Vec<&str> = CORPUS.iter().chain(CONTROL).copied().collect();
    let mut changes = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let mut verdict = verdicts[number % verdicts.len()].clone();
        let from = verdict.state;
        verdict.rule.text = texts[number % texts.len()].to_owned();
        changes.push(VerdictChange::Held(verdict.clone()));
        verdict.state = VerdictState::Acknowledged;
        let event = VerdictEvent {
            verdict: verdict.id,
            at: verdict.changed_at + number as u64,
            who: (*text).to_owned(),
            from: Some(from),
            to: VerdictState::Acknowledged,
            why: (*text).to_owned(),
        };
        changes.push(VerdictChange::Moved(verdict, event));
    }
    store
        .write_verdicts(&changes)
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_store_that_somebody_else_has_written_is_text() {
    watch_at("sfinstore", GATEWAY_CLIENT_SIDE, "", spoil, |watched| {
        let page = watched.page();
        page.look(Look::DESKTOP).good();
        let verdicts = watched.json("/api/v1/verdicts?limit=1000");
        let verdicts = verdicts["verdicts"].as_array().expect("verdicts").clone();
        let mut paths: Vec<String> = ["/", "/verdicts", "/report", "/sources", "/distribution"]
            .map(str::to_owned)
            .to_vec();
        for verdict in &verdicts {
            let subject = verdict["subject"].as_str().expect("a subject");
            paths.push(format!(
                "/host/{}",
                subject.split('/').next().expect("an address")
            ));
            paths.push(format!("/verdicts/{}", verdict["id"]));
        }
        paths.sort();
        paths.dedup();
        for path in &paths {
            harmless(&page, path, false);
        }
        let month = watched.json("/api/v1/status");
        let month = month["now"].as_str().map_or_else(
            || page.text("new Date().toISOString().slice(0, 7)").good(),
            |now| now[..7].to_owned(),
        );
        for (path, kind) in [
            (
                "/api/v1/verdicts?format=csv&limit=1000".to_owned(),
                "text/csv",
            ),
            (format!("/api/v1/reports/{month}?format=csv"), "text/csv"),
            (format!("/api/v1/reports/{month}?format=text"), "text/plain"),
            (format!("/api/v1/reports/{month}?format=html"), "text/html"),
        ] {
            let answer = http_get(watched.options.listen, &path, &[]).good();
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let is = answer.header("content-type").unwrap_or_default();
            assert!(is.starts_with(kind), "{path}: {is}");
            let text = answer.text();
            match kind {
                "text/csv" => drop(cells(&text)),
                "text/plain" => assert!(is_clean(&text), "a terminal obeys {path}: {text:?}"),
                // It is a file to keep, not a page of ours.
                _ => {
                    let intruders = page
                        .evaluate(&format!(
                            "[...new DOMParser().parseFromString({}, 'text/html').querySelectorAll(
                                'script, iframe, img, object, embed, base, a, form, [onload], [onerror]'
                            )].map((one) => one.outerHTML.slice(0, 200))",
                            json!(text)
                        ))
                        .good();
                    assert_eq!(intruders, json!([]), "{path}");
                }
            }
        }
        let log = watched.agent.borrow_mut().process().log_text();
        assert!(is_clean(&log), "a terminal obeys the log: {log:?}");
    });
}

#[test]
fn what_a_request_says_is_text() {
    watch_at(
        "sfinrequest",
        GATEWAY_CLIENT_SIDE,
        "",
        |_| (),
        |watched| {
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            let all: Vec<&str> = CORPUS.iter().chain(CONTROL).copied().collect();
            for text in &all {
                let text = encoded(text);
                for path in [
                    format!("/?filter={text}&sort={text}&period={text}"),
                    format!("/sources?filter={text}"),
                    format!(
                        "/sources?period={text}&sort={text}&order={text}&limit={text}&offset={text}"
                    ),
                    format!("/host/{text}"),
                    format!("/host/192.0.2.1?period={text}"),
                    format!("/distribution?item={text}&period={text}&compare={text}"),
                    format!("/verdicts?filter={text}"),
                    format!("/verdicts/{text}"),
                    format!("/report/{text}"),
                    format!("/{text}"),
                    format!("/?{text}={text}"),
                ] {
                    harmless(&page, &path, true);
                }
            }
            fault_free(&page, "the last of all");
            let address: SocketAddr = watched.options.listen;
            for text in &all {
                let part = encoded(text);
                for path in [
                    format!("/api/v1/sources?filter={part}"),
                    format!("/api/v1/sources?sort={part}&format={part}"),
                    format!("/api/v1/sources/{part}"),
                    format!("/api/v1/sources/{part}/why"),
                    format!("/api/v1/verdicts/{part}"),
                    format!("/api/v1/verdicts?filter={part}"),
                    format!("/api/v1/distribution?item={part}&period={part}"),
                    format!("/api/v1/reports/{part}"),
                    format!("/api/v1/{part}"),
                ] {
                    let answer = http_get(address, &path, &[]).good();
                    assert!(
                        (400..500).contains(&answer.status),
                        "{path}: {}",
                        answer.text()
                    );
                    let kind = answer.header("content-type").unwrap_or_default();
                    assert!(kind.starts_with("application/json"), "{path}: {kind}");
                    assert!(answer.json().good()["error"].is_string(), "{path}");
                }
                // A head of several lines is two heads, and no test of ours.
                if !text.contains(char::is_control) {
                    let answer = http_get(address, "/", &[("Host", text)]).good();
                    assert!(
                        (400..500).contains(&answer.status),
                        "{text:?}: {}",
                        answer.status
                    );
                    let kind = answer.header("content-type").unwrap_or_default();
                    assert!(
                        !kind.starts_with("text/html"),
                        "{text:?} comes back as {kind}"
                    );
                }
            }
            let log = watched.agent.borrow_mut().process().log_text();
            assert!(is_clean(&log), "a terminal obeys the log: {log:?}");
        },
    );
}
