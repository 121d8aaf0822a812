//! Real mail software in a laboratory: postfix's sink, its message source, postfix itself, and swaks.
//!
//! Nothing here touches the machine's own postfix: the MTA is a private instance with its own
//! configuration, queue and data, and it throws away all that it accepts.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};

use super::{Lab, Process};
use crate::command;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(20);
/// The recipient that the private postfix refuses.
pub const REFUSED: &str = "refused@server.example";
/// Where Debian keeps postfix's daemons.
const DAEMONS: &str = "/usr/lib/postfix/sbin";

/// Messages for `smtp-source` to send: one connection per message.
#[derive(Debug, Clone, Copy)]
pub struct Messages {
    /// How many; each is sent over a connection of its own unless `reuse`.
    pub count: u32,
    /// How many connections at the same time.
    pub parallel: u32,
    /// The size of a message's body in bytes.
    pub size: u32,
    /// Send all of them over `parallel` connections instead of one each.
    pub reuse: bool,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            count: 1,
            parallel: 1,
            size: 1000,
            reuse: false,
        }
    }
}

impl Messages {
    fn arguments(self, target: SocketAddr) -> Vec<String> {
        let Self {
            count,
            parallel,
            size,
            reuse,
        } = self;
        let mut line = format!(
            "-m {count} -s {parallel} -l {size} -M client.example -f sender@client.example \
             -t someone@server.example"
        );
        if reuse {
            line.push_str(" -d");
        }
        line.push_str(&format!(" inet:{target}"));
        line.split_whitespace().map(str::to_owned).collect()
    }
}

/// For whom a postfix instance, whose own domain is `mta.example`, takes mail for other domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relaying {
    /// For everybody: an open relay. It takes mail for any domain.
    Everybody,
    /// For nobody in the laboratory.
    Nobody,
    /// For whoever says that he writes from its own domain: half open.
    OwnSenders,
    /// For everybody, until the message is to come: half open to who asks no further than RCPT.
    NoMessage,
    /// For whoever writes to `desk.example` or `owner.example`, whose mail it keeps: that for `abuse@desk.example` in
    /// [`Postfix::complaints`], all else in [`Postfix::mailbox`]. It speaks TLS if there are `relay.pem` and `relay.key`
    /// in its configuration's folder before it is started.
    Mailbox,
}

impl Relaying {
    const fn name(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Nobody => "nobody",
            Self::OwnSenders => "own-senders",
            Self::NoMessage => "no-message",
            Self::Mailbox => "mailbox",
        }
    }

    /// What makes it so, in main.cf. What is for its own domain is accepted by all but the first.
    const fn settings(self) -> &'static str {
        match self {
            Self::Everybody => "mydestination =\nmynetworks = 0.0.0.0/0 [::]/0\n",
            Self::Nobody => {
                "mydestination = mta.example, localhost
mynetworks = 127.0.0.0/8 [::1]/128
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
"
            }
            Self::OwnSenders => {
                "mydestination = mta.example, localhost
mynetworks = 127.0.0.0/8 [::1]/128
smtpd_relay_restrictions = check_sender_access inline:{mta.example=OK}, reject_unauth_destination
"
            }
            Self::NoMessage => {
                "mydestination =
mynetworks = 0.0.0.0/0 [::]/0
smtpd_data_restrictions = reject
"
            }
            Self::Mailbox => {
                "mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = reject_unauth_destination
virtual_mailbox_domains = desk.example, owner.example
virtual_mailbox_base = $queue_directory/../mail
virtual_mailbox_maps = inline:{ { abuse@desk.example = abuse/ } }, static:inbox/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_security_level = may
smtpd_tls_cert_file = $config_directory/relay.pem
smtpd_tls_key_file = $config_directory/relay.key
"
            }
        }
    }
}

/// A private postfix instance.
#[derive(Debug)]
pub struct Postfix {
    master: Process,
    config: PathBuf,
    log: PathBuf,
}

impl Postfix {
    /// What it wrote to its log until now.
    pub fn log_text(&self) -> String {
        command::read_lossy(&self.log)
    }

    /// The file of its log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its configuration, for `postfix -c`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The folder (maildir) of the mail that it keeps, see [`Relaying::Mailbox`].
    pub fn mailbox(&self) -> PathBuf {
        self.log.with_file_name("mail").join("inbox")
    }

    /// The folder (maildir) of what comes in for `abuse@desk.example`, likewise.
    pub fn complaints(&self) -> PathBuf {
        self.log.with_file_name("mail").join("abuse")
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        self.master
            .stop(Signal::SIGTERM, Duration::from_secs(10))
            .map(drop)
    }
}

impl Lab {
    /// Starts `smtp-sink` in the servers' namespace on each of `addresses` and waits until all
    /// listen. `extra` are further options, such as `-r RCPT` to reject.
    pub fn sinks(&self, addresses: &[SocketAddr], extra: &[&str]) -> Result<Vec<Process>> {
        let sinks = addresses
            .iter()
            .map(|address| {
                let place = format!("inet:{address}");
                // As root it insists on a user to become.
                let mut args = vec!["-u", "nobody"];
                args.extend(extra);
                args.extend([place.as_str(), "256"]);
                self.spawn("servers", "smtp-sink", &args)
            })
            .collect::<Result<Vec<_>>>()?;
        for (address, sink) in addresses.iter().zip(&sinks) {
            self.wait_listening("servers", *address, START)
                .with_context(|| {
                    format!("smtp-sink on {address} did not start: {}", sink.log_text())
                })?;
        }
        Ok(sinks)
    }

    /// Starts a private postfix in the servers' namespace on port 25 of `addresses`. It accepts mail
    /// for everybody but [`REFUSED`] from everybody and discards it.
    pub fn postfix(&self, addresses: &[IpAddr]) -> Result<Postfix> {
        self.postfix_for(Relaying::Everybody, addresses)
    }

    /// The same, for whom it is said; one of each kind.
    pub fn postfix_for(&self, relaying: Relaying, addresses: &[IpAddr]) -> Result<Postfix> {
        self.postfix_in("servers", relaying, addresses)
    }

    /// Where a postfix has its files, for what must be there before it is started.
    pub fn postfix_home(&self, namespace: &str, relaying: Relaying) -> PathBuf {
        let name = relaying.name();
        self.folder().join(match namespace {
            "servers" => format!("postfix-{name}"),
            _ => format!("postfix-{namespace}-{name}"),
        })
    }

    /// The same in this namespace.
    pub fn postfix_in(
        &self,
        namespace: &str,
        relaying: Relaying,
        addresses: &[IpAddr],
    ) -> Result<Postfix> {
        ensure!(
            Path::new(DAEMONS).join("master").exists(),
            "no postfix in {DAEMONS}: install Debian's package postfix"
        );
        let home = self.postfix_home(namespace, relaying);
        let (config, queue, data) = (home.join("etc"), home.join("queue"), home.join("data"));
        for folder in [&config, &queue, &data] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let user = User::from_name("postfix")
            .context("cannot look up the user postfix")?
            .context("no user postfix: is Debian's package postfix installed?")?;
        chown(&data, Some(user.uid), None)
            .with_context(|| format!("cannot give {} to postfix", data.display()))?;
        let mail = home.join("mail");
        fs::create_dir_all(&mail)
            .with_context(|| format!("cannot make the folder {}", mail.display()))?;
        // The user `nobody`, as in `Relaying::Mailbox`.
        let nobody = Uid::from_raw(65534);
        chown(&mail, Some(nobody), None)
            .with_context(|| format!("cannot give {} to nobody", mail.display()))?;
        let log = home.join("maillog");
        for (name, text) in [
            ("main.cf", main_cf(&home, relaying, addresses)),
            ("master.cf", MASTER_CF.to_owned()),
        ] {
            let file = config.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        // Makes the queue's folders with the owners that the daemons insist on. It looks for the
        // addresses too, so it must run where they are.
        let place = config.to_string_lossy();
        self.run(
            namespace,
            "postfix",
            &["-c", &place, "check"],
            Duration::from_secs(30),
        )
        .with_context(|| {
            let said = command::read_lossy(&log);
            format!("the private postfix instance does not pass its own check: {said}")
        })?;

        let master = format!("{DAEMONS}/master");
        let mut command = self.command(namespace, &master, &["-d", "-c"]);
        command.arg(&config);
        let postfix = Postfix {
            master: self.start(&mut command, "master")?,
            config,
            log,
        };
        for address in addresses {
            self.wait_listening(namespace, SocketAddr::new(*address, 25), START)
                .with_context(|| format!("postfix did not start: {}", postfix.log_text()))?;
        }
        Ok(postfix)
    }

    /// Starts `smtp-source` in `client`'s namespace. It ends by itself; status 0 means that every
    /// session was made and every message accepted.
    pub fn smtp_source(
        &self,
        client: &str,
        target: SocketAddr,
        messages: Messages,
    ) -> Result<Process> {
        let args = messages.arguments(target);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.spawn(client, "smtp-source", &args)
    }

    /// Sends messages with `smtp-source` and waits until all are accepted. It leaves no log behind and
    /// may be called any number of times.
    pub fn send(
        &self,
        client: &str,
        target: SocketAddr,
        messages: Messages,
        limit: Duration,
    ) -> Result<()> {
        let args = messages.arguments(target);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.run(client, "smtp-source", &args, limit).map(drop)
    }

    /// Sends one message with swaks from `client`'s namespace and waits for it. `extra` are further
    /// options, such as `--body`.
    pub fn swaks(&self, client: &str, target: SocketAddr, extra: &[&str]) -> Result<()> {
        let (server, port) = (target.ip().to_string(), target.port().to_string());
        let mut args = vec!["--server", &server, "--port", &port, "--hide-all"];
        args.push(if target.is_ipv6() { "-6" } else { "-4" });
        args.extend(["--helo", "client.example", "--timeout", "15"]);
        args.extend([
            "--from",
            "user@client.example",
            "--to",
            "friend@server.example",
        ]);
        args.extend(extra);
        self.run(client, "swaks", &args, Duration::from_secs(60))
            .map(drop)
    }
}

fn main_cf(home: &Path, relaying: Relaying, addresses: &[IpAddr]) -> String {
    let home = home.display();
    let interfaces: Vec<String> = addresses
        .iter()
        .map(|address| match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        })
        .collect();
    let interfaces = interfaces.join(", ");
    let relaying = relaying.settings();
    format!(
        "compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/maillog
maillog_file_prefixes = {home}
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = {DAEMONS}
meta_directory = /etc/postfix
shlib_directory = /usr/lib/postfix
myhostname = mta.example
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = {interfaces}
inet_protocols = all
{relaying}# There is no DNS to ask.
smtpd_peername_lookup = no
# So that there is a refusal to be had.
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ {REFUSED} = REJECT User unknown }} }}
# Nothing that is accepted goes anywhere.
local_transport = discard:
default_transport = discard:
"
    )
}

/// The services that accepting and discarding needs; no chroot, since the folder is the laboratory's.
const MASTER_CF: &str = "\
smtp      inet       n  -  n  -      -  smtpd
cleanup   unix       n  -  n  -      0  cleanup
qmgr      unix       n  -  n  300    1  qmgr
tlsmgr    unix       -  -  n  1000?  1  tlsmgr
rewrite   unix       -  -  n  -      -  trivial-rewrite
bounce    unix       -  -  n  -      0  bounce
defer     unix       -  -  n  -      0  bounce
trace     unix       -  -  n  -      0  bounce
proxymap  unix       -  -  n  -      -  proxymap
error     unix       -  -  n  -      -  error
retry     unix       -  -  n  -      -  error
discard   unix       -  -  n  -      -  discard
virtual   unix       -  n  n  -      -  virtual
anvil     unix       -  -  n  -      1  anvil
postlog   unix-dgram n  -  n  -      1  postlogd
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_told_what_to_send_where() {
        let target = "[2001:db8:5::a]:25".parse().expect("an address");
        let messages = Messages {
            count: 7,
            reuse: true,
            ..Messages::default()
        };
        let line = messages.arguments(target).join(" ");
        assert!(line.starts_with("-m 7 -s 1 -l 1000 "), "{line}");
        assert!(line.ends_with(" -d inet:[2001:db8:5::a]:25"), "{line}");
    }

    #[test]
    fn the_mta_listens_where_it_is_told_and_delivers_nothing() {
        let addresses = ["203.0.113.10", "2001:db8:5::a"].map(|a| a.parse().expect("an address"));
        let text = main_cf(Path::new("/run/x"), Relaying::Everybody, &addresses);
        assert!(text.contains("inet_interfaces = 203.0.113.10, [2001:db8:5::a]\n"));
        assert!(text.contains("default_transport = discard:\n"));
    }
}
