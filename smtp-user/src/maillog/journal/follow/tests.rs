//! Against programs that write what journalctl does, and what it should not.

use std::fs;
use std::path::Path;

use super::*;

const LIMIT_OF_TESTS: Duration = Duration::from_secs(20);

/// The entry of this number, as journalctl writes it, with this message as it stands in JSON.
fn line(number: u32, message: &str) -> String {
    format!(
        "{{\"__CURSOR\":\"s=5a1b;i={number:x};b=77c0;m={number:x};t={number:x};x=9e{number:x}\",\
         \"__REALTIME_TIMESTAMP\":\"{}\",\"_HOSTNAME\":\"mx1\",\"SYSLOG_IDENTIFIER\":\"postfix/qmgr\",\
         \"MESSAGE\":{message}}}\n",
        1_795_773_600_000_000 + u64::from(number)
    )
}

fn lines(numbers: impl IntoIterator<Item = u32>) -> String {
    let line = |number| line(number, &format!("\"{number}\""));
    numbers.into_iter().map(line).collect()
}

/// What a shell does in the place of journalctl; `$0` is a file, and the words are those of journalctl.
fn started(script: &str, file: &Path, place: &Place) -> Follower {
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(file);
    Follower::new(Started::start(command, place.clone()).expect("started"))
}

/// All that a journalctl writes that prints this and ends, and how it ended.
fn read(text: &str, place: &Place) -> (Vec<String>, Follower, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lines");
    fs::write(&file, text).expect("written");
    let mut follower = started("exec cat \"$0\"", &file, place);
    let mut found = Vec::new();
    let end = drain(&mut follower, &mut found);
    (found, follower, end)
}

/// Reads until the end.
fn drain(follower: &mut Follower, found: &mut Vec<String>) -> String {
    let begun = Instant::now();
    loop {
        let polled = follower.poll(&mut |entry| {
            found.push(String::from_utf8_lossy(&entry.message).into_owned());
        });
        if let Err(end) = polled {
            return end;
        }
        assert!(begun.elapsed() < LIMIT_OF_TESTS, "it does not end");
    }
}

fn new() -> Place {
    Place::from_now(UNIX_EPOCH + Duration::from_micros(1_795_773_600_000_001))
}

/// A place behind the entry of this number.
fn behind(number: u32) -> Place {
    let (_, follower, _) = read(&lines([number]), &new());
    follower.place().clone()
}

fn texts(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| number.to_string())
        .collect()
}

#[test]
fn it_begins_at_its_place_and_knows_nothing_of_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("words");
    let script = "{ for word; do echo \"$word\"; done; pwd; env | grep -c CARGO; } > \"$0\"";
    for (place, begin) in [
        (new(), "--since=@1795773600.000001"),
        (behind(10), "--cursor=s=5a1b;i=a;b=77c0;m=a;t=a;x=9ea"),
    ] {
        drain(&mut started(script, &file, &place), &mut Vec::new());
        let text = fs::read_to_string(&file).expect("what it was told");
        let words: Vec<&str> = text.lines().collect();
        for word in [
            "--follow",
            "--no-tail",
            "--output=json",
            "SYSLOG_FACILITY=2",
            begin,
        ] {
            assert!(words.contains(&word), "{word}: {text}");
        }
        assert_eq!(words[words.len() - 2..], ["/", "0"], "{text}");
    }
}

#[test]
fn each_entry_comes_once_wherever_it_was_stopped() {
    let (found, follower, _) = read(&lines(1..=5), &new());
    assert_eq!(found, texts(1..=5));
    assert_eq!((follower.counts().entries, follower.gaps()), (5, 0));
    for stop in 1..=5 {
        // journalctl begins with the entry that was read last.
        let (found, follower, _) = read(&lines(stop..=5), &behind(stop));
        assert_eq!(found, texts(stop + 1..=5), "stopped behind {stop}");
        assert_eq!(follower.gaps(), 0, "stopped behind {stop}");
        assert_eq!(follower.place().cursor, behind(5).cursor);
    }
    // Nothing has come since.
    let (found, follower, _) = read("", &behind(3));
    assert_eq!((found.len(), follower.gaps()), (0, 0));
    assert_eq!(follower.place().cursor, behind(3).cursor);
}

#[test]
fn an_entry_that_was_vacuumed_is_a_gap_and_no_end() {
    let (found, follower, _) = read(&lines(7..=9), &behind(3));
    assert_eq!(found, texts(7..=9));
    assert_eq!(follower.gaps(), 1);
    // The same again from there.
    let (found, follower, _) = read(&lines(9..=10), &follower.place().clone());
    assert_eq!((found, follower.gaps()), (texts([10]), 0));
}

#[test]
fn what_cannot_be_read_is_counted_and_costs_only_itself() {
    let longest = format!("\"{}\"", "x".repeat(crate::maillog::line::LINE_LIMIT));
    let longer = format!("\"x{}", &longest[1..]);
    let without_place = lines([5]).replace("__CURSOR", "__OTHER");
    let text = [
        lines([1]),
        format!("{{\"x\":\"{}\"}}\n", "x".repeat(LIMIT)),
        "nonsense\n\n{}\n".to_owned(),
        line(2, "null"),
        line(3, &longer),
        without_place,
        line(4, &longest),
        // Without its end it may be half of one.
        lines([6]).trim_end().to_owned(),
    ]
    .concat();
    let (found, follower, _) = read(&text, &new());
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].len(), crate::maillog::line::LINE_LIMIT);
    let counts = JournalCounts {
        entries: 2,
        hidden: 2,
        unread: 5,
    };
    assert_eq!(follower.counts(), counts);
    // What has a place is behind it, also if it says nothing.
    let (_, follower, _) = read(&[lines([1]), line(2, "null")].concat(), &new());
    assert_eq!(follower.place().cursor, behind(2).cursor);
    // A message of octets that are no text.
    let (found, _, _) = read(&line(1, "[65,255,27]"), &new());
    assert_eq!(found, ["A\u{fffd}\u{1b}"]);
}

#[test]
fn its_end_is_said_once() {
    let nowhere = Path::new("/");
    let mut follower = started("exit 7", nowhere, &new());
    assert_eq!(follower.place().ended, None);
    let end = drain(&mut follower, &mut Vec::new());
    assert_eq!(end, "it has ended with exit status: 7");
    assert!(follower.place().ended.is_some());
    assert_eq!(follower.poll(&mut |_| panic!("an entry")), Ok(false));
    // In the next life it is started again.
    let follower = started("exit 7", nowhere, &follower.place().clone());
    assert_eq!(follower.place().ended, None);
    // What is not there cannot be started, which is no end of the agent's.
    let failure = Started::start(Command::new("/no/such/journalctl"), new()).expect_err("none");
    assert!(failure.to_string().contains("without systemd"), "{failure}");
}

#[test]
fn a_poll_waits_for_nobody_and_takes_turns() {
    let mut follower = started("exec sleep 5", Path::new("/"), &new());
    let begun = Instant::now();
    assert_eq!(follower.poll(&mut |_| panic!("an entry")), Ok(false));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lines");
    fs::write(&file, lines(1..=100)).expect("written");
    // It writes for ever, once it has begun to.
    let mut follower = started("exec yes \"$(cat \"$0\")\"", &file, &new());
    let mut count = 0_u32;
    let start = Instant::now();
    loop {
        let begun = Instant::now();
        let polled = follower.poll(&mut |_| count += 1);
        assert!(begun.elapsed() < 3 * TURN, "{:?}", begun.elapsed());
        if polled == Ok(true) {
            break;
        }
        assert!(start.elapsed() < LIMIT_OF_TESTS, "{polled:?}");
    }
    assert!(count > 0);
    // Whoever reads it goes, however that happens, and so does it.
    let Follower {
        mut child, output, ..
    } = follower;
    assert!(child.try_wait().expect("its state").is_none());
    drop(output);
    let begun = Instant::now();
    while child.try_wait().expect("its state").is_none() {
        assert!(begun.elapsed() < LIMIT_OF_TESTS, "it does not end");
        thread::sleep(PAUSE);
    }
}
