//! Whose host it is, by what servers say: our RWhois server and our client, and answers of RDAP, whois and
//! RWhois over loopback, as registries give them and as nobody should.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smtpflow_tests::owners::{LIMIT, asked, ends, finding, owner, server, smtpflow, write};
use xtask::command::poll_until;
use xtask::lab::{Lab, free_listen_address};

#[test]
fn our_rwhois_server_answers_our_client_for_own_prefixes_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let lab = Lab::new("townrwhois").expect("a laboratory");
    let listen = free_listen_address().expect("a port");
    let contacts = write(
        folder,
        "contacts.csv",
        "prefix,name,mail,note\n192.0.2.0/24,Backbone,noc@example.net,between us\n\
        198.51.100.0/24,Stranger,x@stranger.example,\n",
    );
    let server = write(
        folder,
        "server.toml",
        &format!(
            "[networks]\nlocal = [\"192.0.2.0/23\"]\n[owner]\norder = [\"contacts\"]\ncontacts = [{contacts:?}]\n\
             serve_rwhois = \"{listen}\"\n"
        ),
    );
    let client = write(
        folder,
        "client.toml",
        &format!("[owner]\norder = [\"rwhois\"]\nrwhois = [\"{listen}\"]\n"),
    );
    let mut command = smtpflow(&[
        "serve-rwhois",
        "--config",
        server.to_str().expect("a path in UTF-8"),
    ]);
    let serving = lab.start(&mut command, "serve-rwhois").expect("it starts");
    let ready = poll_until(LIMIT, || serving.log_text().contains("answering RWhois"));
    assert!(ready, "{}", serving.log_text());

    let answer = owner(&client, "192.0.2.77");
    assert_eq!(answer["owner"]["name"], "Backbone", "{answer}");
    assert_eq!(answer["owner"]["mail"], json!(["noc@example.net"]));
    let found = finding(&answer, "rwhois");
    assert_eq!(
        (&found["network"], &found["age"]),
        (&json!("192.0.2.0/24"), &json!(0))
    );
    assert!(!answer.to_string().contains("between us"), "{answer}");
    for stranger in ["198.51.100.1", "192.0.3.1", "2001:db8::1"] {
        let answer = owner(&client, stranger);
        assert_eq!(finding(&answer, "rwhois")["outcome"], "nobody", "{answer}");
    }
    // Off until somebody says where.
    let client = client.to_str().expect("a path in UTF-8");
    let refused = ends(78, &mut smtpflow(&["serve-rwhois", "--config", client]));
    assert!(
        refused.stderr.contains("owner.serve_rwhois"),
        "{}",
        refused.stderr
    );
    let refused = ends(78, &mut smtpflow(&["owner", "192.0.2.1"]));
    assert!(refused.stderr.contains("owner.order"), "{}", refused.stderr);
}

/// A network of RDAP as a registry describes it.
fn network(first: &str, last: &str, up: Option<String>, mail: Option<&str>) -> String {
    let abuse = mail.map(|mail| {
        json!({"roles": ["abuse"], "vcardArray": ["vcard", [["fn", {}, "text", "Abuse Desk"], ["email", {}, "text", mail]]]})
    });
    json!({
        "rdapConformance": ["rdap_level_0"], "objectClassName": "ip network", "name": "TEST-NET",
        "startAddress": first, "endAddress": last,
        "links": up.map(|up| vec![json!({"rel": "up", "href": up})]).unwrap_or_default(),
        "entities": [{"roles": ["registrant"], "vcardArray": ["vcard", [["email", {}, "text", "boss@example.net"]]],
            "entities": abuse.map(|abuse| vec![abuse]).unwrap_or_default()}],
    })
    .to_string()
}

fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/rdap+json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A configuration that asks servers on loopback.
fn asking(folder: &Path, rdap: SocketAddr) -> PathBuf {
    let bootstrap = json!({"version": "1.0", "publication": "2026-11-27T00:00:00Z",
        "services": [[["0.0.0.0/0", "::/0"], [format!("http://{rdap}/rdap/")]]]});
    let bootstrap = write(folder, "bootstrap.json", &bootstrap.to_string());
    let text = format!(
        "[owner]\norder = [\"rdap\"]\ntimeout = \"3s\"\nrdap_bootstrap = [{bootstrap:?}]\n"
    );
    write(folder, "rdap.toml", &text)
}

#[test]
fn rdap_is_asked_for_the_network_and_for_those_around_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let rdap = server(|mut stream| {
        let line = asked(&mut stream);
        let at = stream.local_addr().expect("an address");
        let answer = match line.split(' ').nth(1).unwrap_or_default() {
            "/rdap/ip/192.0.2.7" => http(
                "200 OK",
                "",
                &network("192.0.2.0", "192.0.2.255", None, Some("abuse@example.net")),
            ),
            "/rdap/ip/198.51.100.7" => {
                let up = Some(format!("http://{at}/rdap/ip/198.51.0.0/16"));
                http(
                    "200 OK",
                    "",
                    &network("198.51.100.0", "198.51.100.255", up, None),
                )
            }
            "/rdap/ip/198.51.0.0/16" => http(
                "200 OK",
                "",
                &network(
                    "198.51.0.0",
                    "198.51.255.255",
                    None,
                    Some("parent@example.net"),
                ),
            ),
            "/rdap/ip/2001:db8::7" => {
                http("302 Found", &format!("Location: http://{at}/moved\r\n"), "")
            }
            "/moved" => http(
                "200 OK",
                "",
                &network(
                    "2001:db8::",
                    "2001:db8::ffff",
                    None,
                    Some("moved@example.net"),
                ),
            ),
            _ => http("404 Not Found", "", "{}"),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let config = asking(folder.path(), rdap);
    for (address, mail) in [
        ("192.0.2.7", Some("abuse@example.net")),
        ("198.51.100.7", Some("parent@example.net")),
        ("2001:db8::7", Some("moved@example.net")),
        ("203.0.113.1", None),
    ] {
        let answer = owner(&config, address);
        assert_eq!(answer["owner"]["mail"][0].as_str(), mail, "{answer}");
        assert_eq!(finding(&answer, "rdap")["age"], 0);
    }
}

#[test]
fn answers_that_registries_gave_lead_to_their_contacts_for_abuse() {
    /// An address, what was answered about it, and the contact that it names.
    const RECORDED: [(&str, &str, &str, &str); 4] = [
        (
            "8.8.8.8",
            include_str!("../data/rdap/arin.json"),
            "Abuse",
            "network-abuse@google.com",
        ),
        (
            "2001:4860:4860::8888",
            include_str!("../data/rdap/arin6.json"),
            "Google Inc",
            "arin-contact@google.com",
        ),
        (
            "86.54.11.1",
            include_str!("../data/rdap/ripe.json"),
            "Abuse-C Role",
            "abuse@whalebone.io",
        ),
        (
            "210.107.73.73",
            include_str!("../data/rdap/apnic.json"),
            "IRT-KRNIC-KR",
            "hostmaster@nic.or.kr",
        ),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let rdap = server(|mut stream| {
        let line = asked(&mut stream);
        let path = line.split(' ').nth(1).unwrap_or_default();
        let address = path.strip_prefix("/rdap/ip/").unwrap_or_default();
        let recorded = RECORDED.iter().find(|(of, ..)| *of == address);
        let answer = match recorded {
            Some((_, body, ..)) => http("200 OK", "", body),
            None => http("404 Not Found", "", "{}"),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let config = asking(folder.path(), rdap);
    for (address, _, name, mail) in RECORDED {
        let answer = owner(&config, address);
        assert_eq!(answer["owner"]["name"], name, "{answer}");
        assert_eq!(answer["owner"]["mail"], json!([mail]), "{answer}");
    }
}

#[test]
fn hostile_answers_end_soon_and_say_why() {
    /// Whatever comes, these octets, and then what else is done with the client.
    fn says(text: Vec<u8>, then: fn(&mut TcpStream)) -> SocketAddr {
        server(move |mut stream| {
            asked(&mut stream);
            let _ = stream.write_all(&text);
            then(&mut stream);
        })
    }
    fn close(_: &mut TcpStream) {}
    fn hang(stream: &mut TcpStream) {
        let _ = stream.read(&mut [0]);
    }
    fn drip(stream: &mut TcpStream) {
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    }
    fn pour(stream: &mut TcpStream) {
        while stream.write_all(&[b'x'; 1 << 14]).is_ok() {}
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let circle = server(|mut stream| {
        asked(&mut stream);
        let at = stream.local_addr().expect("an address");
        let _ = stream.write_all(
            http(
                "302 Found",
                &format!("Location: http://{at}/rdap/ip/192.0.2.7\r\n"),
                "",
            )
            .as_bytes(),
        );
    });
    let endless = server(|mut stream| {
        let path = asked(&mut stream)
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let at = stream.local_addr().expect("an address");
        let _ = stream.write_all(
            http(
                "302 Found",
                &format!("Location: http://{at}{path}x\r\n"),
                "",
            )
            .as_bytes(),
        );
    });
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let other = network("198.51.100.0", "198.51.100.255", None, Some("a@b.example"));
    for (rdap, expected) in [
        (circle, "a circle"),
        (endless, "more than 3 times"),
        (says(head.clone(), hang), "no whole answer within 3s"),
        (says(head.clone(), drip), "no whole answer within 3s"),
        (says(head.clone(), pour), "longer than 1024 KiB"),
        (says(Vec::new(), close), "breaks off in its head"),
        (says(b"\xff\xfe\r\n\r\n".to_vec(), close), "not HTTP"),
        (
            says([&head[..], &[b'['; 100_000]].concat(), close),
            "no JSON",
        ),
        (
            says(http("200 OK", "", &other).into_bytes(), close),
            "another network",
        ),
        (
            says(
                http("429 Slow down", "Retry-After: 9\r\n", "").into_bytes(),
                close,
            ),
            "asked less often",
        ),
        (
            says(
                http("302 Found", "Location: file:///etc/passwd\r\n", "").into_bytes(),
                close,
            ),
            "no address of a server",
        ),
    ] {
        let config = asking(folder, rdap);
        let begun = Instant::now();
        let answer = owner(&config, "192.0.2.7");
        let found = finding(&answer, "rdap");
        assert_eq!(found["outcome"], "failed", "{answer}");
        let reason = found["reason"].as_str().expect("text");
        assert!(reason.contains(expected), "{reason} for {expected}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{expected}");
    }
    // Whois and RWhois: circles are told, what was found before the circle stays.
    let whois = server(|mut stream| {
        asked(&mut stream);
        let at = stream.local_addr().expect("an address");
        let text = format!(
            "OrgName: Example\r\nOrgAbuseEmail: abuse@example.net\r\nReferralServer: whois://{at}\r\n"
        );
        let _ = stream.write_all(text.as_bytes());
    });
    let ask = |source: &str, at: SocketAddr| {
        let text =
            format!("[owner]\norder = [\"{source}\"]\ntimeout = \"3s\"\n{source} = [\"{at}\"]\n");
        owner(&write(folder, "directory.toml", &text), "192.0.2.7")
    };
    assert_eq!(ask("whois", whois)["owner"]["mail"][0], "abuse@example.net");
    for (source, at, expected) in [
        ("whois", says(Vec::new(), hang), "no whole answer within 3s"),
        ("whois", says(Vec::new(), pour), "longer than 64 KiB"),
        (
            "rwhois",
            says(b"SSH-2.0-x\r\n".to_vec(), close),
            "not RWhois",
        ),
        (
            "rwhois",
            says(b"%rwhois V-1.5 x\r\n".to_vec(), drip),
            "no whole answer within 3s",
        ),
        (
            "rwhois",
            says(b"%rwhois V-1.5 x\r\n%error 501 \x1b[2J\r\n".to_vec(), close),
            "error 501 \u{fffd}[2J",
        ),
        (
            "rwhois",
            says(b"%rwhois V-1.5 x\r\n".to_vec(), pour),
            "longer than 64 KiB",
        ),
    ] {
        let answer = ask(source, at);
        let reason = finding(&answer, source)["reason"]
            .as_str()
            .expect("text")
            .to_owned();
        assert!(reason.contains(expected), "{reason} for {expected}");
    }
    // Nobody listens there any more.
    let gone = free_listen_address().expect("a port");
    assert!(gone.ip().is_loopback() && gone.ip() != IpAddr::from([0, 0, 0, 0]));
    assert_eq!(finding(&ask("whois", gone), "whois")["outcome"], "failed");
}

/// A contact as registries write it (RFC 7095): an organisation, or a role with its address.
fn card(name: &str, mail: Option<&str>) -> Value {
    let mut card = vec![
        json!(["version", {}, "text", "4.0"]),
        json!(["adr", {"label": "Street 1\nTown\n12345\nCountry"}, "text", ["", "", "", "", "", "", ""]]),
        json!(["fn", {}, "text", name]),
        json!([
            "kind",
            {},
            "text",
            if mail.is_some() { "group" } else { "org" }
        ]),
    ];
    if let Some(mail) = mail {
        card.push(json!(["email", {"type": "abuse"}, "text", mail]));
        card.push(json!(["tel", {"type": ["work", "voice"]}, "text", "+1-555-555-0100"]));
    }
    json!(["vcard", card])
}

/// What an answer has beside its network: notices, events, a server of whois, what was left out.
fn around(mut network: Value, conformance: &[&str]) -> String {
    let more = json!({
        "rdapConformance": conformance,
        "notices": [{"title": "Terms of Service", "description": ["By using this service, you agree"],
            "links": [{"rel": "terms-of-service", "type": "text/html", "href": "https://registry.example/tou/"}]}],
        "ipVersion": "v4",
        "objectClassName": "ip network",
        "status": ["active"],
        "events": [{"eventAction": "last changed", "eventDate": "2023-12-28T17:24:56-05:00"}],
        "port43": "whois.registry.example",
        "redacted": [{"name": {"description": "Personal e-mail information"}, "method": "removal",
            "prePath": "$.entities[?(@.handle=='ORG-1')].vcardArray[1][?(@[0]=='e-mail')]"}],
    });
    let more = more.as_object().expect("an object").clone();
    network.as_object_mut().expect("an object").extend(more);
    // Some have spaces, and lines.
    serde_json::to_string_pretty(&network).expect("JSON")
}

#[test]
fn answers_in_the_forms_of_the_registries_are_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let rdap = server(|mut stream| {
        let line = asked(&mut stream);
        let at = stream.local_addr().expect("an address");
        let path = line.split(' ').nth(1).unwrap_or_default();
        let answer = match path {
            // ARIN: whom to tell is a part of the organisation.
            "/rdap/ip/192.0.2.7" => around(
                json!({
                    "handle": "NET-192-0-2-0-1", "startAddress": "192.0.2.0", "endAddress": "192.0.2.255",
                    "name": "EXAMPLE", "type": "DIRECT ALLOCATION", "parentHandle": "NET-192-0-0-0-0",
                    "links": [{"rel": "self", "href": format!("http://{at}{path}"), "type": "application/rdap+json"},
                        {"rel": "alternate", "href": "https://whois.registry.example/rest/net/1", "type": "application/xml"}],
                    "entities": [{"handle": "EX", "roles": ["registrant"], "vcardArray": card("Example LLC", None),
                        "objectClassName": "entity", "entities": [
                            {"handle": "TECH1", "roles": ["technical", "administrative"],
                                "vcardArray": card("Example LLC", Some("tech@example.net")), "objectClassName": "entity"},
                            {"handle": "ABUSE1", "roles": ["abuse"], "vcardArray": card("Abuse", Some("abuse@example.net")),
                                "status": ["validated"], "objectClassName": "entity"}]}],
                    "cidr0_cidrs": [{"v4prefix": "192.0.2.0", "length": 24}], "arin_originas0_originautnums": [],
                }),
                &[
                    "nro_rdap_profile_0",
                    "rdap_level_0",
                    "cidr0",
                    "arin_originas0",
                ],
            ),
            // RIPE: all stand beside each other. This network has nobody for abuse, that around it has.
            "/rdap/ip/198.51.100.7" => around(
                json!({
                    "handle": "198.51.100.0 - 198.51.100.255", "startAddress": "198.51.100.0",
                    "endAddress": "198.51.100.255", "name": "XX-EXAMPLE-20050512", "type": "ASSIGNED PA", "country": "DE",
                    "parentHandle": "198.51.0.0 - 198.51.255.255",
                    "entities": [
                        {"handle": "lir-xx-1-MNT", "roles": ["registrant"], "vcardArray": card("lir-xx-1-MNT", None)},
                        {"handle": "TS1-RIPE", "roles": ["administrative", "technical"],
                            "vcardArray": card("Tech support", Some("tech@example.net"))}],
                    "links": [
                        {"rel": "rdap-up rdap-active", "href": format!("http://{at}/ips/rirSearch1/rdap-up/x?status=active")},
                        {"rel": "rdap-up", "type": "application/rdap+json",
                            "href": format!("http://{at}/ips/rirSearch1/rdap-up/198.51.100.0%20-%20198.51.100.255")},
                        {"rel": "rdap-top", "href": format!("http://{at}/ips/rirSearch1/rdap-top/x")}],
                }),
                &["rirSearch1", "ips", "cidr0", "rdap_level_0", "redacted"],
            ),
            "/ips/rirSearch1/rdap-up/198.51.100.0%20-%20198.51.100.255" => around(
                json!({
                    "startAddress": "198.51.0.0", "endAddress": "198.51.255.255", "name": "XX-PROVIDER",
                    "entities": [
                        {"handle": "ORG-1", "roles": ["registrant"], "vcardArray": card("Provider s.r.o.", None)},
                        {"handle": "AR1-RIPE", "roles": ["abuse"], "vcardArray": card("Abuse-C Role", Some("abuse@provider.example")),
                            "entities": [{"handle": "MNT", "roles": ["registrant"], "vcardArray": card("MNT", None)}]}],
                }),
                &["rdap_level_0"],
            ),
            _ => String::new(),
        };
        let answer = match answer.is_empty() {
            true => http("404 Not Found", "", "{\"errorCode\": 404}"),
            false => http("200 OK", "", &answer),
        };
        let _ = stream.write_all(answer.as_bytes());
    });
    let config = asking(folder.path(), rdap);
    let answer = owner(&config, "192.0.2.7");
    assert_eq!(
        answer["owner"]["mail"],
        json!(["abuse@example.net"]),
        "{answer}"
    );
    assert_eq!(answer["owner"]["phone"], "+1-555-555-0100", "{answer}");
    let found = finding(&answer, "rdap");
    assert_eq!(found["network"], "EXAMPLE, 192.0.2.0 - 192.0.2.255");
    let answer = owner(&config, "198.51.100.7");
    assert_eq!(
        answer["owner"]["mail"],
        json!(["abuse@provider.example"]),
        "{answer}"
    );
    let found = finding(&answer, "rdap");
    assert_eq!(found["network"], "XX-PROVIDER, 198.51.0.0 - 198.51.255.255");
}
