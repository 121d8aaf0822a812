//! What the detectors find in a capture.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ipnet::IpNet;

use crate::detect::{Court, Relay, Settings};
use crate::model::period::{Bucket, Tier, milliseconds, rfc3339};
use crate::model::prefix::show;
use crate::model::verdict::{Verdict, VerdictChange};
use crate::model::{Folded, Window};
use crate::report::verdicts::JsonVerdict;

/// Judges the windows of a capture.
pub(super) struct Judged {
    court: Court,
    /// By their numbers, as they are now.
    verdicts: BTreeMap<u64, Verdict>,
}

impl Judged {
    pub(super) fn new(settings: &Settings, local: &[IpNet], relays: &[Relay]) -> Self {
        Self {
            court: Court::new(settings, local.to_vec(), relays.to_vec()),
            verdicts: BTreeMap::new(),
        }
    }

    /// Adds a window. Time never goes back from one window of a capture to the next, so all are of
    /// one segment.
    pub(super) fn add(&mut self, window: &Window, folded: &Folded) {
        let hour = Bucket {
            segment: 0,
            start: Tier::Hour.start_of(milliseconds(window.started_at)),
            tier: Tier::Hour,
        };
        let changes = self.court.add(window, folded, hour);
        self.note(changes);
    }

    /// No window follows.
    pub(super) fn finish(&mut self) {
        let unsaved = self.court.docket.unsaved();
        self.note(unsaved);
    }

    fn note(&mut self, changes: Vec<VerdictChange>) {
        for change in changes {
            let verdict = change.verdict();
            self.verdicts.insert(verdict.id, verdict.clone());
        }
    }

    /// Whether anybody is judged: whether it is known which hosts are own ones.
    pub(super) fn judges(&self) -> bool {
        self.court.judge.policy().judges()
    }

    /// Own hosts that were not judged because there was no place.
    pub(super) const fn unjudged(&self) -> u64 {
        self.court.judge.unkept().unjudged
    }

    pub(super) fn json(&self) -> Vec<JsonVerdict> {
        self.verdicts.values().map(JsonVerdict::from).collect()
    }

    pub(super) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.judges() {
            return writeln!(
                out,
                "\nnobody is judged: say which hosts are yours with --local PREFIX or --config FILE"
            );
        }
        writeln!(out, "\nverdicts: {}", self.verdicts.len())?;
        let subjects: Vec<String> = self
            .verdicts
            .values()
            .map(|verdict| show(&verdict.subject))
            .collect();
        let width = subjects.iter().map(String::len).max().unwrap_or(0);
        for (verdict, subject) in self.verdicts.values().zip(&subjects) {
            writeln!(
                out,
                "  {}  {subject:<width$}  {:<8}  {:<11}  {}",
                rfc3339(verdict.opened_at),
                verdict.severity.name(),
                verdict.detector,
                verdict.rule.text
            )?;
        }
        if self.unjudged() != 0 {
            writeln!(
                out,
                "  there was no place to judge all own hosts (detect.subjects): {} times in a window",
                self.unjudged()
            )?;
        }
        Ok(())
    }
}
