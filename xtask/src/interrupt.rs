//! Ctrl-C and SIGTERM as a question: [`requested`].
//!
//! The handler sets a flag and nothing else, so every destructor gets its turn. The signals are
//! caught, not blocked: a blocked signal stays blocked in the children (the standard library lets them
//! inherit the mask), and none of them would obey SIGTERM.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

// Relaxed is enough: the flag guards no other memory, and its readers poll.
static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to watch for SIGINT, SIGTERM and SIGHUP.
pub fn watch() -> Result<()> {
    let flag = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .with_context(|| format!("cannot catch signal {signal}"))?;
    }
    Ok(())
}

/// Whether the user asked to stop. Always false when [`watch`] was not called.
pub fn requested() -> bool {
    REQUESTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}
