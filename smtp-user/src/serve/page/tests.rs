//! Screens as they are sent.

use std::time::Duration;

use super::super::fixture;
use super::*;

/// What somebody outside could name an interface, a host or a rule.
pub(super) const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</title></textarea><b>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)//&lt;\u{202e}",
];

/// Nothing of it may stand in a page as it was said.
pub(super) fn assert_escaped(page: &str, text: &str) {
    assert!(!page.contains('\u{202e}'), "{text} turns the page");
    for mark in ["<script>alert", "<img", "' onmouse", "<b>", "\"><"] {
        if text.contains(mark) {
            assert!(!page.contains(text), "{text} is in the page as it is");
        }
    }
}

/// What every screen holds to.
pub(super) fn assert_proper(page: &str) {
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    for bad in [
        "<style",
        " style=",
        "onclick",
        "onload=",
        "javascript:",
        "http://",
        "https://",
        "{{",
        "{%",
    ] {
        assert!(!page.contains(bad), "{bad} in the page:\n{page}");
    }
    for line in page.lines().filter(|line| line.contains("<script")) {
        assert!(
            line.trim().starts_with("<script type=\"module\" src=\"/")
                && line.ends_with("></script>"),
            "{line}"
        );
    }
    assert_eq!(page.matches("<h1").count(), 1, "one heading:\n{page}");
    for id in ["gateway", "screens", "main", "made", "zone", "verdict"] {
        assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
    }
}

fn problem(layout: Layout, error: &str) -> String {
    ProblemPage {
        layout,
        status: StatusCode::NOT_FOUND,
        error: error.to_owned(),
    }
    .render()
    .expect("a page")
}

#[test]
fn the_layout_says_how_the_gateway_is() {
    let snapshot = fixture::snapshot(&fixture::rows());
    let page = problem(
        Layout::new(&snapshot, Screen::Other).of("192.0.2.7"),
        "gone",
    );
    assert_proper(&page);
    assert!(!page.contains("<script"), "nobody asks again: {page}");
    for part in [
        "<title>192.0.2.7 \u{b7} smtpflow",
        "<bdi>eth0</bdi> <small>driver</small>",
        "<bdi>eth1</bdi> <small>skb</small>",
        "0 s ago</time>",
        "data-window=\"10\"",
        "the table was full",
        "1 <small>packet</small>",
        "Linux 6.18.0",
    ] {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
}

#[test]
fn an_agent_before_its_first_drain_has_a_page() {
    let mut snapshot = fixture::snapshot(&[]);
    snapshot.last_drain = None;
    snapshot.store = None;
    snapshot.points.clear();
    let page = problem(Layout::new(&snapshot, Screen::Other), "gone");
    assert_proper(&page);
    assert!(page.contains("attached to no interface") && page.contains("none yet"));
    assert!(!page.contains("data-drain"));
}

#[test]
fn what_comes_from_outside_is_escaped_in_the_layout() {
    for text in HOSTILE {
        let mut snapshot = fixture::snapshot(&fixture::rows());
        for point in &mut snapshot.points {
            text.clone_into(&mut point.interface);
            point.fallback = Some(text.to_owned());
        }
        snapshot.points[1].state = crate::model::PointState::Missing;
        text.clone_into(&mut snapshot.identity.kernel);
        snapshot.identity.window = Duration::from_millis(1500);
        let layout = Layout::new(&snapshot, Screen::Other).of(text);
        let page = problem(layout, text);
        assert_escaped(&page, text);
        assert!(page.contains("data-window=\"1.5\""));
    }
}
