//! What others would have built: the same parser and the same counting, but with the counts of each
//! source in a hash map of the kernel's instead of the line table.
//!
//! Contract: everything but the look-up of the counts is that of the agent: [`parse`], [`observe`],
//! the totals, the SYN memory. The frames vary as in `varied.rs`, so that the difference to its
//! `control` is what counting costs.
//!
//! `observe` asks for a set of the line table first and is told that there is none; so the counts of
//! every address are those that it would spill.
#![no_std]
#![no_main]
#![expect(
    missing_docs,
    reason = "the xdp attribute makes an exported function without the comment of its own"
)]

mod vary;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_NOEXIST};
use aya_ebpf::btf_maps::{Array, HashMap, LruPerCpuHashMap, PerCpuHashMap};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use smtp_common::counter::Counter;
use smtp_common::flow::{
    FlowKey, FlowSet, Header, MAX_CPUS, Memory, SourceStats, SpillKey, Tables, observe,
};
use smtp_common::packet::{Address, MailPorts, Packet, parse};
use smtp_common::table::Set;

use crate::vary::vary;

/// Totals, by CPU.
#[btf_map]
static TOTALS: Array<Header, MAX_CPUS, { BPF_F_MMAPABLE as usize }> = Array::new();

const SYN_SLOTS: usize = 1 << 18;
#[btf_map]
static SYNS: Array<u64, SYN_SLOTS> = Array::new();

/// As many entries as the largest measurement has sources; sized by the loader.
#[btf_map]
static PER_CPU: PerCpuHashMap<SpillKey, SourceStats, 1> = PerCpuHashMap::new();
#[btf_map]
static LRU_PER_CPU: LruPerCpuHashMap<SpillKey, SourceStats, 1> = LruPerCpuHashMap::new();
/// With the number of the CPU in its keys: each entry has one writer, so that nothing but deleting
/// can lose a count.
#[btf_map]
static SHARED: HashMap<SpillKey, SourceStats, 1> = HashMap::new();

macro_rules! rival {
    ($name:ident, $Memory:ident, $MAP:ident, $cpu:ident => $half:expr) => {
        #[xdp]
        pub fn $name(ctx: XdpContext) -> u32 {
            if vary(&ctx).is_none() {
                return XDP_ABORTED;
            }
            count(&ctx, |cpu| $Memory { cpu })
        }

        struct $Memory {
            cpu: u32,
        }

        impl Memory for $Memory {
            #[inline(always)]
            fn set(&mut self, _index: u32) -> Option<&mut Set> {
                None
            }

            #[inline(always)]
            fn remember(&mut self, slot: u32, fingerprint: u64) -> u64 {
                remember(slot, fingerprint)
            }

            // No flows, and so no clock: there are no sets for them.
            fn flow_set(&mut self, _index: u32, _key: &FlowKey) -> Option<&mut FlowSet> {
                None
            }

            fn tick(&mut self) -> u32 {
                0
            }

            fn nanoseconds(&mut self) -> u64 {
                0
            }

            #[inline(always)]
            fn is_own(&mut self, _address: Address) -> bool {
                true
            }

            #[inline(always)]
            fn spill(&mut self, _half: u32, address: Address) -> Option<&mut SourceStats> {
                let $cpu = self.cpu;
                let key = SpillKey::new($half, address);
                if let Some(stats) = $MAP.get_ptr_mut(&key) {
                    // SAFETY: the look-up succeeded, and this CPU alone writes the value. That user
                    // space may delete the entry meanwhile is what is shown here.
                    return Some(unsafe { &mut *stats });
                }
                let _ = $MAP.insert(&key, &SourceStats::EMPTY, BPF_NOEXIST.into());
                // SAFETY: as above.
                $MAP.get_ptr_mut(&key).map(|stats| unsafe { &mut *stats })
            }
        }
    };
}

rival!(percpu_hash, PerCpu, PER_CPU, _cpu => 0);
rival!(lru_percpu_hash, LruPerCpu, LRU_PER_CPU, _cpu => 0);
rival!(shared_hash, Shared, SHARED, cpu => cpu);

#[inline(always)]
fn count<M: Memory>(ctx: &XdpContext, memory: impl FnOnce(u32) -> M) -> u32 {
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(header) = TOTALS.get_ptr_mut(cpu) else {
        return XDP_PASS;
    };
    // SAFETY: the look-up succeeded, and this CPU alone writes its header.
    let header = unsafe { &mut *header };
    // SAFETY: the kernel keeps data..data_end readable while the program runs.
    let packet = unsafe { Packet::from_range(ctx.data(), ctx.data_end()) };
    match parse(packet, MailPorts::new([25, 0, 0, 0])) {
        Ok((segment, payload)) => {
            let tables = Tables {
                sets: 1,
                flow_sets: 0,
                syn_slots: SYN_SLOTS as u32,
                address_seeds: || [0; 5],
                syn_seeds: || SYN_SEEDS,
            };
            let memory = &mut memory(cpu);
            observe(&segment, payload, &tables, header, memory);
        }
        Err(skip) => header.end(Counter::Skip(skip)),
    }
    XDP_PASS
}

/// Any odd numbers do: nobody attacks a measurement.
const SYN_SEEDS: [u64; 11] = {
    let mut seeds = [0x9e37_79b9_7f4a_7c15_u64; 11];
    let mut at = 1;
    while at < seeds.len() {
        seeds[at] = (seeds[at - 1] ^ seeds[at - 1] >> 31).wrapping_mul(0x94d0_49bb_1331_11eb);
        at += 1;
    }
    seeds
};

#[inline(always)]
fn remember(slot: u32, fingerprint: u64) -> u64 {
    let Some(place) = SYNS.get_ptr_mut(slot) else {
        return 0;
    };
    // SAFETY: the look-up succeeded; an aligned 64-bit access is whole.
    unsafe {
        let before = place.read_volatile();
        place.write_volatile(fingerprint);
        before
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
