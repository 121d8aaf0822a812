//! What the service manager is told (sd_notify(3)): that the agent counts, how it is, that it lives.
//!
//! Contract: where nobody waits for it (`$NOTIFY_SOCKET` is not set), nothing happens. That something
//! could not be told never ends the agent, and is logged once. The watchdog hears of finished drains
//! alone, so that an agent which does not count any more is started again, whatever else of it lives.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::model::{PointState, Snapshot};

/// Windows that the watchdog has to wait for a drain: the first one is up to one and a half long.
const LEAST_WINDOWS: u32 = 2;
/// What it is asked to wait where its unit says less.
const WINDOWS: u32 = 3;

/// The service manager.
#[derive(Debug, Default)]
pub struct Manager {
    has_failed: AtomicBool,
}

impl Manager {
    /// That the agent counts and answers. `window` is how often the watchdog is going to hear of it.
    pub fn ready(&self, window: Duration) {
        self.tell(&[NotifyState::Ready]);
        let Some(patience) = sd_notify::watchdog_enabled() else {
            return;
        };
        if let Some(longer) = longer(patience, window) {
            tracing::warn!(
                "the watchdog waits {patience:?}, and windows of {window:?} are drained less often \
                 than that; it is asked to wait {longer:?}: say so in the unit (WatchdogSec=), or \
                 make windows shorter (meter.window)"
            );
            // A window has 10 minutes at most, so it fits.
            let micros = u32::try_from(longer.as_micros()).unwrap_or(u32::MAX);
            self.tell(&[NotifyState::WatchdogUsec(micros)]);
        }
    }

    /// That a drain is finished, and how the agent is after it.
    pub fn drained(&self, snapshot: &Snapshot) {
        self.tell(&[
            NotifyState::Watchdog,
            NotifyState::Status(&status(snapshot)),
        ]);
    }

    /// That the configuration is being read anew.
    pub fn reloading(&self) {
        let mut what = vec![NotifyState::Reloading];
        // By it, a manager knows this from the one before.
        what.extend(NotifyState::monotonic_usec_now().ok());
        self.tell(&what);
    }

    /// That this is over, whatever came of it.
    pub fn reloaded(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// That the agent ends.
    pub fn stopping(&self) {
        self.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("last drain, then the end"),
        ]);
    }

    fn tell(&self, what: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(what)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "cannot tell the service manager that the agent lives (NOTIFY_SOCKET): {error}; it may \
                 start it again"
            );
        }
    }
}

/// What to ask the watchdog for, if it has too little patience for such windows.
fn longer(patience: Duration, window: Duration) -> Option<Duration> {
    (patience < window * LEAST_WINDOWS).then(|| window * WINDOWS)
}

/// One line for `systemctl status`.
fn status(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for point in &snapshot.points {
        let (before, name) = (if text.is_empty() { "" } else { ", " }, &point.configured);
        let how = match point.state {
            PointState::Attached => point.mode.name(),
            _ => "NOT COUNTED ON",
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "{before}{name} ({how})");
    }
    if let Some(drain) = &snapshot.last_drain {
        let _ = write!(
            text,
            "; last window: {} connections of {} sources",
            drain.connections, drain.sources
        );
    }
    let _ = write!(text, "; {} open verdicts", snapshot.open.len());
    let store = snapshot.store.as_ref();
    if store.is_some_and(|store| store.failure.is_some()) {
        text.push_str("; THE STORE CANNOT BE WRITTEN");
    }
    // A name of an interface has no line breaks, and a status is one line.
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_waits_two_windows_or_is_asked_to_wait_three() {
        let seconds = Duration::from_secs;
        assert_eq!(longer(seconds(20), seconds(10)), None);
        assert_eq!(longer(seconds(19), seconds(10)), Some(seconds(30)));
        let (longest, most) = (seconds(600), Duration::from_micros(u64::from(u32::MAX)));
        assert!(longer(seconds(1), longest).is_some_and(|longer| longer < most));
    }
}
