//! Connections: who is cut off, who gives way, and what ends well.

use super::*;

#[test]
fn a_client_that_dawdles_with_its_headers_is_cut_off() {
    let server = Server::start();
    let mut socket = server.connect();
    let start = Instant::now();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: local")
        .expect("sent");
    let mut answer = Vec::new();
    // Closed with or without a last word; a reset is an end as well.
    let _ = socket.read_to_end(&mut answer);
    let time = start.elapsed();
    assert!(
        (HEADER_TIME - Duration::from_secs(1)..HEADER_TIME * 2).contains(&time),
        "{time:?}"
    );
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn the_connection_that_waits_longest_gives_way() {
    let server = Server::start();
    let mut held: Vec<Socket> = (0..places::CONNECTIONS_PER_PROXY)
        .map(|_| server.connect())
        .collect();
    assert_eq!(server.get("/healthz").0, 200);
    let mut answer = Vec::new();
    // At once, not when its time for a head has passed.
    let start = Instant::now();
    let _ = held[0].read_to_end(&mut answer);
    assert!(start.elapsed() < HEADER_TIME / 2 && answer.is_empty());
    let last = held.last_mut().expect("the last");
    last.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .expect("sent");
    last.read_to_end(&mut answer).expect("answered");
    assert!(answer.starts_with(b"HTTP/1.0 200 OK"), "{answer:?}");
}

#[test]
fn an_answer_comes_whole_though_more_is_said_than_asked_for() {
    let server = Server::start();
    let mut socket = server.connect();
    let head = format!(
        "POST /api/v1/relays HTTP/1.1\r\nHost: {}\r\nContent-Length: 500000\r\n\r\n",
        server.address
    );
    socket.write_all(head.as_bytes()).expect("sent");
    // The answer is there before the body is.
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..50 {
        socket.write_all(&[b'x'; 10_000]).expect("sent");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[test]
fn the_end_does_not_wait_for_idle_clients() {
    let server = Server::start();
    let idle = server.connect();
    let mut waiting = server.connect();
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let mut first = [0; 4];
    waiting.read_exact(&mut first).expect("answered");
    let start = Instant::now();
    server.shutdown.send_replace(true);
    let Server {
        runtime, serving, ..
    } = server;
    runtime
        .block_on(async { timeout(Duration::from_secs(8), serving).await })
        .expect("it ends")
        .expect("without a panic")
        .expect("without an error");
    assert!(start.elapsed() < SHUTDOWN_TIME + Duration::from_secs(1));
    drop(idle);
}
