//! OpenSMTPD in a laboratory.
//!
//! It is unpacked, not installed, and has its folders and its users compiled in: it runs where the file system
//! looks as if it were installed, in a mount namespace of its own. Nothing of that is seen outside.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Lab, Process};
use crate::command;

/// How long it may take to listen.
const START: Duration = Duration::from_secs(20);
/// The users that it becomes, with numbers that no user of the machine should have.
const USERS: [(&str, u32); 2] = [("opensmtpd", 64_251), ("opensmtpq", 64_252)];

/// It looks up every client's name before it greets, and would wait for the machine's servers of names, which nobody
/// in a laboratory reaches: no such server is asked (libasr's resolv.conf).
const RESOLVER: &str = "lookup file\n";

/// Makes the file system as if it were installed: $1 is the folder with its files, $2 the program. It runs
/// in a mount namespace of its own, whose mounts reach no other one.
const SCRIPT: &str = "set -e
mount --bind \"$1/passwd\" /etc/passwd
mount --bind \"$1/group\" /etc/group
[ ! -e /etc/resolv.conf ] || mount --bind \"$1/resolv.conf\" /etc/resolv.conf
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /var/lib/opensmtpd/empty
mount -t tmpfs -o mode=755 tmpfs /var/spool
mkdir -m 711 /var/spool/smtpd
cp \"$1/smtpd.conf\" /var/lib/smtpd.conf
mount -t tmpfs -o mode=755 tmpfs /run
exec \"$2\" -d -f /var/lib/smtpd.conf";

impl Lab {
    /// Starts OpenSMTPD in the servers' namespace on port 25 of `addresses`. It takes mail for its own domain,
    /// `open.example`, and for other domains only if it is an open relay; nothing that it takes gets anywhere.
    pub fn opensmtpd(&self, addresses: &[IpAddr], is_open: bool) -> Result<Process> {
        let program = command::find("opensmtpd").context(
            "no program opensmtpd on PATH: `cargo xtask test` unpacks it into target/xtask/tools",
        )?;
        let home = self.folder().join(if is_open {
            "opensmtpd-open"
        } else {
            "opensmtpd"
        });
        fs::create_dir_all(&home)
            .with_context(|| format!("cannot make the folder {}", home.display()))?;
        let (mut passwd, mut group) = (
            command::read_lossy("/etc/passwd".as_ref()),
            command::read_lossy("/etc/group".as_ref()),
        );
        for (name, number) in USERS {
            passwd.push_str(&format!(
                "{name}:x:{number}:{number}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"
            ));
            group.push_str(&format!("{name}:x:{number}:\n"));
        }
        for (name, text) in [
            ("passwd", passwd),
            ("group", group),
            ("resolv.conf", RESOLVER.to_owned()),
            ("smtpd.conf", configuration(addresses, is_open)),
        ] {
            let file = home.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let mut command =
            self.command("servers", "unshare", &["--mount", "sh", "-c", SCRIPT, "sh"]);
        command.arg(&home).arg(&program);
        let process = self.start(&mut command, "opensmtpd")?;
        for address in addresses {
            self.wait_listening("servers", SocketAddr::new(*address, 25), START)
                .with_context(|| format!("OpenSMTPD did not start: {}", process.log_text()))?;
        }
        Ok(process)
    }
}

/// smtpd.conf(5).
fn configuration(addresses: &[IpAddr], is_open: bool) -> String {
    let mut text = String::new();
    for address in addresses {
        text.push_str(&format!("listen on {address} hostname open.example\n"));
    }
    // Where a relayed message would go, nobody listens.
    text.push_str(
        "action \"local\" maildir \"/var/spool/mail\"
action \"relay\" relay host smtp://127.0.0.1:9
match from any for domain \"open.example\" action \"local\"
",
    );
    if is_open {
        text.push_str("match from any for any action \"relay\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_relay_takes_mail_for_others() {
        let addresses = ["203.0.113.10".parse().expect("an address")];
        let closed = configuration(&addresses, false);
        assert!(
            closed.starts_with("listen on 203.0.113.10 hostname open.example\n"),
            "{closed}"
        );
        assert!(!closed.contains("for any "), "{closed}");
        assert!(
            configuration(&addresses, true).contains("match from any for any action \"relay\"\n")
        );
    }
}
