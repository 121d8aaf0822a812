//! The overview as it is sent.

use std::sync::Arc;

use super::super::super::fixture;
use super::super::super::trend::Trends;
use super::super::tests::{HOSTILE, assert_escaped, assert_proper};
use super::*;
use crate::archive::Archive;
use crate::model::person::SMTPFLOW;
use crate::model::verdict::VerdictState;
use crate::report::tests::{BOT, Scene, local};

fn archive(path: &std::path::Path) -> Archive {
    let mut config = crate::config::Config::default();
    path.clone_into(&mut config.store.path);
    config.networks.local = local();
    Archive::new(&config).expect("with a store")
}

fn render(snapshot: &Snapshot, trend: Option<&Trend>, alerts: Vec<alert::Alert>) -> String {
    let layout = Layout::new(snapshot, Screen::Overview);
    overview(layout, snapshot, None, trend, alerts, None)
        .render()
        .expect("a page")
}

/// A day of a spam bot, with each of these changes.
fn pages(changes: &[&dyn Fn(&mut Trend)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let archive = archive(&path);
    let _scene = Scene::in_file(&path);
    let snapshot = fixture::snapshot(&fixture::rows());
    let page = |change: &&dyn Fn(&mut Trend)| {
        let trend = Trends::default().look(&archive);
        let mut trend = trend.unwrap_or_else(|failure| panic!("{failure}"));
        change(Arc::get_mut(&mut trend).expect("the only one"));
        let alerts = alert::alerts(&archive, &trend);
        let alerts = alerts.unwrap_or_else(|failure| panic!("{failure}"));
        render(&snapshot, Some(&trend), alerts)
    };
    changes.iter().map(page).collect()
}

#[test]
fn the_spammer_is_told_first_with_what_was_done() {
    let page = &pages(&[&|_| {}])[0];
    assert_proper(page);
    let headline = page.find("1 host sends mail like a spammer").expect("told");
    let bot = page
        .find(&format!("<a class=\"host\" href=\"/host/{BOT}\""))
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

/// Lets these do these things to every verdict, an hour after each other.
fn live(trend: &mut Trend, acts: &[(&str, VerdictState)]) {
    let now = trend.now;
    for life in &mut trend.lives {
        for (i, (who, to)) in acts.iter().enumerate() {
            let at = now - (acts.len() - i) as u64 * HOUR;
            let event = life.verdict.move_to(*to, who, "looked at it", at);
            life.events.push(event.expect("a change that is possible"));
        }
    }
}

#[test]
fn what_was_opened_again_after_somebody_acted_waits_for_somebody() {
    use VerdictState::{New, Resolved};
    let pages = pages(&[
        &|trend| live(trend, &[("ben", Resolved), (SMTPFLOW, New)]),
        &|trend| live(trend, &[("ben", Resolved), ("anna", New)]),
    ]);
    let done = |page: &str| {
        let from = page.find("class=\"done\"").expect("what was done");
        let line = page[from..].split("</li>").next().expect("a line");
        let text = line.split('<').filter_map(|part| part.split_once('>'));
        let text: String = text.map(|(_, text)| text).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let [by_rule, by_hand] = [done(&pages[0]), done(&pages[1])];
    for part in [
        "resolved by ben",
        ": looked at it; opened again ",
        " ago, nobody has acted since",
    ] {
        assert!(by_rule.contains(part), "no {part:?} in {by_rule:?}");
    }
    assert!(!by_rule.contains("new by ben"), "{by_rule:?}");
    assert!(
        by_hand.contains("; opened again by anna ") && by_hand.ends_with("nobody has acted since"),
        "{by_hand:?}"
    );
}

#[test]
fn a_verdict_that_nobody_has_looked_at_is_named_beside_one_that_somebody_has() {
    let page = &pages(&[&|trend| {
        let mut other = trend.lives[0].clone();
        live(
            trend,
            &[("ben", VerdictState::Resolved), ("ben", VerdictState::New)],
        );
        live(trend, &[("ben", VerdictState::Acknowledged)]);
        "another".clone_into(&mut other.verdict.detector);
        other.verdict.state = VerdictState::New;
        other.events.truncate(1);
        trend.lives.push(other);
    }])[0];
    assert!(
        page.contains("nobody has acted on <bdi>another</bdi>"),
        "{page}"
    );
}

#[test]
fn an_agent_without_a_past_or_a_prefix_list_has_an_overview() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.last_drain = None;
    snapshot.store = None;
    snapshot.verdicts = Default::default();
    let page = render(&snapshot, None, Vec::new());
    assert_proper(&page);
    for part in ["Nobody is judged", "[networks] local", ">\u{2013}</p>"] {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
    assert!(!page.contains("<svg"), "nothing is drawn of nothing");
    snapshot.verdicts.judged = true;
    let page = render(&snapshot, None, Vec::new());
    assert!(page.contains("No host is flagged"));
}

#[test]
fn what_people_and_rules_say_is_escaped() {
    let change = |text: &'static str| {
        move |trend: &mut Trend| {
            for life in &mut trend.lives {
                text.clone_into(&mut life.verdict.rule.text);
                text.clone_into(&mut life.verdict.detector);
                for figure in &mut life.verdict.rule.figures {
                    text.clone_into(&mut figure.unit);
                }
                for event in &mut life.events {
                    text.clone_into(&mut event.who);
                    text.clone_into(&mut event.why);
                }
            }
        }
    };
    let changes = HOSTILE.map(change);
    let changes: Vec<&dyn Fn(&mut Trend)> = changes.iter().map(|change| change as _).collect();
    for (page, text) in pages(&changes).iter().zip(HOSTILE) {
        assert_escaped(page, text);
    }
}
