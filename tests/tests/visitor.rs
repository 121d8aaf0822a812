//! What an operator does with the page, in a real browser on a real agent: reads, acts and prints, with a mouse, with
//! the keyboard, and without JavaScript.

use std::time::Duration;

use serde_json::Value;
use smtpflow_tests::watched::{
    ACT_TOKEN, Good as _, LIMIT, Watched, fault_free, other_faults, watch,
};
use xtask::browser::{Key, Look, Page};
use xtask::command::{self, poll_until, tool};

/// A newcomer's patience with the first screen.
const AT_ONCE: Duration = Duration::from_secs(10);
const QUICK: Duration = Duration::from_secs(60);

/// The verdicts of a host that are open.
fn verdicts_of(watched: &Watched<'_>, address: &str) -> Vec<Value> {
    let verdicts = watched.json("/api/v1/verdicts");
    let verdicts = verdicts["verdicts"].as_array().expect("verdicts").iter();
    let open = ["new", "acknowledged", "notified"];
    verdicts
        .filter(|verdict| {
            verdict["subject"]
                .as_str()
                .is_some_and(|subject| subject.starts_with(address))
        })
        .filter(|verdict| open.iter().any(|state| verdict["state"] == *state))
        .cloned()
        .collect()
}

#[test]
fn the_first_screen_says_who_the_spammer_is_and_why() {
    watch("sfvfirst", "", |watched| {
        let spammer = watched.campus.spammer().to_string();
        for look in [Look::DESKTOP, Look::PHONE] {
            let page = watched.page();
            page.look(look).good();
            page.open("/").good();
            // Without scrolling.
            let seen = format!(
                "[...document.querySelectorAll('main *')].some((one) => {{
                    const box = one.getBoundingClientRect();
                    return one.innerText?.trim() === '{spammer}' && box.bottom < innerHeight && box.top >= 0;
                }})"
            );
            page.wait_within(AT_ONCE, "the spammer's address in the window", &seen)
                .good();
            let words = page.words().good();
            for word in ["critical", "more than 100 connections", "nobody has acted"] {
                assert!(words.contains(word), "no {word:?} in:\n{words}");
            }
            fault_free(&page, "the first screen");
        }
    });
}

/// The addresses of the table of sources, from above.
fn listed(page: &Page<'_>) -> Vec<String> {
    page.texts("table.sources tbody th a").good()
}

/// Those that the API gives for the same view.
fn listed_by_api(watched: &Watched<'_>, page: &Page<'_>) -> Vec<String> {
    let link = "[...document.querySelectorAll('.links a')].find((a) => a.innerText === 'JSON')";
    let view = page.text(&format!("{link}.getAttribute('href')")).good();
    let sources = watched.json(&view);
    let sources = sources["sources"].as_array().expect("sources").iter();
    let address = |source: &Value| source["addr"].as_str().expect("an address").to_owned();
    sources.map(address).collect()
}

/// Both are the same as soon as they are of the same window.
#[track_caller]
fn agree(watched: &Watched<'_>, page: &Page<'_>) -> Vec<String> {
    let mut last = (Vec::new(), Vec::new());
    let agree = poll_until(LIMIT, || {
        last = (listed(page), listed_by_api(watched, page));
        !last.0.is_empty() && last.0 == last.1
    });
    assert!(agree, "the page has {:?}\nthe API has {:?}", last.0, last.1);
    last.0
}

#[test]
fn sources_are_sorted_filtered_and_opened() {
    watch("sfvsources", "", |watched| {
        let page = watched.page();
        page.look(Look::DESKTOP).good();
        page.open("/sources?period=24h&limit=25").good();
        let mut orders = vec![agree(watched, &page)];
        for column in ["Servers", "Packets", "Address"] {
            let header = format!(
                "[...document.querySelectorAll('thead a')].find((a) => a.innerText.startsWith('{column}'))"
            );
            page.wait(column, &header).good();
            page.evaluate(&format!("{header}.focus()")).good();
            page.press(Key::Enter).good();
            page.wait(
                "the column to say that it is sorted by",
                &format!("{header}?.closest('th').ariaSort"),
            )
            .good();
            let order = agree(watched, &page);
            assert!(
                !orders.contains(&order),
                "{column} changes nothing: {order:?}"
            );
            orders.push(order);
        }
        page.fill("#filter", "state:open connections>30").good();
        page.press(Key::Enter).good();
        page.wait(
            "the filter in the address",
            "[...document.querySelectorAll('.links a')].some((a) => a.href.includes('state'))",
        )
        .good();
        let filtered = agree(watched, &page);
        let spammer = watched.campus.spammer().to_string();
        assert!(
            filtered.contains(&spammer) && filtered.len() < 25,
            "{filtered:?}"
        );
        // The view is in the address: another visitor sees the same.
        let view = page.text("location.pathname + location.search").good();
        let other = watched.page();
        other.open(&view).good();
        assert_eq!(agree(watched, &other), agree(watched, &page));

        page.fill("#filter", "state:open connections>many").good();
        page.press(Key::Enter).good();
        page.wait(
            "what is wrong with the filter",
            "document.querySelector('#mistake')",
        )
        .good();
        let mistake = page
            .text("document.querySelector('#mistake mark').innerText")
            .good();
        assert!(mistake.contains("many"), "{mistake}");
        let typed = page.text("document.querySelector('#filter').value").good();
        assert_eq!(typed, "state:open connections>many");

        page.fill("#filter", &format!("addr:{spammer}")).good();
        page.press(Key::Enter).good();
        page.wait(
            "one row",
            "document.querySelectorAll('table.sources tbody tr').length === 1",
        )
        .good();
        page.click("table.sources tbody th a").good();
        page.wait(
            "the host",
            &format!("location.pathname === '/host/{spammer}'"),
        )
        .good();
        page.wait(
            "its address",
            &format!("document.querySelector('h1').innerText === '{spammer}'"),
        )
        .good();
        let faults = other_faults(&page, &["status of 400"]);
        assert!(faults.is_empty(), "{faults:?}");
        // And back again, as it was.
        page.evaluate("history.back()").good();
        page.wait(
            "the list",
            "document.querySelectorAll('table.sources tbody tr').length === 1",
        )
        .good();
    });
}

#[test]
fn a_verdict_is_acknowledged_with_the_act_token_alone() {
    watch("sfvact", "", |watched| {
        let spammer = watched.campus.spammer().to_string();
        let before = verdicts_of(watched, &spammer);
        assert!(
            before.iter().any(|verdict| verdict["state"] == "new"),
            "{before:?}"
        );
        let page = watched.page();
        page.look(Look::DESKTOP).good();
        page.open(&format!("/host/{spammer}")).good();
        fault_free(&page, "the host");
        page.click("[data-act=acknowledged][data-scope=open]")
            .good();
        page.wait("the dialog", "document.querySelector('#act').open")
            .good();
        page.fill("#act-who", "Anna").good();
        page.fill("#act-why", "port is in room 2.14").good();
        page.fill("#act-token", "a token that nobody was given")
            .good();
        page.click("#act .do").good();
        page.wait(
            "a refusal",
            "!document.querySelector('#act .refusal').hidden",
        )
        .good();
        let refusal = page.text("document.querySelector('#act .refusal').innerText");
        let refusal = refusal.good();
        assert!(refusal.contains("token"), "{refusal}");
        let states = |verdicts: &[Value]| {
            let states = verdicts.iter().map(|verdict| verdict["state"].clone());
            states.collect::<Vec<_>>()
        };
        let after = verdicts_of(watched, &spammer);
        assert_eq!(states(&before), states(&after), "changed without the token");

        page.fill("#act-token", ACT_TOKEN).good();
        page.click("#act .do").good();
        page.wait(
            "the dialog to close",
            "!document.querySelector('#act').open",
        )
        .good();
        let acknowledged = poll_until(LIMIT, || {
            let after = verdicts_of(watched, &spammer);
            !after.is_empty() && after.iter().all(|verdict| verdict["state"] != "new")
        });
        assert!(acknowledged, "{:?}", verdicts_of(watched, &spammer));
        page.wait(
            "the screen to say who and why",
            "document.body.innerText.includes('Anna') && document.body.innerText.includes('room 2.14')",
        )
        .good();
        // A refusal is an answer that the browser notes as an error.
        let faults = other_faults(&page, &["status of 403", "status of 401"]);
        assert!(faults.is_empty(), "{faults:?}");
        approve_a_notice(watched, &page);
    });
}

/// A notice that waits is approved on its page, by who has said already who he is; nothing is left to decide then
/// but that it is not to leave.
fn approve_a_notice(watched: &Watched<'_>, page: &Page<'_>) {
    page.open("/notices").good();
    page.click("main a[href='/notices/1']").good();
    page.wait(
        "the notice",
        "document.documentElement.classList.contains('acting') \
         && document.querySelector('[data-to=approved]') !== null",
    )
    .good();
    page.click("[data-to=approved]").good();
    page.wait("the dialog", "document.querySelector('#decide').open")
        .good();
    page.fill("#decide-why", "seen the evidence").good();
    page.click("#decide .do").good();
    page.wait(
        "the dialog to close",
        "!document.querySelector('#decide').open",
    )
    .good();
    let notice = watched.json("/api/v1/notices/1");
    assert_eq!(notice["notice"]["state"], "approved", "{notice}");
    let last = notice["events"].as_array().and_then(|events| events.last());
    let last = last.expect("an event");
    assert_eq!(
        (last["who"].as_str(), last["why"].as_str()),
        (Some("Anna"), Some("seen the evidence"))
    );
    page.wait(
        "the screen to say so",
        "document.body.innerText.includes('seen the evidence') \
         && document.querySelector('[data-to=approved]') === null \
         && document.querySelector('[data-to=rejected]') !== null",
    )
    .good();
    fault_free(page, "the notice");
}

#[test]
fn times_are_utc_or_local_and_say_which() {
    watch("sfvzone", "", |watched| {
        let page = watched.page();
        page.time_zone("Asia/Kathmandu").good();
        page.open(&format!("/host/{}", watched.campus.spammer()))
            .good();
        let zone = || {
            page.text("document.getElementById('zone-name').innerText")
                .good()
        };
        // A time that does not change while we look.
        let time = "document.querySelector('main time:not([data-form])')";
        let minutes = || {
            let text = page.text(&format!("{time}.innerText")).good();
            let clock = text.rsplit(' ').next().expect("a clock").to_owned();
            let (hours, minutes) = clock.split_once(':').expect("hours and minutes");
            60 * hours.parse::<i64>().expect("hours") + minutes.parse::<i64>().expect("minutes")
        };
        assert_eq!(zone(), "UTC");
        let stated = page.text(&format!("{time}.dateTime")).good();
        assert!(stated.ends_with('Z'), "{stated}");
        let utc = minutes();
        page.click("#zone-switch").good();
        page.wait(
            "another zone",
            "document.getElementById('zone-name').innerText !== 'UTC'",
        )
        .good();
        assert!(zone().contains("5:45"), "{}", zone());
        assert_eq!((minutes() - utc).rem_euclid(24 * 60), 5 * 60 + 45);
        // The choice is kept.
        page.reload().good();
        page.wait(
            "another zone",
            "document.getElementById('zone-name').innerText !== 'UTC'",
        )
        .good();
        fault_free(&page, "the host");
    });
}

#[test]
fn a_report_and_a_host_can_be_printed() {
    watch("sfvprint", "", |watched| {
        let spammer = watched.campus.spammer().to_string();
        for (name, path) in [
            ("report", "/report".to_owned()),
            ("host", format!("/host/{spammer}")),
        ] {
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            page.open(&path).good();
            let file = watched.lab.folder().join(format!("{name}.pdf"));
            std::fs::write(&file, page.printed().good()).expect("a file");
            let info = command::output(tool("pdfinfo", [&file]).env("LC_ALL", "C"), QUICK);
            let info = info.unwrap_or_else(|error| panic!("{error:#}"));
            let pages = info.lines().find_map(|line| line.strip_prefix("Pages:"));
            let pages: u32 = pages.expect("pages").trim().parse().expect("a number");
            assert!((1..40).contains(&pages), "{pages} pages");
            let mut words = tool("pdftotext", ["-layout"]);
            let words = command::output(words.arg(&file).arg("-"), QUICK);
            let words = words.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(words.contains(&spammer), "{path}:\n{words}");
            println!("{path}: {pages} pages, {} octets of text", words.len());
            // What only a screen is good for is not on paper.
            assert!(!words.contains("Skip to content"), "{words}");
            fault_free(&page, &path);
        }
    });
}

#[test]
fn the_keyboard_is_enough() {
    watch("sfvkeys", "", |watched| {
        let page = watched.page();
        page.look(Look::DESKTOP).good();
        page.open(&format!("/host/{}", watched.campus.spammer()))
            .good();
        page.press(Key::Tab).good();
        let first = page.focused().good();
        assert!(first.contains("Skip to content"), "{first}");
        page.press(Key::Enter).good();
        page.wait(
            "the focus in the content",
            "document.activeElement.id === 'main'",
        )
        .good();
        // Everything that can have the focus has it in the order of the document, and shows it.
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
            .good();
        page.reload().good();
        let mut places = Vec::new();
        let mut reached = false;
        for _ in 0..60 {
            page.press(Key::Tab).good();
            let place = page
                .evaluate(
                    "(() => {
                        const one = document.activeElement;
                        if (one === document.body) return null;
                        const style = getComputedStyle(one);
                        return {
                            place: [...document.querySelectorAll('*')].indexOf(one),
                            html: one.outerHTML.slice(0, 160),
                            seen: (style.outlineStyle !== 'none' && style.outlineWidth !== '0px')
                                || style.boxShadow !== 'none',
                        };
                    })()",
                )
                .good();
            if place.is_null() {
                break;
            }
            assert_eq!(place["seen"], true, "the focus is not seen on {place}");
            reached |= place["html"]
                .as_str()
                .is_some_and(|html| html.contains("data-act"));
            places.push(place["place"].as_u64().expect("a number"));
        }
        assert!(
            places.is_sorted(),
            "the order of focus is not that of the document: {places:?}"
        );
        assert!(places.len() > 5 && reached, "{places:?}");

        page.evaluate("document.querySelector('[data-act=acknowledged]').focus()")
            .good();
        page.press(Key::Enter).good();
        page.wait("the dialog", "document.querySelector('#act').open")
            .good();
        let inside =
            page.evaluate("document.querySelector('#act').contains(document.activeElement)");
        assert_eq!(inside.good(), true, "{}", page.focused().good());
        page.press(Key::Escape).good();
        page.wait(
            "the dialog to close",
            "!document.querySelector('#act').open",
        )
        .good();
        let back = page.focused().good();
        assert!(back.contains("data-act"), "the focus is lost: {back}");
        fault_free(&page, "the keyboard");
    });
}

#[test]
fn every_screen_says_the_same_without_javascript() {
    watch("sfvplain", "", |watched| {
        let page = watched.page();
        page.scripts(false).good();
        page.look(Look::DESKTOP).good();
        page.open("/").good();
        let screens: Vec<String> = serde_json::from_value(
            page.evaluate(
                "[...document.querySelectorAll('#screens a')].map((a) => a.getAttribute('href'))",
            )
            .good(),
        )
        .expect("paths");
        let host = format!("/host/{}", watched.campus.spammer());
        for path in screens.iter().chain([&host]) {
            page.open(path).good();
            let rows = page.count("main table tr").good();
            assert!(
                rows > 1,
                "{path} has no table without JavaScript:\n{}",
                page.words().good()
            );
            let busy = page.words().good().to_lowercase();
            assert!(!busy.contains("loading"), "{path} waits for a script");
            // What only a script can do is not offered.
            let dead = page
                .evaluate(
                    "[...document.querySelectorAll('button:not([type=submit])')]
                        .filter((one) => one.checkVisibility()).map((one) => one.outerHTML)",
                )
                .good();
            let none = serde_json::json!([]);
            assert_eq!(dead, none, "{path} offers what needs a script");
            fault_free(&page, path);
        }
    });
}
