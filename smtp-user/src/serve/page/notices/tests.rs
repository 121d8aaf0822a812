//! The screens of notices, with what strangers may have written into them.

use super::super::super::fixture;
use super::super::tests::{HOSTILE, assert_escaped, assert_proper};
use super::*;
use crate::model::notice::{NoticeKind, Recipient};

fn notice(text: &str, state: NoticeState) -> Notice {
    Notice {
        id: 12,
        case: Some(3),
        kind: NoticeKind::First,
        state,
        recipients: vec![
            Recipient {
                mail: text.to_owned(),
                fate: Fate::Refused,
            },
            Recipient {
                mail: "it@physics.example".to_owned(),
                fate: Fate::Pending,
            },
        ],
        hosts: [
            "192.0.2.66/32",
            "2001:db8::/64",
            "192.0.2.67/32",
            "192.0.2.68/32",
        ]
        .map(|host| host.parse().expect("a prefix"))
        .to_vec(),
        made_at: 1_793_800_000_000,
        changed_at: 1_793_800_000_000,
        expires_at: 1_793_900_000_000,
        next_at: 1_793_800_000_000,
        attempts: 1,
        left_at: None,
        message_id: "a@example.org".to_owned(),
        subject: text.to_owned(),
        text: format!("first\n\n  {text}"),
        message: format!("Subject: x\r\n\r\n{text}\r\n").into_bytes(),
        last_reply: Some(text.to_owned()),
    }
}

fn event(text: &str) -> NoticeEvent {
    NoticeEvent {
        notice: 12,
        at: 1_793_800_000_000,
        who: text.to_owned(),
        from: None,
        to: NoticeState::Waiting,
        why: text.to_owned(),
    }
}

#[test]
fn what_strangers_have_written_is_text() {
    let snapshot = fixture::snapshot(&fixture::rows());
    for text in HOSTILE {
        let notice = notice(text, NoticeState::Waiting);
        let one = One {
            layout: Layout::new(&snapshot, Screen::Notices).of("#12"),
            life: Life::new(&notice, &[event(text)]),
        };
        let one = one.render().expect("a page");
        assert_escaped(&one, text);
        for part in [
            "data-notice=\"12\" data-to=\"approved\"",
            "data-notice=\"12\" data-to=\"rejected\"",
            "href=\"/host/2001:db8::\">2001:db8::/64</a>",
            "<small>the relay has refused it</small>",
            "<p><bdi>first</bdi></p><p><bdi></bdi></p><p><bdi>  ",
        ] {
            assert!(one.contains(part), "no {part} in:\n{one}");
        }
        let list = Page {
            layout: Layout::new(&snapshot, Screen::Notices),
            lists: Vec::new(),
            filter: String::new(),
            total: 1,
            rows: vec![Row::from(&notice)],
            json: "/api/v1/notices".to_owned(),
            csv: "/api/v1/notices?format=csv".to_owned(),
            earlier: None,
            later: None,
            enabled: false,
        };
        let list = list.render().expect("a page");
        assert_escaped(&list, text);
        for part in [
            "href=\"/notices/12\"",
            "and 1 more",
            "Notices are switched off",
            "aria-current=\"page\">Notices</a>",
        ] {
            assert!(list.contains(part), "no {part} in:\n{list}");
        }
    }
}

#[test]
fn only_what_can_be_decided_has_a_button() {
    let snapshot = fixture::snapshot(&fixture::rows());
    let buttons = |state| {
        let one = One {
            layout: Layout::new(&snapshot, Screen::Notices),
            life: Life::new(&notice("x", state), &[]),
        };
        let page = one.render().expect("a page");
        assert_proper(&page);
        page.matches("data-notice=").count()
    };
    assert_eq!(buttons(NoticeState::Waiting), 2);
    assert_eq!(buttons(NoticeState::Approved), 1);
    assert_eq!(buttons(NoticeState::Sent), 0);
}

#[test]
fn a_long_message_is_cut_and_says_so() {
    let mut notice = notice("x", NoticeState::Sent);
    notice.message = "line\r\n".repeat(LINES + 1234).into_bytes();
    let life = Life::new(&notice, &[]);
    assert_eq!((life.message.len(), life.cut), (LINES, 1234));
}
