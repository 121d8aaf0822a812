//! The root file system of the gateway: a small Debian 13 with systemd, that forwards between two
//! networks.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::command::{self, tool};

use super::{QUICK, file_system};
use crate::vm::archive;
use crate::workspace;

const SUITE: &str = "trixie";
/// On top of what every Debian has. No `procps`, no `sudo`, no editor: a package that needs them has to say so.
const PACKAGES: &str =
    "systemd,systemd-sysv,udev,dbus,iproute2,kmod,initramfs-tools,linux-image-cloud-amd64";
/// Fetching and unpacking 90 MB.
const MAKE: Duration = Duration::from_secs(30 * 60);
const SIZE: &str = "800M";
/// Says what the image was made of; written last.
const STAMP: &str = "made-of";

/// The machine's files. Its interfaces are known by the addresses that the test gives them.
const FILES: &[(&str, &str)] = &[
    ("usr/local/sbin/commands", include_str!("root/commands")),
    (
        "usr/lib/systemd/system/commands.service",
        include_str!("root/commands.service"),
    ),
    (
        "etc/systemd/network/10-lan.link",
        "[Match]\nMACAddress=52:54:00:00:00:01\n[Link]\nName=lan\n",
    ),
    (
        "etc/systemd/network/10-wan.link",
        "[Match]\nMACAddress=52:54:00:00:00:02\n[Link]\nName=wan\n",
    ),
    (
        "etc/systemd/network/10-lan.network",
        "[Match]\nName=lan\n[Network]\nAddress=198.51.100.1/24\nAddress=2001:db8:c::1/64\n\
         IPv6AcceptRA=no\nIPv4Forwarding=yes\nIPv6Forwarding=yes\n",
    ),
    (
        "etc/systemd/network/10-wan.network",
        "[Match]\nName=wan\n[Network]\nAddress=203.0.113.1/24\nAddress=2001:db8:5::1/64\n\
         IPv6AcceptRA=no\nIPv4Forwarding=yes\nIPv6Forwarding=yes\n",
    ),
    (
        "etc/systemd/network/20-management.network",
        "[Match]\nMACAddress=52:54:00:00:00:03\n[Network]\nDHCP=ipv4\n",
    ),
    (
        "etc/sysctl.d/90-gateway.conf",
        "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\n",
    ),
    ("etc/fstab", "/dev/vda / ext4 defaults 0 1\n"),
    ("etc/hostname", "gateway\n"),
    // There is no network to fetch anything from.
    ("etc/apt/sources.list", ""),
    // Or every boot were the first one, and named every unit anew.
    ("etc/machine-id", "5f1b3f0c2d6e4a7f9b8c7d6e5f4a3b2c\n"),
];

/// Makes `root.img`, `vmlinuz` and `initrd` in `folder`, unless they are there.
pub fn provide(folder: &Path, anew: bool) -> Result<()> {
    let made_of = format!("{SUITE} {PACKAGES}\n{FILES:?}\n");
    let stamp = folder.join(STAMP);
    if !anew && command::read_lossy(&stamp) == made_of {
        return Ok(());
    }
    println!("making a root file system of Debian {SUITE} (nothing is installed here)");
    let begun = Instant::now();
    let root = folder.join("root");
    for path in [&root, &stamp] {
        let removed = if path.is_dir() {
            fs::remove_dir_all(path)
        } else if path.exists() {
            fs::remove_file(path)
        } else {
            Ok(())
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let source = format!(
        "deb [signed-by={}] {} {SUITE} main",
        archive::keyring()?,
        archive::address()?
    );
    let include = format!("--include={PACKAGES}");
    let mut make = tool(
        "mmdebstrap",
        [
            "--variant=minbase",
            "--mode=root",
            "--architectures=amd64",
            &include,
            SUITE,
        ],
    );
    command::succeed(
        make.arg(&root).arg(source),
        &workspace::log("gateway-root")?,
        MAKE,
    )
    .context("cannot make Debian's root file system")?;
    for (path, text) in FILES {
        let path = root.join(path);
        let parent = path.parent().context("a path without a folder")?;
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut enable = tool("chroot", [&root]);
    enable.args(["systemctl", "enable", "systemd-networkd", "commands"]);
    command::output(&mut enable, QUICK)?;
    for (start, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        let boot = root.join("boot");
        let file = fs::read_dir(&boot)
            .with_context(|| format!("cannot read the folder {}", boot.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(start))
            })
            .with_context(|| format!("Debian's kernel has no {start}*"))?;
        fs::copy(&file, folder.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    file_system(&root, &folder.join("root.img"), SIZE)?;
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    fs::write(&stamp, made_of).with_context(|| format!("cannot write {}", stamp.display()))?;
    println!("it is there after {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
