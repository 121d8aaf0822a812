//! The Debian package from its installation to its end, on a gateway of Debian 13 with a real systemd, in a virtual
//! machine between two networks. What it counts is compared with what entered the gateway, to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use smtp_common::flow::Totals;
use smtpflow_tests::gateway::{CLIENT, Gateway, SERVERS, SIDES, Side, mail_servers};
use smtpflow_tests::oracle::{Seen, expected, segments};
use smtpflow_tests::tokens::READ;
use smtpflow_tests::totals;
use xtask::command::{output, poll_until};
use xtask::lab::{Capture, Lab, Messages};

/// Making the root file system and the packages, where nothing is there.
const PREPARE: Duration = Duration::from_secs(40 * 60);
const LIMIT: Duration = Duration::from_secs(5 * 60);
const QUICK: Duration = Duration::from_secs(5);
/// The most that `systemd-analyze security` may say.
const EXPOSURE: f64 = 2.0;

/// The folder with what the gateway boots.
fn prepared() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let text = output(command.args(["xtask", "gateway", "--prepare"]), PREPARE);
    let text = text.unwrap_or_else(|error| panic!("{error:#}"));
    PathBuf::from(text.lines().last().expect("a path"))
}

/// What enters the gateway on both sides.
struct Captures(Vec<Capture>);

impl Captures {
    fn start(lab: &Lab) -> Self {
        // By the address and not by `outbound`: what came into the ring before the kernel had the filter is looked
        // at by libpcap itself, which has no direction there, and drops the first block.
        let one = |side: &Side| {
            let filter = format!("ether dst {} and tcp port 25", side.station);
            lab.capture(side.namespace, side.cable, &filter)
                .expect("a capture")
        };
        Self(SIDES.iter().map(one).collect())
    }

    fn stop(self) -> Vec<Seen> {
        let stop = |capture: Capture| {
            let captured = capture.stop().expect("the capture ends");
            assert_eq!(captured.dropped, 0, "the capture lost frames");
            segments(&captured.file)
        };
        self.0.into_iter().flat_map(stop).collect()
    }
}

/// Waits until the gateway forwards in both families: ports where nobody listens refuse.
fn reaches(lab: &Lab, gateway: &mut Gateway<'_>) {
    for server in mail_servers() {
        let closed = SocketAddr::new(server.ip(), 9);
        let mut last = None;
        let refused = poll_until(LIMIT, || {
            let tried = lab.within(CLIENT, || TcpStream::connect_timeout(&closed, QUICK));
            last = tried.expect("a thread in the namespace").err();
            last.as_ref()
                .is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
        assert!(
            refused,
            "no way to {server}: {last:?}\n{}\n{}\nthe gateway:\n{}",
            lab.ip(CLIENT, "neigh").expect("neighbours"),
            lab.ip(SERVERS, "neigh").expect("neighbours"),
            gateway
                .run("ip -s -d address; ip neigh; ip route; networkctl; journalctl -b -k -n 20")
                .said
        );
    }
}

/// The client's mail, a connection for each message, and how much of it there was.
struct Mail<'a> {
    lab: &'a Lab,
    sent: AtomicU64,
}

impl Mail<'_> {
    /// Messages to each server; returns when all are accepted.
    fn send(&self, count: u32) {
        for server in mail_servers() {
            let messages = Messages {
                count,
                parallel: 2,
                size: 3000,
                ..Messages::default()
            };
            self.lab
                .send(CLIENT, server, messages, LIMIT)
                .expect("mail");
            self.sent.fetch_add(count.into(), Ordering::Relaxed);
        }
    }

    /// All that was sent so far is served as it was sent, each connection once.
    fn is_served(&self, gateway: &Gateway<'_>) {
        let status = gateway.drained();
        let sent = self.sent.load(Ordering::Relaxed);
        assert_eq!(status["totals"]["connections"], sent, "{status}");
    }
}

/// What the agent serves for each address.
fn served(gateway: &Gateway<'_>) -> BTreeMap<IpAddr, Totals> {
    let answer = gateway
        .get("/api/v1/sources?limit=10000")
        .expect("an answer");
    let list = answer["sources"].as_array().expect("a list").iter();
    let one = |entry: &Value| {
        let address = entry["addr"].as_str().expect("an address");
        (
            address.parse().expect("an address"),
            totals(&entry["total"]),
        )
    };
    list.map(one).collect()
}

/// Everything that the gateway has on its disk and in its run-time folders.
fn files(gateway: &mut Gateway<'_>) -> BTreeSet<String> {
    let text = gateway.well(
        "find / /run /sys/fs/bpf /dev/shm /tmp -xdev -not -path '/run/systemd/*' -not -path '/run/udev/*' \
         -not -path '/run/credentials*' -not -path '/var/log/*' | sort -u",
    );
    text.lines().map(str::to_owned).collect()
}

/// Installs one of the packages, without a network.
fn install(gateway: &mut Gateway<'_>, name: &str) -> String {
    gateway.well(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 -o Dpkg::Use-Pty=0 /mnt/{name}.deb"
    ))
}

/// The number of programs on the gateway's interfaces.
fn programs(gateway: &mut Gateway<'_>) -> usize {
    let text = gateway.well("ip -j link show");
    let links: Value = serde_json::from_str(&text).expect("JSON");
    let links = links.as_array().expect("a list").iter();
    links.filter(|link| link.get("xdp").is_some()).count()
}

/// A property of a unit.
fn property(gateway: &mut Gateway<'_>, unit: &str, name: &str) -> String {
    gateway.well(&format!("systemctl show -P {name} {unit}"))
}

/// Each of our units; `systemctl is-active` is content with one.
fn are_active(gateway: &mut Gateway<'_>) {
    for unit in ["smtpflow", "smtpflow-attach@lan", "smtpflow-attach@wan"] {
        assert_eq!(property(gateway, unit, "ActiveState"), "active", "{unit}");
    }
}

fn exposure(gateway: &mut Gateway<'_>, unit: &str) -> f64 {
    let text = gateway.well(&format!("systemd-analyze security --no-pager {unit}"));
    let line = text.lines().last().expect("a verdict");
    let number = line
        .split(": ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}

fn step(begun: Instant, what: &str) {
    println!("{:6.1} s  {what}", begun.elapsed().as_secs_f64());
}

#[test]
fn the_package_is_installed_counts_is_upgraded_removed_and_purged() {
    let folder = prepared();
    let lab = Lab::new("sfvmgate").expect("a laboratory");
    let begun = Instant::now();
    let mut gateway = Gateway::boot(&lab, &folder, READ);
    let gateway = &mut gateway;
    step(
        begun,
        &format!(
            "booted: {}",
            gateway.well("uname -rv; systemd-analyze | head -n 1")
        ),
    );
    gateway.well("mount -o ro /dev/vdb /mnt");
    // So that apt has written what it writes anyway.
    gateway.well("apt-get --version; dpkg --audit");
    let before = files(gateway);

    // Installed, it attaches to nothing.
    let said = install(gateway, "first");
    assert!(
        said.contains("systemctl enable --now smtpflow-attach@"),
        "{said}"
    );
    assert_eq!(programs(gateway), 0);
    assert_eq!(property(gateway, "smtpflow", "ActiveState"), "inactive");
    assert_eq!(gateway.well("ls /sys/fs/bpf"), "");
    step(begun, "installed, attached to nothing");

    // One more command, and it counts.
    gateway.well("systemctl enable --now smtpflow-attach@lan smtpflow-attach@wan");
    assert_eq!(programs(gateway), 2);
    let runs = poll_until(LIMIT, || {
        property(gateway, "smtpflow", "ActiveState") == "active"
    });
    assert!(runs, "{}", gateway.well("journalctl -u 'smtpflow*'"));
    are_active(gateway);
    let _sinks = lab.sinks(&mail_servers(), &[]).expect("smtp-sink");
    reaches(&lab, gateway);
    let captures = Captures::start(&lab);
    let mail = Mail {
        lab: &lab,
        sent: AtomicU64::new(0),
    };
    mail.send(10);
    let counted = poll_until(LIMIT, || {
        let text = gateway.well("smtpflow status --json");
        let status: Value = serde_json::from_str(&text).expect("JSON");
        status["totals"]["connections"] == 20
    });
    assert!(counted, "{}", gateway.well("smtpflow status --json"));
    step(begun, "counts 20 connections after two commands");

    is_confined(gateway);
    step(begun, "its user has no capability");

    // Asked from outside: with a token that its user may read.
    gateway.well(&format!(
        "umask 077; printf {READ} >/etc/smtpflow/token; chown smtpflow: /etc/smtpflow/token
         printf '[serve]\\nlisten = \"0.0.0.0:12525\"\\ntoken_file = \"/etc/smtpflow/token\"\\n' \
         >>/etc/smtpflow/config.toml
         systemctl restart smtpflow"
    ));
    mail.is_served(gateway);
    mail.send(20);
    mail.is_served(gateway);

    reloads(gateway);
    step(begun, "own prefixes changed by systemctl reload");

    hangs(gateway, &mail);
    mail.is_served(gateway);
    step(begun, "a hung agent was ended by the watchdog");

    upgrade(gateway, &mail);
    mail.is_served(gateway);
    step(begun, "upgraded under load");

    comes_back(gateway, &mail);
    mail.is_served(gateway);
    step(begun, "an interface that was made anew is counted on again");

    // All of that, to the byte.
    gateway.drained();
    let seen = captures.stop();
    let status = gateway.drained();
    let (served, expected) = (served(gateway), expected(&seen));
    for (address, totals) in &served {
        println!("{address}: {totals:?}");
    }
    assert_eq!(served, expected);
    assert_eq!(status["conservation"]["error"], 0, "{status}");
    assert_eq!(status["conservation"]["segments"], seen.len(), "{status}");
    let metrics = gateway.metrics();
    assert!(metrics.contains("smtpflow_"), "{metrics}");
    step(begun, &format!("{} segments, as captured", seen.len()));

    journal(gateway);

    gateway.well(
        "DEBIAN_FRONTEND=noninteractive apt-get remove --quiet=2 -o Dpkg::Use-Pty=0 smtpflow",
    );
    assert_eq!(programs(gateway), 0, "still attached");
    assert_eq!(
        gateway.well("ls /sys/fs/bpf; systemctl --failed --quiet"),
        ""
    );
    gateway.well("test -f /var/lib/smtpflow/smtpflow.db && test -f /etc/smtpflow/config.toml");
    step(begun, "removed, detached");

    gateway
        .well("DEBIAN_FRONTEND=noninteractive apt-get purge --quiet=2 -o Dpkg::Use-Pty=0 smtpflow");
    let left: Vec<String> = files(gateway).difference(&before).cloned().collect();
    println!("left on the disk: {left:?}");
    let ours = gateway.run("getent passwd smtpflow || getent group smtpflow");
    assert_eq!(ours.status, 2, "{}", ours.said);
    let traces: Vec<_> = left.iter().filter(|path| !is_of_dpkg(path)).collect();
    assert!(traces.is_empty(), "{traces:?}");
    step(begun, "purged");
}

/// What dpkg and the tools for users write anyway: their state as it was before, lists of changes, and what Debian's
/// daily timer saves of dpkg's state where midnight comes by.
fn is_of_dpkg(path: &str) -> bool {
    let beginnings = [
        "/var/backups/alternatives.",
        "/var/backups/dpkg.",
        "/var/lib/dpkg/",
        "/var/lib/apt/",
        "/var/cache/",
        "/var/lib/systemd/",
    ];
    let backups = [
        "/etc/passwd-",
        "/etc/group-",
        "/etc/shadow-",
        "/etc/gshadow-",
    ];
    let known = beginnings
        .iter()
        .any(|beginning| path.starts_with(beginning))
        || backups.contains(&path);
    known && !path.contains("smtpflow")
}

/// The agent runs as its user without any capability, and both units expose little.
fn is_confined(gateway: &mut Gateway<'_>) {
    let pid = property(gateway, "smtpflow", "MainPID");
    let uid = gateway.well("id -u smtpflow");
    let status = gateway.well(&format!("cat /proc/{pid}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{status}")).trim().to_owned()
    };
    assert_eq!(field("Uid:"), [uid.as_str(); 4].join("\t"));
    assert_ne!(uid, "0");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    for unit in ["smtpflow", "smtpflow-attach@lan"] {
        let exposure = exposure(gateway, unit);
        println!("{unit}: exposure {exposure}");
        assert!(exposure <= EXPOSURE, "{unit}: {exposure}");
    }
}

/// A changed list of own prefixes is in force after `systemctl reload`, in the same process.
fn reloads(gateway: &mut Gateway<'_>) {
    let scope = |gateway: &Gateway<'_>| {
        let answer = gateway.get("/api/v1/sources").expect("an answer");
        let list = answer["sources"].as_array().expect("a list").clone();
        let entry = list.iter().find(|entry| entry["addr"] == "198.51.100.10");
        entry.expect("the client")["scope"].clone()
    };
    gateway.drained();
    assert_eq!(scope(gateway), "unknown");
    let pid = property(gateway, "smtpflow", "MainPID");
    gateway.well(
        "sed -i 's|^local = .*|local = [\"198.51.100.0/24\"]|' /etc/smtpflow/config.toml
         systemctl reload smtpflow",
    );
    let local = poll_until(LIMIT, || scope(gateway) == "local");
    assert!(local, "{}", gateway.well("journalctl -u smtpflow -n 20"));
    assert_eq!(property(gateway, "smtpflow", "MainPID"), pid);
}

/// An agent that does not answer is ended and started again; the kernel counts meanwhile.
fn hangs(gateway: &mut Gateway<'_>, mail: &Mail<'_>) {
    assert_eq!(property(gateway, "smtpflow", "WatchdogUSec"), "30s");
    gateway.well("systemctl kill --signal=STOP smtpflow");
    mail.send(10);
    let again = poll_until(LIMIT, || property(gateway, "smtpflow", "NRestarts") == "1");
    assert!(again, "{}", gateway.well("systemctl status smtpflow"));
    let said = gateway.well("journalctl -u smtpflow");
    assert!(said.contains("Watchdog timeout"), "{said}");
    gateway.drained();
}

/// Has the mail end, also where a test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A package with a higher revision is installed while mail flows, which goes on.
fn upgrade(gateway: &mut Gateway<'_>, mail: &Mail<'_>) {
    let (begun, done) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                begun.fetch_add(1, Ordering::Relaxed);
                mail.send(2);
            }
        });
        let before = begun.load(Ordering::Relaxed);
        let ending = Ended(&done);
        let said = install(gateway, "second");
        drop(ending);
        assert!(begun.load(Ordering::Relaxed) > before + 1, "no mail flowed");
        assert!(!said.contains("failed"), "{said}");
    });
    let version = gateway.well("dpkg-query -W -f '${Version}' smtpflow");
    assert!(version.ends_with(".1"), "{version}");
    are_active(gateway);
}

/// The device of an interface goes and comes, and systemd has it attached to again.
fn comes_back(gateway: &mut Gateway<'_>, mail: &Mail<'_>) {
    gateway.drained();
    let device = gateway.well("basename $(readlink /sys/class/net/lan/device)");
    let driver = "/sys/bus/virtio/drivers/virtio_net";
    gateway.well(&format!(
        "echo {device} >{driver}/unbind; sleep 3; test ! -e /sys/class/net/lan"
    ));
    // To detach takes seconds on an emulated processor, and the device is not to be back before that is done.
    let gone = poll_until(LIMIT, || {
        property(gateway, "smtpflow-attach@lan", "ActiveState") == "inactive"
    });
    assert!(
        gone,
        "{}",
        gateway.well("systemctl status smtpflow-attach@lan || true")
    );
    gateway.well(&format!("echo {device} >{driver}/bind"));
    let back = poll_until(LIMIT, || {
        property(gateway, "smtpflow-attach@lan", "ActiveState") == "active"
            && programs(gateway) == 2
    });
    assert!(
        back,
        "{}",
        gateway.well("systemctl status 'smtpflow-attach@*'")
    );
    gateway.well("/usr/lib/systemd/systemd-networkd-wait-online --interface=lan --timeout=60");
    // An address of version 6 may be used when nobody else has answered for it.
    let settled = poll_until(LIMIT, || {
        gateway.well("ip -6 addr show dev lan tentative").is_empty()
    });
    assert!(settled, "the address is not settled");
    reaches(mail.lab, gateway);
    mail.send(5);
}

/// Each line is one entry, with its level and without a time of its own.
fn journal(gateway: &mut Gateway<'_>) {
    let text =
        gateway.well("journalctl -u smtpflow -o json -t smtpflow --output-fields=MESSAGE,PRIORITY");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let level = |part: &str| {
        let entry = lines.iter().find(|line| {
            line["MESSAGE"]
                .as_str()
                .is_some_and(|text| text.contains(part))
        });
        entry.unwrap_or_else(|| panic!("{part} in {text}"))["PRIORITY"].clone()
    };
    assert_eq!(level("counting TCP ports [25]"), "6");
    assert_eq!(level("no host is judged"), "4");
    for line in &lines {
        let message = line["MESSAGE"].as_str().expect("text, not bytes");
        assert!(
            !message.contains('\u{1b}') && !message.starts_with("20"),
            "{message}"
        );
        assert!(
            ["3", "4", "6"]
                .iter()
                .any(|level| line["PRIORITY"] == *level),
            "{line}"
        );
    }
    println!(
        "{} lines in the journal, the last:\n{}",
        lines.len(),
        gateway.well("journalctl -u smtpflow -n 6")
    );
}
