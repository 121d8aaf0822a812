//! Running the programs on frames of one's own, and looking at them: for tests and measurements.
//!
//! Contract: what is counted is counted as if the frames had come from an interface.

use anyhow::Context as _;
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;

use super::{Section, XdpMeter, own};
use crate::failure::Failure;

impl XdpMeter {
    /// Runs a section of the program once on a frame that comes from no interface
    /// (`BPF_PROG_TEST_RUN`), and returns its action and the frame as it left it.
    pub fn test_run(&mut self, section: Section, frame: &[u8]) -> anyhow::Result<(u32, Vec<u8>)> {
        let program = own(&mut self.programs)?.load(section)?;
        let mut out = vec![0; frame.len()];
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: 1,
            ..Default::default()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// A handle to a section that runs it on frames from no interface, on any thread, while this
    /// meter cuts windows.
    pub fn runner(&mut self, section: Section) -> anyhow::Result<Runner> {
        let path = self.pins.path("RUNNER");
        let program = own(&mut self.programs)?.load(section)?;
        program.pin(&path).context("cannot pin the program")?;
        let program = Xdp::from_pin(&path, XdpAttachType::Interface);
        std::fs::remove_file(&path).context("cannot remove the program's pin")?;
        Ok(Runner {
            program: program.context("cannot open the pinned program")?,
        })
    }

    /// Loads another object that has the body of the kernel program in it, so that its programs count
    /// into the maps of this meter: for measuring what the body costs.
    pub fn load_beside(&self, object: &[u8]) -> Result<Ebpf, Failure> {
        self.tables.load_beside(object, &self.pins)
    }

    /// How many instructions the verifier walked for this section, where the kernel says so.
    pub fn verified_instructions(&mut self, section: Section) -> anyhow::Result<Option<u32>> {
        let program = own(&mut self.programs)?.load(section)?;
        Ok(program.info()?.verified_instruction_count())
    }
}

/// See [`XdpMeter::runner`].
pub struct Runner {
    program: Xdp,
}

impl Runner {
    /// Runs the section `repeat` times on this frame.
    pub fn run(&self, frame: &[u8], repeat: u32) -> anyhow::Result<()> {
        let mut out = vec![0; frame.len()];
        self.program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat,
            ..Default::default()
        })?;
        Ok(())
    }
}
