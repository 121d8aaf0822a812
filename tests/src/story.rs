//! The stage on which the story of docs/abuse-desk.md is played: the laboratory, what runs in it, and the page as the script.
//!
//! ```text
//! bot -- DORMITORY -- ROUTER (snmpd) -- switch -- GATEWAY (agent) -- servers: a mail server with a log, sinks, a provider
//! 192.0.2.130                             |
//!                                 desk with its own mail server, ann
//! ```
//!
//! Contract: configuration, contacts and the router's own configuration are those of the page, commands are run in its order, and
//! what it shows of their output is what they say, but for numbers. Each is printed as it is played. With
//! `SMTPFLOW_UPDATE_README=1` the page gets the numbers of this time.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use smtp_user::model::period::milliseconds;
use smtp_user::report::time::Month;
use xtask::command::{Finished, finish, poll_until};
use xtask::lab::{
    Agent, AgentOptions, Capture, Client, GATEWAY_CLIENT_SIDE, Lab, Postfix, Process, Relaying,
    Topology, ensure_bpffs, smtpflow_binary,
};

use crate::office::{AUTHORITY, certify};
use crate::owners::write;
use crate::page::{Page, Shown};

/// The longest that anything may take.
pub const LIMIT: Duration = Duration::from_secs(120);
/// The host that the story is about.
pub const BOT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 130);
/// Servers in the world that take anything. Two more are before them: the one with the log, and a provider's.
pub const SINKS: u16 = 24;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/abuse-desk.md");
/// The month of the page.
pub const MONTH: &str = "2026-11";

/// The laboratory, and where in the page we are.
#[derive(Debug)]
pub struct Story {
    /// The laboratory.
    pub lab: Lab,
    page: Page,
    script: Vec<Shown>,
    /// Commands that were played.
    played: Cell<usize>,
    /// What they said, as the page has it shortened.
    said: RefCell<Vec<Vec<String>>>,
    /// What the page shows and was not said.
    wrong: RefCell<Vec<String>>,
    /// What stands in the page, and what it is here.
    places: Vec<(&'static str, String)>,
    config: PathBuf,
    /// Where the desk sits.
    pub desk: Client,
}

/// What runs in it until the end.
#[derive(Debug)]
pub struct Parts {
    /// The agent on the gateway.
    pub agent: Agent,
    /// The mail server whose log is read.
    pub server: Postfix,
    /// The mail server of the desk.
    pub desk: Postfix,
    /// What the operator has armed on the gateway, until it is ended.
    pub capture: Option<Capture>,
    _bot: Postfix,
    _others: Vec<Process>,
}

/// Says what happens.
pub fn tell(what: &str) {
    println!("\n* {what}");
}

impl Story {
    /// Everything in its place, and nothing runs.
    pub fn prepare() -> Self {
        ensure_bpffs().expect("bpffs");
        let topology = Topology {
            servers: 2 + SINKS,
            ..Topology::default()
        };
        let lab = Lab::gateway("sfstory", topology).expect("a laboratory");
        let [router, desk, _] = ["router", "desk", "ann"].map(|name| {
            let client = lab.add_client(name);
            client.expect("a client")
        });
        for name in ["dormitory", "bot"] {
            lab.add_namespace(name).expect("a namespace");
        }
        lab.link(("router", "town0"), ("dormitory", "up0"), None)
            .expect("a link");
        lab.link(("dormitory", "rooms"), ("bot", "eth0"), None)
            .expect("a link");
        let via_router = format!("route add 192.0.2.0/24 via {}", router.v4);
        for (name, words) in [
            ("router", "addr add 10.0.0.1/29 dev town0"),
            ("router", "route add 192.0.2.128/25 via 10.0.0.2"),
            ("router", "route add 192.0.2.0/25 via 10.0.0.3"),
            ("dormitory", "addr add 10.0.0.2/29 dev up0"),
            ("dormitory", "addr add 192.0.2.129/25 dev rooms"),
            ("dormitory", "route add default via 10.0.0.1"),
            ("bot", "addr add 192.0.2.130/25 dev eth0"),
            ("bot", "route add default via 192.0.2.129"),
            ("gateway", &via_router),
            ("desk", &via_router),
        ] {
            lab.ip(name, words).expect("a road");
        }
        for name in ["router", "dormitory"] {
            let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
            lab.within(name, forward)
                .expect("a thread")
                .expect("it forwards");
        }
        for folder in ["etc", "var", "snmp"] {
            fs::create_dir(lab.folder().join(folder)).expect("a folder");
        }
        let page = Page::new(fs::read_to_string(PAGE).expect("the page"));
        Self {
            config: lab.folder().join("etc/config.toml"),
            script: page.commands(),
            page,
            played: Cell::new(0),
            said: RefCell::new(Vec::new()),
            wrong: RefCell::new(Vec::new()),
            places: Vec::new(),
            lab,
            desk,
        }
    }

    /// The text of the page with the places of the laboratory.
    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (there, here) in &self.places {
            text = text.replace(there, here);
        }
        text
    }

    /// What was said here, with the places of the page.
    fn there(&self, said: &str) -> String {
        let mut said = said.to_owned();
        for (there, here) in &self.places {
            said = said.replace(here, there);
        }
        said
    }

    /// Starts all parts, as the page configures them.
    pub fn begin(&mut self) -> Parts {
        let lab = &self.lab;
        let folder = lab.folder().display().to_string();
        let server = lab
            .postfix(&[lab.server_v4(0).into()])
            .expect("the server with the log");
        let bot = lab.postfix_in("bot", Relaying::Everybody, &[BOT.into()]);
        let desk = mailbox(lab, &self.desk);
        let sinks: Vec<_> = (0..SINKS)
            .map(|index| SocketAddr::new(lab.server_v4(2 + index).into(), 25))
            .collect();
        let mut others = lab.sinks(&sinks, &[]).expect("sinks");
        let options = AgentOptions::new(lab).expect("options");
        let store = options.store.as_ref().expect("a store");
        self.places = vec![
            ("/var/log/mail.log", server.log_path().display().to_string()),
            ("~abuse/Maildir", desk.complaints().display().to_string()),
            ("~dormitory/Maildir", desk.mailbox().display().to_string()),
            ("/etc/smtpflow/", format!("{folder}/etc/")),
            (
                MONTH,
                Month::of(milliseconds(SystemTime::now())).to_string(),
            ),
            (
                "gateway.pcap",
                format!("{folder}/gateway-{GATEWAY_CLIENT_SIDE}.pcapng"),
            ),
            // What has a place by default.
            (
                "[relay_test]\n",
                format!("[relay_test]\nstate = \"{folder}/var/relay-test\"\n"),
            ),
            (
                "[maillog]\n",
                format!("[maillog]\nstate = \"{folder}/var/maillog\"\n"),
            ),
        ];
        let page = &self.page;
        let etc = lab.folder().join("etc");
        let config = format!(
            "{}[store]\npath = {:?}\n",
            self.here(&page.blocks("toml")),
            store.display().to_string()
        );
        write(&etc, "config.toml", &config);
        write(&etc, "contacts.csv", &page.blocks("csv"));
        write(&etc, "campus.auth", "auth-passphrase\n");
        write(&etc, "campus.privacy", "privacy-passphrase\n");
        write(&etc, "authorities.pem", AUTHORITY);
        let snmpd = write(&etc, "snmpd.conf", &page.blocks("conf"));
        let snmpd = snmpd.display().to_string();
        let mut command = lab.command("router", "snmpd", &["-f", "-Lo", "-C", "-c", &snmpd]);
        command.env("SNMP_PERSISTENT_DIR", lab.folder().join("snmp"));
        others.push(lab.start(&mut command, "snmpd").expect("snmpd starts"));
        let mut agent = lab
            .agent(&AgentOptions {
                window: "1s".to_owned(),
                extra: vec!["--config".to_owned(), self.config.display().to_string()],
                ..options
            })
            .expect("the agent starts");
        agent.wait_ready(LIMIT).expect("the agent is ready");
        // Or the capture would see frames merged.
        lab.gateway_offloads_off().expect("no offloads");
        let capture = lab.capture("gateway", GATEWAY_CLIENT_SIDE, "tcp port 25");
        let capture = capture.expect("a capture");
        // What is in a log before the agent follows it is none of what it knows.
        let books = lab.folder().join("var/maillog/books.json");
        assert!(
            poll_until(LIMIT, || books.exists()),
            "{}",
            agent.process().log_text()
        );
        let routes = || self.typed("smtpflow routes --json").status.success();
        assert!(poll_until(LIMIT, routes), "the router does not answer");
        Parts {
            agent,
            server,
            desk,
            capture: Some(capture),
            _bot: bot.expect("the bot's own server"),
            _others: others,
        }
    }

    /// What comes of a line that is typed at the desk; `--config` is added.
    pub fn typed(&self, line: &str) -> Finished {
        let program = smtpflow_binary().expect("the program is built");
        let script = format!(
            "smtpflow() {{ {:?} \"$@\" --config {:?}; }}\n{}",
            program.display().to_string(),
            self.config.display().to_string(),
            self.here(line)
        );
        let mut command = self.lab.command("desk", "sh", &["-c", &script]);
        finish(command.current_dir(self.lab.folder()), LIMIT).expect("it ends")
    }

    /// Plays the next command of the page, which is this one; gives all that it says.
    pub fn play(&self, line: &str) -> String {
        let next = self.played.get();
        self.played.set(next + 1);
        let shown = self.script.get(next).expect("one more in the page");
        assert_eq!(shown.command, line, "what the page has next");
        let finished = self.typed(line);
        println!("$ {line}");
        let said = self.there(&finished.stdout);
        assert!(finished.status.success(), "{said}{}", finished.stderr);
        match shown.shorten(&said) {
            Ok(lines) => {
                lines.iter().for_each(|line| println!("{line}"));
                self.said.borrow_mut().push(lines);
            }
            Err(error) => {
                println!("{said}");
                self.wrong.borrow_mut().push(format!("`{line}`: {error}"));
            }
        }
        said
    }

    /// The page has been played to its end, and nothing in it was wrong.
    pub fn is_told(&self) {
        assert_eq!(self.played.get(), self.script.len(), "the page has more");
        let wrong = self.wrong.borrow();
        assert!(wrong.is_empty(), "docs/abuse-desk.md: {wrong:#?}");
        if std::env::var_os("SMTPFLOW_UPDATE_README").is_some() {
            fs::write(PAGE, self.page.with(&self.said.borrow())).expect("it can be written");
        }
    }

    /// The same facts for programs; it is not in the page.
    pub fn json(&self, line: &str) -> Value {
        let finished = self.typed(&format!("{line} --json"));
        assert!(finished.status.success(), "{line}: {}", finished.stderr);
        serde_json::from_str(&finished.stdout).expect("JSON")
    }
}

/// The mail server of the desk: it takes notices from the desk itself, with TLS, and complaints from the world.
fn mailbox(lab: &Lab, desk: &Client) -> Postfix {
    let config = lab.postfix_home("desk", Relaying::Mailbox).join("etc");
    certify(&config);
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), desk.v4.into()];
    lab.postfix_in("desk", Relaying::Mailbox, &addresses)
        .expect("the desk's server")
}
