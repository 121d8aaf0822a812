//! What the developer tasks and the integration tests share.
//!
//! [`lab`] makes a laboratory of network namespaces with real mail software in it, [`command`] runs
//! programs with a limit in time and errors that can be acted on, [`interrupt`] turns Ctrl-C into
//! something that can be asked for, so that whatever was made is also removed. [`cost`] is the report
//! of what counting costs, [`browser`] drives a real Chromium, [`traffic`] makes labelled mail traffic from a seed, and [`evaluation`] is the
//! report of who is found in it. [`guest`] is what a virtual machine says to the task that booted it.
//!
//! The verbs of `cargo xtask` are modules of the binary, one file each.

#![forbid(unsafe_code)]

pub mod browser;
pub mod command;
pub mod cost;
pub mod evaluation;
pub mod guest;
pub mod interrupt;
pub mod lab;
pub mod random;
pub mod traffic;
