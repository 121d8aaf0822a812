//! Every way a packet can end.
//!
//! Each frame that the meter sees ends in exactly one [`Counter`]: it was a [`Counter::Segment`],
//! or it was skipped for exactly one [`Skip`]. That is the first half of the conservation law:
//! `frames = segments + sum of skips`. A new reason is one line in the list below; array lengths,
//! metric labels and documentation follow from [`Counter::ALL`].

/// Declares [`Skip`] with a name and a meaning per variant.
macro_rules! skips {
    ($($variant:ident, $name:literal, $meaning:literal;)+) => {
        /// Why a frame is not a [`Segment`](crate::packet::Segment).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Skip {
            $(#[doc = $meaning] $variant,)+
        }

        impl Skip {
            /// Every reason, in the order of its discriminant.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The stable name: metric label, JSON key.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for documentation and help.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

skips! {
    ShortEthernet, "short_ethernet", "the frame ends inside its Ethernet header or a VLAN tag";
    VlanDepth, "vlan_depth", "more than two VLAN tags";
    NotIp, "not_ip", "EtherType is neither IPv4 nor IPv6 (ARP, PPPoE, MPLS and others)";
    ShortIpv4, "short_ipv4", "the frame ends inside the first 20 bytes of its IPv4 header";
    Ipv4Version, "ipv4_version", "EtherType says IPv4, the version field does not";
    Ipv4HeaderLength, "ipv4_header_length", "IPv4 header length below 20 bytes";
    Ipv4TotalLength, "ipv4_total_length", "IPv4 total length does not hold its own headers";
    Ipv4Fragment, "ipv4_fragment", "IPv4 fragment after the first: it has no ports";
    ShortIpv6, "short_ipv6", "the frame ends inside its IPv6 header";
    Ipv6Version, "ipv6_version", "EtherType says IPv6, the version field does not";
    ShortIpv6Extension, "short_ipv6_extension", "the frame ends inside the first 8 bytes of an IPv6 extension header";
    Ipv6ExtensionLimit, "ipv6_extension_limit", "more than eight IPv6 extension headers";
    Ipv6PayloadLength, "ipv6_payload_length", "IPv6 payload length does not hold its own headers";
    Ipv6Fragment, "ipv6_fragment", "IPv6 fragment after the first: it has no ports";
    Ipv6Mapped, "ipv6_mapped", "IPv6 with an IPv4-mapped address: no host may send it, and it would count for the IPv4 host";
    NotTcp, "not_tcp", "the protocol is not TCP";
    ShortTcp, "short_tcp", "the frame ends before its TCP header or inside the first 20 bytes of it";
    TcpDataOffset, "tcp_data_offset", "TCP data offset below 20 bytes";
    NotMailPort, "not_mail_port", "TCP, but neither port is a mail port";
}

/// How a frame ended: counted as a segment, or skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// A TCP segment from or to a mail port; it is counted for a source, in the spill or as overflow.
    Segment,
    /// Not a segment of interest, for this reason.
    Skip(Skip),
}

impl Counter {
    /// How many counters there are.
    pub const COUNT: usize = 1 + Skip::ALL.len();

    /// Every counter, in the order of [`Counter::index`].
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Segment; Self::COUNT];
        let mut i = 0;
        while i < Skip::ALL.len() {
            all[i + 1] = Self::Skip(Skip::ALL[i]);
            i += 1;
        }
        all
    };

    /// The place of this counter in [`Header::outcomes`](crate::flow::Header::outcomes).
    #[inline(always)]
    pub const fn index(self) -> usize {
        match self {
            Self::Segment => 0,
            Self::Skip(skip) => 1 + skip as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_own_index_in_the_order_of_all() {
        for (i, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter.index(), i, "{counter:?}");
        }
    }

    #[test]
    fn names_are_unique_and_fit_a_metric_label() {
        for (i, skip) in Skip::ALL.iter().enumerate() {
            let name = skip.name();
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert!(
                Skip::ALL[..i].iter().all(|other| other.name() != name),
                "{name} twice"
            );
        }
    }
}
