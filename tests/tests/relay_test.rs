//! `smtpflow relay-test` against real mail servers, as a user without any right, in a laboratory: what is
//! open is found, what is closed is not accused, and who is not to be tested gets no packet.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use smtpflow_tests::relay_desk::{Desk, LIMIT, RECIPIENT, named, outcomes, transcript};
use xtask::command::{self, finish};
use xtask::lab::{Lab, Relaying, smtpflow_binary};

#[test]
fn postfix_closed_open_and_half_open() {
    let desk = Desk::new(
        "sfrelay",
        5,
        &["203.0.113.0/24", "2001:db8:5::/64"],
        "data = true",
    );
    let lab = &desk.lab;
    let at = |index: u16| [lab.server_v4(index).into(), lab.server_v6(index).into()];
    let closed = lab.postfix_for(Relaying::Nobody, &at(0)).expect("postfix");
    let open = lab
        .postfix_for(Relaying::Everybody, &at(1))
        .expect("postfix");
    let _half = lab
        .postfix_for(Relaying::OwnSenders, &at(2))
        .expect("postfix");
    let no_message = lab
        .postfix_for(Relaying::NoMessage, &at(3))
        .expect("postfix");

    for address in at(0) {
        let test = desk.test(address, 0);
        assert_eq!(test["outcome"], "rejected", "{test}");
        let found = outcomes(&test);
        assert_eq!(
            named(&found, "rejected").len(),
            found.len(),
            "{found:?}\n{}",
            transcript(&test)
        );
        assert_eq!(test["patterns"][0]["code"], 554, "{test}");
        assert_eq!(
            (&test["host_name"], &test["starttls"]),
            (&"mta.example".into(), &"not_offered".into())
        );
        assert!(
            transcript(&test).contains("client EHLO probe.example.net\n"),
            "{}",
            transcript(&test)
        );
        assert!(
            !transcript(&test).contains("client DATA\n"),
            "{}",
            transcript(&test)
        );
    }
    assert!(
        !closed.log_text().contains("status=sent"),
        "{}",
        closed.log_text()
    );

    for address in at(1) {
        let test = desk.test(address, 0);
        assert_eq!(
            (&test["outcome"], &test["code"]),
            (&"open".into(), &250.into()),
            "{test}"
        );
        let found = outcomes(&test);
        assert_eq!(named(&found, "open"), ["plain"], "{found:?}");
        // One message is enough, whatever else is accepted.
        assert_eq!(transcript(&test).matches("client DATA\n").count(), 1);
        let token = test["token"].as_str().expect("a token");
        assert!(transcript(&test).contains(&format!("client X-Smtpflow-Relay-Test: {token}\n")));
    }
    let sent = || {
        let log = open.log_text();
        let sent = log.lines().filter(|line| line.contains("status=sent"));
        sent.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(
        command::poll_until(Duration::from_secs(20), || sent().len() >= 2),
        "{}",
        open.log_text()
    );
    let sent = sent();
    assert_eq!(sent.len(), 2, "{sent:#?}");
    assert!(
        sent.iter()
            .all(|line| line.contains(&format!("to=<{RECIPIENT}>"))),
        "{sent:#?}"
    );

    let test = desk.test(lab.server_v4(2), 0);
    assert_eq!(test["outcome"], "open", "{test}");
    let found = outcomes(&test);
    assert!(named(&found, "rejected").contains(&"plain"), "{found:?}");
    assert!(
        named(&found, "open").contains(&"sender_at_host"),
        "{found:?}"
    );

    let test = desk.test(lab.server_v4(3), 0);
    assert_eq!(test["outcome"], "accepted_but", "{test}");
    let detail = test["patterns"][0]["detail"].as_str().expect("a detail");
    assert!(
        detail.starts_with("RCPT was accepted, and DATA answered with: 554"),
        "{detail}"
    );
    assert!(
        !no_message.log_text().contains("status=sent"),
        "{}",
        no_message.log_text()
    );

    let test = desk.test(lab.server_v4(4), 0);
    assert_eq!(test["outcome"], "closed", "{test}");

    // For people, with everything that was said.
    desk.forget();
    let text = desk.run(&lab.server_v4(0).to_string(), &[]).stdout;
    assert!(
        text.starts_with("Relay test of 203.0.113.10: rejected (554)\n"),
        "{text}"
    );
    for part in [
        "route_by_host",
        "RCPT TO:<@mta.example:relay-test@",
        "S:",
        "554 5.7.1",
        "why each pattern",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn opensmtpd_closed_and_open() {
    let desk = Desk::new("sfrelayo", 2, &["203.0.113.0/24"], "");
    let lab = &desk.lab;
    let _closed = lab
        .opensmtpd(&[lab.server_v4(0).into()], false)
        .expect("OpenSMTPD");
    let _open = lab
        .opensmtpd(&[lab.server_v4(1).into()], true)
        .expect("OpenSMTPD");
    let test = desk.test(lab.server_v4(0), 0);
    assert_eq!(test["outcome"], "rejected", "{}", transcript(&test));
    assert_eq!(test["host_name"], "open.example", "{test}");
    let test = desk.test(lab.server_v4(1), 0);
    assert_eq!(test["outcome"], "accepted_but", "{}", transcript(&test));
    assert!(
        named(&outcomes(&test), "accepted_but").contains(&"plain"),
        "{test}"
    );
    assert!(
        !transcript(&test).contains("client DATA\n"),
        "{}",
        transcript(&test)
    );
}

/// Packets that the desk has sent, to whomever, but for what its kernel says to its neighbours by itself.
fn packets(lab: &Lab) -> u64 {
    let counters = lab.run(
        "desk",
        "nft",
        &["--json", "list", "counter", "inet", "watch", "sent"],
        LIMIT,
    );
    let counters: Value = serde_json::from_str(&counters.expect("counters")).expect("JSON");
    let list = counters["nftables"].as_array().expect("a list");
    let counter = list
        .iter()
        .find_map(|entry| entry["counter"]["packets"].as_u64());
    counter.unwrap_or_else(|| panic!("no counter in {counters}"))
}

#[test]
fn who_is_none_of_ours_gets_no_packet() {
    let desk = Desk::new("sfrelayn", 4, &["203.0.113.10/31", "2001:db8:5::a/128"], "");
    let lab = &desk.lab;
    // Whoever is asked would answer, redirecting text included.
    let others = [lab.server_v4(2), lab.server_v4(3)].map(|v4| SocketAddr::new(v4.into(), 25));
    let _sinks = lab.sinks(&others, &[]).expect("smtp-sink");
    let rules = "table inet watch { counter sent {}; chain out { type filter hook output priority 0; \
                 meta l4proto != icmpv6 counter name sent; }; }";
    let file = lab.folder().join("watch.nft");
    std::fs::write(&file, rules).expect("written");
    lab.run(
        "desk",
        "nft",
        &["--file", &file.display().to_string()],
        LIMIT,
    )
    .expect("rules");

    let outside = lab.server_v4(2).to_string();
    for address in [
        outside.as_str(),
        &format!("::ffff:{outside}"),
        &lab.server_v6(2).to_string(),
        "203.0.113.9",
        "198.51.100.1",
        "::203.0.113.10",
        "64:ff9b::cb00:710a",
        "2002:cb00:710a::1",
    ] {
        let error = desk.refused(address, 77);
        assert!(error.contains("is not tested: "), "{address}: {error}");
    }
    for loopback in ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254"] {
        desk.refused(loopback, 77);
    }
    // A name is no address, and nobody is asked for it.
    for name in [
        "localhost",
        "mail.example.org",
        "203.0.113.10:26",
        "203.0.113.10/32",
    ] {
        desk.refused(name, 2);
    }
    assert_eq!(packets(lab), 0);

    // The counter counts: an own host that refuses is knocked at once, and says where to go instead.
    let listener = lab.within("servers", || TcpListener::bind((lab.server_v4(0), 25)));
    let listener = listener.expect("a thread").expect("a listener");
    let redirect = format!("551 go to <somebody@[{outside}]>\r\n");
    let server = thread::spawn(move || serve(&listener, "220 mx.example\r\n", &redirect));
    let test = desk.test(lab.server_v4(0), 0);
    server.join().expect("the server ends");
    assert_eq!(
        (&test["outcome"], &test["code"]),
        (&"refused".into(), &551.into()),
        "{test}"
    );
    assert!(packets(lab) > 3, "nothing was counted");
    let log = lab
        .run(
            "servers",
            "ss",
            &["-Htn", "state", "all", "src", &outside],
            LIMIT,
        )
        .expect("ss");
    assert!(!log.contains("ESTAB"), "{log}");
}

/// Greets one client, and gives this answer to every line until it goes.
fn serve(listener: &TcpListener, greeting: &str, answer: &str) {
    let (mut client, _) = listener.accept().expect("a client");
    client.set_read_timeout(Some(LIMIT)).expect("a limit");
    let _ = client.write_all(greeting.as_bytes());
    let mut octet = [0];
    while client.read(&mut octet).is_ok_and(|length| length == 1) {
        if octet == *b"\n" && client.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn one_test_per_host_and_day_and_two_at_once() {
    let desk = Desk::new("sfrelayd", 4, &["203.0.113.0/24"], "");
    let lab = &desk.lab;
    let [host, second, third, fourth] = [0, 1, 2, 3].map(|index| lab.server_v4(index).to_string());
    // Nobody listens: both are told in a moment, and only one of two at once may ask.
    let children: Vec<_> = (0..2)
        .map(|_| {
            desk.command(&host, &[])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("it starts")
        })
        .collect();
    let mut codes: Vec<_> = children
        .into_iter()
        .map(|mut child| child.wait().expect("it ends").code())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(69)]);
    let error = desk.refused(&host, 69);
    assert!(error.contains("within the last 24 hours"), "{error}");
    // As IPv4 in IPv6 it is the same host.
    desk.refused(&format!("::ffff:{host}"), 69);

    // Two hosts that take their time.
    let listeners: Vec<_> = [&second, &third]
        .map(|address| {
            let address: IpAddr = address.parse().expect("an address");
            let listener = lab.within("servers", || TcpListener::bind((address, 25)));
            listener.expect("a thread").expect("a listener")
        })
        .into_iter()
        .collect();
    let mut waiting: Vec<_> = [&second, &third]
        .iter()
        .map(|address| {
            let mut command = desk.command(address, &["--json"]);
            command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            command.spawn().expect("it starts")
        })
        .collect();
    let clients: Vec<_> = listeners
        .iter()
        .map(|listener| listener.accept().expect("a client"))
        .collect();
    let error = desk.refused(&fourth, 69);
    assert!(error.contains("2 relay tests run already"), "{error}");
    // A killed test leaves its place, and its host stays tested.
    waiting[0].kill().expect("killed");
    waiting[0].wait().expect("it ends");
    let test = desk.test(fourth.parse::<IpAddr>().expect("an address"), 0);
    assert_eq!(test["outcome"], "closed");
    desk.refused(&second, 69);
    drop(clients);
    let code = waiting[1].wait().expect("it ends").code();
    assert_eq!(code, Some(0), "closed without a greeting is refused");
}

#[test]
fn hostile_servers_come_to_an_end() {
    let desk = Desk::new("sfrelayh", 4, &["203.0.113.0/24"], "");
    let lab = &desk.lab;
    let listen = |index: u16| {
        let address = lab.server_v4(index);
        let listener = lab.within("servers", || TcpListener::bind((address, 25)));
        listener.expect("a thread").expect("a listener")
    };
    // An endless line, as fast as it goes.
    let listener = listen(0);
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        while client.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let begun = Instant::now();
    let test = desk.test(lab.server_v4(0), 1);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(test["outcome"], "unclear", "{test}");
    server.join().expect("the server ends");
    // Control characters, then nothing but drops of a reply.
    let listener = listen(1);
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client
            .write_all(b"220-\x1b[2J\x1b]0;you\x07 \xff\r\n")
            .expect("written");
        while client.write_all(b"2").is_ok() {
            thread::sleep(Duration::from_millis(500));
        }
    });
    let begun = Instant::now();
    let test = desk.test(lab.server_v4(1), 1);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(25) && took < Duration::from_secs(40),
        "{took:?}"
    );
    assert!(
        transcript(&test).contains(r"server 220-\x1b[2J\x1b]0;you\x07 \xff"),
        "{}",
        transcript(&test)
    );
    server.join().expect("the server ends");
    // Greylisting.
    let listener = listen(2);
    let server = thread::spawn(move || {
        serve(
            &listener,
            "220 mx.example\r\n",
            "450 4.7.1 come again later\r\n",
        );
    });
    let test = desk.test(lab.server_v4(2), 0);
    assert_eq!(
        (&test["outcome"], &test["code"]),
        (&"refused".into(), &450.into()),
        "{test}"
    );
    server.join().expect("the server ends");
}

#[test]
fn it_is_off_until_it_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |words: &[&str]| {
        let mut command = Command::new(smtpflow_binary().expect("the program is built"));
        finish(command.args(words), LIMIT).expect("it ends")
    };
    let finished = run(&["relay-test", "203.0.113.10"]);
    assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("relay_test.enabled"),
        "{}",
        finished.stderr
    );
    let file = folder.path().join("smtpflow.toml");
    let text = |path: &Path| {
        format!("[relay_test]\nenabled = true\nrecipient = \"a@example.org\"\nstate = {path:?}\n")
    };
    std::fs::write(&file, text(&folder.path().join("state"))).expect("written");
    let finished = run(&[
        "relay-test",
        "203.0.113.10",
        "--config",
        &file.display().to_string(),
    ]);
    assert_eq!(finished.status.code(), Some(78), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("networks.local"),
        "{}",
        finished.stderr
    );
    assert!(!folder.path().join("state").exists(), "something was noted");
}
