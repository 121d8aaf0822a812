//! Requests that no client should send, to a running agent that has something to answer from and may be
//! changed: it answers or closes, each time and at once; nothing panics, nothing is the server's fault (5xx), and
//! afterwards it has no more memory and descriptors than before and has counted everything.
//!
//! `SMTPFLOW_SEED` chooses other requests; the seed is printed. A failure shows the request.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smtp_common::flow::Totals;
use smtpflow_tests::packets::server;
use smtpflow_tests::reached::{self, LOCAL};
use smtpflow_tests::requests::Case;
use smtpflow_tests::{long, volley};
use xtask::command::poll_until;
use xtask::lab::{Lab, Topology};

const LIMIT: Duration = Duration::from_secs(60);
const DEFAULT_SEED: u64 = 0x5eed_0002;
/// Requests at least, on a machine that does much else; alone it is some times as many.
const REQUESTS: u64 = 10_000;
/// The longest of all, in the usual form.
const TIME: Duration = Duration::from_secs(40);
/// And with `--long`.
const LONG_TIME: Duration = Duration::from_secs(30 * 60);
/// Those that ask at a time.
const CLIENTS: u64 = 4;
/// How long an answer is waited for before the client says that it sends no more.
const PATIENCE: Duration = Duration::from_millis(15);
/// The longest from then until the connection is closed.
const CLOSED: Duration = Duration::from_secs(13);
/// By how much the agent may have grown, in KiB: what allocators keep, and bounded caches.
const GROWTH: u64 = 48 << 10;

/// Sends it, and reads until the other end closes.
fn exchange(server: SocketAddr, case: &Case) -> Result<Vec<u8>, String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&server, LIMIT).map_err(failed("connect"))?;
    stream.set_nodelay(true).map_err(failed("nodelay"))?;
    let mut answer = Vec::new();
    let begun = Instant::now();
    // It may be answered and closed before all is said.
    stream
        .set_write_timeout(Some(CLOSED))
        .map_err(failed("limit"))?;
    let wrote = stream.write_all(&case.octets);
    if wrote.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        return Err("it does not read".to_owned());
    }
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(failed("limit"))?;
    let mut piece = [0; 16 << 10];
    let mut said = false;
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !said {
                    said = true;
                    let _ = stream.shutdown(Shutdown::Write);
                } else if is_stream(&answer) {
                    // Which has no end.
                    return Ok(answer);
                } else if begun.elapsed() > CLOSED {
                    return Err(format!("not closed in {:?}", begun.elapsed()));
                }
            }
            // What it does not want to hear.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(answer),
            Err(error) => return Err(format!("cannot read: {error}")),
        }
    }
}

/// Whether what was read ends in a stream of events.
fn is_stream(answer: &[u8]) -> bool {
    let kind = b"content-type: text/event-stream";
    answer.windows(kind.len()).any(|piece| piece == kind)
}

/// The answers on a connection: status and body. Where heads were asked for only the first.
fn answers(mut octets: &[u8], heads: bool) -> Result<Vec<(u16, Vec<u8>)>, String> {
    let mut answers = Vec::new();
    while !octets.is_empty() {
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            return Err("a head without an end".to_owned());
        };
        let head = String::from_utf8_lossy(&octets[..end]).to_ascii_lowercase();
        let status = head
            .strip_prefix("http/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse::<u16>().ok())
            .ok_or_else(|| format!("no status: {head}"))?;
        octets = &octets[end + 4..];
        if status == 100 {
            continue;
        }
        let field = |name: &str| {
            let mut lines = head.split("\r\n");
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let length = match field("content-length").map(str::parse::<usize>) {
            // In chunks, or to the end: what is cut is cut by us.
            None => octets.len(),
            Some(Ok(length)) => length.min(octets.len()),
            Some(Err(error)) => return Err(format!("{error}: {head}")),
        };
        let length = if status == 304 { 0 } else { length };
        answers.push((status, octets[..length].to_vec()));
        if heads {
            break;
        }
        octets = &octets[length..];
    }
    Ok(answers)
}

/// Whether an answer says no more than that what the documentation limits is at its limit, or that a drain is
/// late on a machine that does much else.
fn is_limit(status: u16, body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body);
    status == 503
        && (body.contains("\"ready\":false")
            || body.contains("streams of events")
            || body.contains("others are changing something"))
}

#[test]
fn no_request_does_any_harm() {
    let seed = std::env::var("SMTPFLOW_SEED").ok();
    let seed = seed.map_or(DEFAULT_SEED, |seed| seed.parse().expect("a number"));
    println!("SMTPFLOW_SEED={seed}");
    let time = if long() { LONG_TIME } else { TIME };
    let lab = Lab::gateway("tfuzzhttp", Topology::default()).expect("a laboratory");
    lab.add_client("mail").expect("a client");
    lab.ip("gateway", &format!("route add blackhole {}", server(1)))
        .expect("a route");
    let more = "[networks]\nlocal = [\"198.51.100.0/24\"]\n[detect.burst]\nper_second = 1\n";
    let mut agent = reached::start(&lab, more);
    let id = agent.id();

    let over = AtomicBool::new(false);
    let next = AtomicU64::new(0);
    let statuses: Mutex<BTreeMap<u16, u64>> = Mutex::default();
    let faults: Mutex<Vec<String>> = Mutex::default();
    let asked = AtomicU64::new(0);
    // So long that whatever is taken once has been taken, for each thread and each cache.
    let ask = |until: Instant| {
        while Instant::now() < until && faults.lock().expect("whole").len() < 5 {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let case = Case::new(seed, number);
            let begun = Instant::now();
            let judged = exchange(LOCAL, &case).and_then(|octets| answers(&octets, case.heads));
            let fault = match judged {
                Err(fault) => Some(fault),
                Ok(answers) => {
                    asked.fetch_add(answers.len().max(1) as u64, Ordering::Relaxed);
                    let mut statuses = statuses.lock().expect("whole");
                    for (status, _) in &answers {
                        *statuses.entry(*status).or_default() += 1;
                    }
                    let mut bad = answers.iter();
                    bad.find(|(status, body)| *status >= 500 && !is_limit(*status, body))
                        .map(|(status, body)| {
                            let body = String::from_utf8_lossy(body);
                            format!("{status} after {:?}: {body}", begun.elapsed())
                        })
                }
            };
            if let Some(fault) = fault {
                let octets = case.octets.escape_ascii().to_string();
                let octets: String = octets.chars().take(3000).collect();
                let fault: String = fault.chars().take(500).collect();
                let mut faults = faults.lock().expect("whole");
                faults.push(format!("request {number}: {fault}\n    {octets}"));
            }
        }
    };
    let all = |time: Duration| {
        let until = Instant::now() + time;
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    lab.within("gateway", || ask(until))
                        .expect("a thread in the namespace");
                });
            }
        });
    };
    let (sent, before, after) = std::thread::scope(|scope| {
        let mail = scope.spawn(|| {
            lab.within("mail", || volley::fire(1000, &over))
                .expect("a thread in the namespace")
        });
        all(time / 3);
        let measure = || (reached::descriptors(id), reached::in_status(id, "VmRSS"));
        // Connections of clients that are gone have ended.
        std::thread::sleep(Duration::from_secs(2));
        let before = measure();
        all(time * 2 / 3);
        poll_until(Duration::from_secs(15), || {
            reached::descriptors(id) <= before.0
        });
        let after = measure();
        over.store(true, Ordering::Relaxed);
        (mail.join().expect("the mail"), before, after)
    });
    let asked = asked.into_inner();
    let statuses = statuses.into_inner().expect("whole");
    println!(
        "{asked} requests on {} connections: {statuses:?}; descriptors and KiB {before:?}, then {after:?}",
        next.into_inner()
    );
    let faults = faults.into_inner().expect("whole");
    assert!(
        faults.is_empty(),
        "SMTPFLOW_SEED={seed}\n{}",
        faults.join("\n")
    );
    let log = agent.log_text();
    assert!(agent.is_running() && !log.contains("panicked"), "{log}");
    assert!(asked >= REQUESTS, "{asked} requests");
    // Whatever there is was reached, or nothing was shown.
    for status in [
        200, 201, 400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 431,
    ] {
        assert!(
            statuses.contains_key(&status),
            "nothing was answered {status}: {statuses:?}"
        );
    }
    assert!(
        after.0 <= before.0,
        "{} descriptors, then {}",
        before.0,
        after.0
    );
    assert!(
        after.1 < before.1 + GROWTH,
        "{} KiB, then {}",
        before.1,
        after.1
    );
    let packets = sent.values().map(Totals::packets).sum();
    reached::has_counted(&lab, packets);
}
