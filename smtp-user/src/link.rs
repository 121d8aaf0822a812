//! The interfaces of a network namespace, the XDP programs on them, and its routes.
//!
//! Contract: everything here looks at the network namespace of the calling thread, and nothing is
//! changed but that namespace itself by [`enter_netns`]. An attribute that cannot be read costs
//! only itself, never the interface and never the list: kernels grow new ones.
#![forbid(unsafe_code)]

use anyhow::Context as _;
use netlink_packet_core::{Emitable as _, parse_string, parse_u8, parse_u32};
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::failure::{Failure, Kind};

mod abilities;
mod monitor;
mod netlink;
mod netns;
mod routes;

pub use abilities::{Abilities, Merging, Offload, XdpSupport, abilities};
pub use monitor::Monitor;
use netlink::{About, Kernel, attributes};
pub use netns::{enter_netns, within};
pub use routes::{KernelRoute, routes};

/// Asks for interfaces (linux/rtnetlink.h).
const RTM_GETLINK: u16 = 18;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index in this namespace.
    pub index: u32,
    /// The largest layer-3 packet that it carries, in bytes.
    pub mtu: u32,
    /// What kind of virtual interface it is (`veth`, `vlan`, `bridge`); `None` for hardware and
    /// loopback.
    pub kind: Option<String>,
    /// Whether its frames begin with an Ethernet header; those of PPP, WireGuard and IP tunnels do not.
    pub ethernet: bool,
    /// Whether it has been set up; it may be without a carrier all the same.
    pub up: bool,
    /// The XDP program on it, whoever put it there.
    pub xdp: Option<AttachedXdp>,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The kernel's number of the program; the first one if there are several.
    pub program_id: u32,
    /// `driver`, `skb`, `hardware`, or `multi` when there is one in more than one of them.
    pub mode: String,
}

/// All interfaces, by index.
pub fn links() -> Result<Vec<Link>, Failure> {
    // A list that changed while the kernel wrote it down may miss an interface; the kernel says so.
    for _ in 0..4 {
        if let Some(mut links) = dump().context("cannot list the network interfaces")? {
            links.sort_by_key(|link| link.index);
            return Ok(links);
        }
    }
    Err(Failure::new(
        Kind::Unavailable,
        "cannot list the network interfaces: they change faster than they can be read; try again",
    ))
}

/// All interfaces of a network namespace (see [`enter_netns`]) or, without one, of this thread's.
pub fn links_in(netns: Option<&str>) -> Result<Vec<Link>, Failure> {
    within(netns, links)
}

/// The interface of this name, or a failure that names those that exist; `purpose` is what cannot
/// be done without it, such as `attach to`.
pub fn find<'a>(links: &'a [Link], name: &str, purpose: &str) -> Result<&'a Link, Failure> {
    links.iter().find(|link| link.name == name).ok_or_else(|| {
        Failure::new(
            Kind::Failed,
            format!(
                "cannot {purpose} {name}: no such interface (have: {})",
                names(links)
            ),
        )
    })
}

/// The names of these interfaces, for messages.
pub fn names<'a>(links: impl IntoIterator<Item = &'a Link>) -> String {
    list(links.into_iter().map(|link| link.name.clone()))
}

/// One dump; `None` if it was disturbed.
fn dump() -> anyhow::Result<Option<Vec<Link>>> {
    // Zeros ask for every interface (struct ifinfomsg of linux/rtnetlink.h).
    let answer = Kernel::open(NETLINK_ROUTE)?.ask(RTM_GETLINK, About::All, &[0; 16])?;
    let links = answer.messages.iter().filter_map(|message| link(message));
    Ok((!answer.disturbed).then(|| links.collect()))
}

/// Attributes of a link (linux/if_link.h). The parser of netlink-packet-route gives up the whole
/// link at the first attribute that it does not understand, so the four that matter are read here.
mod attribute {
    pub(super) const NAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const INFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const XDP: u16 = 43;
    pub(super) const XDP_ATTACHED: u16 = 2;
    /// Only there when a single program is attached.
    pub(super) const XDP_PROGRAM: u16 = 4;
    pub(super) const XDP_DRIVER_PROGRAM: u16 = 5;
    pub(super) const XDP_SKB_PROGRAM: u16 = 6;
    pub(super) const XDP_HARDWARE_PROGRAM: u16 = 7;
}

/// The interface that a message describes; `None` if not even its header or its name can be read.
fn link(message: &[u8]) -> Option<Link> {
    let header = LinkHeader::parse(message).ok()?;
    let mut link = Link {
        name: String::new(),
        index: header.index,
        mtu: 0,
        kind: None,
        // Loopback frames have one of zeros.
        ethernet: matches!(
            header.link_layer_type,
            LinkLayerType::Ether | LinkLayerType::Loopback
        ),
        up: header.flags.contains(LinkFlags::Up),
        xdp: None,
    };
    for (kind, value) in attributes(message.get(header.buffer_len()..)?) {
        match kind {
            attribute::NAME => link.name = parse_string(value).ok()?,
            attribute::MTU => link.mtu = parse_u32(value).unwrap_or_default(),
            attribute::INFO => {
                link.kind = attributes(value)
                    .find(|(kind, _)| *kind == attribute::INFO_KIND)
                    .and_then(|(_, value)| parse_string(value).ok());
            }
            attribute::XDP => link.xdp = attached(value),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// The program that an XDP attribute describes.
fn attached(value: &[u8]) -> Option<AttachedXdp> {
    let mut mode = 0;
    let mut program_id = None;
    for (kind, value) in attributes(value) {
        match kind {
            attribute::XDP_ATTACHED => mode = parse_u8(value).unwrap_or_default(),
            attribute::XDP_PROGRAM
            | attribute::XDP_DRIVER_PROGRAM
            | attribute::XDP_SKB_PROGRAM
            | attribute::XDP_HARDWARE_PROGRAM => {
                program_id = program_id.or_else(|| parse_u32(value).ok());
            }
            _ => {}
        }
    }
    let mode = match mode {
        0 => return None,
        1 => "driver".to_owned(),
        2 => "skb".to_owned(),
        3 => "hardware".to_owned(),
        4 => "multi".to_owned(),
        other => format!("unknown ({other})"),
    };
    Some(AttachedXdp {
        program_id: program_id.unwrap_or_default(),
        mode,
    })
}

/// Words in a message.
fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::netlink::attribute as field;
    use super::*;

    /// The header of interface 7, which is up.
    fn header() -> Vec<u8> {
        let mut bytes = vec![0; 2];
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn a_link_is_read_from_its_attributes() {
        let mut message = header();
        message.extend(field(attribute::NAME, b"eth7\0"));
        message.extend(field(attribute::MTU, &9000_u32.to_ne_bytes()));
        let kind = field(attribute::INFO_KIND, b"veth\0");
        // The kernel marks nested attributes with the upper bit.
        message.extend(field(attribute::INFO | 0x8000, &kind));
        let mut xdp = field(attribute::XDP_ATTACHED, &[1]);
        xdp.extend(field(attribute::XDP_PROGRAM, &42_u32.to_ne_bytes()));
        message.extend(field(attribute::XDP, &xdp));
        assert_eq!(
            link(&message),
            Some(Link {
                name: "eth7".to_owned(),
                index: 7,
                mtu: 9000,
                kind: Some("veth".to_owned()),
                ethernet: true,
                up: true,
                xdp: Some(AttachedXdp {
                    program_id: 42,
                    mode: "driver".to_owned()
                }),
            })
        );
    }

    #[test]
    fn a_broken_attribute_costs_only_itself() {
        let mut message = header();
        message.extend(field(attribute::NAME, b"eth7\0"));
        message.extend(field(attribute::MTU, b"x"));
        message.extend(field(attribute::XDP, &[9, 0, 2]));
        let link = link(&message).expect("the link is there");
        assert_eq!((link.mtu, link.xdp), (0, None));
    }

    #[test]
    fn a_cut_message_is_no_link_and_no_panic() {
        let mut message = header();
        message.extend(field(attribute::NAME, b"eth7\0"));
        for length in 0..message.len() {
            // The last two bytes are padding.
            let expected = length >= 25;
            assert_eq!(link(&message[..length]).is_some(), expected, "{length}");
        }
    }

    #[test]
    fn without_a_program_there_is_none() {
        assert_eq!(attached(&field(attribute::XDP_ATTACHED, &[0])), None);
    }

    #[test]
    fn two_programs_are_multi() {
        let mut xdp = field(attribute::XDP_ATTACHED, &[4]);
        xdp.extend(field(attribute::XDP_DRIVER_PROGRAM, &8_u32.to_ne_bytes()));
        xdp.extend(field(attribute::XDP_SKB_PROGRAM, &9_u32.to_ne_bytes()));
        let attached = attached(&xdp).expect("attached");
        assert_eq!((attached.program_id, attached.mode.as_str()), (8, "multi"));
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let links = links().expect("netlink works without privilege");
        let lo = find(&links, "lo", "look at").expect("lo is there");
        assert_eq!(lo.index, 1);
        assert!(lo.mtu > 0);
    }

    #[test]
    fn a_missing_interface_is_named_with_those_that_exist() {
        let lo = Link {
            name: "lo".to_owned(),
            index: 1,
            mtu: 65536,
            kind: None,
            ethernet: true,
            up: true,
            xdp: None,
        };
        let failure = find(&[lo], "eth7", "attach to").expect_err("there is no eth7");
        assert_eq!(
            failure.to_string(),
            "cannot attach to eth7: no such interface (have: lo)"
        );
    }
}
