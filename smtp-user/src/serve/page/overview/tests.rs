//! The overview as it is sent.

use std::sync::Arc;

use super::super::super::fixture;
use super::super::super::trend::Trends;
use super::super::tests::{HOSTILE, assert_escaped, assert_proper};
use super::*;
use crate::archive::Archive;
use crate::report::tests::{BOT, Scene, local};

fn archive(path: &std::path::Path) -> Archive {
    let mut config = crate::config::Config::default();
    path.clone_into(&mut config.store.path);
    config.networks.local = local();
    Archive::new(&config).expect("with a store")
}

fn render(
    snapshot: &Snapshot,
    rows: Vec<SourceRow>,
    trend: Option<&Trend>,
    alerts: Vec<alert::Alert>,
) -> String {
    let layout = Layout::new(snapshot, Screen::Overview);
    overview(layout, snapshot, rows, trend, alerts, None)
        .render()
        .expect("a page")
}

/// A day of a spam bot.
fn scene(change: impl FnOnce(&mut Trend)) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let archive = archive(&path);
    let scene = Scene::in_file(&path);
    let trend = Trends::default().look(&archive);
    let mut trend = trend.unwrap_or_else(|failure| panic!("{failure}"));
    change(Arc::get_mut(&mut trend).expect("the only one"));
    let alerts = alert::alerts(&archive, &trend).unwrap_or_else(|failure| panic!("{failure}"));
    drop(scene);
    let snapshot = fixture::snapshot(&fixture::rows());
    render(&snapshot, fixture::rows(), Some(&trend), alerts)
}

#[test]
fn the_spammer_is_told_first_with_what_was_done() {
    let page = scene(|_| {});
    assert_proper(&page);
    let headline = page.find("1 host sends mail like a spammer").expect("told");
    let bot = page
        .find(&format!("<a class=\"host\" href=\"/hosts/{BOT}\""))
        .expect("linked");
    let figures = page.find("class=\"figures\"").expect("figures");
    assert!(headline < bot && bot < figures);
    for part in [
        "since <time",
        "acknowledged</span> by ",
        "class=\"lane\"",
        "class=\"spark\"",
    ] {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
}

#[test]
fn an_agent_without_a_past_or_a_prefix_list_has_an_overview() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.last_drain = None;
    snapshot.store = None;
    snapshot.verdicts = Default::default();
    let page = render(&snapshot, Vec::new(), None, Vec::new());
    assert_proper(&page);
    for part in [
        "Nobody is judged",
        "[networks] local",
        "No mail traffic yet",
        ">\u{2013}</p>",
    ] {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
    assert!(!page.contains("<svg"), "nothing is drawn of nothing");
    snapshot.verdicts.judged = true;
    let page = render(&snapshot, Vec::new(), None, Vec::new());
    assert!(page.contains("No host is flagged"));
}

#[test]
fn what_people_and_rules_say_is_escaped() {
    for text in HOSTILE {
        let page = scene(|trend| {
            for life in &mut trend.lives {
                text.clone_into(&mut life.verdict.rule.text);
                text.clone_into(&mut life.verdict.detector);
                for event in &mut life.events {
                    text.clone_into(&mut event.who);
                    text.clone_into(&mut event.why);
                }
            }
        });
        assert_escaped(&page, text);
    }
}
