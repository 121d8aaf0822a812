//! Metering of a capture file: the kernel's parse, observe and tables, in ordinary memory.
//!
//! Contract: every captured packet is one frame, counted exactly once, whatever the size of the
//! file; memory does not grow with it, but only with the number of sources in one window, up to
//! [`memory::SPILL_LIMIT`]. Windows are cut by capture time and aligned to it, so that the same file
//! always gives the same windows; a stretch without packets gives none. A packet whose time lies
//! before the running window, or that has none, counts into the running window. When the file turns
//! out to be broken, what was read before is handed over first and the failure afterwards.

pub mod file;
pub(crate) mod link;
pub mod memory;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use smtp_common::counter::Counter;
use smtp_common::flow::{Header, Tables, observe};
use smtp_common::packet::MailPorts;
use smtp_common::table::{AddressSeeds, Geometry, SynSeeds};

use self::file::{CaptureFile, Fault, Frame};
use self::memory::{OrdinaryMemory, TICK};
use super::Meter;
use crate::failure::{Failure, Kind};
use crate::model::{Flow, FlowTally, Source, Tally, Window};

/// One writer, and as many sets and SYN slots as one CPU has in the kernel by default.
const GEOMETRY: Geometry = Geometry {
    cpus: 1,
    sets: 1 << 15,
    syn_slots: 1 << 20,
    flow_sets: 1 << 14,
};

/// The one half that is written. A file does not go on while its windows are drained, so there is
/// no second half to flip to.
const HALF: u32 = 0;

/// Reads a capture file, pcap or pcapng.
pub struct PcapMeter<R> {
    path: PathBuf,
    file: CaptureFile<R>,
    clock: Clock,
    counting: Counting,
    /// `Some` once the file has ended; the fault is what it ended with.
    end: Option<Option<Fault>>,
}

impl PcapMeter<File> {
    /// Opens the capture file at `path`.
    pub fn open(path: &Path, window: Duration, ports: MailPorts) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| fail(path, &Fault::Io(error)))?;
        Self::new(path, file, window, ports)
    }
}

impl<R: Read> PcapMeter<R> {
    /// Meters what `input` yields; `path` is its name in errors.
    pub fn new(path: &Path, input: R, window: Duration, ports: MailPorts) -> Result<Self, Failure> {
        if window.is_zero() {
            return Err(Failure::new(
                Kind::Failed,
                "a window of no length holds no packets: give one of a second or more",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            file: CaptureFile::new(input).map_err(|fault| fail(path, &fault))?,
            clock: Clock {
                window,
                start: None,
            },
            counting: Counting::new(ports),
            end: None,
        })
    }
}

impl<R: Read> Meter for PcapMeter<R> {
    fn window(&mut self) -> Result<Option<Window>, Failure> {
        while self.end.is_none() {
            let frame = match self.file.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.end = Some(None);
                    break;
                }
                Err(fault) => {
                    self.end = Some(Some(fault));
                    break;
                }
            };
            let window = frame
                .at
                .and_then(|at| self.clock.advance(at))
                .filter(|_| self.counting.header.frames > 0)
                .map(|start| self.counting.drain(start, self.clock.window));
            self.counting.count(&frame);
            if window.is_some() {
                return Ok(window);
            }
        }
        if self.counting.header.frames > 0 {
            let start = self.clock.start.unwrap_or_default();
            return Ok(Some(self.counting.drain(start, self.clock.window)));
        }
        match self.end.as_mut().and_then(Option::take) {
            Some(fault) => Err(fail(&self.path, &fault)),
            None => Ok(None),
        }
    }

    /// The file is still there, so there is nothing to keep until now.
    fn release(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The failure that a fault of this file is.
pub fn fail(path: &Path, fault: &Fault) -> Failure {
    Failure::new(
        Kind::Failed,
        format!("cannot read {}: {fault}", path.display()),
    )
}

/// Capture time, cut into windows.
struct Clock {
    window: Duration,
    /// Start of the running window since 1970; `None` before the first packet with a time.
    start: Option<Duration>,
}

impl Clock {
    /// Moves on to the window of a packet. Gives the start of the window that ends with it, if one
    /// does; before the first time there may have been packets without one.
    fn advance(&mut self, at: Duration) -> Option<Duration> {
        let start = self.start.unwrap_or(Duration::ZERO);
        if self.start.is_some() && at.saturating_sub(start) < self.window {
            return None;
        }
        let into = Duration::from_nanos_u128(at.as_nanos() % self.window.as_nanos());
        self.start = Some(at - into);
        Some(start)
    }
}

/// What the kernel program has in its maps and globals.
struct Counting {
    ports: MailPorts,
    address_seeds: AddressSeeds,
    syn_seeds: SynSeeds,
    header: Header,
    memory: OrdinaryMemory,
    /// Windows handed over.
    epoch: u64,
}

impl Counting {
    fn new(ports: MailPorts) -> Self {
        // The keys of the standard library's hash maps come from the operating system's random
        // numbers, and hashing numbers with them gives more.
        let random = RandomState::new();
        Self {
            ports,
            address_seeds: std::array::from_fn(|i| random.hash_one(("address", i))),
            syn_seeds: std::array::from_fn(|i| random.hash_one(("syn", i))),
            header: Header::new(HALF),
            memory: OrdinaryMemory::new(GEOMETRY),
            epoch: 0,
        }
    }

    fn count(&mut self, frame: &Frame<'_>) {
        if let Some(at) = frame.at {
            self.memory.set_time(at);
        }
        match frame.link.parse(frame.data, self.ports) {
            Ok((segment, payload)) => {
                let tables = Tables {
                    sets: GEOMETRY.sets,
                    flow_sets: GEOMETRY.flow_sets,
                    syn_slots: GEOMETRY.syn_slots,
                    address_seeds: || self.address_seeds,
                    syn_seeds: || self.syn_seeds,
                };
                observe(
                    &segment,
                    payload,
                    &tables,
                    &mut self.header,
                    &mut self.memory,
                );
            }
            Err(skip) => self.header.end(Counter::Skip(skip)),
        }
    }

    /// Hands over what was counted since the last drain, and starts anew.
    fn drain(&mut self, start: Duration, length: Duration) -> Window {
        let header = std::mem::replace(&mut self.header, Header::new(HALF));
        let mut tally = Tally {
            frames: header.frames,
            outcomes: std::array::from_fn(|i| header.outcomes[i]),
            segment_bytes: header.segment_bytes,
            overflow: (&header.overflow).into(),
            spilled: header.spilled,
            spill_refused: header.spill_refused,
            flows: FlowTally {
                refused_packets: header.flow_refused_packets,
                refused_bytes: header.flow_refused_bytes,
                ..FlowTally::default()
            },
            ..Tally::default()
        };
        let mut sources = Vec::with_capacity(self.memory.addresses());
        let lines_used = self.memory.drain(|address, stats| {
            sources.push(Source {
                address,
                totals: stats.into(),
            });
        });
        let mut flows = Vec::new();
        self.memory.drain_flows(|line| {
            flows.push(Flow::from_line(line, |tick| time_of(tick, &header)));
        });
        tally.place(&sources, Some(&flows));
        self.epoch += 1;
        Window {
            epoch: self.epoch,
            started_at: SystemTime::UNIX_EPOCH
                .checked_add(start)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            length,
            tally,
            sources,
            flows,
            lines_used,
            flip: Duration::ZERO,
        }
    }
}

/// Capture time of a tick, from the one that the header has noted.
fn time_of(tick: u32, header: &Header) -> SystemTime {
    let ticks = tick.wrapping_sub(header.clock_ticks as u32) as i32;
    let distance = TICK * ticks.unsigned_abs();
    let noted = Duration::from_nanos(header.clock_nanoseconds);
    let time = if ticks < 0 {
        noted.saturating_sub(distance)
    } else {
        noted.saturating_add(distance)
    };
    SystemTime::UNIX_EPOCH
        .checked_add(time)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
