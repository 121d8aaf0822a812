//! Points at which a test lets the agent die.
//!
//! Contract: where the environment variable `SMTPFLOW_DIE_AT` is not set, nothing happens. It holds
//! `POINT` or `POINT:N`; the process then kills itself with SIGKILL when it comes to that point for
//! the first, or for the `N`th, time. Tests prove with it that no count is lost or doubled wherever
//! the agent dies. A point that does not exist ends the process with a panic, so that no test passes
//! because of a misspelling.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The environment variable.
pub const VARIABLE: &str = "SMTPFLOW_DIE_AT";

/// The points of a drain, in their order: before the kernel's tables are flipped, after that, when
/// all is read, when all of it is written to the store but not committed, when it is, and with half
/// of it cleared.
pub const POINTS: [&str; 6] = [
    "before_flip",
    "after_flip",
    "after_read",
    "mid_commit",
    "after_commit",
    "mid_clear",
];

/// The points of the store's work between drains: when a step is written and not committed, and when
/// it is.
pub const TIDY_POINTS: [&str; 2] = ["mid_tidy", "after_tidy"];

/// Where to die, and how many times to pass before.
struct Death {
    point: String,
    passes_left: AtomicU64,
}

/// Dies here if it shall.
pub fn point(name: &str) {
    static DEATH: OnceLock<Option<Death>> = OnceLock::new();
    let death = DEATH.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (point, passes) =
            parse(&text).unwrap_or_else(|| panic!("{VARIABLE}={text}: expected {}", expected()));
        Some(Death {
            point,
            passes_left: AtomicU64::new(passes),
        })
    });
    let Some(death) = death else { return };
    // A counter that has come to 0 stays there; the process is dead before anybody asks again.
    if death.point == name && death.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
        // Nothing of this process runs after the kernel has taken the signal.
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}

/// The point, and the how many-th passing of it is the last.
fn parse(text: &str) -> Option<(String, u64)> {
    let (point, passes) = match text.split_once(':') {
        Some((point, passes)) => (point, passes.parse().ok().filter(|passes| *passes > 0)?),
        None => (text, 1),
    };
    let exists = POINTS.contains(&point) || TIDY_POINTS.contains(&point);
    exists.then(|| (point.to_owned(), passes))
}

fn expected() -> String {
    format!(
        "POINT or POINT:N, where POINT is one of {}",
        [POINTS.as_slice(), TIDY_POINTS.as_slice()]
            .concat()
            .join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_may_have_a_number() {
        assert_eq!(parse("mid_clear"), Some(("mid_clear".to_owned(), 1)));
        assert_eq!(parse("after_read:17"), Some(("after_read".to_owned(), 17)));
        for wrong in ["", "mid_clera", "mid_clear:0", "mid_clear:x", "mid_clear:"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
