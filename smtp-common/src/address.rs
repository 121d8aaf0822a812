//! One form for both families.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2).
///
/// Two words that hold the 16 octets as they lie in memory, so that comparing two addresses is
/// two comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Address {
    high: u64,
    low: u64,
}

/// The second word of `::ffff:0.0.0.0`.
const MAPPED_PREFIX: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);

impl Address {
    /// The IPv4 address with these octets, mapped into IPv6.
    #[inline(always)]
    pub const fn from_ipv4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self {
            high: 0,
            low: u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d]),
        }
    }

    /// The IPv4 address whose octets lie in this word of memory.
    #[inline(always)]
    pub(crate) const fn from_ipv4_word(word: u32) -> Self {
        let word = word as u64;
        let octets = if cfg!(target_endian = "little") {
            word << 32
        } else {
            word
        };
        Self {
            high: 0,
            low: MAPPED_PREFIX | octets,
        }
    }

    /// The IPv6 address with these octets.
    #[inline(always)]
    pub const fn from_ipv6(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            high: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            low: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// The 16 octets in network order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The address whose octets lie in these two words of memory.
    #[inline(always)]
    pub const fn from_words(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// Whether this is an IPv4 address mapped into IPv6.
    #[inline(always)]
    pub const fn is_mapped(self) -> bool {
        let prefix = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        // One comparison, not two: the verifier walks every branch.
        self.high | (self.low & prefix ^ MAPPED_PREFIX) == 0
    }

    /// The address as four 32-bit words, for hashing.
    #[inline(always)]
    pub(crate) const fn words(self) -> [u64; 4] {
        [
            self.high & 0xffff_ffff,
            self.high >> 32,
            self.low & 0xffff_ffff,
            self.low >> 32,
        ]
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_ipv4(v4.octets()),
            IpAddr::V6(v6) => Self::from_ipv6(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    /// Mapped addresses become IPv4 again.
    fn from(address: Address) -> Self {
        let v6 = Ipv6Addr::from(address.octets());
        match v6.to_ipv4_mapped() {
            Some(v4) => Self::V4(Ipv4Addr::from(v4.octets())),
            None => Self::V6(v6),
        }
    }
}
