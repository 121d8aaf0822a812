//! Programs that measure the counting body with many sources: the body itself is that of the agent's
//! program, included from the same file.
//!
//! `control` and `count` run on one frame that varies; what counting costs is the difference.
//! `send` makes the traffic that `count_drop` and its rivals receive on another interface.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the xdp attribute makes an exported function without the comment of its own"
)]

mod count;
mod vary;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::vary::vary;

/// Varies the frame and passes it.
#[xdp]
pub fn control(ctx: XdpContext) -> u32 {
    match vary(&ctx) {
        Some(_) => XDP_PASS,
        None => XDP_ABORTED,
    }
}

/// Varies the frame and counts it.
#[xdp]
pub fn count(ctx: XdpContext) -> u32 {
    match vary(&ctx) {
        Some(_) => count::count(&ctx),
        None => XDP_ABORTED,
    }
}

/// Counts the frame and drops it.
#[xdp]
pub fn count_drop(ctx: XdpContext) -> u32 {
    count::count(&ctx);
    XDP_DROP
}

/// Varies the frame and sends it to an interface.
#[xdp]
pub fn send(ctx: XdpContext) -> u32 {
    match vary(&ctx) {
        // SAFETY: the helper has no precondition.
        Some(vary) => unsafe { bpf_redirect(vary.interface, 0) as u32 },
        None => XDP_ABORTED,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
