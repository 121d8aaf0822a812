//! Who may read and who may change what, on a running agent: every path, from loopback and from elsewhere,
//! with each token, for each kind of page, against a table.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use smtpflow_tests::tokens::{ACT, READ, WRONG, configuration};
use xtask::command::{self, poll_until};
use xtask::lab::{AgentOptions, GATEWAY_CLIENT_SIDE, Lab, Topology, http_get, http_request};

const LIMIT: Duration = Duration::from_secs(60);

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

/// Every path that there is for a `GET` with its method, from what the server says of itself: those for
/// programs from the description of the API, those for people from the links of the page.
fn paths(server: SocketAddr) -> BTreeSet<(&'static str, String)> {
    let document = http_get(server, "/api/openapi.json", &[])
        .and_then(|answer| answer.json())
        .expect("the description of the API");
    let mut paths = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let parts = [
            ("{addr}", "192.0.2.1"),
            ("{id}", "1"),
            ("{month}", "2026-11"),
        ];
        let path = parts.iter().fold(path.clone(), |path, (part, value)| {
            path.replace(part, value)
        });
        assert!(
            !path.contains('{'),
            "{path} has a part that is not known here"
        );
        for method in ["get", "post"] {
            if !methods[method].is_null() {
                paths.insert((if method == "get" { "GET" } else { "POST" }, path.clone()));
            }
        }
    }
    let mut next = vec!["/".to_owned()];
    while let Some(path) = next.pop() {
        if !paths.insert(("GET", path.clone())) {
            continue;
        }
        let page = http_get(server, &path, &[]).expect("an answer");
        if page
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
        {
            let page = page.text();
            for name in ["href=\"/", "src=\"/"] {
                for link in page.split(name).skip(1) {
                    let link = link.split(['"', '?', '#']).next().unwrap_or_default();
                    next.push(format!("/{link}"));
                }
            }
        }
    }
    paths
}

#[test]
fn every_path_is_open_to_whom_the_table_says_and_to_nobody_else() {
    let lab = Lab::gateway("tactwho", Topology::default()).expect("a laboratory");
    lab.add_client("client").expect("a client");
    let config = configuration(lab.folder(), "");
    // The agent itself runs in the gateway's namespace, so that clients come from elsewhere.
    let options = AgentOptions::new(&lab).expect("options");
    lab.record_pins(&options.pins).expect("written down");
    let mut run = Command::new(command::find("nsenter").expect("nsenter, of util-linux"));
    run.arg(format!("--net=/run/netns/{}", lab.ns("gateway")))
        .arg(&options.binary)
        .args(["run", "--interface", GATEWAY_CLIENT_SIDE, "--window", "1s"])
        .args(["--listen", "0.0.0.0:12525", "--config"])
        .arg(&config)
        .arg("--pins")
        .arg(&options.pins)
        .arg("--store")
        .arg(options.store.as_ref().expect("a store"));
    let mut agent = lab.start(&mut run, "smtpflow").expect("it starts");
    let local = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 12525);
    let gateway = SocketAddr::new(IpAddr::from([198, 51, 100, 1]), 12525);
    let (ready, paths) = lab
        .within("gateway", || {
            let ready = poll_until(LIMIT, || {
                http_get(local, "/readyz", &[]).is_ok_and(|answer| answer.status == 200)
            });
            (ready, paths(local))
        })
        .expect("a thread in the namespace");
    assert!(ready && agent.is_running(), "{}", agent.log_text());
    let changing = paths.iter().filter(|(method, _)| *method == "POST").count();
    assert!(changing >= 3 && paths.len() > changing + 12, "{paths:?}");

    // Both ways to show a token, in turn.
    let shown = |token: &str, basic: bool| match basic {
        true => format!("Basic {}", base64(&format!("anna:{token}"))),
        false => format!("Bearer {token}"),
    };
    let mut asked = 0;
    for row in &TABLE {
        let (namespace, server) = match row.local {
            true => ("gateway", local),
            false => ("client", gateway),
        };
        let own = format!("http://{server}");
        let origins = [Some(&*own), Some("http://evil.example"), None];
        for ((method, path), (origin, expected)) in paths
            .iter()
            .filter(|(method, _)| (*method == "POST") == row.changes)
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
    for (method, path) in &paths {
        if *method == "GET" && !paths.contains(&("POST", path.clone())) {
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                let answer = lab
                    .within("client", || {
                        http_request(gateway, (method, path), &headers, Some("{}"))
                    })
                    .expect("a thread in the namespace")
                    .expect("an answer");
                assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
                assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
            }
        }
    }
    println!("{} paths, {asked} questions of the table", paths.len());
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
