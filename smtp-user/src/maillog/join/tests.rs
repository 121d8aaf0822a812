//! The joiner by its events.

use std::net::IpAddr;

use super::*;

const LIMITS: Limits = Limits {
    queue_ids: 3,
    keep_open: 100,
    sources: 10,
    addresses: KeptAddresses::Full,
};

fn id(text: &str) -> QueueId {
    QueueId::new(text.as_bytes()).expect("a queue id")
}

fn client(last: u8) -> Client {
    Client {
        address: IpAddr::from([192, 0, 2, last]),
        forged: false,
    }
}

fn begin(text: &str, last: u8) -> Event<'static> {
    Event::Begin {
        id: id(text),
        client: client(last),
    }
}

fn arrival(text: &str, recipients: u32) -> Event<'static> {
    Event::Arrival {
        id: id(text),
        client: None,
        sender: b"ann@example.org",
        size: Some(1000),
        recipients: Some(recipients),
    }
}

fn messages(joiner: &Joiner, last: u8) -> u64 {
    let figures = joiner.clients().get(client(last).address);
    figures.map_or(0, |figures| figures.messages)
}

#[test]
fn a_message_that_is_tried_again_is_counted_once() {
    let mut joiner = Joiner::new(LIMITS);
    joiner.take(0, b"mx", begin("A1", 1));
    for time in [0, 10, 20] {
        joiner.take(time, b"mx", arrival("A1", 2));
    }
    assert_eq!(messages(&joiner, 1), 1);
    joiner.take(30, b"mx", Event::End { id: id("A1") });
    let figures = joiner.clients().get(client(1).address).expect("figures");
    assert_eq!((figures.recipients, figures.bytes), (2, 1000));
    assert_eq!(figures.latest[0].sender.as_deref(), Some("ann@example.org"));
    assert_eq!(joiner.open(), 0);
}

#[test]
fn a_number_that_comes_again_is_another_message() {
    let mut joiner = Joiner::new(LIMITS);
    for (time, last) in [(0, 1), (10, 2)] {
        joiner.take(time, b"mx", begin("A1", last));
        joiner.take(time, b"mx", arrival("A1", 1));
    }
    assert_eq!((messages(&joiner, 1), messages(&joiner, 2)), (1, 1));
    assert_eq!(joiner.open(), 1);
}

#[test]
fn the_same_number_on_another_host_is_another_message() {
    let mut joiner = Joiner::new(LIMITS);
    joiner.take(0, b"mx1", begin("A1", 1));
    joiner.take(0, b"mx2", begin("A1", 2));
    joiner.take(0, b"mx2", arrival("A1", 1));
    assert_eq!((messages(&joiner, 1), messages(&joiner, 2)), (0, 1));
}

#[test]
fn the_oldest_gives_way_and_the_late_are_over() {
    let mut joiner = Joiner::new(LIMITS);
    for (time, text) in [(0, "A1"), (1, "A2"), (2, "A3"), (3, "A4")] {
        joiner.take(time, b"mx", begin(text, 1));
    }
    assert_eq!((joiner.open(), joiner.joined().evicted), (3, 1));
    joiner.take(4, b"mx", arrival("A1", 1));
    assert_eq!(
        (messages(&joiner, 1), joiner.joined().without_client),
        (0, 1)
    );
    joiner.take(102, b"mx", begin("A5", 1));
    assert_eq!(joiner.joined().expired, 1);
    joiner.take(1000, b"mx", begin("A6", 1));
    assert_eq!((joiner.open(), joiner.joined().expired), (1, 4));
}

#[test]
fn many_that_end_leave_nothing_behind() {
    let mut joiner = Joiner::new(LIMITS);
    // One that stays keeps the order from being emptied from its front.
    joiner.take(0, b"mx", begin("STAYS", 1));
    for i in 0..1000 {
        let text = format!("A{i}");
        joiner.take(0, b"mx", begin(&text, 1));
        joiner.take(0, b"mx", Event::End { id: id(&text) });
    }
    assert!(
        joiner.order.len() <= 2 * LIMITS.queue_ids + 1,
        "{}",
        joiner.order.len()
    );
    assert_eq!(joiner.open(), 1);
}

#[test]
fn a_refusal_that_names_nobody_waits_for_the_client() {
    let mut joiner = Joiner::new(LIMITS);
    let refusal = Event::Reject {
        id: Some(id("A1")),
        client: None,
        reason: Reason::Virus,
    };
    joiner.take(0, b"mx", refusal);
    joiner.take(
        0,
        b"mx",
        Event::Arrival {
            id: id("A1"),
            client: Some(client(1)),
            sender: b"",
            size: Some(9),
            recipients: Some(1),
        },
    );
    joiner.finish();
    let figures = joiner.clients().get(client(1).address).expect("figures");
    assert_eq!(figures.rejects[Reason::Virus as usize], 1);
    assert_eq!(figures.latest[0].rejected, Some(Reason::Virus));
}
