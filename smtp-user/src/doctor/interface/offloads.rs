//! Whether frames are counted as they came, or merged.
//!
//! Contract: warns only of what merges frames before the program sees them, or keeps it from being
//! attached. That is less than what is on: in driver mode the program comes before GRO, and where a
//! program is attached in skb mode the kernel leaves GRO out (`netif_elide_gro` of
//! include/linux/netdevice.h) and switches LRO and hardware GRO off (`generic_xdp_install` of
//! net/core/dev.c), but only on this very interface.

use super::super::Finding;
use super::Facts;
use super::mode::{Expected, expected};
use crate::config::AttachChoice;
use crate::link::{Merging, Offload};

const MERGED: &str = "frames arrive merged: packets are too few and bytes lack the merged headers";

/// Kinds whose frames have been received by other interfaces, and have been through their GRO.
const ABOVE_OTHERS: &[&str] = &[
    "bond", "bridge", "ifb", "ipvlan", "macvlan", "team", "vlan", "vrf", "vxlan",
];

/// Kinds that hand over what the other end sends, merged frames (TSO) included.
const FROM_ANOTHER_END: &[&str] = &["loopback", "tun", "veth"];

pub(super) fn offloads(facts: &Facts<'_>) -> Vec<Finding> {
    let driver_mode = match expected(facts) {
        Expected::Driver => true,
        Expected::Skb => false,
        Expected::Unknown => facts.choice == AttachChoice::Driver,
    };
    let mut findings = Vec::new();
    // In driver mode, such a kind hands the program on to those below it.
    if !driver_mode && ABOVE_OTHERS.contains(&facts.what()) {
        findings.push(Finding::warning(
            &facts.check(),
            format!("where GRO is on at the interfaces below it, {MERGED}"),
            match facts.what() {
                // Inside a tunnel there is nothing to count from below.
                "vxlan" => "switch it off there: ethtool -K BELOW gro off",
                "vlan" => {
                    "count on the interface below it, for tags are understood; or switch it off \
                     there: ethtool -K BELOW gro off"
                }
                _ => {
                    "count on the interfaces below it; or switch it off there: \
                     ethtool -K BELOW gro off"
                }
            },
        ));
        return findings;
    }
    findings.extend(other_end(facts, driver_mode));
    match facts.abilities.merging {
        None => findings.push(Finding::warning(
            &facts.check(),
            "the kernel does not say which offloads are on (CONFIG_ETHTOOL_NETLINK)",
            format!(
                "see that LRO and hardware GRO are off: ethtool -k {}",
                facts.link.name
            ),
        )),
        Some(merging) if driver_mode => findings.push(before_driver_mode(facts, merging)),
        Some(merging) => findings.push(before_skb_mode(facts, merging)),
    }
    findings
}

/// What the sender merges, which cannot be seen from this end.
fn other_end(facts: &Facts<'_>, driver_mode: bool) -> Option<Finding> {
    let what = facts.what();
    // A veth pair switches TSO of the other end off when a program is attached in driver mode
    // (veth_xdp_set of drivers/net/veth.c).
    if !FROM_ANOTHER_END.contains(&what) || (what == "veth" && driver_mode) {
        return None;
    }
    let way_out = match what {
        "loopback" => "switch them off: ethtool -K lo tso off gso off",
        "veth" => "use driver mode, or switch them off there: ethtool -K OTHER-END tso off gso off",
        _ => "switch them off in the virtual machine behind it: ethtool -K IF tso off gso off",
    };
    Some(Finding::warning(
        &facts.check(),
        format!("where the sender has TSO or GSO on, {MERGED}"),
        way_out,
    ))
}

/// Names, as ethtool takes them, and states of what merges frames before the program in any mode.
fn early(merging: Merging) -> [(&'static str, &'static str, Offload); 2] {
    [
        ("LRO", "lro", merging.lro),
        ("hardware GRO", "rx-gro-hw", merging.gro_hw),
    ]
}

/// Those that are in this state, and how to switch them off.
fn those(merging: Merging, state: Offload) -> Option<(String, String)> {
    let (names, options): (Vec<_>, Vec<_>) = early(merging)
        .into_iter()
        .filter(|(_, _, is)| *is == state)
        .map(|(name, option, _)| (name, format!("{option} off")))
        .unzip();
    let verb = if names.len() == 1 { "is" } else { "are" };
    (!names.is_empty()).then(|| {
        (
            format!("{} {verb} on", names.join(" and ")),
            options.join(" "),
        )
    })
}

fn before_driver_mode(facts: &Facts<'_>, merging: Merging) -> Finding {
    let check = facts.check();
    let refused = "and many drivers refuse driver mode with it";
    let attached = facts.own_program().is_some();
    match (
        those(merging, Offload::Fixed),
        those(merging, Offload::On),
        merging.gro,
    ) {
        (Some((names, _)), _, _) if !attached => Finding::warning(
            &check,
            format!("{names} and cannot be switched off here, {refused}"),
            fixed_way_out(),
        ),
        (_, Some((names, options)), _) if !attached => Finding::warning(
            &check,
            format!("{names}, {refused}"),
            format!("switch it off: ethtool -K {} {options}", facts.link.name),
        ),
        (_, _, Offload::Off) => Finding::ok(&check, "nothing merges frames"),
        _ => Finding::ok(
            &check,
            "GRO is on and harmless: in driver mode it merges frames after they are counted",
        ),
    }
}

fn before_skb_mode(facts: &Facts<'_>, merging: Merging) -> Finding {
    let check = facts.check();
    match (
        those(merging, Offload::Fixed),
        those(merging, Offload::On),
        merging.gro,
    ) {
        (Some((names, _)), _, _) => Finding::warning(
            &check,
            format!("{names} and cannot be switched off here: in skb mode {MERGED}"),
            fixed_way_out(),
        ),
        // The kernel switched it off when the program was attached: somebody wanted it back.
        (_, Some((names, options)), _) if facts.own_program().is_some() => Finding::warning(
            &check,
            format!("{names}: {MERGED}"),
            format!("switch it off: ethtool -K {} {options}", facts.link.name),
        ),
        (_, Some((names, _)), _) => Finding::ok(
            &check,
            format!("{names}: the kernel switches it off when a program is attached in skb mode"),
        ),
        (_, _, Offload::Off) => Finding::ok(&check, "nothing merges frames at this end"),
        _ => Finding::ok(
            &check,
            "GRO is on and harmless: the kernel leaves it out where a program is attached in skb \
             mode",
        ),
    }
}

fn fixed_way_out() -> &'static str {
    "have the host of the virtual machine not offer it (guest_tso4=off,guest_tso6=off for virtio), \
     or count elsewhere"
}
