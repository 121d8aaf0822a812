//! The doctor's findings about an interface.

use super::super::Outcome;
use super::*;
use crate::link::{Merging, Offload, XdpSupport};

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
        abilities: Abilities::default(),
        driver: None,
        choice: AttachChoice::Auto,
        release: Some(Release(6, 1)),
        program: None,
    }
}

fn says(programs: bool, several_buffers: bool) -> Abilities {
    Abilities {
        xdp: Some(XdpSupport {
            programs,
            several_buffers,
        }),
        merging: None,
    }
}

fn attached(mode: &str) -> AttachedXdp {
    AttachedXdp {
        program_id: 42,
        mode: mode.to_owned(),
    }
}

#[test]
fn without_the_drivers_word_modes_are_as_such_drivers_are_known() {
    let with_driver = |driver: &str, choice| {
        mode::mode(&Facts {
            driver: Some(driver.to_owned()),
            choice,
            ..facts(&link("eth0", None))
        })
        .outcome
    };
    assert_eq!(with_driver("mlx5_core", AttachChoice::Driver), Outcome::Ok);
    assert_eq!(with_driver("r8169", AttachChoice::Auto), Outcome::Warning);
    assert_eq!(with_driver("r8169", AttachChoice::Driver), Outcome::Warning);
    assert_eq!(with_driver("ixgbe", AttachChoice::Skb), Outcome::Ok);
    let vlan = link("eth0.5", Some("vlan"));
    assert_eq!(mode::mode(&facts(&vlan)).outcome, Outcome::Warning);
    let fatal = Facts {
        choice: AttachChoice::Driver,
        ..facts(&vlan)
    };
    assert_eq!(mode::mode(&fatal).outcome, Outcome::Fails);
    let veth = link("v0", Some("veth"));
    assert_eq!(mode::mode(&facts(&veth)).outcome, Outcome::Ok);
}

#[test]
fn the_drivers_word_counts_more_than_the_list() {
    let with = |driver: &str, choice, programs| {
        mode::mode(&Facts {
            driver: Some(driver.to_owned()),
            choice,
            abilities: says(programs, false),
            ..facts(&link("eth0", None))
        })
    };
    let finding = with("brand-new", AttachChoice::Driver, true);
    assert_eq!(finding.outcome, Outcome::Ok);
    assert!(finding.text.contains("its driver says"), "{}", finding.text);
    let finding = with("r8169", AttachChoice::Auto, false);
    assert_eq!(finding.outcome, Outcome::Warning);
    assert!(finding.text.contains("skb mode it will be"));
    let finding = with("r8169", AttachChoice::Driver, false);
    assert_eq!(finding.outcome, Outcome::Fails);
    // It may take them once it is set up in another way, so nothing fails for sure.
    let finding = with("mlx5_core", AttachChoice::Driver, false);
    assert_eq!(finding.outcome, Outcome::Warning);
    assert!(finding.way_out.expect("one").contains("LRO"));
}

#[test]
fn interfaces_without_ethernet_frames_fail() {
    let mut tunnel = link("wg0", Some("wireguard"));
    tunnel.ethernet = false;
    let findings = one(&facts(&tunnel));
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].outcome, Outcome::Fails);
}

#[test]
fn jumbo_frames_depend_on_the_kernel_and_the_driver() {
    let mut jumbo = link("eth0", None);
    jumbo.mtu = 9000;
    let of = |release, abilities, choice| {
        mode::mtu(&Facts {
            release: Some(release),
            abilities,
            choice,
            ..facts(&jumbo)
        })
        .map(|finding| finding.outcome)
    };
    let (auto, unknown) = (AttachChoice::Auto, Abilities::default());
    assert_eq!(of(Release(6, 1), unknown, auto), Some(Outcome::Ok));
    assert_eq!(of(Release(5, 10), unknown, auto), Some(Outcome::Warning));
    let new = Release(6, 18);
    assert_eq!(of(new, says(true, true), auto), Some(Outcome::Ok));
    assert_eq!(of(new, says(true, false), auto), Some(Outcome::Warning));
    assert_eq!(of(new, says(true, false), AttachChoice::Skb), None);
    assert_eq!(of(new, says(false, false), auto), None);
    assert_eq!(mode::mtu(&facts(&link("eth0", None))), None);
}

/// The findings about what merges frames, with these states of GRO, LRO and hardware GRO.
fn merged(
    link: &Link,
    choice: AttachChoice,
    own: Option<&str>,
    (gro, lro, gro_hw): (Offload, Offload, Offload),
) -> Vec<Finding> {
    let own = own.map(attached);
    offloads::offloads(&Facts {
        choice,
        abilities: Abilities {
            merging: Some(Merging { gro, lro, gro_hw }),
            ..says(true, true)
        },
        program: own.as_ref().map(|own| (own, Owner::Own)),
        ..facts(link)
    })
}

#[test]
fn only_what_merges_frames_before_they_are_counted_is_a_warning() {
    use AttachChoice::{Auto, Skb};
    use Offload::{Fixed, Off, On};
    let eth0 = link("eth0", None);
    for (choice, own, state, outcome, part) in [
        (Auto, None, (Off, Off, Off), Outcome::Ok, "nothing merges"),
        (Auto, None, (On, Off, Off), Outcome::Ok, "after they are"),
        (Auto, None, (On, On, Off), Outcome::Warning, "LRO is on"),
        (Auto, None, (On, Off, Fixed), Outcome::Warning, "cannot be"),
        (Auto, Some("driver"), (On, On, Off), Outcome::Ok, "harmless"),
        (Skb, None, (Off, Off, Off), Outcome::Ok, "nothing merges"),
        (Skb, None, (On, Off, Off), Outcome::Ok, "leaves it out"),
        (Skb, None, (On, On, On), Outcome::Ok, "switches it off"),
        (Skb, None, (On, Off, Fixed), Outcome::Warning, "too few"),
        (
            Auto,
            Some("skb"),
            (On, On, Off),
            Outcome::Warning,
            "too few",
        ),
    ] {
        let findings = merged(&eth0, choice, own, state);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].outcome, outcome, "{findings:?}");
        assert!(findings[0].text.contains(part), "{part}: {findings:?}");
    }
    let both = &merged(&eth0, Auto, None, (On, On, On))[0];
    assert_eq!(
        both.way_out.as_deref(),
        Some("switch it off: ethtool -K eth0 lro off rx-gro-hw off")
    );
}

#[test]
fn frames_merged_at_another_interface_are_told_where_they_are() {
    let off = (Offload::Off, Offload::Off, Offload::Off);
    let bridge = link("br0", Some("bridge"));
    let findings = merged(&bridge, AttachChoice::Skb, None, off);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].outcome, Outcome::Warning);
    assert!(findings[0].text.contains("below it"), "{findings:?}");

    let veth = link("v0", Some("veth"));
    let findings = merged(&veth, AttachChoice::Skb, None, off);
    assert_eq!(findings[0].outcome, Outcome::Warning);
    assert!(findings[0].text.contains("TSO"), "{findings:?}");
    // Driver mode switches it off there.
    let findings = merged(&veth, AttachChoice::Auto, None, off);
    assert!(findings.iter().all(|f| f.outcome == Outcome::Ok));
}

#[test]
fn offloads_that_the_kernel_hides_are_a_warning() {
    let eth0 = link("eth0", None);
    let findings = offloads::offloads(&facts(&eth0));
    assert_eq!(findings[0].outcome, Outcome::Warning);
    assert!(findings[0].way_out.as_ref().expect("one").contains("-k"));
}

#[test]
fn a_program_is_told_by_its_owner() {
    let eth0 = link("eth0", None);
    let taken = attached("skb");
    let of = |owner| {
        one(&Facts {
            program: Some((&taken, owner)),
            ..facts(&eth0)
        })
    };
    let foreign = of(Owner::Foreign);
    let finding = foreign.last().expect("one");
    assert_eq!(finding.outcome, Outcome::Fails);
    assert!(finding.text.contains("42"), "{}", finding.text);
    assert!(finding.text.contains("never replaces"), "{}", finding.text);

    let finding = &of(Owner::Own)[0];
    assert_eq!(finding.outcome, Outcome::Ok);
    assert!(finding.text.contains("counts there already (mode skb"));

    let unknown = of(Owner::Unknown);
    let finding = unknown.last().expect("one");
    assert_eq!(finding.outcome, Outcome::Warning);
}

#[test]
fn pins_tell_whose_a_program_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let xdp = attached("driver");
    let counted = [("eth0".to_owned(), xdp.program_id)];
    let elsewhere = [("eth0".to_owned(), xdp.program_id + 1)];
    let pins = folder.path().join("pins");
    assert_eq!(owner("eth0", &xdp, &counted, &pins), Owner::Own);
    assert_eq!(owner("eth0", &xdp, &elsewhere, &pins), Owner::Foreign);
    assert_eq!(owner("eth1", &xdp, &counted, &pins), Owner::Foreign);
    // Stands for any reason why they cannot be listed: root may list all directories.
    fs::write(&pins, b"").expect("written");
    assert_eq!(owner("eth1", &xdp, &[], &pins), Owner::Unknown);
}

#[test]
fn missing_and_down_interfaces_are_told() {
    let mut config = Config::default();
    config.meter.interfaces = vec!["eth7".to_owned()];
    let mut down = link("eth0", None);
    down.up = false;
    let links = [(down, Abilities::default())];
    let findings = all(&config, &links, None);
    assert_eq!(findings[0].outcome, Outcome::Fails);
    assert_eq!(findings[0].text, "no such interface (have: eth0)");

    config.meter.interfaces = vec!["eth0".to_owned()];
    let findings = all(&config, &links, None);
    assert!(
        findings
            .iter()
            .any(|f| f.way_out.as_deref() == Some("ip link set eth0 up"))
    );

    config.meter.interfaces.clear();
    let findings = all(&config, &links, None);
    assert_eq!(findings[0].check, "interfaces");
}
