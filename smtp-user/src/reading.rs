//! The verbs that read: from the store, from a running agent, or from a host that is tested.
//!
//! Contract: each gives what is to be printed. The store is opened for reading alone, beside the agent
//! that may be writing to it; only [`change`] and [`change_relay`] write, one verdict and one known relay,
//! and the verbs of [`complaints`] that bring them in.

pub mod complaints;

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::json;

use crate::client::Agent;
use crate::config::Config;
use crate::connections::{Follower, Limits as FollowerLimits};
use crate::detect::Policy;
use crate::failure::{Failure, Kind};
use crate::meter::Meter as _;
use crate::meter::pcap::PcapMeter;
use crate::model::period::{Period, Tier, milliseconds};
use crate::model::relay::Relay;
use crate::model::relay_test::RelayOutcome;
use crate::model::verdict::{VerdictFilter, VerdictState};
use crate::report::check::{self, Limits};
use crate::report::distribution::Item;
use crate::report::document::{Document, Form};
use crate::report::host::HostReport;
use crate::report::month::{self, PeriodReport};
use crate::report::relays::{self, JsonChanged, JsonRelays};
use crate::report::status::Said;
use crate::report::time::{self, Asked, Month};
use crate::report::tune::{self, Limit, Measure};
use crate::report::verdicts;
use crate::report::verdicts::JsonVerdict;
use crate::report::why::{self, JsonWhy};
use crate::store::{
    NewRelay, PersonalChange, Reader, RelayEnd, Store, add_relay, change_verdict, end_relay,
};
use crate::{relay_test, replay, report};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// As JSON.
    Json,
    /// As a document.
    Document(Form),
}

impl Output {
    pub(crate) fn write(
        self,
        json: &impl Serialize,
        document: impl FnOnce() -> Document,
    ) -> String {
        match self {
            Self::Json => line(json),
            Self::Document(form) => document().render(form),
        }
    }
}

fn line(json: &impl Serialize) -> String {
    let mut line = serde_json::to_string(json).expect("reports have a form in JSON");
    line.push('\n');
    line
}

/// Where the store is, and whose hosts are whose.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its path is that of the store.
    pub config: Config,
}

impl Place {
    fn path(&self) -> &Path {
        &self.config.store.path
    }

    pub(crate) fn reader(&self) -> Result<Reader, Failure> {
        Reader::open(self.path())
    }

    /// A reader of a store with any history.
    fn history(&self) -> Result<Reader, Failure> {
        let reader = self.reader()?;
        if reader.span().is_none() {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "there is no history in the store {} yet: the first window is not over",
                    self.path().display()
                ),
            ));
        }
        Ok(reader)
    }

    fn local(&self) -> &[IpNet] {
        &self.config.networks.local
    }

    /// With the known relays of the store as well.
    fn policy_with(&self, reader: &Reader) -> Result<Policy, Failure> {
        let mut policy = self.policy();
        policy.know(&reader.active_relays()?);
        Ok(policy)
    }

    fn policy(&self) -> Policy {
        Policy::new(
            self.config.detect.clone(),
            self.local().to_vec(),
            self.config.relay.clone(),
        )
    }
}

/// `smtpflow report`.
pub fn report(place: &Place, asked: Option<Asked>, output: Output) -> Result<String, Failure> {
    let reader = place.history()?;
    let now = reader.now();
    let asked = asked.unwrap_or_else(|| Asked::Month(Month::of(now)));
    let month = match asked {
        Asked::Month(month) => Some(month),
        _ => None,
    };
    let report = PeriodReport::read(
        &reader,
        month,
        asked.period(now),
        &place.policy_with(&reader)?,
    )?;
    Ok(output.write(&report.json(), || report.document()))
}

/// `smtpflow distribution`.
pub fn distribution(
    place: &Place,
    asked: Asked,
    item: Item,
    output: Output,
) -> Result<String, Failure> {
    let reader = place.history()?;
    let period = reader.snap(asked.period(reader.now()));
    let distribution = month::distribution(&reader, item, period)?;
    #[derive(Serialize)]
    struct JsonAnswer {
        schema: u32,
        period: Period,
        #[serde(flatten)]
        distribution: report::distribution::ItemDistribution,
    }
    let json = JsonAnswer {
        schema: report::SCHEMA,
        period,
        distribution,
    };
    Ok(output.write(&json, || Document {
        title: "Distribution of connections".to_owned(),
        notes: vec![format!("period: {}", time::period(&period))],
        tables: vec![distribution.table()],
    }))
}

/// `smtpflow host`.
pub fn host(
    place: &Place,
    asked: Asked,
    address: IpAddr,
    output: Output,
) -> Result<String, Failure> {
    let reader = place.history()?;
    let period = asked.period(reader.now());
    let host = HostReport::read(&reader, address, period, place.local())?;
    Ok(output.write(&host.json(), || host.document()))
}

/// `smtpflow why`.
pub fn why(place: &Place, address: IpAddr, output: Output) -> Result<String, Failure> {
    let reader = place.history()?;
    let why = why::why(&reader, &place.policy_with(&reader)?, address)?;
    Ok(output.write(&JsonWhy::from(&why), || why::document(&why)))
}

/// Which verdicts.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// In one of these states; none named: in any.
    pub states: Vec<VerdictState>,
    /// About this host.
    pub host: Option<IpAddr>,
    /// Of this detector.
    pub detector: Option<String>,
    /// With any event so long before now, in milliseconds.
    pub since: Option<u64>,
}

/// `smtpflow verdicts`.
pub fn verdicts(place: &Place, wanted: Wanted, output: Output) -> Result<String, Failure> {
    let reader = place.reader()?;
    let now = reader.now();
    let list = reader.verdicts(&VerdictFilter {
        states: wanted.states,
        subject: wanted.host.map(|host| host.to_canonical().into()),
        detector: wanted.detector,
        since: wanted.since.map(|since| now.saturating_sub(since)),
    })?;
    Ok(output.write(&verdicts::json(&list), || verdicts::document(&list)))
}

/// A change of a verdict by a person.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which verdict.
    pub id: u64,
    /// Its state from now on.
    pub to: VerdictState,
    /// Who the person is.
    pub who: String,
    /// Why.
    pub why: String,
}

/// `smtpflow verdict`.
pub fn change(place: &Place, change: &Change, json: bool) -> Result<String, Failure> {
    let (verdict, _) = change_verdict(
        place.path(),
        &PersonalChange {
            id: change.id,
            to: change.to,
            who: &change.who,
            why: &change.why,
            at: milliseconds(SystemTime::now()),
        },
    )?;
    if json {
        return Ok(line(&JsonVerdict::from(&verdict)));
    }
    Ok(format!(
        "verdict {} about {} ({}) is now {}\n",
        verdict.id,
        crate::model::prefix::show(&verdict.subject),
        verdict.detector,
        verdict.state.name()
    ))
}

/// `smtpflow relay list`; `ended` says whether those that were ended are listed as well.
pub fn relays(place: &Place, ended: bool, output: Output) -> Result<String, Failure> {
    let stored = place.reader()?.relays()?;
    let now = milliseconds(SystemTime::now());
    let mut relays = relays::all(&place.config.relay, stored, now);
    relays.retain(|known| ended || known.ended().is_none());
    Ok(output.write(&JsonRelays::new(&relays), || relays::document(&relays)))
}

/// A change of a known relay by a person.
#[derive(Clone, Debug)]
pub enum RelayChange {
    /// That it is one.
    Add {
        /// The entry.
        relay: Relay,
        /// Who the person is.
        who: String,
    },
    /// That it is one no longer.
    Expire {
        /// The prefix of the entry.
        prefix: IpNet,
        /// Who the person is.
        who: String,
        /// Why.
        why: String,
    },
}

/// `smtpflow relay add` and `smtpflow relay expire`.
pub fn change_relay(place: &Place, change: &RelayChange, json: bool) -> Result<String, Failure> {
    let at = milliseconds(SystemTime::now());
    let (changed, said) = match change {
        RelayChange::Add { relay, who } => {
            // Without a configuration nobody knows which hosts are own ones; the agent does.
            if !place.local().is_empty() {
                relays::check_new(relay.prefix, &place.config.relay, place.local())?;
            }
            let (stored, resolved) = add_relay(place.path(), &NewRelay { relay, who, at })?;
            let resolved: Vec<u64> = resolved.iter().map(|verdict| verdict.id).collect();
            let said = match resolved.len() {
                0 => String::new(),
                number => format!("; open verdicts that are resolved by it: {number}"),
            };
            let unknown = match place.local() {
                [] => {
                    "; name the agent's configuration (--config) to have it checked against your own \
                       prefixes"
                }
                _ => "",
            };
            let said = format!("{} is a known relay now{said}{unknown}\n", relay.prefix);
            (JsonChanged::new(stored, resolved, at), said)
        }
        RelayChange::Expire { prefix, who, why } => {
            let end = RelayEnd {
                prefix: *prefix,
                who,
                why,
                at,
            };
            let stored = end_relay(place.path(), &end).map_err(|unchanged| {
                relays::explain_end(unchanged, *prefix, &place.config.relay)
            })?;
            let said = format!("{prefix} is no known relay any more\n");
            (JsonChanged::new(stored, Vec::new(), at), said)
        }
    };
    Ok(if json { line(&changed) } else { said })
}

/// Limits to try, and on what.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Limits on connections in an hour.
    pub connections: Vec<u32>,
    /// On messages.
    pub messages: Vec<u32>,
    /// On distinct servers.
    pub servers: Vec<u32>,
    /// So far back, in milliseconds.
    pub since: u64,
    /// A capture in the place of the store, and the length of its windows.
    pub capture: Option<(PathBuf, Duration)>,
}

impl Trial {
    /// All limits, with those in effect that they are compared with.
    fn limits(&self, config: &Config) -> Vec<Limit> {
        let detect = &config.detect;
        let mut limits = Vec::new();
        for (measure, tried, in_effect) in [
            (
                Measure::Connections,
                &self.connections,
                detect.volume.notice,
            ),
            (Measure::Messages, &self.messages, detect.messages.notice),
            (Measure::Servers, &self.servers, detect.fanout.servers.get()),
        ] {
            if tried.is_empty() {
                continue;
            }
            let mut all = tried.clone();
            all.push(in_effect);
            all.sort_unstable();
            all.dedup();
            limits.extend(all.into_iter().map(|above| Limit {
                measure,
                above: above.into(),
                in_effect: above == in_effect,
            }));
        }
        limits
    }
}

/// `smtpflow tune`.
pub fn tune(place: &Place, trial: &Trial, output: Output) -> Result<String, Failure> {
    let limits = trial.limits(&place.config);
    let tuning = match &trial.capture {
        None => {
            let reader = place.history()?;
            let policy = place.policy_with(&reader)?;
            let period = Asked::Since(trial.since).period(reader.now());
            tune::tune(&reader, &policy, place.local(), &limits, period)?
        }
        Some((file, window)) => {
            let policy = place.policy();
            // The reader reads what is gone with the store.
            let store = replayed(file, *window, &place.config)?;
            let reader = store.reader()?;
            // From the start of the first hour on, which a capture rarely begins with.
            let period = Period {
                from: reader
                    .span()
                    .map_or(0, |span| Tier::Hour.start_of(span.from)),
                to: reader.now(),
            };
            tune::tune(&reader, &policy, place.local(), &limits, period)?
        }
    };
    Ok(output.write(&tuning.json(), || tuning.document()))
}

/// A store in memory with all of a capture.
fn replayed(file: &Path, window: Duration, config: &Config) -> Result<Store, Failure> {
    let ports = replay::mail_ports(&config.meter.ports)?;
    let bytes = File::open(file).map_err(|error| {
        crate::meter::pcap::fail(file, &crate::meter::pcap::file::Fault::Io(error))
    })?;
    let mut meter = PcapMeter::new(file, bytes, window, ports)?;
    let mut follower = Follower::new(&FollowerLimits::default());
    let local = config.networks.local.clone();
    let mut store = Store::in_memory(local, config.history.sources)?;
    while let Some(window) = meter.window()? {
        let followed = follower.follow(&window);
        store.commit(0, &window, &followed.folded);
        meter.release()?;
        while store.tidy() {}
    }
    Ok(store)
}

/// What an agent says of itself.
fn said(agent: &Agent) -> Result<Said, Failure> {
    let status = agent.get("/api/v1/status", &[200])?.body;
    let ready = agent.get("/readyz", &[200, 503])?.body;
    Ok(Said { status, ready })
}

/// `smtpflow relay-test`: the report, and whether the test has an answer.
pub fn relay_test(
    options: &relay_test::Options,
    output: Output,
) -> Result<(String, bool), Failure> {
    let test = relay_test::run(options)?;
    let is_clear = test.finding.outcome != RelayOutcome::Unclear;
    Ok((output.write(&test, || test.document()), is_clear))
}

/// `smtpflow status`.
pub fn status(agent: &Agent, json: bool) -> Result<String, Failure> {
    if json {
        return Ok(line(&agent.get("/api/v1/status", &[200])?.body));
    }
    Ok(said(agent)?.document().text())
}

/// `smtpflow check`: what to print, and the exit code. It always has both.
pub fn check(agent: Result<Agent, Failure>, limits: &Limits, json: bool) -> (String, u8) {
    let checked = agent.and_then(|agent| Ok((said(&agent)?, agent)));
    let (state, line, code, said) = match checked {
        Ok((said, agent)) => match check::check(&said, limits) {
            Ok(checked) => {
                let state = checked.state;
                (state.name(), checked.line, state.exit_code(), Some(said))
            }
            Err(error) => {
                let text = format!("{}: {error}", agent.url);
                (
                    "UNKNOWN",
                    check::line("UNKNOWN", &text),
                    check::UNKNOWN,
                    Some(said),
                )
            }
        },
        // Mail traffic may be uncounted: what is checked is down.
        Err(failure) if failure.kind == Kind::Unavailable => {
            let line = check::line("CRITICAL", &failure.to_string());
            let code = check::State::Critical.exit_code();
            ("CRITICAL", line, code, None)
        }
        Err(failure) => {
            let line = check::line("UNKNOWN", &failure.to_string());
            ("UNKNOWN", line, check::UNKNOWN, None)
        }
    };
    if !json {
        return (line, code);
    }
    let json = json!({
        "schema": report::SCHEMA,
        "state": state,
        "exit_code": code,
        "line": line.trim_end(),
        "status": said.map(|said| said.status),
    });
    (self::line(&json), code)
}
