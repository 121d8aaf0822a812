//! Metering: turns packets into windows.
//!
//! Contract: a window's tally fulfils the conservation law, its sources hold every count of its
//! time, and no count is in two windows. A window is read first and cleared later, when whoever got
//! it has it in safety: in between it can be read again, and it is then the same. Where the packets
//! come from is the meter's own matter.

pub mod pcap;
pub mod xdp;

use crate::failure::Failure;
use crate::model::Window;

/// Something that packets pass.
pub trait Meter {
    /// Closes the running window and hands it over; `None` when there will be no more packets.
    ///
    /// Called again before [`Meter::release`], it may hand over the same window, never a part of it.
    fn window(&mut self) -> Result<Option<Window>, Failure>;

    /// Forgets the counts of the window that was handed over last: it is in safety.
    fn release(&mut self) -> Result<(), Failure>;
}
