//! The loop: the only place that knows meter, history and server.
//!
//! Contract: the meter has a thread of its own, because a flip waits for the kernel (milliseconds,
//! half a second on a busy machine) and nothing else may wait for it; between two windows it sees to
//! interfaces that have changed. A window is read, committed to the store, and only then cleared in
//! the kernel, so that wherever the agent dies its counts are in exactly one place. Windows go to the
//! server as shared snapshots and a shared list of sources; no reader can hold up a drain, and the
//! threads that answer are nicer than the meter's. A failed drain loses nothing: its counts stay in the kernel and come with the next one. At the end there is
//! a last drain, then the program is detached unless it shall stay.
//!
//! Everything that needs privilege comes first, on two threads: the port is taken here, the program is
//! attached on the meter's thread, and then both give up what they may do, see `confining`; where the journal is
//! followed, a third starts journalctl in between, when it has given up all but that, and ends. All other
//! threads, what serves, what tells of verdicts, what follows mail logs and what reads and writes the store, begin
//! after that.
//!
//! SIGHUP reads the configuration anew, see `reload`: all of it comes into force that can, or nothing.

mod confining;
mod journalctl;
mod judging;
mod metering;
mod recorder;
mod reload;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use self::confining::rules;
use self::metering::{Command, News, Started, meter_thread};
use self::recorder::Recorder;
use self::reload::Reloading;
use crate::alertmanager;
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::maillog::watch::{Starting, Watch};
use crate::meter::xdp;
use crate::model::PointState;
use crate::privilege::Confinement;
use crate::service::Manager;
use crate::{link, serve};

/// Attaches for an agent that may not, and says to what.
pub fn attach(config: &Config) -> Result<Vec<String>, Failure> {
    let meter = &config.meter;
    let options = xdp::Options::new(config)?;
    let points = link::within(meter.netns.as_deref(), || {
        xdp::load(&options, &meter.interfaces, meter.mode)
    })?;
    Ok(points
        .iter()
        .map(|point| {
            let fallback = point
                .fallback
                .as_ref()
                .map_or_else(String::new, |reason| format!(": {reason}"));
            format!(
                "attached to {} in {} mode{fallback}\n",
                point.interface,
                point.mode.name()
            )
        })
        .collect())
}

/// The meter's thread and the ends of its channels.
struct MeterThread {
    thread: thread::JoinHandle<Result<(), Failure>>,
    started: oneshot::Receiver<Started>,
    news: mpsc::Receiver<News>,
    commands: std_mpsc::Sender<Command>,
}

/// Runs until SIGTERM or SIGINT, or until something fails. `file` is where the configuration is from, and
/// `read` gives it as it is there now, for SIGHUP.
pub fn run(
    config: Config,
    file: Option<&Path>,
    read: impl Fn() -> Result<Config, Failure> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let (listener, serve_options) = serve::bind(&config.serve)?;
    // They wait until somebody takes them, so that none in between leaves the program attached.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("cannot hold back signals")?;
    let (meter, confinement) = start_meter(&config, file)?;
    let journal = journalctl::start(&config, &confinement);
    // Nothing is lost when this fails: the meter ends with its channel.
    let confined = confinement.thread(false).map_err(Failure::from);
    let runtime = confined.and_then(|_| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.on_thread_start(yield_to_the_meter);
        let runtime = builder.worker_threads(2).enable_all().build();
        Ok(runtime.context("cannot start the asynchronous runtime")?)
    });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(failure) => {
            let _ = meter.commands.send(Command::Stop);
            drop(meter.started);
            drop(meter.news);
            return end_of(meter.thread).and(Err(failure));
        }
    };
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        // Without a configuration file as well: a stray SIGHUP is to end nothing.
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        signals.thread_unblock().context("cannot let signals in")?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let mut reloading = Reloading::new(hangup, read, config, serve_options);
        agent(&mut reloading, listener, (meter, journal), stop).await
    })
}

/// How much nicer than the meter the threads are that answer requests.
const NICE: i32 = 5;

/// Lets the meter have the CPU first: many readers that ask for much at a time may wait, a drain may not.
/// It is for one of the threads that answer (Linux keeps niceness by thread).
fn yield_to_the_meter() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("threads that answer requests compete with the meter's: {error}");
    }
}

/// Starts the meter, and waits until it is attached and has given up its privileges. What comes back is
/// what this thread has to be held to as well.
fn start_meter(
    config: &Config,
    file: Option<&Path>,
) -> Result<(MeterThread, Arc<Confinement>), Failure> {
    let (news_sender, news) = mpsc::channel(16);
    let (started_sender, started) = oneshot::channel();
    let (confined_sender, confined) = std_mpsc::channel();
    let (commands, command_receiver) = std_mpsc::channel();
    let (config, file) = (config.clone(), file.map(Path::to_path_buf));
    let for_links = commands.clone();
    let thread = thread::Builder::new()
        .name("meter".to_owned())
        .spawn(move || {
            let commands = (for_links, command_receiver);
            let tells = (confined_sender, started_sender);
            meter_thread(&config, file.as_deref(), tells, &news_sender, commands)
        })
        .context("cannot start the meter's thread")?;
    let Ok(confinement) = confined.recv() else {
        return Err(ended_early(thread));
    };
    let meter = MeterThread {
        thread,
        started,
        news,
        commands,
    };
    Ok((meter, confinement))
}

async fn agent(
    reloading: &mut Reloading,
    listener: std::net::TcpListener,
    (meter, journal): (MeterThread, Option<Starting>),
    stop: impl Future<Output = &'static str>,
) -> Result<(), Failure> {
    let config = reloading.config();
    let MeterThread {
        thread: meter,
        started,
        mut news,
        commands,
    } = meter;
    let Ok(started) = started.await else {
        return Err(ended_early(meter));
    };
    let alerts = match alertmanager::Feed::start(&config, reloading.listen()) {
        Ok(alerts) => alerts,
        Err(failure) => {
            let _ = commands.send(Command::Stop);
            drop(news);
            return end_of(meter).and(Err(failure));
        }
    };
    log_start(&config, &started);
    // Beside counting, and never in its way.
    let logs = Watch::start(&config.maillog, journal).unwrap_or_else(|error| {
        tracing::error!("mail logs are not followed: cannot start a thread: {error}");
        None
    });

    let mut recorder = Recorder::new(&config, started, alerts);
    let (snapshot_sender, snapshots) = watch::channel(Arc::new(recorder.snapshot()));
    let (shutdown_sender, shutdown) = watch::channel(false);
    let (events, _) = broadcast::channel(serve::EVENTS);
    let for_changes = commands.clone();
    let feed = serve::Feed {
        snapshots,
        connections: recorder.connections.clone(),
        sources: recorder.sources.clone(),
        archive: recorder.archive.clone(),
        events: events.clone(),
        // When nobody takes it, the agent is ending.
        changed: Arc::new(move || drop(for_changes.send(Command::StoreChanged))),
        config: reloading.in_force(),
    };
    let options = reloading.options();
    let server = tokio::spawn(serve::serve(listener, options, feed, shutdown));
    tokio::pin!(stop, server);
    let manager = Manager::default();
    manager.ready(config.meter.window);

    let mut server_ended = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            received = news.recv() => match received {
                Some(News::Reloaded(answer)) => {
                    reloading.finish(answer, &mut recorder, (&snapshot_sender, &events));
                    manager.reloaded();
                }
                Some(item) => {
                    let drained = matches!(item, News::Drained(_));
                    recorder.record(item, &snapshot_sender, &events);
                    if drained {
                        manager.drained(&snapshot_sender.borrow());
                    }
                }
                // The meter has ended: it was told to, or it failed.
                None => break,
            },
            () = reloading.asked(), if !stopping => {
                manager.reloading();
                if let Some(config) = reloading.begin().await {
                    let _ = commands.send(Command::Reload(Box::new(config)));
                } else {
                    recorder.keep((&snapshot_sender, &events));
                    manager.reloaded();
                }
            }
            signal = &mut stop, if !stopping => {
                tracing::info!("{signal}: last drain, then the end");
                manager.stopping();
                stopping = true;
                let _ = commands.send(Command::Stop);
            }
            result = &mut server, if server_ended.is_none() => {
                server_ended = Some(result);
                manager.stopping();
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
    if let Some(logs) = logs {
        logs.end();
    }
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

/// Why the meter's thread ended before it had started.
fn ended_early(meter: thread::JoinHandle<Result<(), Failure>>) -> Failure {
    end_of(meter)
        .err()
        .unwrap_or_else(|| Failure::new(Kind::Failed, "the meter ended before it had started"))
}

/// What the meter's thread ended with.
fn end_of(meter: thread::JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    meter
        .join()
        .unwrap_or_else(|_| Err(Failure::new(Kind::Failed, "the meter's thread panicked")))
}

fn log_start(config: &Config, started: &Started) {
    for point in &started.points {
        if point.state != PointState::Attached {
            let reason = point.reason.as_deref().unwrap_or_default();
            tracing::error!(interface = point.configured, "not counted: {reason}");
            continue;
        }
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
