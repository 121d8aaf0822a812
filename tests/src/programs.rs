//! The kernel programs that are no part of the agent: what it is measured with, and against.
//!
//! They are `bare.rs`, `varied.rs` and `compare.rs` of `smtp-ebpf`, and the agent's own object, loaded
//! once more onto the maps of a meter.

use std::time::Duration;

use aya::maps::{Array, Map};
use aya::programs::xdp::XdpLink;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};
use smtp_user::meter::xdp::XdpMeter;

static BARE: &[u8] = aya::include_bytes_aligned!(concat!(env!("SMTPFLOW_OBJECTS"), "/bare-xdp"));
static VARIED: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("SMTPFLOW_OBJECTS"), "/varied-xdp"));
static COMPARE: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("SMTPFLOW_OBJECTS"), "/compare-xdp"));
static AGENT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("SMTPFLOW_OBJECTS"), "/smtpflow-xdp"));

/// The agent's object, as it was built.
pub const fn agent_object() -> &'static [u8] {
    AGENT
}

/// The programs of one object, loaded.
pub struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// `pass` and `drop`, which do nothing else.
    pub fn bare() -> Self {
        Self::load(EbpfLoader::new().btf(None).load(BARE))
    }

    /// `smtpflow` and `smtpflow_frags`, the agent's own, counting into the maps of this meter.
    pub fn of_agent(meter: &XdpMeter) -> Self {
        Self::load(meter.load_beside(AGENT))
    }

    /// `control`, `count`, `count_drop` and `send`, counting into the maps of this meter.
    pub fn varied(meter: &XdpMeter) -> Self {
        Self::load(meter.load_beside(VARIED))
    }

    /// `send` alone is of use here: the rest would count into tables of one line.
    pub fn sender() -> Self {
        Self::load(EbpfLoader::new().btf(None).load(VARIED))
    }

    /// `percpu_hash`, `lru_percpu_hash` and `shared_hash`, each with places for this many sources.
    pub fn compare(entries: u32) -> Self {
        let mut loader = EbpfLoader::new();
        for map in ["PER_CPU", "LRU_PER_CPU", "SHARED"] {
            loader.map_max_entries(map, entries);
        }
        let mut this = Self::load(loader.btf(None).load(COMPARE));
        this.vary(&[0; 60], 1, 0);
        this
    }

    fn load<E: std::fmt::Display>(loaded: Result<Ebpf, E>) -> Self {
        let mut ebpf = loaded.unwrap_or_else(|error| panic!("cannot load an object: {error}"));
        for (name, program) in ebpf.programs_mut() {
            let xdp: &mut Xdp = program.try_into().expect("an XDP program");
            xdp.load()
                .unwrap_or_else(|error| panic!("cannot load the program {name}: {error}"));
        }
        Self { ebpf }
    }

    fn program(&self, name: &str) -> &Xdp {
        let program = self.ebpf.program(name);
        let program = program.unwrap_or_else(|| panic!("no program {name}"));
        program.try_into().expect("an XDP program")
    }

    /// From now on runs on `frame`, an IPv4 frame, have `sources` source addresses in turn, the first
    /// one next. `sources` is a power of two up to 2^24. `interface` is where `send` sends.
    pub fn vary(&mut self, frame: &[u8], sources: u32, interface: u32) {
        assert!(sources.is_power_of_two() && sources <= 1 << 24, "{sources}");
        let header = frame[14..34].chunks(2).enumerate();
        let sum: u32 = header
            // Neither the checksum nor the source address.
            .filter(|(word, _)| !(5..8).contains(word))
            .map(|(_, octets)| u32::from(u16::from_be_bytes([octets[0], octets[1]])))
            .sum();
        let map = self.ebpf.map_mut("VARY").expect("the map VARY");
        let mut vary: Array<_, [u32; 6]> = map.try_into().expect("an array");
        vary.set(0, [0, 0, sources - 1, sum, interface, 0], 0)
            .expect("VARY takes its value");
    }

    /// Takes a map out of the object.
    pub fn take_map(&mut self, name: &str) -> Map {
        let map = self.ebpf.take_map(name);
        map.unwrap_or_else(|| panic!("no map {name}"))
    }

    /// CPU time of `repeat` runs of a program on this frame. The kernel's own figure is rounded to
    /// whole nanoseconds.
    pub fn time(&self, name: &str, frame: &[u8], repeat: u32) -> Duration {
        let program = self.program(name);
        let mut out = vec![0; frame.len()];
        let before = cpu_time();
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat,
            ..Default::default()
        });
        let time = cpu_time() - before;
        result.unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        time
    }

    /// Runs `send` on this many copies of a frame that then are on their way, and returns the CPU time
    /// to make them and to receive them at the other end: the kernel receives them in this thread,
    /// whenever it allows soft interrupts again.
    pub fn send(&self, frame: &[u8], packets: u32) -> Duration {
        let before = cpu_time();
        let result = self.program("send").test_run(TestRunOptions {
            data_in: Some(frame),
            repeat: packets,
            // As many as a driver's poll takes at once, so that no queue on the way is longer.
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..Default::default()
        });
        let time = cpu_time() - before;
        result.unwrap_or_else(|error| panic!("cannot send: {error}"));
        time
    }

    /// Attaches a program to an interface in the network namespace of this thread; it is detached
    /// when the link is dropped.
    pub fn attach(&mut self, name: &str, interface: &str, mode: XdpMode) -> XdpLink {
        let program = self.ebpf.program_mut(name);
        let program = program.unwrap_or_else(|| panic!("no program {name}"));
        let program: &mut Xdp = program.try_into().expect("an XDP program");
        program
            .attach(interface, mode)
            .and_then(|link| program.take_link(link))
            .unwrap_or_else(|error| panic!("cannot attach {name} to {interface}: {error}"))
    }

    /// Holds a program attached to the loopback interface, where no packet passes, while it is run.
    ///
    /// The kernel calls XDP programs through a trampoline that it rewrites when the first interface
    /// gets a program; a test run of a program that has none does the same, which takes milliseconds.
    pub fn hold(&mut self, name: &str) -> XdpLink {
        self.attach(name, "lo", XdpMode::Skb)
    }
}

/// CPU time of this thread: on an idle machine as long as by the wall clock, and on a busy one without
/// the time of others.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("every thread has a clock").into()
}
