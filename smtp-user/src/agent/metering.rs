//! The meter's thread: reads windows, commits them, and only then lets the kernel forget them.
//!
//! Contract: nobody holds it up. It shares no lock; it tells what it has done through a channel, and
//! it alone writes to the store.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

use super::confining;
use super::judging::{Judged, Judging};
use super::recorder::limits;
use crate::clock;
use crate::config::Config;
use crate::connections::{Followed, Follower};
use crate::crash;
use crate::detect::Span;
use crate::failure::{Failure, Kind};
use crate::history::History;
use crate::link;
use crate::meter::Meter as _;
use crate::meter::xdp::{Options, XdpMeter};
use crate::model::{Identity, ObservationPoint, StoreState, Tally, Window};
use crate::privilege::Confinement;
use crate::source_list::SourceList;
use crate::store::{Committed, Retention, Store};

/// How long after the end of a window by the clock it is drained, so that a clock which is being
/// slewed does not have it drained before.
const BEHIND: Duration = Duration::from_millis(20);

/// What the meter's thread tells.
pub(super) enum News {
    /// A drain.
    Drained(Box<Drained>),
    /// A drain failed.
    DrainFailed,
    /// Where packets are seen has changed.
    Points(Vec<ObservationPoint>),
    /// People have decided something between two drains.
    Judged(Judged),
    /// Another configuration is in force here, or nothing of it is.
    Reloaded(Result<Judged, Failure>),
}

/// What the meter's thread is told.
pub(super) enum Command {
    /// To drain once more and end.
    Stop,
    /// That interfaces have changed.
    LinksChanged,
    /// That people have changed something in the store.
    StoreChanged,
    /// To go by another configuration.
    Reload(Box<Config>),
}

/// A window that was drained.
pub(super) struct Drained {
    pub(super) window: Window,
    pub(super) followed: Followed,
    pub(super) duration: Duration,
    pub(super) judged: Judged,
    pub(super) store: Option<StoreState>,
}

/// What is known once the meter is attached.
pub(super) struct Started {
    pub(super) identity: Identity,
    pub(super) points: Vec<ObservationPoint>,
    /// With what the store has kept of earlier runs.
    pub(super) history: History,
    pub(super) sources: SourceList,
    pub(super) judged: Judged,
    pub(super) store: Option<StoreState>,
}

pub(super) fn meter_thread(
    config: &Config,
    file: Option<&Path>,
    (confined, ready): (std_mpsc::Sender<Arc<Confinement>>, oneshot::Sender<Started>),
    news: &mpsc::Sender<News>,
    (for_links, commands): (std_mpsc::Sender<Command>, std_mpsc::Receiver<Command>),
) -> Result<(), Failure> {
    if let Some(name) = &config.meter.netns {
        link::enter_netns(name)?;
    }
    // Before anything is attached, so that no change after that is missed.
    let monitor = link::Monitor::open()?;
    let mut meter = open(config)?;
    // The store is opened without privilege: who could write to it before must gain nothing by that.
    let prepared = attach_all(&mut meter, config).and_then(|()| {
        confined
            .send(confine(&mut meter, config, file)?)
            .map_err(|_| Failure::new(Kind::Failed, "the agent has ended"))?;
        monitor.watch(move || for_links.send(Command::LinksChanged).is_ok())?;
        let mut memory = remember(&mut meter, config)?;
        let judging = Judging::new(config, memory.store.as_mut())?;
        Ok((memory, judging))
    });
    let (memory, mut judging) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            if let Err(also) = meter.abandon() {
                tracing::error!("what was attached until now stays: {also}");
            }
            return Err(failure);
        }
    };
    let Memory {
        mut store,
        recovered,
        history,
        sources,
        since,
    } = memory;
    let table_id = meter.table_id();
    let started_at = clock::now();
    let started = Started {
        identity: Identity {
            started_at,
            counting_since: since.unwrap_or(started_at.wall),
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            ports: config.meter.ports.clone(),
            window: config.meter.window,
            table_lines: meter.lines(),
            flow_lines: meter.flow_lines(),
            cpus: meter.geometry().cpus,
            table_bytes: meter.table_bytes(),
        },
        points: meter.points(),
        history,
        sources,
        judged: judging.judged(),
        store: store.as_ref().map(Store::state),
    };
    // Nobody listens: then the agent is ending, and so does this thread, at its first wait.
    let _ = ready.send(started);

    let mut keep_attached = config.meter.keep_attached;
    let mut follower = Follower::new(&limits(config));
    let mut next = Instant::now();
    if !recovered {
        next += until_end(config.meter.window, SystemTime::now());
    }
    // Whether the store has work that may be done while the window runs.
    let mut untidy = true;
    loop {
        let wait = if untidy {
            Duration::ZERO
        } else {
            next.saturating_duration_since(Instant::now())
        };
        let mut changed = false;
        let (stopping, due) = match commands.recv_timeout(wait) {
            Ok(Command::LinksChanged) => {
                changed = true;
                (false, false)
            }
            Ok(Command::StoreChanged) => {
                judging.look(store.as_mut());
                let _ = news.blocking_send(News::Judged(judging.judged()));
                (false, false)
            }
            Ok(Command::Reload(config)) => {
                let reloaded = reload(&mut meter, &mut judging, store.as_mut(), &config);
                if reloaded.is_ok() {
                    keep_attached = config.meter.keep_attached;
                }
                let reloaded = reloaded.map(|()| judging.judged());
                let _ = news.blocking_send(News::Reloaded(reloaded));
                (false, false)
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) => (false, Instant::now() >= next),
            Ok(Command::Stop) | Err(std_mpsc::RecvTimeoutError::Disconnected) => (true, true),
        };
        // At the end of a window as well: what was refused may be possible without a change.
        if !stopping && (due || changed) && meter.reconcile(due) {
            let _ = news.blocking_send(News::Points(meter.points()));
        }
        if !due {
            // A step is some 10 ms, so the drain is on time.
            untidy = untidy && store.as_mut().is_some_and(Store::tidy);
            continue;
        }
        match drain(&mut meter, table_id, &mut follower, store.as_mut()) {
            Ok(Some((window, followed, duration))) => {
                judging.add(&window, &followed.folded, store.as_mut());
                let drained = Drained {
                    window,
                    followed,
                    duration,
                    judged: judging.judged(),
                    store: store.as_ref().map(Store::state),
                };
                let _ = news.blocking_send(News::Drained(Box::new(drained)));
            }
            Ok(None) => break,
            Err(failure) => {
                tracing::error!("drain failed, its counts come with the next one: {failure}");
                let _ = news.blocking_send(News::DrainFailed);
            }
        }
        if stopping {
            break;
        }
        untidy = true;
        // Late drains are not made up for: a longer window holds the same counts.
        next = Instant::now() + until_end(config.meter.window, SystemTime::now());
    }
    judging.finish(store.as_mut());
    if keep_attached || config.meter.attached {
        tracing::info!("still attached and counting; smtpflow detach ends that");
        return Ok(());
    }
    meter.detach()
}

/// Goes by another configuration. The kernel comes first, as it alone can refuse.
fn reload(
    meter: &mut XdpMeter,
    judging: &mut Judging,
    mut store: Option<&mut Store>,
    config: &Config,
) -> Result<(), Failure> {
    meter.set_local(&config.networks.local)?;
    if let Some(store) = &mut store {
        store.set_local(&config.networks.local);
        store.retain(retention(config));
    }
    judging.reload(config, store);
    Ok(())
}

/// How long the running window still is. Windows end at multiples of their length in UTC, so that
/// they fit into bins and hours; the first one after a start or after a change of the clock is between
/// a half and one and a half of that length.
fn until_end(window: Duration, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let into = Duration::from_nanos_u128(now.as_nanos() % window.as_nanos());
    let rest = window - into + BEHIND;
    if rest < window / 2 {
        rest + window
    } else {
        rest
    }
}

/// Ends a window: reads it, commits it, and only then lets the kernel's half be cleared.
fn drain(
    meter: &mut XdpMeter,
    table_id: u64,
    follower: &mut Follower,
    store: Option<&mut Store>,
) -> Result<Option<(Window, Followed, Duration)>, Failure> {
    let before = Instant::now();
    let Some(mut window) = meter.window()? else {
        return Ok(None);
    };
    let mut duration = before.elapsed();
    let mut followed = follower.follow(&window);
    if let Some(store) = store
        && store.commit(table_id, &window, &followed.folded) == Committed::Again
    {
        tracing::error!(
            epoch = window.epoch,
            segments = window.tally.segments(),
            "this window is in the store already and is not counted again: a fault of smtpflow"
        );
        window.tally = Tally::default();
        window.sources = Vec::new();
        window.flows = Vec::new();
        followed = Followed::default();
    }
    crash::point("after_commit");
    let before = Instant::now();
    if let Err(failure) = meter.release() {
        tracing::error!("the window is counted, but the kernel's half is not cleared: {failure}");
    }
    duration += before.elapsed();
    Ok(Some((window, followed, duration)))
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

fn retention(config: &Config) -> Retention {
    let kept = |span: Span| Duration::from_millis(span.milliseconds());
    Retention {
        bins: kept(config.history.keep_bins),
        hours: kept(config.history.keep_hours),
        days: kept(config.history.keep_days),
    }
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
    store.retain(retention(config));
    store.set_cache(config.store.cache_mib)?;
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

/// Opens the maps, as one who attaches or as one for whom somebody has.
fn open(config: &Config) -> Result<XdpMeter, Failure> {
    let options = Options::new(config)?;
    if config.meter.attached {
        XdpMeter::join(&options, &config.meter.interfaces)
    } else {
        XdpMeter::open(&options)
    }
}

/// Gives up every privilege that this thread has, but for what the kernel makes it keep, and says what the
/// others are to be held to.
fn confine(
    meter: &mut XdpMeter,
    config: &Config,
    file: Option<&Path>,
) -> Result<Arc<Confinement>, Failure> {
    meter.settle()?;
    let keep = meter.needs_capability()?;
    let confinement = confining::prepare(config, file)?;
    confining::log(&confinement.thread(keep)?);
    Ok(confinement)
}

fn attach_all(meter: &mut XdpMeter, config: &Config) -> Result<(), Failure> {
    if config.meter.attached {
        return Ok(());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_multiples_of_their_length() {
        let window = Duration::from_secs(10);
        for (now, rest) in [
            (1_000_000, 10_020),
            (1_000_020, 10_000),
            (1_004_000, 6_020),
            (1_005_100, 14_920),
            (1_009_999, 10_021),
        ] {
            let at = UNIX_EPOCH + Duration::from_millis(now);
            assert_eq!(until_end(window, at), Duration::from_millis(rest), "{now}");
        }
    }
}
