//! What the program does to a packet: the maps, and the one body that counts into them.
//!
//! Contract: [`count`] returns `XDP_PASS` on every path and writes to no packet. The program of the
//! agent and the programs that measure it have this file in common, so that what is measured is
//! what runs.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_NOEXIST, xdp_action::XDP_PASS};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, LpmTrie, PerCpuHashMap};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::{info, warn};
use smtp_common::counter::Counter;
use smtp_common::flow::{
    FlowKey, FlowSet, Header, Memory, SourceStats, SpillKey, Tables, notice, observe,
};
use smtp_common::packet::{Address, MailPorts, Packet, parse};
use smtp_common::table::{AddressSeeds, Set, SynSeeds};

/// The epoch: one slot that holds the array of the half which is written now. Its headers are
/// indexed by CPU. User space flips by putting the other array into the slot, which returns when no
/// program still writes the first.
///
/// A header is declared as words. Linux 6.1 looks for a timer in a value that is a structure,
/// remembers that there is none, and then finds such a map different from one made without type
/// information, as ours are (kernel/bpf/syscall.c, `bpf_map_meta_equal` and `timer_off`).
#[btf_map]
static EPOCH: ArrayOfMaps<Array<[u64; HEADER_WORDS], MAX_CPUS, MMAPABLE>, 1> = ArrayOfMaps::new();

/// The line table: both halves, all CPUs. Sized by the loader.
#[btf_map]
static SOURCES: Array<Set, 1, MMAPABLE> = Array::new();

/// The SYN memory. Sized by the loader.
#[btf_map]
static SYNS: Array<u64, 1> = Array::new();

/// The operator's own prefixes, as prefixes of 128 bits. Sized and filled by the loader.
#[btf_map]
static OWN: LpmTrie<[u8; 16], u32, 1> = LpmTrie::new();

/// Counts of own hosts whose set is full. Sized by the loader.
#[btf_map]
static SPILL: PerCpuHashMap<SpillKey, SourceStats, 1> = PerCpuHashMap::new();

/// The line table of flows: both halves, all CPUs. Sized by the loader.
#[btf_map]
static FLOWS: Array<FlowSet, 1, MMAPABLE> = Array::new();

/// As many CPUs as a header array has places; the loader refuses a machine with more.
const MAX_CPUS: usize = smtp_common::flow::MAX_CPUS;
const HEADER_WORDS: usize = size_of::<Header>() / 8;
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

#[unsafe(no_mangle)]
static MAIL_PORTS: Global<u64> = Global::new(MailPorts::new([25, 0, 0, 0]).word());
/// Sets, sets of flows and SYN slots: those of [`Tables`].
#[unsafe(no_mangle)]
static SIZES: Global<[u32; 3]> = Global::new([1, 0, 1]);
#[unsafe(no_mangle)]
static ADDRESS_SEEDS: Global<AddressSeeds> = Global::new([0; 5]);
#[unsafe(no_mangle)]
static SYN_SEEDS: Global<SynSeeds> = Global::new([0; 11]);

/// Counts the packet and lets it pass.
#[inline(always)]
pub fn count(ctx: &XdpContext) -> u32 {
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(header) = EPOCH.get_value_ptr_mut(0, &cpu) else {
        return XDP_PASS;
    };
    // SAFETY: the look-up succeeded, the words are a header, and this CPU alone writes its header
    // while the program runs.
    let header = unsafe { &mut *header.cast::<Header>() };

    // Before the packet is looked at, for the verifier's sake: it comes here with one state.
    let news = header.due;
    if news != 0 {
        header.due = 0;
        header.notices |= news;
        log(ctx, cpu, news);
    }

    // SAFETY: the kernel keeps data..data_end readable while the program runs, and nobody else
    // writes to a frame that is in an XDP program.
    let packet = unsafe { Packet::from_range(ctx.data(), ctx.data_end()) };
    match parse(packet, MailPorts::from_word(MAIL_PORTS.load())) {
        Ok((segment, payload)) => {
            let [sets, flow_sets, syn_slots] = SIZES.load();
            let tables = Tables {
                sets,
                flow_sets,
                syn_slots,
                address_seeds: || ADDRESS_SEEDS.load(),
                syn_seeds: || SYN_SEEDS.load(),
            };
            observe(&segment, payload, &tables, header, &mut Maps);
        }
        Err(skip) => header.end(Counter::Skip(skip)),
    }
    XDP_PASS
}

/// Says what has happened for the first time: on this CPU, or on it in this window.
#[cold]
#[inline(never)]
fn log(ctx: &XdpContext, cpu: u32, news: u64) {
    if news & notice::STARTED != 0 {
        info!(ctx, "counting on CPU {}", cpu);
    }
    if news & notice::FULL != 0 {
        warn!(
            ctx,
            "a set of the source table is full on CPU {}: own hosts spill, strangers overflow", cpu
        );
    }
}

/// A key of [`OWN`] whose octets lie at a multiple of eight: the verifier refuses 8-byte stores to
/// the stack elsewhere.
#[repr(C, align(8))]
struct OwnKey {
    _pad: u32,
    key: Key<[u8; 16]>,
}

/// The maps behind [`observe`].
struct Maps;

impl Memory for Maps {
    #[inline(always)]
    fn set(&mut self, index: u32) -> Option<&mut Set> {
        // SAFETY: the look-up succeeded, and only this CPU writes to its segment of this half.
        SOURCES.get_ptr_mut(index).map(|set| unsafe { &mut *set })
    }

    #[inline(always)]
    fn flow_set(&mut self, index: u32, _key: &FlowKey) -> Option<&mut FlowSet> {
        // SAFETY: as in `set`.
        FLOWS.get_ptr_mut(index).map(|set| unsafe { &mut *set })
    }

    /// The kernel compiles this to a load (kernel/bpf/verifier.c, `BPF_FUNC_jiffies64`).
    #[inline(always)]
    fn tick(&mut self) -> u32 {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_jiffies64() as u32 }
    }

    #[inline(always)]
    fn nanoseconds(&mut self) -> u64 {
        // SAFETY: the helper has no precondition.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn remember(&mut self, slot: u32, fingerprint: u64) -> u64 {
        let Some(place) = SYNS.get_ptr_mut(slot) else {
            return 0;
        };
        // SAFETY: the look-up succeeded. Other CPUs may write the same slot at the same time: an
        // aligned 64-bit access is whole on every architecture that has a BPF JIT, and whichever
        // value stays is a SYN that was seen.
        unsafe {
            let before = place.read_volatile();
            place.write_volatile(fingerprint);
            before
        }
    }

    #[inline(always)]
    fn is_own(&mut self, address: Address) -> bool {
        let key = OwnKey {
            _pad: 0,
            key: Key::new(128, address.octets()),
        };
        OWN.get(&key.key).is_some()
    }

    #[expect(
        clippy::needless_borrows_for_generic_args,
        reason = "passing by value copies key and counts to a stack of 512 bytes"
    )]
    #[inline(always)]
    fn spill(&mut self, half: u32, address: Address) -> Option<&mut SourceStats> {
        let key = SpillKey::new(half, address);
        if let Some(stats) = SPILL.get_ptr_mut(&key) {
            // SAFETY: the look-up succeeded; the value is this CPU's own, and user space deletes
            // entries of the silent half only.
            return Some(unsafe { &mut *stats });
        }
        // Another CPU may have put it there meanwhile: then the flag refuses, and the look-up finds.
        let _ = SPILL.insert(&key, &SourceStats::EMPTY, BPF_NOEXIST.into());
        // SAFETY: as above.
        SPILL.get_ptr_mut(&key).map(|stats| unsafe { &mut *stats })
    }
}
