//! The loop: the only place that knows meter, history and server.
//!
//! Contract: the meter has a thread of its own, because a flip waits for the kernel (milliseconds,
//! half a second on a busy machine) and nothing else may wait for it; between two windows it sees to
//! interfaces that have changed. A window is read, committed to the store, and only then cleared in
//! the kernel, so that wherever the agent dies its counts are in exactly one place. Windows go to the
//! server as shared snapshots and a shared list of sources; no reader can hold up a drain. A failed
//! drain loses nothing: its counts stay in the kernel and come with the next one. At the end there is
//! a last drain, then the program is detached unless it shall stay.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::connections::{Connections, Limits, SharedConnections};
use crate::crash;
use crate::failure::{Failure, Kind};
use crate::history::History;
use crate::link;
use crate::meter::Meter as _;
use crate::meter::xdp::{Options, XdpMeter};
use crate::model::session::FlowSummary;
use crate::model::{Drain, Identity, ObservationPoint, Snapshot, StoreState, Tally, Window};
use crate::serve;
use crate::source_list::{SharedSources, SourceList};
use crate::store::{Committed, Store};

/// Runs until SIGTERM or SIGINT, or until something fails.
pub fn run(config: Config) -> Result<(), Failure> {
    let (listener, serve_options) = serve::bind(&config.serve)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        // Before anything is attached, so that no signal in between leaves it attached.
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        agent(config, listener, serve_options, stop).await
    })
}

async fn agent(
    config: Config,
    listener: std::net::TcpListener,
    serve_options: serve::Options,
    stop: impl Future<Output = &'static str>,
) -> Result<(), Failure> {
    let (news_sender, mut news) = mpsc::channel(16);
    let (started_sender, started) = oneshot::channel();
    let (commands, command_receiver) = std_mpsc::channel();
    let meter_config = config.clone();
    let for_links = commands.clone();
    let meter = thread::Builder::new()
        .name("meter".to_owned())
        .spawn(move || {
            let commands = (for_links, command_receiver);
            meter_thread(&meter_config, started_sender, &news_sender, commands)
        })
        .context("cannot start the meter's thread")?;
    let Ok(started) = started.await else {
        return Err(end_of(meter).err().unwrap_or_else(|| {
            Failure::new(Kind::Failed, "the meter ended before it had started")
        }));
    };
    log_start(&config, &started);

    let mut recorder = Recorder::new(&config, started);
    let (snapshot_sender, snapshots) = watch::channel(Arc::new(recorder.snapshot()));
    let (shutdown_sender, shutdown) = watch::channel(false);
    let server = tokio::spawn(serve::serve(
        listener,
        serve_options,
        snapshots,
        recorder.connections.clone(),
        recorder.sources.clone(),
        shutdown,
    ));
    tokio::pin!(stop, server);

    let mut server_ended = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            received = news.recv() => match received {
                Some(item) => recorder.record(item, &snapshot_sender),
                // The meter has ended: it was told to, or it failed.
                None => break,
            },
            signal = &mut stop, if !stopping => {
                tracing::info!("{signal}: last drain, then the end");
                stopping = true;
                let _ = commands.send(Command::Stop);
            }
            result = &mut server, if server_ended.is_none() => {
                server_ended = Some(result);
                stopping = true;
                let _ = commands.send(Command::Stop);
            }
        }
    }
    let metered = end_of(meter);
    let _ = shutdown_sender.send(true);
    let served = match server_ended {
        Some(result) => result,
        None => server.await,
    };
    let tally = recorder.history.account();
    tracing::info!(
        drains = recorder.drains,
        frames = tally.frames,
        segments = tally.segments(),
        connections = tally.sources.connections + tally.overflow.connections,
        conservation_error = tally.conservation_error(),
        "ended"
    );
    metered?;
    served
        .context("the HTTP server broke down")?
        .context("the HTTP server failed")?;
    Ok(())
}

/// What the meter's thread tells.
enum News {
    /// A drain.
    Drained(Box<Drained>),
    /// A drain failed.
    DrainFailed,
    /// Where packets are seen has changed.
    Points(Vec<ObservationPoint>),
}

/// What the meter's thread is told.
enum Command {
    /// To drain once more and end.
    Stop,
    /// That interfaces have changed.
    LinksChanged,
}

/// A window that was drained.
struct Drained {
    window: Window,
    duration: Duration,
    store: Option<StoreState>,
}

/// What is known once the meter is attached.
struct Started {
    identity: Identity,
    points: Vec<ObservationPoint>,
    /// With what the store has kept of earlier runs.
    history: History,
    sources: SourceList,
    store: Option<StoreState>,
}

fn meter_thread(
    config: &Config,
    ready: oneshot::Sender<Started>,
    news: &mpsc::Sender<News>,
    (for_links, commands): (std_mpsc::Sender<Command>, std_mpsc::Receiver<Command>),
) -> Result<(), Failure> {
    if let Some(name) = &config.meter.netns {
        link::enter_netns(name)?;
    }
    // Before anything is attached, so that no change after that is missed.
    link::watch(move || for_links.send(Command::LinksChanged).is_ok())?;
    let mut meter = XdpMeter::open(&Options::new(config)?)?;
    let prepared = remember(&mut meter, config).and_then(|memory| {
        attach_all(&mut meter, config)?;
        Ok(memory)
    });
    let Memory {
        mut store,
        recovered,
        history,
        sources,
        since,
    } = match prepared {
        Ok(memory) => memory,
        Err(failure) => {
            if let Err(also) = meter.abandon() {
                tracing::error!("what was attached until now stays: {also}");
            }
            return Err(failure);
        }
    };
    let table_id = meter.table_id();
    let started_at = SystemTime::now();
    let started = Started {
        identity: Identity {
            started_at,
            counting_since: since.unwrap_or(started_at),
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            ports: config.meter.ports.clone(),
            window: config.meter.window,
            table_lines: meter.lines(),
            cpus: meter.geometry().cpus,
            table_bytes: meter.table_bytes(),
        },
        points: meter.points(),
        history,
        sources,
        store: store.as_ref().map(Store::state),
    };
    // Nobody listens: then the agent is ending, and so does this thread, at its first wait.
    let _ = ready.send(started);

    let mut next = Instant::now();
    if !recovered {
        next += config.meter.window;
    }
    loop {
        let wait = next.saturating_duration_since(Instant::now());
        let (stopping, due) = match commands.recv_timeout(wait) {
            Ok(Command::LinksChanged) => (false, false),
            Err(std_mpsc::RecvTimeoutError::Timeout) => (false, true),
            Ok(Command::Stop) | Err(std_mpsc::RecvTimeoutError::Disconnected) => (true, true),
        };
        // At the end of a window as well: what was refused may be possible without a change.
        if !stopping && meter.reconcile(due) {
            let _ = news.blocking_send(News::Points(meter.points()));
        }
        if !due {
            continue;
        }
        match drain(&mut meter, table_id, store.as_mut()) {
            Ok(Some(drained)) => {
                let _ = news.blocking_send(News::Drained(Box::new(drained)));
            }
            Ok(None) => break,
            Err(failure) => {
                tracing::error!("drain failed, its counts come with the next one: {failure}");
                let _ = news.blocking_send(News::DrainFailed);
            }
        }
        if let Some(store) = &mut store {
            store.tidy();
        }
        if stopping {
            break;
        }
        // Late drains are not made up for: a longer window holds the same counts.
        next = (next + config.meter.window).max(Instant::now());
    }
    if config.meter.keep_attached {
        tracing::info!("still attached and counting; smtpflow detach ends that");
        return Ok(());
    }
    meter.detach()
}

/// Ends a window: reads it, commits it, and only then lets the kernel's half be cleared.
fn drain(
    meter: &mut XdpMeter,
    table_id: u64,
    store: Option<&mut Store>,
) -> Result<Option<Drained>, Failure> {
    let before = Instant::now();
    let Some(mut window) = meter.window()? else {
        return Ok(None);
    };
    let mut duration = before.elapsed();
    let store = store.map(|store| {
        if store.commit(table_id, &window) == Committed::Again {
            tracing::error!(
                epoch = window.epoch,
                segments = window.tally.segments(),
                "this window is in the store already and is not counted again: a fault of smtpflow"
            );
            window.tally = Tally::default();
            window.sources = Vec::new();
            window.flows = Vec::new();
        }
        store.state()
    });
    crash::point("after_commit");
    let before = Instant::now();
    if let Err(failure) = meter.release() {
        tracing::error!("the window is counted, but the kernel's half is not cleared: {failure}");
    }
    duration += before.elapsed();
    Ok(Some(Drained {
        window,
        duration,
        store,
    }))
}

/// What the agent begins with.
struct Memory {
    store: Option<Store>,
    /// Whether the meter has a window that an earlier agent could not commit.
    recovered: bool,
    history: History,
    sources: SourceList,
    /// When the store was begun.
    since: Option<SystemTime>,
}

/// Opens the store, takes over what it has kept, and tells the meter which of its windows are in it.
fn remember(meter: &mut XdpMeter, config: &Config) -> Result<Memory, Failure> {
    let mut history = History::default();
    let mut sources = SourceList::new(
        config.networks.local.clone(),
        config.history.sources as usize,
        meter.address_seeds(),
    );
    if !config.store.enabled {
        tracing::warn!(
            "there is no store: counts are lost when the agent ends, and if it is killed those of one \
             window may be lost or counted twice"
        );
        let recovered = meter.recover(None)?;
        return Ok(Memory {
            store: None,
            recovered,
            history,
            sources,
            since: None,
        });
    }
    let mut store = Store::open_for(
        &config.store.path,
        config.networks.local.clone(),
        config.history.sources,
    )?;
    let ledger = store.load(|kept| history.restore_source(&kept.source, &mut sources))?;
    history.restore(&ledger.account, &ledger.untracked);
    sources.arrange(meter.geometry().sets);
    tracing::info!(
        path = %config.store.path.display(),
        sources = sources.len(),
        segments = ledger.account.segments(),
        "going on with the counts of the store"
    );
    let committed = store.committed(meter.table_id())?;
    let recovered = meter.recover(committed)?;
    Ok(Memory {
        store: Some(store),
        recovered,
        history,
        sources,
        since: Some(ledger.since),
    })
}

fn attach_all(meter: &mut XdpMeter, config: &Config) -> Result<(), Failure> {
    for interface in &config.meter.interfaces {
        meter.attach(interface, config.meter.mode)?;
    }
    let others = meter.other_links()?;
    if !others.is_empty() {
        tracing::warn!(
            "an earlier smtpflow is still attached to {} and counts into these tables; end that \
             with smtpflow detach",
            others.join(", ")
        );
    }
    Ok(())
}

/// What the meter's thread ended with.
fn end_of(meter: thread::JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    meter
        .join()
        .unwrap_or_else(|_| Err(Failure::new(Kind::Failed, "the meter's thread panicked")))
}

fn log_start(config: &Config, started: &Started) {
    for point in &started.points {
        tracing::info!(
            interface = point.interface,
            mode = point.mode.name(),
            section = point.program,
            "attached"
        );
        if let Some(reason) = &point.fallback {
            tracing::warn!(
                interface = point.interface,
                "in skb mode, which is slower, because the driver does not take the program: {reason}"
            );
        }
    }
    tracing::info!(
        "counting TCP ports {:?}; page, metrics and API at http://{}/",
        config.meter.ports,
        config.serve.listen
    );
}

/// Turns news into snapshots.
struct Recorder {
    identity: Identity,
    points: Vec<ObservationPoint>,
    history: History,
    connections: SharedConnections,
    flows: FlowSummary,
    sources: SharedSources,
    sources_kept: u64,
    last_drain: Option<Drain>,
    last_window: Tally,
    drains: u64,
    drain_failures: u64,
    store: Option<StoreState>,
}

impl Recorder {
    fn new(config: &Config, started: Started) -> Self {
        let Started {
            identity,
            points,
            history,
            sources,
            store,
        } = started;
        Self {
            identity,
            points,
            history,
            connections: SharedConnections::new(Connections::new(Limits {
                idle: config.history.idle,
                pairs: config.history.pairs as usize,
                ..Limits::default()
            })),
            flows: FlowSummary::default(),
            sources_kept: sources.len() as u64,
            sources: SharedSources::new(sources),
            last_drain: None,
            last_window: Tally::default(),
            drains: 0,
            drain_failures: 0,
            store,
        }
    }

    fn record(&mut self, news: News, snapshots: &watch::Sender<Arc<Snapshot>>) {
        match news {
            News::Drained(drained) => self.add(*drained, snapshots),
            News::DrainFailed => {
                self.drain_failures += 1;
                snapshots.send_replace(Arc::new(self.snapshot()));
            }
            News::Points(points) => {
                self.points = points;
                snapshots.send_replace(Arc::new(self.snapshot()));
            }
        }
    }

    fn add(&mut self, drained: Drained, snapshots: &watch::Sender<Arc<Snapshot>>) {
        let Drained {
            window,
            duration,
            store,
        } = drained;
        let error = window.tally.conservation_error();
        if error != 0 {
            tracing::error!(
                error,
                "the conservation law is broken: counts of this window are wrong"
            );
        }
        self.drains += 1;
        self.store = store;
        self.last_drain = Some(Drain {
            at: SystemTime::now(),
            duration,
            flip: window.flip,
            sources: window.sources.len() as u64,
            lines_used: window.lines_used,
        });
        let sources = self.sources.clone();
        let mut list = sources.write();
        self.history.add(&window, &mut list);
        let shared = self.connections.clone();
        let mut connections = shared.write();
        connections.add(&window);
        self.flows = connections.summary();
        self.sources_kept = list.len() as u64;
        self.last_window = window.tally;
        // While the list and the connections are locked, so that whoever reads several sees the same window in them.
        snapshots.send_replace(Arc::new(self.snapshot()));
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            identity: self.identity.clone(),
            points: self.points.clone(),
            last_drain: self.last_drain,
            drains: self.drains,
            drain_failures: self.drain_failures,
            account: self.history.account().clone(),
            last_window: self.last_window.clone(),
            sources_kept: self.sources_kept,
            untracked: self.history.untracked(),
            flows: self.flows,
            store: self.store.clone(),
        }
    }
}
