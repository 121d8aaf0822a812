//! What is known of a host beside what was counted, as clients meet it.

use std::path::Path;

use super::reading::served;
use super::*;
use crate::maillog::books::Books;
use crate::report::tests::BOT;

/// A desk that knows whose the bot is, what mail logs say of it, and whether it relays.
pub(super) fn desk(folder: &Path) -> Config {
    let name = |name: &str| folder.join(name).display().to_string();
    let write = |path: &str, text: &str| std::fs::write(folder.join(path), text).expect("written");
    write("contacts.csv", "prefix,name\n192.0.2.0/24,Physics\n");
    for path in ["relay-test/reports", "maillog"] {
        std::fs::create_dir_all(folder.join(path)).expect("a folder");
    }
    let report = r#"{"outcome": "rejected", "code": 554, "patterns": [{"name": "plain", "outcome": "rejected", "code": 554}]}"#;
    write(&format!("relay-test/reports/{BOT}.json"), report);
    let text = format!(
        "[serve]\nlisten = \"127.0.0.1:0\"\n[networks]\nlocal = [\"192.0.2.0/24\"]\n\
         [owner]\norder = [\"contacts\"]\ncontacts = [{:?}]\n\
         [relay_test]\nenabled = true\nrecipient = \"desk@abuse.example.org\"\nstate = {:?}\n\
         [maillog]\nfiles = [\"/var/log/mail.log\"]\nstate = {:?}\n",
        name("contacts.csv"),
        name("relay-test"),
        name("maillog"),
    );
    let config = Config::from_toml("test", &text).expect("a configuration");
    let now = jiff::Timestamp::now();
    let limits = (&config.maillog).into();
    let mut books = Books::new(jiff::tz::TimeZone::UTC, now.as_second(), limits);
    for (daemon, text) in [
        ("smtpd", format!("4ABCD12345: client=unknown[{BOT}]")),
        (
            "qmgr",
            "4ABCD12345: from=<a@b.example>, size=9, nrcpt=1 (queue active)".to_owned(),
        ),
        (
            "smtpd",
            format!(
                "NOQUEUE: reject: RCPT from unknown[{BOT}]: 554 5.7.1 <x@y>: Relay access denied"
            ),
        ),
        ("qmgr", "4ABCD12345: removed".to_owned()),
    ] {
        books.line(format!("{now:.0} mx postfix/{daemon}[1]: {text}").as_bytes());
    }
    books.save(&config.maillog.state).expect("saved");
    config
}

#[test]
fn what_is_known_beside_counts_is_in_the_api_and_on_the_page() {
    let served = served();
    let evidence = served
        .server
        .json(&format!("/api/v1/sources/{BOT}/evidence"));
    assert_eq!(evidence["missing"], serde_json::json!([]), "{evidence}");
    let log = &evidence["mail_log"];
    assert_eq!(
        (
            &log["messages"],
            &log["rejected"],
            &log["rejects"][0]["reason"]
        ),
        (&1.into(), &1.into(), &"relay".into()),
        "{log}"
    );
    assert_eq!(log["latest"][0]["queue_id"], "4ABCD12345", "{log}");
    assert_eq!(evidence["relay_test"]["code"], 554);
    assert_eq!(evidence["complaints_total"], 1);
    let (_, _, page) = served.server.get(&format!("/host/{BOT}"));
    let page = page.replace("<bdi>", "").replace("</bdi>", "");
    for part in [
        "Whether it relays for strangers: rejected",
        "4ABCD12345",
        "Complaints about it",
        "isp.example",
        "Physics",
    ] {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
    // What is of another host, or not configured.
    let other = served.server.json("/api/v1/sources/198.51.100.7/evidence");
    assert_eq!(other["mail_log"], Value::Null);
    assert_eq!(other["missing"][0]["part"], "mail_log", "{other}");
    assert_eq!(
        other["missing"].as_array().map(Vec::len),
        Some(1),
        "{other}"
    );
    let bare = Server::start().json(&format!("/api/v1/sources/{BOT}/evidence"));
    assert_eq!(bare["missing"], serde_json::json!([]), "{bare}");
    assert_eq!(bare["complaints_total"], 0);
}
