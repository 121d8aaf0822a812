//! A relay test, for people.

use serde_json::Value;

use super::document::{Document, Table, number, text};
use super::mail_log::{cell, rows};
use crate::answer::answer;
use crate::model::relay_test::{Finding, RelayTest, Speaker};

impl RelayTest {
    /// As tables.
    pub fn document(&self) -> Document {
        let Self {
            schema: _,
            target,
            port,
            started_at,
            seconds,
            finding,
            greeting,
            host_name,
            starttls,
            recipient,
            token,
            cautions,
            connections,
            commands,
            octets,
            patterns,
            transcript,
        } = self;
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let facts = [
            ("started", started_at.clone()),
            ("took", format!("{seconds:.1}s")),
            ("port", port.to_string()),
            ("greeting", or_none(greeting)),
            ("calls_itself", or_none(host_name)),
            ("starttls", starttls.name().to_owned()),
            ("relayed_to", recipient.clone()),
            ("token", or_none(token)),
            ("connections", connections.to_string()),
            ("commands", commands.to_string()),
            ("octets_read", octets.to_string()),
        ];
        let mut notes = vec![finding.detail.clone()];
        notes.extend(cautions.iter().map(|caution| format!("caution: {caution}")));
        Document {
            title: format!("Relay test of {target}: {}", outcome(finding)),
            notes,
            tables: vec![
                Table {
                    columns: vec![text("what"), text("value")],
                    ..Table::facts("test", "the test", &facts)
                },
                Table {
                    name: "patterns",
                    title: "patterns".to_owned(),
                    columns: vec![
                        text("pattern"),
                        text("outcome"),
                        number("code"),
                        text("mail"),
                        text("rcpt"),
                        text("what_happened"),
                    ],
                    rows: patterns
                        .iter()
                        .map(|tested| {
                            let Finding {
                                outcome,
                                code,
                                detail,
                            } = &tested.finding;
                            vec![
                                tested.name.to_owned(),
                                outcome.name().to_owned(),
                                code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
                                tested.mail.clone(),
                                tested.rcpt.clone(),
                                detail.clone(),
                            ]
                        })
                        .collect(),
                    ..Table::default()
                },
                Table {
                    name: "reasons",
                    title: "why each pattern is tried".to_owned(),
                    columns: vec![text("pattern"), text("why")],
                    rows: patterns
                        .iter()
                        .map(|tested| vec![tested.name.to_owned(), tested.why.to_owned()])
                        .collect(),
                    ..Table::default()
                },
                Table {
                    name: "transcript",
                    title: "transcript".to_owned(),
                    columns: vec![number("at_ms"), text("who"), text("said")],
                    rows: transcript
                        .iter()
                        .map(|line| {
                            let who = match line.who {
                                Speaker::Client => "C:",
                                Speaker::Server => "S:",
                                Speaker::Note => "--",
                            };
                            vec![line.at_ms.to_string(), who.to_owned(), line.text.clone()]
                        })
                        .collect(),
                    ..Table::default()
                },
            ],
        }
    }
}

/// The report of a test as tables: the test, its patterns, its transcript. `test` is the JSON of a
/// [`RelayTest`], of whatever version of smtpflow it is.
pub(crate) fn tables(test: &Value) -> [Table; 3] {
    let facts = [
        "started_at",
        "outcome",
        "code",
        "detail",
        "greeting",
        "starttls",
        "recipient",
        "token",
    ];
    [
        Table {
            columns: vec![text("what"), text("value")],
            ..Table::facts(
                "relay_test",
                "the last relay test",
                &facts.map(|key| (key, cell(&test[key]))),
            )
        },
        Table {
            name: "relay_patterns",
            title: "what it was asked to relay".to_owned(),
            columns: vec![
                text("pattern"),
                text("outcome"),
                number("code"),
                text("mail"),
                text("rcpt"),
            ],
            rows: rows(
                &test["patterns"],
                &["name", "outcome", "code", "mail", "rcpt"],
            ),
            ..Table::default()
        },
        Table {
            name: "relay_transcript",
            title: "all that was said in the relay test".to_owned(),
            columns: vec![number("at_ms"), text("who"), text("said")],
            rows: rows(&test["transcript"], &["at_ms", "who", "text"]),
            ..Table::default()
        },
    ]
}

answer! {
    /// A pattern of a relay test.
    pub(crate) struct JsonPattern {
        /// Its name.
        name: String,
        /// What came of it.
        outcome: String,
        /// The reply that was decisive, or null.
        code: Option<u64>,
        /// The first command.
        mail: String,
        /// The second command.
        rcpt: String,
    }
}

answer! {
    /// A relay test.
    pub(crate) struct JsonRelayTest {
        /// When it began.
        started_at: String,
        /// closed, refused, rejected, accepted_but, open or unclear.
        outcome: String,
        /// The reply that was decisive, or null.
        code: Option<u64>,
        /// What happened.
        detail: String,
        /// What the server said first, or null.
        greeting: Option<String>,
        /// Whether it offers STARTTLS.
        starttls: String,
        /// To whom it was asked to relay.
        recipient: String,
        /// What it was asked to relay.
        patterns: Vec<JsonPattern> [JsonPattern],
    }
}

impl From<&Value> for JsonRelayTest {
    fn from(test: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let patterns = test["patterns"].as_array().map(Vec::as_slice);
        let pattern = |pattern: &Value| JsonPattern {
            name: text(&pattern["name"]),
            outcome: text(&pattern["outcome"]),
            code: pattern["code"].as_u64(),
            mail: text(&pattern["mail"]),
            rcpt: text(&pattern["rcpt"]),
        };
        Self {
            started_at: text(&test["started_at"]),
            outcome: text(&test["outcome"]),
            code: test["code"].as_u64(),
            detail: text(&test["detail"]),
            greeting: test["greeting"].as_str().map(str::to_owned),
            starttls: text(&test["starttls"]),
            recipient: text(&test["recipient"]),
            patterns: patterns.unwrap_or_default().iter().map(pattern).collect(),
        }
    }
}

/// With the code where one was decisive.
fn outcome(finding: &Finding) -> String {
    match finding.code {
        Some(code) => format!("{} ({code})", finding.outcome.name()),
        None => finding.outcome.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::relay_test::{RelayOutcome, StartTls, TestedPattern, TranscriptLine};
    use crate::report::document::tests::HOSTILE;

    #[test]
    fn the_answer_stands_first_and_what_the_server_said_stays_on_its_line() {
        let finding = |detail: &str| Finding {
            outcome: RelayOutcome::Rejected,
            code: Some(554),
            detail: detail.to_owned(),
        };
        let test = RelayTest {
            schema: 1,
            target: "192.0.2.7".parse().expect("an address"),
            port: 25,
            started_at: "2026-11-27T07:00:00.000Z".to_owned(),
            seconds: 1.25,
            finding: finding("2 of 2 patterns"),
            greeting: Some(HOSTILE.to_owned()),
            host_name: None,
            starttls: StartTls::Offered,
            recipient: "relay-test@example.org".to_owned(),
            token: None,
            cautions: vec!["look".to_owned()],
            connections: 1,
            commands: 3,
            octets: 99,
            patterns: vec![TestedPattern {
                name: "plain",
                why: "a stranger writes to a stranger",
                mail: "MAIL FROM:<a@example.org>".to_owned(),
                rcpt: "RCPT TO:<relay-test@example.org>".to_owned(),
                finding: finding(HOSTILE),
            }],
            transcript: vec![TranscriptLine {
                at_ms: 12,
                who: Speaker::Server,
                text: HOSTILE.to_owned(),
            }],
        };
        let text = test.document().text();
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("Relay test of 192.0.2.7: rejected (554)")
        );
        assert_eq!(lines.next(), Some("2 of 2 patterns"));
        assert_eq!(lines.next(), Some("caution: look"));
        assert!(!text.contains('\u{1b}'), "{text}");
        let json = serde_json::to_value(&test).expect("a form in JSON");
        assert_eq!(
            (&json["outcome"], &json["code"]),
            (&"rejected".into(), &554.into())
        );
        assert_eq!(json["patterns"][0]["outcome"], "rejected");
        assert_eq!(
            (&json["starttls"], &json["transcript"][0]["who"]),
            (&"offered".into(), &"server".into())
        );
    }
}
