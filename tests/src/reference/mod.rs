//! A second opinion: what a frame is and what it counts for, written from the RFCs.
//!
//! Contract: nothing here calls, or was written from, the product's parser, counter or table; of the
//! product it knows the names of the reasons and what the documentation says is counted. Slow and
//! plain on purpose: slices, maps, no arithmetic with addresses. `dissect` reads a frame, `account`
//! counts.
//!
//! Where several things are wrong with one frame, the RFCs do not say which reason it is. Here it is
//! the first in the order of the layers and, within a layer, of the octets, but for three: what is not
//! TCP is that before its lengths or fragments are of interest; a chain of IPv6 extension headers is
//! walked to its end before its length is held against the payload length; and what is not mail is
//! that before its data offset is of interest.

mod account;
mod dissect;

pub use account::{Account, Counts, FlowCounts, FlowName};
pub use dissect::{Segment, dissect};
