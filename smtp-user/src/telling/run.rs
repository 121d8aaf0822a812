//! `smtpflow notice run`: makes notices and sends them, every minute or once.
//!
//! Contract: a process of its own, which the agent neither knows nor waits for: it needs the network, and may run
//! commands. One at a time for a store. A store that is away, busy or of another version for a while is waited for.
//! It ends within about [`GRACE`] of SIGTERM or SIGINT, wherever it is: what is noted says where to go on. SIGHUP has
//! the configuration and the files that it names read anew, all or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet, block_in_place};
use tokio::time::timeout;

use super::hook::Hooks;
use super::{logs, look, notified, policy, samples, send, subjects};
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::model::notice::{Book, Notice, NoticeChange, NoticeState};
use crate::model::period::milliseconds;
use crate::notice::{Composer, Gate, Plan, Policy, Sender, queue};
use crate::owner::Desk;
use crate::report::round::Round;
use crate::store::NoticeLedger;

/// How long the conversation with a relay may go on at the end.
const GRACE: Duration = Duration::from_secs(1);

/// All that notices are made and sent by.
struct Office {
    policy: Policy,
    composer: Composer,
    sender: Sender,
    desk: Desk,
    config: Config,
    ledger: Arc<NoticeLedger>,
    /// Notices that waited for somebody when they were looked at last.
    waiting: BTreeSet<u64>,
}

/// How often is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Until SIGTERM or SIGINT.
    Again,
    /// Once; what came of it is told in JSON, or else in words.
    Once {
        /// Whether in JSON.
        json: bool,
    },
}

/// Makes and sends notices, as `read` says; gives what is to be printed at the end.
///
/// # Errors
///
/// The configuration does not say how, or cannot be used; another process sends the notices of the store; for once,
/// the store cannot be read or written.
pub fn run(read: impl Fn() -> Result<Config, Failure>, looks: Looks) -> Result<String, Failure> {
    let config = read()?;
    check(&config)?;
    let ledger = Arc::new(NoticeLedger::take(&config.store.path)?);
    let office = Office::new(&config, ledger)?;
    let hooks = Arc::new(Hooks::new(&config.notice)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let ended = runtime.block_on(async {
        match looks {
            Looks::Once { json } => {
                let round = office.once(&hooks).await?;
                Ok(match json {
                    true => format!("{}\n", round.json()),
                    false => round.text(),
                })
            }
            Looks::Again => {
                office.watch(hooks, &config, &read).await?;
                Ok(String::new())
            }
        }
    });
    // Whoever is still asked about an owner, or for an address, is not waited for.
    runtime.shutdown_background();
    ended
}

fn check(config: &Config) -> Result<(), Failure> {
    match config.notice.enabled {
        true => Ok(()),
        false => Err(Failure::new(
            Kind::BadConfig,
            "notices are switched off: set notice.enabled = true, and name the configuration with --config FILE",
        )),
    }
}

impl Office {
    fn new(config: &Config, ledger: Arc<NoticeLedger>) -> Result<Self, Failure> {
        Ok(Self {
            policy: policy(config)?,
            composer: Composer::new(&config.notice)?,
            sender: Sender::new(&config.notice)?,
            desk: Desk::new(&config.owner, config.meter.netns.as_deref())?,
            config: config.clone(),
            ledger,
            waiting: BTreeSet::new(),
        })
    }

    async fn once(mut self, hooks: &Arc<Hooks>) -> Result<Round, Failure> {
        let (plan, tried) = self.pass().await?;
        hooks.pass(&self.ledger, &mut JoinSet::new()).await?;
        let made = plan.changes.into_iter().filter_map(|change| match change {
            NoticeChange::Made(notice, _) => Some(notice),
            _ => None,
        });
        let now = now();
        let book = self.ledger.book(now)?;
        let is_tried = |notice: &&Notice| tried.iter().any(|known| known.id == notice.id);
        let waiting = queue(&book)
            .into_iter()
            .filter(|notice| !is_tried(notice))
            .map(|notice| {
                let wait = match Gate::of(&self.policy, &book, notice, now) {
                    Gate::Open => None,
                    Gate::Shut(wait) => Some(wait),
                };
                (notice.clone(), wait)
            })
            .collect();
        Ok(Round {
            made: made.collect(),
            waiting,
            tried,
        })
    }

    /// One look, and what may leave leaves; gives what was planned and what was tried.
    async fn pass(&mut self) -> Result<(Plan, Vec<Notice>), Failure> {
        let plan = block_in_place(|| self.look())?;
        let tried = send(&self.ledger, &self.policy, &self.sender, now).await?;
        block_in_place(|| notified::note(&self.ledger, &self.ledger.book(now())?, now()))?;
        Ok((plan, tried))
    }

    fn look(&mut self) -> Result<Plan, Failure> {
        let reader = self.ledger.reader()?;
        let book = reader.notice_book(now())?;
        self.tell_of_decisions(&book);
        self.ledger.forget_samples(now())?;
        let logs = logs(&self.config.maillog);
        let samples = samples(&reader, &self.config, now())?;
        let subjects = subjects(&reader, &book, &mut self.desk, &logs, &samples)?;
        let plan = look(&self.ledger, &self.policy, &self.composer, &subjects, now())?;
        for (host, silence) in &plan.silences {
            tracing::debug!(%host, "nothing is told: {silence}");
        }
        let is_waiting = |state| state == NoticeState::Waiting;
        let book = self.ledger.book(now())?;
        let notices = book.notices.iter();
        let waiting = notices.filter(|notice| is_waiting(notice.state));
        self.waiting = waiting.map(|notice| notice.id).collect();
        Ok(plan)
    }

    /// Logs what people have decided since the last look.
    fn tell_of_decisions(&self, book: &Book) {
        for notice in &book.notices {
            if notice.state == NoticeState::Approved && self.waiting.contains(&notice.id) {
                tracing::info!(notice = notice.id, "a notice was approved");
            }
        }
        for declined in &book.declined {
            if declined.by_person && self.waiting.contains(&declined.notice) {
                tracing::info!(notice = declined.notice, "a notice was rejected");
            }
        }
    }

    async fn watch(
        mut self,
        hooks: Arc<Hooks>,
        config: &Config,
        read: &impl Fn() -> Result<Config, Failure>,
    ) -> Result<(), Failure> {
        let listen = |kind, name| signal(kind).context(format!("cannot wait for {name}"));
        let mut hangup = listen(SignalKind::hangup(), "SIGHUP")?;
        let mut stop = (
            listen(SignalKind::terminate(), "SIGTERM")?,
            listen(SignalKind::interrupt(), "SIGINT")?,
        );
        let path = config.store.path.clone();
        let mut every = every(config);
        let mut caller = Caller::start(hooks, &self.ledger, every);
        tracing::info!(
            "making and sending notices of the store {} every {every:?}",
            path.display()
        );
        let mut said = None;
        loop {
            let mut pass = tokio::spawn(async move {
                let result = self.pass().await.map(drop);
                (self, result)
            });
            let joined = tokio::select! {
                joined = &mut pass => joined,
                name = stopped(&mut stop) => {
                    tracing::info!("{name}: the end");
                    let _ = timeout(GRACE, &mut pass).await;
                    pass.abort();
                    caller.end().await;
                    return Ok(());
                }
            };
            let result;
            (self, result) = joined.context("making notices broke down")?;
            said = tell(said, result);
            caller.wake.notify_one();
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = hangup.recv() => match reload(read, &self, &path) {
                    Ok((config, office, hooks)) => {
                        self = office;
                        every = self::every(&config);
                        caller.end().await;
                        caller = Caller::start(Arc::new(hooks), &self.ledger, every);
                        tracing::info!("SIGHUP: the configuration was read anew");
                    }
                    Err(failure) => tracing::error!(
                        "SIGHUP: the configuration before stays in force: {failure}"
                    ),
                },
                name = stopped(&mut stop) => {
                    tracing::info!("{name}: the end");
                    caller.end().await;
                    return Ok(());
                }
            }
        }
    }
}

/// The configuration as it is now, and all that it says.
fn reload(
    read: &impl Fn() -> Result<Config, Failure>,
    office: &Office,
    path: &std::path::Path,
) -> Result<(Config, Office, Hooks), Failure> {
    let config = read()?;
    check(&config)?;
    if config.store.path != path {
        tracing::warn!(
            "another store takes a restart: notices of {} are sent on",
            path.display()
        );
    }
    let new = Office::new(&config, office.ledger.clone())?;
    let hooks = Hooks::new(&config.notice)?;
    let waiting = office.waiting.clone();
    Ok((config, Office { waiting, ..new }, hooks))
}

fn every(config: &Config) -> Duration {
    Duration::from_secs(config.notice.every_seconds.into())
}

fn now() -> u64 {
    milliseconds(SystemTime::now())
}

async fn stopped((terminate, interrupt): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Logs that notices cannot be made, once for each reason, and that they can again.
fn tell(said: Option<String>, result: Result<(), Failure>) -> Option<String> {
    match result {
        Ok(()) => {
            if said.is_some() {
                tracing::info!("notices can be made again");
            }
            None
        }
        Err(failure) => {
            let text = failure.to_string();
            if said.as_ref() != Some(&text) {
                tracing::warn!("notices cannot be made for now: {text}");
            }
            Some(text)
        }
    }
}

/// What calls hooks, beside all the rest.
struct Caller {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    wake: Arc<Notify>,
}

impl Caller {
    fn start(hooks: Arc<Hooks>, ledger: &Arc<NoticeLedger>, every: Duration) -> Self {
        let (stop, mut stopping) = watch::channel(false);
        let wake = Arc::new(Notify::new());
        let (ledger, woken) = (ledger.clone(), wake.clone());
        let task = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            let mut said = None;
            loop {
                tokio::select! {
                    made = hooks.pass(&ledger, &mut calls) => said = tell(said, made.map(drop)),
                    _ = stopping.changed() => break,
                }
                tokio::select! {
                    _ = timeout(every, woken.notified()) => {}
                    _ = stopping.changed() => break,
                }
            }
            // And with them whatever they have started.
            calls.shutdown().await;
        });
        Self { task, stop, wake }
    }

    /// Ends the calls that are made, and with them their commands.
    async fn end(self) {
        let _ = self.stop.send(true);
        let _ = timeout(GRACE, self.task).await;
    }
}
