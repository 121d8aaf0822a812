//! Whose hosts the page shows: looked up beside everything else.
//!
//! Contract: nothing runs until a page asks and the operator has named sources. One thread asks them, nicer
//! than all others; a page waits for it at most [`PATIENCE`], and what took longer is there when it is loaded
//! again, for the thread goes on. At most [`WAITING`] addresses wait. The operator's files are read again
//! when the configuration is.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::Config;
use crate::model::owner::Owner;
use crate::owner::Desk;

/// How long a page waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Most addresses that wait to be looked up.
const WAITING: usize = 64;
/// How nice the thread is.
const NICE: i32 = 10;

/// What a page can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: no source is named.
    Off,
    /// What the sources say.
    Answer(Owner),
    /// Why there is no answer, at least not now.
    Not(String),
}

struct Question {
    config: Arc<Config>,
    address: IpAddr,
    answer: oneshot::Sender<Result<Owner, String>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owners(OnceLock<Option<SyncSender<Question>>>);

impl Owners {
    /// Whose host an address is, by the sources of this configuration.
    pub(super) async fn of(&self, config: Arc<Config>, address: IpAddr) -> Known {
        if !config.owner.enabled() {
            return Known::Off;
        }
        let not = |why: &str| Known::Not(why.to_owned());
        let Some(questions) = self.0.get_or_init(start) else {
            return not("no thread could be started to look it up");
        };
        let (answer, answered) = oneshot::channel();
        match questions.try_send(Question {
            config,
            address,
            answer,
        }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return not("too many addresses are being looked up; ask again later");
            }
            Err(TrySendError::Disconnected(_)) => return not("the look-up has ended"),
        }
        match timeout(PATIENCE, answered).await {
            Ok(Ok(Ok(owner))) => Known::Answer(owner),
            Ok(Ok(Err(why))) => Known::Not(why),
            Ok(Err(_)) => not("the look-up ended without an answer"),
            Err(_) => not("it is being looked up; ask again in a moment"),
        }
    }
}

fn start() -> Option<SyncSender<Question>> {
    let (sender, questions) = sync_channel(WAITING);
    let started = thread::Builder::new()
        .name("owner".to_owned())
        .spawn(move || answer(&questions));
    match started {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!("cannot start the thread that looks up owners: {error}");
            None
        }
    }
}

/// Answers until nobody can ask any more.
fn answer(questions: &Receiver<Question>) {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("looking up owners competes with the other threads: {error}");
    }
    let mut made: Option<(Arc<Config>, Result<Desk, String>)> = None;
    for Question {
        config,
        address,
        answer,
    } in questions
    {
        // Each time that the configuration is read it is another one, also if the same stands in it.
        if made
            .as_ref()
            .is_none_or(|(other, _)| !Arc::ptr_eq(other, &config))
        {
            let desk = Desk::new(&config.owner, config.meter.netns.as_deref()).map_err(|failure| {
                tracing::error!("owners are not looked up: {failure}");
                failure.to_string()
            });
            made = Some((config, desk));
        }
        let said = match &mut made {
            Some((_, Ok(desk))) => {
                // A desk that does not stand an answer is made anew, and nothing else ends.
                catch_unwind(AssertUnwindSafe(|| desk.owner(address, false)))
                    .map_err(|_| "an answer about it could not be read".to_owned())
            }
            Some((_, Err(why))) => Err(why.clone()),
            None => Err("there is nobody to ask".to_owned()),
        };
        let broken = said.is_err() && matches!(made, Some((_, Ok(_))));
        // Whoever asked may have gone; the desk remembers.
        let _ = answer.send(said);
        if broken {
            made = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    }

    fn config(text: &str) -> Arc<Config> {
        Arc::new(Config::from_toml("test", text).expect("a configuration"))
    }

    fn name(known: &Known) -> Option<&str> {
        match known {
            Known::Answer(owner) => owner.contact().map(|contact| &*contact.name),
            _ => None,
        }
    }

    #[test]
    fn files_are_read_when_the_configuration_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("contacts.csv");
        let write = |name: &str| {
            fs::write(&file, format!("prefix,name\n192.0.2.0/24,{name}\n")).expect("written");
        };
        write("Physics");
        let config = || {
            config(&format!(
                "[owner]\norder = [\"contacts\"]\ncontacts = [{file:?}]\n"
            ))
        };
        let address = "192.0.2.7".parse().expect("an address");
        runtime().block_on(async {
            let owners = Owners::default();
            assert_eq!(owners.of(Arc::default(), address).await, Known::Off);
            assert!(owners.0.get().is_none(), "a thread for nothing");
            let first = config();
            let known = owners.of(first.clone(), address).await;
            assert_eq!(name(&known), Some("Physics"), "{known:?}");
            write("Chemistry");
            let known = owners.of(first, address).await;
            assert_eq!(name(&known), Some("Physics"), "{known:?}");
            let known = owners.of(config(), address).await;
            assert_eq!(name(&known), Some("Chemistry"), "{known:?}");
            fs::write(&file, "prefix,name\n192.0.2.0/24\n").expect("written");
            let known = owners.of(config(), address).await;
            assert!(
                matches!(&known, Known::Not(why) if why.contains("contacts.csv:2")),
                "{known:?}"
            );
        });
    }

    #[test]
    fn a_page_waits_a_moment_and_never_more() {
        // It takes questions and answers none.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let mut held = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0]);
                held.push(stream);
            }
        });
        let config = config(&format!(
            "[owner]\norder = [\"whois\"]\ntimeout = \"5s\"\nwhois = [\"{at}\"]\n"
        ));
        let address = "192.0.2.7".parse().expect("an address");
        runtime().block_on(async {
            let owners = Owners::default();
            let begun = Instant::now();
            let known = owners.of(config.clone(), address).await;
            assert!(
                matches!(&known, Known::Not(why) if why.contains("being looked up")),
                "{known:?}"
            );
            assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
            // The thread goes on: when the server's time is over, it is known that it does not answer.
            tokio::time::sleep(Duration::from_secs(5)).await;
            let known = owners.of(config.clone(), address).await;
            assert!(
                matches!(&known, Known::Answer(owner) if owner.contact().is_none()),
                "{known:?}"
            );
        });
    }

    #[test]
    fn only_so_many_wait() {
        let owners = Owners::default();
        let (sender, _held) = sync_channel(0);
        owners.0.set(Some(sender)).expect("nobody has asked yet");
        let config = config("[owner]\norder = [\"kernel\"]\n");
        let known = runtime().block_on(owners.of(config, [192, 0, 2, 7].into()));
        assert!(
            matches!(&known, Known::Not(why) if why.contains("too many")),
            "{known:?}"
        );
    }
}
