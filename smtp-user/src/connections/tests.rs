//! Windows put together: which connection, what became of it, and that nothing is lost.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::SystemTime;

use proptest::prelude::*;
use smtp_common::packet::flags::{ACK, FIN, RST, SYN};
use smtp_common::speech::Speech;

use super::*;
use crate::model::Tally;
use crate::model::session::{COMMANDS, Outcome, PSH, PairVolume, REPLIES};
use crate::model::{Counts, Folded};

pub(super) fn address(host: u8) -> Address {
    Address::from_ipv4([10, 0, 0, host])
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + seconds)
}

/// A flow of one segment of 40 bytes from the client, at the beginning of all time.
pub(super) fn flow(client: u8, server: u8, port: u16) -> Flow {
    Flow {
        key: FlowKey {
            client: address(client),
            server: address(100 + server),
            client_port: port,
            server_port: 25,
        },
        c2s_packets: 1,
        c2s_bytes: 40,
        s2c_packets: 0,
        s2c_bytes: 0,
        connections: 0,
        syn_retx: 0,
        c2s_flags: ACK,
        s2c_flags: 0,
        answered: false,
        refused: false,
        said: [0; 6],
        accepted: 0,
        first_reply: 0,
        last_reply: 0,
        reply_sequence: 0,
        first: at(0),
        last: at(0),
    }
}

/// A flow that begins with a SYN.
fn opened() -> Flow {
    Flow {
        connections: 1,
        c2s_flags: SYN,
        ..flow(1, 1, 40_000)
    }
}

/// The same with a SYN-ACK.
fn answered() -> Flow {
    Flow {
        c2s_flags: SYN | ACK,
        s2c_packets: 1,
        s2c_bytes: 40,
        s2c_flags: SYN | ACK,
        answered: true,
        ..opened()
    }
}

/// What goes on in a later window: a segment each way.
fn going_on(seconds: u64) -> Flow {
    Flow {
        s2c_packets: 1,
        s2c_bytes: 40,
        s2c_flags: ACK,
        first: at(seconds),
        last: at(seconds),
        ..flow(1, 1, 40_000)
    }
}

fn said(flow: Flow, speech: Speech, count: u64) -> Flow {
    let mut flow = flow;
    flow.said[speech.place_of_tests()] += count;
    flow
}

trait Place {
    fn place_of_tests(self) -> usize;
}

impl Place for Speech {
    fn place_of_tests(self) -> usize {
        if self == Self::START_INPUT {
            Self::INTERMEDIATE.number().into()
        } else {
            self.number().into()
        }
    }
}

/// A flow in which a server said this first and that last.
fn replies(flow: Flow, first: Speech, last: Speech) -> Flow {
    let mut flow = said(flow, first, 1);
    if first != last {
        flow = said(flow, last, 1);
    }
    flow.first_reply = first.number();
    flow.last_reply = last.number();
    flow
}

/// A window of 10 s that begins at this second.
fn window(seconds: u64, flows: &[Flow]) -> Window {
    Window {
        epoch: 1,
        started_at: at(seconds),
        length: Duration::from_secs(10),
        tally: Tally::default(),
        sources: Vec::new(),
        flows: flows.to_vec(),
        lines_used: 0,
        flip: Duration::ZERO,
    }
}

/// Follows connections and keeps them.
struct Kept {
    follower: Follower,
    connections: Connections,
}

impl Kept {
    fn new(limits: Limits) -> Self {
        Self {
            follower: Follower::new(&limits),
            connections: Connections::new(limits),
        }
    }

    fn add(&mut self, window: &Window) -> Folded {
        let followed = self.follower.follow(window);
        self.connections.add(window, &followed);
        followed.folded
    }

    fn finish(&mut self) -> Folded {
        let followed = self.follower.finish();
        self.connections.finish(&followed);
        followed.folded
    }
}

impl std::ops::Deref for Kept {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.connections
    }
}

/// One window after the other, each with one flow.
fn stitched(flows: &[Flow]) -> Kept {
    let mut connections = Kept::new(Limits::default());
    for (i, flow) in flows.iter().enumerate() {
        connections.add(&window(10 * i as u64, std::slice::from_ref(flow)));
    }
    connections
}

/// Outcomes that are not 0, and unfollowed connections, of client 1.
fn outcomes(connections: &Connections) -> (Vec<(&'static str, u64)>, u64) {
    let sessions = connections.client(address(1)).sessions;
    let outcomes = Outcome::ALL.map(|outcome| (outcome.name(), sessions.outcomes.of(outcome)));
    let outcomes = outcomes.into_iter().filter(|(_, count)| *count != 0);
    (outcomes.collect(), sessions.unfollowed)
}

#[test]
fn every_line_of_the_table_of_outcomes() {
    let one_way = said(opened(), Speech::MAIL, 1);
    let mut refused = opened();
    (refused.s2c_packets, refused.s2c_flags) = (1, RST | ACK);
    refused.refused = true;
    let mut reset = refused;
    reset.refused = false;
    let mut reset_later = answered();
    reset_later.s2c_flags |= RST;
    let mut data = answered();
    data.s2c_flags |= PSH;
    let spoke = said(data, Speech::RCPT, 1);
    let mut delivered = said(spoke, Speech::PERMANENT, 1);
    delivered.accepted = 1;
    for (flow, expected) in [
        (opened(), Outcome::Unknown),
        (one_way, Outcome::Unknown),
        (answered(), Outcome::Silent),
        (reset_later, Outcome::Silent),
        (refused, Outcome::Refused),
        (reset, Outcome::Refused),
        (data, Outcome::Answered),
        (said(answered(), Speech::COMPLETION, 1), Outcome::Answered),
        (said(data, Speech::TRANSIENT, 1), Outcome::Answered),
        (spoke, Outcome::Spoke),
        (said(data, Speech::MAIL, 1), Outcome::Spoke),
        (said(spoke, Speech::PERMANENT, 1), Outcome::Rejected),
        (said(data, Speech::PERMANENT, 1), Outcome::Rejected),
        (delivered, Outcome::Delivered),
    ] {
        let connections = stitched(&[flow]);
        assert_eq!(
            outcomes(&connections),
            (vec![(expected.name(), 1)], 0),
            "{flow:?}"
        );
    }
}

#[test]
fn a_message_is_accepted_across_the_edge_of_a_window() {
    let go_ahead = replies(answered(), Speech::COMPLETION, Speech::START_INPUT);
    let taken = replies(going_on(10), Speech::COMPLETION, Speech::COMPLETION);
    let connections = stitched(&[go_ahead, taken]);
    assert_eq!(outcomes(&connections).0, [("delivered", 1)]);
    let client = connections.client(address(1));
    assert_eq!(client.sessions.accepted, 1);
    assert_eq!(
        client.sessions.said.named(REPLIES).0[..2],
        [("2xx", 2), ("3xx", 1)]
    );
    assert_eq!(
        client.sessions.said.named(COMMANDS).0,
        [("mail", 0), ("rcpt", 0)]
    );
    let (pairs, _) = connections.pairs_of(address(1), 10);
    assert_eq!(
        (pairs[0].accepted, pairs[0].outcomes.of(Outcome::Delivered)),
        (1, 1)
    );

    // A window in which only the client sends, as for a long message, changes nothing.
    let connections = stitched(&[
        go_ahead,
        going_on(10),
        Flow {
            last: at(20),
            ..taken
        },
    ]);
    assert_eq!(outcomes(&connections).0, [("delivered", 1)]);
    // Another reply in between does.
    let refused = replies(going_on(10), Speech::PERMANENT, Speech::PERMANENT);
    let connections = stitched(&[go_ahead, refused, taken]);
    assert_eq!(outcomes(&connections).0, [("rejected", 1)]);
    // So does another connection.
    let next = replies(answered(), Speech::COMPLETION, Speech::COMPLETION);
    let connections = stitched(&[go_ahead, next]);
    assert_eq!(outcomes(&connections).0, [("answered", 2)]);
}

#[test]
fn a_message_is_accepted_across_two_cpus() {
    let on_cpu = |replies_there: Flow, sequence| Flow {
        reply_sequence: sequence,
        ..replies_there
    };
    let (completion, go_ahead) = (Speech::COMPLETION, Speech::START_INPUT);
    let waits = replies(answered(), completion, go_ahead);
    let taken = replies(going_on(0), completion, completion);
    let failed = said(taken, Speech::PERMANENT, 1);
    for (first, second, accepted) in [
        // The sequence number goes round between the two.
        (on_cpu(waits, u32::MAX - 5), on_cpu(taken, 40), 1),
        // The completions came before the go-ahead.
        (on_cpu(waits, 500), on_cpu(taken, 400), 0),
        (on_cpu(waits, 500), on_cpu(failed, 600), 0),
        (on_cpu(taken, 500), on_cpu(taken, 600), 0),
        (on_cpu(waits, 500), going_on(0), 0),
    ] {
        for (mut one, other) in [(first, second), (second, first)] {
            one.merge(&other);
            assert_eq!(one.accepted, accepted, "{first:?} and {second:?}");
        }
    }
    let mut one = on_cpu(waits, 500);
    one.merge(&on_cpu(taken, 400));
    assert_eq!(
        (one.last_reply, one.reply_sequence),
        (go_ahead.number(), 500)
    );
}

#[test]
fn a_connection_that_goes_on_is_one_and_ends_with_fin_both_ways() {
    let mut half = going_on(10);
    half.c2s_flags |= FIN;
    let mut closing = going_on(20);
    closing.s2c_flags |= FIN;
    let mut last_ack = flow(1, 1, 40_000);
    (last_ack.first, last_ack.last) = (at(30), at(30));
    let mut connections = stitched(&[answered(), half, closing, last_ack]);
    let summary = connections.summary();
    assert_eq!((summary.tracked, summary.ended.sum()), (1, 0), "it lingers");
    let recent = connections.recent_of(address(1));
    let [
        ConnectionRow {
            connection, open, ..
        },
    ] = recent[..]
    else {
        panic!("{} connections", recent.len());
    };
    assert!(!open, "it is closed");
    let volume = connection.volume();
    assert_eq!(
        (volume.connections, volume.packets(), volume.bytes()),
        (1, 7, 280)
    );
    assert_eq!(connection.times(), (at(0), at(30)));
    // Nothing came for more than LINGER.
    connections.add(&window(40, &[]));
    let summary = connections.summary();
    assert_eq!((summary.tracked, summary.ended.of(Outcome::Silent)), (0, 1));
    assert_eq!(connections.recent_of(address(1)).len(), 1);
    assert_eq!(connections.client(address(1)).sessions.outcomes.sum(), 1);
}

#[test]
fn a_reset_ends_it_and_another_syn_begins_the_next() {
    let mut reset = answered();
    reset.c2s_flags |= RST;
    let connections = stitched(&[reset, answered()]);
    let summary = connections.summary();
    assert_eq!((summary.tracked, summary.ended.sum()), (1, 1));
    assert_eq!(outcomes(&connections), (vec![("silent", 2)], 0));
    // The FINs of the first one stand in the window of the second: that one has not ended.
    let mut both = answered();
    (both.c2s_flags, both.s2c_flags) = (both.c2s_flags | FIN, both.s2c_flags | FIN);
    let connections = stitched(&[answered(), both]);
    let under_way: Vec<bool> = connections
        .recent_of(address(1))
        .iter()
        .map(|row| row.open)
        .collect();
    assert_eq!(under_way, [true, false]);
}

#[test]
fn of_several_syns_in_one_window_one_connection_is_followed() {
    let several = Flow {
        connections: 3,
        ..answered()
    };
    let connections = stitched(&[several, going_on(10)]);
    assert_eq!(outcomes(&connections), (vec![("silent", 1)], 2));
    let sessions = connections.client(address(1)).sessions;
    assert_eq!(sessions.connections(), 3);
    let (pairs, _) = connections.pairs_of(address(1), 10);
    assert_eq!(
        (pairs[0].volume.connections, pairs[0].outcomes.sum()),
        (3, 1)
    );
}

#[test]
fn a_flow_without_a_syn_counts_but_is_no_connection() {
    let middle = replies(going_on(0), Speech::START_INPUT, Speech::START_INPUT);
    let taken = replies(going_on(10), Speech::COMPLETION, Speech::COMPLETION);
    let mut connections = stitched(&[middle, taken]);
    let client = connections.client(address(1));
    assert_eq!(client.sessions.connections(), 0);
    assert_eq!((client.sessions.accepted, client.servers.count), (1, 1));
    assert_eq!(client.sessions.outcomes.visibility(), None);
    assert!(connections.recent_of(address(1))[0].connection.midstream());
    let _ = connections.finish();
    assert_eq!(connections.summary().ended.sum(), 0);
    let (pairs, _) = connections.pairs_of(address(101), 10);
    assert_eq!(
        (pairs[0].volume.connections, pairs[0].volume.packets()),
        (0, 4)
    );
    // A SYN on its 4-tuple begins a connection.
    let connections = stitched(&[middle, answered()]);
    assert_eq!(outcomes(&connections), (vec![("silent", 1)], 0));
}

#[test]
fn a_quiet_connection_ends_and_what_comes_after_is_midstream() {
    for (flow, outcome, patience) in [
        (opened(), Outcome::Unknown, 75),
        (answered(), Outcome::Silent, 300),
    ] {
        let mut connections = stitched(&[flow]);
        // Windows end 10 s later.
        connections.add(&window(patience - 10, &[]));
        assert_eq!(connections.summary().ended.sum(), 0, "not yet over");
        connections.add(&window(patience - 9, &[]));
        assert_eq!(connections.summary().ended.of(outcome), 1);
    }
    // What the client goes on with where the server is not seen is more than a SYN.
    let mut one_way = opened();
    one_way.c2s_flags |= ACK;
    let mut connections = stitched(&[one_way]);
    connections.add(&window(290, &[]));
    assert_eq!(connections.summary().ended.sum(), 0);
    // The same where the windows in between are missing, as in a capture.
    let mut connections = stitched(&[opened()]);
    connections.add(&window(100_000, &[going_on(100_000)]));
    assert_eq!(outcomes(&connections), (vec![("unknown", 1)], 0));
    assert_eq!(connections.summary().ended.of(Outcome::Unknown), 1);
    assert!(connections.recent_of(address(1))[0].connection.midstream());
}

#[test]
fn visibility_is_the_share_of_connections_with_a_packet_of_the_server() {
    let flows: Vec<Flow> = (0..4)
        .map(|i| {
            let mut flow = if i == 0 { answered() } else { opened() };
            flow.key.client_port += i;
            flow
        })
        .collect();
    let mut connections = Kept::new(Limits::default());
    connections.add(&window(0, &flows));
    let outcomes = connections.summary().sessions.outcomes;
    assert_eq!(outcomes.visibility(), Some(0.25));
}

#[test]
fn pairs_come_by_connections_and_count_both_roles() {
    let mut flows = Vec::new();
    for server in 1..=5 {
        for port in 0..u16::from(server) {
            let mut opened = opened();
            opened.key = flow(1, server, 40_000 + port).key;
            flows.push(opened);
        }
    }
    let mut connections = Kept::new(Limits::default());
    connections.add(&window(0, &flows));
    let (pairs, total) = connections.pairs_of(address(1), 2);
    let counts: Vec<u64> = pairs.iter().map(|row| row.volume.connections).collect();
    assert_eq!((counts, total), (vec![5, 4], 5));
    let (pairs, total) = connections.pairs_of(address(103), 2);
    assert_eq!((pairs[0].volume.connections, total), (3, 1));
    let servers = connections.client(address(1)).servers;
    assert_eq!((servers.count, servers.exact), (5, true));
}

#[test]
fn the_last_eighth_of_the_clients_is_for_own_hosts() {
    let limits = Limits {
        clients: 16,
        ..Limits::default()
    };
    let own: IpAddr = address(200).into();
    let mut kept = Kept {
        follower: Follower::new(&limits),
        connections: Connections::for_networks(limits, vec![own.into()]),
    };
    let flows: Vec<Flow> = (1..=20)
        .chain([200])
        .map(|client| Flow {
            key: flow(client, 1, 40_000).key,
            ..opened()
        })
        .collect();
    kept.add(&window(0, &flows));
    let connections = |client| kept.client(address(client)).sessions.connections();
    assert_eq!((connections(14), connections(15)), (1, 0));
    assert_eq!(connections(200), 1, "an own host found no place");
}

/// Room for hardly anything.
fn tiny() -> Limits {
    Limits {
        connections: 3,
        pairs: 2,
        clients: 2,
        recent: 4,
        servers: 2,
        ..Limits::default()
    }
}

prop_compose! {
    fn some_flow()(
        (client, server, port) in (1_u8..5, 1_u8..4, 1_u16..3),
        (packets, back) in (1_u64..5, 0_u64..5),
        connections in 0_u64..3,
        (c2s_flags, s2c_flags) in (any::<u8>(), any::<u8>()),
        (answered, refused) in any::<(bool, bool)>(),
        said in prop::array::uniform6(0_u64..3),
        accepted in 0_u64..2,
        (first_reply, last_reply) in (2_u8..7, 2_u8..7),
    ) -> Flow {
        Flow {
            c2s_packets: packets,
            c2s_bytes: 60 * packets,
            s2c_packets: back,
            s2c_bytes: 50 * back,
            connections,
            c2s_flags,
            s2c_flags,
            answered,
            refused,
            said,
            accepted,
            first_reply,
            last_reply,
            ..flow(client, server, port)
        }
    }
}

fn add(sum: &mut Sessions, more: &Sessions) {
    for (mine, more) in sum.outcomes.0.iter_mut().zip(more.outcomes.0) {
        *mine += more;
    }
    sum.unfollowed += more.unfollowed;
    sum.said.add(&more.said.0);
    sum.accepted += more.accepted;
}

/// The laws of the contract, and the bounds.
fn check(connections: &Connections, flows: &[Flow], limits: &Limits) -> Result<(), TestCaseError> {
    let summary = connections.summary();
    let clients: HashSet<Address> = flows.iter().map(|flow| flow.key.client).collect();
    let mut sum = summary.untracked_clients;
    for client in &clients {
        add(&mut sum, &connections.client(*client).sessions);
        prop_assert!(connections.recent_of(*client).len() <= PER_CLIENT);
    }
    prop_assert_eq!(sum, summary.sessions);
    let opened: u64 = flows.iter().map(|flow| flow.connections).sum();
    prop_assert_eq!(summary.sessions.connections(), opened);
    for kind in 0..6 {
        let said: u64 = flows.iter().map(|flow| flow.said[kind]).sum();
        prop_assert_eq!(summary.sessions.said.0[kind], said);
    }
    let mut volume = summary.untracked_pairs;
    let (mut outcomes, mut pairs) = (0, 0);
    for client in &clients {
        for row in connections.pairs_of(*client, usize::MAX).0 {
            let PairVolume {
                connections,
                c2s_packets,
                c2s_bytes,
                s2c_packets,
                s2c_bytes,
            } = row.volume;
            volume.connections += connections;
            volume.c2s_packets += c2s_packets;
            volume.c2s_bytes += c2s_bytes;
            volume.s2c_packets += s2c_packets;
            volume.s2c_bytes += s2c_bytes;
            outcomes += row.outcomes.sum();
            pairs += 1;
        }
    }
    prop_assert_eq!(volume.connections, opened);
    prop_assert_eq!(
        volume.packets(),
        flows
            .iter()
            .map(|f| f.c2s_packets + f.s2c_packets)
            .sum::<u64>()
    );
    prop_assert_eq!(
        volume.bytes(),
        flows.iter().map(|f| f.c2s_bytes + f.s2c_bytes).sum::<u64>()
    );
    prop_assert!(outcomes <= summary.sessions.outcomes.sum());
    prop_assert_eq!(pairs, summary.pairs);
    prop_assert!(summary.tracked <= limits.connections as u64);
    prop_assert!(summary.pairs <= limits.pairs as u64);
    prop_assert!(summary.clients <= limits.clients as u64);
    Ok(())
}

/// What the windows add to history is what the connections came to, once all have ended.
fn check_folded(
    connections: &Connections,
    flows: &[Flow],
    folded: &[Folded],
) -> Result<(), TestCaseError> {
    let (mut by_client, mut by_pair) = (Sessions::default(), Counts::default());
    for folded in folded {
        for sessions in folded.clients.values() {
            by_client.merge(sessions);
        }
        for counts in folded.pairs.values() {
            by_pair.merge(counts);
        }
    }
    prop_assert_eq!(by_client, connections.summary().sessions);
    prop_assert_eq!(by_pair.sessions, by_client);
    let sum = |of: fn(&Flow) -> u64| flows.iter().map(of).sum::<u64>();
    prop_assert_eq!(by_pair.totals.connections, sum(|flow| flow.connections));
    prop_assert_eq!(by_pair.totals.syn_retx, sum(|flow| flow.syn_retx));
    prop_assert_eq!(by_pair.totals.c2s_packets, sum(|flow| flow.c2s_packets));
    prop_assert_eq!(by_pair.totals.c2s_bytes, sum(|flow| flow.c2s_bytes));
    prop_assert_eq!(by_pair.totals.s2c_packets, sum(|flow| flow.s2c_packets));
    prop_assert_eq!(by_pair.totals.s2c_bytes, sum(|flow| flow.s2c_bytes));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_whatever_flows_come_and_however_little_room_there_is(
        windows in prop::collection::vec((0_u64..400, prop::collection::vec(some_flow(), 0..12)), 0..12),
        small in any::<bool>(),
    ) {
        let limits = if small { tiny() } else { Limits::default() };
        let mut connections = Kept::new(limits);
        let (mut flows, mut folded) = (Vec::new(), Vec::new());
        let mut now = 0;
        for (pause, of_window) in windows {
            now += pause;
            // A meter gives each 4-tuple once in a window.
            let mut seen = HashSet::new();
            let of_window: Vec<Flow> = of_window
                .into_iter()
                .filter(|flow| seen.insert(flow.key))
                .map(|flow| Flow { first: at(now), last: at(now + 5), ..flow })
                .collect();
            folded.push(connections.add(&window(now, &of_window)));
            flows.extend(of_window);
            check(&connections, &flows, &limits)?;
        }
        let all = connections.summary().sessions.outcomes;
        folded.push(connections.finish());
        check(&connections, &flows, &limits)?;
        check_folded(&connections, &flows, &folded)?;
        let summary = connections.summary();
        prop_assert_eq!((summary.ended, summary.tracked), (all, 0));
    }
}
