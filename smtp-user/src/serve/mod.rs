//! The HTTP server: page, metrics and API.
//!
//! Contract: every answer is made from one [`Snapshot`], and from the sources of the same window where
//! it shows any, so its figures fit together; no request can hold up a drain. Clients cannot hold the server up either: headers have to be there within
//! `HEADER_TIME`, an answer within `REQUEST_TIME`, it has to be taken, a connection ends after
//! `CONNECTION_TIME`, and there are only so many (`places`).
//! Whoever does not come from loopback needs a token, and whoever changes something the act token
//! ([`auth`]).
#![forbid(unsafe_code)]

mod api;
pub mod auth;
mod cache;
mod change;
mod complaints;
mod config;
mod distribution;
mod events;
mod evidence;
mod interfaces;
pub mod metrics;
mod notices;
mod openapi;
mod owner;
mod owners;
mod page;
mod pairs;
mod places;
mod problem;
mod query;
mod ready;
mod relays;
mod reports;
mod routes;
mod series;
mod session;
mod source;
mod sources;
mod trend;
mod verdicts;
mod why;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use self::cache::Cache;
use self::events::{Streams, Way};
use self::owners::Owners;
use self::places::{Place, Places, Progress, Watched};
use self::problem::Problem;
use self::series::Sums;
use crate::answer as document;
use crate::archive::Archive;
use crate::config::{self as configuration, Config};
use crate::connections::SharedConnections;
use crate::failure::{Failure, Kind};
use crate::model::{Event, Snapshot};
use crate::secret::Token;
use crate::source_list::{SharedSources, SourceList};

pub use self::api::status_fields;
pub use self::complaints::{complaint_change_fields, complaints_fields};
pub use self::config::config_fields;
pub use self::distribution::distribution_fields;
pub use self::events::{EVENTS, config_event_fields, drain_event_fields, verdict_event_fields};
pub use self::evidence::evidence_fields;
pub use self::interfaces::interfaces_fields;
pub use self::notices::{notice_fields, notices_fields};
pub use self::owner::owner_fields;
pub use self::pairs::pairs_fields;
pub use self::ready::ready_fields;
pub use self::relays::{relay_change_fields, relays_fields};
pub use self::reports::report_fields;
pub use self::routes::routes;
pub use self::series::{network_series_fields, series_fields};
pub use self::source::source_fields;
pub use self::sources::sources_fields;
pub use self::verdicts::{verdict_fields, verdicts_fields};

/// The longest that a client may take to send the headers of a request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// The longest that the making of an answer may take.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// The longest life of a connection, so that clients that read nothing do not stay.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// What is left to a client to take the end of an answer, and to close.
const FAREWELL: Duration = Duration::from_secs(8);
/// What may wait in the kernel to be sent to one client, in bytes; Linux takes twice as much for it. Beyond
/// it a client that does not read is noticed, and memory is not taken by it.
const SEND_BUFFER: usize = 64 << 10;
/// What a client may say in vain before its connection is closed, in bytes.
const IN_VAIN: usize = 1 << 20;
/// What is left to requests under way when the agent ends.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);
/// The largest request head, in bytes.
const HEAD_SIZE: usize = 16 << 10;
/// Answers that look at all sources at a time: each keeps one CPU busy.
const SCANS: usize = 2;
/// Answers that look into history at a time, likewise.
const LOOKS: usize = 2;

/// On every answer: no script, style or connection but our own, no frame, no guessing of types.
const SECURITY_HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Where to serve, and to whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that the listener is bound to.
    pub listen: SocketAddr,
    /// What clients that do not come from loopback have to send.
    pub token: Option<Token>,
    /// What clients that change something have to send. It reads as well.
    pub act_token: Option<Token>,
}

impl Options {
    /// On this address, with the tokens that are in their files now.
    fn read(listen: SocketAddr, config: &configuration::Serve) -> Result<Self, Failure> {
        let configuration::Serve {
            listen: _,
            token_file,
            act_token_file,
            public_url: _,
        } = config;
        let token = token_file.as_deref().map(Token::load).transpose()?;
        let act_token = act_token_file.as_deref().map(Token::load).transpose()?;
        if let (Some(token), Some(act_token)) = (&token, &act_token)
            && token.equals(act_token)
        {
            return Err(Failure::new(
                Kind::BadConfig,
                "the act token (serve.act_token_file) is the read token (serve.token_file), so that \
                 whoever may read could change; make another one: openssl rand -hex 32",
            ));
        }
        if token.is_none() && act_token.is_none() && !listen.ip().to_canonical().is_loopback() {
            return Err(Failure::new(
                Kind::BadConfig,
                format!(
                    "cannot serve on {listen} without a token: everybody who reaches it could read who \
                     sends mail; name a file with one (serve.token_file), or listen on \
                     127.0.0.1:{} and come through SSH or a proxy",
                    listen.port()
                ),
            ));
        }
        Ok(Self {
            listen,
            token,
            act_token,
        })
    }

    /// The same address with the tokens that are in their files now.
    pub fn reload(&self, config: &configuration::Serve) -> Result<Self, Failure> {
        Self::read(self.listen, config)
    }
}

/// Takes the port, before anything else is done that would have to be undone.
pub fn bind(config: &configuration::Serve) -> Result<(TcpListener, Options), Failure> {
    let listen = config.listen;
    let mut options = Options::read(listen, config)?;
    let listener = TcpListener::bind(listen).map_err(|error| {
        let (kind, way_out) = match error.kind() {
            ErrorKind::AddrInUse => (
                Kind::Unavailable,
                "see who has it (ss -ltnp), or choose another port with --listen ADDR:PORT",
            ),
            ErrorKind::AddrNotAvailable => (
                Kind::Unavailable,
                "no interface has this address (ip address); choose another with --listen ADDR:PORT",
            ),
            ErrorKind::PermissionDenied => (
                Kind::NoPermission,
                "ports below 1024 are for root; choose another with --listen ADDR:PORT",
            ),
            _ => (
                Kind::Unavailable,
                "choose another address with --listen ADDR:PORT",
            ),
        };
        Failure::new(
            kind,
            format!("cannot serve on {listen}: {error}; {way_out}"),
        )
    })?;
    // Port 0 means any: what clients have to name is the one that it became.
    options.listen = listener
        .local_addr()
        .context("cannot ask for the address of the listener")?;
    Ok((listener, options))
}

/// What is served, and who is told of changes.
pub struct Feed {
    /// The newest figures.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The connections of the same window.
    pub connections: SharedConnections,
    /// The sources of the same window.
    pub sources: SharedSources,
    /// History, if there is a store.
    pub archive: Option<Arc<Archive>>,
    /// What happens; there should be room for [`EVENTS`].
    pub events: broadcast::Sender<Event>,
    /// Is called when something was changed in the store.
    pub changed: Arc<dyn Fn() + Send + Sync>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
}

impl Feed {
    /// Of these figures, which nobody tells changes of, without history.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        connections: SharedConnections,
        sources: SharedSources,
    ) -> Self {
        Self {
            snapshots,
            connections,
            sources,
            archive: None,
            events: broadcast::channel(EVENTS).0,
            changed: Arc::new(|| {}),
            config: watch::channel(Arc::default()).1,
        }
    }
}

/// What handlers share.
#[derive(Clone)]
struct App {
    options: watch::Receiver<Arc<Options>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    connections: SharedConnections,
    sources: SharedSources,
    archive: Option<Arc<Archive>>,
    trends: Arc<trend::Trends>,
    changed: Arc<dyn Fn() + Send + Sync>,
    streams: Arc<Streams>,
    scans: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    config: watch::Receiver<Arc<Config>>,
    cache: Arc<Cache>,
    sums: Arc<Sums>,
    owners: Arc<Owners>,
}

impl App {
    /// The newest figures.
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Who may read and change.
    fn options(&self) -> Arc<Options> {
        self.options.borrow().clone()
    }

    /// The configuration in force.
    fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Does something that looks at all sources, where it holds up nobody.
    async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Snapshot, &SourceList) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = self.scans.clone().acquire_owned().await;
        let app = self.clone();
        tokio::task::spawn_blocking(move || {
            // Held by the work itself, which goes on when the client does not wait for it.
            let _permit = permit;
            // In this order: the recorder publishes a snapshot while it holds the list.
            let sources = app.sources.read();
            work(&app.snapshot(), &sources)
        })
        .await
        .map_err(|error| Problem::internal(&error))
    }

    /// What history is read from.
    fn archive(&self) -> Result<Arc<Archive>, Problem> {
        self.archive.clone().ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "this agent keeps no history to answer from: it runs without a store \
                 (store.enabled)"
                    .to_owned(),
            )
        })
    }

    /// Reads from history, where it holds up nobody.
    async fn look_up<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Archive) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Problem> {
        let archive = self.archive()?;
        // Not those of scans: a question about a year must not keep others from the list in memory.
        let permit = self.looks.clone().acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&archive)
        })
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|failure| Problem::new(StatusCode::SERVICE_UNAVAILABLE, failure.to_string()))
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

/// Serves until `shutdown` becomes true or its sender is gone. `options` are those of the listener; their
/// tokens may change meanwhile.
pub async fn serve(
    listener: TcpListener,
    options: watch::Receiver<Arc<Options>>,
    feed: Feed,
    mut shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    listener
        .set_nonblocking(true)
        .context("cannot use the listener")?;
    // Its connections have it from it.
    nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::SndBuf, &SEND_BUFFER)
        .context("cannot limit what waits to be sent")?;
    let listener =
        tokio::net::TcpListener::from_std(listener).context("cannot use the listener")?;
    let router = router(options, feed, shutdown.clone());
    accept(&listener, &router, &mut shutdown).await;
    Ok(())
}

/// Accepts connections until the end, then waits for those under way.
async fn accept(
    listener: &tokio::net::TcpListener,
    router: &Router,
    shutdown: &mut watch::Receiver<bool>,
) {
    let places = Arc::new(Places::default());
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let (stream, peer) = listener.accept().await?;
            let peer = peer.ip().to_canonical();
            // Without a place it is closed by being dropped.
            let place = places.enter(peer).await;
            Ok::<_, std::io::Error>(place.map(|place| (stream, peer, place)))
        };
        let accepted = tokio::select! {
            next = next => next,
            _ = shutdown.wait_for(|down| *down) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(Some((stream, peer, place))) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(connection(stream, peer, place, router, shutdown));
            }
            Ok(None) => {}
            Err(error) => {
                // Out of descriptors, for example; trying again at once would only burn the CPU.
                tracing::warn!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIME, all).await.is_err() {
        tracing::info!("closing HTTP connections that did not end by themselves");
    }
}

/// Serves one connection to its end. It has its place as long as it is no stream of events: those
/// have places of their own.
async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    place: Place,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let way = Arc::new(Way::default());
    let of_requests = way.clone();
    // Answers are written in one piece, so waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let progress = place.progress.clone();
    let answers = progress.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(of_requests.clone());
        request.extensions_mut().insert(answers.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        let answering = answers.answers();
        async move {
            let _answering = answering;
            answer.await
        }
    });
    let mut builder = http1::Builder::new();
    builder
        // Without a timer, the limit below is silently none.
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        // In one buffer: hyper 1.12 puts its answer to what is no HTTP before the end of the answer to the
        // request in front of it, when that still lies in a buffer of its own; in a debug build it panics.
        .writev(false)
        .max_buf_size(HEAD_SIZE);
    let watched = Watched::new(stream.clone(), progress.clone());
    let mut served = Box::pin(builder.serve_connection(TokioIo::new(watched), service));
    let mut place = Some(place);
    let ending = async {
        let stream = tokio::select! {
            // Errors are the client's: gone, too slow, not HTTP.
            _ = served.as_mut() => return,
            _ = shutdown.wait_for(|down| *down) => false,
            () = sleep(CONNECTION_TIME) => false,
            () = way.is_stream() => true,
        };
        served.as_mut().graceful_shutdown();
        if stream {
            drop(place.take());
            events::outlast(served.as_mut(), &way, &mut shutdown).await;
        } else {
            let _ = timeout(REQUEST_TIME, served.as_mut()).await;
        }
    };
    let ended = tokio::select! {
        () = ending => true,
        () = progress.gives_way() => false,
        () = progress.is_stuck() => false,
    };
    drop(served);
    let well = ended
        && tokio::select! {
            well = farewell(&stream, &progress) => well,
            () = progress.gives_way() => false,
            _ = shutdown.wait_for(|down| *down) => true,
        };
    if !well {
        // What the client does not take is not kept for it by the kernel either.
        let _ = stream.set_zero_linger();
    }
}

/// Says that nothing more comes, and waits until the client has taken what was sent and closes as well: if
/// it were closed while the client still says something, what was sent could be lost on its way.
async fn farewell(stream: &TcpStream, progress: &Progress) -> bool {
    if !progress.has_sent() || shutdown_of(stream).is_err() {
        return true;
    }
    let closed = async {
        let (mut scrap, mut said) = ([0; 4096], 0);
        while said < IN_VAIN && stream.readable().await.is_ok() {
            match stream.try_read(&mut scrap) {
                Ok(0) => return true,
                Ok(bytes) => said += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        false
    };
    timeout(FAREWELL, closed).await.unwrap_or(false)
}

/// Ends what is sent, not what is read.
fn shutdown_of(stream: &TcpStream) -> nix::Result<()> {
    nix::sys::socket::shutdown(stream.as_raw_fd(), nix::sys::socket::Shutdown::Write)
}

/// All routes, behind the guard, with the security headers on every answer.
fn router(
    options: watch::Receiver<Arc<Options>>,
    feed: Feed,
    shutdown: watch::Receiver<bool>,
) -> Router {
    let Feed {
        snapshots,
        connections,
        sources,
        archive,
        events,
        changed,
        config,
    } = feed;
    let app = App {
        options,
        snapshots,
        connections,
        sources,
        archive,
        trends: Arc::default(),
        changed,
        streams: Arc::new(Streams::new(events, shutdown)),
        scans: Arc::new(Semaphore::new(SCANS)),
        looks: Arc::new(Semaphore::new(LOOKS)),
        changes: Arc::new(Semaphore::new(1)),
        config,
        cache: Arc::default(),
        sums: Arc::default(),
        owners: Arc::default(),
    };
    routes::router()
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .layer(middleware::map_response(harden))
        .with_state(app)
}

/// Lets a request through, or says why not; and does not wait for its answer for ever.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let allowed = routes::methods(route.map(MatchedPath::as_str));
    let method = request.method().clone();
    if !allowed.split(", ").any(|name| name == method.as_str()) {
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "{method} is not allowed for {}, but {allowed}",
                request.uri().path()
            ),
        );
        return ([(header::ALLOW, allowed)], problem).into_response();
    }
    let answer = async {
        if method == Method::POST {
            auth::may_change(&app.options(), &request).map_err(|denied| denied.answer(&request))?;
            let progress = request.extensions().get::<Arc<Progress>>();
            let waiting = progress.map(Progress::waits);
            let request = change::with_body(request)
                .await
                .map_err(IntoResponse::into_response)?;
            drop(waiting);
            return Ok(next.run(request).await);
        }
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        auth::may_read(&app.options(), peer, &request).map_err(|denied| denied.answer(&request))?;
        Ok(next.run(request).await)
    };
    match timeout(REQUEST_TIME, answer).await {
        Ok(Ok(answer) | Err(answer)) => answer,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "no answer within {} s: too much is asked at once, by this request or by others; ask for \
                 a shorter period or fewer rows, or try again",
                REQUEST_TIME.as_secs()
            ),
        )
        .into_response(),
    }
}

/// Adds the security headers, and forbids caching where nothing else is said.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
