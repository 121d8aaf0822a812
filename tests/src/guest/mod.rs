//! Inside a virtual machine: PID 1, and what is checked there.
//!
//! Contract: [`boot`] mounts what a running system has, loads modules, runs the checks that the kernel's
//! command line names, one after the other and each in a process of its own with a limit in time, says
//! what each has found in the words of `xtask::guest`, and switches the machine off. A check fails by a
//! panic; what it prints goes to the console. Nothing here is for a machine that anybody else uses.

mod checks;
mod counts;
mod init;
mod kernel;
mod life;
mod privilege;
mod verifier;

pub use checks::check;
pub use init::boot;
