//! Who may read, and who may change.
//!
//! Contract: a client on loopback reads freely, as long as it names a loopback host: a page of
//! somebody else's that a browser on this machine shows could otherwise read us through a name of
//! its own that leads to 127.0.0.1 (DNS rebinding). Everybody else sends the read token or the act
//! token. `/healthz` says nothing and is for everybody.
//!
//! Whoever changes anything sends the act token, also from loopback. A browser sends what it was
//! logged in with by itself, so it must say as well that the request is of one of our own pages. Whoever
//! is no browser says nothing of that.
//!
//! A token comes as `Bearer TOKEN` (RFC 6750), or as the password of `Basic` (RFC 7617), whatever the
//! user is called, so that a browser can log in.
//!
//! Behind a proxy on this machine every client comes from loopback: then the proxy has to ask who
//! they are.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header, uri::Authority};
use axum::response::{AppendHeaders, IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Options;
use super::problem::Problem;
use crate::secret::Token;

/// The token that an `Authorization` header carries.
fn token_in(authorization: &[u8]) -> Option<Cow<'_, [u8]>> {
    let space = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = authorization.split_at(space);
    let rest = rest.trim_ascii();
    // The scheme is in any case (RFC 9110, section 11.1).
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Cow::Borrowed(rest));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let login = BASE64_STANDARD.decode(rest).ok()?;
    let colon = login.iter().position(|byte| *byte == b':')?;
    Some(Cow::Owned(login[colon + 1..].to_vec()))
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

/// What a client may do by the token that it has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// No more than anybody.
    Stranger,
    /// Read.
    Reader,
    /// Read and change.
    Actor,
}

impl Role {
    fn of(options: &Options, authorization: Option<&HeaderValue>) -> Self {
        let shown = authorization.and_then(|value| token_in(value.as_bytes()));
        let Some(shown) = shown else {
            return Self::Stranger;
        };
        let is = |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(&shown));
        // Both are looked at, whichever it is.
        match (is(&options.token), is(&options.act_token)) {
            (_, true) => Self::Actor,
            (true, false) => Self::Reader,
            (false, false) => Self::Stranger,
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
    /// There is no token that anything could be changed with.
    NoActToken,
    /// The act token is missing or wrong.
    ActToken,
    /// The token that was sent only reads.
    ReadToken,
    /// A browser sends it for a page that is none of ours.
    Origin,
}

const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"smtpflow\"");

/// Either way to send a token.
const CHALLENGES: AppendHeaders<[(HeaderName, HeaderValue); 2]> = AppendHeaders([
    (header::WWW_AUTHENTICATE, BEARER),
    (
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"smtpflow\", charset=\"UTF-8\""),
    ),
]);

impl Denied {
    /// The answer to this request. Whoever sends a token as Bearer is not told of Basic: a browser would
    /// show a login of its own, and our page that has sent the token would wait for that.
    pub(super) fn answer(self, request: &Request) -> Response {
        let mut response = self.into_response();
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().get(..7))
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let headers = response.headers_mut();
        if bearer && headers.contains_key(header::WWW_AUTHENTICATE) {
            headers.insert(header::WWW_AUTHENTICATE, BEARER);
        }
        response
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let problem = |status, text: &str| Problem::new(status, text.to_owned());
        match self {
            Self::Token => (
                CHALLENGES,
                problem(
                    StatusCode::UNAUTHORIZED,
                    "send the read token: Authorization: Bearer TOKEN, or log in with any user name \
                     and the token as the password",
                ),
            )
                .into_response(),
            Self::Host => problem(
                StatusCode::MISDIRECTED_REQUEST,
                "this is not a host of that name: come as localhost, 127.0.0.1 or [::1], or send a \
                 token",
            )
            .into_response(),
            Self::NoActToken => problem(
                StatusCode::FORBIDDEN,
                "nothing can be changed here, as this agent has no act token; name a file with one \
                 (serve.act_token_file), or use smtpflow verdict and smtpflow relay on the gateway",
            )
            .into_response(),
            Self::ActToken => (
                CHALLENGES,
                problem(
                    StatusCode::UNAUTHORIZED,
                    "to change anything, send the act token: Authorization: Bearer TOKEN, or log in \
                     with any user name and the token as the password",
                ),
            )
                .into_response(),
            Self::ReadToken => problem(
                StatusCode::FORBIDDEN,
                "this token only reads; to change anything, send the act token",
            )
            .into_response(),
            Self::Origin => problem(
                StatusCode::FORBIDDEN,
                "a browser sent this for a page of another origin; use this server's own pages",
            )
            .into_response(),
        }
    }
}

/// Whether a request that changes nothing may be answered.
pub(super) fn may_read(
    options: &Options,
    peer: Option<IpAddr>,
    request: &Request,
) -> Result<(), Denied> {
    let authorization = request.headers().get(header::AUTHORIZATION);
    if Role::of(options, authorization) != Role::Stranger {
        return Ok(());
    }
    if peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
        return if Host::of(request).is_local(options) {
            Ok(())
        } else {
            Err(Denied::Host)
        };
    }
    if request.uri().path() == "/healthz" {
        return Ok(());
    }
    Err(Denied::Token)
}

/// Whether a request may change something.
pub(super) fn may_change(options: &Options, request: &Request) -> Result<(), Denied> {
    if options.act_token.is_none() {
        return Err(Denied::NoActToken);
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    match Role::of(options, authorization) {
        Role::Stranger => Err(Denied::ActToken),
        Role::Reader => Err(Denied::ReadToken),
        Role::Actor if is_of_our_pages(request) => Ok(()),
        Role::Actor => Err(Denied::Origin),
    }
}

/// Whether a request is of a page of the same origin, or of no page at all.
///
/// What the browser says of it counts (Fetch Metadata, `Sec-Fetch-Site`), as it knows through which
/// proxy it came. It says so only on HTTPS and to loopback; elsewhere its `Origin` (RFC 6454) has to be
/// the host that it talks to.
fn is_of_our_pages(request: &Request) -> bool {
    let headers = request.headers();
    let only = |name: &str| -> Option<Option<&str>> {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?;
        Some(first.to_str().ok().filter(|_| values.next().is_none()))
    };
    if let Some(site) = only("sec-fetch-site") {
        // `none` is of the user alone: no page has a part in it.
        return matches!(site, Some("same-origin" | "none"));
    }
    let Some(origin) = only("origin") else {
        return true;
    };
    let (Some(origin), Some(host)) = (origin, authority(request.uri().authority(), headers)) else {
        return false;
    };
    let of_origin = match origin.split_once("://") {
        Some(("http", authority)) => (authority, ":80"),
        Some(("https", authority)) => (authority, ":443"),
        _ => return false,
    };
    let without = |authority: &str| {
        let authority = authority.to_ascii_lowercase();
        match authority.strip_suffix(of_origin.1) {
            Some(host) => host.to_owned(),
            None => authority,
        }
    };
    without(of_origin.0) == without(&host)
}

/// Host and port that a request names.
fn authority(target: Option<&Authority>, headers: &HeaderMap) -> Option<String> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    target.map(Authority::as_str).or(host).map(str::to_owned)
}

#[cfg(test)]
mod tests;
