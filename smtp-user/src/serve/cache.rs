//! Answers that are made once and given to everybody who asks the same, until there is something new.
//!
//! Contract: an answer is kept for one snapshot: with the next drain, or when people have decided
//! something, all are dropped; so none is given out as newer than it is. Who asks while an answer is
//! being made waits for that one. There are at most [`ENTRIES`] of them with [`BYTES`] together; the
//! oldest go first.
#![forbid(unsafe_code)]

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::App;
use super::problem::Problem;
use crate::model::Snapshot;

/// Most answers.
const ENTRIES: usize = 256;
/// Most bytes of all of them together, but for one that is larger by itself.
const BYTES: usize = 32 << 20;

/// What was made, whatever it is.
type Made = Arc<dyn Any + Send + Sync>;

struct Slot {
    key: String,
    made: Arc<OnceCell<Made>>,
    bytes: usize,
}

/// See the module. A std mutex: held for a search among few, never across an await.
#[derive(Default)]
pub(super) struct Cache(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    /// What all answers are of.
    of: Option<Arc<Snapshot>>,
    /// The oldest first.
    slots: VecDeque<Slot>,
}

impl Slots {
    fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.bytes).sum()
    }

    fn trim(&mut self) {
        while self.slots.len() > ENTRIES || (self.slots.len() > 1 && self.bytes() > BYTES) {
            self.slots.pop_front();
        }
    }
}

impl Cache {
    /// The place of an answer, under the newest snapshot.
    fn place(&self, key: &str, newest: impl FnOnce() -> Arc<Snapshot>) -> Arc<OnceCell<Made>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at while this is held, so that no older one comes after a newer one.
        let newest = newest();
        if !held.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &newest)) {
            held.slots.clear();
            held.of = Some(newest);
        }
        if let Some(slot) = held.slots.iter().find(|slot| slot.key == key) {
            return slot.made.clone();
        }
        let made = Arc::new(OnceCell::new());
        held.slots.push_back(Slot {
            key: key.to_owned(),
            made: made.clone(),
            bytes: 0,
        });
        held.trim();
        made
    }

    /// Drops all, since somebody has changed something. Whoever waits for one still gets it.
    pub(super) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .slots
            .clear();
    }

    /// Notes how large an answer has become.
    fn weigh(&self, made: &Arc<OnceCell<Made>>, bytes: usize) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = held
            .slots
            .iter_mut()
            .find(|slot| Arc::ptr_eq(&slot.made, made));
        if let Some(slot) = slot {
            slot.bytes = bytes;
            held.trim();
        }
    }
}

impl App {
    /// The answer to a question, made only if nobody has asked it since the last news. A key names
    /// the question and the type of its answer; `weight` is about how many bytes an answer takes.
    pub(super) async fn once<A: Send + Sync + 'static>(
        &self,
        key: &str,
        weight: impl FnOnce(&A) -> usize,
        make: impl Future<Output = Result<A, Problem>>,
    ) -> Result<Arc<A>, Problem> {
        let place = self.cache.place(key, || self.snapshot());
        let made = place
            .get_or_try_init(async || {
                let answer = make.await?;
                let bytes = weight(&answer);
                self.cache.weigh(&place, bytes);
                Ok::<Made, Problem>(Arc::new(answer))
            })
            .await?;
        made.clone().downcast().map_err(|_| {
            Problem::internal(&format_args!("two types of answers have the key {key}"))
        })
    }

    /// The JSON of an answer, likewise.
    pub(super) async fn json_once<A: Serialize>(
        &self,
        key: &str,
        make: impl Future<Output = Result<Arc<A>, Problem>>,
    ) -> Result<Response, Problem> {
        let bytes = self
            .once(&format!("json {key}"), Bytes::len, async {
                let answer = make.await?;
                let json =
                    serde_json::to_vec(&*answer).map_err(|error| Problem::internal(&error))?;
                Ok(Bytes::from(json))
            })
            .await?;
        let headers = [(header::CONTENT_TYPE, "application/json")];
        Ok((headers, Bytes::clone(&bytes)).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::fixture;

    fn filled(cache: &Cache, key: &str, snapshot: &Arc<Snapshot>, bytes: usize) -> bool {
        let place = cache.place(key, || snapshot.clone());
        let known = place.initialized();
        if !known {
            place.set(Arc::new(7_u64)).expect("it was empty");
            cache.weigh(&place, bytes);
        }
        known
    }

    #[test]
    fn an_answer_is_kept_until_the_next_snapshot_and_no_longer() {
        let cache = Cache::default();
        let first = Arc::new(fixture::snapshot(&fixture::rows()));
        assert!(!filled(&cache, "a", &first, 1));
        assert!(filled(&cache, "a", &first, 1));
        assert!(!filled(&cache, "b", &first, 1));
        // The same figures, but another snapshot.
        let second = Arc::new(Snapshot::clone(&first));
        assert!(!filled(&cache, "a", &second, 1));
        assert!(filled(&cache, "a", &second, 1));
        assert!(!filled(&cache, "b", &second, 1));
        cache.forget();
        assert!(!filled(&cache, "a", &second, 1));
    }

    #[test]
    fn answers_are_bounded_in_number_and_in_bytes() {
        let cache = Cache::default();
        let snapshot = Arc::new(fixture::snapshot(&fixture::rows()));
        for key in 0..=ENTRIES {
            assert!(!filled(&cache, &key.to_string(), &snapshot, 1));
        }
        assert!(filled(&cache, "1", &snapshot, 1));
        assert!(!filled(&cache, "0", &snapshot, 1), "the oldest is gone");

        let cache = Cache::default();
        assert!(!filled(&cache, "a", &snapshot, BYTES / 2));
        assert!(!filled(&cache, "b", &snapshot, BYTES / 2));
        assert!(filled(&cache, "a", &snapshot, 1));
        assert!(!filled(&cache, "c", &snapshot, BYTES));
        assert!(filled(&cache, "c", &snapshot, 1));
        assert!(!filled(&cache, "a", &snapshot, 1) && !filled(&cache, "b", &snapshot, 1));
    }
}
