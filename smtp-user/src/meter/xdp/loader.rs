//! Attaching for an agent that may not.
//!
//! Contract: everything that needs privilege is done in one call, and nothing is left running: maps and
//! links are pinned, the maps so that the group of the agent's user may use them, and the links so that
//! nobody but root can end them. It is called again when an interface appears, also while the agent
//! drains, and no count is lost.

use super::attach::{self, Attached};
use super::pins::{Part, Pins};
use super::programs::Programs;
use super::tables::{READ, Tables};
use super::{Interfaces, Options};
use crate::config::AttachChoice;
use crate::failure::Failure;
use crate::model::ObservationPoint;
use crate::privilege;

/// Loads the kernel object, attaches it to these interfaces in the network namespace of this thread, and
/// puts it into the links that are there. What was made is undone if one of them cannot be attached to.
pub fn load(
    options: &Options,
    interfaces: &[String],
    choice: AttachChoice,
) -> Result<Vec<ObservationPoint>, Failure> {
    privilege::require_for_xdp()?;
    let pins = Pins::open(&options.pins, Part::Loader, options.group)?;
    let (mut tables, ebpf) = Tables::load(options, &pins)?;
    let mut programs = Programs::new(ebpf);
    // Before they are attached, so that an agent knows them for ours.
    tables.announce(programs.load_all())?;
    let mut attached = Interfaces::default();
    let attach_all = || {
        for interface in interfaces {
            attached.attach(&mut programs, &pins, interface, choice)?;
        }
        attach::renew(&mut programs, &pins, interfaces)?;
        pins.share(&READ)
    };
    if let Err(failure) = { attach_all }() {
        for (interface, how) in attached.attached() {
            if how == Attached::Anew {
                pins.remove_link(interface)?;
            }
        }
        if !tables.taken_over {
            pins.remove_unused()?;
        }
        return Err(failure);
    }
    Ok(attached.points())
}
