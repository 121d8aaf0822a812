//! Against agents that answer as none should, and one with half a million routes.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use snmp2::Pdu;

use super::super::desk::Desk;
use super::super::routes::MOST_ROUTES;
use super::super::settings::Settings;
use super::*;
use crate::model::owner::OwnerSource;

/// How values begin in an answer (RFC 2578, ITU-T X.690).
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const TEXT: u8 = 0x04;
    pub(super) const NAME: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const RESPONSE: u8 = 0xa2;
    pub(super) const END_OF_VIEW: u8 = 0x82;
}

/// What an agent is asked.
struct Question {
    id: i64,
    /// Behind this name it is to go on.
    name: Vec<u64>,
    repetitions: usize,
}

type Rows = Vec<(Vec<u64>, Vec<u8>)>;

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short");
    let mut bytes = vec![tag, 0x84];
    bytes.extend(length.to_be_bytes());
    bytes.extend(content);
    bytes
}

fn integer(number: i64) -> Vec<u8> {
    field(tag::INTEGER, &number.to_be_bytes())
}

/// The octets of a name: seven bits in each, the last of a number without the upper one.
fn name(numbers: &[u64]) -> Vec<u8> {
    let mut octets = vec![u8::try_from(numbers[0] * 40 + numbers[1]).expect("a beginning")];
    for number in &numbers[2..] {
        let count = (64 - number.leading_zeros()).div_ceil(7).max(1);
        for i in (0..count).rev() {
            let more = if i > 0 { 0x80 } else { 0 };
            octets.push((number >> (7 * i) & 0x7f) as u8 | more);
        }
    }
    octets
}

/// An answer of version 2c.
fn response(id: i64, community: &str, status: i64, rows: &Rows) -> Vec<u8> {
    let rows: Vec<u8> = rows
        .iter()
        .flat_map(|(numbers, value)| {
            let row = [field(tag::NAME, &name(numbers)), value.clone()].concat();
            field(tag::SEQUENCE, &row)
        })
        .collect();
    answer_of(id, community, status, &rows)
}

/// One with these octets in the place of its rows.
fn answer_of(id: i64, community: &str, status: i64, rows: &[u8]) -> Vec<u8> {
    let inside = [
        integer(id),
        integer(status),
        integer(0),
        field(tag::SEQUENCE, rows),
    ];
    let message = [
        integer(1),
        field(tag::TEXT, community.as_bytes()),
        field(tag::RESPONSE, &inside.concat()),
    ];
    field(tag::SEQUENCE, &message.concat())
}

/// An agent on loopback, for as long as the tests run; it says nothing to what it has no answer for.
fn agent(mut answer: impl FnMut(Question) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((read, peer)) = socket.recv_from(&mut buffer) {
            let question = Pdu::from_bytes(&buffer[..read]).ok().and_then(|pdu| {
                let (name, _) = pdu.varbinds.clone().next()?;
                Some(Question {
                    id: pdu.req_id.into(),
                    name: name.iter()?.collect(),
                    // It stands where an answer has the index of an error.
                    repetitions: pdu.error_index as usize,
                })
            });
            // Version 3 is not understood; whoever answers it does so without looking.
            let question = question.unwrap_or(Question {
                id: 0,
                name: Vec::new(),
                repetitions: 0,
            });
            if let Some(text) = answer(question) {
                let _ = socket.send_to(&text, peer);
            }
        }
    });
    address
}

fn router(folder: &Path, address: SocketAddr, more: &str) -> Router {
    let file = folder.join("community");
    fs::write(&file, "l4b\n").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
    let text =
        format!("name = \"border\"\naddress = \"{address}\"\ncommunity_file = {file:?}\n{more}\n");
    toml::from_str(&text).expect("a router")
}

/// The name of the row of a network, in `inetCidrRouteTable`.
fn row(network: u32, length: u64, hop: u64) -> Vec<u64> {
    let mut numbers = decode::INET_CIDR_ROUTE_TYPE.to_vec();
    numbers.extend([1, 4]);
    numbers.extend(network.to_be_bytes().map(u64::from));
    numbers.extend([length, 2, 0, 0, 1, 4, 192, 0, 2, hop]);
    numbers
}

/// Rows of /24s in their order, and behind the last one something else.
fn rows(from: &[u64], count: usize, all: u32) -> Rows {
    let column = decode::INET_CIDR_ROUTE_TYPE.len();
    let first = match from.get(column + 2..column + 5) {
        Some([a, b, c]) => (a << 16 | b << 8 | c) as u32 - (1 << 16) + 1,
        _ => 0,
    };
    let mut rows: Rows = (first..all)
        .take(count)
        .map(|i| {
            (
                row((1 << 24) + (i << 8), 24, u64::from(i) % 200),
                integer(4),
            )
        })
        .collect();
    if rows.len() < count {
        let mut next = decode::INET_CIDR_ROUTE_TYPE.to_vec();
        *next.last_mut().expect("numbers") += 1;
        rows.push((next, integer(1)));
    }
    rows
}

fn good(question: &Question, all: u32) -> Vec<u8> {
    let rows = rows(&question.name, question.repetitions, all);
    response(question.id, "l4b", 0, &rows)
}

#[test]
fn half_a_million_routes_are_read_in_their_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = agent(|question| Some(good(&question, 500_000)));
    let begun = Instant::now();
    let reading = read(&router(folder.path(), address, ""), MOST_ROUTES).expect("all of them");
    println!("500,000 routes in {:?}", begun.elapsed());
    assert_eq!((reading.table.len(), reading.unfit), (500_000, 0));
    assert_eq!(reading.of, "inetCidrRouteTable");
    let routes = reading.table.to("1.0.7.9".parse().expect("an address"));
    assert_eq!(routes[0].destination.to_string(), "1.0.7.0/24");
    assert_eq!(routes[0].next_hop, "192.0.2.7".parse().ok());
}

#[test]
fn a_router_that_answers_late_is_waited_for_longer_each_time() {
    // Longer than an answer is waited for at first, and shorter than at the second try.
    const LATE: Duration = Duration::from_millis(2500);
    let folder = tempfile::tempdir().expect("a folder");
    let (asked, questions) = std::sync::mpsc::channel();
    let address = agent(move |question| {
        let _ = asked.send(question.name.clone());
        thread::sleep(LATE);
        Some(good(&question, 100))
    });
    let router = router(folder.path(), address, "repetitions = 60");
    let reading = read(&router, 1000).expect("all of them");
    assert_eq!(reading.table.len(), 100);
    let questions: Vec<_> = questions.try_iter().collect();
    assert_eq!(questions.len(), 3, "{questions:?}");
    assert_eq!(questions[0], questions[1], "it was not waited for so long");
    assert_ne!(questions[1], questions[2]);
}

#[test]
fn a_desk_reads_what_the_one_before_has_kept_of_a_router() {
    let folder = tempfile::tempdir().expect("a folder");
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = std::sync::Arc::clone(&asked);
    let address = agent(move |question| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Some(good(&question, 100))
    });
    let settings = Settings {
        order: vec![OwnerSource::Routers],
        router: vec![router(folder.path(), address, "repetitions = 500")],
        state: folder.path().to_path_buf(),
        ..Settings::default()
    };
    let desk = || Desk::new(&settings, None).expect("a desk");
    let read = |mut desk: Desk| {
        let mut routes = Vec::new();
        let each = desk.each_route(|name, route| {
            routes.push((name.to_owned(), route.destination, route.next_hop));
            Ok(())
        });
        each.expect("routes");
        assert_eq!(routes.len(), 100);
        (routes, asked.load(std::sync::atomic::Ordering::SeqCst))
    };
    let (first, one) = read(desk());
    assert_eq!(first[0].0, "the router border (inetCidrRouteTable)");
    let (second, still) = read(desk());
    assert_eq!((second, still), (first, one), "it was asked again");
    let (_, more) = read(desk().fresh());
    assert!(more > one, "it was not asked");
}

#[test]
fn patience_doubles_and_fits_into_the_time_that_is_left() {
    let second = Duration::from_secs(1);
    let mut patience = PATIENCE;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(patience.as_secs());
        patience = longer(patience, 1000 * second);
    }
    assert_eq!(all, [2, 4, 8, 16, 16]);
    for (patience, left, expected) in [
        (8, 100, 16),
        (8, 15, 8),
        (8, 7, 4),
        (8, 3, 2),
        (8, 1, 1),
        (1, 100, 2),
    ] {
        let found = longer(patience * second, left * second);
        assert_eq!(found, expected * second, "{patience} of {left}");
    }
}

#[test]
fn answers_that_are_too_big_become_smaller_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = agent(|question| {
        Some(match question.repetitions {
            0..=6 => good(&question, 100),
            _ => response(question.id, "l4b", 1, &Vec::new()),
        })
    });
    let reading = read(&router(folder.path(), address, ""), 1000).expect("all of them");
    assert_eq!(reading.table.len(), 100);
}

#[test]
fn rows_that_are_no_routes_are_counted_and_cost_only_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = agent(|question| {
        let mut rows = rows(&question.name, 10, 10);
        // Bits behind the length of the prefix.
        if let Some(third) = rows.get_mut(3) {
            third.0 = row((1 << 24) + (3 << 8) + 1, 24, 3);
        }
        Some(response(question.id, "l4b", 0, &rows))
    });
    let reading = read(&router(folder.path(), address, ""), 1000).expect("the others");
    assert_eq!((reading.table.len(), reading.unfit), (9, 1));
}

#[test]
fn hostile_agents_end_soon_and_say_why() {
    type Answer = Box<dyn FnMut(Question) -> Option<Vec<u8>> + Send>;
    let forward = |number: u64| {
        let mut numbers = decode::INET_CIDR_ROUTE_TYPE.to_vec();
        numbers.push(number);
        (numbers, integer(4))
    };
    let mut number = 0;
    let mut fewer = 1 << 40;
    let mut slow = 0;
    let cases: Vec<(&str, Answer)> = vec![
        ("no answer to 4 questions", Box::new(|_| None)),
        (
            "does not get on",
            Box::new(move |question| Some(response(question.id, "l4b", 0, &vec![forward(7)]))),
        ),
        (
            "does not get on",
            Box::new(move |question| {
                fewer -= 1;
                Some(response(question.id, "l4b", 0, &vec![forward(fewer)]))
            }),
        ),
        (
            "more than 1000 rows",
            Box::new(move |question| {
                number += 1;
                Some(response(question.id, "l4b", 0, &vec![forward(number)]))
            }),
        ),
        (
            "take longer than it is given",
            Box::new(move |question| {
                slow += 1;
                thread::sleep(Duration::from_millis(700));
                Some(response(question.id, "l4b", 0, &vec![forward(slow)]))
            }),
        ),
        ("", Box::new(|_| Some(Vec::new()))),
        ("", Box::new(|_| Some(vec![0xff; 60_000]))),
        (
            "",
            Box::new(|question| {
                let mut text = good(&question, 10);
                text.truncate(text.len() / 2);
                Some(text)
            }),
        ),
        (
            "",
            Box::new(|question| {
                Some(response(
                    question.id + 1,
                    "l4b",
                    0,
                    &rows(&question.name, 5, 9),
                ))
            }),
        ),
        (
            "",
            Box::new(|question| {
                Some(response(
                    question.id,
                    "other",
                    0,
                    &rows(&question.name, 5, 9),
                ))
            }),
        ),
        (
            "the error 5 of RFC 3416",
            Box::new(|question| Some(response(question.id, "l4b", 5, &Vec::new()))),
        ),
        // One row is too big as well.
        (
            "the error 1 of RFC 3416",
            Box::new(|question| Some(response(question.id, "l4b", 1, &Vec::new()))),
        ),
        (
            "without a row",
            Box::new(|question| Some(response(question.id, "l4b", 0, &Vec::new()))),
        ),
        (
            "shows no route",
            Box::new(|question| {
                let end = vec![(question.name, field(tag::END_OF_VIEW, &[]))];
                Some(response(question.id, "l4b", 0, &end))
            }),
        ),
        // A name with a number that no number has room for.
        (
            "",
            Box::new(|question| {
                let mut octets = name(decode::INET_CIDR_ROUTE_TYPE);
                octets.extend([0xff; 20]);
                octets.push(0x7f);
                let row = [field(tag::NAME, &octets), integer(4)].concat();
                let rows = field(tag::SEQUENCE, &row);
                Some(answer_of(question.id, "l4b", 0, &rows))
            }),
        ),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (i, (expected, answer)) in cases.into_iter().enumerate() {
        let address = agent(answer);
        let router = router(folder.path(), address, "time = \"9s\"");
        let begun = Instant::now();
        let failure = match read(&router, 1000) {
            Ok(reading) => panic!("{i}: {reading:?}"),
            Err(failure) => failure,
        };
        assert_eq!(failure.kind, Kind::Unavailable, "{i}");
        let error = failure.to_string();
        let begin = format!("cannot read the routes of the router border at {address}: ");
        assert!(error.starts_with(&begin), "{i}: {error}");
        assert!(error.contains(expected), "{i}: {error}");
        assert!(
            error.len() > begin.len() && !error.contains("l4b"),
            "{i}: {error}"
        );
        // Its time, and one answer that was waited for when that was over.
        assert!(
            begun.elapsed() < Duration::from_secs(9) + PATIENCE,
            "{i}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn damaged_answers_end_in_routes_or_in_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut at = 0_usize;
    let address = agent(move |question| {
        let mut text = good(&question, 20);
        at += 1;
        let place = at * 7 % text.len();
        text[place] = text[place].wrapping_add((at % 251) as u8 + 1);
        Some(text)
    });
    let router = router(folder.path(), address, "time = \"5s\"\nrepetitions = 5");
    let mut failed = 0;
    for _ in 0..200 {
        match read(&router, 1000) {
            Ok(reading) => assert!(reading.table.len() <= 1000),
            Err(failure) => {
                assert_eq!(failure.kind, Kind::Unavailable);
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "the damage does nothing");
}

#[test]
fn version_3_stands_no_nonsense() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("auth");
    fs::write(&secret, "a-passphrase\n").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("mode");
    for text in [
        Vec::new(),
        vec![0x30; 1000],
        // An answer of version 2c, which nobody has authenticated.
        response(0, "l4b", 0, &rows(&[], 5, 9)),
    ] {
        let address = agent(move |_| Some(text.clone()));
        let router: Router = toml::from_str(&format!(
            "name = \"border\"\naddress = \"{address}\"\nversion = \"3\"\nuser = \"u\"\nauth = \"sha256\"\n\
             auth_file = {secret:?}\ntime = \"5s\"\n"
        ))
        .expect("a router");
        let begun = Instant::now();
        let failure = read(&router, 1000).expect_err("nonsense").to_string();
        assert!(!failure.contains("a-passphrase"), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(7), "{failure}");
    }
}
