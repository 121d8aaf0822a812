//! Whose host it is, by routes, with real parts: the kernel's own table, net-snmp's agent on thousands of real
//! routes; and the page of a host.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smtpflow_tests::owners::{LIMIT, asked, ends, finding, owner, server, smtpflow, write};
use xtask::command::{finish, poll_until};
use xtask::lab::{AgentOptions, Lab, smtpflow_binary};

/// Routes of each family in the router's namespace.
const V4_ROUTES: usize = 4000;
const V6_ROUTES: usize = 1000;

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
            "route add 2001:db8:{:x}::/48 via 2001:db8::{hop:x}\n",
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
    let timed = |name: &str, time: &str, router: &str| {
        let text = format!(
            "[owner]\norder = [\"routers\"]\ncontacts = [{contacts:?}]\n[[owner.router]]\nname = \"border\"\n\
             address = \"127.0.0.1:1161\"\ntime = \"{time}\"\n{router}"
        );
        write(folder, name, &text)
    };
    let config = |name: &str, router: &str| timed(name, "60s", router);
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
        // Who says nothing is asked again for longer than a test should take.
        let config = timed(name, "7s", &router);
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
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    // From one call to the next it is kept, where there is a folder for that: then the router need not be there.
    let kept = folder.join("kept");
    fs::create_dir(&kept).expect("a folder");
    let text = fs::read_to_string(&v2c).expect("a configuration");
    let text = text.replace("[owner]\n", &format!("[owner]\nstate = {kept:?}\n"));
    let keeping = write(folder, "keeping.toml", &text);
    assert_eq!(printed(&lab, &keeping), expected);
    drop(snmpd);
    let begun = Instant::now();
    assert_eq!(printed(&lab, &keeping), expected);
    println!("{} kept routes in {:?}", expected.len(), begun.elapsed());
    let finished = run(&["owner", "203.68.53.9", "--json"], &keeping);
    let answer: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(answer["owner"]["name"], "Dormitory", "{answer}");
    assert!(finding(&answer, "routers")["age"].is_u64(), "{answer}");
    for (words, config) in [
        (&["routes", "--fresh"][..], &keeping),
        (&["routes"][..], &v2c),
    ] {
        let finished = run(words, config);
        assert_eq!(finished.status.code(), Some(69), "{}", finished.stderr);
    }
    // What is damaged is not used, and that is said.
    for file in fs::read_dir(&kept).expect("a folder") {
        let path = file.expect("a file").path();
        let mut octets = fs::read(&path).expect("a file");
        octets.pop();
        fs::write(&path, octets).expect("written");
    }
    let finished = run(&["routes"], &keeping);
    assert_eq!(finished.status.code(), Some(69), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("it is damaged"),
        "{}",
        finished.stderr
    );
}

#[test]
fn the_page_of_a_host_says_whose_it_is_within_what_the_kernel_allows_the_agent() {
    let lab = Lab::new("townpage").expect("a laboratory");
    for name in ["gateway", "beyond"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("gateway", "eth0"), ("beyond", "eth0"), None)
        .expect("a link");
    let whois = server(|mut stream| {
        let address = asked(&mut stream);
        let text = format!("OrgName: <b>{address}</b>\r\nOrgAbuseEmail: abuse@example.net\r\n");
        let _ = stream.write_all(text.as_bytes());
    });
    // A port that nobody has named: the kernel refuses it to the agent, and the page says so.
    let elsewhere = server(|mut stream| {
        asked(&mut stream);
        let _ = stream.write_all(b"OrgAbuseEmail: elsewhere@example.net\r\n");
    });
    let leading = server(move |mut stream| {
        asked(&mut stream);
        let text = format!("ReferralServer: whois://{elsewhere}\r\n");
        let _ = stream.write_all(text.as_bytes());
    });
    let contacts = write(lab.folder(), "contacts.csv", CONTACTS);
    let kept = lab.folder().join("kept");
    fs::create_dir(&kept).expect("a folder");
    let page = |name: &str, whois: SocketAddr| {
        let config = write(
            lab.folder(),
            name,
            &format!(
                "[owner]\norder = [\"contacts\", \"whois\"]\ncontacts = [{contacts:?}]\nwhois = [\"{whois}\"]\n\
                 state = {kept:?}\n"
            ),
        );
        let mut options = AgentOptions::new(&lab).expect("options");
        options.interfaces = vec!["eth0".to_owned()];
        options.store = None;
        options.extra = vec!["--config".to_owned(), config.display().to_string()];
        let mut agent = lab.agent(&options).expect("an agent");
        agent.wait_ready(LIMIT).expect("it counts");
        let log = agent.process().log_text();
        assert!(log.contains("all rules held"), "{log}");
        let (mut pages, mut owners) = (Vec::new(), Vec::<Value>::new());
        for address in ["192.0.2.7", "203.0.113.9"] {
            let mut body = String::new();
            let answered = poll_until(LIMIT, || {
                let answer = agent.get(&format!("/host/{address}")).expect("a page");
                body = String::from_utf8_lossy(&answer.body).into_owned();
                !body.contains("being looked up")
            });
            assert!(answered, "{body}");
            assert!(body.contains("Whose host it is"), "{body}");
            pages.push(body);
            // Known by now, so it is there at once.
            let path = format!("/api/v1/sources/{address}/owner");
            let answer = agent.get(&path).expect("an answer");
            owners.push(serde_json::from_slice(&answer.body).expect("JSON"));
        }
        assert!(agent.stop().expect("it ends").success());
        (pages, owners)
    };
    let (pages, owners) = page("page.toml", whois);
    assert!(kept.join("answers.kept").exists(), "nothing is kept");
    assert!(pages[0].contains("Backbone") && pages[0].contains("noc@example.net"));
    assert!(!pages[0].contains("abuse@example.net"), "{}", pages[0]);
    assert!(pages[1].contains("abuse@example.net"), "{}", pages[1]);
    assert!(
        pages[1].contains("&lt;b&gt;203.0.113.9") || pages[1].contains("&#60;b&#62;203.0.113.9"),
        "{}",
        pages[1]
    );
    assert_eq!(owners[0]["owner"]["name"], "Backbone", "{}", owners[0]);
    let first = &owners[0]["findings"][0];
    assert_eq!(first["source"], "contacts", "{first}");
    assert!(first["age"].is_u64(), "{first}");
    let mail = &owners[1]["owner"]["mail"][0];
    assert_eq!(mail, "abuse@example.net", "{}", owners[1]);
    let (pages, owners) = page("elsewhere.toml", leading);
    assert!(owners[1]["owner"].is_null(), "{}", owners[1]);
    assert!(pages[1].contains("Permission denied"), "{}", pages[1]);
    assert!(!pages[1].contains("elsewhere@example.net"), "{}", pages[1]);
}

#[test]
fn half_a_million_routes_of_the_kernel_are_listed_in_bounded_memory() {
    /// What the program may have of memory of its own, in bytes: the routes as they are told and as they are
    /// kept, and nothing of what is printed (44 MB as a table). 30 MB are too few.
    const MEMORY: &str = "--data=67108864";
    const ROUTES: u32 = 500_000;
    let lab = Lab::new("townmany").expect("a laboratory");
    for name in ["router", "beyond"] {
        lab.add_namespace(name).expect("a namespace");
    }
    lab.link(("router", "eth0"), ("beyond", "eth0"), None)
        .expect("a link");
    lab.ip("router", "addr add 192.0.2.1/24 dev eth0")
        .expect("an address");
    let batch: String = (0..ROUTES)
        .map(|i| {
            let network = Ipv4Addr::from_bits((1 << 24) + (i << 8));
            format!("route add {network}/24 via 192.0.2.{}\n", 2 + i % 200)
        })
        .collect();
    let file = write(lab.folder(), "batch", &batch);
    let file = file.to_str().expect("a path in UTF-8");
    lab.run("router", "ip", &["-batch", file], LIMIT)
        .expect("routes");
    let config = write(
        lab.folder(),
        "kernel.toml",
        "[owner]\norder = [\"kernel\"]\n",
    );
    let config = config.to_str().expect("a path in UTF-8");
    let program = smtpflow_binary().expect("the program is built");
    let program = program.to_str().expect("a path in UTF-8");
    for form in ["table", "csv", "json"] {
        let begun = Instant::now();
        let words = [
            MEMORY, program, "routes", "--format", form, "--config", config,
        ];
        let finished = ends(0, &mut lab.command("router", "prlimit", &words));
        println!("{ROUTES} routes as {form} in {:?}", begun.elapsed());
        let listed = match form {
            "json" => finished.stdout.matches("\"next_hop\":\"192.0.2.").count(),
            "csv" => finished.stdout.matches("\r\n192.0.2.").count(),
            _ => finished.stdout.matches("\n192.0.2.").count(),
        };
        assert_eq!(listed, ROUTES as usize, "{form}");
    }
}
