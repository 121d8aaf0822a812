//! Puts the program on an interface, in the best mode that the driver takes.
//!
//! Contract: never replaces somebody else's program, never attaches but through a BPF link that only
//! its pin holds, and says which mode it got and why not a better one.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{XdpMode, loaded_programs};
use nix::errno::Errno;

use super::pins::Pins;
use super::programs::{FRAGS, PLAIN, Programs, SECTIONS, Section};
use super::tables;
use crate::config::AttachChoice;
use crate::failure::{Failure, Kind};
use crate::link::{self, Link};
use crate::model::{AttachMode, ObservationPoint, PointState};

/// How a link came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// This smtpflow made it.
    Anew,
    /// An earlier one did, and its program was replaced.
    TakenOver,
}

/// Attaches to one interface.
pub fn attach(
    programs: &mut Programs,
    pins: &Pins,
    interface: &str,
    choice: AttachChoice,
) -> Result<(ObservationPoint, Attached), Failure> {
    let links = link::links()?;
    let link = link::find(&links, interface, "attach to")?.clone();
    if !link.ethernet {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "cannot attach to {interface}: its frames have no Ethernet header, so none could be \
                 counted; attach to the interface that carries them"
            ),
        ));
    }
    let path = pins.link_path(interface);
    if !path.exists()
        && let Some(former) = former_name(pins, &link, &links)?
    {
        pins.rename_link(&former, interface)?;
        tracing::info!(
            interface,
            former,
            "renamed since an earlier smtpflow attached to it"
        );
    }
    if path.exists() {
        let ours = program_of(&path)?;
        if link.xdp.as_ref().is_some_and(|xdp| xdp.program_id == ours) {
            let point = take_over(programs, pins, &link, choice)?;
            return Ok((point, Attached::TakenOver));
        }
        if !remove_if_severed(programs, pins, interface)? {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "cannot attach to {interface}: {} is the link to another interface, which had \
                     this name or has it in another network namespace; give this agent a directory \
                     of its own with --pins, or end that link with smtpflow detach",
                    pins.shown_link(interface)
                ),
            ));
        }
    }
    if let Some(foreign) = &link.xdp {
        return Err(foreign_program(
            interface,
            foreign.program_id,
            &foreign.mode,
        ));
    }

    let modes: &[AttachMode] = match choice {
        AttachChoice::Auto => &[AttachMode::Driver, AttachMode::Skb],
        AttachChoice::Driver => &[AttachMode::Driver],
        AttachChoice::Skb => &[AttachMode::Skb],
    };
    let attempts = modes
        .iter()
        .flat_map(|mode| sections(*mode).iter().map(|section| (*mode, *section)));
    let mut refusals = Vec::new();
    let mut forbidden = true;
    for (mode, section) in attempts {
        match try_attach(programs, &link, mode, section) {
            Ok(fd_link) => {
                let fallback = (mode == AttachMode::Skb && choice == AttachChoice::Auto)
                    .then(|| refusals.join("; "));
                // Only the pin holds the link from here on: so smtpflow detach can end it while an
                // agent runs, and whoever kills the agent does not detach.
                fd_link.pin(&path).with_context(|| {
                    format!("cannot pin the link {}", pins.shown_link(interface))
                })?;
                return Ok((point(&link, mode, section, fallback), Attached::Anew));
            }
            Err(error) => {
                // Somebody may have come between the look and the attempt.
                if let Some(foreign) = find(interface)?.xdp {
                    return Err(foreign_program(
                        interface,
                        foreign.program_id,
                        &foreign.mode,
                    ));
                }
                forbidden &= error
                    .chain()
                    .filter_map(|cause| cause.downcast_ref::<io::Error>())
                    .any(tables::is_permission);
                refusals.push(format!(
                    "{} with section {}: {error:#}",
                    mode.name(),
                    section.name
                ));
            }
        }
    }
    let kind = if forbidden {
        Kind::NoPermission
    } else {
        Kind::Unavailable
    };
    let way_out = match choice {
        AttachChoice::Driver => "use --mode auto to let it fall back to skb",
        AttachChoice::Auto | AttachChoice::Skb => {
            "see what smtpflow doctor says about this interface"
        }
    };
    Err(Failure::new(
        kind,
        format!(
            "cannot attach to {interface}: {}; {way_out}",
            refusals.join("; ")
        ),
    ))
}

/// The sections to try in this mode, the best first.
///
/// With `xdp.frags` the operator can raise the MTU above one page while the program is attached,
/// which the kernel refuses with `xdp`; kernels before 5.18 do not load it. In skb mode frames come
/// in one piece.
const fn sections(mode: AttachMode) -> &'static [Section] {
    match mode {
        AttachMode::Driver => &[FRAGS, PLAIN],
        AttachMode::Skb => &[PLAIN],
    }
}

/// This interface, attached to under the name that it has.
pub fn point(
    link: &Link,
    mode: AttachMode,
    section: Section,
    fallback: Option<String>,
) -> ObservationPoint {
    ObservationPoint {
        configured: link.name.clone(),
        interface: link.name.clone(),
        index: link.index,
        state: PointState::Attached,
        reason: None,
        up: link.up,
        mtu: link.mtu,
        changes: 0,
        mode,
        program: section.name,
        fallback,
    }
}

/// The name of the pin of our link to this interface, if the interface was renamed after an earlier
/// smtpflow had attached to it. Where several links could be the one, nobody can say, and the
/// program on the interface is told to be in the way.
fn former_name(pins: &Pins, link: &Link, links: &[Link]) -> Result<Option<String>, Failure> {
    let Some(attached) = &link.xdp else {
        return Ok(None);
    };
    let has_it = |link: &&Link| link.xdp.as_ref() == Some(attached);
    let mut formers = Vec::new();
    for name in pins.linked_interfaces()? {
        // Links of one smtpflow have one program in common.
        let stays = links.iter().filter(has_it).any(|link| link.name == name);
        if !stays && program_of(&pins.link_path(&name))? == attached.program_id {
            formers.push(name);
        }
    }
    let former = formers.pop();
    Ok(former.filter(|_| formers.is_empty()))
}

/// The interface of this name in the network namespace of this thread.
fn find(interface: &str) -> Result<Link, Failure> {
    link::find(&link::links()?, interface, "attach to").cloned()
}

fn try_attach(
    programs: &mut Programs,
    link: &Link,
    mode: AttachMode,
    section: Section,
) -> anyhow::Result<FdLink> {
    let mode = match mode {
        AttachMode::Driver => XdpMode::Driver,
        AttachMode::Skb => XdpMode::Skb,
    };
    let program = programs.load(section)?;
    let id = program.attach_to_if_index(link.index, mode)?;
    let xdp_link: XdpLink = program.take_link(id)?;
    // Where the kernel refuses a link, aya attaches by netlink instead. Such an attachment would
    // stay after a crash and cannot be pinned; dropping it here detaches it.
    FdLink::try_from(xdp_link).context("the kernel gave no BPF link")
}

/// The number of the program that a pinned link holds.
pub fn program_of(path: &Path) -> anyhow::Result<u32> {
    let info = open(path)?
        .info()
        .with_context(|| format!("cannot ask what the pin {} is", name_of(path)))?;
    Ok(info.program_id())
}

fn open(path: &Path) -> anyhow::Result<FdLink> {
    let link = PinnedLink::from_pin(path)
        .with_context(|| format!("cannot open the pin {}", name_of(path)))?;
    Ok(FdLink::from(link))
}

/// The name of a pin: how it is reached says nothing to anybody.
fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Puts a section of our program into a pinned link, which goes on being held by its pin alone.
fn update(programs: &mut Programs, path: &Path, section: Section) -> anyhow::Result<()> {
    let link = XdpLink::try_from(open(path)?)
        .with_context(|| format!("{} is not a link of an XDP program", name_of(path)))?;
    let program = programs.load(section)?;
    let id = program.attach_to_link(link)?;
    // Taken out of the program object, which would detach it when it goes.
    FdLink::try_from(program.take_link(id)?).context("the kernel gave no BPF link")?;
    Ok(())
}

/// Removes the pin of the link to this interface if the interface is gone and took the attachment
/// with it. Returns whether it was so.
pub fn remove_if_severed(
    programs: &mut Programs,
    pins: &Pins,
    interface: &str,
) -> Result<bool, Failure> {
    let severed = is_severed(programs, &pins.link_path(interface));
    if severed {
        pins.remove_link(interface)?;
    }
    Ok(severed)
}

/// Whether the interface of this link is gone. The kernel says so when the link is updated
/// (`bpf_xdp_link_update` of net/core/dev.c); one that is alive has our program afterwards, which
/// counts into the same tables, and nothing happens if it has had it before.
fn is_severed(programs: &mut Programs, path: &Path) -> bool {
    for section in SECTIONS {
        let Err(error) = update(programs, path, section) else {
            return false;
        };
        let severed = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.raw_os_error() == Some(Errno::ENOLINK as i32));
        if severed {
            return true;
        }
    }
    false
}

/// Puts our program into the link that an earlier smtpflow left. No packet passes uncounted.
fn take_over(
    programs: &mut Programs,
    pins: &Pins,
    link: &Link,
    choice: AttachChoice,
) -> Result<ObservationPoint, Failure> {
    let path = pins.link_path(&link.name);
    let attached = link.xdp.as_ref().context("a link with a program")?;
    let mode = AttachMode::named(&attached.mode);
    let fallback = match (choice, mode) {
        (AttachChoice::Driver, AttachMode::Skb) | (AttachChoice::Skb, AttachMode::Driver) => {
            return Err(Failure::new(
                Kind::Unavailable,
                format!(
                    "cannot count on {} as configured: an earlier smtpflow has attached to it in {} \
                     mode and counts on; change the mode by smtpflow detach and a new start",
                    link.name,
                    mode.name()
                ),
            ));
        }
        (AttachChoice::Auto, AttachMode::Skb) => {
            Some("an earlier smtpflow attached in skb mode, and this one took it over".to_owned())
        }
        _ => None,
    };
    let mut refusals = Vec::new();
    for section in sections(mode) {
        match update(programs, &path, *section) {
            Ok(()) => return Ok(point(link, mode, *section, fallback)),
            Err(error) => refusals.push(format!("section {}: {error:#}", section.name)),
        }
    }
    Err(Failure::new(
        Kind::Unavailable,
        format!(
            "cannot take over the link to {} at {}: {}; end it with smtpflow detach",
            link.name,
            pins.shown_link(&link.name),
            refusals.join("; ")
        ),
    ))
}

/// Puts our program into every link that is pinned, but for those to these interfaces: those count with
/// the newest program and the newest list of own prefixes as well. Pins of interfaces that are gone are
/// removed.
pub fn renew(programs: &mut Programs, pins: &Pins, but: &[String]) -> Result<(), Failure> {
    for interface in pins.linked_interfaces()? {
        if !but.contains(&interface) && remove_if_severed(programs, pins, &interface)? {
            tracing::info!(interface, "is gone, and its link with it");
        }
    }
    Ok(())
}

/// Names the program that is in the way, if this process may ask for that (`CAP_SYS_ADMIN`).
fn foreign_program(interface: &str, id: u32, mode: &str) -> Failure {
    let name = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned));
    let named = match name {
        Some(name) if !name.is_empty() => format!("{name} (id {id}, mode {mode})"),
        _ => format!("id {id} (mode {mode})"),
    };
    Failure::new(
        Kind::Unavailable,
        format!(
            "cannot attach to {interface}: XDP program {named} is there already, and smtpflow never \
             replaces one; remove it with the tool that put it there (bpftool prog show id {id}, bpftool \
             net list and bpftool link list show it), or count on another interface"
        ),
    )
}
