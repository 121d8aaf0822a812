//! The live meter: the XDP program on real interfaces. The only module that knows aya.
//!
//! Contract: a window is cut by a flip, which returns when no program writes the old half any more;
//! only then is the half read and cleared, so no count is lost and none is in two windows. Links
//! and maps are pinned, so counting goes on when the agent dies; the next one takes both over.
//! Blocks, so it has a thread of its own.
//!
//! `pins`: our directory of bpffs; `tables`: the maps; `identity`: what they were made for; `mapped`:
//! their memory; `drain`: flip, read, clear; `options`: the sizes; `programs`: loading; `attach`: links;
//! `loader`: attaching for an agent that may not; `trial`: running programs on frames of one's own.

mod attach;
mod drain;
mod identity;
pub mod image;
mod interfaces;
mod loader;
mod mapped;
mod options;
mod pins;
mod programs;
mod tables;
mod trial;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use aya_log::EbpfLogger;
use ipnet::IpNet;
use smtp_common::flow::{FLOW_WAYS, Totals};
use smtp_common::packet::Address;
use smtp_common::table::{AddressSeeds, Geometry, WAYS};

use self::attach::Attached;
use self::drain::Sets;
use self::interfaces::Interfaces;
pub use self::loader::load;
pub use self::options::Options;
pub use self::pins::distrust;
use self::pins::{Part, Pins};
use self::programs::Programs;
pub use self::programs::{FRAGS, PLAIN, Section};
use self::tables::Tables;
pub use self::trial::Runner;
use super::Meter;
use crate::clock;
use crate::config::AttachChoice;
use crate::crash;
use crate::failure::{Failure, Kind};
use crate::kernel::Release;
use crate::model::{ObservationPoint, Source, Tally, Window};
use crate::privilege;

/// Counts what passes the interfaces that it is attached to.
pub struct XdpMeter {
    tables: Tables,
    pins: Pins,
    interfaces: Interfaces,
    /// None where a loader has loaded them.
    programs: Option<Programs>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// The half that programs write now, and the number of its window.
    half: u32,
    epoch: u64,
    /// What is known of the other half.
    other: Silent,
    /// What the next clearing of it is to clear.
    unclear: Sets,
    /// When the running window started: for the label, and for its length.
    started_at: SystemTime,
    started: Duration,
    /// How long the last flip took.
    flip: Duration,
}

/// What is in the half that no program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silent {
    /// Nothing.
    Clear,
    /// The counts of a window that ended then, which nobody has in safety yet.
    Counts {
        epoch: u64,
        started_at: SystemTime,
        length: Duration,
    },
    /// Counts that somebody has in safety.
    Done,
}

impl XdpMeter {
    /// Loads the kernel object and makes its maps, or takes over those of a smtpflow that ended
    /// without detaching. Attaches to nothing.
    pub fn open(options: &Options) -> Result<Self, Failure> {
        privilege::require_for_xdp()?;
        Self::attempt(options)
    }

    /// The same without asking first whether this process may: to find out what the kernel demands.
    pub fn attempt(options: &Options) -> Result<Self, Failure> {
        let pins = Pins::open(&options.pins, Part::Whole, options.group)?;
        let (tables, mut ebpf) = Tables::load(options, &pins)?;
        let logger = EbpfLogger::init(&mut ebpf)
            .inspect_err(|error| tracing::warn!("no log from the kernel program: {error}"))
            .ok();
        Self::with(tables, pins, Some(Programs::new(ebpf)), logger)
    }

    /// Takes over the maps and links of a loader ([`load`]), on these interfaces or, without any, on all
    /// that it has attached to. Needs no privilege (before Linux 5.19, `CAP_BPF`) but to be in the group
    /// that the loader has let in. Such a meter never loads, attaches or detaches.
    pub fn join(options: &Options, interfaces: &[String]) -> Result<Self, Failure> {
        let pins = Pins::open(&options.pins, Part::Reader, options.group)?;
        let tables = Tables::join(options, &pins)?;
        let mut meter = Self::with(tables, pins, None, None)?;
        let linked = meter.pins.linked_interfaces()?;
        let interfaces = if interfaces.is_empty() {
            linked.as_slice()
        } else {
            interfaces
        };
        for interface in interfaces {
            meter.interfaces.expect(interface);
        }
        meter.reconcile(false);
        Ok(meter)
    }

    fn with(
        mut tables: Tables,
        pins: Pins,
        programs: Option<Programs>,
        logger: Option<EbpfLogger<&'static dyn log::Log>>,
    ) -> Result<Self, Failure> {
        // Whichever half has the higher number is written or was about to be: a number is given to
        // a half that is silent and clear, and then programs are made to write it.
        let epochs = [tables.epoch_of(0)?, tables.epoch_of(1)?];
        let half = u32::from(epochs[1] > epochs[0]);
        tables.flip_to(half)?;
        let (started_at, started) = (SystemTime::now(), clock::since_boot());
        Ok(Self {
            other: if tables.taken_over {
                Silent::Counts {
                    epoch: epochs[1 - half as usize],
                    started_at,
                    length: Duration::ZERO,
                }
            } else {
                Silent::Clear
            },
            unclear: if tables.taken_over {
                Sets::All
            } else {
                Sets::Taken
            },
            tables,
            pins,
            interfaces: Interfaces::default(),
            programs,
            logger,
            half,
            epoch: epochs[half as usize],
            started_at,
            started,
            flip: Duration::ZERO,
        })
    }

    /// Makes these the operator's own prefixes, see [`Options::local`].
    pub fn set_local(&mut self, local: &[IpNet]) -> Result<(), Failure> {
        self.tables.set_local(local)
    }

    /// Loads every section that the kernel takes, and lets the group of the agent's user do with the pins
    /// what it has to. After that, and after having attached, no privilege is needed any more, but see
    /// [`needs_capability`](Self::needs_capability).
    pub fn settle(&mut self) -> Result<(), Failure> {
        // What a loader has left is shared already, and nobody else's to share.
        let Some(programs) = &mut self.programs else {
            return Ok(());
        };
        self.tables.announce(programs.load_all())?;
        self.pins.share(&tables::READ)
    }

    /// Whether this kernel lets nobody without `CAP_BPF` use the maps that it has open: so it was before
    /// Linux 5.19. Asked with the capabilities laid down.
    pub fn needs_capability(&self) -> Result<bool, Failure> {
        let allowed = privilege::without_capabilities(|| self.tables.epoch_of(0).is_ok())?;
        // Where sysctl kernel.unprivileged_bpf_disabled is 0 now, it may be 1 tomorrow.
        let relaxed =
            Release::running().is_some_and(|release| release >= privilege::UNPRIVILEGED_MAPS);
        let guarded = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled")
            .is_ok_and(|value| value.trim() != "0");
        Ok(!allowed || !relaxed && !guarded)
    }

    /// The random number of these tables: epochs of others cannot be compared with theirs.
    pub const fn table_id(&self) -> u64 {
        self.tables.id
    }

    /// Tells the highest epoch of these tables that is in safety, so that what an earlier smtpflow
    /// had put there and could not clear any more is not handed over again. Says whether the next
    /// window is there already: it has what the earlier one could not put into safety.
    pub fn recover(&mut self, safe: Option<u64>) -> Result<bool, Failure> {
        let Silent::Counts { epoch, .. } = self.other else {
            return Ok(false);
        };
        if epoch <= safe.unwrap_or(0) {
            self.other = Silent::Done;
            self.release()?;
            return Ok(false);
        }
        tracing::info!(
            epoch,
            "took over a window that an earlier smtpflow could not keep"
        );
        Ok(true)
    }

    /// Attaches to an interface in the network namespace of this thread.
    pub fn attach(&mut self, interface: &str, choice: AttachChoice) -> Result<(), Failure> {
        let programs = own(&mut self.programs)?;
        self.interfaces
            .attach(programs, &self.pins, interface, choice)
    }

    /// Where packets are seen or should be, as the last look at the interfaces found it.
    pub fn points(&self) -> Vec<ObservationPoint> {
        self.interfaces.points()
    }

    /// Looks at the interfaces: follows those that are counted on, attaches anew to those that are
    /// back, and logs what has changed. Returns whether anything has. With `retry` it tries again
    /// to attach where that was refused, although the interface has not changed since.
    pub fn reconcile(&mut self, retry: bool) -> bool {
        let numbers = match &self.programs {
            Some(programs) => Ok(programs.numbers().to_vec()),
            None => self.tables.numbers(),
        };
        let numbers = match numbers {
            Ok(numbers) => numbers,
            Err(error) => {
                tracing::warn!("cannot see whether the program is still attached: {error:#}");
                return false;
            }
        };
        self.interfaces
            .reconcile(self.programs.as_mut(), &numbers, &self.pins, retry)
    }

    /// Interfaces with a link of ours that this meter did not attach to: an earlier one did.
    pub fn other_links(&self) -> Result<Vec<String>, Failure> {
        let mut linked = self.pins.linked_interfaces()?;
        linked.retain(|name| !self.interfaces.is_configured(name));
        Ok(linked)
    }

    /// The shape of the tables.
    pub const fn geometry(&self) -> Geometry {
        self.tables.geometry
    }

    /// The seeds of the hash by which the tables find an address; a window's sources come in the order
    /// of its lower bits.
    pub const fn address_seeds(&self) -> AddressSeeds {
        self.tables.address_seeds()
    }

    /// Lines of the source table in one half, over all CPUs.
    pub const fn lines(&self) -> u64 {
        self.tables.geometry.cpus as u64 * self.tables.geometry.sets as u64 * WAYS as u64
    }

    /// Lines of the flow table, likewise.
    pub const fn flow_lines(&self) -> u64 {
        self.tables.geometry.cpus as u64 * self.tables.geometry.flow_sets as u64 * FLOW_WAYS as u64
    }

    /// Bytes of kernel memory in all tables together.
    pub const fn table_bytes(&self) -> u64 {
        self.tables.bytes
    }

    /// Ends the links of this meter, and removes the maps if no other link uses them. Those of a loader
    /// stay.
    pub fn detach(self) -> Result<(), Failure> {
        if self.programs.is_none() {
            return Ok(());
        }
        self.end_links(|_| true)?;
        self.pins.remove_unused()
    }

    /// Ends one link of this meter, as `smtpflow detach` would.
    pub fn detach_from(&self, interface: &str) -> Result<(), Failure> {
        self.pins.remove_link(interface)
    }

    /// Undoes what this meter has done so far: for a start that fails. What an earlier smtpflow had
    /// attached goes on counting, and nothing that it counted is lost.
    pub fn abandon(self) -> Result<(), Failure> {
        self.end_links(|attached| attached == Attached::Anew)?;
        if self.tables.taken_over {
            return Ok(());
        }
        self.pins.remove_unused()
    }

    /// Ends links of this meter. Their pins are their only holders.
    fn end_links(&self, which: impl Fn(Attached) -> bool) -> Result<(), Failure> {
        let linked = self.pins.linked_interfaces()?;
        for (interface, attached) in self.interfaces.attached() {
            if which(attached) && linked.iter().any(|linked| linked == interface) {
                self.pins.remove_link(interface)?;
            }
        }
        Ok(())
    }

    /// Makes programs write the other half, which is clear.
    fn flip(&mut self) -> anyhow::Result<()> {
        crash::point("before_flip");
        let next = 1 - self.half;
        self.tables.begin(next, self.epoch + 1);
        let before = Instant::now();
        self.tables.flip_to(next)?;
        self.flip = before.elapsed();
        crash::point("after_flip");
        let (ended_at, ended) = (SystemTime::now(), clock::since_boot());
        self.other = Silent::Counts {
            epoch: self.epoch,
            started_at: self.started_at,
            length: ended.saturating_sub(self.started),
        };
        self.half = next;
        self.epoch += 1;
        self.started_at = ended_at;
        self.started = ended;
        Ok(())
    }

    /// Reads the silent half.
    fn read(
        &mut self,
        epoch: u64,
        started_at: SystemTime,
        length: Duration,
    ) -> anyhow::Result<Window> {
        let half = 1 - self.half;
        let mut tally = Tally::default();
        let flows_counted = self.tables.geometry.flow_sets != 0;
        for header in self.tables.silent_headers(half) {
            tally.add_header(header);
        }
        let (mut sources, lines_used) = self.tables.read_sources(half);
        if tally.spilled > 0 {
            merge_spill(&mut sources, self.tables.read_spill(half)?);
        }
        let flows = self.tables.read_flows(half)?;
        tally.place(&sources, flows_counted.then_some(flows.as_slice()));
        Ok(Window {
            epoch,
            started_at,
            length,
            tally,
            sources,
            flows,
            lines_used,
            flip: self.flip,
        })
    }
}

/// The programs, where this process has loaded them itself.
fn own(programs: &mut Option<Programs>) -> anyhow::Result<&mut Programs> {
    let programs = programs.as_mut();
    programs.context("the programs are a loader's: smtpflow attach")
}

/// Adds what was spilled: an own host may have a line on one CPU and none on another.
fn merge_spill(sources: &mut Vec<Source>, spilled: Vec<Source>) {
    let mut spilled: HashMap<Address, Totals> = spilled
        .into_iter()
        .map(|source| (source.address, source.totals))
        .collect();
    for source in sources.iter_mut() {
        if let Some(totals) = spilled.remove(&source.address) {
            source.totals.merge(&totals);
        }
    }
    let rest = spilled.into_iter();
    sources.extend(rest.map(|(address, totals)| Source { address, totals }));
}

impl Meter for XdpMeter {
    /// The window that was not released yet, or else the running one, which ends with this.
    fn window(&mut self) -> Result<Option<Window>, Failure> {
        if self.other == Silent::Done {
            // Clearing had failed.
            self.release()?;
        }
        if self.other == Silent::Clear {
            self.flip()?;
        }
        let Silent::Counts {
            epoch,
            started_at,
            length,
        } = self.other
        else {
            return Err(Failure::new(Kind::Failed, "the flip left nothing to read"));
        };
        let window = self.read(epoch, started_at, length)?;
        crash::point("after_read");
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        Ok(Some(window))
    }

    fn release(&mut self) -> Result<(), Failure> {
        if self.other == Silent::Clear {
            return Ok(());
        }
        self.other = Silent::Done;
        self.tables.clear(1 - self.half, self.unclear)?;
        self.unclear = Sets::Taken;
        self.other = Silent::Clear;
        Ok(())
    }
}

/// Ends links that an earlier smtpflow left, and removes their pins: all, or those to the named
/// interfaces. Returns the interfaces. It works while an agent runs.
pub fn detach(root: &Path, interfaces: &[String]) -> Result<Vec<String>, Failure> {
    privilege::require_for_xdp()?;
    if root.exists() {
        pins::detach(root, interfaces)
    } else if let Some(interface) = interfaces.first() {
        Err(Failure::new(
            Kind::Failed,
            format!(
                "smtpflow is not attached to {interface}: there is no {}",
                root.display()
            ),
        ))
    } else {
        Ok(Vec::new())
    }
}

/// The XDP programs that links pinned below this directory hold: interface name, and the kernel's
/// number of the program. None if there is no such directory or it is closed to this user.
pub fn attached(root: &Path) -> Vec<(String, u32)> {
    let links = pins::links(root).into_iter();
    links
        .filter_map(|(interface, path)| Some((interface, attach::program_of(&path).ok()?)))
        .collect()
}

/// An error of the kernel's, with the way out where permission is missing.
fn refusal(error: impl StdError + Send + Sync + 'static, what: &str) -> Failure {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut kind = Kind::Failed;
    while let Some(inner) = cause {
        if inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(tables::is_permission)
        {
            kind = Kind::NoPermission;
        }
        cause = inner.source();
    }
    Failure {
        kind,
        error: anyhow::Error::new(error).context(what.to_owned()),
    }
}
