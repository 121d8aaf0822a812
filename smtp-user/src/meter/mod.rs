//! Metering: turns packets into windows.
//!
//! Contract: a window's tally fulfils the conservation law, its sources hold every count of its
//! time, and no count is in two windows. Where the packets come from is the meter's own matter.

pub mod pcap;
pub mod xdp;

use crate::failure::Failure;
use crate::model::Window;

/// Something that packets pass.
pub trait Meter {
    /// Closes the running window and hands it over; `None` when there will be no more packets.
    fn window(&mut self) -> Result<Option<Window>, Failure>;

    /// Says that the window handed over last is kept elsewhere: only from here on may the meter
    /// clear what it holds of it.
    fn release(&mut self) -> Result<(), Failure>;
}
