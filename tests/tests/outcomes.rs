//! Outcomes with real mail programs: what an abuse desk reads is what happened.
//!
//! A client of its own for each case, so that what the agent says of a client is said of one case.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;
use xtask::lab::{Agent, AgentOptions, Lab, Messages, Topology};

const LIMIT: Duration = Duration::from_secs(60);

/// The outcomes of a client that are not 0.
fn outcomes(source: &Value) -> Vec<(String, u64)> {
    let outcomes = source["outcomes"].as_object().expect("outcomes");
    outcomes
        .iter()
        .map(|(name, count)| (name.clone(), count.as_u64().expect("a count")))
        .filter(|(_, count)| *count != 0)
        .collect()
}

fn source(agent: &mut Agent, address: impl Into<IpAddr>) -> Value {
    let address = address.into();
    agent
        .json(&format!("/api/v1/sources/{address}"))
        .unwrap_or_else(|error| panic!("{address}: {error:#}"))
}

fn only(outcome: &str, count: u64) -> Vec<(String, u64)> {
    vec![(outcome.to_owned(), count)]
}

#[test]
fn every_outcome_is_told_from_the_others() {
    let topology = Topology {
        servers: 5,
        ..Topology::default()
    };
    let lab = Lab::gateway("sfoutcome", topology).expect("a laboratory");
    let [sender, bulk, rejected, scanner, waiting, lost] =
        ["sender", "bulk", "rejected", "scanner", "waiting", "lost"]
            .map(|name| lab.add_client(name).expect("a client"));
    let [mta, sink, rejecting, closed, mute] = [0, 1, 2, 3, 4].map(|i| lab.server_v4(i));
    let at = |address: std::net::Ipv4Addr| SocketAddr::new(address.into(), 25);
    let mta_v6 = IpAddr::from(lab.server_v6(0));
    let _postfix = lab.postfix(&[mta.into(), mta_v6]).expect("postfix");
    let _sink = lab.sinks(&[at(sink)], &[]).expect("smtp-sink");
    let _rejecting = lab
        .sinks(&[at(rejecting)], &["-f", "RCPT"])
        .expect("smtp-sink");
    // Takes connections, as its backlog does, and says nothing.
    let listener = lab.within("servers", || TcpListener::bind(at(mute)));
    let _listener = listener.expect("a thread").expect("a listener");

    let mut options = AgentOptions::new(&lab).expect("options");
    options.window = "1s".to_owned();
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");

    lab.swaks("sender", at(mta), &["--body", "taken"])
        .expect("mail");
    lab.swaks("sender", SocketAddr::new(mta_v6, 25), &["--body", "taken"])
        .expect("mail over IPv6");
    let messages = Messages {
        count: 20,
        parallel: 2,
        ..Messages::default()
    };
    lab.send("bulk", at(sink), messages, LIMIT).expect("mail");
    lab.swaks("rejected", at(rejecting), &[])
        .expect_err("the recipient is refused");
    lab.within("scanner", || {
        for _ in 0..30 {
            TcpStream::connect_timeout(&at(closed), LIMIT).expect_err("the port is closed");
        }
        // A greeting is taken, and no more.
        let mut banner = TcpStream::connect_timeout(&at(mta), LIMIT).expect("a connection");
        banner.set_read_timeout(Some(LIMIT)).expect("a limit");
        let read = banner.read(&mut [0; 64]).expect("a greeting");
        assert!(read > 4);
    })
    .expect("a thread in the namespace");
    let patient = lab.within("waiting", || TcpStream::connect_timeout(&at(mute), LIMIT));
    let patient = patient.expect("a thread").expect("a connection");
    // The gateway sees the SYN and finds nobody to hand it to.
    let short = Duration::from_millis(300);
    let tried = lab.within("lost", || TcpStream::connect_timeout(&nobody(&lab), short));
    tried.expect("a thread").expect_err("nobody is there");

    agent
        .wait_drained(LIMIT)
        .expect("a drain after the traffic");
    let [
        of_sender,
        of_bulk,
        of_rejected,
        of_scanner,
        of_waiting,
        of_lost,
    ] = [
        sender.v4,
        bulk.v4,
        rejected.v4,
        scanner.v4,
        waiting.v4,
        lost.v4,
    ]
    .map(|address| source(&mut agent, address));
    assert_eq!(outcomes(&of_sender), only("delivered", 1), "{of_sender}");
    assert_eq!(of_sender["accepted"], 1);
    assert_eq!(
        of_sender["commands"],
        serde_json::json!({"mail": 1, "rcpt": 1})
    );
    assert_eq!(
        outcomes(&source(&mut agent, sender.v6)),
        only("delivered", 1)
    );
    assert_eq!(outcomes(&of_bulk), only("delivered", 20), "{of_bulk}");
    assert_eq!(
        (&of_bulk["accepted"], &of_bulk["servers"]),
        (&20.into(), &1.into())
    );
    assert_eq!(outcomes(&of_rejected), only("rejected", 1), "{of_rejected}");
    assert_eq!(of_rejected["accepted"], 0);
    let mut expected = only("answered", 1);
    expected.extend(only("refused", 30));
    assert_eq!(outcomes(&of_scanner), expected, "{of_scanner}");
    assert_eq!(
        (&of_scanner["servers"], &of_scanner["pairs_total"]),
        (&2.into(), &2.into())
    );
    assert_eq!(of_scanner["pairs"][0]["server"], closed.to_string());
    assert_eq!(of_scanner["pairs"][0]["outcomes"]["refused"], 30);
    assert_eq!(outcomes(&of_waiting), only("silent", 1), "{of_waiting}");
    assert_eq!(of_waiting["connections"][0]["open"], true);
    assert_eq!(of_waiting["connections"][0]["s2c_flags"], "SYN ACK");
    assert_eq!(outcomes(&of_lost), only("unknown", 1), "{of_lost}");
    assert_eq!(
        (&of_lost["visibility"], &of_waiting["visibility"]),
        (&0.0.into(), &1.0.into())
    );

    let status = agent.json("/api/v1/status").expect("status");
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    let flows = &status["flows"];
    assert_eq!(flows["outcomes"]["delivered"], 22, "{flows}");
    assert_eq!(
        (&flows["accepted"], &flows["unfollowed"]),
        (&22.into(), &0.into()),
        "{flows}"
    );
    let all = |name: &str| flows["outcomes"][name].as_u64().expect("a count");
    let sum = 2 + 20 + 1 + 31 + 1 + 1;
    let connections = [
        "unknown",
        "silent",
        "refused",
        "answered",
        "spoke",
        "rejected",
        "delivered",
    ];
    assert_eq!(connections.map(all).iter().sum::<u64>(), sum, "{flows}");
    assert_eq!(status["totals"]["connections"], sum, "{status}");

    drop(patient);
    let answer = agent.get("/metrics").expect("metrics");
    assert!(
        answer
            .text()
            .contains("smtpflow_messages_accepted_total 22\n"),
        "{}",
        answer.text()
    );
    assert!(agent.stop().expect("the agent ends").success());
}

/// An address in the servers' network that nobody has.
fn nobody(lab: &Lab) -> SocketAddr {
    SocketAddr::new(lab.server_v4(150).into(), 25)
}
