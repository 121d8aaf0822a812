//! The XDP program: counts SMTP segments per source address and lets every packet pass.
//!
//! Contract: returns `XDP_PASS` on every path, writes to no packet, knows mail ports and table
//! sizes and nothing else. What it counts is decided in `smtp-common`; here are only the maps.
//!
//! ```text
//! CPU number -> EPOCH[0] (the array of this half) -> Header: half, totals
//! frame -> parse -> Segment -> observe -> SOURCES[half, CPU, hash], SYNS, own host: SPILL,
//!               |                        FLOWS[half, CPU, hash]
//!               \-> Skip    -> Header.outcomes
//! ```
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the xdp attribute makes an exported function without the comment of its own"
)]

mod count;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::count::count;

/// For drivers that hand over a frame in one buffer.
#[xdp]
pub fn smtpflow(ctx: XdpContext) -> u32 {
    count(&ctx)
}

/// For drivers that may hand over a frame in several buffers (MTU above one page). The headers lie
/// in the first.
#[xdp(frags)]
pub fn smtpflow_frags(ctx: XdpContext) -> u32 {
    count(&ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
