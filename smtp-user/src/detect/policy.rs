//! Who is judged, by which rules, and what is answered to the question why.

use std::net::IpAddr;

use ipnet::IpNet;

use super::relay::{Entry, Relays};
use super::{DETECTORS, Facts, Relay, Rules, Settings, volume};
use crate::model::prefix::show;
use crate::model::relay::Origin;
use crate::model::verdict::{Holding, Rule, Unjudged, Verdict, VerdictState, Why};

/// See the module.
#[derive(Clone, Debug)]
pub struct Policy {
    settings: Settings,
    local: Vec<IpNet>,
    configured: Vec<Relay>,
    relays: Relays,
}

impl Policy {
    /// With these settings, for own hosts in these prefixes, of which some are known relays.
    pub fn new(settings: Settings, local: Vec<IpNet>, relays: Vec<Relay>) -> Self {
        Self {
            settings,
            local,
            relays: Relays::new(&relays, &[]),
            configured: relays,
        }
    }

    /// Makes these the known relays beside those of the configuration, instead of those that were.
    /// Gives whether some addresses are judged as others than before by that, see
    /// [`Policy::subject_of`].
    pub fn know(&mut self, stored: &[Relay]) -> bool {
        let length = self.settings.ipv6_prefix.get() as u8;
        let before = self.relays.split_off(length);
        self.relays = Relays::new(&self.configured, stored);
        before != self.relays.split_off(length)
    }

    /// Whether a judge of the other policy remembers what one of this policy would: whether the same
    /// addresses are judged, as the same subjects, and as many of them and of their hours are kept.
    pub fn remembers_as(&self, other: &Self) -> bool {
        let (mine, others) = (&self.settings, &other.settings);
        let length = mine.ipv6_prefix.get() as u8;
        let limit = |settings: &Settings| settings.persistence.low.min(settings.persistence.high);
        self.local == other.local
            && mine.ipv6_prefix == others.ipv6_prefix
            && mine.subjects == others.subjects
            && limit(mine) == limit(others)
            && self.relays.split_off(length) == other.relays.split_off(length)
    }

    /// The operator's own prefixes.
    pub fn local(&self) -> &[IpNet] {
        &self.local
    }

    /// The parameters of all detectors.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether anybody is judged: whether it is known which hosts are own ones.
    pub const fn judges(&self) -> bool {
        !self.local.is_empty()
    }

    /// Entries of known relays that excuse nobody any more, in milliseconds since 1970.
    pub fn expired_relays(&self, now: u64) -> impl Iterator<Item = (&Relay, Origin)> {
        let expired = self.relays.expired(now);
        expired.map(|entry| (&entry.relay, entry.origin))
    }

    /// The known relays of the configuration.
    pub fn configured_relays(&self) -> &[Relay] {
        &self.configured
    }

    /// The entry of a known relay that an address falls under in this hour, see
    /// [`Policy::unjudged`].
    pub fn relay_of(&self, address: IpAddr, hour: u64) -> Option<&Relay> {
        let entry = self.relays.of(&address.into(), hour)?;
        Some(&entry.relay)
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.local.iter().any(|prefix| prefix.contains(&address))
    }

    /// As whom an address is judged: alone if it is IPv4, or if its known relay or own prefix is
    /// longer than `ipv6_prefix`; else together with the others of its prefix.
    pub fn subject_of(&self, address: IpAddr) -> IpNet {
        let alone = IpNet::from(address);
        let length = self.settings.ipv6_prefix.get() as u8;
        let of_relay = self.relays.length(address).unwrap_or(0);
        match address {
            IpAddr::V6(_) if of_relay <= length => {
                let prefix = IpNet::new(address, length).map_or(alone, |prefix| prefix.trunc());
                // Neighbours that are not own hosts are not judged along.
                if self.local.iter().any(|own| own.contains(&prefix)) || !self.is_own(address) {
                    prefix
                } else {
                    alone
                }
            }
            _ => alone,
        }
    }

    /// Why a subject is not judged, if it is not, in the hour that began then, in milliseconds since
    /// 1970. An entry of a known relay holds for whole hours, since its last day ends with one.
    pub fn unjudged(&self, subject: &IpNet, hour: u64) -> Option<Unjudged> {
        if !self.judges() {
            return Some(Unjudged::NoPrefixList);
        }
        if !self.is_own(subject.addr()) {
            return Some(Unjudged::Remote);
        }
        let Entry { relay, origin } = self.relays.of(subject, hour)?;
        relay.connections.is_none().then(|| Unjudged::Excused {
            entry: relay.prefix,
            why: relay.reason.clone(),
            owner: relay.owner.clone(),
            origin: *origin,
        })
    }

    /// The rules that accuse and hold, for one who is judged, in the order of the detectors.
    pub(super) fn holding(&self, subject: &IpNet, facts: &Facts) -> Vec<Rule> {
        let mut rules = Rules::holding();
        if let Some(Entry { relay, .. }) = self.relays.of(subject, facts.hour) {
            if let Some(limit) = relay.connections {
                volume::relay_rule(relay, limit, facts, &mut rules);
            }
        } else {
            self.apply(facts, &mut rules, |entry| entry.accuses);
        }
        rules.into_list()
    }

    /// Every rule with its figures, also for one who is not judged.
    pub fn rules(&self, subject: &IpNet, facts: &Facts) -> Vec<Rule> {
        let mut rules = Rules::all();
        let mut by_entry = None;
        if let Some(Entry { relay, .. }) = self.relays.of(subject, facts.hour)
            && let Some(limit) = relay.connections
        {
            volume::relay_rule(relay, limit, facts, &mut rules);
            by_entry = Some(relay);
        }
        self.apply(facts, &mut rules, |_| true);
        let mut list = rules.into_list();
        if let Some(relay) = by_entry {
            for rule in list.iter_mut().skip(1) {
                rule.holding = Holding::NotApplicable(format!(
                    "the known relay {} has a limit of its own",
                    relay.prefix
                ));
            }
        }
        list
    }

    fn apply(&self, facts: &Facts, rules: &mut Rules, which: fn(&super::Entry) -> bool) {
        for entry in DETECTORS.iter().filter(|entry| which(entry)) {
            rules.of(entry.name);
            (entry.rules)(&self.settings, facts, rules);
        }
    }

    /// Why a source is flagged, or why not. `verdicts` are all of its own; `no_place` says that
    /// more hosts were to be watched than there is place for, this one among them.
    pub fn why(
        &self,
        address: IpAddr,
        facts: &Facts,
        mut verdicts: Vec<Verdict>,
        no_place: bool,
    ) -> Why {
        let subject = self.subject_of(address);
        let unjudged = self
            .unjudged(&subject, facts.hour)
            .or_else(|| no_place.then_some(Unjudged::NoPlace));
        let rules = self.rules(&subject, facts);
        verdicts.sort_by_key(|verdict| std::cmp::Reverse((verdict.last_at, verdict.id)));
        let mut answer = self.answer(&subject, unjudged.as_ref(), &rules, &verdicts, facts.now);
        for (relay, _) in self.expired_relays(facts.hour) {
            if relay.prefix.contains(&subject) {
                let last = relay.expires.map(|date| date.to_string());
                answer.push_str(&format!(
                    " The entry of the known relay {} excuses nobody any more: its last day was {}.",
                    relay.prefix,
                    last.unwrap_or_default()
                ));
            }
        }
        Why {
            subject,
            unjudged,
            rules,
            verdicts,
            answer,
        }
    }

    fn answer(
        &self,
        subject: &IpNet,
        unjudged: Option<&Unjudged>,
        rules: &[Rule],
        verdicts: &[Verdict],
        now: u64,
    ) -> String {
        let name = show(subject);
        let open = verdicts
            .iter()
            .filter(|verdict| verdict.state.is_open())
            .max_by_key(|verdict| (verdict.severity, verdict.last_at));
        match (unjudged, open) {
            (_, Some(verdict)) => {
                let others: Vec<&str> = verdicts
                    .iter()
                    .filter(|other| other.state.is_open() && other.id != verdict.id)
                    .map(|other| other.detector.as_str())
                    .collect();
                let also = match others.is_empty() {
                    true => String::new(),
                    false => format!("; also by {}", others.join(", ")),
                };
                return format!(
                    "{name} is flagged ({}) by {}: {}{also}.",
                    verdict.severity.name(),
                    verdict.detector,
                    verdict.rule.text
                );
            }
            (Some(Unjudged::NoPrefixList), None) => {
                return format!(
                    "{name} is not judged, as nobody is: there is no list of own prefixes \
                     (networks.local)."
                );
            }
            (Some(Unjudged::Remote), None) => {
                return format!(
                    "{name} is not judged: it is outside the own prefixes (networks.local)."
                );
            }
            (
                Some(Unjudged::Excused {
                    entry,
                    why,
                    owner,
                    origin,
                }),
                None,
            ) => {
                return format!(
                    "{name} is never judged: it is a known relay by the entry {entry} of {} ({why}; \
                     {owner}).",
                    origin.place()
                );
            }
            (Some(Unjudged::NoPlace), None) => {
                return format!(
                    "{name} is not judged: more own hosts are seen than are watched \
                     (detect.subjects)."
                );
            }
            (None, None) => {}
        }
        let accusing = |rule: &&Rule| {
            DETECTORS
                .iter()
                .any(|entry| entry.accuses && entry.name == rule.detector)
        };
        let holds = rules
            .iter()
            .filter(accusing)
            .filter(|rule| rule.holding == Holding::Holds)
            .max_by_key(|rule| rule.severity);
        if let Some(rule) = holds {
            let mute = self.settings.mute.milliseconds();
            let muted = verdicts.iter().any(|verdict| {
                verdict.detector == rule.detector
                    && verdict.state == VerdictState::FalsePositive
                    && verdict.changed_at.saturating_add(mute) > now
            });
            return if muted {
                format!(
                    "{name} is not flagged although {} holds ({}): that was said to be a false \
                     positive.",
                    rule.detector, rule.text
                )
            } else {
                format!(
                    "{name} has no open verdict, but {} holds: {}.",
                    rule.detector, rule.text
                )
            };
        }
        let partial = rules
            .iter()
            .filter(accusing)
            .find(|rule| matches!(rule.holding, Holding::NotApplicable(_)));
        let nearest = rules
            .iter()
            .filter(accusing)
            .filter(|rule| rule.holding == Holding::Below)
            // Of several, the first.
            .rev()
            .max_by(|a, b| nearness(a).total_cmp(&nearness(b)));
        match (nearest.filter(|rule| nearness(rule) > 0.0), partial) {
            (Some(rule), _) => {
                let figures: Vec<_> = rule
                    .figures
                    .iter()
                    .map(|figure| {
                        let limit = if figure.below { "not below" } else { "limit" };
                        format!(
                            "{} {}, {limit} {}",
                            figure.name,
                            round(figure.value),
                            figure.limit
                        )
                    })
                    .collect();
                format!(
                    "{name} is not flagged: no rule holds. The nearest is {}: {}.",
                    rule.detector,
                    figures.join("; ")
                )
            }
            (None, Some(rule)) => {
                let Holding::NotApplicable(because) = &rule.holding else {
                    return format!("{name} is not flagged: no rule holds.");
                };
                format!(
                    "{name} is not flagged: no rule holds, but not every one can be applied, as {}: \
                     {because}.",
                    rule.detector
                )
            }
            (None, None) => format!("{name} is not flagged: it did nothing that a rule looks at."),
        }
    }
}

/// How near a rule is to hold, from 0 to 1: the least of its figures.
fn nearness(rule: &Rule) -> f64 {
    rule.figures
        .iter()
        .map(|figure| match (figure.is_beyond(), figure.below) {
            (true, _) => 1.0,
            (false, true) if figure.value > 0.0 => figure.limit / figure.value,
            (false, false) if figure.limit > 0.0 => figure.value / figure.limit,
            (false, _) => 0.0,
        })
        .fold(1.0, f64::min)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
