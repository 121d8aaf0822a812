//! `/api/v1/events`: what happens, as it happens (Server-Sent Events, HTML standard section 9.2).
//!
//! Contract: an event `drain` for each window, an event `verdict` for each change of a verdict's
//! state, whoever made it, and an event `config` each time that the configuration is read. At first comes the last drain, so that nobody waits for the next one, unless the
//! client says by `Last-Event-ID` that it has it. Events say that there is something new; what there is,
//! the other resources say, so nothing is lost with an event. An `id` is never given to two of them.
//!
//! There are at most [`STREAMS`] streams, [`STREAMS_PER_CLIENT`] for one address, and none takes the place
//! of another request. A stream ends after [`STREAM_TIME`] and with the agent; a client that has not read
//! [`WAITING`] events and takes nothing for [`SLOW`], or is [`EVENTS`] behind, is cut off. An `EventSource`
//! comes back by itself.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::api::{Counts, SCHEMA, all_segments, rfc3339};
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::Params;
use super::{App, Client, Clients, Peer, REQUEST_TIME};
use crate::model::period::milliseconds;
use crate::model::verdict::VerdictNews;
use crate::model::{ConfigState, Event, Snapshot};
use crate::report::verdicts::{JsonBrief, JsonEvent};

/// Events that a stream may be behind.
pub const EVENTS: usize = 4096;
/// Most streams at a time.
const STREAMS: usize = 64;
/// Most streams at a time to one address.
const STREAMS_PER_CLIENT: usize = 16;
/// Most to a loopback address, behind which there may be everybody.
const STREAMS_PER_PROXY: usize = STREAMS - STREAMS_PER_CLIENT;
/// The longest life of a stream.
const STREAM_TIME: Duration = Duration::from_secs(3600);
/// Something is sent at least so often, so that either side sees when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that wait until a client reads.
const WAITING: usize = 16;
/// How long a client may take nothing while events wait.
const SLOW: Duration = Duration::from_secs(10);
/// When a client should come back, in milliseconds.
const RETRY: u64 = 3000;
/// What is left to a stream to say that it ends.
const FAREWELL: Duration = Duration::from_millis(200);

answer! {
    /// The data of an event `drain`.
    pub(super) struct DrainEvent {
        /// Version of the form of this object.
        schema: u32,
        /// When the drain ended.
        at: String,
        /// Drains since the agent started.
        drains: u64,
        /// Counts of the window.
        window: Counts [Counts],
        /// Sources in the window.
        sources: u64,
        /// Open verdicts.
        open_verdicts: usize,
        /// By how much the conservation law is broken, of all windows; 0 unless counts are wrong.
        conservation_error: u64,
    }
}

answer! {
    /// The data of an event `verdict`.
    pub(super) struct VerdictEvent {
        /// Version of the form of this object.
        schema: u32,
        /// The verdict.
        #[serde(flatten)]
        verdict: JsonBrief [JsonBrief],
        /// What has happened to it.
        event: JsonEvent [JsonEvent],
    }
}

answer! {
    /// The data of an event `config`.
    pub(super) struct ConfigEvent {
        /// Version of the form of this object.
        schema: u32,
        /// Whether what was read is in force now, and not what was before.
        successful: bool,
        /// When what is in force was read; `/api/v1/config` shows it.
        loaded_at: String,
        /// Keys whose values in the file take a restart, as SECTION.KEY.
        restart: Vec<String>,
    }
}

/// What can be asked here.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/events", "events", "What happens, as it happens")
            .text("text/event-stream"),
    ]
}

/// Path and meaning of every field of the data of an event `drain`.
pub fn drain_event_fields() -> Vec<(String, String)> {
    flatten(DrainEvent::FIELDS)
}

/// Path and meaning of every field of the data of an event `verdict`.
pub fn verdict_event_fields() -> Vec<(String, String)> {
    flatten(VerdictEvent::FIELDS)
}

/// Path and meaning of every field of the data of an event `config`.
pub fn config_event_fields() -> Vec<(String, String)> {
    flatten(ConfigEvent::FIELDS)
}

/// The way between a connection and the requests on it.
#[derive(Default)]
pub(super) struct Way {
    streams: Notify,
    cut: Notify,
}

impl Way {
    /// Waits until a request on it has become a stream.
    pub(super) async fn is_stream(&self) {
        self.streams.notified().await;
    }
}

/// Serves a connection that has become a stream to its end.
pub(super) async fn outlast(served: impl Future, way: &Way, shutdown: &mut watch::Receiver<bool>) {
    let mut served = std::pin::pin!(served);
    let ending = tokio::select! {
        _ = served.as_mut() => false,
        () = way.cut.notified() => false,
        // By itself it ends before.
        () = sleep(STREAM_TIME + REQUEST_TIME) => false,
        _ = shutdown.wait_for(|down| *down) => true,
    };
    if ending {
        let _ = timeout(FAREWELL, served).await;
    }
}

/// Who gets events.
pub(super) struct Streams {
    events: broadcast::Sender<Event>,
    shutdown: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    clients: Arc<Clients>,
}

impl Streams {
    pub(super) fn new(events: broadcast::Sender<Event>, shutdown: watch::Receiver<bool>) -> Self {
        Self {
            events,
            shutdown,
            places: Arc::new(Semaphore::new(STREAMS)),
            clients: Arc::default(),
        }
    }
}

pub(super) async fn events(
    State(app): State<App>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(way): Extension<Arc<Way>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    let streams = &app.streams;
    let place = streams.places.clone().try_acquire_owned().ok();
    let most = match peer.is_loopback() {
        true => STREAMS_PER_PROXY,
        false => STREAMS_PER_CLIENT,
    };
    let client = streams.clients.enter(peer, most);
    let (Some(place), Some(client)) = (place, client) else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "there are {STREAMS} streams of events, or {most} to this address; end \
                 another one, or ask for /api/v1/status from time to time"
            ),
        ));
    };
    // Before the snapshot is looked at, so that none is missed between.
    let events = streams.events.subscribe();
    let snapshot = app.snapshot();
    let known = headers
        .get("last-event-id")
        .is_some_and(|id| id.as_bytes() == drain_id(&snapshot).as_bytes());
    let mut first = format!("retry: {RETRY}\n\n");
    if snapshot.last_drain.is_some() && !known {
        first.push_str(&drain_text(&snapshot));
    }
    let (sender, frames) = mpsc::channel(WAITING);
    // There is room.
    let _ = sender.try_send(first.into());
    way.streams.notify_one();
    tokio::spawn(
        Stream {
            events,
            sender,
            shutdown: streams.shutdown.clone(),
            way,
            _places: (place, client),
        }
        .run(),
    );
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
        // nginx would keep events until it has more of them.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((
        axum::response::AppendHeaders(headers),
        Body::new(Frames(frames)),
    )
        .into_response())
}

/// What waits until the client reads.
struct Frames(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// One client.
struct Stream {
    events: broadcast::Receiver<Event>,
    sender: mpsc::Sender<Bytes>,
    shutdown: watch::Receiver<bool>,
    way: Arc<Way>,
    _places: (OwnedSemaphorePermit, Client),
}

impl Stream {
    /// Sends what happens, to the end of the stream.
    async fn run(mut self) {
        let end = Instant::now() + STREAM_TIME;
        loop {
            let text = tokio::select! {
                event = self.events.recv() => match event {
                    Ok(event) => text(&event),
                    Err(RecvError::Lagged(_)) => return self.way.cut.notify_one(),
                    Err(RecvError::Closed) => return,
                },
                () = sleep(KEEP_ALIVE) => ":\n\n".to_owned(),
                () = sleep_until(end) => return,
                () = self.sender.closed() => return,
                _ = self.shutdown.wait_for(|down| *down) => return,
            };
            match timeout(SLOW, self.sender.send(text.into())).await {
                Ok(Ok(())) => {}
                // The client is gone.
                Ok(Err(_)) => return,
                Err(_) => return self.way.cut.notify_one(),
            }
        }
    }
}

fn text(event: &Event) -> String {
    match event {
        Event::Drained(snapshot) => drain_text(snapshot),
        Event::Verdict(news) => {
            let VerdictNews { verdict, event } = &**news;
            let id = format!("verdict-{}-{}-{}", event.verdict, event.at, event.to.name());
            let data = VerdictEvent {
                schema: SCHEMA,
                verdict: verdict.into(),
                event: event.into(),
            };
            message("verdict", &id, &data)
        }
        Event::Reloaded(snapshot) => {
            let ConfigState {
                successful,
                loaded_at,
                reads,
                restart,
            } = &snapshot.config;
            let data = ConfigEvent {
                schema: SCHEMA,
                successful: *successful,
                loaded_at: rfc3339(*loaded_at),
                restart: restart.to_vec(),
            };
            let started = milliseconds(snapshot.identity.started_at.wall);
            message("config", &format!("config-{started}-{reads}"), &data)
        }
    }
}

/// The same drain of the same agent has the same.
fn drain_id(snapshot: &Snapshot) -> String {
    let started = milliseconds(snapshot.identity.started_at.wall);
    format!("drain-{started}-{}", snapshot.drains)
}

fn drain_text(snapshot: &Snapshot) -> String {
    let Some(drain) = &snapshot.last_drain else {
        return String::new();
    };
    let data = DrainEvent {
        schema: SCHEMA,
        at: rfc3339(drain.at.wall),
        drains: snapshot.drains,
        window: (&all_segments(&snapshot.last_window)).into(),
        sources: drain.sources,
        open_verdicts: snapshot.open.len(),
        conservation_error: snapshot.account.conservation_error(),
    };
    message("drain", &drain_id(snapshot), &data)
}

/// One message. JSON is one line, as its strings have no line ends in them.
fn message(event: &str, id: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("events have a form in JSON");
    format!("event: {event}\nid: {id}\ndata: {data}\n\n")
}
