//! How many different addresses: exact for a few, a sketch for many.
//!
//! Contract: exact up to [`EXACT`] addresses, then a [`Sketch`] with its stated error. All sets
//! together take no more than their [`Room`]; when it is used up, a set with enough addresses
//! becomes a sketch early, and a smaller one stops growing: then it is a lower bound, and says that
//! it is not exact.

use smtp_common::packet::Address;

use super::sketch::{REGISTERS, Sketch};
use crate::model::session::Servers;

/// Addresses that are told apart one by one.
pub const EXACT: usize = 1_024;
/// What a sketch takes, in addresses.
const SKETCH: usize = REGISTERS / size_of::<Address>();

/// Room for addresses, of [`size_of::<Address>()`](Address) bytes each, which sets share.
#[derive(Clone, Copy, Debug)]
pub struct Room(usize);

impl Room {
    /// Room for so many addresses.
    pub const fn new(addresses: usize) -> Self {
        Self(addresses)
    }

    const fn take(&mut self, addresses: usize) -> bool {
        let enough = self.0 >= addresses;
        if enough {
            self.0 -= addresses;
        }
        enough
    }
}

/// A set of addresses of which only the size is asked for.
#[derive(Default)]
pub struct Distinct {
    kept: Kept,
    /// Whether there was no room for an address.
    cut: bool,
}

enum Kept {
    /// Sorted.
    Exact(Vec<Address>),
    Sketch(Sketch),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Distinct {
    /// Adds an address.
    pub fn insert(&mut self, address: Address, room: &mut Room) {
        let addresses = match &mut self.kept {
            Kept::Sketch(sketch) => return sketch.insert(address),
            Kept::Exact(addresses) => addresses,
        };
        let place = addresses.binary_search_by_key(&address.octets(), |address| address.octets());
        let Err(place) = place else {
            return;
        };
        let full = addresses.len() == addresses.capacity();
        // In steps of a quarter, so that little of the room stays unused.
        let step = (addresses.len() / 4).clamp(1, EXACT - addresses.len().min(EXACT - 1));
        if addresses.len() < EXACT && (!full || room.take(step)) {
            if full {
                addresses.reserve_exact(step);
            }
            addresses.insert(place, address);
            return;
        }
        let taken = addresses.capacity();
        if taken < SKETCH && !room.take(SKETCH - taken) {
            self.cut = true;
            return;
        }
        room.0 += taken.saturating_sub(SKETCH);
        let mut sketch = Sketch::default();
        for address in addresses.drain(..).chain([address]) {
            sketch.insert(address);
        }
        self.kept = Kept::Sketch(sketch);
    }

    /// How many there are.
    pub fn size(&self) -> Servers {
        match &self.kept {
            Kept::Exact(addresses) => Servers {
                count: addresses.len() as u64,
                exact: !self.cut,
            },
            Kept::Sketch(sketch) => Servers {
                count: sketch.estimate().round() as u64,
                exact: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Address {
        Address::from_ipv6((number as u128).to_be_bytes())
    }

    /// A set of the addresses with these numbers, each added twice.
    fn set(numbers: std::ops::Range<usize>, room: &mut Room) -> Distinct {
        let mut set = Distinct::default();
        for number in numbers.clone().rev().chain(numbers) {
            set.insert(address(number), room);
        }
        set
    }

    #[test]
    fn exact_up_to_1024_and_then_within_the_error() {
        let mut room = Room::new(10_000);
        for size in [0, 1, 2, 100, 1_023, 1_024] {
            let size_of_set = set(0..size, &mut room).size();
            let exact = Servers {
                count: size as u64,
                exact: true,
            };
            assert_eq!(size_of_set, exact);
        }
        for size in [1_025, 5_000, 50_000] {
            let Servers { count, exact } = set(0..size, &mut Room::new(2_000)).size();
            assert!(!exact);
            let error = (count as f64 / size as f64 - 1.0).abs();
            assert!(error < 4.0 * 0.01625, "{count} of {size}");
        }
    }

    #[test]
    fn no_more_room_is_taken_than_there_is_and_what_is_not_needed_is_given_back() {
        let mut room = Room::new(EXACT);
        let large = set(0..EXACT, &mut room);
        assert_eq!(
            room.0, 0,
            "1,024 addresses take as much room as 1,024 addresses"
        );
        let small = set(0..5, &mut room);
        assert_eq!((small.size().count, small.size().exact), (0, false));
        let mut larger = large;
        larger.insert(address(EXACT), &mut room);
        assert!(!larger.size().exact);
        assert_eq!(room.0, EXACT - SKETCH);
        let another = set(0..10, &mut room);
        assert_eq!((another.size().count, another.size().exact), (10, true));
    }

    #[test]
    fn without_room_a_set_becomes_a_sketch_early_or_a_lower_bound() {
        // Room for a set of some size, and then none.
        let mut room = Room::new(400);
        let early = set(0..900, &mut room).size();
        assert!(!early.exact && early.count > 800, "{early:?}");
        let mut room = Room::new(100);
        let bound = set(0..900, &mut room).size();
        assert!(
            !bound.exact && bound.count > 70 && bound.count <= 100,
            "{bound:?}"
        );
    }
}
