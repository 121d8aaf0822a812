//! A laboratory: clients, a gateway and servers in network namespaces of their own, with real mail
//! software, made in a second and removed without a trace.
//!
//! ```text
//!  client ── ┐                          tagged where the topology says so
//!  client ── switch (bridge) ── gw-c GATEWAY gw-s ── eth0 SERVERS (many addresses)
//!  client ── ┘ 198.51.100.0/24                            203.0.113.0/24
//!              2001:db8:c::/64                            2001:db8:5::/64
//! ```
//!
//! Everything carries the prefix that the caller chose: namespaces are `PREFIX-NAME`, files are below
//! `/run/smtpflow-lab/PREFIX`. One laboratory per prefix exists at a time (a lock sees to it); a new one
//! first removes what a killed one left. Dropping the [`Lab`] ends all processes in it and removes
//! namespaces, pins and files. Nothing touches the machine's own interfaces, addresses or routes.
//!
//! Needs root, iproute2 and ethtool; the mail parts need postfix and swaks, captures need tshark.

mod agent;
mod capture;
mod http;
mod mail;
mod netns;
mod opensmtpd;
mod process;
mod state;

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

pub use agent::{
    Agent, AgentOptions, ensure_bpffs, free_listen_address, smtpflow_binary, usual_listen_address,
};
pub use capture::{Capture, Captured, tshark_fields};
pub use http::{Response, http_get, http_request};
pub use mail::{Messages, Postfix, REFUSED, Relaying};
pub use process::Process;
pub use state::Leftovers;

use crate::command::{self, tool};
use netns::End;
use state::State;

/// All laboratories' files. On /run: it is emptied at boot, as the kernel's side of a laboratory is.
const ROOT: &str = "/run/smtpflow-lab";
/// How long to wait for another laboratory with the same prefix to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// Server addresses end in 10, 11, ...; so do client addresses. The rest of the /24 is the limit.
const FIRST_HOST: u16 = 10;
const MOST_HOSTS: u16 = 200;

/// The clients' IPv4 network.
pub const CLIENTS_V4: &str = "198.51.100.0/24";
/// The clients' IPv6 network.
pub const CLIENTS_V6: &str = "2001:db8:c::/64";
/// The interface of the gateway on the side of the clients.
pub const GATEWAY_CLIENT_SIDE: &str = "gw-c";
/// The interface of the gateway on the side of the servers.
pub const GATEWAY_SERVER_SIDE: &str = "gw-s";

/// What stands around the gateway.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    /// How many addresses the servers have, of each family. At most 200.
    pub servers: u16,
    /// The VLAN id of the frames between clients and gateway; `None`: no tag.
    pub client_vlan: Option<u16>,
    /// The VLAN id of the frames between gateway and servers; `None`: no tag.
    pub server_vlan: Option<u16>,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            servers: 4,
            client_vlan: None,
            server_vlan: None,
        }
    }
}

/// A client: a namespace of its own with one address of each family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The name, which is also the namespace's name in this laboratory.
    pub name: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

/// A laboratory. See the module's contract.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    folder: PathBuf,
    state: State,
    leftovers: Leftovers,
    topology: Option<Topology>,
    clients: Mutex<u16>,
    logs: AtomicU32,
    // Held, not read: the kernel lets go of the lock when the process ends, however it ends. Declared
    // last, so that it outlives the other fields.
    _lock: Flock<File>,
}

impl Lab {
    /// A laboratory with nothing in it yet. `prefix` is 1 to 11 lower-case letters and digits.
    pub fn new(prefix: &str) -> Result<Self> {
        ensure!(
            (1..=11).contains(&prefix.len())
                && prefix
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            "{prefix:?} cannot be a laboratory's prefix: use 1 to 11 lower-case letters and digits"
        );
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the laboratory needs root for network namespaces; run it with sudo"
        );
        let folder = Path::new(ROOT).join(prefix);
        fs::create_dir_all(ROOT).with_context(|| format!("cannot make the folder {ROOT}"))?;
        let lock = lock(prefix)?;
        let state = State::at(Path::new(ROOT).join(format!("{prefix}.state")));
        let mut lab = Self {
            prefix: prefix.to_owned(),
            folder,
            state,
            leftovers: Leftovers::default(),
            topology: None,
            clients: Mutex::new(0),
            logs: AtomicU32::new(0),
            _lock: lock,
        };
        lab.leftovers = lab.clear()?;
        fs::create_dir_all(&lab.folder)
            .with_context(|| format!("cannot make the folder {}", lab.folder.display()))?;
        Ok(lab)
    }

    /// A laboratory with switch, gateway and servers; clients come by [`Lab::add_client`].
    pub fn gateway(prefix: &str, topology: Topology) -> Result<Self> {
        ensure!(
            topology.servers <= MOST_HOSTS,
            "{} server addresses are too many: at most {MOST_HOSTS}",
            topology.servers
        );
        let mut lab = Self::new(prefix)?;
        lab.topology = Some(topology);
        lab.build(topology)
            .context("cannot make the laboratory's namespaces")?;
        Ok(lab)
    }

    fn build(&self, topology: Topology) -> Result<()> {
        let [switch, gateway, servers] = ["switch", "gateway", "servers"].map(|n| self.ns(n));
        for namespace in [&switch, &gateway, &servers] {
            netns::add(namespace)?;
        }
        let tagger = |vlan: Option<u16>| {
            vlan.map(|id| netns::build_tagger(&self.folder, id))
                .transpose()
        };
        netns::link(
            end(&switch, "up0"),
            end(&gateway, GATEWAY_CLIENT_SIDE),
            tagger(topology.client_vlan)?.as_deref(),
        )?;
        netns::link(
            end(&gateway, GATEWAY_SERVER_SIDE),
            end(&servers, "eth0"),
            tagger(topology.server_vlan)?.as_deref(),
        )?;
        // Snooping would hold back neighbour discovery until a querier is heard, and there is none.
        netns::ip_in(&switch, "link add br0 type bridge mcast_snooping 0")?;
        netns::ip_in(&switch, "link set up0 master br0")?;
        netns::ip_in(&switch, "link set br0 up")?;

        // `nodad`: an address is usable at once, not after a second of duplicate detection.
        for (interface, v4, v6) in [
            (GATEWAY_CLIENT_SIDE, client_v4(1), client_v6(1)),
            (GATEWAY_SERVER_SIDE, server_net_v4(1), server_net_v6(1)),
        ] {
            netns::ip_in(&gateway, &format!("addr add {v4}/24 dev {interface}"))?;
            netns::ip_in(&gateway, &format!("addr add {v6}/64 dev {interface} nodad"))?;
        }
        netns::within(&gateway, || -> Result<()> {
            for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                let file = Path::new("/proc/sys/net").join(switch);
                fs::write(&file, "1")
                    .with_context(|| format!("cannot switch on {}", file.display()))?;
            }
            Ok(())
        })??;
        let servers_of = |index| (self.server_v4(index), self.server_v6(index));
        for (v4, v6) in (0..topology.servers).map(servers_of) {
            netns::ip_in(&servers, &format!("addr add {v4}/24 dev eth0"))?;
            netns::ip_in(&servers, &format!("addr add {v6}/64 dev eth0 nodad"))?;
        }
        for via in [
            IpAddr::from(server_net_v4(1)),
            IpAddr::from(server_net_v6(1)),
        ] {
            netns::ip_in(&servers, &format!("route add default via {via}"))?;
        }
        Ok(())
    }

    /// Adds a client behind the switch.
    pub fn add_client(&self, name: &str) -> Result<Client> {
        ensure!(
            self.topology.is_some(),
            "client {name} has no gateway to stand behind: make the laboratory with Lab::gateway"
        );
        let index = {
            let mut count = self
                .clients
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            ensure!(*count < MOST_HOSTS, "more than {MOST_HOSTS} clients");
            *count += 1;
            *count - 1
        };
        let client = Client {
            name: name.to_owned(),
            v4: client_v4(FIRST_HOST + index),
            v6: client_v6(FIRST_HOST + index),
        };
        let (namespace, switch) = (self.ns(name), self.ns("switch"));
        let port = format!("port{index}");
        netns::add(&namespace)?;
        netns::link(end(&namespace, "eth0"), end(&switch, &port), None)?;
        netns::ip_in(&switch, &format!("link set {port} master br0"))?;
        netns::ip_in(&namespace, &format!("addr add {}/24 dev eth0", client.v4))?;
        netns::ip_in(
            &namespace,
            &format!("addr add {}/64 dev eth0 nodad", client.v6),
        )?;
        for via in [IpAddr::from(client_v4(1)), IpAddr::from(client_v6(1))] {
            netns::ip_in(&namespace, &format!("route add default via {via}"))?;
        }
        Ok(client)
    }

    /// Adds an empty namespace, with its loopback up.
    pub fn add_namespace(&self, name: &str) -> Result<()> {
        netns::add(&self.ns(name))
    }

    /// Links two interfaces in two namespaces of this laboratory, offloads off, both up. With `vlan`,
    /// the frames on the link are tagged.
    pub fn link(&self, a: (&str, &str), b: (&str, &str), vlan: Option<u16>) -> Result<()> {
        let object = vlan
            .map(|id| netns::build_tagger(&self.folder, id))
            .transpose()?;
        let (left, right) = (self.ns(a.0), self.ns(b.0));
        netns::link(end(&left, a.1), end(&right, b.1), object.as_deref())
    }

    /// The full name of a namespace of this laboratory, as `ip netns` and `--netns` take it.
    pub fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The folder for this laboratory's files; it goes with the laboratory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What an earlier run had left behind and this one removed.
    pub fn leftovers(&self) -> Leftovers {
        self.leftovers
    }

    /// The IPv4 address of server `index`, counted from 0.
    pub fn server_v4(&self, index: u16) -> Ipv4Addr {
        server_net_v4(FIRST_HOST + index)
    }

    /// The IPv6 address of server `index`, counted from 0.
    pub fn server_v6(&self, index: u16) -> Ipv6Addr {
        server_net_v6(FIRST_HOST + index)
    }

    /// Runs `ip -n NAMESPACE` with the words of `args`.
    pub fn ip(&self, name: &str, args: &str) -> Result<String> {
        netns::ip_in(&self.ns(name), args)
    }

    /// Turns the offloads of both gateway interfaces off again. Attaching an XDP program to a veth
    /// switches GRO on (`veth_enable_xdp` in the kernel): captures on the gateway would see merged
    /// frames from then on.
    pub fn gateway_offloads_off(&self) -> Result<()> {
        let gateway = self.ns("gateway");
        for interface in [GATEWAY_CLIENT_SIDE, GATEWAY_SERVER_SIDE] {
            netns::offloads_off(end(&gateway, interface))?;
        }
        Ok(())
    }

    /// Frames that an interface has dropped since it was made. A comparison of counts is only worth
    /// something when this is 0 on the way.
    pub fn drops(&self, name: &str, interface: &str) -> Result<u64> {
        netns::drops(end(&self.ns(name), interface))
    }

    /// Runs `work` on a thread of its own inside a namespace: sockets that it opens belong there, the
    /// file system stays the caller's.
    pub fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        netns::within(&self.ns(name), work)
    }

    /// A command that will run inside a namespace. Note that `ip netns exec` mounts a fresh /sys:
    /// bpffs is not visible to it.
    pub fn command(&self, name: &str, program: &str, args: &[&str]) -> Command {
        let mut command = tool("ip", ["netns", "exec", &self.ns(name)]);
        command.arg(command::find(program).unwrap_or_else(|| PathBuf::from(program)));
        command.args(args);
        command
    }

    /// Runs a command inside a namespace to its end and returns what it wrote to standard output.
    pub fn run(&self, name: &str, program: &str, args: &[&str], limit: Duration) -> Result<String> {
        command::output(&mut self.command(name, program, args), limit)
    }

    /// Starts a command inside a namespace that runs beside the caller.
    pub fn spawn(&self, name: &str, program: &str, args: &[&str]) -> Result<Process> {
        self.start(&mut self.command(name, program, args), program)
    }

    /// Starts any command as part of this laboratory: logged, written down, ended with it.
    pub fn start(&self, command: &mut Command, program: &str) -> Result<Process> {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(format!("{program}-{number}.log"));
        let process = Process::start(command, program, log)?;
        self.state.process(process.id(), program)?;
        Ok(process)
    }

    /// Writes down a directory of pins below bpffs, to be removed with the laboratory.
    pub fn record_pins(&self, path: &Path) -> Result<()> {
        self.state.pins(path)
    }

    /// Waits until something listens on `address` inside a namespace. The connection that finds out
    /// is made in that same namespace, so it crosses no link and no counter sees it.
    pub fn wait_listening(&self, name: &str, address: SocketAddr, limit: Duration) -> Result<()> {
        let listens = self.within(name, || {
            command::poll_until(limit, || {
                TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
            })
        })?;
        ensure!(
            listens,
            "nothing listens on {address} in {} after {} s",
            self.ns(name),
            limit.as_secs()
        );
        Ok(())
    }

    /// Removes everything that carries the prefix; returns what there was.
    fn clear(&self) -> Result<Leftovers> {
        let mut done = self.state.undo();
        for namespace in netns::with_prefix(&format!("{}-", self.prefix)) {
            netns::delete(&namespace)
                .with_context(|| format!("cannot remove the namespace {namespace}"))?;
            done.namespaces += 1;
        }
        for path in [&self.folder, &self.state_file()] {
            let removed = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(done)
    }

    fn state_file(&self) -> PathBuf {
        Path::new(ROOT).join(format!("{}.state", self.prefix))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            // A destructor has nobody to return to; the next run with this prefix tries again.
            eprintln!("laboratory {}: {error:#}", self.prefix);
        }
    }
}

fn lock(prefix: &str) -> Result<Flock<File>> {
    let path = Path::new(ROOT).join(format!("{prefix}.lock"));
    let mut held = None;
    let mut problem = None;
    command::poll_until(LOCK_PATIENCE, || {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        match file.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Ok(Ok(lock)) => held = Some(lock),
            Ok(Err(_)) => {}
            Err(error) => problem = Some(error),
        }
        held.is_some() || problem.is_some()
    });
    if let Some(error) = problem {
        return Err(error).with_context(|| format!("cannot open {}", path.display()));
    }
    held.with_context(|| {
        format!(
            "another laboratory {prefix} is running (it holds {}): end it first",
            path.display()
        )
    })
}

fn end<'a>(namespace: &'a str, interface: &'a str) -> End<'a> {
    End {
        namespace,
        interface,
    }
}

/// RFC 5737 TEST-NET-2.
fn client_v4(host: u16) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, low(host))
}

/// RFC 3849.
fn client_v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host)
}

/// RFC 5737 TEST-NET-3.
fn server_net_v4(host: u16) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, low(host))
}

fn server_net_v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, host)
}

/// Host numbers are kept below `FIRST_HOST + MOST_HOSTS`.
fn low(host: u16) -> u8 {
    host.to_be_bytes()[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_could_clash_are_refused() {
        for prefix in ["", "Upper", "with-dash", "a b", "waytoolongprefix", "../x"] {
            let error = Lab::new(prefix).expect_err("a bad prefix");
            assert!(format!("{error}").contains("prefix"), "{prefix:?}: {error}");
        }
    }

    #[test]
    fn the_last_host_still_fits_its_network() {
        const { assert!(FIRST_HOST + MOST_HOSTS < 255) };
        assert_eq!(server_net_v4(FIRST_HOST + MOST_HOSTS - 1).octets()[3], 209);
    }
}
