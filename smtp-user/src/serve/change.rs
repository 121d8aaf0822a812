//! Requests that change something: what they may be like, and how the change is made.
//!
//! Contract: a body is JSON of at most [`BODY_SIZE`] bytes that is there within [`BODY_TIME`]. Changes are
//! made one after the other, each on a thread that may block; who comes while others are under way waits
//! no longer than [`WAIT`], and what has begun is not given up. The agent is told, and takes the change
//! over at once.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};
use tokio::time::timeout;

use super::App;
use super::problem::Problem;
use crate::failure::{Failure, Kind};
use crate::store::Unchanged;

/// The largest body of a request, in bytes.
const BODY_SIZE: usize = 16 << 10;
/// The longest that a client may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(5);
/// The longest wait for changes of others. With the time that the store waits for a commit of the
/// agent it is less than an answer may take.
const WAIT: Duration = Duration::from_secs(3);

/// A request that changes something, with its whole body.
pub(super) async fn with_body(request: Request) -> Result<Request, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // No browser sends this for a page of another origin without asking us first, and we say no.
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, and say so: Content-Type: application/json".to_owned(),
        ));
    }
    let (head, body) = request.into_parts();
    let body = timeout(BODY_TIME, to_bytes(body, BODY_SIZE)).await;
    let body = body.map_err(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body was not sent within {} s", BODY_TIME.as_secs()),
        )
    })?;
    let body = body.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {BODY_SIZE} bytes, or was not sent to its end"),
        )
    })?;
    Ok(Request::from_parts(head, body.into()))
}

/// Reads a body.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not understood: {error}"),
        )
    })
}

/// A whole number as JSON has it: 298.0 is one as well (RFC 8259, section 6; JSON Schema's integer).
pub(super) fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(from)? else {
        return Ok(None);
    };
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    if !is_whole {
        return Err(D::Error::custom(format!(
            "{number} is no whole number up to {}",
            u32::MAX
        )));
    }
    Ok(Some(number as u32))
}

/// A value of a body that cannot be kept.
pub(super) fn invalid(error: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error)
}

impl App {
    /// Makes a change in the file of the store.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, Unchanged> + Send + 'static,
    ) -> Result<T, Problem> {
        let archive = self.archive()?;
        let permit = timeout(WAIT, self.changes.clone().acquire_owned())
            .await
            .map_err(|_| {
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "others are changing something: nothing was changed, try again".to_owned(),
                )
            })?;
        let (changed, cache) = (self.changed.clone(), self.cache.clone());
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // Said by the work itself, which goes on when the client does not wait for it.
            work(archive.path()).inspect(|_| {
                cache.forget();
                changed();
            })
        })
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(problem)
    }
}

fn problem(unchanged: Unchanged) -> Problem {
    match unchanged {
        Unchanged::Absent(error) => Problem::new(StatusCode::NOT_FOUND, error),
        Unchanged::Conflict(error) => Problem::new(StatusCode::CONFLICT, error),
        Unchanged::Invalid(error) => invalid(error),
        Unchanged::Store(failure) => {
            let text = failure.to_string();
            let Failure { kind, .. } = failure;
            if kind != Kind::Unavailable {
                tracing::error!("{text}");
            }
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}
