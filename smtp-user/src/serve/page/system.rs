//! `/system`: smtpflow itself: where it counts, how full its tables are, what it keeps, how it is set up.
#![forbid(unsafe_code)]

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use smtp_common::counter::Skip;

use super::super::App;
use super::super::api::Status;
use super::super::config;
use super::super::metrics::Process;
use super::super::problem::Problem;
use super::rows::time_of;
use super::{Layout, Screen, filters, show, words};
use crate::clock;
use crate::model::Snapshot;
use crate::model::period::Period;
use crate::model::session::Outcome;

#[derive(Template)]
#[template(path = "system.html")]
struct Page {
    layout: Layout,
    status: Status,
    started_at: Option<u64>,
    counting_since: Option<u64>,
    skips: Vec<Skipped>,
    /// What became of connections: what, its meaning, how many.
    outcomes: Vec<(&'static str, &'static str, u64)>,
    /// From the oldest that is kept to the newest.
    history: Option<Period>,
    process: Process,
    sections: Vec<Section>,
    hidden: Vec<String>,
}

/// Frames that were not counted, for one reason.
struct Skipped {
    name: &'static str,
    meaning: &'static str,
    frames: u64,
}

/// A section of the configuration.
struct Section {
    name: String,
    keys: Vec<(String, String)>,
}

/// `GET /system`
pub(super) async fn page(State(app): State<App>) -> Response {
    show(&app, make(&app).await)
}

async fn make(app: &App) -> Result<Page, Problem> {
    let history = if app.archive.is_some() {
        let span = app.look_up(|archive| archive.read(|reader| Ok(reader.span())));
        // A store that cannot be read says so above and in the state of the store.
        span.await.ok().flatten()
    } else {
        None
    };
    let in_force = config::view(app)?;
    let value = serde_json::to_value(&in_force).map_err(|error| Problem::internal(&error))?;
    Ok(Page::new(&app.snapshot(), history, &value))
}

impl Page {
    fn new(snapshot: &Snapshot, history: Option<Period>, in_force: &Value) -> Self {
        let status = Status::new(snapshot, &clock::now());
        let mut skips: Vec<_> = Skip::ALL
            .iter()
            .map(|skip| Skipped {
                name: skip.name(),
                meaning: skip.meaning(),
                frames: snapshot.account.skipped(*skip),
            })
            .collect();
        // Those that are have happened first; among equals as they are documented.
        skips.sort_by_key(|skip| std::cmp::Reverse(skip.frames));
        let outcomes = snapshot.flows.sessions.outcomes;
        let hidden = in_force["hidden"].as_array();
        Self {
            layout: Layout::new(snapshot, Screen::System),
            started_at: time_of(&status.started_at),
            counting_since: time_of(&status.counting_since),
            skips,
            outcomes: Outcome::ALL
                .iter()
                .map(|outcome| (outcome.name(), outcome.meaning(), outcomes.of(*outcome)))
                .collect(),
            history,
            process: Process::read(),
            sections: sections(&in_force["config"]),
            hidden: hidden
                .into_iter()
                .flatten()
                .filter_map(|key| Some(key.as_str()?.to_owned()))
                .collect(),
            status,
        }
    }

    /// How full a table is, from 0 to 100.
    fn fill(&self) -> String {
        let table = &self.status.table;
        let share = table.lines_used as f64 / table.lines.max(1) as f64;
        format!("{:.1}", 100.0 * share)
    }

    fn milliseconds(seconds: &f64) -> String {
        format!("{:.1} ms", 1000.0 * seconds)
    }

    fn seconds(seconds: &f64) -> String {
        words::duration(*seconds as u64)
    }
}

/// The sections with their keys; a section within one, or each of several of one name, is one of its own.
fn sections(config: &Value) -> Vec<Section> {
    let mut found = Vec::new();
    if let Some(fields) = config.as_object() {
        for (name, value) in fields {
            section(name, value, &mut found);
        }
    }
    found
}

fn section(name: &str, value: &Value, found: &mut Vec<Section>) {
    if let Some(tables) = value.as_array() {
        for table in tables {
            section(name, table, found);
        }
        return;
    }
    let Some(fields) = value.as_object() else {
        return;
    };
    let is_section = |value: &Value| {
        value.is_object()
            || value
                .as_array()
                .is_some_and(|items| items.first().is_some_and(Value::is_object))
    };
    let keys: Vec<_> = fields
        .iter()
        .filter(|(_, value)| !is_section(value))
        .map(|(key, value)| (key.clone(), shown(value)))
        .collect();
    if !keys.is_empty() {
        found.push(Section {
            name: name.to_owned(),
            keys,
        });
    }
    for (key, value) in fields.iter().filter(|(_, value)| is_section(value)) {
        section(&format!("{name}.{key}"), value, found);
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::fixture;
    use super::super::tests::{HOSTILE, assert_escaped, assert_proper};
    use super::*;

    fn page(snapshot: &Snapshot, config: &Value) -> String {
        let history = Period {
            from: 1_793_700_000_000,
            to: 1_795_531_669_000,
        };
        let page = Page::new(snapshot, Some(history), config);
        page.render().expect("a page")
    }

    #[test]
    fn the_system_is_shown_with_and_without_anything() {
        let in_force = json!({
            "config": {
                "meter": {"ports": [25, 587], "netns": null},
                "detect": {"quiet": "24h", "volume": {"high": 100}},
                "relay": [{"prefix": "192.0.2.25/32"}, {"prefix": "192.0.2.26/32"}],
            },
            "hidden": ["serve.secret"],
        });
        let full = page(&fixture::snapshot(&fixture::rows()), &in_force);
        assert_proper(&full);
        for part in [
            "refused: <bdi>driver with section xdp",
            "not_tcp",
            "25, 587",
            "not set",
            "[detect.volume]",
            "192.0.2.26/32",
            "serve.secret",
            "/api/openapi.json",
            "/var/lib/smtpflow/smtpflow.db",
        ] {
            assert!(full.contains(part), "no {part} in:\n{full}");
        }
        let mut empty = fixture::snapshot(&[]);
        empty.points.clear();
        empty.last_drain = None;
        empty.store = None;
        let page = Page::new(&empty, None, &json!({"config": {}, "hidden": []}));
        let page = page.render().expect("a page");
        assert_proper(&page);
        assert!(page.contains("store.enabled"), "{page}");
    }

    #[test]
    fn what_is_set_and_what_went_wrong_is_escaped() {
        for text in HOSTILE {
            let mut snapshot = fixture::snapshot(&fixture::rows());
            for point in &mut snapshot.points {
                text.clone_into(&mut point.interface);
                text.clone_into(&mut point.configured);
                point.reason = Some(text.to_owned());
                point.fallback = Some(text.to_owned());
            }
            let store = snapshot.store.as_mut().expect("a store");
            store.path = text.into();
            store.failure = Some(text.to_owned());
            store.history_failure = Some(text.to_owned());
            let mut named = serde_json::Map::new();
            named.insert(text.to_owned(), json!({ text: text, "list": [text] }));
            let in_force = json!({ "config": named, "hidden": [text] });
            assert_escaped(&page(&snapshot, &in_force), text);
        }
    }
}
