//! What an interface can do for XDP.
//!
//! Contract: says what the kernel and the driver are known to do; where only an attempt can tell, it
//! says so.

use std::fs;
use std::path::Path;

use super::{FRAGS_KERNEL, Finding, Release};
use crate::config::{AttachChoice, Config};
use crate::link::{self, Link};

/// The largest MTU whose frames fit one page of 4096 bytes, beside the headroom that XDP wants and
/// the kernel's own data behind the frame. Drivers differ by a few dozen bytes.
const ONE_BUFFER_MTU: u32 = 3_498;

/// Drivers and kinds of virtual interfaces with XDP support of their own, as of Linux 6.12
/// (`grep -l ndo_bpf drivers/net`).
const DRIVER_MODE: &[&str] = &[
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
    "bridge", "dummy", "ifb", "ipvlan", "macvlan", "netkit", "team", "vlan", "vrf", "vxlan",
];

/// Looks at those that are configured, or else at all that are up.
pub(super) fn all(config: &Config, links: &[Link], release: Option<Release>) -> Vec<Finding> {
    let names = &config.meter.interfaces;
    let pinned = config.meter.pins.exists();
    let examine = |link: &Link| {
        one(&Facts {
            link,
            driver: driver(link),
            choice: config.meter.mode,
            release,
            pinned,
        })
    };
    if names.is_empty() {
        let findings: Vec<Finding> = links
            .iter()
            .filter(|link| link.up && link.name != "lo")
            .flat_map(examine)
            .collect();
        if findings.is_empty() {
            return vec![Finding::warning(
                "interfaces",
                "none is up but lo",
                "set one up, or name one with --interface",
            )];
        }
        return findings;
    }
    names
        .iter()
        .flat_map(|name| match links.iter().find(|link| link.name == *name) {
            Some(link) => examine(link),
            None => vec![Finding::fails(
                &format!("interface {name}"),
                format!("no such interface (have: {})", link::names(links)),
                "name one of these",
            )],
        })
        .collect()
}

/// The driver of an interface. sysfs shows the network namespace that it was mounted in, so the
/// index has to be the same.
fn driver(link: &Link) -> Option<String> {
    let folder = Path::new("/sys/class/net").join(&link.name);
    let index = fs::read_to_string(folder.join("ifindex")).ok()?;
    if index.trim().parse() != Ok(link.index) {
        return None;
    }
    let path = fs::read_link(folder.join("device/driver")).ok()?;
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// What is known of an interface.
struct Facts<'a> {
    link: &'a Link,
    driver: Option<String>,
    choice: AttachChoice,
    release: Option<Release>,
    /// Whether the directory of pins exists, so that a program may be our own.
    pinned: bool,
}

fn one(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = vec![mode(facts)];
    findings.extend(state(facts));
    findings.extend(mtu(facts));
    findings.extend(program(facts));
    findings
}

fn check(link: &Link) -> String {
    format!("interface {}", link.name)
}

/// How it will be attached.
fn mode(facts: &Facts<'_>) -> Finding {
    let Facts { link, choice, .. } = facts;
    let check = check(link);
    if !link.ethernet {
        return Finding::fails(
            &check,
            "its frames have no Ethernet header, so all of them would be skipped",
            "count on the interface that carries them",
        );
    }
    let what = match (&link.kind, &facts.driver) {
        (Some(kind), _) => kind.as_str(),
        (None, Some(driver)) => driver.as_str(),
        (None, None) if link.name == "lo" => "loopback",
        (None, None) => "unknown driver",
    };
    let gro = format!(
        "frames are counted after GRO has merged some: see `ethtool -k {0}`; \
         `ethtool -K {0} gro off lro off` makes packet counts exact",
        link.name
    );
    let driver_mode = DRIVER_MODE.contains(&what);
    let skb_mode = SKB_MODE.contains(&what) || what == "loopback";
    match choice {
        AttachChoice::Skb => {
            Finding::warning(&check, format!("{what}, skb mode as configured"), gro)
        }
        AttachChoice::Driver if skb_mode => Finding::fails(
            &check,
            format!("{what} has no driver mode"),
            "use --mode auto or --mode skb",
        ),
        AttachChoice::Auto if skb_mode => {
            let text = format!("{what} has skb mode only");
            match what {
                "vlan" => Finding::warning(
                    &check,
                    text,
                    format!("count on the interface below it, for tags are understood; here {gro}"),
                ),
                "bridge" | "team" => Finding::warning(
                    &check,
                    text,
                    format!("count on the interfaces below it; here {gro}"),
                ),
                _ => Finding::warning(&check, text, gro),
            }
        }
        AttachChoice::Auto | AttachChoice::Driver if driver_mode => Finding::ok(
            &check,
            format!("{what}, MTU {}: driver mode is expected", link.mtu),
        ),
        AttachChoice::Auto => Finding::warning(
            &check,
            format!("{what}: whether it has driver mode is unknown until tried"),
            format!("in skb mode {gro}"),
        ),
        AttachChoice::Driver => Finding::warning(
            &check,
            format!("{what}: whether it has driver mode is unknown until tried"),
            "--mode auto falls back to skb mode and says so",
        ),
    }
}

/// Whether it receives anything.
fn state(facts: &Facts<'_>) -> Option<Finding> {
    let link = facts.link;
    (!link.up).then(|| {
        Finding::warning(
            &check(link),
            "is down: nothing passes it",
            format!("ip link set {} up", link.name),
        )
    })
}

/// Whether frames fit one buffer.
fn mtu(facts: &Facts<'_>) -> Option<Finding> {
    let link = facts.link;
    if link.mtu <= ONE_BUFFER_MTU || facts.choice == AttachChoice::Skb || link.name == "lo" {
        return None;
    }
    let text = format!("MTU {} needs frames in several buffers", link.mtu);
    Some(
        if facts.release.is_some_and(|release| release < FRAGS_KERNEL) {
            Finding::warning(
                &check(link),
                format!("{text}, which driver mode cannot take before Linux {FRAGS_KERNEL}"),
                format!("set the MTU to {ONE_BUFFER_MTU} or less, or use skb mode"),
            )
        } else {
            Finding::ok(
                &check(link),
                format!("{text}: the frags program is used, where the driver takes it"),
            )
        },
    )
}

/// Whether the place is taken.
fn program(facts: &Facts<'_>) -> Option<Finding> {
    let link = facts.link;
    let xdp = link.xdp.as_ref()?;
    let text = format!(
        "XDP program {} is attached in {} mode",
        xdp.program_id, xdp.mode
    );
    let way_out = format!(
        "see whose it is: bpftool prog show id {}; take it off, or count elsewhere",
        xdp.program_id
    );
    Some(if facts.pinned {
        Finding::warning(
            &check(link),
            format!("{text}: smtpflow takes over its own and refuses to replace any other"),
            way_out,
        )
    } else {
        Finding::fails(
            &check(link),
            format!("{text}, and it is not smtpflow's, which refuses to replace it"),
            way_out,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;
    use crate::link::AttachedXdp;

    fn link(name: &str, kind: Option<&str>) -> Link {
        Link {
            name: name.to_owned(),
            index: 2,
            mtu: 1500,
            kind: kind.map(str::to_owned),
            ethernet: true,
            up: true,
            xdp: None,
        }
    }

    fn facts(link: &Link) -> Facts<'_> {
        Facts {
            link,
            driver: None,
            choice: AttachChoice::Auto,
            release: Some(Release(6, 1)),
            pinned: false,
        }
    }

    #[test]
    fn modes_are_as_the_driver_has_them() {
        let with_driver = |driver: &str, choice| {
            mode(&Facts {
                driver: Some(driver.to_owned()),
                choice,
                ..facts(&link("eth0", None))
            })
            .outcome
        };
        assert_eq!(with_driver("mlx5_core", AttachChoice::Driver), Outcome::Ok);
        assert_eq!(with_driver("r8169", AttachChoice::Auto), Outcome::Warning);
        assert_eq!(with_driver("ixgbe", AttachChoice::Skb), Outcome::Warning);
        let vlan = link("eth0.5", Some("vlan"));
        assert!(
            mode(&facts(&vlan))
                .way_out
                .expect("one")
                .contains("below it")
        );
        let fatal = Facts {
            choice: AttachChoice::Driver,
            ..facts(&vlan)
        };
        assert_eq!(mode(&fatal).outcome, Outcome::Fails);
        assert_eq!(mode(&facts(&link("v0", Some("veth")))).outcome, Outcome::Ok);
    }

    #[test]
    fn interfaces_without_ethernet_frames_fail() {
        let mut tunnel = link("wg0", Some("wireguard"));
        tunnel.ethernet = false;
        assert_eq!(mode(&facts(&tunnel)).outcome, Outcome::Fails);
    }

    #[test]
    fn jumbo_frames_depend_on_the_kernel() {
        let mut jumbo = link("eth0", None);
        jumbo.mtu = 9000;
        assert_eq!(mtu(&facts(&jumbo)).expect("one").outcome, Outcome::Ok);
        let old = Facts {
            release: Some(Release(5, 10)),
            ..facts(&jumbo)
        };
        assert_eq!(mtu(&old).expect("one").outcome, Outcome::Warning);
        assert_eq!(mtu(&facts(&link("eth0", None))), None);
    }

    #[test]
    fn a_foreign_program_fails_and_is_named() {
        let mut taken = link("eth0", None);
        taken.xdp = Some(AttachedXdp {
            program_id: 42,
            mode: "skb".to_owned(),
        });
        let finding = program(&facts(&taken)).expect("one");
        assert_eq!(finding.outcome, Outcome::Fails);
        assert!(finding.text.contains("42"), "{}", finding.text);
        let ours = Facts {
            pinned: true,
            ..facts(&taken)
        };
        assert_eq!(program(&ours).expect("one").outcome, Outcome::Warning);
    }

    #[test]
    fn missing_and_down_interfaces_are_told() {
        let mut config = Config::default();
        config.meter.interfaces = vec!["eth7".to_owned()];
        let mut down = link("eth0", None);
        down.up = false;
        let findings = all(&config, std::slice::from_ref(&down), None);
        assert_eq!(findings[0].outcome, Outcome::Fails);
        assert_eq!(findings[0].text, "no such interface (have: eth0)");

        config.meter.interfaces = vec!["eth0".to_owned()];
        let findings = all(&config, std::slice::from_ref(&down), None);
        assert!(
            findings
                .iter()
                .any(|f| f.way_out.as_deref() == Some("ip link set eth0 up"))
        );

        config.meter.interfaces.clear();
        let findings = all(&config, &[down], None);
        assert_eq!(findings[0].check, "interfaces");
    }
}
