//! Places of connections: who has one, and who gives way to whom.
//!
//! Contract: there are at most [`CONNECTIONS`] places, [`CONNECTIONS_PER_CLIENT`] for one address and
//! [`CONNECTIONS_PER_PROXY`] for a loopback address, which may stand for many behind a proxy. Whoever comes
//! when all are taken, those of its address or those of all, takes that of the connection that has got
//! nowhere for the longest time; only a connection whose request is being answered does not give way. So who
//! holds connections open and says or reads nothing holds up nobody, not even at its own address: a request
//! is sent in less time than it takes to open so many others.
//!
//! A connection gets somewhere when it is opened, when an answer is made, and with every [`STEP`] bytes of it
//! that are taken. [`Progress::is_stuck`] tells when an answer waits and it has got nowhere for [`STUCK_TIME`].
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Most connections at a time. Tests have both ends of each in one process.
pub(super) const CONNECTIONS: usize = if cfg!(test) { 320 } else { 640 };
/// Most connections at a time from one address.
pub(super) const CONNECTIONS_PER_CLIENT: usize = 32;
/// Most from a loopback address, from which everybody comes who is behind a proxy: the proxy knows
/// them apart, and can limit each of them. Some places are left to others.
pub(super) const CONNECTIONS_PER_PROXY: usize = CONNECTIONS - CONNECTIONS_PER_CLIENT;
/// How long an answer may wait for a client to take more of it.
const STUCK_TIME: Duration = Duration::from_secs(10);
/// How much of an answer has to be taken in this time, in bytes: 1.6 kB/s is less than any line has.
const STEP: usize = 16 << 10;
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Most connections of an address.
const fn most_of(address: IpAddr) -> usize {
    if address.is_loopback() {
        CONNECTIONS_PER_PROXY
    } else {
        CONNECTIONS_PER_CLIENT
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// A std mutex: held for a look at all of them, never across an await.
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    /// The number of the next connection.
    next: u64,
    connections: HashMap<u64, (IpAddr, Arc<Progress>)>,
}

impl Taken {
    /// Takes the place of the connection, of this address or of any, that has got nowhere for the longest time.
    fn make_way(&mut self, address: Option<IpAddr>) -> bool {
        let oldest = self
            .connections
            .iter()
            .filter(|(_, (of, _))| address.is_none_or(|address| address == *of))
            .filter_map(|(number, (_, progress))| Some((progress.waits_since()?, *number)))
            .min();
        let Some((_, number)) = oldest else {
            return false;
        };
        if let Some((_, progress)) = self.connections.remove(&number) {
            progress.gives_way.notify_one();
        }
        true
    }
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    /// How the connection gets on.
    pub(super) progress: Arc<Progress>,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of this address; `None` if all requests that its address may have are being
    /// answered. Waits where that is so of all places.
    pub(super) async fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        loop {
            let freed = self.freed.notified();
            {
                let mut taken = self.taken();
                let of_address = taken.connections.values();
                let of_address = of_address.filter(|(of, _)| *of == address).count();
                if of_address >= most_of(address) && !taken.make_way(Some(address)) {
                    return None;
                }
                if taken.connections.len() < CONNECTIONS || taken.make_way(None) {
                    let number = taken.next;
                    taken.next += 1;
                    let progress = Arc::new(Progress::default());
                    taken
                        .connections
                        .insert(number, (address, progress.clone()));
                    return Some(Place {
                        places: self.clone(),
                        number,
                        progress,
                    });
                }
            }
            // A request that is answered frees no place, but its connection may then give way.
            tokio::select! {
                () = freed => {}
                () = sleep(LOOK / 10) => {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().connections.remove(&self.number);
        self.places.freed.notify_one();
    }
}

/// How a connection gets on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    gives_way: Notify,
}

#[derive(Debug)]
struct State {
    /// When it last got somewhere.
    since: Instant,
    /// Requests that are being answered: one or none.
    answering: usize,
    /// Whether an answer waits until the client takes more of it.
    full: bool,
    /// Bytes of answers, since the last step.
    step: usize,
    /// Whether anything was ever sent.
    sent: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            answering: 0,
            full: false,
            step: 0,
            sent: false,
        }
    }
}

impl State {
    /// Whether an answer waits, and has waited for too long.
    fn is_stuck(&self) -> bool {
        self.full && self.answering == 0 && self.since.elapsed() >= STUCK_TIME
    }
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when nothing has come of the connection, unless a request is being answered.
    fn waits_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.answering == 0).then_some(state.since)
    }

    /// A request is being answered as long as what is returned lives.
    pub(super) fn answers(self: &Arc<Self>) -> Answering {
        self.state().answering += 1;
        Answering(self.clone())
    }

    /// The request that is being answered waits for its client again, for its body, as long as what is
    /// returned lives.
    pub(super) fn waits(self: &Arc<Self>) -> Waiting {
        self.state().answering -= 1;
        Waiting(self.clone())
    }

    /// Whether the client has been sent anything.
    pub(super) fn has_sent(&self) -> bool {
        self.state().sent
    }

    /// Waits until the connection has to give way to another one.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }

    /// Waits until the client does not take what it has asked for.
    pub(super) async fn is_stuck(&self) {
        loop {
            sleep(LOOK).await;
            if self.state().is_stuck() {
                return;
            }
        }
    }

    fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        state.sent = true;
        state.full = false;
        state.step += bytes;
        if state.step >= STEP {
            state.step = 0;
            state.since = Instant::now();
        }
    }
}

/// See [`Progress::answers`].
pub(super) struct Answering(Arc<Progress>);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.since = Instant::now();
    }
}

/// See [`Progress::waits`].
pub(super) struct Waiting(Arc<Progress>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state().answering += 1;
    }
}

/// One end of a connection, which tells how it gets on. It is closed by whoever shares the stream.
pub(super) struct Watched {
    stream: Arc<TcpStream>,
    progress: Arc<Progress>,
}

impl Watched {
    pub(super) const fn new(stream: Arc<TcpStream>, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }

    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.poll_write_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.progress.state().full = true;
                    return Poll::Pending;
                }
            }
            match write(&self.stream) {
                Ok(bytes) => {
                    self.progress.wrote(bytes);
                    return Poll::Ready(Ok(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Does it, on this thread.
    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(work)
    }

    /// Whether a place was taken by another one.
    fn is_gone(place: &Place) -> bool {
        let taken = place.places.taken();
        !taken.connections.contains_key(&place.number)
    }

    /// This many places of an address, the first of which is the oldest.
    async fn held(places: &Arc<Places>, address: IpAddr, count: usize) -> Vec<Place> {
        let mut held: Vec<Place> = Vec::new();
        for _ in 0..count {
            for older in &held {
                older.progress.state().since -= LOOK;
            }
            held.push(places.enter(address).await.expect("a place"));
        }
        held
    }

    #[test]
    fn the_one_that_has_got_nowhere_for_longest_gives_way_to_its_own_address() {
        run(async {
            let places = Arc::new(Places::default());
            let other = held(&places, "192.0.2.2".parse().expect("an address"), 1).await;
            other[0].progress.state().since -= LOOK * 1000;
            let held = held(&places, CLIENT, CONNECTIONS_PER_CLIENT).await;
            // The first is being answered, the second has just been.
            let answering = held[0].progress.answers();
            drop(held[1].progress.answers());
            held[2].progress.wrote(STEP);
            held[3].progress.wrote(STEP - 1);
            let new = places.enter(CLIENT).await.expect("a place");
            held[3].progress.gives_way().await;
            let gone: Vec<usize> = (0..held.len()).filter(|&i| is_gone(&held[i])).collect();
            assert_eq!(gone, [3]);
            assert!(!is_gone(&other[0]) && !is_gone(&new));
            drop(answering);
        });
    }

    #[test]
    fn nobody_gives_way_while_it_is_answered() {
        run(async {
            let places = Arc::new(Places::default());
            let held = held(&places, CLIENT, CONNECTIONS_PER_CLIENT).await;
            let mut answering: Vec<_> = held.iter().map(|place| place.progress.answers()).collect();
            assert!(places.enter(CLIENT).await.is_none());
            answering.pop();
            let _new = places.enter(CLIENT).await.expect("a place");
            // Nothing is done yet for whoever has not sent its body.
            let _waiting = held[0].progress.waits();
            let _newer = places.enter(CLIENT).await.expect("a place");
            assert!(is_gone(&held[0]));
        });
    }

    #[test]
    fn many_addresses_together_make_way_as_well_or_are_waited_for() {
        run(async {
            let places = Arc::new(Places::default());
            let mut all = Vec::new();
            for number in 0..(CONNECTIONS / CONNECTIONS_PER_CLIENT) as u8 {
                let address = IpAddr::from([198, 51, 100, number]);
                all.extend(held(&places, address, CONNECTIONS_PER_CLIENT).await);
            }
            assert_eq!(all.len(), CONNECTIONS);
            all[5].progress.state().since -= LOOK * 1000;
            let new = places.enter(CLIENT).await.expect("a place");
            let gone: Vec<usize> = (0..all.len()).filter(|&i| is_gone(&all[i])).collect();
            assert_eq!(gone, [5]);
            all[5] = new;
            let mut answering: Vec<_> = all.iter().map(|place| place.progress.answers()).collect();
            let late = tokio::time::timeout(LOOK, places.enter(CLIENT)).await;
            assert!(late.is_err());
            answering.pop();
            let late = tokio::time::timeout(LOOK, places.enter(CLIENT)).await;
            assert!(late.is_ok_and(|place| place.is_some()));
        });
    }

    #[test]
    fn a_client_that_takes_little_is_stuck_and_one_that_takes_enough_is_not() {
        for (bytes, stuck) in [(STEP / 16, true), (STEP / 8, false)] {
            let progress = Arc::new(Progress::default());
            let ended = (0..70).any(|_| {
                progress.wrote(bytes);
                let mut state = progress.state();
                assert!(!state.is_stuck(), "nothing waits");
                state.full = true;
                // A second later.
                state.since -= Duration::from_secs(1);
                state.is_stuck()
            });
            assert_eq!(ended, stuck, "{bytes} bytes a second");
            let _answering = progress.answers();
            assert!(!progress.state().is_stuck());
        }
    }
}
