//! A made-up snapshot whose figures add up, for tests.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smtp_common::counter::{Counter, Skip};
use smtp_common::flow::{FlowKey, Totals};

use crate::clock;
use crate::connections::{Connections, Follower, Limits};
use crate::model::verdict::VerdictSummary;
use crate::model::{
    AttachMode, ConfigState, Drain, Flow, Identity, Moment, Notifications, ObservationPoint,
    PointState, Scope, Snapshot, Source, SourceRow, StoreState, Tally, Window,
};
use crate::source_list::{Listed, SourceList};

/// A source with `connections` connections of one packet of 40 bytes each; its number makes its
/// address.
pub(super) fn row(number: u32, connections: u64) -> SourceRow {
    SourceRow {
        address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)),
        scope: Scope::Remote,
        total: Totals {
            connections,
            c2s_packets: connections,
            c2s_bytes: 40 * connections,
            ..Totals::default()
        },
        window: Totals::default(),
    }
}

/// Four sources: a local client, two remote ones of which one is active, and a server.
pub(super) fn rows() -> Vec<SourceRow> {
    let client = |address: &str, scope, connections| SourceRow {
        address: address.parse().expect("an address"),
        scope,
        ..row(0, connections)
    };
    let mut first = client("198.51.100.1", Scope::Remote, 5);
    first.window.connections = 3;
    first.window.c2s_packets = 3;
    first.window.c2s_bytes = 120;
    let mut own = client("192.0.2.7", Scope::Local, 100);
    own.total.answered = 90;
    own.total.refused = 4;
    own.total.syn_retx = 2;
    own.total.c2s_packets = 110;
    own.total.s2c_packets = 1;
    own.total.s2c_bytes = 10;
    own.window.connections = 1;
    let mut server = client("2001:db8::25", Scope::Remote, 0);
    server.total.s2c_packets = 100;
    server.total.s2c_bytes = 9000;
    vec![first, server, own, client("198.51.100.2", Scope::Remote, 5)]
}

/// One connection of 192.0.2.7 to 2001:db8::25 on which a message was taken, and one that got no
/// answer.
pub(super) fn connections() -> Connections {
    let now = SystemTime::now();
    let client: IpAddr = "192.0.2.7".parse().expect("an address");
    let server: IpAddr = "2001:db8::25".parse().expect("an address");
    let silence = Flow {
        key: FlowKey {
            client: client.into(),
            server: server.into(),
            client_port: 40_000,
            server_port: 25,
        },
        c2s_packets: 1,
        c2s_bytes: 60,
        s2c_packets: 0,
        s2c_bytes: 0,
        connections: 1,
        syn_retx: 0,
        c2s_flags: 0x02,
        s2c_flags: 0,
        answered: false,
        refused: false,
        said: [0; 6],
        accepted: 0,
        first_reply: 0,
        last_reply: 0,
        reply_sequence: 0,
        first: now,
        last: now,
    };
    let mut delivery = silence;
    delivery.key.client_port += 1;
    (delivery.c2s_packets, delivery.c2s_bytes) = (6, 400);
    (delivery.s2c_packets, delivery.s2c_bytes) = (5, 300);
    (delivery.c2s_flags, delivery.s2c_flags) = (0x1b, 0x1b);
    delivery.answered = true;
    delivery.said = [1, 1, 4, 1, 0, 0];
    delivery.accepted = 1;
    let window = Window {
        epoch: 1,
        started_at: now,
        length: Duration::from_secs(10),
        tally: Tally::default(),
        sources: Vec::new(),
        flows: vec![silence, delivery],
        lines_used: 0,
        flip: Duration::ZERO,
    };
    let limits = Limits::default();
    let mut connections = Connections::new(limits);
    connections.add(&window, &Follower::new(&limits).follow(&window));
    connections
}

/// The list of these sources, of which 192.0.2.0/24 are local.
pub(super) fn list(rows: &[SourceRow]) -> SourceList {
    let local = vec!["192.0.2.0/24".parse().expect("a prefix")];
    let mut list = SourceList::new(local, 2 * rows.len(), [3, 5, 7, 11, 13]);
    let source = |row: &SourceRow, totals| Source {
        address: row.address.into(),
        totals,
    };
    for row in rows {
        let before = Totals {
            connections: row.total.connections - row.window.connections,
            c2s_packets: row.total.c2s_packets - row.window.c2s_packets,
            c2s_bytes: row.total.c2s_bytes - row.window.c2s_bytes,
            ..row.total
        };
        list.restore(&source(row, before));
    }
    list.begin_window();
    for row in rows.iter().filter(|row| row.window != Totals::default()) {
        list.count(&[source(row, row.window)]);
    }
    let have: Vec<_> = list.iter().map(Listed::to_row).collect();
    assert_eq!(have, rows, "the list shows other rows");
    list
}

/// A snapshot with these sources: one driver and one skb interface, 10 s windows, the last drain
/// just now.
pub(super) fn snapshot(sources: &[SourceRow]) -> Snapshot {
    let now = clock::now();
    let mut account = Tally {
        frames: 1000,
        overflow: Totals {
            connections: 1,
            c2s_packets: 1,
            c2s_bytes: 40,
            ..Totals::default()
        },
        spilled: 7,
        ..Tally::default()
    };
    for source in sources {
        account.sources.merge(&source.total);
    }
    let segments = account.sources.packets() + account.overflow.packets();
    account.segment_bytes = account.sources.bytes() + account.overflow.bytes();
    account.outcomes[Counter::Segment.index()] = segments;
    account.frames = account.frames.max(segments);
    account.outcomes[Counter::Skip(Skip::NotIp).index()] = (account.frames - segments).min(8);
    account.outcomes[Counter::Skip(Skip::NotTcp).index()] =
        (account.frames - segments).saturating_sub(8);
    Snapshot {
        identity: Identity {
            started_at: Moment {
                wall: now.wall - Duration::from_secs(100),
                since_boot: now.since_boot.saturating_sub(Duration::from_secs(100)),
            },
            counting_since: now.wall - Duration::from_secs(5000),
            kernel: "6.18.0".to_owned(),
            ports: vec![25],
            window: Duration::from_secs(10),
            table_lines: 1 << 17,
            flow_lines: 1 << 16,
            cpus: 2,
            table_bytes: 18 << 20,
        },
        points: vec![
            ObservationPoint {
                configured: "eth0".to_owned(),
                interface: "eth0".to_owned(),
                index: 2,
                state: PointState::Attached,
                reason: None,
                up: true,
                mtu: 1500,
                changes: 0,
                mode: AttachMode::Driver,
                program: "xdp",
                fallback: None,
            },
            ObservationPoint {
                configured: "eth1".to_owned(),
                interface: "eth1".to_owned(),
                index: 3,
                state: PointState::Attached,
                reason: None,
                up: true,
                mtu: 1500,
                changes: 0,
                mode: AttachMode::Skb,
                program: "xdp",
                fallback: Some("driver with section xdp: not supported".to_owned()),
            },
        ],
        last_drain: Some(Drain {
            at: now,
            duration: Duration::from_millis(12),
            flip: Duration::from_millis(5),
            length: Duration::from_secs(10),
            sources: 2,
            connections: 4,
            lines_used: 3,
        }),
        drains: 10,
        drain_failures: 0,
        drain_failing: false,
        last_window: Tally::default(),
        account,
        sources_kept: sources.len() as u64,
        untracked: Totals::default(),
        flows: connections().summary(),
        verdicts: VerdictSummary {
            judged: true,
            open: [3, 2, 1],
            flagged: vec![("volume".to_owned(), 4), ("burst".to_owned(), 2)],
            opened: 9,
            subjects: 12,
            unjudged: 0,
            unwritten: 0,
        },
        open: Arc::default(),
        notifications: Notifications::default(),
        config: ConfigState::loaded(now.wall - Duration::from_secs(100)),
        store: Some(StoreState {
            path: "/var/lib/smtpflow/smtpflow.db".into(),
            since: now.wall - Duration::from_secs(5000),
            committed_epoch: Some(17),
            errors: 0,
            pending_sources: 0,
            commit_duration: Some(Duration::from_millis(3)),
            failure: None,
            pending_bytes: 0,
            coarsened_pairs: 0,
            coarsened_sources: 0,
            damaged_chunks: 0,
            set_aside: 0,
            history_failure: None,
            notices: [2, 1, 5, 0, 0, 1, 3],
        }),
    }
}
