//! What detectors find, and what becomes of it: plain data.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::period::Period;
use super::person::{check_who, check_why};
use super::relay::Origin;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth a look.
    Notice,
    /// Probably abuse.
    Warning,
    /// Abuse that goes on.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Notice, Self::Warning, Self::Critical];

    /// As in JSON, text and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What the packets of a flagged source are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeClass {
    /// Below 100 bytes in the mean: probes, refusals, SYN floods.
    Small,
    /// Mail was moved.
    Large,
}

impl SizeClass {
    /// As in JSON and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// A figure that a rule compares with its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, as `connections`.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The limit. The rule holds strictly beyond it: above, or below where `below` is set.
    pub limit: f64,
    /// Whether the rule holds below the limit instead of above.
    pub below: bool,
    /// What both are counted in, as `connections` or `share`.
    pub unit: String,
}

impl Figure {
    /// Whether the value is strictly beyond the limit.
    pub fn is_beyond(&self) -> bool {
        if self.below {
            self.value < self.limit
        } else {
            self.value > self.limit
        }
    }
}

/// Whether a rule holds for a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "because")]
pub enum Holding {
    /// It does.
    Holds,
    /// A figure is not beyond its limit.
    Below,
    /// It cannot be applied, for this reason: reverse traffic is not visible, a bucket is partial.
    NotApplicable(String),
}

/// A rule of a detector, with the figures of one source: the same for a verdict as for the question
/// why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The name of the detector.
    pub detector: String,
    /// What it says, as `more than 100 connections in the hour`.
    pub text: String,
    /// How bad it is where it holds.
    pub severity: Severity,
    /// The time that it looks at.
    pub period: Period,
    /// All of these must be beyond their limits.
    pub figures: Vec<Figure>,
    /// Whether it holds.
    pub holding: Holding,
}

/// Where a verdict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// Nobody has looked at it.
    New,
    /// Somebody has.
    Acknowledged,
    /// The owner of the source was told.
    Notified,
    /// It is over: somebody said so, or the source was quiet for long enough.
    Resolved,
    /// It was wrong.
    FalsePositive,
}

impl VerdictState {
    /// All of them, in the order of a verdict's life.
    pub const ALL: [Self; 5] = [
        Self::New,
        Self::Acknowledged,
        Self::Notified,
        Self::Resolved,
        Self::FalsePositive,
    ];

    /// As in JSON, text, metric labels and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Acknowledged => "acknowledged",
            Self::Notified => "notified",
            Self::Resolved => "resolved",
            Self::FalsePositive => "false_positive",
        }
    }

    /// Whether there is still something to do.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::New | Self::Acknowledged | Self::Notified)
    }

    /// Whether a verdict may go from this state to that one: forward in its life, from resolved to
    /// false positive where that turns out late, and back to new where it was ended too early.
    pub const fn may_become(self, to: Self) -> bool {
        match self {
            Self::New => !matches!(to, Self::New),
            Self::Acknowledged => !matches!(to, Self::New | Self::Acknowledged),
            Self::Notified => matches!(to, Self::Resolved | Self::FalsePositive),
            Self::Resolved => matches!(to, Self::New | Self::FalsePositive),
            Self::FalsePositive => matches!(to, Self::New),
        }
    }

    /// The states that can follow on this one.
    pub fn next(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |to| self.may_become(*to))
    }
}

impl std::fmt::Display for VerdictState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for VerdictState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no state of a verdict: expected one of {names}")
        })
    }
}

/// A finding about a source. There is at most one open verdict for each source and detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its number, never given again.
    pub id: u64,
    /// Whose it is: one address, or the prefix that IPv6 addresses are judged by.
    pub subject: IpNet,
    /// The name of the detector.
    pub detector: String,
    /// The worst that was found since it was opened.
    pub severity: Severity,
    /// What the packets of the source are like; `None` without packets to a server.
    pub size: Option<SizeClass>,
    /// Whether the source's connections mostly came to nothing: refused or unanswered.
    pub failing: bool,
    /// Where it stands.
    pub state: VerdictState,
    /// When it was opened, in milliseconds since 1970.
    pub opened_at: u64,
    /// When its rule held last.
    pub last_at: u64,
    /// When its state changed last.
    pub changed_at: u64,
    /// How often it was opened again.
    pub reopened: u32,
    /// The rule as it held at its worst, with the figures that made it fire.
    pub rule: Rule,
}

impl Verdict {
    /// Changes the state, and gives the event that tells of it.
    ///
    /// # Errors
    ///
    /// The state cannot follow on this one; `who` or `why` is empty, too long or of several lines.
    pub fn move_to(
        &mut self,
        to: VerdictState,
        who: &str,
        why: &str,
        at: u64,
    ) -> Result<VerdictEvent, Unmoved> {
        check_who(who).map_err(Unmoved::Text)?;
        check_why(why).map_err(Unmoved::Text)?;
        let from = self.state;
        if !from.may_become(to) {
            let next: Vec<_> = from.next().map(VerdictState::name).collect();
            return Err(Unmoved::State(format!(
                "verdict {} is {from} and cannot become {to}: from {from} it can become {}",
                self.id,
                next.join(", ")
            )));
        }
        self.state = to;
        self.changed_at = at.max(self.opened_at);
        if to == VerdictState::New {
            self.reopened = self.reopened.saturating_add(1);
        }
        Ok(VerdictEvent {
            verdict: self.id,
            at: self.changed_at,
            who: who.to_owned(),
            from: Some(from),
            to,
            why: why.to_owned(),
        })
    }
}

/// Why a verdict stays in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmoved {
    /// What was written about the change cannot be kept.
    Text(String),
    /// The state that was asked for cannot follow.
    State(String),
}

/// A change in the life of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictEvent {
    /// Which verdict.
    pub verdict: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Who: `smtpflow`, or a person.
    pub who: String,
    /// The state before; `None` when it was opened.
    pub from: Option<VerdictState>,
    /// The state after.
    pub to: VerdictState,
    /// Why.
    pub why: String,
}

/// That the state of a verdict has changed: what there is to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictNews {
    /// The verdict as it was after the change, or later.
    pub verdict: Verdict,
    /// The change.
    pub event: VerdictEvent,
}

/// What the store has to note of a verdict. Each can be noted twice.
#[derive(Clone, Debug, PartialEq)]
pub enum VerdictChange {
    /// It is new.
    Opened(Verdict, VerdictEvent),
    /// It has another state, if it is still in the one that the event tells of. A person may have
    /// been faster; then nothing is noted.
    Moved(Verdict, VerdictEvent),
    /// Its rule held again, or worse. Its state is not touched.
    Held(Verdict),
}

impl VerdictChange {
    /// The verdict as it is after the change.
    pub const fn verdict(&self) -> &Verdict {
        match self {
            Self::Opened(verdict, _) | Self::Moved(verdict, _) | Self::Held(verdict) => verdict,
        }
    }
}

/// Verdicts in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictSummary {
    /// Whether anybody is judged: whether it is known which hosts are own ones.
    pub judged: bool,
    /// Open verdicts, in the order of [`Severity::ALL`].
    pub open: [u64; Severity::ALL.len()],
    /// Open verdicts by detector; one that has none may be missing.
    pub flagged: Vec<(String, u64)>,
    /// Verdicts that were opened or opened again since the agent started.
    pub opened: u64,
    /// Own hosts that are watched.
    pub subjects: u64,
    /// Own hosts in windows, each counted once a window, that were not judged for want of a place.
    pub unjudged: u64,
    /// Changes that wait in memory because the store could not be written.
    pub unwritten: u64,
}

impl VerdictSummary {
    /// Counts these open ones.
    pub fn count<'a>(&mut self, open: impl IntoIterator<Item = &'a Verdict>) {
        self.open = [0; Severity::ALL.len()];
        self.flagged.clear();
        for verdict in open {
            self.open[verdict.severity as usize] += 1;
            match self
                .flagged
                .iter_mut()
                .find(|(detector, _)| *detector == verdict.detector)
            {
                Some((_, count)) => *count += 1,
                None => self.flagged.push((verdict.detector.clone(), 1)),
            }
        }
    }

    /// Open verdicts of this detector.
    pub fn flagged_by(&self, detector: &str) -> u64 {
        let found = self.flagged.iter().find(|(name, _)| name == detector);
        found.map_or(0, |(_, count)| *count)
    }
}

/// Which verdicts: those to which all of this applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictFilter {
    /// In one of these states; none named: in any.
    pub states: Vec<VerdictState>,
    /// Whose subject is this or contains it.
    pub subject: Option<IpNet>,
    /// Of this detector.
    pub detector: Option<String>,
    /// Whose rule held or whose state changed at this time or later, in milliseconds since 1970.
    pub since: Option<u64>,
}

/// Why a source is not judged at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Unjudged {
    /// There is no list of own prefixes.
    NoPrefixList,
    /// It is outside all of them.
    Remote,
    /// A known relay excuses it.
    Excused {
        /// The prefix of the entry.
        entry: IpNet,
        /// Why it is known.
        why: String,
        /// Who answers for it.
        owner: String,
        /// Where the entry comes from.
        origin: Origin,
    },
    /// There were more sources than are watched.
    NoPlace,
}

/// Why a source is flagged, or why not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// Whom the question is about.
    pub subject: IpNet,
    /// Why it is not judged at all; its figures are there all the same.
    pub unjudged: Option<Unjudged>,
    /// Every rule, in the order of the detectors.
    pub rules: Vec<Rule>,
    /// Its verdicts, the latest first.
    pub verdicts: Vec<Verdict>,
    /// The answer in one sentence.
    pub answer: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(state: VerdictState) -> Verdict {
        Verdict {
            id: 7,
            subject: "192.0.2.1/32".parse().expect("a prefix"),
            detector: "volume".to_owned(),
            severity: Severity::Notice,
            size: None,
            failing: false,
            state,
            opened_at: 10,
            last_at: 20,
            changed_at: 10,
            reopened: 0,
            rule: Rule {
                detector: "volume".to_owned(),
                text: "text".to_owned(),
                severity: Severity::Notice,
                period: Period { from: 0, to: 20 },
                figures: Vec::new(),
                holding: Holding::Holds,
            },
        }
    }

    #[test]
    fn a_state_that_cannot_follow_is_refused_and_both_are_named() {
        use VerdictState::{Acknowledged, FalsePositive, New, Notified, Resolved};
        let allowed = [
            (New, Acknowledged),
            (New, Notified),
            (New, Resolved),
            (New, FalsePositive),
            (Acknowledged, Notified),
            (Acknowledged, Resolved),
            (Acknowledged, FalsePositive),
            (Notified, Resolved),
            (Notified, FalsePositive),
            (Resolved, New),
            (Resolved, FalsePositive),
            (FalsePositive, New),
        ];
        for from in VerdictState::ALL {
            for to in VerdictState::ALL {
                let mut verdict = verdict(from);
                let moved = verdict.move_to(to, "ada", "because", 30);
                if allowed.contains(&(from, to)) {
                    let event = moved.expect("allowed");
                    assert_eq!((event.from, event.to, event.at), (Some(from), to, 30));
                    assert_eq!((verdict.state, verdict.changed_at), (to, 30));
                    assert_eq!(verdict.reopened, u32::from(to == New));
                } else {
                    let Err(Unmoved::State(error)) = moved else {
                        panic!("{from} becomes {to}: {moved:?}");
                    };
                    let expected = format!("verdict 7 is {from} and cannot become {to}: ");
                    assert!(error.starts_with(&expected), "{error}");
                    assert_eq!(verdict.state, from);
                }
            }
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in VerdictState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("open".parse::<VerdictState>().is_err());
    }
}
