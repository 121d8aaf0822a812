//! In which mode an interface will be counted, and whether its frames fit.
//!
//! Contract: what the driver says comes first, then what is known of such drivers. Neither is a
//! promise: the driver decides when the program is attached.

use super::super::{FRAGS_KERNEL, Finding};
use super::Facts;
use crate::config::AttachChoice;
use crate::link::XdpSupport;

/// The largest MTU whose frames fit one page of 4096 bytes, beside the headroom that XDP wants and
/// the kernel's own data behind the frame. Drivers differ by a few dozen bytes, and some machines
/// have larger pages, so a larger MTU never fails by itself.
const ONE_BUFFER_MTU: u32 = 3_498;

/// Drivers and kinds of virtual interfaces that are known for a driver mode, for kernels that do not
/// say it themselves. The list claims nothing of those that are not in it, and not that each kernel's
/// version of these has it.
const KNOWN_FOR_DRIVER_MODE: &[&str] = &[
    "am65-cpsw-nuss",
    "atlantic",
    "bnxt_en",
    "cpsw",
    "dpaa2-eth",
    "ena",
    "fec",
    "fsl_dpaa2_eth",
    "fsl_enetc",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "lan966x-switch",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "netvsc",
    "nfp",
    "nicvf",
    "qede",
    "rvu_nicpf",
    "rvu_nicvf",
    "sfc",
    "stmmac",
    "tsnep",
    "tun",
    "veth",
    "vif",
    "virtio_net",
];

/// Kinds of virtual interfaces that have only the generic path.
const SKB_MODE: &[&str] = &[
    "bridge", "dummy", "ifb", "ipvlan", "loopback", "macvlan", "netkit", "team", "vlan", "vrf",
    "vxlan",
];

/// The mode that it will be counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Driver,
    Skb,
    /// Only an attempt can tell.
    Unknown,
}

pub(super) fn expected(facts: &Facts<'_>) -> Expected {
    // A smtpflow that starts takes over what is there, whatever is configured.
    if let Some(own) = facts.own_program() {
        return if own.mode == "driver" {
            Expected::Driver
        } else {
            Expected::Skb
        };
    }
    let known = KNOWN_FOR_DRIVER_MODE.contains(&facts.what());
    match (facts.choice, facts.abilities.xdp) {
        (AttachChoice::Skb, _) => Expected::Skb,
        (_, Some(XdpSupport { programs: true, .. })) => Expected::Driver,
        // Some of them say no while they are set up in a way that excludes it.
        (_, Some(_)) if known => Expected::Unknown,
        (_, Some(_)) => Expected::Skb,
        (_, None) if known => Expected::Driver,
        (_, None) if SKB_MODE.contains(&facts.what()) => Expected::Skb,
        (_, None) => Expected::Unknown,
    }
}

/// How it will be attached.
pub(super) fn mode(facts: &Facts<'_>) -> Finding {
    let check = facts.check();
    let what = format!("{}, MTU {}", facts.what(), facts.link.mtu);
    if let Some(own) = facts.own_program() {
        return Finding::ok(
            &check,
            format!(
                "{what}: smtpflow counts there already (mode {}, program {})",
                own.mode, own.program_id
            ),
        );
    }
    let says = facts.abilities.xdp;
    match (expected(facts), facts.choice) {
        (_, AttachChoice::Skb) => Finding::ok(&check, format!("{what}: skb mode as configured")),
        (Expected::Driver, _) => {
            let why = match says {
                None => "is known for driver mode",
                Some(_) => "takes XDP programs, its driver says",
            };
            Finding::ok(&check, format!("{what}: {why}"))
        }
        (Expected::Skb, choice) => {
            let why = match says {
                None => "has no driver mode",
                Some(_) => "takes no XDP programs in driver mode, says the kernel",
            };
            if choice == AttachChoice::Driver {
                Finding::fails(
                    &check,
                    format!("{what}: {why}"),
                    "use --mode auto or --mode skb",
                )
            } else {
                Finding::warning(
                    &check,
                    format!("{what}: {why}, so skb mode it will be, at a higher cost per packet"),
                    "choose --mode skb if that is meant",
                )
            }
        }
        (Expected::Unknown, choice) => {
            let why = match says {
                None => "whether it has driver mode is unknown until tried",
                Some(_) => {
                    "is known for driver mode, but its driver says that it takes no XDP programs \
                     as it is set up now"
                }
            };
            let mut way_out = match choice {
                AttachChoice::Driver => "--mode auto falls back to skb mode and says so".to_owned(),
                AttachChoice::Auto | AttachChoice::Skb => {
                    "if driver mode is refused, it falls back to skb mode and says so".to_owned()
                }
            };
            if says.is_some() {
                way_out += "; LRO is often the reason: see its offloads";
            }
            Finding::warning(&check, format!("{what}: {why}"), way_out)
        }
    }
}

/// Whether frames fit one buffer.
pub(super) fn mtu(facts: &Facts<'_>) -> Option<Finding> {
    let check = facts.check();
    let mtu = facts.link.mtu;
    // In skb mode the kernel puts a frame together before the program sees it.
    if mtu <= ONE_BUFFER_MTU || expected(facts) == Expected::Skb || facts.own_program().is_some() {
        return None;
    }
    let text = format!("MTU {mtu} needs frames in several buffers");
    let way_out = format!("set the MTU to {ONE_BUFFER_MTU} or less, or use skb mode");
    if facts.release.is_some_and(|release| release < FRAGS_KERNEL) {
        return Some(Finding::warning(
            &check,
            format!("{text}, which driver mode cannot take before Linux {FRAGS_KERNEL}"),
            way_out,
        ));
    }
    Some(match facts.abilities.xdp {
        Some(XdpSupport {
            several_buffers: true,
            ..
        }) => Finding::ok(
            &check,
            format!("{text}: its driver says that it takes them"),
        ),
        Some(_) => Finding::warning(
            &check,
            format!("{text}, and its driver does not say that it takes them in driver mode"),
            way_out,
        ),
        None => Finding::ok(
            &check,
            format!("{text}: the frags program is used, where the driver takes it"),
        ),
    })
}
