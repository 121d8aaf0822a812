//! The bare program that costs are measured against.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pass-xdp"));

/// An XDP program that lets every packet pass and does nothing else. It ends with this value.
pub struct PassProgram {
    ebpf: Ebpf,
}

impl PassProgram {
    /// Loads it.
    pub fn load() -> anyhow::Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("cannot load the bare program")?;
        program(&mut ebpf)?.load()?;
        Ok(Self { ebpf })
    }

    /// How long `repeat` runs on this frame take.
    pub fn time(&mut self, frame: &[u8], repeat: u32) -> anyhow::Result<Duration> {
        time(program(&mut self.ebpf)?, frame, repeat)
    }
}

fn program(ebpf: &mut Ebpf) -> anyhow::Result<&mut Xdp> {
    let program = ebpf.program_mut("pass").context("the program pass")?;
    Ok(program.try_into()?)
}

/// How long `repeat` runs of a program on a frame take, by the clock of this process: the kernel's
/// own figure is rounded to whole nanoseconds.
pub fn time(program: &Xdp, frame: &[u8], repeat: u32) -> anyhow::Result<Duration> {
    let mut out = vec![0; frame.len()];
    let before = Instant::now();
    program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat,
        ..Default::default()
    })?;
    Ok(before.elapsed())
}
