//! One semantics for kernel and user space.
//!
//! Invariant of this crate: what is here runs unchanged inside the XDP program, in `replay`, in
//! unit tests and under the fuzzers. So it is `no_std`, has no dependency, never allocates, and
//! every layout that crosses the kernel boundary is `repr(C)`, made of integers, without padding,
//! and checked for its size at compile time.
//!
//! ```text
//! frame -> Packet -> parse -> Segment -> observe -> SOURCES[address], FLOWS[4-tuple]   this half
//!                         \-> Skip    -> Header.outcomes[skip]                         this half
//! ```
#![no_std]

mod address;
pub mod counter;
pub mod flow;
mod header;
mod observe;
pub mod packet;
mod parse;
mod source;
pub mod speech;
pub mod table;

/// Version of every layout in this crate that lives in a pinned map: [`table::Line`],
/// [`table::Set`], [`flow::FlowLine`], [`flow::FlowSet`], [`flow::Header`], the SYN memory and their geometry.
///
/// Raise it with any change of layout or meaning: pins of another version are never reused.
pub const LAYOUT_VERSION: u32 = 2;
