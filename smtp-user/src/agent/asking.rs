//! Answers questions of the server from the store, beside the meter's thread that writes to it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::detect::Policy;
use crate::report::why::why;
use crate::serve::Ask;
use crate::store::Reader;

/// Whom the server asks; `None` without a store.
pub(super) fn ask(config: &Config) -> Option<Ask> {
    if !config.store.enabled {
        return None;
    }
    let policy = Policy::new(
        config.detect.clone(),
        config.networks.local.clone(),
        config.relay.clone(),
    );
    let path = config.store.path.clone();
    // A std mutex, since it is held on a blocking thread only. What cannot be opened now is tried
    // again when somebody asks.
    let reader = Mutex::new(Reader::open(&path).ok());
    Some(Arc::new(move |address| {
        let mut held = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match held.take() {
            Some(reader) => reader,
            None => Reader::open(&path)?,
        };
        let answer = why(&reader, &policy, address);
        if answer.is_ok() {
            *held = Some(reader);
        }
        answer
    }))
}
