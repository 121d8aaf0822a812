//! What it costs to merge a window into the history and to publish it, and what it costs then to be
//! asked: medians of one run.
//!
//! `cargo bench -p smtpflow-tests --bench history`. A number of sources as an argument runs that one
//! alone, so that the resident memory is its own.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use smtp_common::flow::Totals;
use smtp_user::clock;
use smtp_user::connections::{Connections, Follower, Limits, SharedConnections};
use smtp_user::history::History;
use smtp_user::model::{ConfigState, Identity, Snapshot, Tally, Window};
use smtp_user::serve;
use smtp_user::source_list::{SharedSources, SourceList};
use smtpflow_tests::cost::{Cost, measure, median, resident_mib};
use smtpflow_tests::windows::{Order, SEEDS, window};
use tokio::sync::watch;
use xtask::lab::http_get;

const ROUNDS: usize = 7;
const SOURCES: [u32; 3] = [10_000, 100_000, 1_000_000];

/// What the recorder of the agent has.
struct Recorder {
    history: History,
    sources: SharedSources,
    follower: Follower,
    connections: SharedConnections,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Recorder {
    fn new(capacity: usize) -> Self {
        let now = clock::now();
        let snapshot = Snapshot {
            identity: Identity {
                started_at: now,
                counting_since: now.wall,
                kernel: "of the benchmark".to_owned(),
                ports: vec![25],
                window: Duration::from_secs(10),
                table_lines: 1 << 20,
                flow_lines: 1 << 20,
                cpus: 2,
                table_bytes: 1 << 28,
            },
            points: Vec::new(),
            last_drain: None,
            drains: 0,
            drain_failures: 0,
            drain_failing: false,
            account: Default::default(),
            last_window: Default::default(),
            sources_kept: 0,
            untracked: Default::default(),
            flows: Default::default(),
            verdicts: Default::default(),
            notifications: Default::default(),
            open: Default::default(),
            store: None,
            config: ConfigState::loaded(now.wall),
        };
        let local = vec!["192.0.2.0/24".parse().expect("a prefix")];
        Self {
            history: History::default(),
            sources: SharedSources::new(SourceList::new(local, capacity, SEEDS)),
            follower: Follower::new(&Limits::default()),
            connections: SharedConnections::new(Connections::new(Limits::default())),
            snapshots: watch::channel(Arc::new(snapshot)).0,
        }
    }

    /// As the agent does it.
    fn record(&mut self, window: &Window) {
        let followed = self.follower.follow(window);
        let mut list = self.sources.write();
        self.history.add(window, &mut list);
        let mut connections = self.connections.write();
        connections.add(window, &followed);
        let mut snapshot = Snapshot::clone(&self.snapshots.borrow());
        snapshot.account = self.history.account().clone();
        snapshot.last_window = window.tally.clone();
        snapshot.untracked = self.history.untracked();
        snapshot.sources_kept = list.len() as u64;
        snapshot.flows = connections.summary();
        snapshot.drains += 1;
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}

fn main() {
    // cargo bench adds --bench.
    let number = std::env::args().skip(1).find_map(|word| word.parse().ok());
    if let Some(number) = number {
        bench(number);
        return;
    }
    let me = std::env::current_exe().expect("this program");
    for number in SOURCES {
        let status = Command::new(&me).arg(number.to_string()).status();
        assert!(status.expect("a start").success());
    }
}

fn bench(number: u32) {
    println!("{number} sources, medians of {ROUNDS}");
    for order in [Order::Random, Order::Table] {
        let before = resident_mib();
        // An eighth is for own hosts, of which there are none here.
        let mut recorder = Recorder::new(number as usize * 8 / 7 + 1);
        let given = window(1, number, order);
        let ((), first) = measure(|| recorder.record(&given));
        println!("  {order:?} order: the first window     {first}");
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            costs.push(measure(|| recorder.record(&given)).1);
        }
        println!("  {order:?} order: merge and publish    {}", median(&costs));
        if order == Order::Table {
            let mut costs = Vec::new();
            let mut restarted = restarted(&given);
            for _ in 0..ROUNDS {
                costs.push(measure(|| restarted.record(&given)).1);
            }
            println!("  as after a restart: merge and publish {}", median(&costs));
        }
        // What the meter does with the sources of a window, without and with what metrics want of it.
        let (mut sums, mut placed) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut sum = Totals::default();
            let add = || {
                for source in &given.sources {
                    sum.merge(&source.totals);
                }
            };
            sums.push(measure(add).1);
            let mut tally = Tally::default();
            placed.push(measure(|| tally.place(&given.sources, None)).1);
            assert_eq!(tally.sources, sum);
        }
        println!("  {order:?} order: sum of the sources    {}", median(&sums));
        println!(
            "  {order:?} order: with bins and families {}",
            median(&placed)
        );
        assert_eq!(recorder.sources.read().len(), number as usize);
        assert_eq!(recorder.history.untracked(), Default::default());
        drop(given);
        println!(
            "  {order:?} order: resident {:.1} MiB, before that {before:.1} MiB",
            resident_mib()
        );
        if order == Order::Table {
            ask(&recorder);
        }
    }
}

/// A recorder with these sources as a store gives them back: in the order of their addresses.
fn restarted(window: &Window) -> Recorder {
    let mut sources = window.sources.clone();
    sources.sort_by_key(|source| (!source.address.is_mapped(), source.address.octets()));
    let mut recorder = Recorder::new(sources.len());
    for source in &sources {
        let mut list = recorder.sources.write();
        recorder.history.restore_source(source, &mut list);
    }
    recorder.sources.write().arrange(1 << 19);
    recorder
}

/// Serves it and asks, over TCP on loopback.
fn ask(recorder: &Recorder) {
    let config = smtp_user::config::Serve {
        listen: "127.0.0.1:0".parse().expect("an address"),
        ..smtp_user::config::Serve::default()
    };
    let (listener, options) = serve::bind(&config).unwrap_or_else(|failure| panic!("{failure}"));
    let listen = options.listen;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let (_shutdown, stop) = watch::channel(false);
    let feed = serve::Feed::new(
        recorder.snapshots.subscribe(),
        recorder.connections.clone(),
        recorder.sources.clone(),
    );
    runtime.spawn(serve::serve(
        listener,
        watch::channel(Arc::new(options)).1,
        feed,
        stop,
    ));
    for path in [
        "/metrics",
        "/api/v1/sources?limit=100",
        "/api/v1/sources?limit=100&sort=window.c2s_bytes",
        "/api/v1/sources?limit=100&sort=addr",
        "/api/v1/sources?limit=100&offset=500000",
        "/",
    ] {
        let mut costs: Vec<Cost> = Vec::new();
        for _ in 0..ROUNDS {
            let (answer, cost) = measure(|| http_get(listen, path, &[]).expect("an answer"));
            assert_eq!(answer.status, 200, "{path}");
            costs.push(cost);
        }
        println!("  GET {path:48} {}", median(&costs));
    }
    println!("  resident after these {:.1} MiB", resident_mib());
    runtime.shutdown_background();
}
