//! What the server reads: made from what the meter's thread tells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{broadcast, watch};

use super::judging::Judged;
use super::metering::{Drained, News, Started};
use crate::alertmanager;
use crate::archive::Archive;
use crate::clock;
use crate::config::{Config, Reload};
use crate::connections::{Connections, Limits, SharedConnections};
use crate::history::History;
use crate::model::session::FlowSummary;
use crate::model::verdict::{Verdict, VerdictNews, VerdictSummary};
use crate::model::{
    ConfigState, Drain, Event, Identity, ObservationPoint, Snapshot, StoreState, Tally,
};
use crate::source_list::SharedSources;

/// The bounds of what is kept of connections.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        idle: config.history.idle,
        pairs: config.history.pairs as usize,
        ..Limits::default()
    }
}

/// Turns news into snapshots.
pub(super) struct Recorder {
    identity: Identity,
    points: Vec<ObservationPoint>,
    pub(super) history: History,
    pub(super) connections: SharedConnections,
    flows: FlowSummary,
    verdicts: VerdictSummary,
    open: Arc<[Verdict]>,
    pub(super) archive: Option<Arc<Archive>>,
    pub(super) sources: SharedSources,
    sources_kept: u64,
    last_drain: Option<Drain>,
    last_window: Tally,
    pub(super) drains: u64,
    drain_failures: u64,
    drain_failing: bool,
    store: Option<StoreState>,
    alerts: Option<alertmanager::Feed>,
    config: ConfigState,
}

impl Recorder {
    pub(super) fn new(
        config: &Config,
        started: Started,
        alerts: Option<alertmanager::Feed>,
    ) -> Self {
        let Started {
            identity,
            points,
            history,
            sources,
            judged,
            store,
        } = started;
        let archive = Archive::new(config).map(Arc::new);
        if let Some(archive) = &archive {
            archive.know(&judged.relays);
        }
        if let Some(alerts) = &alerts {
            alerts.tell(&judged.open);
        }
        Self {
            config: ConfigState::loaded(SystemTime::now()),
            identity,
            points,
            history,
            connections: SharedConnections::new(Connections::for_networks(
                limits(config),
                config.networks.local.clone(),
            )),
            flows: FlowSummary::default(),
            verdicts: judged.summary,
            open: judged.open,
            archive,
            sources_kept: sources.len() as u64,
            sources: SharedSources::new(sources),
            last_drain: None,
            last_window: Tally::default(),
            drains: 0,
            drain_failures: 0,
            drain_failing: false,
            store,
            alerts,
        }
    }

    pub(super) fn record(
        &mut self,
        news: News,
        snapshots: &watch::Sender<Arc<Snapshot>>,
        events: &broadcast::Sender<Event>,
    ) {
        match news {
            News::Drained(drained) => {
                let verdicts = self.add(*drained, snapshots);
                // Nobody may be listening.
                let _ = events.send(Event::Drained(snapshots.borrow().clone()));
                tell(verdicts, events);
            }
            News::Judged(judged) => {
                let verdicts = self.take(judged);
                snapshots.send_replace(Arc::new(self.snapshot()));
                tell(verdicts, events);
            }
            News::Reloaded(_) => unreachable!("the agent takes it over by Recorder::reload"),
            News::DrainFailed => {
                self.drain_failures += 1;
                self.drain_failing = true;
                snapshots.send_replace(Arc::new(self.snapshot()));
            }
            News::Points(points) => {
                self.points = points;
                snapshots.send_replace(Arc::new(self.snapshot()));
            }
        }
    }

    /// Goes by another configuration, which the meter's thread has taken over.
    pub(super) fn reload(
        &mut self,
        reload: &Reload,
        listen: SocketAddr,
        judged: Judged,
        (snapshots, events): (&watch::Sender<Arc<Snapshot>>, &broadcast::Sender<Event>),
    ) {
        let config = &reload.config;
        if let Some(archive) = &self.archive {
            archive.reload(config, &judged.relays);
        }
        if reload.changed.iter().any(|key| key == "networks.local") {
            self.sources.write().set_local(&config.networks.local);
            self.connections.write().set_local(&config.networks.local);
        }
        if let Err(failure) = alertmanager::Feed::reload(&mut self.alerts, config, listen) {
            tracing::error!("{failure}");
        }
        self.config = ConfigState {
            restart: reload.restart.as_slice().into(),
            reads: self.config.reads + 1,
            ..ConfigState::loaded(SystemTime::now())
        };
        let news = self.take(judged);
        snapshots.send_replace(Arc::new(self.snapshot()));
        let _ = events.send(Event::Reloaded(snapshots.borrow().clone()));
        tell(news, events);
    }

    /// Notes that another configuration was not taken, and the one before is still in force.
    pub(super) fn keep(
        &mut self,
        (snapshots, events): (&watch::Sender<Arc<Snapshot>>, &broadcast::Sender<Event>),
    ) {
        self.config.successful = false;
        self.config.reads += 1;
        snapshots.send_replace(Arc::new(self.snapshot()));
        let _ = events.send(Event::Reloaded(snapshots.borrow().clone()));
    }

    /// Takes over what verdicts are now; gives what there is to tell of them.
    fn take(&mut self, judged: Judged) -> Vec<VerdictNews> {
        let Judged {
            summary,
            open,
            relays,
            news,
        } = judged;
        if let Some(archive) = &self.archive {
            archive.know(&relays);
        }
        self.verdicts = summary;
        self.open = open;
        if let Some(alerts) = &self.alerts {
            alerts.tell(&self.open);
        }
        news
    }

    fn add(
        &mut self,
        drained: Drained,
        snapshots: &watch::Sender<Arc<Snapshot>>,
    ) -> Vec<VerdictNews> {
        let Drained {
            window,
            followed,
            duration,
            judged,
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
        self.drain_failing = false;
        self.store = store;
        let news = self.take(judged);
        self.last_drain = Some(Drain {
            at: clock::now(),
            duration,
            flip: window.flip,
            length: window.length,
            sources: window.sources.len() as u64,
            connections: window.tally.sources.connections + window.tally.overflow.connections,
            lines_used: window.lines_used,
        });
        let sources = self.sources.clone();
        let mut list = sources.write();
        self.history.add(&window, &mut list);
        let shared = self.connections.clone();
        let mut connections = shared.write();
        connections.add(&window, &followed);
        self.flows = connections.summary();
        self.sources_kept = list.len() as u64;
        self.last_window = window.tally;
        // While the list and the connections are locked, so that whoever reads several sees the same window in them.
        snapshots.send_replace(Arc::new(self.snapshot()));
        news
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            identity: self.identity.clone(),
            points: self.points.clone(),
            last_drain: self.last_drain,
            drains: self.drains,
            drain_failures: self.drain_failures,
            drain_failing: self.drain_failing,
            account: self.history.account().clone(),
            last_window: self.last_window.clone(),
            sources_kept: self.sources_kept,
            untracked: self.history.untracked(),
            flows: self.flows,
            verdicts: self.verdicts.clone(),
            open: self.open.clone(),
            notifications: self
                .alerts
                .as_ref()
                .map(alertmanager::Feed::account)
                .unwrap_or_default(),
            store: self.store.clone(),
            config: self.config.clone(),
        }
    }
}

/// Tells those who listen what has become of verdicts.
fn tell(news: Vec<VerdictNews>, events: &broadcast::Sender<Event>) {
    for news in news {
        let _ = events.send(Event::Verdict(Arc::new(news)));
    }
}
