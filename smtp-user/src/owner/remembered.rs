//! What sources far away have said, kept for the next call: answers of servers, and routes of routers.
//!
//! Contract: in files of a folder that the operator has made (`owner.state`); without it, or where it cannot be used,
//! everything is asked anew, and that is said once. What is kept is used for as long as it would be in memory and no
//! longer, only for who was asked with the same settings, and never if it is from the future. A file that is damaged
//! or holds what no source says is not used, and that is said. The operator's own files and the routes of this machine
//! are not kept: they are here. Neither are failures, so that whoever has mended something need not wait. Nothing here
//! fails: what cannot be kept costs nobody the answer.

mod answers;
mod folder;
mod routes;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

pub(super) use self::answers::Asked;
use self::folder::Folder;
use super::cache::Cache;
use super::settings::Router;
use super::snmp::Reading;
use crate::model::period::milliseconds;

/// See the module.
#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    /// Whether what was kept is used. It is replaced in any case.
    used: bool,
    folder: OnceLock<Option<Folder>>,
}

impl Remembered {
    /// What is in this folder. It is not opened before it is needed.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            used: true,
            folder: OnceLock::new(),
        }
    }

    /// From now on nothing that was kept is used.
    pub(super) const fn ignore(&mut self) {
        self.used = false;
    }

    fn folder(&self) -> Option<&Folder> {
        let open = || match Folder::open(&self.path) {
            Ok(folder) => Some(folder),
            Err(why) => {
                tracing::info!(
                    "what others say of owners is not kept for the next time: {}: {why} (owner.state)",
                    self.path.display()
                );
                None
            }
        };
        self.folder.get_or_init(open).as_ref()
    }

    /// What a file holds, if it can be used.
    fn read<T>(&self, name: &str, decode: impl FnOnce(&[u8]) -> Result<T, String>) -> Option<T> {
        let folder = self.folder()?;
        let read = match folder.read(name) {
            Ok(None) => return None,
            Ok(Some(body)) => decode(&body),
            Err(why) => Err(why),
        };
        read.map_err(|why| {
            tracing::warn!(
                "{} is not used, and everything is asked anew: {why}",
                self.path.join(name).display()
            );
        })
        .ok()
    }

    fn write(&self, name: &str, body: &[u8]) {
        if let Some(folder) = self.folder()
            && let Err(why) = folder.write(name, body)
        {
            tracing::info!(
                "what others say of owners is not kept in {}: {why} (owner.state)",
                self.path.display()
            );
        }
    }

    /// The routes of a router, and how old they are, if they were read not too long ago.
    pub(super) fn routes(&self, router: &Router, keep: Duration) -> Option<(Reading, Duration)> {
        if !self.used {
            return None;
        }
        let (reading, at) =
            self.read(&routes::name(router), |body| routes::decode(router, body))?;
        let age = age(at, milliseconds(SystemTime::now()))?;
        (age < keep).then_some((reading, age))
    }

    /// Keeps the routes of a router, whose reading began at this time; files of others go when they are older than
    /// routes are used.
    pub(super) fn keep_routes(
        &self,
        router: &Router,
        reading: &Reading,
        at: SystemTime,
        keep: Duration,
    ) {
        let body = routes::encode(router, reading, milliseconds(at));
        self.write(&routes::name(router), &body);
        if let Some(folder) = self.folder() {
            folder.tidy(routes::is_name, keep);
        }
    }

    /// Puts the answers of servers where they are looked for.
    pub(super) fn answers(&self, asked: &Asked, to: &mut Cache) {
        if !self.used {
            return;
        }
        let (now, clock) = (milliseconds(SystemTime::now()), Instant::now());
        let all = self.read(answers::NAME, answers::decode);
        for kept in all.into_iter().flat_map(|all| all.of(asked)) {
            let at = age(kept.at, now).and_then(|age| clock.checked_sub(age));
            if let Some(at) = at {
                let (source, address) = (kept.source, kept.address);
                to.put(source, address, kept.answer(at));
            }
        }
    }

    /// Keeps the answers of servers, beside those that others have kept meanwhile.
    pub(super) fn keep_answers(&self, asked: &Asked, from: &Cache) {
        let others = self.read(answers::NAME, answers::decode);
        let now = milliseconds(SystemTime::now());
        let body = answers::encode(asked, now, others, from.fresh(Instant::now()));
        self.write(answers::NAME, &body);
    }
}

/// How old something is; `None` if it is from the future, as after a clock was set back.
fn age(at: u64, now: u64) -> Option<Duration> {
    now.checked_sub(at).map(Duration::from_millis)
}
