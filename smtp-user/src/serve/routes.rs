//! Every route, and what is done by which method.
//!
//! Contract: the router is made of these and of nothing else, and the guard knows from here which methods
//! a route has; so `docs/routes.md`, which a test makes of [`routes`], has them all.
#![forbid(unsafe_code)]

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use super::{
    App, api, complaints, config, distribution, events, evidence, interfaces, metrics, notices,
    openapi, owner, page, pairs, ready, relays, reports, series, source, sources, verdicts, why,
};

/// The methods of a route that changes nothing.
pub(super) const READING: &str = "GET, HEAD";

/// See the module.
pub(super) struct Route {
    /// As the router has it.
    path: &'static str,
    /// As `Allow` has them.
    methods: &'static str,
    handlers: fn() -> MethodRouter<App>,
}

impl Route {
    /// One that changes nothing.
    pub(super) const fn get(path: &'static str, handlers: fn() -> MethodRouter<App>) -> Self {
        Self::with(path, READING, handlers)
    }

    const fn with(
        path: &'static str,
        methods: &'static str,
        handlers: fn() -> MethodRouter<App>,
    ) -> Self {
        Self {
            path,
            methods,
            handlers,
        }
    }
}

/// Those for programs.
const ROUTES: &[Route] = &[
    Route::get("/healthz", || get(|| async { "ok\n" })),
    Route::get("/readyz", || get(ready::ready)),
    Route::get("/metrics", || get(metrics::metrics)),
    Route::get("/metrics/sources", || get(metrics::sources)),
    Route::get("/api/openapi.json", || get(openapi::openapi)),
    Route::get("/api/v1/status", || get(api::status)),
    Route::get("/api/v1/sources", || get(sources::sources)),
    Route::get("/api/v1/sources/{addr}", || get(source::source)),
    Route::get("/api/v1/sources/{addr}/why", || get(why::why)),
    Route::get("/api/v1/sources/{addr}/owner", || get(owner::owner)),
    Route::get("/api/v1/sources/{addr}/evidence", || {
        get(evidence::evidence)
    }),
    Route::get("/api/v1/sources/{addr}/series", || get(series::source)),
    Route::get("/api/v1/sources/{addr}/pairs", || get(pairs::pairs)),
    Route::get("/api/v1/series", || get(series::network)),
    Route::get("/api/v1/distribution", || get(distribution::distribution)),
    Route::get("/api/v1/reports/{month}", || get(reports::report)),
    Route::get("/api/v1/interfaces", || get(interfaces::interfaces)),
    Route::get("/api/v1/config", || get(config::config)),
    Route::get("/api/v1/events", || get(events::events)),
    Route::get("/api/v1/verdicts", || get(verdicts::list)),
    Route::with("/api/v1/verdicts/{id}", "GET, HEAD, POST", || {
        get(verdicts::one).post(verdicts::change)
    }),
    Route::with("/api/v1/relays", "GET, HEAD, POST", || {
        get(relays::list).post(relays::add)
    }),
    Route::with("/api/v1/relays/expire", "POST", || post(relays::expire)),
    Route::get("/api/v1/notices", || get(notices::list)),
    Route::with("/api/v1/notices/{id}", "GET, HEAD, POST", || {
        get(notices::one).post(notices::decide)
    }),
    Route::with("/api/v1/complaints", "GET, HEAD, POST", || {
        get(complaints::list).post(complaints::add)
    }),
    Route::with("/api/v1/complaints/{id}/withdraw", "POST", || {
        post(complaints::withdraw)
    }),
];

/// All routes of the server, and the answer where there is none.
pub(super) fn router() -> Router<App> {
    let routes = ROUTES.iter().chain(page::ROUTES);
    routes
        .fold(page::files(), |router, route| {
            router.route(route.path, (route.handlers)())
        })
        .fallback(page::nothing)
}

/// The methods of a route of this path, as `Allow` has them.
pub(super) fn methods(path: Option<&str>) -> &'static str {
    let mut routes = ROUTES.iter();
    let route = routes.find(|route| path == Some(route.path));
    route.map_or(READING, |route| route.methods)
}

/// Path and methods of every route, in the order of the list; the parts of a path that differ from one
/// request to the next stand in braces.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    let routes = ROUTES.iter().chain(page::ROUTES);
    routes
        .map(|route| (route.path, route.methods))
        .chain(page::paths_of_files().map(|path| (path, READING)))
        .collect()
}
