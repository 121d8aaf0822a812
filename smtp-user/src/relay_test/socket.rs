//! The conversation over a socket.
//!
//! Contract: nothing is connected to but the [`Target`], and nothing is said to a peer that is not it. Each
//! wait is as long as the conversation says, and no longer.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::conversation::{Conversation, Event, Findings, Plan, Wish};
use super::target::Target;

/// Holds a conversation to its end.
pub(super) fn converse(target: Target, local: &[IpNet], plan: Plan) -> Findings {
    let begun = Instant::now();
    let (mut conversation, mut wish) = Conversation::begin(plan);
    let mut stream: Option<TcpStream> = None;
    let mut buffer = [0; 4096];
    loop {
        let event = match &wish {
            Wish::Connect { within } => {
                close(stream.take());
                match connect(target, local, *within) {
                    Ok((connected, event)) => {
                        stream = Some(connected);
                        event
                    }
                    Err(event) => event,
                }
            }
            Wish::Send { octets, within } => {
                let deadline = Instant::now() + *within;
                match send(stream.as_mut(), octets, deadline) {
                    None => receive(stream.as_mut(), &mut buffer, deadline),
                    Some(event) => event,
                }
            }
            Wish::Receive { within } => {
                receive(stream.as_mut(), &mut buffer, Instant::now() + *within)
            }
            Wish::End => break,
        };
        wish = conversation.handle(begun.elapsed(), event);
    }
    close(stream);
    conversation.into_findings()
}

fn close(stream: Option<TcpStream>) {
    if let Some(stream) = stream {
        // An error means that the other side was faster.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn connect(
    target: Target,
    local: &[IpNet],
    within: Duration,
) -> Result<(TcpStream, Event<'static>), Event<'static>> {
    let socket = target.socket();
    // Zero is no timeout that the system takes.
    let within = within.max(Duration::from_millis(1));
    let stream = TcpStream::connect_timeout(&socket, within).map_err(|error| {
        Event::NotConnected(match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("{socket} refused the connection"),
            io::ErrorKind::TimedOut => {
                format!("{socket} did not answer within {} s", within.as_secs())
            }
            _ => format!("{socket} cannot be reached: {error}"),
        })
    })?;
    let ends = stream
        .peer_addr()
        .and_then(|peer| Ok((peer, stream.local_addr()?)));
    match ends {
        Ok((peer, own)) if target.is_peer(peer, local) => Ok((stream, Event::Connected(own.ip()))),
        Ok((peer, _)) => Err(Event::Stranger(format!(
            "the connection to {socket} is with {peer}, who is not spoken to"
        ))),
        // It was closed at once.
        Err(error) => Err(Event::NotConnected(format!(
            "the connection to {socket} is gone: {error}"
        ))),
    }
}

/// Sends all; gives what has happened instead.
fn send(
    stream: Option<&mut TcpStream>,
    octets: &[u8],
    deadline: Instant,
) -> Option<Event<'static>> {
    let Some(stream) = stream else {
        return Some(Event::Closed);
    };
    let mut left = octets;
    while !left.is_empty() {
        let within = deadline.saturating_duration_since(Instant::now());
        if within.is_zero() {
            return Some(Event::Nothing);
        }
        let written = stream
            .set_write_timeout(Some(within))
            .and_then(|()| stream.write(left));
        match written {
            Ok(0) => return Some(Event::Closed),
            Ok(length) => left = left.get(length..).unwrap_or_default(),
            Err(error) => match passing(&error) {
                Some(event) => return Some(event),
                None => continue,
            },
        }
    }
    None
}

fn receive<'a>(
    stream: Option<&mut TcpStream>,
    buffer: &'a mut [u8],
    deadline: Instant,
) -> Event<'a> {
    let Some(stream) = stream else {
        return Event::Closed;
    };
    loop {
        let within = deadline.saturating_duration_since(Instant::now());
        if within.is_zero() {
            return Event::Nothing;
        }
        let read = stream
            .set_read_timeout(Some(within))
            .and_then(|()| stream.read(buffer));
        match read {
            Ok(0) => return Event::Closed,
            Ok(length) => return Event::Received(buffer.get(..length).unwrap_or_default()),
            Err(error) => {
                if let Some(event) = passing(&error) {
                    return event;
                }
            }
        }
    }
}

/// What an error means; `None` where it is to be tried again.
fn passing(error: &io::Error) -> Option<Event<'static>> {
    match error.kind() {
        io::ErrorKind::Interrupted => None,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Some(Event::Nothing),
        // Reset, or gone in another way.
        _ => Some(Event::Closed),
    }
}
