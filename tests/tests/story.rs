//! The whole story of an abuse desk, with real parts in a laboratory, as docs/abuse-desk.md tells it: a bot sends and is
//! flagged, its owner is found in a router's table, the evidence is put together, a notice that a person has approved
//! arrives in a mailbox, a complaint comes back, and the scorecard moves.
//!
//! Each command of the page is printed as it is played, with what it says: `cargo xtask story` shows that.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use mailparse::{MailHeaderMap as _, parse_mail};
use serde_json::Value;
use smtp_user::model::period::{Tier, milliseconds};
use smtpflow_tests::owners::{finding, write};
use smtpflow_tests::page::Page;
use smtpflow_tests::story::{BOT, LIMIT, MONTH, Parts, SINKS, Story, tell};
use smtpflow_tests::totals;
use xtask::command::poll_until;
use xtask::lab::{Messages, Postfix, REFUSED};

/// What the story may take of one UTC hour, which detectors are about; and so of one month.
const NEEDED: u64 = 90_000;

/// The next hop of the bot's network, and who looks after that.
const DORMITORY: &str = "10.0.0.2";
const OWNER: &str = "it@owner.example";
/// What the bot does: messages to each sink, to the mail server whose log we have, and to nobody.
const TO_EACH_SINK: u32 = 5;
const TO_SERVER: u32 = 130;
const TO_NOBODY: u32 = 30;
const SENT: u32 = SINKS as u32 * TO_EACH_SINK + TO_SERVER + TO_NOBODY;

/// The messages in a maildir.
fn mails(maildir: &Path) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(maildir.join("new")) else {
        return Vec::new();
    };
    files
        .map(|file| fs::read(file.expect("a file").path()).expect("a message"))
        .collect()
}

fn arrives(maildir: &Path, server: &Postfix) -> Vec<u8> {
    assert!(
        poll_until(LIMIT, || !mails(maildir).is_empty()),
        "{}",
        server.log_text()
    );
    let mut found = mails(maildir);
    assert_eq!(found.len(), 1, "{}", server.log_text());
    found.remove(0)
}

/// Detectors are about UTC hours, and the story is about one of them.
fn wait_for_room_in_the_hour() {
    let hour = Tier::Hour.length().expect("an hour has a length");
    let left = hour - milliseconds(SystemTime::now()) % hour;
    if left < NEEDED {
        thread::sleep(Duration::from_millis(left));
    }
}

/// 1: a bot sends, and is flagged.
fn a_bot_sends(story: &Story, parts: &mut Parts) {
    let lab = &story.lab;
    let server = SocketAddr::new(lab.server_v4(0).into(), 25);
    tell("ann writes two letters, and a machine in the dormitory writes to the world");
    for _ in 0..2 {
        lab.swaks("ann", server, &[]).expect("a letter");
    }
    let to = |count| Messages {
        count,
        parallel: 4,
        size: 2000,
        ..Messages::default()
    };
    // First to the one server, or whom it writes to most would depend on when the first verdict is made.
    lab.send("bot", server, to(TO_SERVER), LIMIT).expect("spam");
    for index in 0..SINKS {
        let sink = SocketAddr::new(lab.server_v4(2 + index).into(), 25);
        lab.send("bot", sink, to(TO_EACH_SINK), LIMIT)
            .expect("spam");
    }
    let (count, target) = (TO_NOBODY.to_string(), format!("inet:{server}"));
    lab.run(
        "bot",
        "smtp-source",
        &["-A", "-m", &count, "-t", REFUSED, &target],
        LIMIT,
    )
    .expect("spam to nobody");
    parts.agent.wait_drained(LIMIT).expect("a drain");
    let flagged = story.json("smtpflow verdicts");
    let hosts = flagged["verdicts"].as_array().expect("verdicts");
    assert!(hosts.len() > 1, "{flagged}");
    let bot = BOT.to_string();
    assert!(
        hosts
            .iter()
            .all(|verdict| verdict["subject"] == bot.as_str()),
        "{flagged}"
    );
    story.play("smtpflow why 192.0.2.130");
    let host = story.json("smtpflow host 192.0.2.130");
    assert_eq!(host["totals"]["connections"], SENT, "{host}");
}

/// 2: its owner is in the router's table and the file with contacts.
fn its_owner_is_found(story: &Story) {
    tell("whose host is it?");
    story.play("smtpflow owner 192.0.2.130");
    let owner = story.json("smtpflow owner 192.0.2.130");
    assert_eq!(owner["owner"]["mail"][0], OWNER, "{owner}");
    let found = finding(&owner, "routers");
    assert_eq!(found["route"]["next_hop"], DORMITORY, "{owner}");
    assert_eq!(finding(&owner, "contacts")["outcome"], "nobody", "{owner}");
}

/// 3: the log, the relay test, and both in the folder.
fn the_evidence_is_put_together(story: &Story, parts: &mut Parts) {
    tell("what has our own mail server logged of it?");
    let taken = TO_SERVER as usize;
    let is_read = || {
        let log = parts.server.log_text();
        let known = story.json("smtpflow maillog --followed --addr 192.0.2.130");
        let client = &known["clients"][0];
        log.matches(": removed\n").count() > taken
            && client["sent"] == TO_SERVER
            && client["rejected"] == TO_NOBODY
    };
    assert!(poll_until(LIMIT, is_read), "{}", parts.server.log_text());
    story.play("smtpflow maillog --followed --addr 192.0.2.130");
    tell("does it relay for strangers?");
    story.play("smtpflow relay-test 192.0.2.130");
    tell("all of it in a folder that can be handed on");
    let capture = parts.capture.take().expect("it was begun");
    assert_eq!(capture.stop().expect("a capture").dropped, 0);
    story.play(
        "smtpflow evidence 192.0.2.130 --output case-1 --maillog /var/log/mail.log --pcap gateway.pcap",
    );
    story.play("cd case-1 && sha256sum --check SHA256SUMS");
    story.play("cd case-1 && smtpflow replay host.pcap");
    let file = story.lab.folder().join("case-1/evidence.json");
    let pack: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    assert_eq!(
        pack["relay_test"]["outcome"], "open",
        "{}",
        pack["relay_test"]
    );
    let owner = pack["owner"].to_string();
    assert!(owner.contains("Dormitory Magdalena"), "{owner}");
    let client = &pack["mail_log"]["clients"][0];
    assert_eq!(
        [
            &client["messages"],
            &client["recipients"],
            &client["rejected"]
        ],
        [TO_SERVER, TO_SERVER, TO_NOBODY],
        "{client}"
    );
    let latest = client["latest"].as_array().expect("messages");
    let sender = |message: &Value| message["sender"] == "client.example";
    assert!(latest.iter().any(sender), "only domains are kept: {client}");
    assert_eq!(pack["host"]["totals"]["connections"], SENT);
    let counted = &pack["capture"]["counted"];
    assert_eq!(totals(counted), totals(&pack["host"]["totals"]));
    let missing = pack["missing"].as_array().expect("a list");
    let asked = |part: &Value| {
        ["relay_test", "mail_log", "capture"]
            .iter()
            .any(|name| part["part"] == *name)
    };
    assert!(!missing.iter().any(asked), "{missing:?}");
}

/// 4: a person approves what the owner is told, and it arrives.
fn the_owner_is_told(story: &Story, parts: &Parts) {
    tell("what would its owner be told?");
    // What became of a connection is counted when it is over.
    let are_over = || {
        let host = story.json("smtpflow host 192.0.2.130");
        let outcomes = &host["totals"]["outcomes"];
        let of = |name: &str| outcomes[name].as_u64().unwrap_or(0);
        of("answered") + of("delivered") + of("rejected") == u64::from(SENT)
    };
    if !poll_until(LIMIT, are_over) {
        panic!("{:#}", story.json("smtpflow host 192.0.2.130"));
    }
    story.play("smtpflow notice preview 192.0.2.130");
    tell("it waits for a person, and nothing leaves before");
    story.play("smtpflow notice run --once");
    story.play("smtpflow notice list");
    let inbox = parts.desk.mailbox();
    let listed = story.json("smtpflow notice list");
    assert_eq!(
        (&listed["total"], &listed["notices"][0]["state"]),
        (&1.into(), &"waiting".into()),
        "{listed}"
    );
    assert!(mails(&inbox).is_empty(), "nobody has approved it");
    assert!(
        !parts.desk.log_text().contains("status="),
        "{}",
        parts.desk.log_text()
    );
    story.play(
        "smtpflow notice approve 1 --who ada --why \"looked at the evidence, an open relay\"",
    );
    assert!(mails(&inbox).is_empty(), "nobody has sent it");
    story.play("smtpflow notice run --once");
    let mail = arrives(&inbox, &parts.desk);
    story.play(
        "grep --no-filename --extended-regexp \
         \"^(From|To|Subject|Auto-Submitted|Content-Type: multipart)\" ~dormitory/Maildir/new/*",
    );
    let notice = story.json("smtpflow notice show 1");
    assert_eq!(notice["notice"]["state"], "sent", "{notice}");
    let events = notice["events"].as_array().expect("events");
    assert!(events.iter().any(|event| event["who"] == "ada"), "{notice}");
    let mail = parse_mail(&mail).expect("a message");
    let to = mail.headers.get_first_value("To").expect("To");
    assert!(to.contains(OWNER), "{to}");
    let received = mail.headers.get_first_value("Received").expect("a way");
    assert!(received.contains("ESMTPS"), "not through TLS: {received}");
    let text = mail.subparts[0].get_body().expect("text");
    for part in [
        "Dormitory Magdalena".to_owned(),
        BOT.to_string(),
        format!("connections             {SENT} (servers: {})", SINKS + 1),
        format!(
            "logs of mail servers    messages: {TO_SERVER}, recipients: {TO_SERVER}, refused: {TO_NOBODY}"
        ),
    ] {
        assert!(text.contains(&part), "no {part:?} in:\n{text}");
    }
    let report = mail.subparts[2].get_body().expect("JSON");
    let report: Value = serde_json::from_str(&report).expect("XARF");
    assert_eq!(report["source_identifier"], BOT.to_string(), "{report}");
    // Once is enough.
    assert!(story.typed("smtpflow notice run --once").status.success());
    assert_eq!(story.json("smtpflow notice list")["total"], 1);
    assert_eq!(mails(&inbox).len(), 1);
    tell("what it was about is notified, in the name of who approved it");
    story.play("smtpflow verdicts");
    let verdicts = story.json("smtpflow verdicts");
    let verdict = &verdicts["verdicts"][0];
    assert_eq!(verdict["state"], "notified", "{verdicts}");
}

/// 5: somebody complains, and the scorecard moves.
fn the_world_answers(story: &Story, parts: &Parts) {
    tell("nobody has complained yet");
    story.play("smtpflow report --month 2026-11");
    let report = format!("smtpflow report --month {MONTH}");
    let before = story.json(&report);
    let card = &before["scorecard"];
    assert_eq!(
        [
            &card["complaints"],
            &card["mail"]["hosts"],
            &card["mail"]["flagged_before"],
            &card["unconfirmed"]["part"],
            &card["precision"]["part"],
        ],
        [0, 0, 0, 1, 1],
        "{card}"
    );
    tell("a provider's feedback loop writes to the desk");
    let message = write(story.lab.folder(), "arf.eml", &complaint());
    let (server, data) = (story.desk.v4.to_string(), format!("@{}", message.display()));
    story
        .lab
        .run(
            "servers",
            "swaks",
            &[
                "--server",
                &server,
                "--helo",
                "mx.isp.example",
                "--from",
                "fbl@isp.example",
                "--to",
                "abuse@desk.example",
                "--data",
                &data,
                "--hide-all",
            ],
            LIMIT,
        )
        .expect("the complaint is taken");
    arrives(&parts.desk.complaints(), &parts.desk);
    story.play("smtpflow complaint import ~abuse/Maildir --who ada");
    story.play("smtpflow complaint list");
    tell("and the scorecard moves");
    story.play("smtpflow report --month 2026-11");
    let after = story.json(&report);
    let card = &after["scorecard"];
    assert_eq!(
        [
            &card["complaints"],
            &card["mail"]["hosts"],
            &card["mail"]["flagged_before"],
            &card["unconfirmed"]["part"],
            &card["precision"]["part"],
        ],
        [1, 1, 1, 0, 1],
        "{card}"
    );
    let lead = card["mail"]["median_lead_milliseconds"].as_u64();
    assert!(
        lead.is_some_and(|lead| (1..NEEDED).contains(&lead)),
        "{card}"
    );
}

/// What the feedback loop of a provider sends (RFC 5965).
fn complaint() -> String {
    format!(
        "From: Feedback <fbl@isp.example>\nTo: <abuse@desk.example>\nSubject: FW: Earn money\n\
         Date: Fri, 27 Nov 2026 14:00:00 +0000\nMessage-ID: <fbl-1@isp.example>\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"part\"\n\n\
         --part\nContent-Type: text/plain; charset=us-ascii\n\n\
         This is an email abuse report for a message received from {BOT}.\n\n\
         --part\nContent-Type: message/feedback-report\n\n\
         Feedback-Type: abuse\nUser-Agent: Feedback/1.0\nVersion: 1\nSource-IP: {BOT}\n\
         Original-Mail-From: <sender@client.example>\nReported-Domain: client.example\n\n\
         --part\nContent-Type: text/rfc822-headers\n\n\
         From: sender@client.example\nSubject: Earn money\n\n--part--\n"
    )
}

#[test]
fn a_bot_is_found_told_of_and_complained_about() {
    wait_for_room_in_the_hour();
    let mut story = Story::prepare();
    let mut parts = story.begin();
    a_bot_sends(&story, &mut parts);
    its_owner_is_found(&story);
    the_evidence_is_put_together(&story, &mut parts);
    the_owner_is_told(&story, &parts);
    the_world_answers(&story, &parts);
    story.is_told();
    assert!(parts.agent.stop().expect("the agent ends").success());
    tell("the end");
}

#[test]
fn a_page_that_shows_what_is_not_said_is_refused() {
    let page = Page::new(
        "```toml\n[a]\n```\n```console\n$ count 192.0.2.7\nall   3 of 192.0.2.7\n...\nlast 1a2\n$ rest\n```\n\
         ```toml\nb = 1\n```\n"
            .to_owned(),
    );
    assert_eq!(page.blocks("toml"), "[a]\nb = 1\n");
    let [count, rest] = &page.commands()[..] else {
        panic!("two commands");
    };
    let said = count.shorten("all 12 of 192.0.2.7\n\nmore\nlast ABCDEFABCD\n");
    let expected = ["all 12 of 192.0.2.7", "...", "last ABCDEFABCD"];
    assert_eq!(said.expect("as shown"), expected);
    for (said, error) in [
        ("all 3 of 192.0.2.8\nlast 1\n", "shows \"all   3"),
        ("some 3 of 192.0.2.7\nlast 1\n", "shows \"all   3"),
        ("all 3 of 192.0.2.7\n", "shows \"last"),
        (
            "all 3 of 192.0.2.7\nlast 1\nmore\n",
            "does not show \"more\"",
        ),
    ] {
        let found = count.shorten(said).expect_err(said);
        assert!(found.contains(error), "{found}");
    }
    let played = page.with(&[vec!["all 4 of 192.0.2.7".to_owned()], vec!["x".to_owned()]]);
    assert_eq!(
        Page::new(played).blocks("console"),
        "$ count 192.0.2.7\nall 4 of 192.0.2.7\n$ rest\nx\n"
    );
    assert!(rest.shorten("").expect("nothing").is_empty());
    rest.shorten("x\n").expect_err("nothing is shown");
}
