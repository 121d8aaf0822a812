//! Complaints over HTTP and on the pages, in a real store.

use serde_json::json;

use super::acting::Acting;
use super::*;
use crate::report::tests::BOT;

#[test]
fn a_complaint_is_noted_listed_and_withdrawn() {
    let acting = Acting::start();
    let path = "/api/v1/complaints";
    assert_eq!(acting.get(path)["total"], 0);
    let told = |addr: &str, reference: &str, time: &str| {
        let body = json!({
            "addr": addr, "kind": "spam", "reporter": "ISP.example", "who": "anna",
            "reference": reference, "time": time, "incidents": 2.0,
        });
        acting.post(path, &body)
    };
    let (status, added) = told(BOT, "t-1", "2026-11-04T12:00");
    assert_eq!(status, 201, "{added}");
    let complaint = &added["complaint"];
    for (field, value) in [
        ("addr", json!(BOT)),
        ("kind", json!("spam")),
        ("form", json!("hand")),
        ("reporter", json!("isp.example")),
        ("reference", json!("t-1")),
        ("at", json!("2026-11-04T12:00:00.000Z")),
        ("incidents", json!(2)),
        ("flagged", json!("before")),
        ("added_by", json!("anna")),
        ("withdrawn_at", Value::Null),
    ] {
        assert_eq!(complaint[field], value, "{field} of {added}");
    }
    let mut have = Vec::new();
    paths(&added, "", &mut have);
    let documented = complaint_change_fields().into_iter().map(|(path, _)| path);
    let mut documented: Vec<_> = documented.collect();
    documented.sort_unstable();
    have.sort_unstable();
    have.dedup();
    assert_eq!(have, documented);

    // A second one, of another month, and what is none.
    let (status, other) = told("192.0.2.99", "t-2", "2026-10-03T12:00");
    assert_eq!(
        (status, &other["complaint"]["flagged"]),
        (201, &json!("never")),
        "{other}"
    );
    let (status, again) = told(BOT, "t-1", "2026-11-04T12:00");
    assert_eq!(status, 409, "{again}");
    assert!(
        again["error"]
            .as_str()
            .is_some_and(|error| error.contains("by anna")),
        "{again}"
    );
    for (addr, time, expected) in [
        ("198.51.100.7", "2026-11-03", "none of your hosts"),
        ("127.0.0.1", "2026-11-03", "no host"),
        (BOT, "2026-13-03", "time: "),
        (BOT, "1999-01-01", "no time of a complaint"),
    ] {
        let (status, refused) = told(addr, "x", time);
        assert_eq!(status, 422, "{addr} {time}: {refused}");
        let error = refused["error"].as_str().unwrap_or_default();
        assert!(error.contains(expected), "{expected} in {error}");
    }
    for reference in ["x".repeat(201), "a\nb".to_owned(), " ".to_owned()] {
        let (status, refused) = told(BOT, &reference, "2026-11-04");
        assert_eq!(status, 422, "{reference:?}: {refused}");
    }
    let of_kind = json!({"addr": BOT, "kind": "noise", "reporter": "x", "who": "anna"});
    assert_eq!(acting.post(path, &of_kind).0, 422);

    // Lists.
    let numbers = |query: &str| -> Vec<u64> {
        let list = acting.get(&format!("{path}{query}"));
        let complaints = list["complaints"].as_array().expect("a list");
        assert_eq!(list["total"], complaints.len());
        complaints
            .iter()
            .filter_map(|one| one["id"].as_u64())
            .collect()
    };
    assert_eq!(numbers(""), [1, 2]);
    assert_eq!(numbers("?period=2026-10"), [2]);
    assert_eq!(numbers("?filter=addr:192.0.2.66"), [1]);
    assert_eq!(numbers("?filter=net:192.0.2.64/27"), [1]);
    assert_eq!(numbers("?filter=flagged:never"), [2]);
    assert_eq!(numbers("?filter=kind:infringement"), [0_u64; 0]);
    assert_eq!(numbers("?sort=at&order=asc"), [2, 1]);
    assert_eq!(acting.server.get(&format!("{path}?period=soon")).0, 400);
    let (status, _, csv) = acting.server.get(&format!("{path}?format=csv"));
    assert_eq!((status, csv.lines().count()), (200, 3), "{csv}");

    // The month knows of it, and so does the host.
    let report = acting.get("/api/v1/reports/2026-11");
    assert_eq!(report["scorecard"]["complaints"], 1);
    let (_, _, page) = acting.server.get("/report/2026-11");
    assert!(
        page.contains("Hosts that were reported, in 1 complaint<"),
        "{page}"
    );
    assert!(
        page.contains("href=\"/complaints?period=2026-11\""),
        "{page}"
    );
    let evidence = acting.get(&format!("/api/v1/sources/{BOT}/evidence"));
    assert_eq!(evidence["complaints_total"], 1, "{evidence}");
    assert_eq!(evidence["complaints"][0]["id"], 1, "{evidence}");
    assert_eq!(evidence["mail_log"], Value::Null);
    let (_, _, page) = acting.server.get(&format!("/host/{BOT}"));
    assert!(page.contains("Complaints about it"), "{page}");
    assert!(page.contains("isp.example"), "{page}");

    // Withdrawn, once.
    let withdraw = |id: u64| {
        let body = json!({"who": "bob", "why": "it was another network"});
        acting.post(&format!("{path}/{id}/withdraw"), &body)
    };
    let (status, gone) = withdraw(1);
    assert_eq!(status, 200, "{gone}");
    assert_eq!(gone["complaint"]["withdrawn_by"], "bob");
    assert_eq!(withdraw(1).0, 409);
    assert_eq!(withdraw(77).0, 404);
    assert_eq!(numbers("?filter=withdrawn:no"), [2]);
    assert_eq!(
        acting.get("/api/v1/reports/2026-11")["scorecard"]["complaints"],
        0
    );
    let (_, _, page) = acting.server.get("/complaints?period=2026-11");
    assert!(page.contains("it was another network"), "{page}");
    assert!(!page.contains("data-withdraw=\"1\""), "{page}");
    // Who may not change anything does not.
    let (status, _, _) = acting.server.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
         Connection: close\r\n\r\n{{}}",
        acting.server.address,
    ));
    assert_eq!(status, 401);
}
