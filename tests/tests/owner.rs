//! Whose host it is, with real parts: the kernel's own table, net-snmp's agent on thousands of real routes, our
//! RWhois server and our client, and answers of RDAP, whois and RWhois over loopback as servers give them
//! and as nobody should.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xtask::command::{Finished, finish, poll_until};
use xtask::lab::{Lab, free_listen_address, smtpflow_binary};

const LIMIT: Duration = Duration::from_secs(120);
/// Routes of each family in the router's namespace.
const V4_ROUTES: usize = 4000;
const V6_ROUTES: usize = 1000;

/// Writes a file that only its owner can read.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    path
}

fn smtpflow(words: &[&str]) -> Command {
    let mut command = Command::new(smtpflow_binary().expect("the program is built"));
    command.args(words);
    command
}

/// Runs to the end, which has to come with this exit code.
fn ends(code: i32, command: &mut Command) -> Finished {
    let finished = finish(command, LIMIT).expect("it ends");
    assert_eq!(
        finished.status.code(),
        Some(code),
        "{}{}",
        finished.stdout,
        finished.stderr
    );
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
    finished
}

fn owner(config: &Path, address: &str) -> Value {
    let config = config.to_str().expect("a path in UTF-8");
    let finished = ends(
        0,
        &mut smtpflow(&["owner", address, "--json", "--config", config]),
    );
    serde_json::from_str(&finished.stdout).expect("JSON")
}

/// What a source of an answer says, the last one that it says something of.
fn finding<'a>(owner: &'a Value, source: &str) -> &'a Value {
    let findings = owner["findings"].as_array().expect("findings");
    findings
        .iter()
        .rev()
        .find(|finding| finding["source"] == source)
        .unwrap_or_else(|| panic!("no {source} in {owner}"))
}

/// A namespace with a neighbour and thousands of routes to ten next hops.
fn router(prefix: &str) -> Lab {
    let lab = Lab::new(prefix).expect("a laboratory");
    for name in ["router", "beyond"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("router", "eth0"), ("beyond", "eth0"), None)
        .expect("a link");
    lab.ip("router", "addr add 192.0.2.1/24 dev eth0")
        .expect("an address");
    lab.ip("router", "addr add 2001:db8::1/64 dev eth0 nodad")
        .expect("an address");
    let mut batch =
        String::from("route add default via 192.0.2.9\nroute add blackhole 10.255.0.0/16\n");
    batch.push_str("route add 203.68.52.0/22 via 192.0.2.7\n");
    for i in 0..V4_ROUTES {
        let (a, b, hop) = (i / 256, i % 256, 2 + i % 10);
        batch.push_str(&format!("route add 10.{a}.{b}.0/24 via 192.0.2.{hop}\n"));
    }
    for i in 0..V6_ROUTES {
        let hop = 2 + i % 10;
        batch.push_str(&format!(
            "-6 route add 2001:db8:{:x}::/48 via 2001:db8::{hop:x}\n",
            i + 1
        ));
    }
    let file = write(lab.folder(), "batch", &batch);
    let file = file.to_str().expect("a path in UTF-8");
    lab.run("router", "ip", &["-batch", file], LIMIT)
        .expect("routes");
    lab
}

/// Destination and next hop of the routes that have one, as iproute2 shows them.
fn shown(lab: &Lab) -> BTreeSet<(String, String)> {
    let mut routes = BTreeSet::new();
    for (family, whole) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        let text = lab
            .ip("router", &format!("-j {family} route show table main"))
            .expect("routes");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        for route in json.as_array().expect("a list") {
            if let Some(gateway) = route["gateway"].as_str() {
                let destination = match route["dst"].as_str().expect("a destination") {
                    "default" => whole,
                    other => other,
                };
                routes.insert((destination.to_owned(), gateway.to_owned()));
            }
        }
    }
    assert_eq!(routes.len(), 2 + V4_ROUTES + V6_ROUTES, "the batch");
    routes
}

/// The same, as `smtpflow routes` prints them.
fn printed(lab: &Lab, config: &Path) -> BTreeSet<(String, String)> {
    let config = config.to_str().expect("a path in UTF-8");
    let program = smtpflow_binary().expect("the program is built");
    let program = program.to_str().expect("a path in UTF-8");
    let words = ["routes", "--json", "--config", config];
    let finished = ends(0, &mut lab.command("router", program, &words));
    let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(json["failed"], json!([]));
    let routes = json["routes"].as_array().expect("routes");
    routes
        .iter()
        .filter_map(|route| {
            let hop = route["next_hop"].as_str()?;
            let destination = route["destination"].as_str()?;
            Some((
                format!("{destination}/{}", route["prefix_length"]),
                hop.to_owned(),
            ))
        })
        .collect()
}

const CONTACTS: &str = "next_hop,prefix,name,mail,note\n192.0.2.7,,Dormitory,abuse@dorm.example,between us\n\
    192.0.2.5,,Physics,abuse@physics.example,\n,192.0.2.0/24,Backbone,noc@example.net,between us\n";

#[test]
fn the_table_of_the_kernel_is_read_whole_and_leads_to_contacts() {
    let lab = router("townkernel");
    let contacts = write(lab.folder(), "contacts.csv", CONTACTS);
    let config = write(
        lab.folder(),
        "kernel.toml",
        &format!("[owner]\norder = [\"contacts\", \"kernel\"]\ncontacts = [{contacts:?}]\n"),
    );
    assert_eq!(printed(&lab, &config), shown(&lab));

    // From outside, through the handle of the namespace.
    let outside = write(
        lab.folder(),
        "outside.toml",
        &format!(
            "[meter]\nnetns = \"{}\"\n[owner]\norder = [\"contacts\", \"kernel\"]\ncontacts = [{contacts:?}]\n",
            lab.ns("router")
        ),
    );
    let answer = owner(&outside, "203.68.53.9");
    assert_eq!(answer["owner"]["name"], "Dormitory", "{answer}");
    let found = finding(&answer, "kernel");
    assert_eq!(found["route"]["destination"], "203.68.52.0/22");
    assert_eq!(found["route"]["next_hop"], "192.0.2.7");
    assert_eq!(found["route"]["interface"], "eth0");
    let provenance = found["provenance"].as_str().expect("text");
    assert!(provenance.ends_with("contacts.csv:2"), "{provenance}");
    assert_eq!(finding(&answer, "contacts")["outcome"], "nobody");
    // The longest prefix leads nowhere, and the default route is not taken instead.
    let answer = owner(&outside, "10.255.1.1");
    assert_eq!(answer["owner"], Value::Null, "{answer}");
    let answer = owner(&outside, "192.0.2.200");
    assert_eq!(answer["owner"]["name"], "Backbone", "{answer}");

    let outside = outside.to_str().expect("a path in UTF-8");
    let table = ends(0, &mut smtpflow(&["routes", "--config", outside])).stdout;
    let row = table
        .lines()
        .find(|line| line.contains("203.68.52.0"))
        .expect("a row");
    let words: Vec<&str> = row.split_whitespace().take(4).collect();
    assert_eq!(words, ["192.0.2.7", "203.68.52.0", "255.255.252.0", "4"]);
    let csv = ends(
        0,
        &mut smtpflow(&["routes", "--format", "csv", "--config", outside]),
    )
    .stdout;
    assert!(
        csv.contains("\r\n192.0.2.7,203.68.52.0,255.255.252.0,4,eth0,"),
        "{csv:.500}"
    );
}

#[test]
fn the_table_of_a_router_is_read_by_snmp_in_both_versions() {
    let lab = router("townsnmp");
    let folder = lab.folder();
    let snmpd_config = write(
        folder,
        "snmpd.conf",
        "agentaddress udp:127.0.0.1:1161\nrocommunity l4b-community 127.0.0.1\n\
         createUser smtpflow SHA-256 \"auth-passphrase\" AES \"privacy-passphrase\"\nrouser smtpflow priv\n",
    );
    let persistent = folder.join("snmp");
    fs::create_dir(&persistent).expect("a folder");
    let mut command = lab.command(
        "router",
        "snmpd",
        &[
            "-f",
            "-Lo",
            "-C",
            "-c",
            snmpd_config.to_str().expect("a path in UTF-8"),
        ],
    );
    command.env("SNMP_PERSISTENT_DIR", &persistent);
    let snmpd = lab.start(&mut command, "snmpd").expect("snmpd starts");

    let contacts = write(folder, "contacts.csv", CONTACTS);
    let community = write(folder, "community", "l4b-community\n");
    let auth = write(folder, "auth", "auth-passphrase\n");
    let privacy = write(folder, "privacy", "privacy-passphrase\n");
    let wrong = write(folder, "wrong", "another-passphrase\n");
    let config = |name: &str, router: &str| {
        let text = format!(
            "[owner]\norder = [\"routers\"]\ncontacts = [{contacts:?}]\n[[owner.router]]\nname = \"border\"\n\
             address = \"127.0.0.1:1161\"\ntime = \"60s\"\n{router}"
        );
        write(folder, name, &text)
    };
    let v2c = config("v2c.toml", &format!("community_file = {community:?}\n"));
    let v3 = config(
        "v3.toml",
        &format!(
            "version = \"3\"\nuser = \"smtpflow\"\nauth = \"sha256\"\nauth_file = {auth:?}\nprivacy = \"aes128\"\n\
             privacy_file = {privacy:?}\nrepetitions = 20\n"
        ),
    );
    let program = smtpflow_binary().expect("the program is built");
    let program = program.to_str().expect("a path in UTF-8");
    let run = |verb: &[&str], config: &Path| {
        let mut words = verb.to_vec();
        words.extend(["--config", config.to_str().expect("a path in UTF-8")]);
        finish(&mut lab.command("router", program, &words), LIMIT).expect("it ends")
    };
    // It takes a moment until snmpd answers.
    let answers = poll_until(LIMIT, || run(&["routes", "--json"], &v2c).status.success());
    assert!(answers, "{}", snmpd.log_text());
    let expected = shown(&lab);
    for config in [&v2c, &v3] {
        let begun = Instant::now();
        assert_eq!(printed(&lab, config), expected);
        println!("{} routes in {:?}", expected.len(), begun.elapsed());
    }
    // The older tables have IPv4 alone.
    let v4: BTreeSet<_> = expected
        .iter()
        .filter(|(to, _)| !to.contains(':'))
        .cloned()
        .collect();
    for table in ["ip_cidr", "ip_route"] {
        let config = config(
            &format!("{table}.toml"),
            &format!("community_file = {community:?}\ntable = \"{table}\"\n"),
        );
        assert_eq!(printed(&lab, &config), v4, "{table}");
    }

    let finished = run(&["owner", "203.68.53.9", "--json"], &v3);
    let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(answer["owner"]["name"], "Dormitory", "{answer}");
    let provenance = finding(&answer, "routers")["provenance"]
        .as_str()
        .expect("text");
    assert!(
        provenance.contains("border (inetCidrRouteTable)"),
        "{provenance}"
    );

    // Who is not let in says so, soon, and without a secret.
    for (name, router) in [
        (
            "wrong-community.toml",
            format!("community_file = {wrong:?}\n"),
        ),
        (
            "wrong-auth.toml",
            format!(
                "version = \"3\"\nuser = \"smtpflow\"\nauth = \"sha256\"\nauth_file = {wrong:?}\n"
            ),
        ),
    ] {
        let config = config(name, &router);
        let begun = Instant::now();
        let finished = run(&["routes"], &config);
        assert_eq!(finished.status.code(), Some(69), "{}", finished.stderr);
        assert!(
            finished
                .stderr
                .contains("the router border at 127.0.0.1:1161"),
            "{}",
            finished.stderr
        );
        assert!(
            !finished.stderr.contains("another-passphrase"),
            "{}",
            finished.stderr
        );
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

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

/// A server on loopback that does this with every client; its address.
fn server(act: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let act = Arc::new(act);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = Arc::clone(&act);
            thread::spawn(move || act(stream));
        }
    });
    address
}

/// The first line of what a client asks.
fn asked(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
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
