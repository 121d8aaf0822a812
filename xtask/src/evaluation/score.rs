//! Counts of hosts, and what they say.

use serde::Serialize;

use super::{Judged, Method, Part, Report};
use crate::traffic::{KINDS, Kind, Label, kind};

/// How a method did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Bots that were found.
    pub found: u64,
    /// Bots that were not.
    pub missed: u64,
    /// Those that were accused wrongly.
    pub wrong: u64,
    /// From the start of abuse to the first accusation, of all bots: one that is missed takes for ever.
    pub times: Times,
    /// Of those that were found. A method that finds only the loudest is quick here.
    pub times_of_found: Times,
    /// Of all bots above one connection a second.
    pub times_of_fast: Times,
}

/// Seconds; `None` is for ever, or of nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// Half are as quick.
    pub median: Option<f64>,
    /// Nine tenths are as quick.
    pub p90: Option<f64>,
}

/// How a method did with one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindScore {
    /// Its name.
    pub kind: &'static str,
    /// Hosts; of a kind that is no host, none.
    pub hosts: u64,
    /// Hosts that were accused at the right time, or at all if there is no right one.
    pub accused: u64,
    /// Of bots that were found.
    pub times: Times,
}

/// What became of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Result {
    /// Found after so many seconds.
    Found(f64),
    Missed,
    /// Missed, and accused before it did anything.
    Early,
    Wrong,
    Left,
}

fn result(host: &Judged, method: Method) -> Result {
    let bot = kind::named(&host.kind).label == Label::Bot;
    match (bot, host.abuse, host.accused.get(&method)) {
        (true, Some(abuse), Some(at)) if *at >= abuse => {
            Result::Found((at - abuse) as f64 / 1000.0)
        }
        (true, _, Some(_)) => Result::Early,
        (true, _, None) => Result::Missed,
        (false, _, Some(_)) => Result::Wrong,
        (false, _, None) => Result::Left,
    }
}

impl Score {
    /// Of these hosts.
    pub fn of(hosts: &[(u64, &Judged)], method: Method) -> Self {
        let mut score = Self {
            found: 0,
            missed: 0,
            wrong: 0,
            times: Times::default(),
            times_of_found: Times::default(),
            times_of_fast: Times::default(),
        };
        let (mut all, mut found, mut fast) = (Vec::new(), Vec::new(), Vec::new());
        for (_, host) in hosts {
            let result = result(host, method);
            match result {
                Result::Found(time) => {
                    score.found += 1;
                    found.push(time);
                }
                Result::Missed => score.missed += 1,
                Result::Early => {
                    score.missed += 1;
                    score.wrong += 1;
                }
                Result::Wrong => score.wrong += 1,
                Result::Left => {}
            }
            let kind = kind::named(&host.kind);
            if kind.label == Label::Bot {
                let time = match result {
                    Result::Found(time) => time,
                    _ => f64::INFINITY,
                };
                all.push(time);
                if kind.fast {
                    fast.push(time);
                }
            }
        }
        score.times = Times::of(all);
        score.times_of_found = Times::of(found);
        score.times_of_fast = Times::of(fast);
        score
    }

    /// Found of all bots.
    pub fn recall(&self) -> f64 {
        share(self.found, self.found + self.missed)
    }

    /// Bots of all that are accused.
    pub fn precision(&self) -> f64 {
        share(self.found, self.found + self.wrong)
    }

    /// Between which recall is with 95 % confidence.
    pub fn recall_interval(&self) -> (f64, f64) {
        wilson(self.found, self.found + self.missed)
    }

    /// Likewise precision.
    pub fn precision_interval(&self) -> (f64, f64) {
        wilson(self.found, self.found + self.wrong)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// The 95 % score interval of a share (Wilson, Journal of the American Statistical Association 22,
/// 1927).
pub fn wilson(part: u64, whole: u64) -> (f64, f64) {
    if whole == 0 {
        return (0.0, 1.0);
    }
    // The 97.5 % point of the normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    let n = whole as f64;
    let p = part as f64 / n;
    let middle = p + Z * Z / (2.0 * n);
    let reach = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (
        ((middle - reach) / scale).max(0.0),
        ((middle + reach) / scale).min(1.0),
    )
}

impl Times {
    /// By nearest rank.
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (times.len() as f64 * share).ceil() as usize;
            let time = times.get(rank.saturating_sub(1)).copied();
            time.filter(|time| time.is_finite())
        };
        Self {
            median: rank(0.5),
            p90: rank(0.9),
        }
    }
}

/// Kind by kind, in their order.
pub fn kinds(hosts: &[(u64, &Judged)], method: Method) -> Vec<KindScore> {
    let score = |kind: &Kind| {
        let of_kind = hosts.iter().filter(|(_, host)| host.kind == kind.name);
        let mut score = KindScore {
            kind: kind.name,
            hosts: 0,
            accused: 0,
            times: Times::default(),
        };
        let mut times = Vec::new();
        for (_, host) in of_kind {
            score.hosts += u64::from(kind.label != Label::Nobody);
            match result(host, method) {
                Result::Found(time) => {
                    score.accused += 1;
                    times.push(time);
                }
                Result::Wrong => score.accused += 1,
                Result::Missed | Result::Early | Result::Left => {}
            }
        }
        score.times = Times::of(times);
        score
    };
    KINDS.iter().map(score).collect()
}

/// A host about which smtpflow was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// In the traffic of this seed.
    pub seed: u64,
    /// Its address or prefix.
    pub host: String,
    /// Its kind.
    pub kind: String,
    /// `missed`, `early` or `wrong`.
    pub what: &'static str,
    /// Who accused it.
    pub detectors: Vec<String>,
}

/// All of a part, with the list of relays.
pub fn mistakes(report: &Report, part: &Part) -> Vec<Mistake> {
    let hosts = report.hosts(part, true);
    let mistakes = hosts.iter().filter_map(|(seed, host)| {
        let what = match result(host, Method::Smtpflow) {
            Result::Missed => "missed",
            Result::Early => "early",
            Result::Wrong => "wrong",
            Result::Found(_) | Result::Left => return None,
        };
        Some(Mistake {
            seed: *seed,
            host: host.host.clone(),
            kind: host.kind.clone(),
            what,
            detectors: host.detectors.clone(),
        })
    });
    mistakes.collect()
}
