//! The loop: the only place that knows meter, history and server.
//!
//! Contract: the meter has a thread of its own, because a flip waits for the kernel (milliseconds,
//! half a second on a busy machine) and nothing else may wait for it; between two windows it sees to
//! interfaces that have changed. A window is read, committed to the store, and only then cleared in
//! the kernel, so that wherever the agent dies its counts are in exactly one place. Windows go to the
//! server as shared snapshots and a shared list of sources; no reader can hold up a drain. A failed
//! drain loses nothing: its counts stay in the kernel and come with the next one. At the end there is
//! a last drain, then the program is detached unless it shall stay.
//!
//! SIGHUP reads the configuration anew ([`reload`]): all of it comes into force that can, or nothing.

mod judging;
mod metering;
mod recorder;
mod reload;

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::metering::{Command, News, Started, meter_thread};
use self::recorder::Recorder;
use self::reload::Reloading;
use crate::alertmanager;
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::serve;
use crate::service::Manager;

/// Runs until SIGTERM or SIGINT, or until something fails. `read` gives the configuration as it is in
/// its file, for SIGHUP.
pub fn run(
    config: Config,
    read: impl Fn() -> Result<Config, Failure> + Send + Sync + 'static,
) -> Result<(), Failure> {
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
        // Without a configuration file as well: a stray SIGHUP is to end nothing.
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let mut reloading = Reloading::new(hangup, read, config, serve_options);
        agent(&mut reloading, listener, stop).await
    })
}

async fn agent(
    reloading: &mut Reloading,
    listener: std::net::TcpListener,
    stop: impl Future<Output = &'static str>,
) -> Result<(), Failure> {
    let config = reloading.config();
    // Before anything is attached, as it can fail.
    let alerts = alertmanager::Feed::start(&config, reloading.listen())?;
    let (news_sender, mut news) = mpsc::channel(16);
    let (started_sender, started) = oneshot::channel();
    let (commands, command_receiver) = std_mpsc::channel();
    let meter_config = Config::clone(&config);
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
