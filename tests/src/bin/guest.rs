//! PID 1 of the virtual machines of `cargo xtask vm`, and each of their checks.
//!
//! As PID 1 it does what `smtpflow_tests::guest` says; `init check NAME` is one check, in a process of its
//! own, so that a panic or a hang ends no machine.

use smtpflow_tests::guest;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check", name] => guest::check(name),
        _ if std::process::id() == 1 => guest::boot(),
        _ => panic!("this is PID 1 of a virtual machine: run `cargo xtask vm`"),
    }
}
