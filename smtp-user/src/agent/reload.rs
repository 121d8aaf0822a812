//! SIGHUP: the configuration is read anew.
//!
//! Contract: all or nothing. The whole file is read and checked, with the files of tokens that it names and
//! the flags over it, as at the start; then the meter's thread takes it over, which the kernel may
//! refuse; and only then the rest of the agent does. Until that, and after a refusal, the configuration
//! before is in force. One is taken over at a time; signals that come meanwhile are one more.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio::sync::{broadcast, watch};

use super::judging::Judged;
use super::recorder::Recorder;
use crate::config::{Config, Reload};
use crate::failure::{Failure, Kind};
use crate::model::{Event, Snapshot};
use crate::serve;

type Read = dyn Fn() -> Result<Config, Failure> + Send + Sync;

/// What is to come into force.
struct Next {
    reload: Reload,
    options: serve::Options,
}

/// See the module.
pub(super) struct Reloading {
    hangup: Signal,
    read: Arc<Read>,
    config: watch::Sender<Arc<Config>>,
    options: watch::Sender<Arc<serve::Options>>,
    /// What the meter's thread is taking over.
    next: Option<Next>,
}

impl Reloading {
    pub(super) fn new(
        hangup: Signal,
        read: impl Fn() -> Result<Config, Failure> + Send + Sync + 'static,
        config: Config,
        options: serve::Options,
    ) -> Self {
        Self {
            hangup,
            read: Arc::new(read),
            config: watch::Sender::new(Arc::new(config)),
            options: watch::Sender::new(Arc::new(options)),
            next: None,
        }
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.options.borrow().listen
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// The configuration in force, whichever that is.
    pub(super) fn in_force(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    pub(super) fn options(&self) -> watch::Receiver<Arc<serve::Options>> {
        self.options.subscribe()
    }

    /// Waits for SIGHUP, if none is being followed.
    pub(super) async fn asked(&mut self) {
        if self.next.is_some() || self.hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Reads and checks it all; gives what the meter's thread has to take over, or nothing, having
    /// said why.
    pub(super) async fn begin(&mut self) -> Option<Config> {
        let (read, config, options) = (
            self.read.clone(),
            self.config(),
            self.options.borrow().clone(),
        );
        // Files are read, on whatever disk they are.
        let next = tokio::task::spawn_blocking(move || {
            let reload = config.reload(read()?);
            let options = options.reload(&reload.config.serve)?;
            Ok(Next { reload, options })
        })
        .await
        .unwrap_or_else(|error| Err(Failure::new(Kind::Failed, error)));
        match next {
            Ok(next) => Some(self.next.insert(next).reload.config.clone()),
            Err(failure) => {
                refuse(&failure);
                None
            }
        }
    }

    /// Goes on with what the meter's thread has made of it.
    pub(super) fn finish(
        &mut self,
        answer: Result<Judged, Failure>,
        recorder: &mut Recorder,
        told: (&watch::Sender<Arc<Snapshot>>, &broadcast::Sender<Event>),
    ) {
        let Some(Next { reload, options }) = self.next.take() else {
            return;
        };
        let judged = match answer {
            Ok(judged) => judged,
            Err(failure) => {
                refuse(&failure);
                return recorder.keep(told);
            }
        };
        self.options.send_replace(Arc::new(options));
        self.config.send_replace(Arc::new(reload.config.clone()));
        recorder.reload(&reload, self.listen(), judged, told);
        match reload.changed.is_empty() {
            true => tracing::info!("the configuration was read again: nothing else is in force"),
            false => tracing::info!(
                "the configuration was read again: {}",
                reload.changed.join(", ")
            ),
        }
        if !reload.restart.is_empty() {
            tracing::warn!(
                "these keys take a restart, until then the values before are in force: {}",
                reload.restart.join(", ")
            );
        }
    }
}

fn refuse(failure: &Failure) {
    tracing::error!("the configuration is not taken, the one before stays in force: {failure}");
}
