//! The page: screens made here, static files in the program.
//!
//! Contract: every screen is a URL of its own that is complete as it is sent; the script only keeps it up
//! to date. Nothing is fetched from elsewhere, nothing is inline. Screens are made from the answers of
//! the API (`sources::view` and the like), so they cannot show other numbers. askama escapes whatever a
//! template shows; `|safe` is for nothing that came from outside.
//!
//! # To add a screen
//!
//! 1. A file here, `verdicts.rs`, with a struct that embeds the [`Layout`] as `layout`:
//!    ```text
//!    use super::{Layout, Screen, filters, show};      // filters: for `|grouped` and the like
//!    #[derive(askama::Template)]
//!    #[template(path = "verdicts.html")]
//!    struct Page { layout: Layout, list: crate::serve::verdicts::Answer }
//!    pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
//!        show(&app, make(&app, &uri).await)           // a Problem becomes a page of its own
//!    }
//!    ```
//!    with `Layout::new(&app.snapshot(), Screen::Verdicts)`, and `.of("192.0.2.7")` for a title of its own.
//! 2. `templates/verdicts.html`: `{% extends "layout.html" %}`, blocks `main` (one `<h1>`; sections with
//!    `<h2>`) and, for more scripts, `head`. Values through [`filters`]: `grouped bytes duration minute
//!    second clock ago host severity state`, and `outside` for what others have written. Charts from [`svg`], as `{{ chart }}`; links with a query from
//!    [`link`]; rows of sources from [`rows`].
//! 3. A variant of [`Screen`] (its name and path), and a route in [`ROUTES`]. It is then in the navigation.
//! 4. Static files: a line in `files.rs`. Classes: see the head of `static/style.css`.
//!
//! For the script: `#gateway` and `<main>` are replaced piece by piece after each drain; what has an `id`
//! is found again by it, so give one to whatever keeps a state (`details`, fields). Links and GET forms inside
//! `<main>` are followed without a full load, unless they have `data-full`. What has `data-keep` is left alone.
#![forbid(unsafe_code)]

mod complaints;
mod distribution;
mod files;
mod filters;
mod host;
mod lean;
mod life;
mod link;
mod notices;
mod overview;
mod relays;
mod report;
mod rows;
mod sources;
mod span;
mod state;
mod svg;
mod system;
mod timeline;
mod verdicts;
mod words;

use askama::Template;
use axum::extract;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;

pub(super) use self::files::{paths as paths_of_files, routes as files};
use self::state::{Point, State};
use super::App;
use super::problem::{self, Problem};
use super::routes::Route;
use crate::clock;
use crate::model::period::milliseconds;
use crate::model::{Moment, Snapshot};

/// A screen of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    /// What is going on.
    Overview,
    /// Who sends.
    Sources,
    /// How many opened how many connections.
    Distribution,
    /// What was found.
    Verdicts,
    /// A month.
    Report,
    /// What others complain about.
    Complaints,
    /// What owners are told.
    Notices,
    /// Who is not judged.
    Relays,
    /// smtpflow itself.
    System,
    /// None of them.
    Other,
}

impl Screen {
    /// In the order of the navigation.
    const NAVIGATION: &[Self] = &[
        Self::Overview,
        Self::Sources,
        Self::Distribution,
        Self::Verdicts,
        Self::Report,
        Self::Complaints,
        Self::Notices,
        Self::Relays,
        Self::System,
    ];

    /// As in the navigation.
    const fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Sources => "Sources",
            Self::Distribution => "Distribution",
            Self::Verdicts => "Verdicts",
            Self::Report => "Report",
            Self::Complaints => "Complaints",
            Self::Notices => "Notices",
            Self::Relays => "Known relays",
            Self::System => "System",
            Self::Other => "",
        }
    }

    /// Where it is.
    const fn path(self) -> &'static str {
        match self {
            Self::Overview | Self::Other => "/",
            Self::Sources => "/sources",
            Self::Distribution => "/distribution",
            Self::Verdicts => "/verdicts",
            Self::Report => "/report",
            Self::Complaints => "/complaints",
            Self::Notices => "/notices",
            Self::Relays => "/relays",
            Self::System => "/system",
        }
    }
}

/// The routes of screens.
pub(super) const ROUTES: &[Route] = &[
    Route::get("/", || get(overview::page)),
    Route::get("/sources", || get(sources::page)),
    Route::get("/host/{addr}", || get(host::page)),
    Route::get("/distribution", || get(distribution::page)),
    Route::get("/verdicts", || get(verdicts::page)),
    Route::get("/verdicts/{id}", || get(verdicts::one)),
    Route::get("/complaints", || get(complaints::page)),
    Route::get("/notices", || get(notices::page)),
    Route::get("/notices/{id}", || get(notices::one)),
    Route::get("/relays", || get(relays::page)),
    Route::get("/report", || get(report::current)),
    Route::get("/report/{month}", || get(report::page)),
    Route::get("/system", || get(system::page)),
];

/// What is around every screen: the state of the gateway, the navigation, the foot.
pub(super) struct Layout {
    screen: Screen,
    /// What the screen is of, for its title.
    of: Option<String>,
    /// The name of this machine.
    gateway: Option<String>,
    state: State,
    points: Vec<Point>,
    /// When this was made, in milliseconds since 1970.
    now: u64,
    /// When the last drain ended, likewise.
    drained_at: Option<u64>,
    window_seconds: f64,
    conservation_error: u64,
    overflow_packets: u64,
    version: &'static str,
    kernel: String,
    ports: String,
    /// Whether there are notices to owners.
    notices: bool,
}

impl Layout {
    pub(super) fn new(snapshot: &Snapshot, screen: Screen) -> Self {
        Self::at(snapshot, screen, &clock::now())
    }

    fn at(snapshot: &Snapshot, screen: Screen, now: &Moment) -> Self {
        let ports: Vec<_> = snapshot
            .identity
            .ports
            .iter()
            .map(ToString::to_string)
            .collect();
        Self {
            screen,
            of: None,
            gateway: gateway(),
            state: State::of(snapshot, now),
            points: snapshot.points.iter().map(Point::from).collect(),
            now: milliseconds(now.wall),
            drained_at: snapshot.last_drain.map(|drain| milliseconds(drain.at.wall)),
            window_seconds: snapshot.identity.window.as_secs_f64(),
            conservation_error: snapshot.account.conservation_error(),
            overflow_packets: snapshot.account.overflow.packets(),
            version: env!("CARGO_PKG_VERSION"),
            kernel: snapshot.identity.kernel.clone(),
            ports: ports.join(", "),
            notices: screen == Screen::Notices
                || snapshot
                    .store
                    .as_ref()
                    .is_some_and(|store| store.notices.iter().any(|count| *count != 0)),
        }
    }

    /// With the name of what the screen is of, such as an address, in the title.
    pub(super) fn of(mut self, what: impl Into<String>) -> Self {
        self.of = Some(what.into());
        self
    }

    /// What the browser's window is called: the screen first, since tabs are narrow.
    fn title(&self) -> String {
        let parts = [
            self.of.as_deref().unwrap_or_default(),
            self.screen.name(),
            "smtpflow",
            self.gateway.as_deref().unwrap_or_default(),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(" \u{b7} ")
    }

    /// When this was made, in milliseconds since 1970.
    const fn now(&self) -> u64 {
        self.now
    }

    /// Notices are for who has some.
    fn navigation(&self) -> impl Iterator<Item = &'static Screen> {
        let shown = |screen: &&Screen| self.notices || **screen != Screen::Notices;
        Screen::NAVIGATION.iter().filter(shown)
    }
}

/// The name of this machine, as the kernel has it.
fn gateway() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && name != "(none)").then(|| name.to_owned())
}

/// A screen that could not be made.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    layout: Layout,
    status: StatusCode,
    error: String,
}

/// The answer: the screen, or why there is none, as a page as well.
pub(super) fn show(app: &App, made: Result<impl Template, Problem>) -> Response {
    let rendered = match made {
        Ok(page) => page.render().map(|page| (StatusCode::OK, page)),
        Err(problem) => {
            let page = ProblemPage {
                layout: Layout::new(&app.snapshot(), Screen::Other),
                status: problem.status,
                error: problem.body["error"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            };
            page.render().map(|page| (problem.status, page))
        }
    };
    match rendered {
        Ok((status, page)) => (status, Html(lean::lean(&page))).into_response(),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

/// Where nothing is: a screen that says so to whoever asks for HTML, outside of the API.
pub(super) async fn nothing(
    extract::State(app): extract::State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let accepted = headers.get(header::ACCEPT);
    let html = accepted.is_some_and(|types| types.as_bytes().starts_with(b"text/html"));
    if !html || uri.path().starts_with("/api/") {
        return problem::not_found(uri).await.into_response();
    }
    let text = format!("There is no screen {}.", uri.path());
    let problem = Problem::new(StatusCode::NOT_FOUND, text);
    show(&app, Err::<ProblemPage, _>(problem))
}

#[cfg(test)]
mod tests;
