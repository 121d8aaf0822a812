//! Tells an Alertmanager of open verdicts, by version 2 of its API (`POST /api/v2/alerts`).
//!
//! Contract: on a thread of its own, which nobody waits for: an Alertmanager that is slow or away holds
//! up no drain and no end of the agent. Every open verdict is sent again before it runs out at the
//! Alertmanager; one that was ended is ended there at once; those of a dead agent run out by
//! themselves. What is sent and kept is bounded: `MOST` alerts, the worst ones, in requests of at most
//! `BATCH`, each of which is over after `TIME`. What could not be told is told with the next try.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::client;
use crate::config::{Config, HttpUrl};
use crate::failure::Failure;
use crate::model::Notifications;
use crate::model::prefix;
use crate::model::verdict::{Severity, Verdict};

/// The name of all alerts.
const ALERTNAME: &str = "SmtpflowSourceFlagged";
/// Most alerts: who has more hosts that are flagged has another problem.
const MOST: usize = 1000;
/// Most alerts in one request, at about a kilobyte each.
const BATCH: usize = 200;
/// The longest that one request may take.
const TIME: Duration = Duration::from_secs(5);
/// Between a failure and the next try, and between two tries because something has changed.
const PAUSE: Duration = Duration::from_secs(5);
/// An alert ends by itself when it was not sent again for so many times the usual time.
const LIVES: u32 = 3;
/// How often a failure that goes on is logged.
const SAY_AGAIN: Duration = Duration::from_secs(3600);

/// Where to, and what is the same in all alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    url: HttpUrl,
    every: Duration,
    gateway: String,
    /// Where the page is, without a final slash.
    page: String,
}

/// The agent's end: takes verdicts, and has the account of what became of them.
pub struct Feed {
    orders: mpsc::Sender<Order>,
    options: Options,
    account: Arc<Mutex<Notifications>>,
}

/// What the thread is told.
enum Order {
    /// The open verdicts as they are now.
    Open(Arc<[Verdict]>),
    /// Where to from now on, and how. What was sent elsewhere runs out there by itself.
    Options(Options),
}

impl Options {
    /// Those of a configuration; `None` if it names no Alertmanager.
    fn of(config: &Config, listen: SocketAddr) -> Option<Self> {
        let url = config.alertmanager.url.clone()?;
        let host_name = || {
            let name = nix::sys::utsname::uname().map(|name| name.nodename().to_owned());
            name.map_or_else(
                |_| "unknown".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            )
        };
        Some(Self {
            every: config.alertmanager.every,
            gateway: config
                .alertmanager
                .gateway
                .clone()
                .unwrap_or_else(host_name),
            page: match &config.serve.public_url {
                Some(url) => url.to_string(),
                None => client::Url::from(listen).to_string(),
            },
            url,
        })
    }

    fn say(&self) {
        tracing::info!(
            gateway = self.gateway,
            "open verdicts become alerts of the Alertmanager at {}",
            self.url
        );
    }
}

impl Feed {
    /// Starts the thread; `None` if the configuration names no Alertmanager.
    pub fn start(config: &Config, listen: SocketAddr) -> Result<Option<Self>, Failure> {
        let Some(options) = Options::of(config, listen) else {
            return Ok(None);
        };
        options.say();
        let account = Arc::<Mutex<Notifications>>::default();
        let (sender, orders) = mpsc::channel();
        let teller = Teller {
            options: options.clone(),
            told: HashMap::new(),
            account: account.clone(),
            said: None,
        };
        thread::Builder::new()
            .name("alertmanager".to_owned())
            .spawn(move || teller.run(&orders))
            .context("cannot start the thread that tells the Alertmanager")?;
        Ok(Some(Self {
            orders: sender,
            options,
            account,
        }))
    }

    /// Goes by another configuration: starts, ends or redirects `feed`. The account goes on where
    /// there is still an Alertmanager.
    pub fn reload(
        feed: &mut Option<Self>,
        config: &Config,
        listen: SocketAddr,
    ) -> Result<(), Failure> {
        let Some(options) = Options::of(config, listen) else {
            if feed.take().is_some() {
                tracing::info!("no Alertmanager is told of open verdicts any more");
            }
            return Ok(());
        };
        match feed {
            Some(feed) if feed.options == options => {}
            Some(feed) => {
                options.say();
                feed.options = options.clone();
                // The thread ends when this end is gone, not before.
                let _ = feed.orders.send(Order::Options(options));
            }
            None => *feed = Self::start(config, listen)?,
        }
        Ok(())
    }

    /// Hands over the open verdicts as they are now. It waits for nothing.
    pub fn tell(&self, open: &Arc<[Verdict]>) {
        // The thread ends when this end is gone, not before.
        let _ = self.orders.send(Order::Open(open.clone()));
    }

    /// What became of all that was to be told.
    pub fn account(&self) -> Notifications {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes two alerts the same for an Alertmanager, where everything else is equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    subject: IpNet,
    detector: String,
    severity: Severity,
}

impl Key {
    fn of(verdict: &Verdict) -> Self {
        Self {
            subject: verdict.subject,
            detector: verdict.detector.clone(),
            severity: verdict.severity,
        }
    }
}

/// An alert that the Alertmanager has.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// In milliseconds since 1970.
    starts_at: u64,
    /// When it runs out there.
    ends_at: SystemTime,
}

/// An alert, in the form of the API.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    #[serde(skip)]
    key: Key,
    #[serde(skip)]
    told: Option<Told>,
}

#[derive(Debug, Serialize)]
struct Labels {
    alertname: &'static str,
    src: String,
    detector: String,
    severity: &'static str,
    gateway: String,
}

#[derive(Debug, Serialize)]
struct Annotations {
    summary: String,
    rule: String,
    state: &'static str,
    verdict: String,
}

/// The thread.
struct Teller {
    options: Options,
    /// What the Alertmanager has, by the last answer of it.
    told: HashMap<Key, Told>,
    account: Arc<Mutex<Notifications>>,
    /// When a failure was logged, while it goes on.
    said: Option<Instant>,
}

impl Teller {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        let mut open: Option<Arc<[Verdict]>> = None;
        let mut next = Instant::now();
        let mut tried = None;
        loop {
            match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    for order in std::iter::once(first).chain(orders.try_iter()) {
                        match order {
                            Order::Open(newest) => open = Some(newest),
                            Order::Options(options) => {
                                self.redirect(options);
                                next = Instant::now();
                            }
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let Some(open) = &open else {
                next = Instant::now() + PAUSE;
                continue;
            };
            if self.has_changed(open) {
                // At once, but not again and again.
                let earliest = tried.map_or(next, |tried: Instant| tried + PAUSE);
                next = next.min(earliest);
            }
            if Instant::now() < next {
                continue;
            }
            tried = Some(Instant::now());
            let well = self.tell(open);
            next = Instant::now() + if well { self.options.every } else { PAUSE };
        }
    }

    /// Tells another Alertmanager, or the same one in another way.
    fn redirect(&mut self, options: Options) {
        let same = |of: &Options| (of.url.clone(), of.gateway.clone());
        if same(&self.options) != same(&options) {
            // It has none of those that the other had, or has them by another name.
            self.told.clear();
        }
        self.options = options;
        self.said = None;
    }

    /// Whether the Alertmanager lacks one, or has one that is over.
    fn has_changed(&self, open: &[Verdict]) -> bool {
        let (shown, _) = shown(open);
        shown.len() != self.told.len()
            || shown
                .iter()
                .any(|verdict| !self.told.contains_key(&Key::of(verdict)))
    }

    /// Sends all, and says whether it arrived.
    fn tell(&mut self, open: &[Verdict]) -> bool {
        let now = SystemTime::now();
        // It knows by itself that these are over.
        self.told.retain(|_, told| told.ends_at > now);
        let (alerts, omitted) = self.alerts(open, now);
        let firing = alerts.iter().filter(|alert| alert.told.is_some()).count();
        let mut result = Ok(());
        for batch in alerts.chunks(BATCH) {
            let json = serde_json::to_vec(batch).expect("alerts have a form in JSON");
            result = client::post(&self.options.url, "/api/v2/alerts", &json, TIME, None);
            if result.is_err() {
                break;
            }
            for alert in batch {
                match alert.told {
                    Some(told) => self.told.insert(alert.key.clone(), told),
                    None => self.told.remove(&alert.key),
                };
            }
        }
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        account.alerts = firing as u64;
        account.omitted = omitted as u64;
        match &result {
            Ok(()) => {
                account.sent += 1;
                account.last_success = Some(SystemTime::now());
            }
            Err(_) => account.failed += 1,
        }
        drop(account);
        self.say(&result);
        result.is_ok()
    }

    /// Logs that it goes wrong, and that it goes well again.
    fn say(&mut self, result: &Result<(), String>) {
        let url = &self.options.url;
        match result {
            Ok(()) => {
                if self.said.take().is_some() {
                    tracing::info!("the Alertmanager at {url} takes alerts again");
                }
            }
            Err(error) => {
                if self.said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                    self.said = Some(Instant::now());
                    tracing::warn!(
                        "cannot tell the Alertmanager at {url} of open verdicts: {error}; is it \
                         running, and is this its address (alertmanager.url)? It is tried again"
                    );
                }
            }
        }
    }

    /// What there is to send: the open ones, and the end of those that are not open any more; and how
    /// many are left out.
    fn alerts(&self, open: &[Verdict], now: SystemTime) -> (Vec<Alert>, usize) {
        let (shown, omitted) = shown(open);
        let ends_at = now + self.options.every * LIVES;
        let mut alerts: Vec<Alert> = shown
            .iter()
            .map(|verdict| {
                let told = Told {
                    starts_at: verdict.opened_at,
                    ends_at,
                };
                let annotations = Annotations {
                    summary: format!(
                        "{} sends mail like a spammer: {}",
                        prefix::show(&verdict.subject),
                        verdict.rule.text
                    ),
                    rule: verdict.rule.text.clone(),
                    state: verdict.state.name(),
                    verdict: verdict.id.to_string(),
                };
                self.alert(
                    Key::of(verdict),
                    verdict.opened_at,
                    ends_at,
                    Some((told, annotations)),
                )
            })
            .collect();
        let mut over: Vec<_> = self
            .told
            .iter()
            .filter(|(key, _)| alerts.iter().all(|alert| alert.key != **key))
            .collect();
        over.sort_by_key(|(key, _)| *key);
        let over: Vec<Alert> = over
            .into_iter()
            .map(|(key, told)| self.alert(key.clone(), told.starts_at, now, None))
            .collect();
        // First, since there are few of them and nobody should be told of what is over.
        alerts.splice(0..0, over);
        (alerts, omitted)
    }

    fn alert(
        &self,
        key: Key,
        starts_at: u64,
        ends_at: SystemTime,
        firing: Option<(Told, Annotations)>,
    ) -> Alert {
        let (told, annotations) = firing.unzip();
        let starts_at = UNIX_EPOCH + Duration::from_millis(starts_at);
        Alert {
            labels: Labels {
                alertname: ALERTNAME,
                src: prefix::show(&key.subject),
                detector: key.detector.clone(),
                severity: key.severity.name(),
                gateway: self.options.gateway.clone(),
            },
            annotations,
            // An Alertmanager refuses what ends before it starts, as after a jump of the clock.
            starts_at: rfc3339(starts_at.min(ends_at)),
            ends_at: rfc3339(ends_at),
            generator_url: format!("{}/host/{}", self.options.page, key.subject.addr()),
            key,
            told,
        }
    }
}

/// The worst of these, of one severity those that were opened last; and how many others there are.
fn shown(open: &[Verdict]) -> (Vec<&Verdict>, usize) {
    let mut shown: Vec<&Verdict> = open.iter().collect();
    shown.sort_by_key(|verdict| {
        std::cmp::Reverse((verdict.severity, verdict.opened_at, verdict.id))
    });
    shown.truncate(MOST);
    let omitted = open.len() - shown.len();
    (shown, omitted)
}

fn rfc3339(time: SystemTime) -> String {
    let rounded = Timestamp::try_from(time).map(|time| format!("{time:.3}"));
    rounded.unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests;
