//! Keeps the configured interfaces counted while they come, go and change.
//!
//! Contract: an interface is known by its link, not by its name, so one that is renamed, set down
//! and up, or given another MTU goes on being counted. One that was deleted is attached to again
//! when its configured name is back, by the rules of `attach`: nobody else's program is ever
//! replaced. One whose link somebody ended is left alone: that was an operator's wish. Every change
//! is logged once and counted, and no configured interface ever drops from the list.

use super::attach::{self, Attached};
use super::pins::Pins;
use super::programs::{self, PLAIN, Programs};
use crate::config::AttachChoice;
use crate::failure::Failure;
use crate::link::{self, Link};
use crate::model::{AttachMode, ObservationPoint, PointState};

/// The configured interfaces.
#[derive(Default)]
pub struct Interfaces {
    members: Vec<Interface>,
}

struct Interface {
    choice: AttachChoice,
    attached: Attached,
    point: ObservationPoint,
    /// The interface as it was when the program was refused. A driver may change the interface in an
    /// attempt that fails, which must not cause the next attempt.
    refused: Option<Link>,
}

impl Interfaces {
    /// Attaches to one that is there.
    pub fn attach(
        &mut self,
        programs: &mut Programs,
        pins: &Pins,
        interface: &str,
        choice: AttachChoice,
    ) -> Result<(), Failure> {
        let (point, attached) = attach::attach(programs, pins, interface, choice)?;
        self.members.push(Interface {
            choice,
            attached,
            point,
            refused: None,
        });
        Ok(())
    }

    /// All of them, as last seen.
    pub fn points(&self) -> Vec<ObservationPoint> {
        let points = self.members.iter().map(|member| member.point.clone());
        points.collect()
    }

    /// Configured names, and how their last link came about.
    pub fn attached(&self) -> impl Iterator<Item = (&str, Attached)> {
        self.members
            .iter()
            .map(|member| (member.point.configured.as_str(), member.attached))
    }

    /// Whether an interface is configured under this name.
    pub fn is_configured(&self, name: &str) -> bool {
        self.attached().any(|(configured, _)| configured == name)
    }

    /// Looks for one that a loader attaches to.
    pub fn expect(&mut self, interface: &str) {
        self.members.push(Interface {
            choice: AttachChoice::Auto,
            attached: Attached::TakenOver,
            point: ObservationPoint {
                configured: interface.to_owned(),
                interface: interface.to_owned(),
                index: 0,
                state: PointState::Missing,
                reason: None,
                up: false,
                mtu: 0,
                changes: 0,
                mode: AttachMode::Driver,
                program: PLAIN.name,
                fallback: None,
            },
            refused: None,
        });
    }

    /// See [`XdpMeter::reconcile`](super::XdpMeter::reconcile). `retry` tells to attempt again what
    /// was refused although the interface has not changed since; without programs, a loader attaches.
    /// `numbers` are those of our programs.
    pub fn reconcile(
        &mut self,
        mut programs: Option<&mut Programs>,
        numbers: &[u32],
        pins: &Pins,
        retry: bool,
    ) -> bool {
        let links = match link::links() {
            Ok(links) => links,
            Err(failure) => {
                tracing::warn!("cannot see whether the program is still attached: {failure}");
                return false;
            }
        };
        // All that are counted first, so that none of them is taken for an interface that is back.
        let counted: Vec<Option<&Link>> = self
            .members
            .iter()
            .map(|member| member.counted(&links, numbers, pins))
            .collect();
        let mut changed = false;
        for (member, link) in self.members.iter_mut().zip(&counted) {
            let before = member.point.clone();
            match (link, programs.as_deref_mut()) {
                (Some(link), _) => member.follow(link, &links, &counted),
                (None, Some(programs)) => {
                    member.recover(programs, pins, &links, &counted, retry);
                }
                (None, None) => member.look(numbers, pins, &links),
            }
            let changes = changes(&before, &member.point);
            for change in &changes {
                log(*change, &before, &member.point);
            }
            changed |= before != member.point;
            member.point.changes = before.changes + changes.len() as u64;
        }
        changed
    }
}

impl Interface {
    /// The interface that it is counted on.
    fn counted<'a>(&self, links: &'a [Link], numbers: &[u32], pins: &Pins) -> Option<&'a Link> {
        let attached = self.point.state == PointState::Attached
            && pins.link_path(&self.point.configured).exists();
        let mut links = links.iter();
        links.find(|link| attached && link.index == self.point.index && is_ours(link, numbers))
    }

    /// It is not counted on, as far as is known: sees whether a loader has attached to it.
    fn look(&mut self, numbers: &[u32], pins: &Pins, links: &[Link]) {
        let point = &mut self.point;
        let pinned = pins.link_path(&point.configured).exists();
        let link = links.iter().find(|link| link.name == point.configured);
        describe(point, link);
        let (state, reason) = match link {
            None => (
                PointState::Missing,
                "there is no interface of this name".to_owned(),
            ),
            Some(link) if pinned && is_ours(link, numbers) => {
                let xdp = link.xdp.as_ref();
                let program = xdp.and_then(|xdp| programs::section_of(numbers, xdp.program_id));
                let mode = AttachMode::named(xdp.map_or("", |xdp| &xdp.mode));
                *point = attach::point(link, mode, program.unwrap_or(PLAIN), None);
                return;
            }
            Some(link) => (
                PointState::Refused,
                match &link.xdp {
                    Some(xdp) if !is_ours(link, numbers) => format!(
                        "another XDP program (id {}) is on it, and smtpflow attach has not attached",
                        xdp.program_id
                    ),
                    _ => {
                        "smtpflow attach has not attached to it; run that as root, as the loader's \
                          unit does when an interface appears"
                            .to_owned()
                    }
                },
            ),
        };
        point.state = state;
        point.reason = Some(reason);
    }

    /// It is counted on, whatever it is called now.
    fn follow(&mut self, link: &Link, links: &[Link], counted: &[Option<&Link>]) {
        let point = &mut self.point;
        describe(point, Some(link));
        let stranger = links
            .iter()
            .find(|other| other.name == point.configured)
            .filter(|other| !is_in(other, counted));
        point.reason = stranger.map(|stranger| {
            format!(
                "{} was renamed to {} and is counted on as before; the new interface {} (index {}) \
                 is not: name both in the configuration and restart smtpflow",
                point.configured, point.interface, stranger.name, stranger.index
            )
        });
    }

    /// It is not counted on: attaches to it where there is one and nobody wished otherwise, or says
    /// why not.
    fn recover(
        &mut self,
        programs: &mut Programs,
        pins: &Pins,
        links: &[Link],
        counted: &[Option<&Link>],
        retry: bool,
    ) {
        let Self {
            choice,
            attached,
            point,
            refused,
        } = self;
        let pin = pins.link_path(&point.configured);
        // Pins do not go by themselves, and ours of a deleted interface is removed below.
        let ended = point.state == PointState::Attached && !pin.exists();
        if ended || point.state == PointState::Detached {
            let link = links.iter().find(|link| link.index == point.index);
            describe(point, link);
            point.state = PointState::Detached;
            point.reason = Some(
                "somebody ended its link (smtpflow detach); restart smtpflow to count there again"
                    .to_owned(),
            );
            return;
        }
        let link = links.iter().find(|link| link.name == point.configured);
        match link {
            Some(link) if is_in(link, counted) => {
                describe(point, None);
                point.state = PointState::Missing;
                point.reason = Some(format!(
                    "the interface that is called {} now is counted on as another one, which was \
                     renamed",
                    link.name
                ));
            }
            Some(link) if refused.as_ref() == Some(link) && !retry => {}
            Some(link) => match attach::attach(programs, pins, &point.configured, *choice) {
                Ok((new, how)) => {
                    *point = new;
                    *attached = how;
                    *refused = None;
                }
                Err(failure) => {
                    describe(point, Some(link));
                    point.state = PointState::Refused;
                    point.reason = Some(failure.to_string());
                    *refused = Some(link.clone());
                }
            },
            None => {
                describe(point, None);
                point.state = PointState::Missing;
                *refused = None;
                let severed = if pin.exists() {
                    attach::remove_if_severed(programs, pins, &point.configured)
                } else {
                    Ok(true)
                };
                point.reason = Some(match severed {
                    Ok(true) => "there is no interface of this name".to_owned(),
                    Ok(false) => "it was moved to another network namespace, where it is still \
                                  counted on"
                        .to_owned(),
                    Err(failure) => failure.to_string(),
                });
            }
        }
    }
}

/// Whether one of our programs is on it.
fn is_ours(link: &Link, numbers: &[u32]) -> bool {
    let program = link.xdp.as_ref().map(|xdp| xdp.program_id);
    program.is_some_and(|program| numbers.contains(&program))
}

/// Whether this interface is one of those that are counted on.
fn is_in(link: &Link, counted: &[Option<&Link>]) -> bool {
    let mut indices = counted.iter().flatten().map(|counted| counted.index);
    indices.any(|index| index == link.index)
}

/// Writes down what the interface is like; of one that is gone, the last index and MTU stay.
fn describe(point: &mut ObservationPoint, link: Option<&Link>) {
    match link {
        Some(link) => {
            point.interface.clone_from(&link.name);
            point.index = link.index;
            point.up = link.up;
            point.mtu = link.mtu;
        }
        None => {
            point.interface.clone_from(&point.configured);
            point.up = false;
        }
    }
}

/// What became of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It is counted on anew, or no longer.
    State,
    Name,
    Up,
    Mtu,
    /// What else is to be known about it.
    Reason,
}

fn changes(before: &ObservationPoint, now: &ObservationPoint) -> Vec<Change> {
    // The rest is new as well then, and comes with it.
    if (before.state, before.index) != (now.state, now.index) {
        return vec![Change::State];
    }
    [
        (Change::Name, before.interface != now.interface),
        (Change::Up, before.up != now.up),
        (Change::Mtu, before.mtu != now.mtu),
        (Change::Reason, before.reason != now.reason),
    ]
    .into_iter()
    .filter_map(|(change, is)| is.then_some(change))
    .collect()
}

fn log(change: Change, before: &ObservationPoint, now: &ObservationPoint) {
    let interface = &now.configured;
    let index = now.index;
    let reason = now.reason.as_deref().unwrap_or_default();
    match change {
        Change::State => match now.state {
            PointState::Attached => {
                let (mode, section) = (now.mode.name(), now.program);
                tracing::info!(interface, index, mode, section, "attached anew");
                if let Some(fallback) = &now.fallback {
                    tracing::warn!(interface, "in skb mode, which is slower: {fallback}");
                }
            }
            PointState::Missing => {
                tracing::error!(
                    interface,
                    index,
                    "gone, and not counted until it is back: {reason}"
                );
            }
            PointState::Refused => tracing::error!(
                interface,
                index,
                "it is there and not counted, which is tried again: {reason}"
            ),
            PointState::Detached => {
                tracing::error!(interface, index, "no longer counted: {reason}");
            }
        },
        Change::Name => {
            let (was, name) = (&before.interface, &now.interface);
            tracing::info!(interface, index, was, name, "renamed");
        }
        Change::Up if now.up => tracing::info!(interface, index, "up"),
        Change::Up => tracing::warn!(interface, index, "down"),
        Change::Mtu => {
            let (was, mtu) = (before.mtu, now.mtu);
            tracing::info!(interface, index, was, mtu, "another MTU");
        }
        Change::Reason if reason.is_empty() => {}
        Change::Reason => tracing::warn!(interface, index, "{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point() -> ObservationPoint {
        ObservationPoint {
            configured: "eth0".to_owned(),
            interface: "eth0".to_owned(),
            index: 2,
            state: PointState::Attached,
            reason: None,
            up: true,
            mtu: 1500,
            changes: 0,
            mode: AttachMode::Driver,
            program: "xdp.frags",
            fallback: None,
        }
    }

    fn changes_by(change: impl Fn(&mut ObservationPoint)) -> Vec<Change> {
        let mut now = point();
        change(&mut now);
        changes(&point(), &now)
    }

    #[test]
    fn each_change_is_told_and_nothing_else() {
        assert_eq!(changes_by(|_| {}), []);
        assert_eq!(
            changes_by(|now| now.interface = "wan".into()),
            [Change::Name]
        );
        assert_eq!(changes_by(|now| now.mtu = 9000), [Change::Mtu]);
        assert_eq!(
            changes_by(|now| now.reason = Some("x".into())),
            [Change::Reason]
        );
        let renamed_down = changes_by(|now| {
            now.interface = "wan".into();
            now.up = false;
        });
        assert_eq!(renamed_down, [Change::Name, Change::Up]);
    }

    #[test]
    fn a_new_state_or_a_new_interface_is_one_change() {
        let gone = changes_by(|now| {
            now.state = PointState::Missing;
            now.up = false;
        });
        assert_eq!(gone, [Change::State]);
        // Deleted and made anew between two looks.
        assert_eq!(changes_by(|now| now.index = 3), [Change::State]);
    }

    #[test]
    fn an_interface_that_is_gone_has_its_configured_name_and_is_not_up() {
        let mut now = point();
        now.interface = "wan".to_owned();
        describe(&mut now, None);
        assert_eq!(
            (now.interface.as_str(), now.up, now.index),
            ("eth0", false, 2)
        );
    }
}
