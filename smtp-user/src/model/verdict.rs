//! What detectors find, and what becomes of it: plain data.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::period::Period;

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
