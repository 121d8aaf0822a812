//! Signals are caught here and delivered to the children. In a process of its own: the flag and the
//! handlers are the process's.

use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use xtask::{command, interrupt, lab};

#[test]
fn a_caught_signal_is_seen_and_children_still_obey_theirs() {
    interrupt::watch().expect("signals can be caught");
    assert!(!interrupt::requested());

    let log = std::env::temp_dir().join(format!("xtask-interrupt-{}.log", std::process::id()));
    let mut sleep = lab::Process::start(&mut command::tool("sleep", ["60"]), "sleep", log.clone())
        .expect("sleep starts");
    sleep
        .stop(Signal::SIGTERM, Duration::from_secs(5))
        .expect("a child ends at SIGTERM");
    std::fs::remove_file(log).expect("the log is there");

    raise(Signal::SIGINT).expect("a signal to oneself");
    assert!(interrupt::requested());
}
