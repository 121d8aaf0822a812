//! `cargo xtask demo`: real mail software in network namespaces, smtpflow on the gateway between them,
//! and a table that shows who sends mail like a spammer.
//!
//! The agent is started before the first client and asked for its last table after the last one, so
//! that every session is counted; at the end its counts are compared with what the clients did, and
//! any difference makes the demo fail. Everything is removed at the end, on Ctrl-C, and, if this
//! process was killed, at the next start.

mod past;
mod table;
mod traffic;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::interrupt;
use xtask::lab::{
    Agent, AgentOptions, CLIENTS_V4, CLIENTS_V6, Lab, Topology, usual_listen_address,
};

use crate::build::BuildArgs;
use crate::{apt, build};
use traffic::{Comparison, Host, Traffic};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Stop after this many seconds [default: at Ctrl-C, at most an hour]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Begin with so many days of a campus' traffic behind the clients, and let it go on beside them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=60))]
    days: Option<u64>,
}

/// Namespaces of the demo start with this.
const PREFIX: &str = "sfdemo";
const PINS: &str = "/sys/fs/bpf/smtpflow-demo";
const WINDOW: &str = "2s";
/// The tag between gateway and servers.
const VLAN: u16 = 125;
/// Server addresses: the MTA, one where nothing listens, and the sinks.
const MTA: u16 = 0;
const CLOSED: u16 = 1;
const SINKS: std::ops::Range<u16> = 2..42;

const LONGEST: Duration = Duration::from_secs(3600);
const READY: Duration = Duration::from_secs(60);
const DRAINED: Duration = Duration::from_secs(30);
/// How often the table is drawn: on a terminal in place, elsewhere one below the other.
const REDRAW: Duration = Duration::from_secs(1);
const REPRINT: Duration = Duration::from_secs(10);
/// Rows of the live table.
const ROWS: &str = "/api/v1/sources?sort=connections&order=desc&limit=12";

/// Runs the demo. Fails when a count is not what was sent.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    apt::require_root("`cargo xtask demo`", "cargo xtask demo")?;
    let binary = build::build(&BuildArgs { release: false })?;
    let campus = args.days.map(|_| past::build()).transpose()?;
    apt::provide("the demo", &[apt::LABORATORY])?;

    let lab = Lab::gateway(
        PREFIX,
        Topology {
            servers: SINKS.end,
            server_vlan: Some(VLAN),
            ..Topology::default()
        },
    )?;
    if !lab.leftovers().is_empty() {
        println!("left by an earlier run, removed: {}", lab.leftovers());
    }
    let mut hosts = traffic::hosts(&lab)?;
    println!(
        "laboratory: {} clients - gateway - {} server addresses, IPv4 and IPv6, \
         VLAN {VLAN} towards the servers",
        hosts.len(),
        SINKS.end
    );
    let mta = [IpAddr::from(lab.server_v4(MTA)), lab.server_v6(MTA).into()];
    let _postfix = lab.postfix(&mta)?;
    let sinks: Vec<SocketAddr> = SINKS
        .map(|index| SocketAddr::new(lab.server_v4(index).into(), 25))
        .collect();
    let _sinks = lab.sinks(&sinks, &[])?;
    println!(
        "servers: postfix on {} and {}, smtp-sink on {} addresses, nothing on {}",
        mta[0],
        mta[1],
        sinks.len(),
        lab.server_v4(CLOSED)
    );
    let past = match (&campus, args.days) {
        (Some(campus), Some(days)) => Some(past::make(&lab, campus, days, &hosts)?),
        _ => None,
    };
    let token = token()?;
    let mut agent = start_agent(&lab, binary, past.as_ref(), &hosts, &token)?;
    println!(
        "the page: http://{}/ (what it asks for before it changes anything, the act token, is {token})",
        agent.listen()
    );
    for host in &mut hosts {
        host.begin(&mut agent)?;
    }

    let names = names(&lab, &hosts);
    let traffic = Traffic::new(&lab, &hosts, &sinks);
    let limit = args.seconds.map_or(LONGEST, Duration::from_secs);
    let watched = thread::scope(|scope| {
        traffic.start(scope);
        let watched = watch(&mut agent, &names, limit);
        // Also after an error: the scope ends only when the clients have.
        traffic.stop();
        watched
    });
    watched.context("the live table ended early")?;
    finish(&lab, &mut agent, &names, &hosts)
}

fn start_agent(
    lab: &Lab,
    binary: PathBuf,
    past: Option<&past::Past>,
    hosts: &[Host],
    token: &str,
) -> Result<Agent> {
    let config = lab.folder().join("smtpflow.toml");
    let text = match past {
        Some(past) => past.config.clone(),
        None => configuration(hosts)?,
    };
    let act = lab.folder().join("act.token");
    write_secret(&act, token)?;
    let text = format!("{text}[serve]\nact_token_file = \"{}\"\n", act.display());
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let options = AgentOptions {
        binary,
        window: WINDOW.to_owned(),
        pins: PINS.into(),
        listen: usual_listen_address()?,
        extra: vec!["--config".to_owned(), config.display().to_string()],
        ..AgentOptions::new(lab)?
    };
    let options = match past {
        Some(past) => AgentOptions {
            interfaces: [options.interfaces, vec![past::INTERFACE.to_owned()]].concat(),
            store: Some(past.store.clone()),
            ..options
        },
        None => options,
    };
    let mut agent = lab.agent(&options)?;
    agent.wait_ready(READY)?;
    lab.gateway_offloads_off()?;
    Ok(agent)
}

/// An act token for this demo.
fn token() -> Result<String> {
    let mut random = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .context("cannot read /dev/urandom")?;
    Ok(random.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// A file that nobody else may read.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The clients' networks: they are judged, and the newsletter's sender is known.
fn configuration(hosts: &[Host]) -> Result<String> {
    let newsletter = hosts.iter().find(|host| host.is_known());
    let newsletter = newsletter.context("nobody sends the newsletter")?.address();
    Ok(format!(
        "[networks]\nlocal = [\"{CLIENTS_V4}\", \"{CLIENTS_V6}\"]\n\
         [[relay]]\nprefix = \"{newsletter}/32\"\nreason = \"sends the newsletter\"\n\
         owner = \"news@example.net\"\n"
    ))
}

/// Draws the table until time is up or the user asks to stop.
fn watch(agent: &mut Agent, names: &BTreeMap<String, String>, limit: Duration) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let pause = if terminal { REDRAW } else { REPRINT };
    let begun = Instant::now();
    let mut drawn: Option<Instant> = None;
    while begun.elapsed() < limit && !interrupt::requested() {
        if drawn.is_none_or(|at| at.elapsed() >= pause) {
            let text = table::render(
                &agent.json("/api/v1/status")?,
                &agent.json(ROWS)?,
                names,
                agent.listen(),
            );
            let text = if terminal {
                // A blank screen the first time; then home, the table with the rest of each line
                // erased, and all below it erased: no flicker.
                let blank = if drawn.is_none() { "\x1b[2J" } else { "" };
                format!("{blank}\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
            } else {
                text
            };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{text}")
                .and_then(|()| out.flush())
                .context("cannot write the table")?;
            drawn = Some(Instant::now());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Takes the last table, ends the agent, and compares.
fn finish(
    lab: &Lab,
    agent: &mut Agent,
    names: &BTreeMap<String, String>,
    hosts: &[Host],
) -> Result<ExitCode> {
    println!("\nthe clients have stopped; waiting for the last window");
    agent.wait_drained(DRAINED)?;
    let status = agent.json("/api/v1/status")?;
    let sources = agent.json(ROWS)?;
    let (mut why, mut comparisons) = (Vec::new(), Vec::new());
    for host in hosts {
        comparisons.push(host.compare(agent)?);
        let answer = agent.json(&format!("/api/v1/sources/{}/why", host.address()))?;
        why.push(answer["answer"].as_str().unwrap_or_default().to_owned());
    }
    let ended = agent.stop()?;
    ensure!(
        ended.success(),
        "the agent ended badly ({ended}): {}",
        agent.process().log_text()
    );
    println!(
        "{}",
        table::render(&status, &sources, names, agent.listen())
    );

    let mut exact = true;
    let mut spammer = String::new();
    for (host, comparison) in hosts.iter().zip(comparisons) {
        let Comparison {
            exact: same,
            sent,
            counted,
            text,
        } = comparison;
        exact &= same;
        println!("{text}");
        if host.spams() {
            spammer = format!(
                "the spamming host is {}: sent {sent} sessions, counted {counted}",
                host.address()
            );
        }
    }
    for (namespace, interface) in [
        ("gateway", xtask::lab::GATEWAY_CLIENT_SIDE),
        ("gateway", xtask::lab::GATEWAY_SERVER_SIDE),
    ] {
        let drops = lab.drops(namespace, interface)?;
        if drops > 0 {
            println!("note: {interface} dropped {drops} frames");
        }
    }
    println!("\nwhat smtpflow makes of it:");
    for answer in why {
        println!("  {answer}");
    }
    println!("\n{spammer}");
    Ok(if exact {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: the counts above are not what was sent");
        ExitCode::FAILURE
    })
}

/// Who has which address, for the table.
fn names(lab: &Lab, hosts: &[Host]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for host in hosts {
        names.insert(host.address().to_string(), host.title().to_owned());
    }
    names.insert(lab.server_v4(MTA).to_string(), "server: postfix".into());
    names.insert(lab.server_v6(MTA).to_string(), "server: postfix".into());
    names.insert(
        lab.server_v4(CLOSED).to_string(),
        "server: port closed".into(),
    );
    for index in SINKS {
        names.insert(lab.server_v4(index).to_string(), "server: smtp-sink".into());
    }
    names
}
