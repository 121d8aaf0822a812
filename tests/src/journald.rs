//! A journald of its own in a mount namespace of its own; it touches nothing of the machine's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::command::{finish, poll_until};
use xtask::lab::{Lab, Process};

const LIMIT: Duration = Duration::from_secs(60);

/// Starts it as `$journald`, and defines `say`. Namespaces that ip(8) has made and folders of laboratories are still
/// there.
pub const START: &str = r#"
set -eu
mount --make-rprivate /
keep=$(mktemp -d)
mount --rbind /run "$keep"
mount -t tmpfs tmpfs /run
for name in netns smtpflow-lab; do
    [ -d "$keep/$name" ] || continue
    mkdir "/run/$name"
    mount --rbind "$keep/$name" "/run/$name"
done
umount -l "$keep"
rmdir "$keep"
[ ! -d /var/log/journal ] || mount -t tmpfs tmpfs /var/log/journal
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nForwardToWall=no\nRateLimitBurst=0\n' \
    > /run/systemd/journald.conf.d/test.conf
/lib/systemd/systemd-journald &
journald=$!
tries=0
while [ ! -S /run/systemd/journal/dev-log ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ]
    sleep 0.05
done
say() {
    logger --socket /run/systemd/journal/dev-log --size 20000 --priority "$1" --tag "$2" -- "$3"
}
"#;

/// One that runs.
#[derive(Debug)]
pub struct Journald {
    process: Process,
}

impl Journald {
    /// Starts one beside a laboratory, whose namespaces are known there.
    pub fn start(lab: &Lab) -> Self {
        let script = format!("{START}\necho up\nwait $journald");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]);
        let process = lab.start(&mut command, "journald").expect("it starts");
        let up = poll_until(LIMIT, || process.log_text().contains("up\n"));
        assert!(up, "{}", process.log_text());
        Self { process }
    }

    /// Runs a script of the shell beside it, and gives what that prints.
    pub fn run(&self, script: &str) -> String {
        let mut command = Command::new("nsenter");
        command.arg(self.namespace()).args(["sh", "-euc", script]);
        let finished = finish(&mut command, LIMIT).expect("it ends");
        assert!(finished.status.success(), "{script}: {}", finished.stderr);
        finished.stdout
    }

    /// So many clients' mail was refused: an entry each, of this client.
    pub fn refuse(&self, client: &str, count: u32) {
        let line =
            format!("NOQUEUE: reject: RCPT from unknown[{client}]: 554 no; from=<a@b.example>");
        self.run(&format!(
            "i=0; while [ $i -lt {count} ]; do i=$((i + 1)); logger --socket /run/systemd/journal/dev-log \
             --priority mail.info --tag postfix/smtpd -- '{line}'\" $i\"; done"
        ));
    }

    /// Makes a user a member of the group systemd-journal, which may read the journal, as systemd-tmpfiles(8) has it.
    pub fn admit(&self, user: &str) {
        self.run(&format!(
            "sed 's/^\\(systemd-journal:[^:]*:[^:]*:\\).*/\\1{user}/' /etc/group > /run/group
            grep -q '^systemd-journal:.*:{user}$' /run/group
            mount --bind /run/group /etc/group
            chgrp -R systemd-journal /run/log/journal
            chmod -R u=rwX,g=rX,o= /run/log/journal
            find /run/log/journal -type d -exec chmod g+s {{}} +
            chmod 755 /run/log/journal"
        ));
    }

    /// Removes all entries but those that come from now on.
    pub fn vacuum(&self) {
        self.run("journalctl --sync --quiet; journalctl --rotate --quiet; journalctl --vacuum-files=1 --quiet");
    }

    /// A program in the place of another, which is started where this journald is.
    pub fn beside(&self, folder: &Path, program: &Path) -> PathBuf {
        let wrapper = folder.join("beside");
        let text = format!(
            "#!/bin/sh\nexec nsenter {} {} \"$@\"\n",
            self.namespace(),
            program.display()
        );
        fs::write(&wrapper, text).expect("written");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("its mode");
        wrapper
    }

    fn namespace(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.process.id())
    }
}

/// The journalctl that a process has started.
#[derive(Clone, Copy, Debug)]
pub struct Journalctl(u32);

impl Journalctl {
    /// The one of an agent.
    pub fn of(agent: u32) -> Self {
        let mut found = None;
        let started = poll_until(LIMIT, || {
            found = children(agent)
                .into_iter()
                .find(|child| field(*child, "Name").as_deref() == Some("journalctl"));
            found.is_some()
        });
        assert!(started, "{agent} has started no journalctl");
        Self(found.expect("one"))
    }

    /// A line of its /proc/PID/status.
    pub fn status(self, name: &str) -> String {
        field(self.0, name).unwrap_or_else(|| panic!("{self:?} has no {name}"))
    }

    /// Whether it has ended, also if nobody has asked how.
    pub fn has_ended(self) -> bool {
        field(self.0, "State").is_none_or(|state| state.starts_with(['Z', 'X']))
    }

    /// Kills it.
    pub fn kill(self) {
        let id = i32::try_from(self.0).expect("a process");
        kill(Pid::from_raw(id), Signal::SIGKILL).expect("killed");
    }
}

fn field(process: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found == name).then(|| value.trim().to_owned())
    })
}

fn children(process: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("/proc");
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|child| field(*child, "PPid").is_some_and(|parent| parent == process.to_string()))
        .collect()
}
