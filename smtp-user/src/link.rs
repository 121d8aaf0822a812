//! The interfaces of a network namespace and the XDP programs on them.
//!
//! Contract: everything here looks at the network namespace of the calling thread, and nothing is
//! changed but that namespace itself by [`enter_netns`]. An attribute that cannot be read costs
//! only itself, never the interface and never the list: kernels grow new ones.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use netlink_packet_core::{
    Emitable as _, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator, parse_string,
    parse_u8, parse_u32,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkHeader, LinkLayerType, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::failure::{Failure, Kind, ResultExt as _};

/// Where iproute2 keeps the handles of named namespaces: today, and on systems where `/var/run` is
/// a folder of its own.
const NETNS_FOLDERS: [&str; 2] = ["/run/netns", "/var/run/netns"];

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
    let Some(netns) = netns else {
        return links();
    };
    // On a thread of its own, for a thread does not come back.
    std::thread::scope(|scope| {
        scope
            .spawn(|| enter_netns(netns).and_then(|()| links()))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
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
pub fn names(links: &[Link]) -> String {
    list(links.iter().map(|link| link.name.clone()))
}

/// One dump; `None` if it was disturbed.
fn dump() -> anyhow::Result<Option<Vec<Link>>> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    socket.bind_auto().context("cannot bind a netlink socket")?;
    let mut request = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
    );
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let kernel = SocketAddr::new(0, 0);
    socket
        .send_to(&bytes, &kernel, 0)
        .context("cannot ask the kernel by netlink")?;

    let mut dump = Dump::default();
    while !dump.done {
        let (datagram, sender) = match socket.recv_from_full() {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read the kernel's answer by netlink"),
        };
        // Other processes can write to this socket as well.
        if sender.port_number() == 0 {
            dump.read(&datagram)?;
        }
    }
    Ok((!dump.disturbed).then_some(dump.links))
}

/// What has been read of a dump.
#[derive(Debug, Default)]
struct Dump {
    links: Vec<Link>,
    /// The kernel says that the list changed while it wrote it down.
    disturbed: bool,
    done: bool,
}

impl Dump {
    /// Reads the messages of one datagram.
    fn read(&mut self, mut datagram: &[u8]) -> anyhow::Result<()> {
        while !datagram.is_empty() && !self.done {
            let message = NetlinkBuffer::new_checked(datagram)
                .map_err(|error| anyhow!("the kernel's answer is no netlink message: {error}"))?;
            self.disturbed |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_DONE => self.done = true,
                NLMSG_ERROR => {
                    let code = message
                        .payload()
                        .first_chunk()
                        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                    bail!(
                        "the kernel refuses: {}",
                        io::Error::from_raw_os_error(code.saturating_abs())
                    );
                }
                _ => self.links.extend(link(message.payload())),
            }
            // Messages start at multiples of four bytes.
            let next = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(next..).unwrap_or_default();
        }
        Ok(())
    }
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
            attribute::NAME => link.name = parse_string(&value).ok()?,
            attribute::MTU => link.mtu = parse_u32(&value).unwrap_or_default(),
            attribute::INFO => {
                link.kind = attributes(&value)
                    .find(|(kind, _)| *kind == attribute::INFO_KIND)
                    .and_then(|(_, value)| parse_string(&value).ok());
            }
            attribute::XDP => link.xdp = attached(&value),
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
            attribute::XDP_ATTACHED => mode = parse_u8(&value).unwrap_or_default(),
            attribute::XDP_PROGRAM
            | attribute::XDP_DRIVER_PROGRAM
            | attribute::XDP_SKB_PROGRAM
            | attribute::XDP_HARDWARE_PROGRAM => {
                program_id = program_id.or_else(|| parse_u32(&value).ok());
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

/// Kind and value of each attribute, up to the first that is broken.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, Vec<u8>)> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        Some((attribute.kind(), attribute.value().to_vec()))
    })
}

/// Moves the calling thread into a network namespace: sockets that it opens and interfaces that it
/// sees are those of the namespace from now on. Other threads and the file system stay.
///
/// `name` is a name as `ip netns list` prints it, or an absolute path to a handle.
pub fn enter_netns(name: &str) -> Result<(), Failure> {
    let path = handle(name)?;
    let file = File::open(&path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::NoPermission,
            _ => Kind::Failed,
        };
        Failure::new(
            kind,
            format!(
                "cannot open network namespace {name} at {}: {error}",
                path.display()
            ),
        )
    })?;
    match setns(&file, CloneFlags::CLONE_NEWNET) {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL) => Err(Failure::new(
            Kind::Failed,
            format!(
                "cannot enter network namespace {name}: {} is no handle of one; `ip netns add` \
                 makes them, and /proc/PID/ns/net is the one of a process",
                path.display()
            ),
        )),
        Err(error) => Err(error)
            .with_context(|| {
                format!("cannot enter network namespace {name}: root or CAP_SYS_ADMIN is needed")
            })
            .kind(match error {
                Errno::EPERM => Kind::NoPermission,
                _ => Kind::Failed,
            }),
    }
}

/// The handle of a namespace.
fn handle(name: &str) -> Result<PathBuf, Failure> {
    if Path::new(name).is_absolute() {
        return Ok(PathBuf::from(name));
    }
    // A name is one part of a path; anything else would leave the folder.
    let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    NETNS_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_name && path.exists())
        .ok_or_else(|| {
            Failure::new(
                Kind::Failed,
                format!(
                    "cannot enter network namespace {name:?}: there is none of this name \
                     (have: {}); an absolute path such as /proc/PID/ns/net works as well",
                    list(netns_names().into_iter())
                ),
            )
        })
}

/// The named network namespaces of this machine.
fn netns_names() -> Vec<String> {
    let mut names: Vec<String> = NETNS_FOLDERS
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names.dedup();
    names
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
    use super::*;

    /// An attribute with its header and padding.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

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
        message.extend(attribute(attribute::NAME, b"eth7\0"));
        message.extend(attribute(attribute::MTU, &9000_u32.to_ne_bytes()));
        let kind = attribute(attribute::INFO_KIND, b"veth\0");
        // The kernel marks nested attributes with the upper bit.
        message.extend(attribute(attribute::INFO | 0x8000, &kind));
        let mut xdp = attribute(attribute::XDP_ATTACHED, &[1]);
        xdp.extend(attribute(attribute::XDP_PROGRAM, &42_u32.to_ne_bytes()));
        message.extend(attribute(attribute::XDP, &xdp));
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
        message.extend(attribute(attribute::NAME, b"eth7\0"));
        message.extend(attribute(attribute::MTU, b"x"));
        message.extend(attribute(attribute::XDP, &[9, 0, 2]));
        let link = link(&message).expect("the link is there");
        assert_eq!((link.mtu, link.xdp), (0, None));
    }

    #[test]
    fn a_cut_message_is_no_link_and_no_panic() {
        let mut message = header();
        message.extend(attribute(attribute::NAME, b"eth7\0"));
        for length in 0..message.len() {
            // The last two bytes are padding.
            let expected = length >= 25;
            assert_eq!(link(&message[..length]).is_some(), expected, "{length}");
        }
    }

    #[test]
    fn without_a_program_there_is_none() {
        assert_eq!(attached(&attribute(attribute::XDP_ATTACHED, &[0])), None);
    }

    #[test]
    fn two_programs_are_multi() {
        let mut xdp = attribute(attribute::XDP_ATTACHED, &[4]);
        xdp.extend(attribute(
            attribute::XDP_DRIVER_PROGRAM,
            &8_u32.to_ne_bytes(),
        ));
        xdp.extend(attribute(attribute::XDP_SKB_PROGRAM, &9_u32.to_ne_bytes()));
        let attached = attached(&xdp).expect("attached");
        assert_eq!((attached.program_id, attached.mode.as_str()), (8, "multi"));
    }

    #[test]
    fn the_end_of_a_dump_and_its_disturbance_are_seen() {
        let mut done = vec![20, 0, 0, 0, 3, 0, 0x10, 0];
        done.extend([0; 12]);
        let mut dump = Dump::default();
        dump.read(&done).expect("well formed");
        assert!(dump.done && dump.disturbed);
    }

    #[test]
    fn an_error_of_the_kernel_is_told() {
        let mut error = vec![20, 0, 0, 0, 2, 0, 0, 0];
        error.extend([0; 8]);
        error.extend((-1_i32).to_ne_bytes());
        let text = Dump::default()
            .read(&error)
            .expect_err("refused")
            .to_string();
        assert!(text.contains("not permitted"), "{text}");
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

    #[test]
    fn namespaces_are_names_or_absolute_paths() {
        for bad in ["", ".", "..", "../x", "a/b", "surely-there-is-none"] {
            let failure = enter_netns(bad).expect_err(bad);
            assert!(failure.to_string().contains("have: "), "{failure}");
        }
        let failure = enter_netns("/dev/null").expect_err("no namespace");
        assert!(failure.to_string().contains("/dev/null"), "{failure}");
    }
}
