//! What an interface can do for XDP.
//!
//! Contract: says what the kernel and the driver are known to do; where only an attempt can tell, it
//! says so.

use std::fs;
use std::io;
use std::path::Path;

use super::{Finding, Release};
use crate::config::{AttachChoice, Config};
use crate::link::{self, Abilities, AttachedXdp, Link};
use crate::meter;

mod mode;
mod offloads;

/// Looks at those that are configured, or else at all that are up. `links` come with what they can
/// do.
pub(super) fn all(
    config: &Config,
    links: &[(Link, Abilities)],
    release: Option<Release>,
) -> Vec<Finding> {
    let names = &config.meter.interfaces;
    let counted = meter::xdp::attached(&config.meter.pins);
    let examine = |(link, abilities): &(Link, Abilities)| {
        one(&Facts {
            link,
            abilities: *abilities,
            driver: driver(link),
            choice: config.meter.mode,
            release,
            program: link
                .xdp
                .as_ref()
                .map(|xdp| (xdp, owner(&link.name, xdp, &counted, &config.meter.pins))),
        })
    };
    if names.is_empty() {
        let findings: Vec<Finding> = links
            .iter()
            .filter(|(link, _)| link.up && link.name != "lo")
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
        .flat_map(
            |name| match links.iter().find(|(link, _)| link.name == *name) {
                Some(found) => examine(found),
                None => vec![Finding::fails(
                    &format!("interface {name}"),
                    format!(
                        "no such interface (have: {})",
                        link::names(links.iter().map(|(link, _)| link))
                    ),
                    "name one of these",
                )],
            },
        )
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

/// Whose program is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The smtpflow with these pins.
    Own,
    /// A smtpflow with other pins, or somebody else.
    Foreign,
    /// The pins are closed to this user.
    Unknown,
}

/// Whose program this is, on the interface of this name: the smtpflow's with these pins if its links
/// in `counted` hold it. The name alone would not tell, as another network namespace may have it too.
fn owner(name: &str, xdp: &AttachedXdp, counted: &[(String, u32)], pins: &Path) -> Owner {
    let program = (name.to_owned(), xdp.program_id);
    if counted.contains(&program) {
        return Owner::Own;
    }
    match fs::read_dir(pins) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Owner::Unknown,
        Ok(_) | Err(_) => Owner::Foreign,
    }
}

/// What is known of an interface.
struct Facts<'a> {
    link: &'a Link,
    abilities: Abilities,
    driver: Option<String>,
    choice: AttachChoice,
    release: Option<Release>,
    /// The program on it.
    program: Option<(&'a AttachedXdp, Owner)>,
}

impl Facts<'_> {
    fn check(&self) -> String {
        format!("interface {}", self.link.name)
    }

    /// The kind of a virtual interface or the driver of hardware.
    fn what(&self) -> &str {
        match (&self.link.kind, &self.driver) {
            (Some(kind), _) => kind,
            (None, Some(driver)) => driver,
            (None, None) if self.link.name == "lo" => "loopback",
            (None, None) => "unknown driver",
        }
    }

    /// Our program, if it counts there already.
    fn own_program(&self) -> Option<&AttachedXdp> {
        self.program
            .filter(|(_, owner)| *owner == Owner::Own)
            .map(|(program, _)| program)
    }
}

fn one(facts: &Facts<'_>) -> Vec<Finding> {
    if !facts.link.ethernet {
        return vec![Finding::fails(
            &facts.check(),
            "its frames have no Ethernet header, so all of them would be skipped",
            "count on the interface that carries them",
        )];
    }
    let mut findings = vec![mode::mode(facts)];
    findings.extend(state(facts));
    findings.extend(mode::mtu(facts));
    findings.extend(offloads::offloads(facts));
    findings.extend(program(facts));
    findings
}

/// Whether it receives anything.
fn state(facts: &Facts<'_>) -> Option<Finding> {
    let link = facts.link;
    (!link.up).then(|| {
        Finding::warning(
            &facts.check(),
            "is down: nothing passes it",
            format!("ip link set {} up", link.name),
        )
    })
}

/// Whether the place is taken.
fn program(facts: &Facts<'_>) -> Option<Finding> {
    let (xdp, owner) = facts.program?;
    let check = facts.check();
    let AttachedXdp { program_id, mode } = xdp;
    let text = format!("XDP program {program_id} is there in {mode} mode");
    match owner {
        Owner::Own => None,
        Owner::Foreign => Some(Finding::fails(
            &check,
            format!(
                "{text}, from another tool or a smtpflow with other pins, and smtpflow never \
                 replaces one"
            ),
            format!(
                "run refuses to replace it: see whose it is (bpftool prog show id {program_id}) \
                 and take it off, or count elsewhere"
            ),
        )),
        Owner::Unknown => Some(Finding::warning(
            &check,
            format!("{text}; whose it is stands in the pins, which are closed to this user"),
            "run the doctor as root to know",
        )),
    }
}

#[cfg(test)]
mod tests;
