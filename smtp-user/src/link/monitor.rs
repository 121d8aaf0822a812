//! Notice of changes among the interfaces.
//!
//! Contract: after any change (made, deleted, renamed, up, down, another MTU, another program) there
//! is a notice; many changes in a row may share one, and a notice may come although nothing changed
//! that matters. What has changed is found out by looking, see [`links`](super::links), so a message
//! that the kernel could not deliver costs nothing but itself.
#![forbid(unsafe_code)]

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::MSG_DONTWAIT;

/// The group that hears of interfaces (`RTNLGRP_LINK` of linux/rtnetlink.h).
const RTNLGRP_LINK: u32 = 1;
/// Shortest time between two notices: whoever changes interfaces in a loop shall not keep the
/// listener from its work.
const PAUSE: Duration = Duration::from_millis(50);

/// Hears of the changes among the interfaces of a network namespace.
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Of the calling thread's network namespace. Changes after the return of this function are told.
    pub fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
        socket
            .bind(&SocketAddr::new(0, 1 << (RTNLGRP_LINK - 1)))
            .context("cannot subscribe to the changes of interfaces")?;
        Ok(Self { socket })
    }

    /// Calls `tell` after every change, on a thread of its own, until it returns `false`.
    pub fn watch(self, tell: impl Fn() -> bool + Send + 'static) -> anyhow::Result<()> {
        thread::Builder::new()
            .name("links".to_owned())
            .spawn(move || {
                loop {
                    if let Err(error) = wait(&self.socket) {
                        tracing::error!(
                            "cannot watch the interfaces any more, so their changes are seen at the \
                             end of a window only: {error:#}"
                        );
                        return;
                    }
                    if !tell() {
                        return;
                    }
                    thread::sleep(PAUSE);
                }
            })
            .context("cannot start the thread that watches the interfaces")?;
        Ok(())
    }
}

/// Waits for a message and takes all that are there.
fn wait(socket: &Socket) -> anyhow::Result<()> {
    let mut flags = 0;
    loop {
        // What a message says does not matter, so it may be cut.
        let mut message = [0; 64];
        match socket.recv(&mut &mut message[..], flags) {
            Ok(_) => flags = MSG_DONTWAIT,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Messages were lost because there were too many: those were changes, too.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                flags = MSG_DONTWAIT;
            }
            Err(error) => return Err(error).context("cannot read the kernel's messages"),
        }
    }
}
