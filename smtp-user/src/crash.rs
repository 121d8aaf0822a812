//! Points at which a test can have the agent killed: an aid for the test that kills it there.
//!
//! Contract: nothing happens unless the environment variable [`VARIABLE`] names a point. Then the
//! process sends itself SIGKILL when it comes there (`after_read`), or the n-th time (`after_read:3`):
//! nothing is flushed, dropped or undone, as when the kernel runs out of memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, raise};

/// Names a point of [`POINTS`], with `:N` for the N-th time.
pub const VARIABLE: &str = "SMTPFLOW_DIE_AT";

/// The points, in the order in which a drain passes them.
pub const POINTS: [&str; 5] = [
    "before_flip",
    "after_flip",
    "after_read",
    "after_commit",
    "mid_clear",
];

static CHOSEN: OnceLock<Option<(String, u32)>> = OnceLock::new();
static PASSED: AtomicU32 = AtomicU32::new(0);

/// Ends the process here if the environment says so.
pub fn point(name: &str) {
    let chosen = CHOSEN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    let Some((chosen, time)) = chosen else {
        return;
    };
    if chosen == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *time {
        let _ = raise(Signal::SIGKILL);
    }
}

fn parse(text: &str) -> Option<(String, u32)> {
    let (name, time) = text.split_once(':').unwrap_or((text, "1"));
    POINTS.contains(&name).then_some(())?;
    Some((name.to_owned(), time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_with_or_without_a_number() {
        assert_eq!(parse("after_read"), Some(("after_read".to_owned(), 1)));
        assert_eq!(parse("mid_clear:3"), Some(("mid_clear".to_owned(), 3)));
        assert_eq!(parse("mid_clear:x"), None);
        assert_eq!(parse("nowhere"), None);
    }
}
