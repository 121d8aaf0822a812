//! `smtpflow top`: who sends now, on a terminal, read from a running agent.
//!
//! Contract: the terminal is as it was when this ends, however it ends, but for SIGKILL. Nothing that
//! the agent says can do anything to it: every text is made printable. An agent that goes away is
//! waited for, and what is shown then says how old it is. What is not on a terminal, or on one that
//! can do nothing (`TERM=dumb`), gets one table.
#![forbid(unsafe_code)]

mod sample;
mod screen;
mod terminal;

use std::io::{IsTerminal as _, Read as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

use self::sample::Sample;
use self::screen::{Screen, Trouble};
use self::terminal::Terminal;
use crate::client::Agent;
use crate::failure::{Failure, Kind};

pub use self::sample::{Sort, SortKey, Span};

/// How long to wait for an agent that was away, or that is late.
const RETRY: Duration = Duration::from_secs(1);
/// How often ages are shown anew.
const TICK: Duration = Duration::from_secs(1);
/// How long after a drain its figures are asked for: the agent publishes them meanwhile.
const PUBLISHED: Duration = Duration::from_millis(200);
/// Rows of one table where nothing else is said.
const ROWS: usize = 20;
/// Most rows that are asked for.
const MAX_ROWS: usize = 500;

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which agent.
    pub agent: Agent,
    /// The order of the sources.
    pub sort: Sort,
    /// Of when their counts are.
    pub span: Span,
    /// Most sources; as many as fit where nothing is said.
    pub rows: Option<usize>,
    /// One table, and the end.
    pub once: bool,
    /// The agent's own JSON instead of a table.
    pub json: bool,
}

/// What came of it where nothing was drawn on a terminal.
pub type Printed = Option<String>;

/// Shows sources until somebody has seen enough; gives what is to be printed instead where there is no
/// terminal to do that on.
pub fn run(options: Options) -> Result<Printed, Failure> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if options.once || options.json || dumb || !terminal {
        return once(&options).map(Some);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let shown = runtime.block_on(show(options));
    // Not dropped: that would wait for an answer that may be under way.
    runtime.shutdown_background();
    shown.map(|()| None)
}

/// One table.
fn once(options: &Options) -> Result<String, Failure> {
    let rows = options.rows.unwrap_or(ROWS);
    let sample = Sample::ask(&options.agent, options.sort, options.span, rows)?;
    if options.json {
        return Ok(format!("{}\n", sample.json));
    }
    let screen = Screen {
        place: options.agent.url.to_string(),
        sort: options.sort,
        span: options.span,
        sample: Some(sample),
        trouble: None,
        colour: false,
    };
    Ok(screen.page(screen::WIDTH))
}

/// Draws until the end.
async fn show(options: Options) -> Result<(), Failure> {
    let Options {
        agent,
        sort,
        span,
        rows,
        once: _,
        json: _,
    } = options;
    // Before the terminal is changed, so that no signal in between leaves it changed.
    let mut ends = Ends::new()?;
    let mut resized = signal(SignalKind::window_change()).context("cannot wait for SIGWINCH")?;
    let mut terminal = Terminal::enter()?;
    let mut keys = keys();
    let mut screen = Screen {
        place: agent.url.to_string(),
        sort,
        span,
        sample: None,
        trouble: None,
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let ask = |screen: &Screen, terminal: &Terminal| -> Asked {
        let (agent, sort, span) = (agent.clone(), screen.sort, screen.span);
        let rows = rows.unwrap_or_else(|| usize::from(terminal.size().1).clamp(1, MAX_ROWS));
        tokio::task::spawn_blocking(move || Sample::ask(&agent, sort, span, rows))
    };
    let mut asked = Some(ask(&screen, &terminal));
    let mut next = Instant::now();
    loop {
        terminal.draw(&screen.frame(terminal.size()))?;
        tokio::select! {
            () = ends.any() => return Ok(()),
            key = keys.recv() => match key {
                None | Some(Key::Quit) => return Ok(()),
                Some(Key::Other(byte)) => if screen.press(byte) {
                    // An answer to the question before is not waited for.
                    asked = Some(ask(&screen, &terminal));
                },
            },
            answer = arrived(&mut asked) => {
                asked = None;
                let answer = answer.context("the asking broke down")?;
                next = Instant::now() + take(&mut screen, answer)?;
            }
            () = sleep_until(next.into()), if asked.is_none() => {
                asked = Some(ask(&screen, &terminal));
            }
            _ = resized.recv() => {}
            () = sleep(TICK) => {}
        }
    }
}

/// A question that is under way.
type Asked = JoinHandle<Result<Sample, Failure>>;

/// The answer to the question that is under way; without one, never.
async fn arrived(
    asked: &mut Option<Asked>,
) -> Result<Result<Sample, Failure>, tokio::task::JoinError> {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

/// Takes an answer over, and says how long to wait with the next question.
fn take(screen: &mut Screen, answer: Result<Sample, Failure>) -> Result<Duration, Failure> {
    match answer {
        Ok(sample) => {
            let wait = match sample.head.age {
                Some(age) => sample.head.window.saturating_sub(age) + PUBLISHED,
                None => RETRY,
            };
            screen.sample = Some(sample);
            screen.trouble = None;
            Ok(wait.max(RETRY))
        }
        // Another token is needed, which does not come by waiting.
        Err(failure) if failure.kind == Kind::NoPermission && screen.sample.is_none() => {
            Err(failure)
        }
        Err(failure) => {
            let since = screen.trouble.take().map(|trouble| trouble.since);
            screen.trouble = Some(Trouble {
                away: failure.kind == Kind::Unavailable,
                since: since.unwrap_or_else(Instant::now),
                text: failure.to_string(),
            });
            Ok(RETRY)
        }
    }
}

/// A key that was pressed.
enum Key {
    Quit,
    Other(u8),
}

/// The keys, from a thread that ends with the program: a read cannot be given up.
fn keys() -> mpsc::Receiver<Key> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut byte = [0];
        // An end of the input is an end of the keys.
        while let Ok(1) = input.read(&mut byte) {
            let key = match byte[0] {
                b'q' | b'Q' | CTRL_C | CTRL_D => Key::Quit,
                other => Key::Other(other),
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Signals that end a program.
struct Ends([Signal; 4]);

impl Ends {
    fn new() -> Result<Self, Failure> {
        let wait = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self([
            wait(SignalKind::interrupt())?,
            wait(SignalKind::terminate())?,
            wait(SignalKind::hangup())?,
            wait(SignalKind::quit())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}
