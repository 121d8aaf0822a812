//! A gateway in a virtual machine between two networks of a laboratory, and its owner's line into it.
//!
//! ```text
//!  ordinary (lan) ── lan GATEWAY wan ── (wan) servers
//!  198.51.100.0/24        |             203.0.113.0/24
//!  2001:db8:c::/64        |             2001:db8:5::/64
//!                  user networking in the namespace "machine": the agent's port, and no way out
//! ```
//!
//! Contract: QEMU emulates the processor, so what is seen does not depend on this machine. There is one: with two, each on a
//! thread, changes of the kernel to its own code can be seen half done (see `xtask/src/vm/qemu.rs`). The disk is only
//! read: what the gateway writes is gone with it. Commands run in it one after the other, as root.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::command::{output, poll_until, tool};
use xtask::lab::{Lab, Process, http_get};

/// The namespace that QEMU runs in.
pub const MACHINE: &str = "machine";
/// The namespace before the gateway: one client.
pub const CLIENT: &str = "ordinary";
/// The namespace behind it, as the laboratory's mail servers have it.
pub const SERVERS: &str = "servers";
/// The client's addresses.
const CLIENT_ADDRESSES: [&str; 2] = ["198.51.100.10", "2001:db8:c::a"];
/// The servers' addresses.
const SERVER_ADDRESSES: [&str; 2] = ["203.0.113.10", "2001:db8:5::a"];
/// One of the gateway's sides.
#[derive(Debug)]
pub struct Side {
    /// The gateway's interface there, and the tap device at the other end of the cable.
    pub cable: &'static str,
    /// The gateway's station (MAC address).
    pub station: &'static str,
    /// The gateway's addresses.
    gateway: [&'static str; 2],
    /// The namespace at the other end.
    pub namespace: &'static str,
    /// The addresses there.
    addresses: [&'static str; 2],
}

/// Both sides.
pub const SIDES: [Side; 2] = [
    Side {
        cable: "lan",
        station: "52:54:00:00:00:01",
        gateway: ["198.51.100.1", "2001:db8:c::1"],
        namespace: CLIENT,
        addresses: CLIENT_ADDRESSES,
    },
    Side {
        cable: "wan",
        station: "52:54:00:00:00:02",
        gateway: ["203.0.113.1", "2001:db8:5::1"],
        namespace: SERVERS,
        addresses: SERVER_ADDRESSES,
    },
];
/// From power on to the last unit, on an emulated processor: 45 seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(5 * 60);
/// What a command in the gateway may take.
const COMMAND: Duration = Duration::from_secs(5 * 60);
const QUICK: Duration = Duration::from_secs(60);
/// The port of the agent, in the gateway and in the namespace of QEMU.
const PORT: u16 = 12_525;

/// The running gateway. It ends with the laboratory.
pub struct Gateway<'a> {
    lab: &'a Lab,
    _qemu: Process,
    line: BufReader<UnixStream>,
    commands: u64,
    token: String,
    /// From power on until it obeyed.
    pub boot: Duration,
}

/// What a command in the gateway has come to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// What it wrote to either output, without the line break at the end.
    pub said: String,
}

impl<'a> Gateway<'a> {
    /// Boots what `cargo xtask gateway --prepare` has put into `folder`, between two namespaces that this adds to
    /// the laboratory. The agent is going to be asked with this token.
    pub fn boot(lab: &'a Lab, folder: &Path, token: &str) -> Self {
        for name in [MACHINE, CLIENT, SERVERS] {
            lab.add_namespace(name).expect("a namespace");
        }
        for tap in ["lan", "wan"] {
            lab.ip(MACHINE, &format!("tuntap add dev {tap} mode tap"))
                .expect("a tap device");
        }
        let begun = Instant::now();
        let mut command = qemu(lab, folder);
        let mut qemu = lab.start(&mut command, "qemu").expect("QEMU starts");
        let socket = lab.folder().join("line");
        // The line is there before the cables are plugged in.
        let plugged = |id| socket.exists() && SIDES.iter().all(|side| holds(id, side.cable));
        assert!(
            poll_until(QUICK, || plugged(qemu.id()) || !qemu.is_running()) && qemu.is_running(),
            "{}",
            qemu.log_text()
        );
        // What QEMU holds open stays its own where it goes.
        for side in &SIDES {
            let full = lab.ns(side.namespace);
            lab.ip(MACHINE, &format!("link set {} netns {full}", side.cable))
                .expect("moved");
            up(lab, side);
        }
        let line = UnixStream::connect(&socket).expect("a line");
        line.set_read_timeout(Some(BOOT)).expect("a limit");
        let mut line = BufReader::new(line);
        let mut text = String::new();
        if let Err(error) = line.read_line(&mut text) {
            panic!("the gateway did not boot: {error}; {}", console(lab));
        }
        assert_eq!(text, "ready\n", "{}", console(lab));
        line.get_ref()
            .set_read_timeout(Some(COMMAND))
            .expect("a limit");
        let mut gateway = Self {
            lab,
            _qemu: qemu,
            line,
            commands: 0,
            token: token.to_owned(),
            boot: begun.elapsed(),
        };
        gateway.well("systemctl is-system-running --wait");
        gateway.boot = begun.elapsed();
        gateway
    }

    /// Runs a script in the gateway.
    pub fn run(&mut self, script: &str) -> Ran {
        self.commands += 1;
        let number = self.commands.to_string();
        let line = format!("{number} {}\n", base64(script.as_bytes()));
        self.line
            .get_mut()
            .write_all(line.as_bytes())
            .expect("a line");
        let mut answer = String::new();
        match self.line.read_line(&mut answer) {
            Ok(0) => panic!("{script:?} ended the machine; {}", console(self.lab)),
            Ok(_) => (),
            Err(error) => panic!("no answer to {script:?}: {error}; {}", console(self.lab)),
        }
        let mut words = answer.split_whitespace();
        assert_eq!(words.next(), Some(number.as_str()), "{answer:?}");
        let status = words.next().and_then(|word| word.parse().ok());
        Ran {
            status: status.unwrap_or_else(|| panic!("{answer:?}")),
            said: words.next().map_or_else(String::new, decoded),
        }
    }

    /// Runs a script that has to succeed; what it wrote.
    pub fn well(&mut self, script: &str) -> String {
        let Ran { status, said } = self.run(script);
        if status != 0 {
            let journal = self.run("journalctl -b -n 60 -o short-monotonic");
            panic!("{script}: {status}: {said}\n{}", journal.said);
        }
        said
    }

    /// Asks the agent from outside the gateway.
    pub fn get(&self, path: &str) -> Option<Value> {
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        let token = format!("Bearer {}", self.token);
        let answer = self.lab.within(MACHINE, || {
            http_get(address, path, &[("authorization", &token)])
        });
        let answer = answer.expect("a thread in the namespace").ok()?;
        (answer.status == 200).then(|| answer.json().expect("JSON"))
    }

    /// The text of the metrics, from outside the gateway.
    pub fn metrics(&self) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], PORT));
        let token = format!("Bearer {}", self.token);
        let answer = self.lab.within(MACHINE, || {
            http_get(address, "/metrics", &[("authorization", &token)])
        });
        let answer = answer.expect("a thread in the namespace");
        answer.expect("an answer").text()
    }

    /// Waits until the agent has drained twice, so that all that was counted before is served; its status.
    pub fn drained(&self) -> Value {
        let drains = || Some(self.get("/api/v1/status")?["drains"].as_u64());
        let mut first = None;
        let drained = poll_until(COMMAND, || {
            let Some(Some(now)) = drains() else {
                return false;
            };
            // A new agent begins at 0.
            let from = *first.get_or_insert(now);
            if now < from {
                first = Some(now);
            }
            now >= from + 2
        });
        assert!(drained, "the agent does not drain; {}", console(self.lab));
        self.get("/api/v1/status").expect("a status")
    }
}

/// Whether this process is the one behind a tap device. Where that was moved before, QEMU would make another of the
/// same name, and this one would be deaf.
fn holds(id: u32, tap: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{id}/fdinfo")) else {
        return false;
    };
    entries.flatten().any(|entry| {
        fs::read_to_string(entry.path())
            .is_ok_and(|text| text.lines().any(|line| line == format!("iff:\t{tap}")))
    })
}

/// Sets up the end of a cable.
fn up(lab: &Lab, side: &Side) {
    let cable = side.cable;
    let ip = |words: &str| lab.ip(side.namespace, words).expect("ip");
    // Each segment is a frame, for the captures.
    let mut ethtool = lab.command(side.namespace, "ethtool", &["-K", cable]);
    ethtool.args(["tso", "off", "gso", "off", "gro", "off"]);
    output(&mut ethtool, QUICK).expect("offloads off");
    ip(&format!("addr add {}/24 dev {cable}", side.addresses[0]));
    ip(&format!(
        "addr add {}/64 dev {cable} nodad",
        side.addresses[1]
    ));
    ip(&format!("link set {cable} up"));
    for via in side.gateway {
        ip(&format!("route add default via {via}"));
    }
}

/// The machine: two interfaces to the networks, one to its owner, the line, and two disks.
fn qemu(lab: &Lab, folder: &Path) -> Command {
    let at = |name: &str| folder.join(name).display().to_string();
    let own = |name: &str| lab.folder().join(name).display().to_string();
    let mut command = lab.command(MACHINE, "qemu-system-x86_64", &[]);
    let mut add = |words: &str| {
        command.args(words.split_whitespace());
    };
    add("-accel tcg -cpu Nehalem,+rdrand -machine q35 -m 2048 -smp 1");
    add("-nodefaults -no-user-config -display none -no-reboot");
    add(&format!("-serial file:{}", own("console")));
    add(&format!(
        "-kernel {} -initrd {}",
        at("vmlinuz"),
        at("initrd")
    ));
    for (image, how) in [("root.img", "snapshot=on"), ("packages.img", "readonly=on")] {
        add(&format!(
            "-drive file={},if=virtio,format=raw,{how}",
            at(image)
        ));
    }
    add("-device virtio-serial-pci -device virtserialport,chardev=line,name=commands");
    add(&format!(
        "-chardev socket,id=line,path={},server=on,wait=off",
        own("line")
    ));
    for Side {
        cable: tap,
        station,
        ..
    } in &SIDES
    {
        add(&format!(
            "-netdev tap,id={tap},ifname={tap},script=no,downscript=no"
        ));
        add(&format!(
            "-device virtio-net-pci,netdev={tap},mac={station}"
        ));
    }
    add(&format!(
        "-netdev user,id=owner,restrict=on,hostfwd=tcp:127.0.0.1:{PORT}-:{PORT}"
    ));
    add("-device virtio-net-pci,netdev=owner,mac=52:54:00:00:00:03");
    command.args([
        "-append",
        "console=ttyS0 root=/dev/vda rw loglevel=5 panic=-1 random.trust_cpu=on",
    ]);
    command
}

/// The end of what the gateway has written to its console.
fn console(lab: &Lab) -> String {
    let text = xtask::command::read_lossy(&lab.folder().join("console"));
    format!("its console:\n{}", xtask::command::tail(&text, 30))
}

/// The servers' addresses, with the port of mail.
pub fn mail_servers() -> [SocketAddr; 2] {
    SERVER_ADDRESSES.map(|address| {
        let address: IpAddr = address.parse().expect("an address");
        SocketAddr::new(address, 25)
    })
}

fn base64(bytes: &[u8]) -> String {
    piped(&["-w0"], bytes)
}

fn decoded(text: &str) -> String {
    piped(&["--decode"], text.as_bytes())
}

/// What `base64` makes of this.
fn piped(words: &[&str], bytes: &[u8]) -> String {
    use std::process::Stdio;
    let mut child = tool("base64", words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("base64 starts");
    let mut input = child.stdin.take().expect("a pipe");
    let done = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).expect("it reads"));
        child.wait_with_output().expect("it ends")
    });
    String::from_utf8_lossy(&done.stdout).into_owned()
}
