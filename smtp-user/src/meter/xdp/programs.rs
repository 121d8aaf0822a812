//! The programs of the kernel object.
//!
//! Contract: loading needs privilege, attaching a loaded program does not (since Linux 5.19; before, it
//! needs `CAP_BPF`). So all sections are loaded while it is there, and what the kernel has refused then is
//! remembered: asked again without privilege, it would give another reason.

use std::io;

use anyhow::Context as _;
use aya::Ebpf;
use aya::programs::{ProgramError, Xdp};

/// The section for drivers that hand over a frame in one buffer.
pub const PLAIN: Section = Section {
    program: "smtpflow",
    name: "xdp",
};
/// The section for drivers that may hand over a frame in several (Linux 5.18).
pub const FRAGS: Section = Section {
    program: "smtpflow_frags",
    name: "xdp.frags",
};
/// All of them, in the order in which their numbers are announced.
pub const SECTIONS: [Section; 2] = [FRAGS, PLAIN];

/// One way of building the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Name of its section.
    pub name: &'static str,
}

/// The kernel's numbers of the programs of [`SECTIONS`]; 0 for one that is not loaded.
pub type Numbers = [u32; SECTIONS.len()];

/// The section of the program that has this number among these, which are [`Numbers`] one after the other.
pub fn section_of(numbers: &[u32], program: u32) -> Option<Section> {
    let place = numbers.iter().position(|number| *number == program)?;
    Some(SECTIONS[place % SECTIONS.len()])
}

/// The programs, loaded or to be loaded.
pub struct Programs {
    ebpf: Ebpf,
    numbers: Numbers,
    refusals: Vec<Refusal>,
}

/// What the kernel has said of a section.
struct Refusal {
    section: Section,
    kind: io::ErrorKind,
    text: String,
}

impl Programs {
    /// Of an object whose maps are there.
    pub const fn new(ebpf: Ebpf) -> Self {
        Self {
            ebpf,
            numbers: [0; SECTIONS.len()],
            refusals: Vec::new(),
        }
    }

    /// The program of this section, loaded.
    pub fn load(&mut self, section: Section) -> anyhow::Result<&mut Xdp> {
        let mut refusals = self.refusals.iter();
        if let Some(refusal) = refusals.find(|refusal| refusal.section == section) {
            return Err(io::Error::new(refusal.kind, refusal.text.clone()).into());
        }
        let program: &mut Xdp = self
            .ebpf
            .program_mut(section.program)
            .with_context(|| format!("the kernel object has no program {}", section.program))?
            .try_into()?;
        if program.fd().is_err() {
            program.load().map_err(|error| refused(error, section))?;
            let number = program.info()?.id();
            let loaded = SECTIONS.iter().zip(&mut self.numbers);
            for (_, place) in loaded.filter(|(other, _)| **other == section) {
                *place = number;
            }
        }
        Ok(program)
    }

    /// The numbers of those that are loaded.
    pub const fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Loads all that the kernel takes. What it does not take is told when it is asked for.
    pub fn load_all(&mut self) -> Numbers {
        for section in SECTIONS {
            let Err(error) = self.load(section) else {
                continue;
            };
            tracing::debug!("section {} is not loaded: {error:#}", section.name);
            let kind = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<io::Error>())
                .map_or(io::ErrorKind::Other, io::Error::kind);
            self.refusals.push(Refusal {
                section,
                kind,
                text: format!("{error:#}"),
            });
        }
        self.numbers
    }
}

/// The verifier's log has hundreds of lines, of which the last but the statistics says why; the
/// rest goes to the debug log.
fn refused(error: ProgramError, section: Section) -> anyhow::Error {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return anyhow::Error::new(error);
    };
    let log = verifier_log.to_string();
    tracing::debug!("section {}, the verifier's log: {log}", section.name);
    let statistics = ["processed ", "verification time", "stack depth", "}"];
    let reason = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)));
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    anyhow::Error::new(io_error).context(format!(
        "the kernel refuses section {}{reason}",
        section.name
    ))
}
