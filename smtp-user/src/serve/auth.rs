//! Who may read.
//!
//! Contract: a client on loopback reads freely, as long as it names a loopback host: a page of
//! somebody else's that a browser on this machine shows could otherwise read us through a name of
//! its own that leads to 127.0.0.1 (DNS rebinding). Everybody else sends the token. `/healthz` says
//! nothing and is for everybody. The token never appears in a message, a log or a `Debug` form.
//!
//! Behind a proxy on this machine every client comes from loopback: then the proxy has to ask who
//! they are.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use axum::extract::Request;
use axum::http::{StatusCode, Version, header, uri::Authority};
use axum::response::{IntoResponse, Response};
use nix::fcntl::OFlag;
use subtle::ConstantTimeEq as _;

use super::Options;
use super::problem::Problem;
use crate::failure::{Failure, Kind};

/// The shortest token, in bytes: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;
/// The longest token, in bytes: it has to fit into a request head.
const MAX_TOKEN: usize = 4096;

/// The read token.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the token from a file that nobody else can read or write.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        Self::read(path).map_err(|error| {
            let denied = error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            Failure {
                kind: if denied {
                    Kind::NoPermission
                } else {
                    Kind::BadConfig
                },
                error: error.context(format!("cannot use the token file {}", path.display())),
            }
        })
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::options()
            .read(true)
            // A named pipe would wait for its writer.
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        // Of the open file, so that it cannot be exchanged after the look.
        let metadata = file.metadata()?;
        let shown = path.display();
        let me = nix::unistd::geteuid().as_raw();
        anyhow::ensure!(metadata.is_file(), "it is not a regular file");
        anyhow::ensure!(
            metadata.uid() == me || metadata.uid() == 0,
            "it belongs to user {}, who could change it; make it yours: chown {me} {shown}",
            metadata.uid()
        );
        anyhow::ensure!(
            metadata.mode() & 0o077 == 0,
            "others can read it (mode {:04o}); close it: chmod 600 {shown}",
            metadata.mode() & 0o7777
        );
        let mut text = Vec::new();
        // One byte and a newline more than allowed, to see that there is more.
        file.take(MAX_TOKEN as u64 + 3).read_to_end(&mut text)?;
        Self::new(text.trim_ascii())
    }

    fn new(token: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (MIN_TOKEN..=MAX_TOKEN).contains(&token.len()),
            "the token has {} bytes, expected {MIN_TOKEN} to {MAX_TOKEN}; make one: openssl rand -hex 32",
            token.len()
        );
        anyhow::ensure!(
            token.iter().all(u8::is_ascii_graphic),
            "the token has bytes that no HTTP header carries; make one: openssl rand -hex 32"
        );
        Ok(Self(token.into()))
    }

    /// As in the header `Authorization`, for who asks another agent.
    pub(crate) fn authorization(&self) -> Vec<u8> {
        [b"Bearer ", &*self.0].concat()
    }

    /// Whether an `Authorization` header carries this token; takes the same time for every guess of
    /// the same length.
    fn is_in(&self, authorization: &[u8]) -> bool {
        let Some((scheme, rest)) = authorization.split_at_checked(7) else {
            return false;
        };
        // The scheme is in any case (RFC 9110, section 11.1).
        scheme.eq_ignore_ascii_case(b"bearer ") && rest.trim_ascii().ct_eq(&self.0).into()
    }
}

/// What a request says that it wants to talk to.
#[derive(Debug, PartialEq, Eq)]
pub enum Host {
    /// Nothing, as HTTP/1.0 allows.
    Absent,
    /// This name or address, without the port.
    Named(String),
    /// Something that names no single host.
    Broken,
}

impl Host {
    /// From the target and the `Host` header of a request.
    pub fn of(request: &Request) -> Self {
        let mut headers = request.headers().get_all(header::HOST).iter();
        let (first, second) = (headers.next(), headers.next());
        // A target in absolute form wins over the header (RFC 9112, section 3.2.2).
        if let Some(authority) = request.uri().authority() {
            return Self::Named(authority.host().to_owned());
        }
        match (first, second) {
            (None, _) if request.version() == Version::HTTP_10 => Self::Absent,
            (Some(host), None) => host
                .to_str()
                .ok()
                .and_then(|host| host.parse::<Authority>().ok())
                .map_or(Self::Broken, |authority| {
                    Self::Named(authority.host().to_owned())
                }),
            _ => Self::Broken,
        }
    }

    /// Whether only this machine can mean itself by it.
    fn is_local(&self, options: &Options) -> bool {
        let name = match self {
            Self::Absent => return true,
            Self::Broken => return false,
            Self::Named(name) => name.as_str(),
        };
        let address = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .map_or_else(
                || name.parse::<IpAddr>().ok(),
                |v6| v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            );
        match address {
            Some(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address == options.listen.ip().to_canonical()
            }
            None => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The token is missing or wrong.
    Token,
    /// From loopback, but for a host that is not this machine.
    Host,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Token => (
                [(header::WWW_AUTHENTICATE, "Bearer realm=\"smtpflow\"")],
                Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "send the read token: Authorization: Bearer TOKEN".to_owned(),
                ),
            )
                .into_response(),
            Self::Host => Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "this is not a host of that name: come as localhost, 127.0.0.1 or [::1], or send \
                 the read token"
                    .to_owned(),
            )
            .into_response(),
        }
    }
}

/// Whether a request may be answered.
pub fn check(
    options: &Options,
    peer: Option<IpAddr>,
    path: &str,
    host: &Host,
    authorization: Option<&[u8]>,
) -> Result<(), Denied> {
    let has_token = options
        .token
        .as_ref()
        .zip(authorization)
        .is_some_and(|(token, authorization)| token.is_in(authorization));
    if has_token {
        return Ok(());
    }
    if peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return if host.is_local(options) {
            Ok(())
        } else {
            Err(Denied::Host)
        };
    }
    if path == "/healthz" {
        return Ok(());
    }
    Err(Denied::Token)
}

#[cfg(test)]
mod tests;
