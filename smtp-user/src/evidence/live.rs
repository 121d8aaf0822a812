//! The packets of one host, from an interface.
//!
//! Contract: a packet socket that is not promiscuous, sends nothing and touches no program of the interface, with a
//! [`filter`](super::filter) in the kernel that lets nothing through but headers of the host's mail. It ends after a
//! time or a number of packets that the operator names, both bounded. Packets that the kernel could not queue are
//! counted. It needs CAP_NET_RAW, and nothing else does.

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind,
    recv, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use socket2::{SockFilter, SockRef};

use super::filter::program;
use crate::failure::{Failure, Kind};

/// The longest header: that of IPv4 and that of TCP, each with all options.
const LONGEST: usize = 60 + 60;
/// What may wait in the kernel, in octets; it may grant less.
const QUEUE: usize = 4 << 20;
/// How often the clock is looked at.
const PATIENCE: TimeVal = TimeVal::new(0, 100_000);

/// What is to be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The interface.
    pub interface: String,
    /// For how long.
    pub time: Duration,
    /// Most packets.
    pub packets: u64,
}

/// A capture that has begun.
pub(super) struct Tap {
    socket: OwnedFd,
    until: Instant,
    /// Packets that are left to take.
    left: u64,
    /// Packets that the kernel could not queue.
    pub(super) lost: u64,
    buffer: [u8; LONGEST],
}

impl Live {
    /// Begins, in the network namespace of the calling thread.
    pub(super) fn begin(&self, host: IpAddr, ports: &[u16]) -> Result<Tap, Failure> {
        let Self {
            interface,
            time,
            packets,
        } = self;
        let failed = |what: &str, error: Errno| {
            let text = format!("cannot capture on {interface}: {what}: {error}");
            Failure::new(Kind::Failed, text)
        };
        let address = address(interface)?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .map_err(|error| match error {
            Errno::EPERM | Errno::EACCES => Failure::new(
                Kind::NoPermission,
                format!(
                    "cannot capture on {interface}: a packet socket takes the capability CAP_NET_RAW; run this as \
                     root, or take the packets from a capture that somebody else has made (--pcap FILE)"
                ),
            ),
            error => failed("no packet socket", error),
        })?;
        let program: Vec<SockFilter> = program(host, ports)
            .into_iter()
            .map(|(code, holds, fails, operand)| SockFilter::new(code, holds, fails, operand))
            .collect();
        SockRef::from(&socket)
            .attach_filter(&program)
            .map_err(|error| {
                let text =
                    format!("cannot capture on {interface}: the kernel takes no filter: {error}");
                Failure::new(Kind::Failed, text)
            })?;
        bind(socket.as_raw_fd(), &address).map_err(|error| failed("bind", error))?;
        setsockopt(&socket, sockopt::RcvBuf, &QUEUE).map_err(|error| failed("queue", error))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|error| failed("times", error))?;
        setsockopt(&socket, sockopt::RxqOvfl, &1).map_err(|error| failed("losses", error))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)
            .map_err(|error| failed("patience", error))?;
        // What came before the filter was there, from whatever interface: it is thrown away unseen.
        while recv(socket.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT).is_ok() {}
        Ok(Tap {
            socket,
            until: Instant::now() + *time,
            left: *packets,
            lost: 0,
            buffer: [0; LONGEST],
        })
    }
}

/// The place of an interface in this network namespace.
fn address(interface: &str) -> Result<LinkAddr, Failure> {
    let all = getifaddrs().map_err(|error| {
        Failure::new(Kind::Failed, format!("cannot list the interfaces: {error}"))
    })?;
    let mut have = Vec::new();
    for entry in all {
        let Some(address) = entry.address.and_then(|all| all.as_link_addr().copied()) else {
            continue;
        };
        if entry.interface_name == interface {
            return Ok(address);
        }
        have.push(entry.interface_name);
    }
    Err(Failure::new(
        Kind::Failed,
        format!(
            "cannot capture on {interface}: no such interface (have: {})",
            have.join(", ")
        ),
    ))
}

impl Tap {
    /// The next packet from its IP header on, and when it came; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], Duration)>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
        let (length, at) = loop {
            if Instant::now() >= self.until {
                return Ok(None);
            }
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let received = recvmsg::<LinkAddr>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                MsgFlags::empty(),
            );
            let received = match received {
                Ok(received) => received,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => {
                    let text = format!("the capture ended: {error}; is the interface still there?");
                    return Err(Failure::new(Kind::Failed, text));
                }
            };
            let mut at = None;
            for message in received.cmsgs().into_iter().flatten() {
                match message {
                    ControlMessageOwned::ScmTimestampns(time) => at = Some(Duration::from(time)),
                    ControlMessageOwned::RxqOvfl(lost) => self.lost = lost.into(),
                    _ => {}
                }
            }
            let now = || {
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default()
            };
            break (received.bytes, at.unwrap_or_else(now));
        };
        self.left -= 1;
        Ok(Some((self.buffer.get(..length).unwrap_or_default(), at)))
    }
}
