//! Notices through a real command in the place of sendmail.

use super::*;

/// A command that does this.
fn command(folder: &Path, script: &str) -> Settings {
    let path = folder.join("sendmail");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("closed");
    Settings {
        relay: None,
        sendmail: Some(path),
        ..settings(1)
    }
}

#[test]
fn a_command_gets_the_message_and_recipients_that_are_no_options() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let script = format!(
        "for a in \"$@\"; do echo \"$a\" >> {0}; done; cat > {0}.mail",
        out.display()
    );
    let attempt = send(
        &command(folder.path(), &script),
        LONG,
        &["a@x.example", "-oQ/tmp@x.example"],
    );
    assert!(
        attempt
            .outcomes
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Taken),
        "{attempt:?}"
    );
    let arguments = fs::read_to_string(&out).expect("arguments");
    assert_eq!(
        arguments,
        "-i\n-f\nabuse@example.org\n--\na@x.example\n-oQ/tmp@x.example\n"
    );
    assert_eq!(
        fs::read(folder.path().join("out.mail")).expect("a message"),
        MESSAGE
    );
}

#[test]
fn whatever_a_command_does_it_is_known_what_may_have_become_of_the_message() {
    for (script, expected, said) in [
        ("cat > /dev/null; exit 75", Outcome::Later, "75"),
        ("exit 67", Outcome::Refused, "67"),
        ("exit 1", Outcome::Later, "1"),
        ("kill -9 $$", Outcome::Unknown, "signal"),
        ("echo no queue >&2; exit 75", Outcome::Later, "no queue"),
        ("exec yes >&2", Outcome::Unknown, "nothing came"),
        ("exec sleep 100", Outcome::Unknown, "nothing came"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let time = if said == "nothing came" { SHORT } else { LONG };
        let attempt = send(&command(folder.path(), script), time, &["a@x.example"]);
        assert_eq!(
            attempt.outcomes[0].1, expected,
            "{script}: {}",
            attempt.reply
        );
        assert!(attempt.reply.contains(said), "{script}: {}", attempt.reply);
    }
    let attempt = send(
        &Settings {
            relay: None,
            sendmail: Some("/nonexistent/sendmail".into()),
            ..settings(1)
        },
        LONG,
        &["a@x.example"],
    );
    assert_eq!(attempt.outcomes[0].1, Outcome::Later);
    assert!(
        attempt.reply.contains("notice.sendmail"),
        "{}",
        attempt.reply
    );
}
