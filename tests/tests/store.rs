//! The store under a running agent and on a disk that is full: no count is lost, none counted twice.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;
use smtp_user::crash;
use smtp_user::model::period::{Period, Tier};
use smtp_user::model::{Counts, Folded, PairKey, Tally, Window};
use smtp_user::store::{Committed, Reader, Store};
use smtpflow_tests::random::Random;
use smtpflow_tests::windows::{Order, window};
use smtpflow_tests::{history, long};
use xtask::command::{finish, poll_until};
use xtask::lab::{Agent, AgentOptions, Lab, ensure_bpffs};

const LIMIT: Duration = Duration::from_secs(60);
const GATEWAY: &str = "192.0.2.1";
/// Tables of the test that has no kernel in it.
const TABLE: u64 = 7;

/// A small disk of its own, gone when dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(kib: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={kib}k");
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .expect("a tmpfs");
        Self { folder }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("smtpflow.db")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        loop {
            match file.write_all(&[0; 1024]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}

fn open(path: &Path) -> Store {
    Store::open(path, 100_000).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The account in a store; that the sources add up to it is checked.
fn held(store: &Store) -> Tally {
    let mut sum = Totals::default();
    let ledger = store
        .load(|kept| sum.merge(&kept.source.totals))
        .unwrap_or_else(|failure| panic!("{failure}"));
    sum.merge(&ledger.untracked);
    assert_eq!(sum, ledger.account.sources);
    ledger.account
}

#[test]
fn a_full_disk_loses_no_count_and_doubles_none() {
    let disk = Disk::new(4096);
    let mut store = open(&disk.store());
    let mut expected = Tally::default();
    let mut commit = |store: &mut Store, window: &Window| {
        expected.merge(&window.tally);
        let committed = store.commit(TABLE, window, &Folded::default());
        store.tidy();
        (committed, expected.clone())
    };

    let (committed, _) = commit(&mut store, &window(1, 1000, Order::Table));
    assert_eq!(committed, Committed::Stored);
    disk.fill();
    // More than fits into the pages that the file has already.
    for epoch in 2..6 {
        let (committed, _) = commit(&mut store, &window(epoch, 5000, Order::Table));
        assert_eq!(committed, Committed::Waiting);
    }
    let state = store.state();
    assert!(state.errors >= 4, "{state:?}");
    assert_eq!(
        (state.pending_sources, state.committed_epoch),
        (5000, Some(1))
    );
    let failure = state.failure.expect("a reason");
    assert!(failure.contains("full"), "{failure}");

    disk.make_room();
    let (committed, all) = commit(&mut store, &window(6, 10, Order::Table));
    assert_eq!(committed, Committed::Stored);
    let state = store.state();
    assert_eq!((state.pending_sources, state.failure), (0, None));
    assert_eq!(held(&store), all);

    // A disk that fills while the file is as small as it was loses nothing either, over a restart.
    disk.fill();
    let (committed, _) = commit(&mut store, &window(7, 20_000, Order::Table));
    assert_eq!(committed, Committed::Waiting);
    disk.make_room();
    let (committed, all) = commit(&mut store, &window(8, 20_000, Order::Random));
    assert_eq!(committed, Committed::Stored);
    drop(store);
    let mut store = open(&disk.store());
    assert_eq!(held(&store), all);
    let committed = store
        .committed(TABLE)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(committed, Some(8));
    drop(store);
}

/// A client and a gateway, joined by `eth0` and `outer`.
fn lab(prefix: &str) -> Lab {
    ensure_bpffs().expect("bpffs");
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["client", "gateway"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("client", "eth0"), ("gateway", "outer"), None)
        .expect("a link");
    lab.ip("client", "addr add 192.0.2.2/24 dev eth0")
        .expect("an address");
    lab.ip("gateway", &format!("addr add {GATEWAY}/24 dev outer"))
        .expect("an address");
    lab
}

fn options(lab: &Lab) -> AgentOptions {
    let mut options = AgentOptions::new(lab).expect("options");
    options.interfaces = vec!["outer".to_owned()];
    options.window = "1s".to_owned();
    options
}

fn start(lab: &Lab, options: &AgentOptions) -> Agent {
    let mut agent = lab.agent(options).expect("the agent starts");
    agent.wait_ready(LIMIT).expect("the agent is ready");
    agent
}

/// Opens this many connections to a port where nobody listens.
fn knock(lab: &Lab, times: u64) {
    let target: SocketAddr = format!("{GATEWAY}:25").parse().expect("an address");
    lab.within("client", || {
        for _ in 0..times {
            TcpStream::connect_timeout(&target, LIMIT).expect_err("the port is closed");
        }
    })
    .expect("a thread in the namespace");
}

fn status(agent: &mut Agent) -> Value {
    agent.json("/api/v1/status").expect("status")
}

/// The connections that the agent shows once all that was sent is drained.
fn connections(agent: &mut Agent) -> u64 {
    agent.wait_drained(LIMIT).expect("a drain");
    let status = status(agent);
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    status["totals"]["connections"].as_u64().expect("a number")
}

#[test]
fn counts_go_on_where_the_agent_before_had_ended() {
    let lab = lab("sfstorego");
    let options = options(&lab);
    let mut agent = start(&lab, &options);
    knock(&lab, 4);
    assert_eq!(connections(&mut agent), 4);
    let before = status(&mut agent);
    let store = options.store.as_ref().expect("a store");
    assert_eq!(before["store"]["path"], store.display().to_string());
    assert_eq!(before["store"]["since"], before["counting_since"]);
    assert!(
        before["store"]["committed_epoch"].as_u64() > Some(0),
        "{before}"
    );
    assert!(before["store"]["failure"].is_null());
    // What comes after the last drain that anybody saw is in the last drain of all.
    knock(&lab, 3);
    assert!(agent.stop().expect("the agent ends").success());
    assert!(!options.pins.exists(), "pins are left");

    let mut agent = start(&lab, &options);
    knock(&lab, 5);
    assert_eq!(connections(&mut agent), 4 + 3 + 5);
    let after = status(&mut agent);
    assert_eq!(after["counting_since"], before["counting_since"]);
    assert_ne!(after["started_at"], before["started_at"]);
    let sources = agent.json("/api/v1/sources?limit=1").expect("sources");
    assert_eq!(
        sources["sources"][0]["total"]["connections"], 12,
        "{sources}"
    );
    assert!(agent.stop().expect("the agent ends").success());

    // Without a store it knows nothing of all that, and says so.
    let without = AgentOptions {
        store: None,
        ..options
    };
    let mut agent = start(&lab, &without);
    knock(&lab, 2);
    assert_eq!(connections(&mut agent), 2);
    let status = status(&mut agent);
    assert!(status["store"].is_null());
    assert_eq!(status["counting_since"], status["started_at"]);
    let log = agent.process().log_text();
    assert!(log.contains("there is no store"), "{log}");
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn a_second_agent_on_the_same_store_is_refused() {
    let lab = lab("sfstoretwo");
    let options = options(&lab);
    let mut agent = start(&lab, &options);
    let pins = options.pins.with_file_name("smtpflow-sfstoretwo-other");
    lab.record_pins(&pins).expect("written down");
    let mut second = Command::new(&options.binary);
    second.args(["run", "--interface", "eth0", "--listen", "127.0.0.1:0"]);
    second.args(["--netns", &lab.ns("client")]);
    second.arg("--pins").arg(&pins);
    second
        .arg("--store")
        .arg(options.store.as_ref().expect("a store"));
    let finished = finish(&mut second, LIMIT).expect("it ends");
    assert_eq!(finished.status.code(), Some(69), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("in use by another smtpflow")
            && finished.stderr.contains("--store"),
        "{}",
        finished.stderr
    );
    assert!(!pins.exists(), "pins of the refused agent are left");
    knock(&lab, 2);
    assert_eq!(connections(&mut agent), 2);
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn an_agent_that_cannot_write_says_so_and_goes_on() {
    let lab = lab("sfstorefull");
    let disk = Disk::new(1024);
    let mut options = options(&lab);
    options.store = Some(disk.store());
    let mut agent = start(&lab, &options);
    knock(&lab, 1);
    assert_eq!(connections(&mut agent), 1);
    disk.fill();
    // The log of the file has pages left over; every window takes more of them.
    let failing = poll_until(LIMIT, || {
        knock(&lab, 1);
        agent
            .get("/readyz")
            .is_ok_and(|answer| answer.status == 503 && answer.text().contains("wait in memory"))
    });
    assert!(failing, "{}", status(&mut agent));
    knock(&lab, 10);
    let waiting = connections(&mut agent);
    let metrics = agent.get("/metrics").expect("metrics").text();
    assert!(
        !metrics.contains("smtpflow_store_errors_total 0\n"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("smtpflow_store_pending_sources 0\n"),
        "{metrics}"
    );
    disk.make_room();
    agent.wait_ready(LIMIT).expect("ready again");
    knock(&lab, 5);
    assert_eq!(connections(&mut agent), waiting + 5);
    let log = agent.process().log_text();
    assert_eq!(log.matches("cannot write to the store").count(), 1, "{log}");
    assert_eq!(log.matches("can be written again").count(), 1, "{log}");
    assert!(agent.stop().expect("the agent ends").success());

    let mut agent = start(&lab, &options);
    assert_eq!(connections(&mut agent), waiting + 5);
    assert!(agent.stop().expect("the agent ends").success());
}

#[test]
fn a_damaged_file_is_set_aside_and_what_the_kernel_counted_since_is_kept() {
    let lab = lab("sfstorebad");
    let mut options = options(&lab);
    options.extra = vec!["--keep-attached".to_owned()];
    let path = options.store.clone().expect("a store");
    let mut agent = start(&lab, &options);
    knock(&lab, 3);
    assert_eq!(connections(&mut agent), 3);
    assert!(agent.stop().expect("the agent ends").success());
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).open(&path).expect("the file");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 20_000], 0).expect("written");
    // Counted while no agent is there.
    knock(&lab, 2);

    let mut agent = start(&lab, &options);
    assert_eq!(connections(&mut agent), 2);
    knock(&lab, 4);
    assert_eq!(connections(&mut agent), 6);
    let log = agent.process().log_text();
    assert!(log.contains("ERROR") && log.contains(".corrupt-"), "{log}");
    let folder = path.parent().expect("a folder");
    let aside: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("smtpflow.db.corrupt-"))
        .collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = std::fs::read(&aside[0]).expect("what was set aside");
    assert!(kept.starts_with(&[0x5a; 20_000]));
    assert!(agent.stop().expect("the agent ends").success());
    // Loud until somebody has taken it away.
    let mut agent = start(&lab, &options);
    assert_eq!(connections(&mut agent), 6);
    assert_eq!(status(&mut agent)["store"]["set_aside"], 1);
    let metrics = agent.get("/metrics").expect("metrics").text();
    let loud = metrics.contains("\nsmtpflow_store_set_aside_files 1\n");
    assert!(loud, "{metrics}");
    assert!(agent.stop().expect("the agent ends").success());
}

/// Runs the writer of history up to this window; it may be told where to die. Says whether it came to
/// the end.
fn write(path: &Path, last: u64, die_at: Option<&str>) -> bool {
    let mut writer = Command::new(env!("CARGO_BIN_EXE_history_writer"));
    writer.arg(path).arg(last.to_string());
    if let Some(point) = die_at {
        writer.env(crash::VARIABLE, point);
    }
    let finished = finish(&mut writer, LIMIT).expect("it ends");
    let killed = finished.status.signal() == Some(Signal::SIGKILL as i32);
    assert!(finished.status.success() || killed, "{}", finished.stderr);
    !killed
}

/// What a dead writer has left is what it had committed, in the ledger as in history, to the last
/// count and once. Says how many windows that are.
fn whole(path: &Path) -> u64 {
    // First as somebody who only reads finds it.
    let found = history::held(
        &Reader::open(path).unwrap_or_else(|failure| panic!("{failure}")),
        history::ALWAYS,
    );
    let mut store = open(path);
    let committed = store
        .committed(history::TABLE)
        .unwrap_or_else(|failure| panic!("{failure}"))
        .unwrap_or(0);
    let expected = history::expected(committed);
    assert_eq!(found, expected, "after window {committed}");
    let mut sum = Totals::default();
    expected
        .0
        .values()
        .for_each(|counts| sum.merge(&counts.totals));
    assert_eq!(held(&store).sources, sum);
    committed
}

#[test]
fn killed_at_each_point_of_a_write_history_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    assert!(write(&path, 1, None));
    let kills = if long() { 200 } else { 40 };
    let mut last = 1;
    for kill in 0..kills {
        // A few windows each, so that bins, hours and days end between the deaths and in them.
        for point in ["mid_commit", "mid_tidy", "after_tidy"] {
            last += 20;
            let passes = 1 + (kill * 7 + last) % 40;
            write(&path, last, Some(&format!("{point}:{passes}")));
            let committed = whole(&path);
            assert!(committed <= last);
            last = committed.max(1);
        }
    }
    assert!(write(&path, last + 900, None));
    assert_eq!(whole(&path), last + 900);
    println!(
        "{} kills, {} windows: none lost, none doubled",
        3 * kills,
        last + 900
    );
    // What was merged and what is past its time is gone, whatever was killed in between.
    let reader = Reader::open(&path).unwrap_or_else(|failure| panic!("{failure}"));
    let closed = Period {
        from: 1000 * history::BEGIN,
        to: reader.now() - reader.now() % 86_400_000,
    };
    assert_eq!(reader.snap(closed), closed);
    for tier in [Tier::Bin, Tier::Hour] {
        let kept = reader
            .coverage(tier, closed)
            .unwrap_or_else(|failure| panic!("{failure}"));
        assert!(kept.iter().all(|bucket| !bucket.is_partial()));
    }
}

#[test]
fn killed_at_random_while_it_writes_history_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    assert!(write(&path, 1, None));
    let kills = if long() { 100 } else { 15 };
    let mut random = Random::new(4);
    let mut committed = 1;
    for _ in 0..kills {
        let mut writer = Command::new(env!("CARGO_BIN_EXE_history_writer"));
        writer.arg(&path).arg((committed + 100_000).to_string());
        let mut writer = writer.spawn().expect("a start");
        std::thread::sleep(Duration::from_millis(20 + random.below(300) as u64));
        writer.kill().expect("killed");
        writer.wait().expect("it ends");
        let now = whole(&path);
        assert!(now >= committed);
        committed = now;
    }
    println!("{kills} kills at random, {committed} windows: none lost, none doubled");
}

/// A window of many sources and pairs of their own, in a bin of its own.
fn many(epoch: u64, number: u32) -> (Window, Folded) {
    let mut given = window(epoch, number, Order::Table);
    given.started_at += Duration::from_secs(300 * epoch);
    let mut folded = Folded::default();
    for source in &given.sources {
        let key = PairKey {
            client: source.address,
            server: Address::from_words(epoch, source.address.octets()[15].into()),
        };
        let counts = Counts {
            totals: source.totals,
            ..Counts::default()
        };
        folded.pairs.insert(key, counts);
    }
    (given, folded)
}

#[test]
fn on_a_disk_that_is_full_for_long_history_loses_pairs_first_and_totals_never() {
    let disk = Disk::new(4096);
    let mut store =
        Store::open(&disk.store(), 100_000).unwrap_or_else(|failure| panic!("{failure}"));
    let (first, folded) = many(1, 100);
    assert_eq!(store.commit(TABLE, &first, &folded), Committed::Stored);
    disk.fill();
    let mut expected = first.tally.clone();
    let mut epochs = 1;
    // 40,000 sources and as many pairs are more than 2 MB of records.
    while store.state().coarsened_pairs < 1 {
        epochs += 1;
        let (given, folded) = many(epochs, 40_000);
        expected.merge(&given.tally);
        assert_eq!(store.commit(TABLE, &given, &folded), Committed::Waiting);
        let state = store.state();
        assert!(state.pending_bytes <= 32 << 20, "{state:?}");
        assert!(epochs < 60, "nothing is left out: {state:?}");
        // What waits is merged by nobody.
        assert!(!store.tidy());
    }
    let state = store.state();
    assert_eq!(state.coarsened_sources, 0, "{state:?}");
    disk.make_room();
    // Room for all that waits.
    let room = format!("remount,size={}k", 256 << 10);
    mount(
        None::<&str>,
        disk.folder.path(),
        None::<&str>,
        MsFlags::MS_REMOUNT,
        Some(room.trim_start_matches("remount,")),
    )
    .expect("more room");
    let (given, folded) = many(epochs + 1, 10);
    expected.merge(&given.tally);
    assert_eq!(store.commit(TABLE, &given, &folded), Committed::Stored);
    let state = store.state();
    assert_eq!((state.pending_bytes, state.pending_sources), (0, 0));
    assert_eq!(held(&store), expected);
    while store.tidy() {}
    let reader = store.reader().unwrap_or_else(|failure| panic!("{failure}"));
    let (sources, pairs) = history::held(&reader, history::ALWAYS);
    let sum = |counts: &mut dyn Iterator<Item = &Counts>| {
        let mut sum = Totals::default();
        counts.for_each(|counts| sum.merge(&counts.totals));
        sum
    };
    assert_eq!(sources.len(), 40_000);
    assert_eq!(sum(&mut sources.values()), expected.sources);
    assert_eq!(sum(&mut pairs.values()), expected.sources);
    let others = pairs.keys().filter(|(_, server)| *server == [0; 16]);
    assert_eq!(
        others.count(),
        40_000,
        "the sums of the pairs that were left out"
    );
    let coarsened = |bin: u64| {
        let start = smtp_user::model::period::milliseconds(many(bin, 1).0.started_at);
        let period = Period {
            from: start - start % 300_000,
            to: start - start % 300_000 + 300_000,
        };
        reader
            .coarsened(period)
            .unwrap_or_else(|failure| panic!("{failure}"))
    };
    assert!(
        coarsened(2).pairs && !coarsened(2).sources,
        "the oldest that waited"
    );
    assert!(
        !coarsened(1).pairs && !coarsened(epochs).pairs,
        "not the others"
    );
    let servers = reader
        .servers_of(given.sources[0].address, history::ALWAYS)
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        !servers.exact && servers.count.abs_diff(epochs) <= 2,
        "{servers:?}"
    );
}
