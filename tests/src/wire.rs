//! Frames onto an interface, and word that they have arrived.
//!
//! Contract: both ends are packet sockets (packet(7)) in the network namespace of the thread that opens
//! them. What [`Transmitter::send`] returns from is on its way unchanged; a queue on the way may be
//! short, so [`Arrivals`] tells when to go on.

use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, recv,
    sendmmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Frames in one call.
const AT_ONCE: usize = 64;
/// What a receiver may be behind with before it loses something.
const BUFFER: usize = 64 << 20;

/// The sending end.
pub struct Transmitter {
    socket: OwnedFd,
    interface: LinkAddr,
    headers: MultiHeaders<LinkAddr>,
}

impl Transmitter {
    /// Sends from this interface.
    pub fn open(interface: &str) -> Self {
        // No protocol: it receives nothing.
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .expect("a packet socket needs root");
        let address = nix::ifaddrs::getifaddrs()
            .expect("the interfaces of this namespace")
            .find_map(|entry| {
                let address = entry.address?;
                (entry.interface_name == interface)
                    .then(|| address.as_link_addr().copied())
                    .flatten()
            });
        Self {
            socket,
            interface: address.unwrap_or_else(|| panic!("no interface {interface}")),
            headers: MultiHeaders::preallocate(AT_ONCE, None),
        }
    }

    /// Sends frames in their order.
    pub fn send<F: AsRef<[u8]>>(&mut self, frames: &[F]) {
        let addresses = [Some(self.interface); AT_ONCE];
        for some in frames.chunks(AT_ONCE) {
            let mut sent = 0;
            while sent < some.len() {
                let slices: Vec<[IoSlice<'_>; 1]> = some[sent..]
                    .iter()
                    .map(|frame| [IoSlice::new(frame.as_ref())])
                    .collect();
                let result = sendmmsg(
                    self.socket.as_raw_fd(),
                    &mut self.headers,
                    &slices,
                    &addresses[..slices.len()],
                    [],
                    MsgFlags::empty(),
                );
                match result {
                    Ok(results) => sent += results.count(),
                    Err(Errno::EINTR) => {}
                    Err(error) => panic!("cannot send frame {sent} of {}: {error}", some.len()),
                }
            }
        }
    }
}

/// Counts what arrives.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Arrivals {
    /// Counts every frame that arrives in this network namespace, until it is stopped. `ready` is
    /// called when none is missed any more.
    pub fn watch(&self, ready: impl FnOnce()) {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .expect("a packet socket needs root");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("a large buffer");
        let patience = TimeVal::new(0, 50_000);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("a limit");
        ready();
        while !self.stop.load(Ordering::Relaxed) {
            match recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_TRUNC) {
                Ok(_) => drop(self.count.fetch_add(1, Ordering::Release)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => panic!("cannot receive: {error}"),
            }
        }
    }

    /// How many have arrived.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until so many have arrived; says whether they did within `limit`.
    pub fn wait(&self, count: u64, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.count() < count {
            if begun.elapsed() > limit {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Ends [`Arrivals::watch`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
