//! Changes over HTTP, over real sockets on loopback and in a real store.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::report::tests::Scene;
use crate::serve::query::List;

const READ: &str = "0123456789abcdef0123456789abcdef";
const ACT: &str = "fedcba9876543210fedcba9876543210";

/// A server on a store with a spam bot and its verdicts, which takes changes.
pub(super) struct Acting {
    pub(super) server: Server,
    _scene: Scene,
    pub(super) folder: tempfile::TempDir,
}

/// A file with a token.
fn token(folder: &std::path::Path, name: &str, token: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, token).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    path
}

impl Acting {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let scene = Scene::in_file(&path);
        let config = configuration::Serve {
            listen: "127.0.0.1:0".parse().expect("an address"),
            token_file: Some(token(folder.path(), "read", READ)),
            act_token_file: Some(token(folder.path(), "act", ACT)),
            ..configuration::Serve::default()
        };
        Self {
            server: Server::start_as(&config, archive(&path)),
            _scene: scene,
            folder,
        }
    }

    /// Sends JSON with the act token; gives status and answer.
    pub(super) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_text(path, &body.to_string(), "")
    }

    fn post_text(&self, path: &str, body: &str, headers: &str) -> (u16, Value) {
        let (status, _, answer) = self.server.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {ACT}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\
             Connection: close\r\n\r\n{body}",
            self.server.address,
            body.len()
        ));
        (status, serde_json::from_str(&answer).unwrap_or_default())
    }

    pub(super) fn get(&self, path: &str) -> Value {
        self.server.json(path)
    }
}

#[test]
fn a_verdict_goes_through_its_life_over_http() {
    let acting = Acting::start();
    let list = acting.get("/api/v1/verdicts");
    let total = list["total"].as_u64().expect("a number");
    assert!(total >= 2, "{list}");
    let new = list["verdicts"]
        .as_array()
        .and_then(|verdicts| verdicts.iter().find(|verdict| verdict["state"] == "new"))
        .expect("a new verdict");
    let path = format!("/api/v1/verdicts/{}", new["id"]);
    let before = acting.get(&path);
    assert_eq!(
        before["may_become"],
        serde_json::json!(["acknowledged", "notified", "resolved", "false_positive"])
    );
    let change = |state: &str, who: &str, why: &str| {
        let body = serde_json::json!({ "state": state, "who": who, "why": why });
        acting.post(&path, &body)
    };
    let (status, answer) = change("acknowledged", "anna", "the owner was called");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer, acting.get(&path));
    assert_eq!(answer["verdict"]["state"], "acknowledged");
    let told = || {
        acting
            .server
            .changed
            .load(std::sync::atomic::Ordering::SeqCst)
    };
    assert_eq!(told(), 1, "the agent is not told");
    let events = answer["events"].as_array().expect("events");
    assert_eq!(
        events.len(),
        before["events"].as_array().expect("events").len() + 1
    );
    let last = events.last().expect("an event");
    assert_eq!(
        (&last["who"], &last["from"], &last["to"], &last["why"]),
        (
            &"anna".into(),
            &"new".into(),
            &"acknowledged".into(),
            &"the owner was called".into()
        )
    );
    // The one that changed last comes first.
    let list = acting.get("/api/v1/verdicts");
    assert_eq!(list["verdicts"][0]["id"], new["id"]);

    for (state, who, why, expected, text) in [
        (
            "acknowledged",
            "anna",
            "again",
            409,
            "cannot become acknowledged",
        ),
        ("new", "anna", "again", 409, "cannot become new"),
        (
            "open",
            "anna",
            "x",
            422,
            "expected one of new, acknowledged",
        ),
        ("resolved", "", "x", 422, "who"),
        ("resolved", "smtpflow", "x", 422, "the name of a person"),
        ("resolved", "anna", " ", 422, "why"),
        ("resolved", "anna", "a\nb", 422, "one line"),
        ("resolved", "anna\u{1b}[2J", "x", 422, "one line"),
    ] {
        let (status, answer) = change(state, who, why);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, expected, "{state} {who:?} {why:?}: {answer}");
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(told(), 1, "the agent is told of a change that was refused");
    let after = acting.get(&path);
    assert_eq!(
        after, answer,
        "a change that was refused has changed something"
    );
}

#[test]
fn a_change_by_another_process_is_seen_in_the_next_list() {
    use crate::model::verdict::VerdictState;
    use crate::store::{PersonalChange, change_verdict};
    let acting = Acting::start();
    let states = |verdicts: &Value| -> Vec<(u64, String)> {
        let rows = verdicts["verdicts"].as_array().expect("a list").iter();
        rows.map(|row| {
            let state = row["state"].as_str().expect("a state");
            (row["id"].as_u64().expect("a number"), state.to_owned())
        })
        .collect()
    };
    let asked = "/api/v1/verdicts?sort=id&order=asc";
    let before = states(&acting.get(asked));
    // There is no new snapshot in between, and nothing tells this server.
    let (id, _) = before
        .iter()
        .find(|(_, state)| state == "new")
        .expect("a new verdict");
    let change = PersonalChange {
        id: *id,
        to: VerdictState::FalsePositive,
        who: "ben",
        why: "a list server",
        at: 1_700_000_000_000,
    };
    let changed = change_verdict(&acting.folder.path().join("store.db"), &change);
    assert!(changed.is_ok(), "it can be changed");
    let expected: Vec<_> = before
        .iter()
        .map(|(other, state)| match other == id {
            true => (*other, "false_positive".to_owned()),
            false => (*other, state.clone()),
        })
        .collect();
    assert_eq!(states(&acting.get(asked)), expected);
    let page = acting.server.get("/verdicts?filter=state:false_positive").2;
    assert!(page.contains(&format!("/verdicts/{id}\"")), "{page}");
}

#[test]
fn answers_about_verdicts_have_the_documented_fields_and_no_other() {
    let acting = Acting::start();
    for (path, fields) in [
        ("/api/v1/verdicts", verdicts_fields()),
        ("/api/v1/verdicts/1", verdict_fields()),
    ] {
        let mut have = Vec::new();
        paths(&acting.get(path), "", &mut have);
        have.sort();
        let mut documented: Vec<String> = fields.into_iter().map(|(path, _)| path).collect();
        documented.sort();
        assert_eq!(have, documented, "{path}");
    }
}

#[test]
fn verdicts_are_filtered_sorted_and_shown_as_csv() {
    let acting = Acting::start();
    let ids = |query: &str| -> Vec<u64> {
        let list = acting.get(&format!("/api/v1/verdicts?{query}"));
        let verdicts = list["verdicts"].as_array().expect("a list");
        verdicts
            .iter()
            .filter_map(|verdict| verdict["id"].as_u64())
            .collect()
    };
    let all = ids("sort=id&order=asc");
    assert!(all.len() >= 2 && all.is_sorted(), "{all:?}");
    assert_eq!(ids("sort=id&order=asc&limit=1&offset=1"), all[1..2]);
    assert_eq!(ids("filter=id%3D1"), [1]);
    let acknowledged = ids("filter=state:acknowledged%20detector:volume");
    assert_eq!(acknowledged, [1]);
    assert_eq!(ids("filter=state:open").len(), all.len());
    assert!(ids("filter=state:resolved").is_empty());
    let bot = format!("filter=net:{}", crate::report::tests::BOT);
    assert_eq!(ids(&bot), [1]);
    assert_eq!(ids("filter=net:192.0.2.0/24").len(), all.len());
    assert!(ids("filter=since:2026-12-01").is_empty());
    assert_eq!(ids("filter=since:2026-11-01").len(), all.len());
    assert!(ids("filter=severity:critical%20opened_at%3E2026-12-01").is_empty());
    for sort in List::<verdicts::Rows>::sorts() {
        assert_eq!(ids(&format!("sort={sort}")).len(), all.len(), "{sort}");
    }
    let (status, head, csv) = acting
        .server
        .get("/api/v1/verdicts?format=csv&sort=id&order=asc");
    assert_eq!(status, 200, "{csv}");
    assert!(head.contains("content-type: text/csv"), "{head}");
    assert_eq!(csv.lines().count(), all.len() + 1, "{csv}");
    assert!(
        csv.starts_with("id,subject,detector,severity,state,open,"),
        "{csv}"
    );
    for (query, position) in [("filter=state:shut", 7), ("filter=id%3D1%20net:x", 10)] {
        let (status, _, body) = acting.server.get(&format!("/api/v1/verdicts?{query}"));
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status, 400, "{body}");
        assert_eq!(problem["position"], position, "{body}");
    }
    assert_eq!(acting.server.get("/api/v1/verdicts?sort=who").0, 400);
}

#[test]
fn the_words_for_detectors_are_those_that_open_verdicts() {
    let accusing = crate::detect::DETECTORS
        .iter()
        .filter(|entry| entry.accuses);
    let names: Vec<_> = accusing.map(|entry| entry.name).collect();
    assert_eq!(verdicts::DETECTORS, names);
}

#[test]
fn what_is_no_change_is_refused() {
    let acting = Acting::start();
    let good = r#"{"state": "resolved", "who": "anna", "why": "x"}"#;
    for (path, body, expected, text) in [
        (
            "/api/v1/verdicts/999999",
            good,
            404,
            "there is no verdict 999999",
        ),
        (
            "/api/v1/verdicts/first",
            good,
            400,
            "the number of a verdict",
        ),
        ("/api/v1/verdicts/-1", good, 400, "the number of a verdict"),
        ("/api/v1/verdicts/1?state=new", good, 400, "no parameters"),
        ("/api/v1/verdicts/1", "", 400, "EOF"),
        ("/api/v1/verdicts/1", "{", 400, "EOF"),
        ("/api/v1/verdicts/1", "state=new", 400, "line 1 column 1"),
        (
            "/api/v1/verdicts/1",
            r#"{"state": "new", "who": "anna"}"#,
            400,
            "`why`",
        ),
        (
            "/api/v1/verdicts/1",
            r#"{"state": "new", "who": "a", "why": "b", "id": 2}"#,
            400,
            "unknown field `id`",
        ),
        ("/api/v1/verdicts", good, 405, "GET, HEAD"),
        ("/", good, 405, "GET, HEAD"),
        ("/nothing", good, 405, "GET, HEAD"),
    ] {
        let (status, answer) = acting.post_text(path, body, "");
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, expected, "{path} {body}: {answer}");
        assert!(error.contains(text), "{path} {body}: {error}");
    }
    let (status, head, body) = acting
        .server
        .send("PUT /api/v1/verdicts/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status, 405, "{body}");
    assert!(head.contains("allow: get, head, post"), "{head}");
    let missing = acting.server.get("/api/v1/verdicts/999999");
    assert_eq!(missing.0, 404, "{}", missing.2);
}

#[test]
fn a_body_is_of_one_kind_and_of_bounded_size_and_time() {
    let acting = Acting::start();
    let send = |headers: &str, body: &str| {
        let (status, _, answer) = acting.server.send(&format!(
            "POST /api/v1/verdicts/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {ACT}\r\n{headers}\r\n{body}"
        ));
        (status, answer)
    };
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonp\r\n",
    ] {
        let (status, answer) = send(&format!("{kind}Content-Length: 2\r\n"), "{}");
        assert_eq!(status, 415, "{kind}: {answer}");
    }
    let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
    let (status, answer) = send(&format!("{json}Content-Length: 2\r\n"), "{}");
    assert_eq!(status, 400, "{answer}");
    let long = "x".repeat((16 << 10) + 1);
    let (status, answer) = send(&format!("{json}Content-Length: {}\r\n", long.len()), &long);
    assert_eq!(status, 413, "{answer}");
    let chunked = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let (status, answer) = send(&format!("{json}Transfer-Encoding: chunked\r\n"), &chunked);
    assert_eq!(status, 413, "{answer}");
    // Somebody who never sends the rest does not stay.
    let start = Instant::now();
    let (status, answer) = send(&format!("{json}Content-Length: 10\r\n"), "{");
    assert_eq!(status, 408, "{answer}");
    assert!(start.elapsed() < REQUEST_TIME, "{:?}", start.elapsed());
}

#[test]
fn a_file_that_somebody_writes_to_is_waited_for_and_then_told() {
    let acting = Acting::start();
    let other = crate::store::hold(&acting.folder.path().join("store.db"));
    let body = serde_json::json!({ "state": "resolved", "who": "anna", "why": "x" });
    let start = Instant::now();
    let (status, answer) = acting.post("/api/v1/verdicts/1", &body);
    assert_eq!(status, 503, "{answer}");
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(error.contains("try again"), "{error}");
    assert!(start.elapsed() < REQUEST_TIME, "{:?}", start.elapsed());
    drop(other);
    let (status, answer) = acting.post("/api/v1/verdicts/1", &body);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn who_sends_a_token_as_bearer_is_not_asked_to_log_in() {
    let acting = Acting::start();
    let challenges = |authorization: &str| {
        let (status, head, _) = acting.server.send(&format!(
            "POST /api/v1/verdicts/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n"
        ));
        assert_eq!(status, 401, "{head}");
        let head = head.to_ascii_lowercase();
        let lines = head
            .lines()
            .filter(|line| line.starts_with("www-authenticate:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // The page that sent it says that it is wrong; a browser's own login would hide that.
    let [bearer] = &challenges("Authorization: Bearer wrong-wrong-wrong-wrong\r\n")[..] else {
        panic!("asked to log in");
    };
    assert!(bearer.contains("bearer"), "{bearer}");
    assert_eq!(challenges("").len(), 2);
    assert_eq!(challenges("Authorization: Basic eDp3cm9uZw==\r\n").len(), 2);
}

#[test]
fn nothing_is_changed_without_an_act_token_or_a_store() {
    let body = r#"{"state": "resolved", "who": "anna", "why": "x"}"#;
    let request = format!(
        "POST /api/v1/verdicts/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nAuthorization: Bearer {ACT}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, _, answer) = Server::start().send(&request);
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("serve.act_token_file"), "{answer}");

    let folder = tempfile::tempdir().expect("a folder");
    let mut config = configuration::Serve {
        listen: "127.0.0.1:0".parse().expect("an address"),
        act_token_file: Some(token(folder.path(), "act", ACT)),
        ..configuration::Serve::default()
    };
    let (status, _, answer) = Server::start_as(&config, None).send(&request);
    assert_eq!(status, 404, "{answer}");
    assert!(answer.contains("store.enabled"), "{answer}");

    // Whoever may read could change.
    config.token_file = Some(token(folder.path(), "read", &format!("{ACT}\n")));
    let failure = bind(&config).expect_err("one token for both");
    assert_eq!(failure.kind, Kind::BadConfig);
    let text = failure.to_string();
    assert!(
        text.contains("serve.act_token_file") && !text.contains(ACT),
        "{text}"
    );
}

#[test]
fn a_known_relay_is_added_and_ended_over_http() {
    let acting = Acting::start();
    let bot = crate::report::tests::BOT;
    let prefix = format!("{bot}/32");
    let path = "/api/v1/relays";
    let list = acting.get(path);
    assert_eq!(list["total"], 1, "{list}");
    assert_eq!(list["relays"][0]["origin"], "config");
    assert_eq!(list["relays"][0]["added_by"], Value::Null);
    let open = |net: &str| {
        acting.get(&format!("/api/v1/verdicts?filter=state:open%20net:{net}"))["total"].clone()
    };
    assert_eq!(open(&prefix), 1);

    let new = serde_json::json!({
        "prefix": prefix, "reason": "the relay of the staff", "owner": "postmaster@example.org",
        "expires": "2999-12-31", "who": "anna"
    });
    let (status, added) = acting.post(path, &new);
    assert_eq!(status, 201, "{added}");
    assert_eq!(added["relay"]["added_by"], "anna");
    assert_eq!(added["relay"]["active"], true);
    assert_eq!(added["resolved"], serde_json::json!([1]));
    let mut have = Vec::new();
    paths(&added, "", &mut have);
    let mut documented: Vec<String> = relay_change_fields()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    have.sort();
    documented.sort();
    assert_eq!(have, documented);
    assert_eq!(open(&prefix), 0);
    assert_eq!(
        acting
            .server
            .changed
            .load(std::sync::atomic::Ordering::SeqCst),
        1
    );
    let list = acting.get("/api/v1/relays?filter=origin:store%20active:yes");
    assert_eq!(list["relays"], serde_json::json!([added["relay"]]));
    let mut have = Vec::new();
    paths(&acting.get(path), "", &mut have);
    let mut documented: Vec<String> = relays_fields().into_iter().map(|(path, _)| path).collect();
    have.sort();
    documented.sort();
    assert_eq!(have, documented);
    // Whoever asks why is told the entry, and where it is from.
    let why = acting.get(&format!("/api/v1/sources/{bot}/why"));
    assert_eq!(why["unjudged"], "excused", "{why}");
    assert_eq!(
        why["excused_by"],
        serde_json::json!({
            "entry": prefix, "why": "the relay of the staff", "owner": "postmaster@example.org",
            "origin": "store"
        })
    );
    let (status, _, csv) = acting.server.get("/api/v1/relays?format=csv");
    assert_eq!((status, csv.lines().count()), (200, 3), "{csv}");

    let with = |name: &str, value: Value| {
        let mut body = new.clone();
        body[name] = value;
        body
    };
    for (body, expected, text) in [
        (new.clone(), 409, "added by anna"),
        (
            with("prefix", "192.0.2.128/25".into()),
            409,
            "of the configuration",
        ),
        (
            with("prefix", "198.51.100.0/24".into()),
            422,
            "own prefixes",
        ),
        (with("prefix", "192.0.0.0/16".into()), 422, "own prefixes"),
        (with("prefix", "192.0.2.67".into()), 422, "192.0.2.67/32"),
        (with("prefix", "192.0.2.67/24".into()), 422, "bits set"),
        (with("reason", "".into()), 422, "reason: "),
        (with("expires", "soon".into()), 422, "expires: "),
        (with("expires", "2020-01-01".into()), 422, "is over"),
        (with("connections", (-1).into()), 400, "line 1 column"),
        (with("until", "2030".into()), 400, "unknown field `until`"),
        (
            serde_json::json!({
                "prefix": "192.0.2.67/32", "reason": "a", "owner": "b", "who": "smtpflow"
            }),
            422,
            "the name of a person",
        ),
    ] {
        let (status, answer) = acting.post(path, &body);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, expected, "{body}: {answer}");
        assert!(error.contains(text), "{body}: {error}");
    }
    let end = |prefix: &str, why: &str| {
        let body = serde_json::json!({ "prefix": prefix, "who": "bob", "why": why });
        acting.post("/api/v1/relays/expire", &body)
    };
    for (prefix, why, expected, text) in [
        ("192.0.2.128/25", "x", 409, "of the configuration"),
        ("192.0.2.67/32", "x", 404, "no known relay"),
        ("all", "x", 422, "prefix: "),
        (&*prefix, "", 422, "why"),
    ] {
        let (status, answer) = end(prefix, why);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, expected, "{prefix}: {answer}");
        assert!(error.contains(text), "{prefix}: {error}");
    }
    let (status, ended) = end(&prefix, "it was moved");
    assert_eq!(status, 200, "{ended}");
    assert_eq!(ended["relay"]["ended_why"], "it was moved");
    assert_eq!(ended["relay"]["active"], false);
    assert_eq!(end(&prefix, "again").0, 404);
    let why = acting.get(&format!("/api/v1/sources/{bot}/why"));
    assert_eq!(why["unjudged"], Value::Null, "{why}");
    // What was is still told.
    let list = acting.get("/api/v1/relays?filter=origin:store");
    assert_eq!(list["relays"][0]["ended_by"], "bob");
    let (status, head, _) = acting.server.get("/api/v1/relays/expire");
    assert_eq!(status, 405);
    assert!(head.contains("allow: post"), "{head}");
}
