//! Verdicts as the screens show them: what was found, where it stands, what has become of it, and what
//! can be done.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::model::person::SMTPFLOW;
use crate::model::prefix::show;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictState};
use crate::report::cases::Class;

/// A verdict with its audit trail.
pub(super) struct Life {
    pub(super) id: u64,
    pub(super) subject: String,
    /// Whose page tells of it: the first address of a prefix.
    pub(super) address: IpAddr,
    pub(super) detector: String,
    pub(super) severity: &'static str,
    pub(super) state: &'static str,
    pub(super) open: bool,
    pub(super) class: &'static str,
    pub(super) opened_at: u64,
    pub(super) last_at: u64,
    pub(super) changed_at: u64,
    /// How long it has been open, or was, in seconds.
    pub(super) age: u64,
    pub(super) reopened: u32,
    pub(super) text: String,
    /// What can be done about it.
    pub(super) acts: Vec<&'static Act>,
    /// The earliest first; none where they were not asked for.
    pub(super) events: Vec<Event>,
    /// Events before these, which its own page has.
    pub(super) earlier: usize,
}

/// A change in its life.
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) who: String,
    /// Whether a person did it.
    pub(super) person: bool,
    pub(super) to: &'static str,
    pub(super) why: String,
}

/// What somebody can do about a verdict.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// The state that it leads to, as in the API.
    pub(super) state: &'static str,
    /// On a button.
    pub(super) name: &'static str,
    /// The verb of `smtpflow verdict`.
    pub(super) verb: &'static str,
    /// What it does, for who is about to do it.
    pub(super) effect: &'static str,
}

/// All of them, in the order of a verdict's life.
pub(super) const ACTS: [(VerdictState, Act); 5] = [
    (
        VerdictState::Acknowledged,
        Act {
            state: VerdictState::Acknowledged.name(),
            name: "Acknowledge",
            verb: "acknowledge",
            effect: "You have seen it and look into it. It stays open.",
        },
    ),
    (
        VerdictState::Notified,
        Act {
            state: VerdictState::Notified.name(),
            name: "Owner notified",
            verb: "notify",
            effect: "You have told the owner of the host. It stays open; smtpflow sends nothing.",
        },
    ),
    (
        VerdictState::Resolved,
        Act {
            state: VerdictState::Resolved.name(),
            name: "Resolve",
            verb: "resolve",
            effect: "It is over. If its rule holds in an hour that begins after the last one that did, \
                     it is opened again.",
        },
    ),
    (
        VerdictState::FalsePositive,
        Act {
            state: VerdictState::FalsePositive.name(),
            name: "False positive",
            verb: "false-positive",
            effect: "It was wrong. The detector says nothing about this host for a while (detect.mute), \
                     and the report accuses nobody of it.",
        },
    ),
    (
        VerdictState::New,
        Act {
            state: VerdictState::New.name(),
            name: "Reopen",
            verb: "reopen",
            effect: "It was ended too early. It is new and open again.",
        },
    ),
];

impl Life {
    /// Of this verdict, at this time.
    pub(super) fn new(verdict: &Verdict, events: &[VerdictEvent], now: u64) -> Self {
        let open = verdict.state.is_open();
        let end = if open { now } else { verdict.changed_at };
        Self {
            id: verdict.id,
            subject: show(&verdict.subject),
            address: verdict.subject.addr(),
            detector: verdict.detector.clone(),
            severity: verdict.severity.name(),
            state: verdict.state.name(),
            open,
            class: Class::of(verdict).name(),
            opened_at: verdict.opened_at,
            last_at: verdict.last_at,
            changed_at: verdict.changed_at,
            age: end.saturating_sub(verdict.opened_at) / 1000,
            reopened: verdict.reopened,
            text: verdict.rule.text.clone(),
            acts: acts(verdict.state),
            events: events.iter().map(Event::from).collect(),
            earlier: 0,
        }
    }

    /// With no more than its latest events: one that is opened again each week has hundreds.
    pub(super) fn latest(mut self, most: usize) -> Self {
        self.earlier = self.events.len().saturating_sub(most);
        self.events.drain(..self.earlier);
        self
    }
}

impl Life {
    /// The states that it may get, for the script.
    pub(super) fn may(&self) -> String {
        let states: Vec<_> = self.acts.iter().map(|act| act.state).collect();
        states.join(" ")
    }

    /// What it is, in a line, for who is about to change it.
    pub(super) fn words(&self) -> String {
        format!(
            "#{} {} of {}: {}, {}",
            self.id,
            self.detector,
            self.subject,
            self.severity,
            self.state.replace('_', " ")
        )
    }
}

/// What can be done in this state.
pub(super) fn acts(state: VerdictState) -> Vec<&'static Act> {
    ACTS.iter()
        .filter(|(to, _)| state.may_become(*to))
        .map(|(_, act)| act)
        .collect()
}

impl From<&VerdictEvent> for Event {
    fn from(event: &VerdictEvent) -> Self {
        let VerdictEvent {
            verdict: _,
            at,
            who,
            from: _,
            to,
            why,
        } = event;
        Self {
            at: *at,
            who: who.clone(),
            person: who != SMTPFLOW,
            to: to.name(),
            why: why.clone(),
        }
    }
}
