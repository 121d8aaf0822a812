//! Notices over HTTP: listed, shown, decided once, by whom and why.

use serde_json::json;

use super::acting::Acting;
use super::*;
use crate::model::notice::{
    Fate, Notice, NoticeChange, NoticeEvent, NoticeKind, NoticeState, Recipient,
};
use crate::model::person::SMTPFLOW;
use crate::report::tests::BOT;
use crate::store::NoticeLedger;

/// A notice about the bot that waits.
pub(super) fn waiting(id: u64, text: &str) -> NoticeChange {
    let at = 1_793_800_000_000;
    let notice = Notice {
        id,
        case: None,
        kind: NoticeKind::First,
        state: NoticeState::Waiting,
        recipients: vec![Recipient {
            mail: "it@physics.example".to_owned(),
            fate: Fate::Pending,
        }],
        hosts: vec![format!("{BOT}/32").parse().expect("a prefix")],
        made_at: at,
        changed_at: at,
        expires_at: at + 1,
        next_at: at,
        attempts: 0,
        left_at: None,
        message_id: format!("{id}@example.org"),
        subject: text.to_owned(),
        text: format!("one\n{text}"),
        message: format!("Subject: x\r\n\r\n{text}\r\n").into_bytes(),
        last_reply: Some(text.to_owned()),
    };
    let event = NoticeEvent {
        notice: id,
        at,
        who: SMTPFLOW.to_owned(),
        from: None,
        to: NoticeState::Waiting,
        why: "made".to_owned(),
    };
    NoticeChange::Made(notice, event)
}

#[test]
fn a_notice_is_listed_shown_and_decided_once() {
    let acting = Acting::start();
    let empty = acting.get("/api/v1/notices");
    assert_eq!(
        (&empty["total"], &empty["notices"]),
        (&json!(0), &json!([]))
    );
    let ledger = NoticeLedger::take(&acting.folder.path().join("store.db")).expect("a ledger");
    ledger
        .write(&[waiting(1, "the first"), waiting(2, "the second")])
        .expect("written");
    let list = acting.get("/api/v1/notices?filter=state:waiting");
    assert_eq!(
        (&list["total"], &list["notices"][0]["id"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(list["notices"][0]["recipients"][0]["fate"], "pending");
    let one = acting.get("/api/v1/notices/1");
    assert_eq!(one["text"], "one\nthe first");
    assert_eq!(one["may_become"], json!(["approved", "rejected"]));
    for (path, fields) in [
        ("/api/v1/notices", notices_fields()),
        ("/api/v1/notices/1", notice_fields()),
    ] {
        let mut have = Vec::new();
        paths(&acting.get(path), "", &mut have);
        have.sort();
        have.dedup();
        let mut documented: Vec<String> = fields.into_iter().map(|(path, _)| path).collect();
        documented.sort();
        assert_eq!(have, documented, "{path}");
    }

    let decide = |id: u64, state: &str, who: &str| {
        let body = json!({"state": state, "who": who, "why": "looked at it"});
        acting.post(&format!("/api/v1/notices/{id}"), &body)
    };
    let (status, life) = decide(1, "approved", "Ada");
    assert_eq!(status, 200, "{life}");
    assert_eq!(life["notice"]["state"], "approved");
    assert_eq!(
        (&life["events"][1]["who"], &life["events"][1]["why"]),
        (&json!("Ada"), &json!("looked at it"))
    );
    assert_eq!(life["may_become"], json!(["rejected"]));
    let (status, _) = decide(2, "rejected", "Ada");
    assert_eq!(status, 200);
    for (id, state, who, expected) in [
        (1, "approved", "Ada", 409),
        (2, "approved", "Ada", 409),
        (9, "approved", "Ada", 404),
        // No person has sent it, or is the agent.
        (1, "sent", "Ada", 422),
        (1, "superseded", "Ada", 422),
        (1, "nonsense", "Ada", 422),
        (1, "rejected", "smtpflow", 422),
    ] {
        let (status, answer) = decide(id, state, who);
        assert_eq!(status, expected, "{id} {state} {who}: {answer}");
    }
    let (_, _, page) = acting.server.get("/notices");
    assert!(
        page.contains("href=\"/notices/1\"") && page.contains("the second"),
        "{page}"
    );
    let (_, _, page) = acting.server.get("/notices/1");
    assert!(
        page.contains("<bdi>the first</bdi>") && page.contains("looked at it"),
        "{page}"
    );
    let (_, _, page) = acting.server.get(&format!("/host/{BOT}"));
    assert!(
        page.contains("What its owner was told") && page.contains("href=\"/notices/2\""),
        "{page}"
    );
}
