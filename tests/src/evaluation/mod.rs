//! Who is accused in labelled traffic, by smtpflow and by simpler methods.
//!
//! Contract: smtpflow is the real one: its follower of connections, its judge and its docket of
//! verdicts, with the shipped parameters; windows come from [`Stream`], which a test compares with what the meter of a
//! capture gives. All methods see the same traffic and have the same list of known relays.

mod baseline;
mod replayed;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use smtp_user::connections::{Follower, Limits};
use smtp_user::detect::{Court, Relay, Settings};
use smtp_user::model::Window;
use smtp_user::model::period::{Bucket, Tier, milliseconds};
use smtp_user::model::verdict::{Severity, Verdict, VerdictChange};
use xtask::evaluation::{Judged, Method, Run};
use xtask::traffic::{Host, Label, PREFIXES, Population};

pub use self::replayed::{Verdicts, replay, verdicts_of};
use crate::stream::Stream;

/// How long a window is, as shipped.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The operator's own prefixes.
pub fn local() -> Vec<IpNet> {
    let prefix = |(address, length)| IpNet::new(address, length).expect("a prefix");
    PREFIXES.map(prefix).to_vec()
}

/// Whom a host is judged as.
pub fn subject(host: &Host) -> IpNet {
    let net = IpNet::new(host.address, host.length).expect("a prefix");
    net.trunc()
}

/// The operator's list of known relays.
pub fn relays(population: &Population) -> Vec<Relay> {
    let listed = population.hosts.iter().filter_map(|host| {
        let listed = host.listed?;
        Some(Relay {
            prefix: subject(host),
            reason: host.kind.name.to_owned(),
            owner: "postmaster@example.org".to_owned(),
            expires: None,
            connections: listed.connections,
        })
    });
    listed.collect()
}

/// A configuration with the operator's prefixes and his list of known relays.
pub fn configuration(population: &Population) -> String {
    configuration_for(population, &local())
}

/// The same, of an operator who has these prefixes.
pub fn configuration_for(population: &Population, local: &[IpNet]) -> String {
    let prefixes: Vec<_> = local.iter().map(|net| format!("\"{net}\"")).collect();
    let mut text = format!("[networks]\nlocal = [{}]\n", prefixes.join(", "));
    for relay in relays(population) {
        let Relay {
            prefix,
            reason,
            owner,
            expires: _,
            connections,
        } = relay;
        text.push_str(&format!(
            "[[relay]]\nprefix = \"{prefix}\"\nreason = \"{reason}\"\nowner = \"{owner}\"\n"
        ));
        if let Some(connections) = connections {
            text.push_str(&format!("connections = {connections}\n"));
        }
    }
    text
}

/// How smtpflow writes whom it judges.
pub fn show(subject: &IpNet) -> String {
    match subject.prefix_len() == subject.max_prefix_len() {
        true => subject.addr().to_string(),
        false => subject.to_string(),
    }
}

/// smtpflow from the windows on, with the shipped parameters.
pub struct Pipeline {
    follower: Follower,
    court: Court,
}

impl Pipeline {
    /// With these known relays.
    pub fn new(relays: Vec<Relay>) -> Self {
        Self {
            follower: Follower::new(&Limits::default()),
            court: Court::new(&Settings::default(), local(), relays),
        }
    }

    /// Adds a window, and gives the verdicts that change with it.
    pub fn add(&mut self, window: &Window) -> Vec<Verdict> {
        let followed = self.follower.follow(window);
        let hour = Bucket {
            segment: 0,
            start: Tier::Hour.start_of(milliseconds(window.started_at)),
            tier: Tier::Hour,
        };
        let changes = self.court.add(window, &followed.folded, hour);
        let verdicts = changes.into_iter().map(|change| match change {
            VerdictChange::Opened(verdict, _)
            | VerdictChange::Held(verdict)
            | VerdictChange::Moved(verdict, _) => verdict,
        });
        verdicts.collect()
    }
}

/// What a method says about whom, first: a time in milliseconds since 1970.
type Accused = HashMap<IpNet, u64>;

/// Runs all methods on a population, with the list of known relays or without it.
pub fn run(population: &Population, listed: bool) -> Run {
    let relays = if listed {
        relays(population)
    } else {
        Vec::new()
    };
    let mut accused: BTreeMap<Method, Accused> = BTreeMap::new();
    let mut detectors: HashMap<IpNet, Vec<String>> = HashMap::new();
    let mut pipeline = Pipeline::new(relays.clone());
    for window in Stream::new(population.traffic(), WINDOW) {
        let end = milliseconds(window.started_at) + WINDOW.as_millis() as u64;
        for verdict in pipeline.add(&window) {
            for (method, least) in [
                (Method::Smtpflow, Severity::Notice),
                (Method::SmtpflowWarning, Severity::Warning),
            ] {
                if verdict.severity >= least {
                    let accused = accused.entry(method).or_default();
                    accused.entry(verdict.subject).or_insert(end);
                }
            }
            let detectors = detectors.entry(verdict.subject).or_default();
            if !detectors.contains(&verdict.detector) {
                detectors.push(verdict.detector);
            }
        }
    }
    accused.extend(baseline::run(population, &relays));
    Run {
        seed: population.seed,
        listed,
        hosts: table(population, &accused, &detectors),
    }
}

/// A row for every host, and one for everybody else who is accused.
fn table(
    population: &Population,
    accused: &BTreeMap<Method, Accused>,
    detectors: &HashMap<IpNet, Vec<String>>,
) -> Vec<Judged> {
    let row = |subject: IpNet, kind: &str, abuse| Judged {
        host: show(&subject),
        kind: kind.to_owned(),
        abuse,
        accused: accused
            .iter()
            .filter_map(|(method, accused)| Some((*method, *accused.get(&subject)?)))
            .collect(),
        detectors: detectors.get(&subject).cloned().unwrap_or_default(),
    };
    let mut known = std::collections::HashSet::new();
    let mut rows = Vec::new();
    for host in &population.hosts {
        if host.kind.label == Label::Nobody {
            continue;
        }
        let subject = subject(host);
        known.insert(subject);
        rows.push(row(subject, host.kind.name, host.abuse));
    }
    let all = accused.values().flat_map(HashMap::keys);
    let mut strangers: Vec<_> = all.filter(|subject| !known.contains(*subject)).collect();
    strangers.sort_unstable();
    strangers.dedup();
    rows.extend(
        strangers
            .into_iter()
            .map(|subject| row(*subject, "spoofed", None)),
    );
    rows
}

/// As whom the address is known.
fn subject_of(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => address.into(),
        IpAddr::V6(_) => IpNet::new(address, 64).expect("a length").trunc(),
    }
}
