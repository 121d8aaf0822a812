//! Judges each window after it was committed, and notes in the store what changes by that.
//!
//! Contract: what is judged is what history has, in the same hours, so that a restart goes on where
//! the agent was, and the question why has the same answer from the store. A change that cannot be
//! noted waits in memory. What people decide in the store from elsewhere, about verdicts and known relays,
//! is taken over before the next window is judged.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::Config;
use crate::detect::{Court, Judge, REACH, Relay};
use crate::failure::Failure;
use crate::model::period::{Bucket, Period, Tier};
use crate::model::relay::Origin;
use crate::model::verdict::{Verdict, VerdictChange, VerdictNews, VerdictState, VerdictSummary};
use crate::model::{Folded, Window};
use crate::store::{Clock, Store};

const HOUR: u64 = Tier::Hour.length().expect("an hour has a length");

/// What there is to show and to tell of verdicts.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) summary: VerdictSummary,
    pub(super) open: Arc<[Verdict]>,
    /// Known relays of the store that nobody has ended.
    pub(super) relays: Vec<Relay>,
    pub(super) news: Vec<VerdictNews>,
}

pub(super) struct Judging {
    court: Court,
    clock: Clock,
    /// The state of the store, as far as others have written to it.
    data_version: Option<i64>,
    /// Known relays of the configuration, and those of the store that nobody has ended.
    configured: Vec<Relay>,
    stored: Vec<Relay>,
    /// Whether the judge has counts of addresses that are judged as others now.
    is_stale: bool,
    /// Hosts that earlier judges had no place for.
    unjudged: u64,
    /// The last event of a verdict in the store that was looked at.
    last_event: Option<u64>,
    /// What there is to tell.
    news: Vec<VerdictNews>,
    /// Changes that are not in the store.
    unwritten: Vec<VerdictChange>,
    failing: bool,
    opened: u64,
    /// Entries of known relays that were said to be over.
    expired: HashSet<IpNet>,
}

impl Judging {
    /// Goes on with what the store has.
    pub(super) fn new(config: &Config, store: Option<&mut Store>) -> Result<Self, Failure> {
        let local = config.networks.local.clone();
        let mut judging = Self {
            court: Court::new(&config.detect, local, config.relay.clone()),
            clock: Clock::default(),
            data_version: None,
            configured: config.relay.clone(),
            stored: Vec::new(),
            is_stale: false,
            unjudged: 0,
            last_event: None,
            news: Vec::new(),
            unwritten: Vec::new(),
            failing: false,
            opened: 0,
            expired: HashSet::new(),
        };
        judging.say_if_nobody();
        if let Some(store) = store {
            judging.clock = store.clock();
            judging.know(store.relays()?);
            judging.remember(store)?;
            judging.is_stale = false;
            judging.take_over(store);
            // A kill may have come between a window and what was found in it.
            let findings = judging.court.judge.review();
            let changes = judging.court.docket.apply(&findings, judging.clock.end);
            judging.note(changes, Some(store));
            // What has happened until now is no news.
            judging.news.clear();
        }
        Ok(judging)
    }

    fn say_if_nobody(&self) {
        if !self.court.judge.policy().judges() {
            tracing::warn!(
                "no host is judged: say which are yours with --local PREFIX (networks.local)"
            );
        }
    }

    /// Judges by this configuration from the next window on. Where it makes others of those who are
    /// judged, history is judged anew. Without a store there is none: then what was counted until now
    /// stays with the subjects that it was counted for.
    pub(super) fn reload(&mut self, config: &Config, store: Option<&mut Store>) {
        let mut policy = config.policy();
        policy.know(&self.stored);
        let before = self.court.judge.policy();
        let judged = before.judges();
        self.is_stale |= !policy.remembers_as(before);
        if self.configured != config.relay {
            self.configured.clone_from(&config.relay);
            // One that was given a later day may end again.
            self.expired.clear();
        }
        self.court.set_policy(policy);
        if judged {
            self.say_if_nobody();
        }
        // The docket may need verdicts that were closed earlier.
        self.data_version = None;
        match store {
            Some(store) => {
                self.take_over(store);
                self.refresh(store);
            }
            None => {
                let changes = self.court.excuse(self.clock.end);
                self.note(changes, None);
            }
        }
    }

    /// Makes these the known relays of the store.
    fn know(&mut self, stored: Vec<Relay>) {
        for relay in &stored {
            let of_config = self
                .configured
                .iter()
                .any(|other| other.prefix == relay.prefix);
            if of_config && !self.stored.contains(relay) {
                tracing::warn!(
                    "the known relay {} is in the store as well as in the configuration, which \
                     counts; end one of the two (smtpflow relay expire)",
                    relay.prefix
                );
            }
        }
        self.is_stale |= self.court.judge.know(&stored);
        self.stored = stored;
    }

    /// Takes history over anew where known relays have changed as whom addresses are judged.
    fn refresh(&mut self, store: &Store) {
        // What is not in the store yet would be forgotten.
        if !self.is_stale || store.is_behind() {
            return;
        }
        self.is_stale = false;
        let policy = self.court.judge.policy().clone();
        let before = std::mem::replace(&mut self.court.judge, Judge::with_policy(policy));
        match self.remember(store) {
            Ok(()) => self.unjudged += before.unkept().unjudged,
            Err(failure) => {
                self.court.judge = before;
                self.fail(&failure);
            }
        }
    }

    /// Takes over the hours that are looked back at.
    fn remember(&mut self, store: &Store) -> Result<(), Failure> {
        let now = self.clock.end;
        let judge = &mut self.court.judge;
        if now == 0 || !judge.policy().judges() {
            return Ok(());
        }
        let reader = store.reader()?;
        let running = Bucket {
            segment: self.clock.segment,
            // A window that ended with the hour is of that hour.
            start: Tier::Hour.start_of(now - 1),
            tier: Tier::Hour,
        };
        let period = Period {
            from: running.start.saturating_sub(REACH as u64 * HOUR),
            to: running.start + HOUR,
        };
        let (running_hour, closed): (Vec<_>, Vec<_>) = reader
            .coverage(Tier::Hour, period)?
            .into_iter()
            .partition(|coverage| coverage.bucket == running);
        judge.begin(now, &closed, running_hour.first().copied());
        reader.hours(period, &mut |bucket, address, counts| {
            judge.remember(bucket, address, counts);
        })?;
        let running_hour = Period {
            from: running.start,
            ..period
        };
        reader.pairs(running_hour, &mut |pair, counts| {
            judge.remember_pair(pair, counts);
        })
    }

    /// Takes over what others have written to the store.
    fn take_over(&mut self, store: &mut Store) {
        match self.look_up(store) {
            Ok(false) => {}
            Ok(true) => {
                // What was found before an entry was known, the person who added it has not resolved.
                let changes = self.court.excuse(self.clock.end);
                self.note(changes, Some(store));
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// Reads what others have written to the store, if they have.
    fn look_up(&mut self, store: &Store) -> Result<bool, Failure> {
        let version = store.data_version()?;
        if self.data_version == Some(version) {
            return Ok(false);
        }
        store.count_notices()?;
        let relays = store.relays()?;
        if relays != self.stored {
            self.know(relays);
        }
        let docket = &mut self.court.docket;
        let (verdicts, next_id) = store.load_verdicts(docket.horizon(self.clock.end))?;
        docket.load(verdicts, next_id);
        // Before the first look, nothing is news.
        let after = self.last_event.unwrap_or(u64::MAX);
        let (news, last) = store.personal_events(after)?;
        self.news.extend(news);
        self.last_event = Some(last);
        self.data_version = Some(version);
        Ok(true)
    }

    /// Takes over what people have just decided.
    pub(super) fn look(&mut self, store: Option<&mut Store>) {
        if let Some(store) = store {
            self.take_over(store);
            self.refresh(store);
        }
    }

    /// Judges a window.
    pub(super) fn add(&mut self, window: &Window, folded: &Folded, mut store: Option<&mut Store>) {
        if let Some(store) = &mut store {
            self.take_over(store);
        }
        let span = self.clock.place(window);
        let hour = Bucket {
            segment: span.segment,
            start: Tier::Hour.start_of(span.start),
            tier: Tier::Hour,
        };
        let changes = self.court.add(window, folded, hour);
        // It is in the store, so only after it was judged can history be taken over anew.
        if let Some(store) = &store {
            self.refresh(store);
        }
        self.note(changes, store);
        self.report_expired(hour.start);
    }

    /// Says once of each entry of a known relay that it excuses nobody any more.
    fn report_expired(&mut self, now: u64) {
        for (relay, origin) in self.court.judge.policy().expired_relays(now) {
            if self.expired.insert(relay.prefix) {
                let way_out = match origin {
                    Origin::Config => "renew or delete it ([[relay]] expires)",
                    Origin::Store => "add it again with a later day (smtpflow relay add)",
                };
                tracing::warn!(
                    "the entry of the known relay {} ({}; {}) is over: its hosts are judged as all \
                     others; {way_out}",
                    relay.prefix,
                    relay.reason,
                    relay.owner
                );
            }
        }
    }

    /// Notes what is not in the store yet: nothing follows.
    pub(super) fn finish(&mut self, store: Option<&mut Store>) {
        let unsaved = self.court.docket.unsaved();
        self.note(unsaved, store);
    }

    fn note(&mut self, changes: Vec<VerdictChange>, store: Option<&mut Store>) {
        for change in &changes {
            if let VerdictChange::Opened(verdict, event) | VerdictChange::Moved(verdict, event) =
                change
            {
                self.news.push(VerdictNews {
                    verdict: verdict.clone(),
                    event: event.clone(),
                });
            }
            let (verdict, what) = match change {
                VerdictChange::Opened(verdict, _) => (verdict, "flagged"),
                VerdictChange::Moved(verdict, event) if event.to == VerdictState::New => {
                    (verdict, "flagged again")
                }
                VerdictChange::Moved(..) | VerdictChange::Held(_) => continue,
            };
            self.opened += 1;
            tracing::info!(
                subject = %verdict.subject,
                detector = verdict.detector,
                severity = verdict.severity.name(),
                verdict = verdict.id,
                "{what}: {}",
                verdict.rule.text
            );
        }
        let Some(store) = store else {
            return;
        };
        if !self.unwritten.is_empty() {
            // Of a rule that goes on to hold, the last word is enough.
            let anew: HashSet<u64> = changes.iter().map(|change| change.verdict().id).collect();
            self.unwritten.retain(|change| {
                let held = matches!(change, VerdictChange::Held(_));
                !(held && anew.contains(&change.verdict().id))
            });
        }
        self.unwritten.extend(changes);
        match store.write_verdicts(&self.unwritten) {
            Ok(()) => {
                self.unwritten.clear();
                self.failing = false;
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// Says it once.
    fn fail(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!("{failure}; verdicts wait in memory");
        }
    }

    /// What the verdicts are now, with what has become of them since it was asked last.
    pub(super) fn judged(&mut self) -> Judged {
        let open = self.court.docket.open();
        Judged {
            summary: self.summary(),
            open: open.into_iter().cloned().collect(),
            relays: self.stored.clone(),
            news: std::mem::take(&mut self.news),
        }
    }

    fn summary(&self) -> VerdictSummary {
        let Court { judge, docket } = &self.court;
        let mut summary = VerdictSummary {
            judged: judge.policy().judges(),
            opened: self.opened,
            subjects: judge.subjects() as u64,
            unjudged: self.unjudged + judge.unkept().unjudged,
            unwritten: self.unwritten.len() as u64,
            ..VerdictSummary::default()
        };
        summary.count(docket.open());
        summary
    }
}

#[cfg(test)]
mod tests;
