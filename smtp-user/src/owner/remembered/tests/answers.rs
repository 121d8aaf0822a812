//! Answers of servers.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use super::super::answers;
use super::*;
use crate::model::owner::Contact;
use crate::owner::cache::{Answer, MOST};

const KEEP_NOBODY: Duration = Duration::from_secs(100);

fn now() -> u64 {
    milliseconds(SystemTime::now())
}

fn asked(whois: &str) -> Asked {
    Asked::from([
        (OwnerSource::Whois, vec![whois.to_owned()]),
        (OwnerSource::Rdap, Vec::new()),
    ])
}

fn found() -> Outcome {
    Outcome::Found {
        contact: Contact {
            name: "Dépôt <b>".to_owned(),
            mail: vec!["abuse@example.org".to_owned()],
            phone: Some("+49 30 1".to_owned()),
            note: None,
        },
        network: Some("192.0.2.0/24".to_owned()),
        route: None,
    }
}

fn nobody() -> Outcome {
    Outcome::Nobody {
        reason: "it names nobody for abuse".to_owned(),
        route: None,
    }
}

/// An answer that came at this time.
fn answer(outcome: Outcome, came: u64) -> Answer {
    Answer {
        provenance: "whois://whois.example.net:43".to_owned(),
        outcome,
        at: Instant::now(),
        came,
    }
}

fn keep(folder: &Path, answers: Vec<(OwnerSource, &str, Answer)>) {
    let mut cache = Cache::new(KEEP, KEEP_NOBODY);
    for (source, address, answer) in answers {
        cache.put(source, ip(address), answer);
    }
    remembered(folder).keep_answers(&asked("a:43"), &cache);
}

fn recalled(folder: &Path, asked: &Asked) -> Cache {
    let mut cache = Cache::new(KEEP, KEEP_NOBODY);
    remembered(folder).answers(asked, &mut cache);
    cache
}

fn count(cache: &Cache) -> usize {
    cache.fresh(Instant::now()).count()
}

#[test]
fn answers_come_back_with_their_age() {
    let folder = folder();
    let path = folder.path();
    let (whois, rdap) = (OwnerSource::Whois, OwnerSource::Rdap);
    keep(
        path,
        vec![
            (whois, "192.0.2.1", answer(found(), now() - 400_000)),
            (rdap, "192.0.2.1", answer(nobody(), now() - 50_000)),
            // Older than they are used.
            (whois, "192.0.2.2", answer(found(), now() - 1_001_000)),
            (whois, "192.0.2.3", answer(nobody(), now() - 101_000)),
            // From the future.
            (whois, "192.0.2.4", answer(found(), now() + 60_000)),
        ],
    );
    let cache = recalled(path, &asked("a:43"));
    let clock = Instant::now();
    assert_eq!(count(&cache), 2);
    let kept = cache.get(whois, ip("192.0.2.1"), clock).expect("an answer");
    assert_eq!(kept.outcome, found());
    assert_eq!(kept.provenance, "whois://whois.example.net:43");
    let age = clock.duration_since(kept.at).as_secs();
    assert!((400..410).contains(&age), "{age}");
    let kept = cache.get(rdap, ip("192.0.2.1"), clock).expect("an answer");
    assert_eq!(kept.outcome, nobody());
    assert!(
        cache
            .get(rdap, ip("192.0.2.1"), clock + 49 * SECOND)
            .is_some()
    );
    assert!(
        cache
            .get(rdap, ip("192.0.2.1"), clock + 50 * SECOND)
            .is_none()
    );
    // Others are asked now: what was said is of no interest.
    let other = recalled(path, &asked("b:43"));
    assert_eq!(count(&other), 1);
    assert!(other.get(rdap, ip("192.0.2.1"), clock).is_some());
    // And whoever wants to ask anew does so.
    let mut fresh = remembered(path);
    fresh.ignore();
    let mut cache = Cache::new(KEEP, KEEP_NOBODY);
    fresh.answers(&asked("a:43"), &mut cache);
    assert_eq!(count(&cache), 0);
    assert_eq!(
        fs::metadata(path.join(answers::NAME))
            .expect("a file")
            .mode()
            & 0o777,
        0o600
    );
}

#[test]
fn processes_add_to_what_others_have_kept() {
    let folder = folder();
    let path = folder.path();
    let whois = OwnerSource::Whois;
    let earlier = now() - 10_000;
    keep(path, vec![(whois, "192.0.2.1", answer(found(), earlier))]);
    keep(path, vec![(whois, "192.0.2.2", answer(found(), earlier))]);
    keep(path, vec![(whois, "192.0.2.2", answer(nobody(), now()))]);
    // It is older than what is there.
    keep(path, vec![(whois, "192.0.2.2", answer(found(), earlier))]);
    let cache = recalled(path, &asked("a:43"));
    let get = |address| {
        cache
            .get(whois, ip(address), Instant::now())
            .expect("an answer")
    };
    assert_eq!(get("192.0.2.1").outcome, found());
    assert_eq!(get("192.0.2.2").outcome, nobody());
    // What is from the future gives way, as a clock that was set back would keep it for ever.
    keep(
        path,
        vec![(whois, "192.0.2.3", answer(found(), now() + 600_000))],
    );
    keep(path, vec![(whois, "192.0.2.3", answer(nobody(), now()))]);
    assert_eq!(count(&recalled(path, &asked("a:43"))), 3);
}

#[test]
fn only_so_many_answers_are_kept() {
    let folder = folder();
    let mut cache = Cache::new(KEEP, KEEP_NOBODY);
    for host in 0..u32::try_from(MOST).expect("a number") {
        let address = std::net::Ipv4Addr::from(host);
        let came = now() - 10_000 + u64::from(host);
        cache.put(OwnerSource::Whois, address.into(), answer(found(), came));
    }
    remembered(folder.path()).keep_answers(&asked("a:43"), &cache);
    keep(
        folder.path(),
        vec![(OwnerSource::Rdap, "192.0.2.1", answer(found(), now()))],
    );
    let begun = Instant::now();
    let cache = recalled(folder.path(), &asked("a:43"));
    println!("{MOST} answers in {:?}", begun.elapsed());
    assert_eq!(count(&cache), MOST);
    // The oldest has given way.
    assert!(
        cache
            .get(OwnerSource::Whois, ip("0.0.0.0"), begun)
            .is_none()
    );
    assert!(
        cache
            .get(OwnerSource::Rdap, ip("192.0.2.1"), Instant::now())
            .is_some()
    );
}

#[test]
fn what_is_damaged_is_not_used_and_is_replaced() {
    let folder = folder();
    let path = folder.path();
    let file = path.join(answers::NAME);
    let put = || {
        keep(
            path,
            vec![(OwnerSource::Whois, "192.0.2.1", answer(found(), now()))],
        );
    };
    put();
    let good = fs::read(&file).expect("the file");
    let used = || count(&recalled(path, &asked("a:43")));
    assert_eq!(used(), 1);
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 4;
        fs::write(&file, bad).expect("written");
        assert_eq!(used(), 0, "octet {i}");
        fs::write(&file, &good[..i]).expect("written");
        assert_eq!(used(), 0, "{i} octets");
    }
    put();
    assert_eq!(used(), 1);
    // Too large to be looked at.
    File::create(&file)
        .and_then(|file| file.set_len(65 << 20))
        .expect("a large file");
    assert_eq!(used(), 0);
    fs::remove_file(&file).expect("removed");
    assert_eq!(used(), 0);
}

#[test]
fn what_no_source_says_is_not_used_though_its_checksum_is_right() {
    let folder = folder();
    let path = folder.path();
    let asked = r#"{"whois":["a:43"],"rdap":[]}"#;
    let file = |said: &str, provenance: &str| {
        format!(
            "{{\"asked\":{asked},\"answers\":[{{\"source\":\"whois\",\"address\":\"192.0.2.1\",\"at\":{},\
             \"provenance\":{provenance},\"said\":{said}}}]}}",
            now()
        )
    };
    let good = r#"{"found":{"name":"a","mail":["a@b.example"],"phone":null,"network":null}}"#;
    let used = |text: &str| {
        let opened = Folder::open(path).expect("a folder");
        opened
            .write(answers::NAME, text.as_bytes())
            .expect("written");
        count(&recalled(path, &self::asked("a:43")))
    };
    assert_eq!(used(&file(good, "\"x\"")), 1);
    let many = format!("[{}]", ["\"a@b.example\""; 9].join(","));
    let long = format!("\"{}\"", "x".repeat(5000));
    let with = |from: &str, to: &str| good.replace(from, to);
    for (said, provenance) in [
        (with("a@b.example", "a@b.example\\r\\nBcc: x@y.z"), "\"x\""),
        (with("[\"a@b.example\"]", &many), "\"x\""),
        (with("\"name\":\"a\"", "\"name\":\"\\u001b[2J\""), "\"x\""),
        (with("\"network\":null", "\"network\":\"\\u202e\""), "\"x\""),
        (with("\"phone\":null", "\"phone\":\"\\n\""), "\"x\""),
        (
            with("\"phone\":null", "\"phone\":null,\"note\":\"x\""),
            "\"x\"",
        ),
        (good.to_owned(), "\"\\n\""),
        (good.to_owned(), long.as_str()),
        ("{\"failed\":{\"reason\":\"x\"}}".to_owned(), "\"x\""),
        ("{\"nobody\":{\"reason\":\"\\u0000\"}}".to_owned(), "\"x\""),
    ] {
        assert_eq!(used(&file(&said, provenance)), 0, "{said} {provenance}");
    }
    for text in [
        "",
        "[]",
        "{}",
        &file(good, "\"x\"").replace("\"at\":", "\"at\":-"),
    ] {
        assert_eq!(used(text), 0, "{text}");
    }
}
