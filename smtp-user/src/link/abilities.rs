//! What the kernel says an interface can do: take XDP programs, and merge frames before they are
//! counted.
//!
//! Contract: looks at the network namespace of the calling thread, changes nothing and needs no
//! privilege. What the kernel does not say is `None`, never a guess.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use netlink_packet_core::{parse_string, parse_u16, parse_u64};
use netlink_sys::protocols::NETLINK_GENERIC;

use super::netlink::{About, Kernel, attribute, attributes};

/// What an interface can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// What its driver takes in driver mode; kernels say it since 6.3.
    pub xdp: Option<XdpSupport>,
    /// What merges frames; kernels say it since 5.7 if they have CONFIG_ETHTOOL_NETLINK.
    pub merging: Option<Merging>,
}

/// What a driver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpSupport {
    /// XDP programs. A driver may say no because of how it is set up at the moment.
    pub programs: bool,
    /// Frames in several buffers.
    pub several_buffers: bool,
}

/// What merges received frames of a connection into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merging {
    /// The kernel, after driver mode.
    pub gro: Offload,
    /// The driver or the hardware.
    pub lro: Offload,
    /// The hardware, or the host of a virtual machine.
    pub gro_hw: Offload,
}

/// The state of something that can save work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Does not happen.
    Off,
    /// Happens.
    On,
    /// Happens, and nobody on this machine can switch it off.
    Fixed,
}

/// What the interfaces with these indices can do, in their order.
pub fn abilities(indices: &[u32]) -> Vec<Abilities> {
    let mut netdev = Family::open(netdev::FAMILY);
    let mut ethtool = Family::open(ethtool::FAMILY);
    indices
        .iter()
        .map(|index| Abilities {
            xdp: netdev.as_mut().and_then(|family| {
                let question = attribute(netdev::INDEX, &index.to_ne_bytes());
                family.ask(netdev::DEV_GET, &question, xdp_support)
            }),
            merging: ethtool.as_mut().and_then(|family| {
                let header = attribute(ethtool::HEADER_INDEX, &index.to_ne_bytes());
                let question = attribute(ethtool::HEADER | NESTED, &header);
                family.ask(ethtool::FEATURES_GET, &question, merging)
            }),
        })
        .collect()
}

/// Marks an attribute that consists of attributes (NLA_F_NESTED).
const NESTED: u16 = 1 << 15;

/// Family `nlctrl`, which knows the numbers of the others (linux/genetlink.h).
mod control {
    pub(super) const FAMILY: u16 = 0x10;
    pub(super) const GET_FAMILY: u8 = 3;
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
}

/// Family `netdev` (linux/netdev.h).
mod netdev {
    pub(super) const FAMILY: &str = "netdev";
    pub(super) const DEV_GET: u8 = 1;
    pub(super) const INDEX: u16 = 1;
    pub(super) const XDP_FEATURES: u16 = 3;
    pub(super) const XDP_BASIC: u64 = 1;
    pub(super) const XDP_RX_SG: u64 = 32;
}

/// Family `ethtool` (linux/ethtool_netlink.h).
mod ethtool {
    pub(super) const FAMILY: &str = "ethtool";
    pub(super) const FEATURES_GET: u8 = 11;
    pub(super) const HEADER: u16 = 1;
    pub(super) const HEADER_INDEX: u16 = 1;
    /// What can be switched.
    pub(super) const FEATURES_HW: u16 = 2;
    /// What is on.
    pub(super) const FEATURES_ACTIVE: u16 = 4;
    /// The set lists only what is in it.
    pub(super) const SET_NO_MASK: u16 = 1;
    pub(super) const SET_BITS: u16 = 3;
    pub(super) const BITS_BIT: u16 = 1;
    pub(super) const BIT_NAME: u16 = 2;
    pub(super) const BIT_VALUE: u16 = 3;
}

/// A family of generic netlink's, ready to be asked.
struct Family {
    kernel: Kernel,
    id: u16,
    name: &'static str,
}

impl Family {
    /// `None` if the kernel does not have it.
    fn open(name: &'static str) -> Option<Self> {
        let look = || {
            let mut kernel = Kernel::open(NETLINK_GENERIC)?;
            let mut zero_ended = name.as_bytes().to_vec();
            zero_ended.push(0);
            let question = message(
                control::GET_FAMILY,
                &attribute(control::FAMILY_NAME, &zero_ended),
            );
            let answer = kernel.ask(control::FAMILY, About::One, &question)?;
            let id = answer
                .messages
                .iter()
                .find_map(|message| {
                    let (_, value) =
                        fields(message).find(|(kind, _)| *kind == control::FAMILY_ID)?;
                    parse_u16(value).ok()
                })
                .context("the kernel gave no number")?;
            anyhow::Ok(Self { kernel, id, name })
        };
        look()
            .inspect_err(|error| tracing::debug!("no netlink family {name}: {error:#}"))
            .ok()
    }

    /// Asks and reads the answer; `None` if the kernel refuses or does not say it.
    fn ask<T>(
        &mut self,
        command: u8,
        question: &[u8],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let name = self.name;
        self.kernel
            .ask(self.id, About::One, &message(command, question))
            .inspect_err(|error| tracing::debug!("netlink family {name}: {error:#}"))
            .ok()?
            .messages
            .iter()
            .find_map(|message| read(message))
    }
}

/// A message of generic netlink's: command, version and two unused bytes, then attributes.
fn message(command: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![command, 1, 0, 0];
    bytes.extend(attributes);
    bytes
}

/// The attributes of such a message.
fn fields(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    attributes(message.get(4..).unwrap_or_default())
}

fn xdp_support(message: &[u8]) -> Option<XdpSupport> {
    let (_, value) = fields(message).find(|(kind, _)| *kind == netdev::XDP_FEATURES)?;
    let bits = parse_u64(value).ok()?;
    Some(XdpSupport {
        programs: bits & netdev::XDP_BASIC != 0,
        several_buffers: bits & netdev::XDP_RX_SG != 0,
    })
}

fn merging(message: &[u8]) -> Option<Merging> {
    let set = |wanted| {
        fields(message)
            .find(|(kind, _)| *kind == wanted)
            .map(|(_, value)| bit_set(value))
    };
    let active = set(ethtool::FEATURES_ACTIVE)?;
    let switchable = set(ethtool::FEATURES_HW)?;
    let has = |set: &[String], name| set.iter().any(|bit| bit == name);
    // Names of features are the kernel's (net/ethtool/common.c); ethtool -k shortens some.
    let offload = |name| match (has(&active, name), has(&switchable, name)) {
        (false, _) => Offload::Off,
        (true, true) => Offload::On,
        (true, false) => Offload::Fixed,
    };
    Some(Merging {
        gro: offload("rx-gro"),
        lro: offload("rx-lro"),
        gro_hw: offload("rx-gro-hw"),
    })
}

/// The names in a set. With a mask it lists all bits that it knows, and those in it have a value.
fn bit_set(set: &[u8]) -> Vec<String> {
    let only_members = attributes(set).any(|(kind, _)| kind == ethtool::SET_NO_MASK);
    attributes(set)
        .filter(|(kind, _)| *kind == ethtool::SET_BITS)
        .flat_map(|(_, bits)| attributes(bits))
        .filter(|(kind, bit)| {
            *kind == ethtool::BITS_BIT
                && (only_members || attributes(bit).any(|(kind, _)| kind == ethtool::BIT_VALUE))
        })
        .filter_map(|(_, bit)| {
            let (_, name) = attributes(bit).find(|(kind, _)| *kind == ethtool::BIT_NAME)?;
            parse_string(name).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bit of a set, as the kernel writes it.
    fn bit(name: &str, value: bool) -> Vec<u8> {
        let mut bytes = attribute(ethtool::BIT_NAME, format!("{name}\0").as_bytes());
        if value {
            bytes.extend(attribute(ethtool::BIT_VALUE, &[]));
        }
        attribute(ethtool::BITS_BIT | NESTED, &bytes)
    }

    /// What can be switched, with a mask, and what is on, without one.
    fn features(switchable: &[(&str, bool)], active: &[&str]) -> Vec<u8> {
        let bits: Vec<u8> = switchable
            .iter()
            .flat_map(|(name, value)| bit(name, *value))
            .collect();
        let hw = attribute(ethtool::SET_BITS | NESTED, &bits);
        let bits: Vec<u8> = active.iter().flat_map(|name| bit(name, false)).collect();
        let mut on = attribute(ethtool::SET_NO_MASK, &[]);
        on.extend(attribute(ethtool::SET_BITS | NESTED, &bits));
        let mut fields = attribute(ethtool::FEATURES_HW | NESTED, &hw);
        fields.extend(attribute(ethtool::FEATURES_ACTIVE | NESTED, &on));
        message(0, &fields)
    }

    #[test]
    fn what_is_on_is_read_with_whether_it_can_be_switched_off() {
        let all = [("rx-gro", true), ("rx-lro", true), ("rx-gro-hw", false)];
        let read = merging(&features(&all, &["rx-gro-hw", "rx-gro", "rx-gro-list"]));
        assert_eq!(
            read,
            Some(Merging {
                gro: Offload::On,
                lro: Offload::Off,
                gro_hw: Offload::Fixed,
            })
        );
    }

    #[test]
    fn a_cut_answer_is_no_answer_and_no_panic() {
        let whole = features(&[("rx-gro", true)], &["rx-gro"]);
        for length in 0..whole.len() {
            assert_eq!(merging(&whole[..length]), None, "{length}");
        }
        assert!(merging(&whole).is_some());
    }

    #[test]
    fn a_driver_says_what_it_takes() {
        let read = |bits: u64| {
            xdp_support(&message(
                0,
                &attribute(netdev::XDP_FEATURES, &bits.to_ne_bytes()),
            ))
        };
        let support = |programs, several_buffers| {
            Some(XdpSupport {
                programs,
                several_buffers,
            })
        };
        assert_eq!(read(0), support(false, false));
        assert_eq!(read(0b11), support(true, false));
        assert_eq!(read(0x7f), support(true, true));
        assert_eq!(xdp_support(&message(0, &[])), None);
    }

    #[test]
    fn loopback_has_gro_and_takes_no_programs_as_far_as_this_kernel_says() {
        let read = abilities(&[1, u32::MAX]);
        if Family::open(netdev::FAMILY).is_some() {
            let xdp = read[0].xdp.expect("a family that is there answers");
            assert!(!xdp.programs, "{xdp:?}");
        }
        if Family::open(ethtool::FAMILY).is_some() {
            let merging = read[0].merging.expect("a family that is there answers");
            assert_eq!(merging.lro, Offload::Off);
        }
        assert_eq!(read[1], Abilities::default(), "there is no such interface");
    }
}
