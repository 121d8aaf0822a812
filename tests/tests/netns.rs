//! Real mail over a real gateway: every count of every address equals what tshark finds in a capture
//! of the same frames, while windows are cut all the time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use smtp_common::flow::Totals;
use smtpflow_tests::oracle::{expected, segments};
use smtpflow_tests::totals;
use xtask::lab::{
    AgentOptions, GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE, Lab, Messages, Topology, tshark_fields,
};

const LIMIT: Duration = Duration::from_secs(60);
/// The counts that the agent serves.
fn served(sources: &serde_json::Value) -> BTreeMap<IpAddr, Totals> {
    let list = sources["sources"].as_array().expect("a list of sources");
    assert_eq!(sources["total"], list.len(), "the list is cut");
    let entries = list.iter().map(|entry| {
        let address = entry["addr"].as_str().expect("an address");
        (
            address.parse().expect("an address"),
            totals(&entry["total"]),
        )
    });
    entries.collect()
}

/// dumpcap says that it runs a moment before the first frame is captured: datagrams go through the
/// gateway, and errors back, until both files grow.
fn wait_until_frames_are_captured(lab: &Lab, server: IpAddr) {
    let size = |interface: &str| {
        let file = lab.folder().join(format!("gateway-{interface}.pcapng"));
        std::fs::metadata(file).map_or(0, |metadata| metadata.len())
    };
    let interfaces = [GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE];
    let before = interfaces.map(size);
    for _ in 0..100 {
        // Nobody listens: an ICMP error comes back.
        lab.within("ordinary", || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            let _ = socket.send_to(b"?", (server, 9));
        })
        .expect("a thread in the namespace");
        std::thread::sleep(Duration::from_millis(100));
        if interfaces
            .map(size)
            .iter()
            .zip(before)
            .all(|(now, before)| *now > before)
        {
            return;
        }
    }
    panic!("nothing is captured on {interfaces:?}");
}

fn counts_equal_tshark(prefix: &str, mode: &str, topology: Topology) {
    let lab = Lab::gateway(prefix, topology).expect("a laboratory");
    let [ordinary, spammer, hammer] =
        ["ordinary", "spammer", "hammer"].map(|name| lab.add_client(name).expect("a client"));
    let at = |address: IpAddr| SocketAddr::new(address, 25);
    let (mta, closed) = (0, topology.servers - 1);
    let sinks: Vec<_> = (1..closed)
        .flat_map(|i| [at(lab.server_v4(i).into()), at(lab.server_v6(i).into())])
        .collect();
    let _sinks = lab.sinks(&sinks, &[]).expect("smtp-sink");
    let mta = [lab.server_v4(mta).into(), lab.server_v6(mta).into()];
    let _postfix = lab.postfix(&mta).expect("postfix");

    let mut options = AgentOptions::new(&lab).expect("options");
    options.window = "1s".to_owned();
    options.extra = vec!["--mode".to_owned(), mode.to_owned()];
    let mut agent = lab.agent(&options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    lab.gateway_offloads_off().expect("offloads off");
    let status = agent.json("/api/v1/status").expect("status");
    for interface in status["interfaces"].as_array().expect("interfaces") {
        assert_eq!(interface["mode"], mode, "{interface}");
        assert!(interface["fallback"].is_null(), "{interface}");
    }
    let captures = [GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE].map(|interface| {
        lab.capture("gateway", interface, "inbound")
            .expect("a capture")
    });
    wait_until_frames_are_captured(&lab, mta[0]);
    let status = agent.json("/api/v1/status").expect("status");
    let drains_before = status["drains"].as_u64().expect("drains");

    let messages = Messages {
        count: 60,
        parallel: 4,
        size: 3000,
        ..Messages::default()
    };
    for round in 0..3 {
        for sink in &sinks {
            lab.send("spammer", *sink, messages, LIMIT)
                .expect("mail to a sink");
        }
        for address in mta {
            lab.swaks(
                "ordinary",
                at(address),
                &["--body", &format!("round {round}")],
            )
            .expect("mail to postfix");
        }
        let target = at(lab.server_v4(closed).into());
        lab.within("hammer", || {
            for _ in 0..100 {
                TcpStream::connect_timeout(&target, LIMIT).expect_err("the port is closed");
            }
        })
        .expect("a thread in the namespace");
    }

    agent
        .wait_drained(LIMIT)
        .expect("a drain after the traffic");
    let captured = captures.map(|capture| capture.stop().expect("the capture ends"));
    agent
        .wait_drained(LIMIT)
        .expect("a drain after the captures");
    let mut seen = Vec::new();
    for (capture, vlan) in captured
        .iter()
        .zip([topology.client_vlan, topology.server_vlan])
    {
        assert_eq!(capture.dropped, 0, "the capture lost frames");
        let segments = segments(&capture.file);
        if let Some(id) = vlan {
            let filter = format!("tcp.port == 25 && vlan.id == {id}");
            let tagged = tshark_fields(&capture.file, &filter, &["vlan.id"]).expect("tags");
            assert_eq!(tagged.len(), segments.len(), "not every frame was tagged");
        }
        seen.extend(segments);
    }
    let sources = agent.json("/api/v1/sources?limit=10000").expect("sources");
    let (served, expected) = (served(&sources), expected(&seen));
    assert_eq!(served, expected);

    // The captures agree with what the programs were told to do.
    let sent = 3 * u64::from(messages.count);
    let halves = sinks.len() as u64 / 2;
    let count = |address: IpAddr| expected[&address];
    assert_eq!(count(spammer.v4.into()).connections, sent * halves);
    assert_eq!(count(spammer.v6.into()).connections, sent * halves);
    assert_eq!(count(spammer.v4.into()).answered, sent * halves);
    assert_eq!(count(ordinary.v4.into()).connections, 3);
    assert_eq!(count(ordinary.v6.into()).connections, 3);
    let hammered = count(hammer.v4.into());
    assert_eq!(
        (hammered.connections, hammered.refused, hammered.answered),
        (300, 300, 0)
    );

    let status = agent.json("/api/v1/status").expect("status");
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    assert_eq!(status["conservation"]["segments"], seen.len(), "{status}");
    let drains = status["drains"].as_u64().expect("drains") - drains_before;
    assert!(
        drains >= 3,
        "only {drains} windows were cut while traffic flowed"
    );

    assert!(agent.stop().expect("the agent ends").success());
    for interface in [GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE] {
        let link = lab
            .ip("gateway", &format!("link show {interface}"))
            .expect("ip link");
        assert!(!link.contains("xdp"), "still attached: {link}");
    }
    assert!(
        !options.pins.exists(),
        "pins are left in {}",
        options.pins.display()
    );
}

#[test]
fn counts_equal_tshark_in_driver_mode_with_the_servers_on_a_vlan() {
    let topology = Topology {
        servers: 5,
        server_vlan: Some(42),
        ..Topology::default()
    };
    counts_equal_tshark("sfnetdrv", "driver", topology);
}

#[test]
fn counts_equal_tshark_in_skb_mode_with_the_clients_on_a_vlan() {
    let topology = Topology {
        servers: 4,
        client_vlan: Some(7),
        ..Topology::default()
    };
    counts_equal_tshark("sfnetskb", "skb", topology);
}
