//! Every screen in a real browser, on a real agent with weeks of history and real frames on its interface.
//!
//! Whatever a visitor should never meet makes a test fail: an error or a warning in the console, an
//! exception, a violation of the content policy, a request to any other host, a page that is wider than
//! its window, what axe-core calls serious. Pictures of all screens are left in `target/xtask/screenshots`.

use std::collections::BTreeMap;

use smtpflow_tests::accessibility::violations;
use smtpflow_tests::watched::{Good as _, Watched, fault_free, output_folder, watch};
use xtask::browser::{Look, Page};

/// All static files and the HTML of a screen, as they are transferred.
const WEIGHT: u64 = 150_000;

/// The screens, by the names of their pictures.
fn screens(watched: &Watched<'_>) -> Vec<(&'static str, String)> {
    let spammer = watched.campus.spammer();
    let relay = watched.campus.host("newsletter").address;
    vec![
        ("overview", "/".to_owned()),
        ("sources", "/sources".to_owned()),
        (
            "sources-filtered",
            "/sources?period=24h&filter=state:open+connections>30&sort=servers".to_owned(),
        ),
        (
            "sources-refused",
            "/sources?filter=connections>many".to_owned(),
        ),
        ("host", format!("/host/{spammer}")),
        ("host-relay", format!("/host/{relay}?period=7d")),
        ("distribution", "/distribution".to_owned()),
        (
            "distribution-compared",
            "/distribution?item=pair&period=7d&compare=previous".to_owned(),
        ),
        ("verdicts", "/verdicts".to_owned()),
        ("verdict", "/verdicts/1".to_owned()),
        ("report", "/report".to_owned()),
        ("relays", "/relays".to_owned()),
        ("system", "/system".to_owned()),
        ("nothing", "/nothing-of-that-name".to_owned()),
    ]
}

/// The body is not wider than the window: on a telephone nobody can read what is.
fn not_too_wide(page: &Page<'_>, what: &str) {
    let wide = page
        .evaluate(
            "document.documentElement.scrollWidth <= innerWidth ? [] :
                [...document.body.querySelectorAll('*')]
                    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
                    .slice(0, 8).map((one) => one.outerHTML.slice(0, 120))",
        )
        .good();
    assert_eq!(wide, serde_json::json!([]), "{what} is too wide");
}

#[test]
fn every_screen_is_clean_in_every_look() {
    let pictures = output_folder().join("screenshots");
    std::fs::create_dir_all(&pictures).expect("a folder");
    let mut problems = Vec::new();
    watch("sfbscreens", "", |watched| {
        let page = watched.page();
        for (name, path) in screens(watched) {
            for (width, look) in [("desktop", Look::DESKTOP), ("phone", Look::PHONE)] {
                for (scheme, look) in [("light", look), ("dark", look.dark())] {
                    let what = format!("{name}, {width}, {scheme}");
                    page.look(look).good();
                    page.open(&path).good();
                    page.idle(std::time::Duration::from_millis(200)).good();
                    // The error is the answer that was asked for.
                    let refused = ["sources-refused", "nothing"].contains(&name);
                    let faults = page.faults().good();
                    let faults = faults.iter().filter(|fault| {
                        !(refused && fault.contains("server responded with a status of 4"))
                    });
                    problems.extend(faults.map(|fault| format!("{what}: {fault}")));
                    not_too_wide(&page, &what);
                    let picture = pictures.join(format!("{name}-{width}-{scheme}.png"));
                    std::fs::write(picture, page.picture(true).good()).expect("a picture");
                    if width == "phone" && scheme == "dark" {
                        continue;
                    }
                    for violation in violations(&page) {
                        let text = format!("{what}: {violation}");
                        if violation.is_serious() {
                            problems.push(text);
                        } else {
                            println!("{text}");
                        }
                    }
                    fault_free(&page, &format!("axe-core in {what}"));
                }
            }
        }
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_screen_is_light_and_soon_there() {
    watch("sfbweight", "", |watched| {
        let mut files: BTreeMap<String, u64> = BTreeMap::new();
        let mut heaviest = (0, "");
        for (name, path) in screens(watched) {
            // A visitor who was never here.
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            page.open(&path).good();
            let requests = page.requests().good();
            let (document, others) = requests.split_first().expect("the screen itself");
            let mut weight = document.octets;
            for request in others.iter().filter(|r| !r.url.contains("/api/")) {
                weight += request.octets;
                files.insert(request.url.clone(), request.octets);
            }
            heaviest = heaviest.max((document.octets, name));
            let paint = page
                .evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
                .good();
            println!(
                "{name:<22} {:>7} octets of HTML, {weight:>7} in {} requests, first paint after {:.0} ms",
                document.octets,
                requests.len(),
                paint.as_f64().expect("milliseconds")
            );
        }
        let static_files: u64 = files.values().sum();
        let (document, name) = heaviest;
        println!(
            "{} static files: {static_files} octets; {files:#?}",
            files.len()
        );
        assert!(
            static_files + document < WEIGHT,
            "{static_files} octets of files and {document} of {name} are too many"
        );
    });
}

#[test]
fn whatever_goes_wrong_in_a_page_is_seen() {
    watch("sfbfaults", "", |watched| {
        let page = watched.page();
        page.open("/").good();
        fault_free(&page, "the page itself");
        for (wrong, sign) in [
            ("alert('a dialog')", "dialog"),
            ("console.error('an error')", "console"),
            ("console.warn('a warning')", "console"),
            ("setTimeout(() => { throw new Error('thrown') })", "thrown"),
            (
                "document.head.appendChild(document.createElement('script')).textContent = '1'",
                "Content Security Policy",
            ),
            (
                "document.body.setAttribute('style', 'color: red')",
                "Content Security Policy",
            ),
            (
                "document.body.appendChild(document.createElement('img')).src = 'http://192.0.2.1/x'",
                "elsewhere",
            ),
            ("fetch('/nothing-of-that-name').then(() => 0)", "404"),
        ] {
            page.evaluate(&format!("{wrong}; 0")).good();
            page.wait(
                "a moment",
                "new Promise((done) => setTimeout(() => done(true), 100))",
            )
            .good();
            let faults = page.faults().good();
            assert!(
                faults.iter().any(|fault| fault.contains(sign)),
                "{wrong} is not seen: {faults:?}"
            );
        }
        page.look(Look::PHONE).good();
        not_too_wide(&page, "the page itself");
        page.evaluate("document.querySelector('h1').textContent = 'x'.repeat(300); 0")
            .good();
        let wide = page.evaluate("document.documentElement.scrollWidth > innerWidth");
        assert_eq!(wide.good(), true, "a page that is too wide is not seen");
        page.evaluate("document.querySelector('h1').replaceWith(document.createElement('img')); 0")
            .good();
        let found = violations(&page);
        assert!(
            found
                .iter()
                .any(|v| v.is_serious() && v.rule == "image-alt"),
            "axe-core does not see a picture without words: {found:?}"
        );
    });
}
