//! What is known of the host beside what was counted, as the page shows it.

use serde_json::Value;

use super::super::complaints::Shown as Complaint;
use crate::report::document::Table;
use crate::report::{mail_log, relay_test};
use crate::serve::evidence::{Evidence, Part};

/// See the module.
pub(super) struct Shown {
    pub(super) mail_log: Part<[Table; 3]>,
    /// The outcome, what the test was, and what was asked.
    pub(super) relay_test: Part<(String, [Table; 2])>,
    pub(super) complaints: Part<(Vec<Complaint>, usize)>,
}

impl From<Evidence> for Shown {
    fn from(evidence: Evidence) -> Self {
        let Evidence {
            mail_log,
            relay_test,
            complaints,
        } = evidence;
        Self {
            mail_log: shown(mail_log, |client| {
                mail_log::tables(&serde_json::to_value(client).unwrap_or_default())
            }),
            relay_test: shown(relay_test, |report: Value| {
                let [facts, patterns, _] = relay_test::tables(&report);
                let outcome = report["outcome"].as_str().unwrap_or_default();
                (outcome.to_owned(), [facts, patterns])
            }),
            complaints: shown(complaints, |(rows, total)| {
                (rows.into_iter().map(Complaint::from).collect(), total)
            }),
        }
    }
}

fn shown<T, U>(part: Part<T>, show: impl FnOnce(T) -> U) -> Part<U> {
    match part {
        Part::Off => Part::Off,
        Part::Not(why) => Part::Not(why),
        Part::Known(known) => Part::Known(show(known)),
    }
}

#[cfg(test)]
mod tests {
    use askama::Template;
    use serde_json::json;

    use super::*;
    use crate::maillog::{Figures, Message};
    use crate::model::complaint::StoredComplaint;
    use crate::model::complaint::tests::{NOW, complaint};
    use crate::report::mail_log::JsonClient;
    use crate::report::scorecard::Flagged;
    use crate::serve::page::filters;
    use crate::serve::page::tests::{HOSTILE, assert_escaped};

    #[derive(Template)]
    #[template(path = "evidence.html")]
    struct Piece {
        evidence: Shown,
        address: std::net::IpAddr,
        foreign: bool,
    }

    fn piece(evidence: Evidence) -> String {
        piece_of(evidence, false)
    }

    fn piece_of(evidence: Evidence, foreign: bool) -> String {
        let piece = Piece {
            evidence: evidence.into(),
            address: [192, 0, 2, 7].into(),
            foreign,
        };
        piece.render().expect("a part of a page")
    }

    #[test]
    fn what_servers_logs_and_strangers_say_is_text() {
        for text in HOSTILE {
            let message = Message {
                time: 1_795_780_800,
                queue_id: text.to_owned(),
                sender: Some(text.to_owned()),
                recipients: vec![text.to_owned()],
                recipient_count: 1,
                size: Some(77_777),
                sent: 1,
                deferred: 0,
                bounced: 0,
                relay: None,
                rejected: None,
            };
            let figures = Figures {
                messages: 4711,
                latest: [message].into(),
                ..Figures::default()
            };
            let mut told = complaint("192.0.2.7", NOW);
            text.clone_into(&mut told.reporter);
            let stored = StoredComplaint {
                id: 12,
                complaint: told,
                added_at: NOW,
                added_by: text.to_owned(),
                withdrawn: None,
            };
            let page = piece(Evidence {
                mail_log: Part::Known(JsonClient::new([192, 0, 2, 7].into(), figures)),
                relay_test: Part::Known(json!({
                    "outcome": text, "greeting": text, "detail": text,
                    "patterns": [{"name": "percent", "outcome": "open", "code": 250, "mail": text, "rcpt": text}],
                })),
                complaints: Part::Known((vec![(stored, Flagged::Never)], 31)),
            });
            assert_escaped(&page, text);
            let shown = page.replace("<bdi>", "").replace("</bdi>", "");
            for words in [
                "4711",
                "77777",
                "2026-11-27 12:00:00",
                "percent",
                "1 of 31",
                ">12<",
            ] {
                assert!(shown.contains(words), "no {words} in:\n{page}");
            }
            let page = piece(Evidence {
                mail_log: Part::Not(text.to_owned()),
                relay_test: Part::Not(text.to_owned()),
                complaints: Part::Not(text.to_owned()),
            });
            assert_escaped(&page, text);
        }
    }

    #[test]
    fn nobody_is_asked_to_complain_about_hosts_of_others() {
        let evidence = || Evidence {
            mail_log: Part::Off,
            relay_test: Part::Off,
            complaints: Part::Known((Vec::new(), 0)),
        };
        assert!(piece_of(evidence(), false).contains("Note one"));
        assert_eq!(piece_of(evidence(), true).trim(), "");
    }

    #[test]
    fn what_is_off_is_not_there() {
        let page = piece(Evidence {
            mail_log: Part::Off,
            relay_test: Part::Off,
            complaints: Part::Off,
        });
        assert_eq!(page.trim(), "");
    }
}
