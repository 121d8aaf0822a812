//! Who may read and who may change what, on a running agent: every route, from loopback and from elsewhere,
//! with each token, for each kind of page, against a table; and `docs/routes.md` is made of the answers.

use std::collections::BTreeMap;

use smtp_user::serve::routes;
use smtpflow_tests::reached::{self, GATEWAY, LOCAL};
use smtpflow_tests::tokens::{ACT, READ, WRONG};
use xtask::lab::{Lab, Topology, http_request};

/// What stands in the answer to who shows which token: nobody's, a wrong one, the read token, the act
/// token; each on its own page, on a page of somebody else's, and without a browser.
struct Row {
    /// Whether it comes from loopback.
    local: bool,
    /// Whether something is changed.
    changes: bool,
    token: Option<&'static str>,
    /// For a page of ours, for one of another origin, without a browser. 0: it is let through.
    statuses: [u16; 3],
}

const TABLE: [Row; 16] = {
    const fn row(
        local: bool,
        changes: bool,
        token: Option<&'static str>,
        statuses: [u16; 3],
    ) -> Row {
        Row {
            local,
            changes,
            token,
            statuses,
        }
    }
    [
        // What is read, from loopback: everybody.
        row(true, false, None, [0, 0, 0]),
        row(true, false, Some(WRONG), [0, 0, 0]),
        row(true, false, Some(READ), [0, 0, 0]),
        row(true, false, Some(ACT), [0, 0, 0]),
        // From elsewhere: with either token.
        row(false, false, None, [401, 401, 401]),
        row(false, false, Some(WRONG), [401, 401, 401]),
        row(false, false, Some(READ), [0, 0, 0]),
        row(false, false, Some(ACT), [0, 0, 0]),
        // What is changed: with the act token and not for a page of somebody else's, from anywhere.
        row(true, true, None, [401, 401, 401]),
        row(true, true, Some(WRONG), [401, 401, 401]),
        row(true, true, Some(READ), [403, 403, 403]),
        row(true, true, Some(ACT), [0, 403, 0]),
        row(false, true, None, [401, 401, 401]),
        row(false, true, Some(WRONG), [401, 401, 401]),
        row(false, true, Some(READ), [403, 403, 403]),
        row(false, true, Some(ACT), [0, 403, 0]),
    ]
};

/// Who may do what on each route, as it is for whoever reads the documentation.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/routes.md");

/// What a row of the table is called on the page.
fn column(row: &Row) -> &'static str {
    match (row.local, row.token) {
        (true, None) => "loopback, no token",
        (true, Some(WRONG)) => "wrong token",
        (true, Some(READ)) => "read token",
        (true, Some(_)) => "act token",
        (false, None) => "elsewhere, no token",
        (false, Some(WRONG)) => "wrong",
        (false, Some(READ)) => "read",
        (false, Some(_)) => "act",
    }
}

/// Every route with each of its methods, and a path of it; and one that is no route.
fn paths() -> BTreeMap<(&'static str, String), String> {
    let mut paths = BTreeMap::new();
    let none = [("/nothing", "GET, HEAD")];
    for (route, methods) in routes().into_iter().chain(none) {
        let parts = [
            ("{addr}", "192.0.2.1"),
            ("{id}", "1"),
            ("{month}", "2026-11"),
        ];
        let path = parts.iter().fold(route.to_owned(), |path, (part, value)| {
            path.replace(part, value)
        });
        assert!(
            !path.contains('{'),
            "{path} has a part that is not known here"
        );
        for method in methods.split(", ").filter(|method| *method != "HEAD") {
            let name = match route {
                "/nothing" => "any other path".to_owned(),
                route => format!("`{method} {route}`"),
            };
            paths.insert((method, path.clone()), name);
        }
    }
    paths
}

/// The page of the documentation: a line for each route, with what was answered to each.
fn page(answers: &BTreeMap<String, Vec<(&'static str, u16)>>) -> String {
    let mut page = "# Who may do what\n\n\
        Made of what a running agent with both tokens answered, by\n\
        `SMTPFLOW_UPDATE_README=1 cargo test -p smtpflow-tests --test access`; do not edit. `yes`: the request is \
        let through\n\
        (what it asks for may still be missing or wrong). `HEAD` is as `GET`. 401: send a token, or another \
        one; 403: this\n\
        token only reads. Without an act token in the configuration nothing can be changed (403). What a browser \
        sends for a\n\
        page of another origin changes nothing either (403).\n\n"
        .to_owned();
    let columns: Vec<_> = answers.values().next().expect("a route").iter().collect();
    page.push_str("| route |");
    for (column, _) in &columns {
        page.push_str(&format!(" {column} |"));
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(columns.len()));
    page.push('\n');
    for (route, answers) in answers {
        page.push_str(&format!("| {route} |"));
        for (_, status) in answers {
            match status {
                401 | 403 | 405 | 421 => page.push_str(&format!(" {status} |")),
                _ => page.push_str(" yes |"),
            }
        }
        page.push('\n');
    }
    page
}

#[test]
fn every_path_is_open_to_whom_the_table_says_and_to_nobody_else() {
    let lab = Lab::gateway("tactwho", Topology::default()).expect("a laboratory");
    lab.add_client("client").expect("a client");
    // It runs in the gateway's namespace, so that clients come from elsewhere.
    let agent = reached::start(&lab, "");
    let paths = paths();
    let mut answers: BTreeMap<String, Vec<(&'static str, u16)>> = BTreeMap::new();
    let changing = paths.keys().filter(|(method, _)| *method == "POST").count();
    assert!(changing >= 3 && paths.len() > changing + 12, "{paths:?}");

    // Both ways to show a token, in turn.
    let shown = |token: &str, basic: bool| match basic {
        true => format!("Basic {}", base64(&format!("anna:{token}"))),
        false => format!("Bearer {token}"),
    };
    let mut asked = 0;
    for row in &TABLE {
        let (namespace, server) = match row.local {
            true => ("gateway", LOCAL),
            false => ("client", GATEWAY),
        };
        let own = format!("http://{server}");
        let origins = [Some(&*own), Some("http://evil.example"), None];
        for (((method, path), name), (origin, expected)) in paths
            .iter()
            .filter(|((method, _), _)| (*method == "POST") == row.changes)
            .flat_map(|path| origins.iter().zip(row.statuses).map(move |way| (path, way)))
        {
            asked += 1;
            let authorization = row.token.map(|token| shown(token, asked % 2 == 0));
            let mut headers = vec![("Content-Type", "application/json")];
            headers.extend(
                authorization
                    .iter()
                    .map(|value| ("Authorization", &**value)),
            );
            headers.extend(origin.iter().map(|origin| ("Origin", *origin)));
            // Nothing is changed by it: it lacks all that has to be there.
            let body = row.changes.then_some("{}");
            // A stream does not end by itself; its head tells as much.
            let asked_with = if path == "/api/v1/events" {
                "HEAD"
            } else {
                *method
            };
            let answer = lab
                .within(namespace, || {
                    http_request(server, (asked_with, path), &headers, body)
                })
                .expect("a thread in the namespace")
                .unwrap_or_else(|error| panic!("{method} {path}: {error:#}"));
            let open = path == "/healthz" && !row.changes;
            let what = format!(
                "{method} {path} from loopback {}, token {:?}, origin {origin:?}: {}",
                row.local,
                row.token,
                answer.text()
            );
            if origin.is_none() {
                let columns = answers.entry(name.clone()).or_default();
                columns.push((column(row), answer.status));
            }
            match expected {
                _ if open => assert_eq!(answer.status, 200, "{what}"),
                0 if row.changes => assert_eq!(answer.status, 400, "{what}"),
                0 => assert!(!matches!(answer.status, 401 | 403 | 405 | 421), "{what}"),
                expected => assert_eq!(answer.status, expected, "{what}"),
            }
            if answer.status == 401 {
                let challenges: Vec<_> = answer
                    .headers
                    .iter()
                    .filter(|(name, _)| name == "www-authenticate")
                    .map(|(_, value)| value.split(' ').next().unwrap_or_default())
                    .collect();
                // A browser would show a login of its own to a page that has sent a token itself.
                let bearer = authorization
                    .as_ref()
                    .is_some_and(|value| value.starts_with("Bearer"));
                let expected = if bearer {
                    &["Bearer"][..]
                } else {
                    &["Bearer", "Basic"]
                };
                assert_eq!(challenges, expected, "{what}");
            }
        }
    }
    // What is only read cannot be changed by whoever may.
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", &*format!("Bearer {ACT}")),
    ];
    for (method, path) in paths.keys() {
        if *method == "GET" && !paths.contains_key(&("POST", path.clone())) {
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                let answer = lab
                    .within("client", || {
                        http_request(GATEWAY, (method, path), &headers, Some("{}"))
                    })
                    .expect("a thread in the namespace")
                    .expect("an answer");
                assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
                assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
            }
        }
    }
    println!("{} paths, {asked} questions of the table", paths.len());
    let made = page(&answers);
    if std::env::var_os("SMTPFLOW_UPDATE_README").is_some() {
        std::fs::write(PAGE, &made).expect("it can be written");
    }
    let page = std::fs::read_to_string(PAGE).unwrap_or_default();
    for line in made
        .lines()
        .filter(|line| !page.lines().any(|other| other == *line))
    {
        println!("not in docs/routes.md: {line}");
    }
    assert!(
        page == made,
        "docs/routes.md is out of date: it has to be\n{made}"
    );
    let log = agent.log_text();
    assert!(
        !log.contains(READ) && !log.contains(ACT),
        "a token is in the log"
    );
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let mut bits = [0; 4];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i) & 63) as usize;
            let letter = if i <= three.len() {
                ALPHABET[sextet]
            } else {
                b'='
            };
            encoded.push(char::from(letter));
        }
    }
    encoded
}
