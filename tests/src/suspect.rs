//! A gateway with an agent that judges, and an own host that gets itself flagged.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime};

use smtp_user::model::period::{Tier, milliseconds};
use xtask::lab::{Agent, AgentOptions, Lab, ensure_bpffs};

/// The own host.
pub const SUSPECT: &str = "192.0.2.2";
/// Another one, that does nothing that anybody minds.
pub const NEIGHBOUR: &str = "192.0.2.3";
/// Whom both try to reach.
const GATEWAY: &str = "192.0.2.1";
/// The longest wait for anything.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A port on loopback where nobody listens, and no other test does.
pub fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// Detectors are about UTC hours: waits for the next one if this one has less left.
pub fn wait_for_room_in_the_hour(needed: Duration) {
    let hour = Tier::Hour.length().expect("an hour has a length");
    let left = hour - milliseconds(SystemTime::now()) % hour;
    if u128::from(left) < needed.as_millis() {
        std::thread::sleep(Duration::from_millis(left));
    }
}

/// The laboratory: both hosts in one namespace, the gateway in another.
pub struct Scene {
    /// Its namespaces.
    pub lab: Lab,
    /// How the agent is started: windows of a second, and 192.0.2.0/24 is its own network.
    pub options: AgentOptions,
}

impl Scene {
    /// Makes it; `config` is the agent's configuration file.
    pub fn new(prefix: &str, config: &str) -> Self {
        ensure_bpffs().expect("bpffs");
        let lab = Lab::new(prefix).expect("a laboratory");
        for name in ["hosts", "gateway"] {
            lab.add_namespace(name).expect("a namespace");
        }
        lab.link(("hosts", "eth0"), ("gateway", "outer"), None)
            .expect("a link");
        for (namespace, address, interface) in [
            ("hosts", SUSPECT, "eth0"),
            ("hosts", NEIGHBOUR, "eth0"),
            ("gateway", GATEWAY, "outer"),
        ] {
            lab.ip(namespace, &format!("addr add {address}/24 dev {interface}"))
                .expect("an address");
        }
        let mut options = AgentOptions::new(&lab).expect("options");
        options.interfaces = vec!["outer".to_owned()];
        options.window = "1s".to_owned();
        options.listen = free_port();
        let file = lab.folder().join("smtpflow.toml");
        std::fs::write(&file, config).expect("written");
        let words = ["--local", "192.0.2.0/24", "--config"];
        options.extra = words.map(str::to_owned).to_vec();
        options.extra.push(file.display().to_string());
        Self { lab, options }
    }

    /// Starts the agent, which then counts.
    pub fn agent(&self) -> Agent {
        let mut agent = self.lab.agent(&self.options).expect("the agent starts");
        agent.wait_ready(LIMIT).expect("the agent is ready");
        agent
    }

    /// Opens connections from an own host to a port where nobody listens: each is refused.
    pub fn knock(&self, host: &str, times: u32) {
        let host: Ipv4Addr = host.parse().expect("an address");
        let target: SocketAddr = format!("{GATEWAY}:25").parse().expect("an address");
        self.lab
            .within("hosts", || {
                for _ in 0..times {
                    knock_once(host, target);
                }
            })
            .expect("a thread in the namespace");
    }
}

/// One connection from this address.
fn knock_once(from: Ipv4Addr, to: SocketAddr) {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, connect, socket,
    };
    use std::os::fd::AsRawFd as _;

    let own = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    bind(
        own.as_raw_fd(),
        &SockaddrIn::from(std::net::SocketAddrV4::new(from, 0)),
    )
    .expect("an own address");
    let to = SockaddrStorage::from(to);
    connect(own.as_raw_fd(), &to).expect_err("the port is closed");
    drop(TcpStream::from(own));
}
