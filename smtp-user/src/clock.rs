//! What time it is.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::model::Moment;

/// Time since boot, sleep included: it neither jumps nor stops.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    // Every Linux since 2.6.39 has it (clock_gettime(2)).
    now.map_or(Duration::ZERO, Duration::from)
}

/// Now.
pub fn now() -> Moment {
    Moment {
        wall: SystemTime::now(),
        since_boot: since_boot(),
    }
}
