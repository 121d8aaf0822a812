//! Streams of events, over real sockets on loopback.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader};

use super::*;
use crate::model::verdict::{VerdictFilter, VerdictNews};
use crate::report::tests::Scene;

/// A client that reads.
struct Listener {
    lines: BufReader<Socket>,
    head: String,
}

/// A message, by the names of its lines.
type Message = HashMap<String, String>;

impl Listener {
    fn new(server: &Server, headers: &str) -> Self {
        let mut socket = server.connect();
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            server.address
        );
        socket.write_all(request.as_bytes()).expect("sent");
        let mut listener = Self {
            lines: BufReader::new(socket),
            head: String::new(),
        };
        while !listener.head.ends_with("\r\n\r\n") {
            let line = listener.line().expect("a head");
            listener.head.push_str(&line);
        }
        listener.head.make_ascii_lowercase();
        listener
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines
            .read_line(&mut line)
            .ok()
            .filter(|read| *read > 0)?;
        Some(line)
    }

    /// The next message; `None` at the end. Each comes in a chunk of its own or with others.
    fn next(&mut self) -> Option<Message> {
        let mut message = Message::new();
        loop {
            let line = self.line()?;
            if line == "\n" && !message.is_empty() {
                return Some(message);
            }
            // Other lines are those of chunks.
            if let Some((name, value)) = line.trim_end().split_once(": ") {
                message.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn next_of(&mut self, event: &str) -> (String, Value) {
        loop {
            let message = self.next().expect("a message");
            if message.get("event").is_some_and(|name| name == event) {
                let data = serde_json::from_str(&message["data"]).expect("JSON");
                return (message["id"].clone(), data);
            }
        }
    }
}

impl Server {
    /// Tells of a drain, as the agent does.
    fn drain(&self, drains: u64) {
        let mut snapshot = fixture::snapshot(&fixture::rows());
        snapshot.identity = self.snapshots.borrow().identity.clone();
        snapshot.drains = drains;
        let snapshot = Arc::new(snapshot);
        self.snapshots.send_replace(snapshot.clone());
        let _ = self.events.send(Event::Drained(snapshot));
    }
}

/// Something that was opened in a real store.
fn news() -> VerdictNews {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let _scene = Scene::in_file(&path);
    let reader = crate::store::Reader::open(&path).expect("a store");
    let verdicts = reader.verdicts(&VerdictFilter::default()).expect("read");
    let verdict = verdicts.into_iter().next().expect("a verdict");
    let events = reader.verdict_events(verdict.id).expect("read");
    VerdictNews {
        event: events.into_iter().next().expect("an event"),
        verdict,
    }
}

#[test]
fn what_happens_is_told_as_it_happens() {
    let server = Server::start();
    let mut listener = Listener::new(&server, "");
    for line in [
        "http/1.1 200 ok",
        "content-type: text/event-stream\r\n",
        "cache-control: no-store\r\n",
        "x-content-type-options: nosniff\r\n",
        "connection: close\r\n",
    ] {
        assert!(listener.head.contains(line), "{line} in {}", listener.head);
    }
    assert_eq!(listener.next().expect("a message")["retry"], "3000");
    // The last drain comes at once.
    let (first, drain) = listener.next_of("drain");
    assert_eq!(drain["drains"], 10);
    let mut have = Vec::new();
    paths(&drain, "", &mut have);
    let mut documented: Vec<_> = drain_event_fields()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    have.sort();
    documented.sort();
    assert_eq!(have, documented);

    server.drain(11);
    let news = Arc::new(news());
    server
        .events
        .send(Event::Verdict(news.clone()))
        .expect("somebody listens");
    server.drain(12);
    let (second, drain) = listener.next_of("drain");
    assert_eq!((&drain["drains"], first == second), (&11.into(), false));
    let (id, verdict) = listener.next_of("verdict");
    assert!(id.starts_with("verdict-"), "{id}");
    assert_eq!(verdict["id"], news.verdict.id);
    assert_eq!(verdict["event"]["to"], "new");
    let mut have = Vec::new();
    paths(&verdict, "", &mut have);
    let mut documented: Vec<_> = verdict_event_fields()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    have.sort();
    documented.sort();
    assert_eq!(have, documented);
    let (third, drain) = listener.next_of("drain");
    assert_eq!(drain["drains"], 12);
    let snapshot = server.snapshots.borrow().clone();
    let reloaded = server.events.send(Event::Reloaded(snapshot));
    reloaded.expect("somebody listens");
    let (id, config) = listener.next_of("config");
    assert!(id.starts_with("config-") && id.ends_with("-1"), "{id}");
    let mut have = Vec::new();
    paths(&config, "", &mut have);
    let documented = config_event_fields().into_iter().map(|(path, _)| path);
    let (have, documented): (BTreeSet<_>, _) = (have.into_iter().collect(), documented.collect());
    assert_eq!(have, documented);

    // Whoever comes back and has it already waits for the next one.
    let mut back = Listener::new(&server, &format!("Last-Event-ID: {third}\r\n"));
    server.drain(13);
    assert_eq!(back.next_of("drain").1["drains"], 13);
    let mut late = Listener::new(&server, &format!("Last-Event-ID: {second}\r\n"));
    assert_eq!(late.next_of("drain").1["drains"], 13);
}

#[test]
fn streams_are_bounded_and_take_no_place_of_other_requests() {
    let server = Server::start();
    let mut held: Vec<Listener> = (0..48).map(|_| Listener::new(&server, "")).collect();
    let refused = Listener::new(&server, "Connection: close\r\n");
    assert!(refused.head.contains(" 503 "), "{}", refused.head);
    // As many other connections as ever.
    let others: Vec<Socket> = (0..places::CONNECTIONS_PER_PROXY - 1)
        .map(|_| server.connect())
        .collect();
    assert_eq!(server.get("/healthz").0, 200);
    drop(others);
    for listener in &mut held {
        assert_eq!(listener.next_of("drain").1["drains"], 10);
    }
    drop(held);
    // A place is free when the server has seen that its client is gone.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        server.drain(11);
        if Listener::new(&server, "Connection: close\r\n")
            .head
            .contains(" 200 ")
        {
            return;
        }
    }
    panic!("places of streams are not given back");
}

#[test]
fn a_question_for_the_head_alone_holds_nothing() {
    let server = Server::start();
    for _ in 0..40 {
        let (status, head, body) = server
            .send("HEAD /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!((status, body.as_str()), (200, ""), "{head}");
    }
    let (status, _, body) = server.get("/api/v1/events?since=1");
    assert_eq!(status, 400, "{body}");
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_others_go_on() {
    let server = Server::start();
    let mut deaf = server.connect();
    deaf.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let mut listener = Listener::new(&server, "");
    let mut drains = 10;
    assert_eq!(listener.next_of("drain").1["drains"], drains);
    // Its socket's buffers are full at some time.
    let (mut cut, start) = (false, Instant::now());
    while !cut && start.elapsed() < Duration::from_secs(60) {
        for _ in 0..EVENTS / 4 {
            drains += 1;
            server.drain(drains);
        }
        while listener.next_of("drain").1["drains"] != drains {}
        std::thread::sleep(Duration::from_millis(50));
        // What a client says on a stream is not read, so this fails when the other end is closed.
        cut = deaf.write_all(b"\r\n").is_err();
    }
    assert!(cut, "after {drains} drains it is still there");
    assert_eq!(server.get("/healthz").0, 200);
}

#[test]
fn the_end_ends_streams_at_once() {
    let server = Server::start();
    let mut listener = Listener::new(&server, "");
    assert_eq!(listener.next_of("drain").1["drains"], 10);
    let start = Instant::now();
    server.shutdown.send_replace(true);
    while listener.next().is_some() {}
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let Server {
        runtime, serving, ..
    } = server;
    runtime
        .block_on(async { timeout(Duration::from_secs(8), serving).await })
        .expect("it ends")
        .expect("without a panic")
        .expect("without an error");
    assert!(start.elapsed() < SHUTDOWN_TIME, "{:?}", start.elapsed());
}
