//! The life of verdicts.
//!
//! Contract: findings in, changes for the store out; no clock and no I/O. There is at most one open
//! verdict for each subject and detector. While it is open its severity is raised and never lowered,
//! and the worst rule is kept. It is resolved when its rule did not hold for `quiet`; if the rule holds
//! again within `reopen`, the same verdict is new again, else another is opened. What people have
//! called a false positive mutes the detector about the subject for `mute`.
//!
//! A verdict that a person has resolved is not opened again by what was counted before: only by an hour
//! that began after its rule had held last.
//!
//! People change verdicts in the store, from other processes; [`Docket::load`] takes that over.
//!
//! **Memory.** At most [`PLACES`] verdicts at about 0.8 kB each, 50 MB. When they are full, the resolved
//! ones that changed longest ago make place, half of them at once: if their rule holds again, a new
//! verdict is opened. When all are open, no more are, and that is counted.
//!
//! That a rule goes on to hold is noted in the store every [`SAVED_EVERY`] at most: a window brings it
//! for every flagged source. What is not noted yet gives [`Docket::unsaved`].

use std::collections::HashMap;

use ipnet::IpNet;

use super::{Finding, Settings};
use crate::model::person::{MAX_WHY, SMTPFLOW};
use crate::model::verdict::{Rule, Severity, Verdict, VerdictChange, VerdictEvent, VerdictState};

/// How far `last_at` in the store may be behind, in milliseconds.
pub const SAVED_EVERY: u64 = 300_000;

/// Verdicts that are held at a time.
pub const PLACES: usize = 1 << 16;

struct Held {
    verdict: Verdict,
    /// `last_at` and the severity as the store has them.
    saved: (u64, Severity),
}

impl Held {
    fn new(verdict: Verdict) -> Self {
        let saved = (verdict.last_at, verdict.severity);
        Self { verdict, saved }
    }

    fn save(&mut self) -> Verdict {
        self.saved = (self.verdict.last_at, self.verdict.severity);
        self.verdict.clone()
    }
}

/// See the module.
pub struct Docket {
    quiet: u64,
    reopen: u64,
    mute: u64,
    quiet_text: String,
    next_id: u64,
    /// The latest verdict of each detector about a subject.
    latest: HashMap<IpNet, Vec<Held>>,
    places: usize,
    unopened: u64,
}

impl Docket {
    /// An empty one.
    pub fn new(settings: &Settings) -> Self {
        Self::with_places(settings, PLACES)
    }

    fn with_places(settings: &Settings, places: usize) -> Self {
        Self {
            quiet: settings.quiet.milliseconds(),
            reopen: settings.reopen.milliseconds(),
            mute: settings.mute.milliseconds(),
            quiet_text: settings.quiet.to_string(),
            next_id: 1,
            latest: HashMap::new(),
            places,
            unopened: 0,
        }
    }

    /// Goes by these settings from now on. Closed verdicts that matter by them and not by those before
    /// are there after the next [`Docket::load`].
    pub fn set_settings(&mut self, settings: &Settings) {
        self.quiet = settings.quiet.milliseconds();
        self.reopen = settings.reopen.milliseconds();
        self.mute = settings.mute.milliseconds();
        self.quiet_text = settings.quiet.to_string();
    }

    /// Findings that found no place, since the docket was made, each counted once a window.
    pub const fn unopened(&self) -> u64 {
        self.unopened
    }

    /// Since when a closed verdict must have changed to matter still, in milliseconds since 1970.
    pub fn horizon(&self, now: u64) -> u64 {
        now.saturating_sub(self.reopen.max(self.mute))
    }

    /// Takes over what the store has: all open verdicts, those that changed since [`Docket::horizon`],
    /// and the number of the next one. It may be done again after others have written to the store:
    /// their states count, and what was found since and is not written yet is not forgotten.
    pub fn load(&mut self, verdicts: Vec<Verdict>, next_id: u64) {
        self.next_id = self.next_id.max(next_id);
        let before = std::mem::take(&mut self.latest);
        let mut known: HashMap<u64, Held> = before
            .into_values()
            .flatten()
            .map(|held| (held.verdict.id, held))
            .collect();
        for verdict in verdicts {
            let mut held = Held::new(verdict);
            if let Some(mine) = known.remove(&held.verdict.id) {
                let verdict = &mut held.verdict;
                verdict.last_at = verdict.last_at.max(mine.verdict.last_at);
                if is_worse(&mine.verdict.rule, &verdict.rule) {
                    verdict.severity = verdict.severity.max(mine.verdict.severity);
                    verdict.rule = mine.verdict.rule;
                    verdict.size = mine.verdict.size;
                    verdict.failing = mine.verdict.failing;
                }
            }
            self.keep(held);
        }
        // Those that the store has never seen, but where a person has opened an older one again: that
        // one counts, and the store refuses this one.
        for held in known.into_values() {
            let Verdict {
                id,
                subject,
                detector,
                ..
            } = &held.verdict;
            let of_subject = self.latest.get(subject);
            let open = of_subject
                .into_iter()
                .flatten()
                .any(|other| other.verdict.detector == *detector && other.verdict.state.is_open());
            if *id >= next_id && !open {
                self.keep(held);
            }
        }
    }

    /// Keeps a verdict if it is the latest of its kind, an open one before all others.
    fn keep(&mut self, held: Held) {
        let of_subject = self.latest.entry(held.verdict.subject).or_default();
        let order = |held: &Held| (held.verdict.state.is_open(), held.verdict.id);
        match of_subject
            .iter_mut()
            .find(|other| other.verdict.detector == held.verdict.detector)
        {
            Some(other) if order(other) < order(&held) => *other = held,
            Some(_) => {}
            None => of_subject.push(held),
        }
    }

    /// The open verdicts, by their numbers.
    pub fn open(&self) -> Vec<&Verdict> {
        let all = self.latest.values().flatten().map(|held| &held.verdict);
        let mut open: Vec<_> = all.filter(|verdict| verdict.state.is_open()).collect();
        open.sort_by_key(|verdict| verdict.id);
        open
    }

    /// The latest verdicts about a subject, one of each detector at most.
    pub fn of(&self, subject: &IpNet) -> Vec<Verdict> {
        let held = self.latest.get(subject).into_iter().flatten();
        held.map(|held| held.verdict.clone()).collect()
    }

    /// Adds what was found by the end of a window, in milliseconds since 1970, and ends what was
    /// quiet for long enough.
    pub fn apply(&mut self, findings: &[Finding], now: u64) -> Vec<VerdictChange> {
        let mut changes = Vec::new();
        let mut room = self.make_room(findings);
        for finding in findings {
            self.add(finding, now, &mut room, &mut changes);
        }
        let mut resolved = Vec::new();
        for held in self.latest.values_mut().flatten() {
            let verdict = &mut held.verdict;
            let quiet = now.saturating_sub(verdict.last_at) >= self.quiet;
            if !verdict.state.is_open() || !quiet {
                continue;
            }
            let why = format!("the rule did not hold for {}", self.quiet_text);
            if let Ok(event) = verdict.move_to(VerdictState::Resolved, SMTPFLOW, &why, now) {
                resolved.push(VerdictChange::Moved(held.save(), event));
            }
        }
        // Not in the order of the map.
        resolved.sort_by_key(|change| change.verdict().id);
        changes.append(&mut resolved);
        let horizon = self.horizon(now);
        self.latest.retain(|_, of_subject| {
            of_subject
                .retain(|held| held.verdict.state.is_open() || held.verdict.changed_at >= horizon);
            !of_subject.is_empty()
        });
        changes
    }

    /// Ends the open verdicts about subjects for which `why` has a reason.
    pub fn resolve(
        &mut self,
        now: u64,
        why: impl Fn(&IpNet) -> Option<String>,
    ) -> Vec<VerdictChange> {
        let mut changes = Vec::new();
        for (subject, of_subject) in &mut self.latest {
            let open = of_subject.iter_mut();
            let mut open = open.filter(|held| held.verdict.state.is_open()).peekable();
            let Some(why) = open.peek().and_then(|_| why(subject)) else {
                continue;
            };
            let why = shorten(&why);
            for held in open {
                let moved = held
                    .verdict
                    .move_to(VerdictState::Resolved, SMTPFLOW, &why, now);
                if let Ok(event) = moved {
                    changes.push(VerdictChange::Moved(held.save(), event));
                }
            }
        }
        // Not in the order of the map.
        changes.sort_by_key(|change| change.verdict().id);
        changes
    }

    /// Gives the number of free places, after some were made if these need more.
    fn make_room(&mut self, findings: &[Finding]) -> usize {
        let held = self.latest.values().map(Vec::len).sum::<usize>();
        let free = self.places.saturating_sub(held);
        let is_new = |finding: &&Finding| {
            let of_subject = self.latest.get(&finding.subject).into_iter().flatten();
            let mut detectors = of_subject.map(|held| &held.verdict.detector);
            !detectors.any(|detector| *detector == finding.rule.detector)
        };
        if free >= findings.len() || free >= findings.iter().filter(is_new).count() {
            return free;
        }
        let all = self.latest.values().flatten().map(|held| &held.verdict);
        let resolved = all.filter(|verdict| verdict.state == VerdictState::Resolved);
        let mut resolved: Vec<_> = resolved
            .map(|verdict| (verdict.changed_at, verdict.id))
            .collect();
        let half = resolved.len().div_ceil(2);
        if half == 0 {
            return free;
        }
        let last = *resolved.select_nth_unstable(half - 1).1;
        for of_subject in self.latest.values_mut() {
            of_subject.retain(|held| {
                held.verdict.state != VerdictState::Resolved
                    || (held.verdict.changed_at, held.verdict.id) > last
            });
        }
        free + half
    }

    fn add(
        &mut self,
        finding: &Finding,
        now: u64,
        room: &mut usize,
        changes: &mut Vec<VerdictChange>,
    ) {
        let of_subject = self.latest.entry(finding.subject).or_default();
        let held = of_subject
            .iter_mut()
            .find(|held| held.verdict.detector == finding.rule.detector);
        let Some(held) = held else {
            if *room == 0 {
                self.unopened += 1;
                return;
            }
            *room -= 1;
            let (verdict, event) = open(&mut self.next_id, finding, now);
            of_subject.push(Held::new(verdict.clone()));
            changes.push(VerdictChange::Opened(verdict, event));
            return;
        };
        let since = now.saturating_sub(held.verdict.changed_at);
        match held.verdict.state {
            VerdictState::New | VerdictState::Acknowledged | VerdictState::Notified => {
                held.hold(finding, now);
                let (last_at, severity) = held.saved;
                let stale = held.verdict.last_at.saturating_sub(last_at) >= SAVED_EVERY;
                if stale || held.verdict.severity > severity {
                    changes.push(VerdictChange::Held(held.save()));
                }
            }
            VerdictState::Resolved if since < self.reopen => {
                if finding.hour <= held.verdict.last_at {
                    return;
                }
                let why = shorten(&format!("it holds again: {}", finding.rule.text));
                let moved = held.verdict.move_to(VerdictState::New, SMTPFLOW, &why, now);
                if let Ok(event) = moved {
                    held.hold(finding, now);
                    changes.push(VerdictChange::Moved(held.save(), event));
                }
            }
            VerdictState::FalsePositive if since < self.mute => {}
            VerdictState::Resolved | VerdictState::FalsePositive => {
                let (verdict, event) = open(&mut self.next_id, finding, now);
                *held = Held::new(verdict.clone());
                changes.push(VerdictChange::Opened(verdict, event));
            }
        }
    }

    /// What the store does not know yet, for the end of the agent.
    pub fn unsaved(&mut self) -> Vec<VerdictChange> {
        let held = self.latest.values_mut().flatten();
        let unsaved = held.filter(|held| held.saved.0 != held.verdict.last_at);
        let mut unsaved: Vec<_> = unsaved.map(Held::save).collect();
        unsaved.sort_by_key(|verdict| verdict.id);
        unsaved.into_iter().map(VerdictChange::Held).collect()
    }
}

impl Held {
    /// Its rule held again.
    fn hold(&mut self, finding: &Finding, now: u64) {
        let verdict = &mut self.verdict;
        verdict.last_at = verdict.last_at.max(now);
        if is_worse(&finding.rule, &verdict.rule) {
            verdict.severity = verdict.severity.max(finding.rule.severity);
            verdict.rule = finding.rule.clone();
            verdict.size = finding.size;
            verdict.failing = finding.failing;
        }
    }
}

fn open(next_id: &mut u64, finding: &Finding, now: u64) -> (Verdict, VerdictEvent) {
    let id = *next_id;
    *next_id += 1;
    let Finding {
        subject,
        rule,
        size,
        failing,
        hour: _,
    } = finding;
    let verdict = Verdict {
        id,
        subject: *subject,
        detector: rule.detector.clone(),
        severity: rule.severity,
        size: *size,
        failing: *failing,
        state: VerdictState::New,
        opened_at: now,
        last_at: now,
        changed_at: now,
        reopened: 0,
        rule: rule.clone(),
    };
    let event = VerdictEvent {
        verdict: id,
        at: now,
        who: SMTPFLOW.to_owned(),
        from: None,
        to: VerdictState::New,
        why: shorten(&rule.text),
    };
    (verdict, event)
}

/// Whether a rule is worse than another one of its detector: by its severity, then by how far its
/// figures are beyond their limits.
fn is_worse(rule: &Rule, other: &Rule) -> bool {
    let excess = |rule: &Rule| {
        let times = rule.figures.iter().map(|figure| {
            if figure.below {
                figure.limit / figure.value.max(f64::MIN_POSITIVE)
            } else {
                figure.value / figure.limit.max(f64::MIN_POSITIVE)
            }
        });
        times.fold(0.0_f64, f64::max)
    };
    (rule.severity, excess(rule)) > (other.severity, excess(other))
}

/// As long as a reason may be.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_WHY).collect()
}

#[cfg(test)]
mod tests;
