//! Conversations over TCP with servers that may be slow, endless or hostile.
//!
//! Contract: a conversation is over at its deadline, whatever the other side does, the look-up of its name
//! included, and no more is read than was allowed. Where a stranger says whom to ask next, [`Reach`] keeps
//! us from being led to addresses that only this machine or this network can reach.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// When something has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    end: Instant,
    time: Duration,
}

impl Deadline {
    /// So long from now.
    pub(super) fn after(time: Duration) -> Self {
        Self {
            end: Instant::now() + time,
            time,
        }
    }

    /// What is left of it.
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }

    /// An error in words.
    pub(super) fn explained(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no whole answer within {:?}", self.time)
            }
            _ => error.to_string(),
        }
    }
}

/// Which addresses a name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any: the operator has named the server.
    Anywhere,
    /// Those in the world. A server that is not in the world itself may refer to others that are not.
    From(IpAddr),
}

impl Reach {
    /// Whether this address may be connected to.
    fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::From(server) => is_global(address) || !is_global(server),
        }
    }
}

/// Whether an address means the same host everywhere (IANA's registries of special addresses, RFC 6890).
fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_multicast()
                || v4.is_documentation()
                // This network, shared space (RFC 6598), protocol assignments, benchmarks, reserved.
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b))
                || a >= 240)
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Global unicast, without documentation, and the host of an address that has IPv4 inside.
            a & 0xe000 == 0x2000
                && !(a == 0x2001 && b == 0xdb8)
                && (a != 0x2002
                    || is_global(IpAddr::V4(Ipv4Addr::from_bits(
                        (u32::from(b) << 16) | u32::from(v6.segments()[2]),
                    ))))
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    deadline: Deadline,
    /// The address at the other end.
    pub(super) server: IpAddr,
}

impl Connection {
    /// Connects to the first address of a host that answers, of those that may be reached.
    pub(super) fn open(
        host: &str,
        port: u16,
        reach: Reach,
        deadline: Deadline,
    ) -> Result<Self, String> {
        let addresses = addresses(host, port, deadline)?;
        let mut last = "the name has no address".to_owned();
        for address in addresses {
            if !reach.allows(address.ip()) {
                last = format!(
                    "{} is an address that a server in the world has no reason to refer to",
                    address.ip()
                );
                continue;
            }
            let connected = deadline
                .left()
                .and_then(|left| TcpStream::connect_timeout(&address, left));
            match connected {
                Ok(stream) => {
                    return Ok(Self {
                        stream,
                        deadline,
                        server: address.ip(),
                    });
                }
                Err(error) => last = deadline.explained(&error),
            }
        }
        Err(last)
    }

    /// The connection of somebody who has connected to us.
    pub(super) fn accepted(stream: TcpStream, peer: IpAddr, deadline: Deadline) -> Self {
        Self {
            stream,
            deadline,
            server: peer,
        }
    }

    /// Sends all of this.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let deadline = self.deadline;
        self.write_all(bytes)
            .map_err(|error| deadline.explained(&error))
    }
}

/// Each piece gets what is left of the time, so that one byte a second is no way to keep us.
impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reads to the end, or up to `limit` bytes and one more, which is an error.
pub(super) fn read_all(
    from: &mut impl Read,
    limit: usize,
    deadline: Deadline,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.explained(&error)),
        }
        if bytes.len() > limit {
            return Err(format!("the answer is longer than {} KiB", limit >> 10));
        }
    }
}

/// The addresses of a host. A name is looked up by the system on a thread of its own, which is left behind
/// when it takes too long; the system ends it after its own time.
fn addresses(host: &str, port: u16, deadline: Deadline) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (tell, told) = mpsc::sync_channel(1);
    let name = host.to_owned();
    thread::Builder::new()
        .name("resolve".to_owned())
        .spawn(move || {
            let looked_up = (&*name, port).to_socket_addrs();
            // Nobody waits any more if it took too long.
            let _ = tell.send(looked_up.map(|addresses| addresses.take(8).collect::<Vec<_>>()));
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let left = deadline
        .left()
        .map_err(|error| deadline.explained(&error))?;
    match told.recv_timeout(left) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(format!("the name {host} cannot be looked up: {error}")),
        Err(_) => Err(format!("the name {host} could not be looked up in time")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn who_is_in_the_world_refers_to_the_world() {
        for world in [
            "8.8.8.8",
            "192.1.1.1",
            "100.128.0.1",
            "2001:4860::1",
            "2002:808:808::1",
        ] {
            assert!(is_global(ip(world)), "{world}");
            assert!(Reach::From(ip("10.0.0.1")).allows(ip(world)), "{world}");
        }
        for inside in [
            "127.0.0.1",
            "10.1.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "64:ff9b::1",
        ] {
            assert!(!is_global(ip(inside)), "{inside}");
            assert!(!Reach::From(ip("8.8.8.8")).allows(ip(inside)), "{inside}");
            assert!(Reach::From(ip("127.0.0.1")).allows(ip(inside)), "{inside}");
            assert!(Reach::Anywhere.allows(ip(inside)), "{inside}");
        }
    }

    #[test]
    fn a_conversation_ends_at_its_deadline_and_at_its_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let open = |time| {
            let deadline = Deadline::after(time);
            (
                Connection::open("127.0.0.1", port, Reach::Anywhere, deadline).expect("connected"),
                deadline,
            )
        };
        // One byte at a time, for ever.
        let (mut slow, deadline) = open(Duration::from_millis(300));
        let (mut server, _) = listener.accept().expect("a client");
        let drip = thread::spawn(move || {
            while server.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let begun = Instant::now();
        let error = read_all(&mut slow, 1 << 20, deadline).expect_err("too slow");
        assert!(error.contains("within 300ms"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(slow);
        drip.join().expect("it ends");

        let (mut giant, deadline) = open(Duration::from_secs(20));
        let (mut server, _) = listener.accept().expect("a client");
        let pour = thread::spawn(move || while server.write_all(&[b'x'; 4096]).is_ok() {});
        let error = read_all(&mut giant, 64 << 10, deadline).expect_err("too long");
        assert_eq!(error, "the answer is longer than 64 KiB");
        drop(giant);
        pour.join().expect("it ends");
    }

    #[test]
    fn a_referral_to_where_only_we_are_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let reach = Reach::From(ip("8.8.8.8"));
        let error = Connection::open(
            "localhost",
            port,
            reach,
            Deadline::after(Duration::from_secs(5)),
        )
        .expect_err("refused");
        assert!(error.contains("no reason to refer to"), "{error}");
    }
}
