//! Every screen in a real browser, on a real agent with weeks of history and real frames on its interface.
//!
//! Whatever a visitor should never meet makes a test fail: an error or a warning in the console, an
//! exception, a violation of the content policy, a request to any other host, a page that is wider than
//! its window, a first table that is cut, whatever axe-core finds. Pictures of all screens are left in
//! `target/xtask/screenshots`.

use std::collections::BTreeMap;

use smtpflow_tests::accessibility::violations;
use smtpflow_tests::watched::{Good as _, LIMIT, Watched, fault_free, output_folder, watch};
use xtask::browser::{Look, Page};
use xtask::command::poll_until;

/// All static files and the HTML of the first screen, as they are transferred.
const WEIGHT: u64 = 150_000;
/// The HTML of any screen: that of a host has a month of hours in it.
const DOCUMENT: u64 = 80_000;

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
        ("complaints", "/complaints".to_owned()),
        ("notices", "/notices".to_owned()),
        ("notice", "/notices/1".to_owned()),
        ("relays", "/relays".to_owned()),
        ("system", "/system".to_owned()),
        ("nothing", "/nothing-of-that-name".to_owned()),
    ]
}

/// Whether this is the answer that was asked for; it may also come when the next screen is there.
fn is_refused(fault: &str) -> bool {
    fault.contains("server responded with a status of 4")
        && [
            "/sources?filter=connections%3Emany",
            "/nothing-of-that-name",
        ]
        .iter()
        .any(|path| fault.contains(path))
}

/// What makes the body wider than the window: on a telephone nobody can read what is.
fn too_wide(page: &Page<'_>) -> Vec<String> {
    let wide = page
        .evaluate(
            "(() => {
                if (document.documentElement.scrollWidth <= innerWidth) return [];
                const scrolls = (one) => one !== document.body && one !== document.documentElement
                    && getComputedStyle(one).overflowX !== 'visible';
                const inside = (one) => one.parentElement !== null
                    && (scrolls(one.parentElement) || inside(one.parentElement));
                const wide = [...document.body.querySelectorAll('*')]
                    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !inside(one));
                return [`the body has ${document.documentElement.scrollWidth} pixels`,
                    ...wide.slice(0, 8).map((one) => one.outerHTML.slice(0, 160))];
            })()",
        )
        .good();
    serde_json::from_value(wide).expect("a list of text")
}

/// Tables of which a part is out of sight until somebody scrolls, of those that should be seen at once.
fn cut(page: &Page<'_>) -> Vec<String> {
    let cut = page
        .evaluate(
            "[...document.querySelectorAll('#top')].filter((one) => one.scrollWidth > one.clientWidth)
                .map((one) => `#${one.id} has ${one.scrollWidth} pixels in ${one.clientWidth}`)",
        )
        .good();
    serde_json::from_value(cut).expect("a list of text")
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
                    let faults = |when: &str| {
                        let mut faults = page.faults().good();
                        faults.retain(|fault| !is_refused(fault));
                        let told = faults.iter().map(|fault| format!("{what}{when}: {fault}"));
                        told.collect::<Vec<_>>()
                    };
                    problems.extend(faults(""));
                    let wide = too_wide(&page);
                    problems.extend(wide.iter().map(|wide| format!("{what}: too wide: {wide}")));
                    let cut = cut(&page);
                    problems.extend(cut.iter().map(|cut| format!("{what}: cut: {cut}")));
                    let picture = pictures.join(format!("{name}-{width}-{scheme}.png"));
                    std::fs::write(picture, page.picture(true).good()).expect("a picture");
                    if width == "phone" && scheme == "dark" {
                        continue;
                    }
                    let found = violations(&page);
                    problems.extend(found.iter().map(|found| format!("{what}: {found}")));
                    problems.extend(faults(", axe-core"));
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
        let mut documents: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, path) in screens(watched) {
            // A visitor who was never here.
            let page = watched.page();
            page.look(Look::DESKTOP).good();
            page.open(&path).good();
            page.wait(
                "something on the screen",
                "performance.getEntriesByName('first-contentful-paint').length",
            )
            .good();
            let paint = page
                .evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
                .good();
            let requests = page.requests().good();
            let mut weight = 0;
            for request in &requests {
                let file = request.url.rsplit('/').next().unwrap_or_default();
                if [".js", ".css", ".svg"]
                    .iter()
                    .any(|end| file.ends_with(end))
                {
                    weight += request.octets;
                    let known = files.entry(file.to_owned()).or_default();
                    *known = request.octets.max(*known);
                }
            }
            // What it asks for later is the same screen once more.
            let document = requests.iter().find(|request| request.octets > 0);
            let document = document.expect("a screen").octets;
            documents.insert(name, document);
            println!(
                "{name:<22} {document:>7} octets of HTML, {:>7} in {} requests, first paint after {:.0} ms",
                document + weight,
                requests.len(),
                paint.as_f64().expect("milliseconds")
            );
        }
        let static_files: u64 = files.values().sum();
        println!(
            "{} static files, {static_files} octets: {files:?}",
            files.len()
        );
        let first = documents["overview"] + static_files;
        assert!(
            first < WEIGHT,
            "the first screen and all files are {first} octets"
        );
        for (name, document) in documents {
            assert!(document < DOCUMENT, "{name} is {document} octets of HTML");
        }
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
            let mut faults = Vec::new();
            let seen = poll_until(LIMIT, || {
                faults.extend(page.faults().good());
                faults.iter().any(|fault| fault.contains(sign))
            });
            assert!(seen, "{wrong} is not seen: {faults:?}");
        }
        page.look(Look::PHONE).good();
        assert_eq!(too_wide(&page), [""; 0]);
        page.evaluate(
            "{
                const [state, connections, change] = document.querySelectorAll('#top tbody tr td');
                state.innerHTML = '<span class=badge>◐ acknowledged</span>';
                connections.innerHTML = '<strong>1,234,567</strong>';
                change.innerHTML = '<span class=change>▲ ×12,345</span>';
            } 0",
        )
        .good();
        assert_eq!(cut(&page), [""; 0], "long figures do not fit");
        page.evaluate("document.querySelector('main').style.minWidth = '500px'; 0")
            .good();
        assert!(
            too_wide(&page).len() > 1,
            "a page that is too wide is not seen"
        );
        page.evaluate("document.querySelector('#top table').style.minWidth = '500px'; 0")
            .good();
        assert_eq!(cut(&page).len(), 1, "a table that is cut is not seen");
        page.evaluate(
            "document.querySelector('main').replaceWith(document.createElement('img')); 0",
        )
        .good();
        let found = violations(&page);
        assert!(
            found
                .iter()
                .any(|v| v.impact == "critical" && v.rule == "image-alt"),
            "axe-core does not see a picture without words: {found:?}"
        );
    });
}
