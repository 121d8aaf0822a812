//! Namespaces, links and tags: the plumbing below [`Lab`](super::Lab), by iproute2's commands.
//!
//! Both ends of every link are made inside namespaces, so nothing ever appears among the machine's
//! own interfaces and names need to be unique only within a namespace.
//!
//! 802.1Q tags are put on and taken off by a two-line tc program at each end of a link instead of
//! VLAN sub-interfaces: the frames on the link are the same, and kernels without the 8021q module
//! (cloud and micro-VM kernels) can do it too. The program is LLVM text, and bpf-linker, which the
//! set-up installs anyway, turns it into an object.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

use super::state;
use crate::command::{self, tool};

/// Every command here talks to the kernel and is done in milliseconds; this is for a machine that is
/// very busy.
pub(super) const QUICK: Duration = Duration::from_secs(20);

/// Offloads that change what is seen on a link: merged or over-long frames, tags beside the frame
/// instead of in it.
const OFFLOADS: [&str; 5] = ["tso", "gso", "gro", "txvlan", "rxvlan"];

/// Runs `ip` with the words of `args`.
pub(super) fn ip(args: &str) -> Result<String> {
    command::output(&mut tool("ip", args.split_whitespace()), QUICK)
}

/// Runs `ip -n NAMESPACE` with the words of `args`.
pub(super) fn ip_in(namespace: &str, args: &str) -> Result<String> {
    ip(&format!("-n {namespace} {args}"))
}

/// Where iproute2 keeps the handle of a named namespace.
pub(super) fn handle(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// Makes a namespace with its loopback up.
pub(super) fn add(namespace: &str) -> Result<()> {
    ip(&format!("netns add {namespace}"))?;
    ip_in(namespace, "link set lo up").map(drop)
}

/// The named namespaces of this machine whose names start with `start`.
pub(super) fn with_prefix(start: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        // Not there before the first namespace is made.
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(start))
        .collect();
    names.sort();
    names
}

/// Ends every process in a namespace of ours, then removes the namespace and with it its interfaces.
pub(super) fn delete(namespace: &str) -> Result<()> {
    for pid in ip(&format!("netns pids {namespace}"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.trim().parse().ok())
    {
        state::end(pid, || state::is_alive(pid));
    }
    ip(&format!("netns del {namespace}")).map(drop)
}

/// Runs `work` on a thread of its own that has moved into `namespace`: sockets that it opens belong
/// there. The file system stays the caller's (`ip netns exec` would hide bpffs).
pub(super) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = handle(namespace);
    let file = File::open(&path)
        .with_context(|| format!("no network namespace {namespace} ({})", path.display()))?;
    thread::scope(|scope| {
        scope
            .spawn(move || -> Result<T> {
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter the namespace {namespace}"))?;
                Ok(work())
            })
            .join()
            .map_err(|_| anyhow!("the work inside the namespace {namespace} panicked"))?
    })
}

/// One end of a link: a full namespace name and an interface name.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub namespace: &'a str,
    pub interface: &'a str,
}

/// Makes a veth pair with the two ends, offloads off, up. With `tag`, everything that leaves an end
/// carries the tag `(object, VLAN id)`.
pub(super) fn link(a: End<'_>, b: End<'_>, tag: Option<&Path>) -> Result<()> {
    ip_in(
        a.namespace,
        &format!(
            "link add {} type veth peer name {} netns {}",
            a.interface, b.interface, b.namespace
        ),
    )?;
    for end in [a, b] {
        offloads_off(end)?;
        if let Some(object) = tag {
            attach_tagger(end, object)?;
        }
        ip_in(end.namespace, &format!("link set {} up", end.interface))?;
    }
    Ok(())
}

/// Turns off the offloads that would merge frames or hide tags.
pub(super) fn offloads_off(end: End<'_>) -> Result<()> {
    let mut words = vec![
        "netns",
        "exec",
        end.namespace,
        "ethtool",
        "-K",
        end.interface,
    ];
    for offload in OFFLOADS {
        words.extend([offload, "off"]);
    }
    command::output(&mut tool("ip", words), QUICK).map(drop)
}

/// Frames that an interface has dropped, in either direction.
pub(super) fn drops(end: End<'_>) -> Result<u64> {
    let text = ip_in(end.namespace, &format!("-j -s link show {}", end.interface))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).context("`ip -j link` wrote no JSON")?;
    ["rx", "tx"]
        .iter()
        .map(|side| {
            json[0]["stats64"][side]["dropped"]
                .as_u64()
                .with_context(|| format!("`ip -j -s link show {}` names no drops", end.interface))
        })
        .sum()
}

/// The tc program that tags: at egress every frame gets the tag, at ingress it loses it. Helpers 18
/// and 19 are `bpf_skb_vlan_push` and `bpf_skb_vlan_pop` (linux/bpf.h); the protocol is 0x8100 in
/// network order; 0 is TC_ACT_OK.
fn tagger_source(id: u16) -> String {
    let protocol = u16::from_ne_bytes([0x81, 0x00]);
    let triple = if cfg!(target_endian = "big") {
        "bpfeb"
    } else {
        "bpfel"
    };
    let order = if cfg!(target_endian = "big") {
        'E'
    } else {
        'e'
    };
    format!(
        "target datalayout = \"{order}-m:e-p:64:64-i64:64-i128:128-n32:64-S128\"
target triple = \"{triple}\"
define i32 @vlan_push(ptr %skb) section \"push\" {{
  %r = call i64 inttoptr (i64 18 to ptr)(ptr %skb, i16 {protocol}, i16 {id})
  ret i32 0
}}
define i32 @vlan_pop(ptr %skb) section \"pop\" {{
  %r = call i64 inttoptr (i64 19 to ptr)(ptr %skb)
  ret i32 0
}}
"
    )
}

/// Builds the tagger for a VLAN id in `folder` and returns the object's path.
pub(super) fn build_tagger(folder: &Path, id: u16) -> Result<PathBuf> {
    if !(1..4095).contains(&id) {
        bail!("{id} is no VLAN id: it must be between 1 and 4094");
    }
    let source = folder.join(format!("vlan{id}.ll"));
    let object = folder.join(format!("vlan{id}.o"));
    fs::write(&source, tagger_source(id))
        .with_context(|| format!("cannot write {}", source.display()))?;
    command::output(
        tool("bpf-linker", ["--export", "vlan_push,vlan_pop", "-o"])
            .arg(&object)
            .arg(&source),
        QUICK,
    )
    .context(
        "cannot build the program that tags frames; `cargo xtask setup` installs bpf-linker",
    )?;
    Ok(object)
}

fn attach_tagger(end: End<'_>, object: &Path) -> Result<()> {
    let End {
        namespace,
        interface,
    } = end;
    let tc = |args: &str| {
        command::output(
            &mut tool("tc", format!("-n {namespace} {args}").split_whitespace()),
            QUICK,
        )
        .with_context(|| {
            format!(
                "cannot tag frames at {interface} in {namespace}: \
                 the kernel needs CONFIG_NET_CLS_BPF and CONFIG_NET_SCH_INGRESS"
            )
        })
    };
    tc(&format!("qdisc add dev {interface} clsact"))?;
    for (hook, section) in [("egress", "push"), ("ingress", "pop")] {
        tc(&format!(
            "filter add dev {interface} {hook} bpf direct-action object-file {} section {section}",
            object.display()
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tagger_names_the_tag_and_both_sections() {
        let source = tagger_source(125);
        for part in ["i16 125", "section \"push\"", "section \"pop\""] {
            assert!(source.contains(part), "{part} in {source}");
        }
    }

    #[test]
    fn vlan_ids_outside_the_range_are_refused() {
        for id in [0, 4095, u16::MAX] {
            assert!(build_tagger(Path::new("/nonexistent"), id).is_err(), "{id}");
        }
    }
}
