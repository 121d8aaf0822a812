//! Makes one test frame stand for many: gives it another source address before each run.
//!
//! Contract: the n-th run has source `n mod sources` of a fixed set of IPv4 addresses inside
//! 10.0.0.0/8, and the sequence number `n`, so that any number of runs that is a multiple of
//! `sources` has every source equally often, and what was counted can be compared with what was
//! sent. Neighbours in this order are no neighbours as addresses. The IP checksum stays right, so
//! that a network stack takes the frame; TCP's does not. Runs on one CPU at a time.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;

/// One slot, written by user space: how to vary.
#[btf_map]
static VARY: Array<Vary, 1> = Array::new();

/// How to vary an Ethernet frame with an IPv4 header without options.
#[repr(C)]
pub struct Vary {
    /// Runs so far.
    runs: u64,
    /// Sources, less one: a power of two, less one.
    mask: u32,
    /// The ones' complement sum of the IP header without source address and checksum.
    sum: u32,
    /// Number of the interface that `send` sends to.
    pub interface: u32,
    reserved: u32,
}

const CHECKSUM: usize = 14 + 10;
const SOURCE: usize = 14 + 12;
const SEQUENCE: usize = 14 + 20 + 4;

/// Varies the frame of this run; `None` if it is too short.
#[inline(always)]
pub fn vary(ctx: &XdpContext) -> Option<&'static Vary> {
    let data = ctx.data();
    if data + SEQUENCE + 4 > ctx.data_end() {
        return None;
    }
    // SAFETY: the look-up succeeded, and the caller runs on one CPU at a time.
    let vary = unsafe { &mut *VARY.get_ptr_mut(0)? };
    let address = 10 << 24 | scatter(vary.runs as u32 & vary.mask);
    let sum = vary.sum + (address >> 16) + (address & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // SAFETY: all three places lie before data + SEQUENCE + 4, which lies in the frame.
    unsafe {
        ((data + CHECKSUM) as *mut u16).write_unaligned((!sum as u16).to_be());
        ((data + SOURCE) as *mut u32).write_unaligned(address.to_be());
        ((data + SEQUENCE) as *mut u32).write_unaligned((vary.runs as u32).to_be());
    }
    vary.runs += 1;
    Some(vary)
}

/// A permutation of the numbers below 2^24: multiplication by an odd number and the folding of the
/// upper half into the lower are one to one.
#[inline(always)]
const fn scatter(index: u32) -> u32 {
    const MASK: u32 = (1 << 24) - 1;
    let product = index.wrapping_mul(0x9e_3779) & MASK;
    (product ^ product >> 12).wrapping_mul(0x85_ebcb) & MASK
}
