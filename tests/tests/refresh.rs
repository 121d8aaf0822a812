//! How a page keeps itself up to date, in a real browser: through a restart of the agent, where the agent hangs, while
//! nobody looks, and where there is nothing.

use nix::sys::signal::Signal;
use smtpflow_tests::watched::{Good as _, LIMIT, Watched, fault_free, other_faults, watch};
use xtask::browser::{Look, Page};
use xtask::command::poll_until;

/// Waits until the agent has drained so many times more.
fn drains(watched: &Watched<'_>, times: u64) {
    let count = || {
        let status = watched.json("/api/v1/status");
        status["drains"].as_u64().expect("a number")
    };
    let begun = count();
    assert!(poll_until(LIMIT, || count() >= begun + times), "no drain");
}

#[test]
fn the_page_survives_a_restart_and_says_that_figures_are_old() {
    watch("sfvrestart", "", |watched| {
        let page = watched.page();
        page.look(Look::DESKTOP).good();
        page.open("/").good();
        fault_free(&page, "the page");
        assert_eq!(page.count("body.stale").good(), 0);
        assert!(
            watched
                .agent
                .borrow_mut()
                .stop()
                .expect("the agent ends")
                .success()
        );
        page.wait(
            "word that figures are old",
            "document.body.classList.contains('stale')",
        )
        .good();
        let words = page.words().good();
        assert!(words.contains("figures are old"), "{words}");
        let made = page
            .text("document.querySelector('#made time').dateTime")
            .good();
        watched.restart();
        page.wait(
            "fresh figures",
            "!document.body.classList.contains('stale')",
        )
        .good();
        page.wait(
            "a newer page",
            &format!("document.querySelector('#made time').dateTime > '{made}'"),
        )
        .good();
        let spammer = watched.campus.spammer();
        assert!(page.words().good().contains(&spammer.to_string()));
        let faults = other_faults(
            &page,
            &[
                "ERR_CONNECTION_REFUSED",
                "ERR_EMPTY_RESPONSE",
                "ERR_CONNECTION_RESET",
                "ERR_INCOMPLETE_CHUNKED_ENCODING",
            ],
        );
        assert!(faults.is_empty(), "{faults:?}");
    });
}

#[test]
fn an_agent_that_hangs_is_noticed_and_not_before_three_windows() {
    watch("sfvhang", "", |watched| {
        let page = watched.page();
        // Notes how old the figures were when they were first called old.
        page.run_first(
            "addEventListener('DOMContentLoaded', () => new MutationObserver(() => {
                if (document.body.classList.contains('stale') && window.staleAt === undefined)
                    window.staleAt = Date.now() - Number(document.getElementById('gateway').dataset.drain);
            }).observe(document.body, {attributes: true}))",
        )
        .good();
        page.open("/").good();
        page.wait(
            "a drain",
            "document.getElementById('gateway').dataset.drain",
        )
        .good();
        watched
            .agent
            .borrow_mut()
            .process()
            .signal(Signal::SIGSTOP)
            .expect("it stops");
        page.wait(
            "word that figures are old",
            "document.body.classList.contains('stale')",
        )
        .good();
        let age = page.evaluate("window.staleAt").good();
        assert!(age.as_f64().expect("milliseconds") >= 3_000.0, "{age}");
        watched
            .agent
            .borrow_mut()
            .process()
            .signal(Signal::SIGCONT)
            .expect("it goes on");
        page.wait(
            "fresh figures",
            "!document.body.classList.contains('stale')",
        )
        .good();
    });
}

#[test]
fn a_hidden_tab_asks_for_nothing() {
    watch("sfvhidden", "", |watched| {
        let page = watched.page();
        page.open("/").good();
        page.requests().good();
        drains(watched, 3);
        page.wait("a refresh", "true").good();
        assert!(
            !page.requests().good().is_empty(),
            "it is not kept up to date"
        );
        let other = page.beside().good();
        other.to_front().good();
        page.wait("it to be hidden", "document.visibilityState === 'hidden'")
            .good();
        // What was under way may come to its end.
        drains(watched, 1);
        page.requests().good();
        drains(watched, 4);
        let asked = page.requests().good();
        assert!(asked.is_empty(), "a hidden tab asks for {asked:?}");
        page.to_front().good();
        page.wait("it to be seen", "document.visibilityState === 'visible'")
            .good();
        let asks = poll_until(LIMIT, || !page.requests().good().is_empty());
        assert!(asks, "it does not go on when it is seen again");
    });
}

/// What was asked for since this was asked before, but the icon, which is the browser's own wish.
fn asked(page: &Page<'_>) -> Vec<String> {
    let requests = page.requests().good().into_iter();
    let urls = requests.map(|request| request.url);
    urls.filter(|url| !url.ends_with("/icon.svg")).collect()
}

#[test]
fn a_screen_that_is_not_there_is_not_asked_for_again() {
    watch("sfvnothing", "", |watched| {
        let page = watched.page();
        for path in ["/nothing-of-that-name", "/verdicts/999999"] {
            page.open(path).good();
            page.requests().good();
            drains(watched, 4);
            let asked = asked(&page);
            assert!(asked.is_empty(), "{path} asks for {asked:?}");
            let words = page.words().good();
            assert!(!words.contains("figures are old"), "{words}");
        }
        // Nor is one that is gone while somebody looks.
        page.open("/").good();
        page.evaluate("history.pushState(null, '', '/verdicts/999999'); 0")
            .good();
        page.wait(
            "the answer that it is not there",
            "document.querySelector('main .problem') && !document.scripts.length",
        )
        .good();
        page.requests().good();
        drains(watched, 4);
        let asked = asked(&page);
        assert!(asked.is_empty(), "what is gone is asked for: {asked:?}");
    });
}
