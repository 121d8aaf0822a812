//! What holds whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::notice::Fate;

/// Something that happens at the desk.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A host is flagged, with so many conversations.
    Flagged(u8, u64),
    /// It is quiet.
    Quiet(u8),
    /// It was wrong.
    Mistaken(u8),
    /// Its owner is another one.
    Moved(u8),
    /// A person approves all that waits.
    Approve,
    /// A person rejects the first one that waits.
    Reject,
    /// Time goes on by so many minutes, or the clock is set back by so many.
    Minutes(u16),
    Back(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let host = 0_u8..12;
    prop_oneof![
        6 => (host.clone(), prop_oneof![Just(0), Just(19), Just(20), Just(500)])
            .prop_map(|(host, conversations)| Event::Flagged(host, conversations)),
        2 => host.clone().prop_map(Event::Quiet),
        1 => host.clone().prop_map(Event::Mistaken),
        1 => host.prop_map(Event::Moved),
        3 => Just(Event::Approve),
        1 => Just(Event::Reject),
        6 => (1_u16..2000).prop_map(Event::Minutes),
        1 => (1_u16..1300).prop_map(Event::Back),
    ]
}

/// The relay does one of these by turns.
fn relay() -> impl Strategy<Value = Vec<Outcome>> {
    let outcome = prop_oneof![
        5 => Just(Outcome::Taken),
        1 => Just(Outcome::Unknown),
        1 => Just(Outcome::Refused),
        2 => Just(Outcome::Later),
    ];
    proptest::collection::vec(outcome, 1..20)
}

/// Of twelve hosts, two are outside of the own prefixes.
fn name(number: u8) -> String {
    match number {
        0..10 => format!("192.0.2.{number}/32"),
        10 => "198.51.100.1/32".to_owned(),
        _ => "2001:db8:ffff::/64".to_owned(),
    }
}

struct World {
    desk: Desk,
    subjects: BTreeMap<u8, Subject>,
    owners: BTreeMap<u8, u8>,
}

impl World {
    fn subject(&mut self, number: u8, standing: Standing, conversations: Option<u64>) {
        let owner_of = self.owners.get(&number).copied().unwrap_or(number % 3);
        let mut facts = facts(&name(number), self.desk.now);
        let known = self.subjects.get(&number);
        facts.conversations = conversations
            .or_else(|| known.map(|known| known.facts.conversations))
            .unwrap_or(0);
        let subject = Subject {
            facts,
            standing,
            owner: owner(&format!("o{owner_of}@x.example")),
            sample: None,
        };
        self.subjects.insert(number, subject);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Flagged(number, conversations) => {
                self.subject(number, Standing::Flagged, Some(conversations));
            }
            Event::Quiet(number) => self.subject(number, Standing::Quiet, None),
            Event::Mistaken(number) => self.subject(number, Standing::Mistaken, None),
            Event::Moved(number) => {
                let owner = self.owners.entry(number).or_insert(number % 3);
                *owner = (*owner + 1) % 3;
            }
            Event::Approve => self.desk.approve_all(),
            Event::Reject => {
                let mut notices = self.desk.book.notices.iter();
                let waiting = notices.find(|notice| notice.state == NoticeState::Waiting);
                if let Some(mut notice) = waiting.cloned() {
                    let event = notice.move_to(NoticeState::Rejected, "ada", "no", self.desk.now);
                    let event = event.expect("it can be");
                    self.desk.note(&[NoticeChange::Moved(notice, event)]);
                }
            }
            Event::Minutes(minutes) => self.desk.now += u64::from(minutes) * 60_000,
            Event::Back(minutes) => self.desk.now -= u64::from(minutes) * 60_000,
        }
    }
}

/// Runs it all; checks what can be checked at each step.
fn run(policy: Policy, events: &[Event], relay: &[Outcome]) -> Result<World, TestCaseError> {
    let mut world = World {
        desk: Desk::new(policy),
        subjects: BTreeMap::new(),
        owners: BTreeMap::new(),
    };
    let mut turns = relay.iter().cycle().copied();
    for event in events {
        world.happen(*event);
        let subjects: Vec<Subject> = world.subjects.values().cloned().collect();
        let plan = world.desk.look(&subjects);
        // The same again is nothing new.
        let again = super::plan(
            &world.desk.policy,
            &world.desk.composer,
            &world.desk.book,
            &subjects,
            world.desk.now,
        );
        prop_assert!(again.changes.is_empty(), "{plan:?} is not all: {again:?}");
        let unsaid: Vec<IpNet> = plan.silences.iter().map(|(host, _)| *host).collect();
        for subject in &subjects {
            let host = subject.facts.host;
            let spoofable = subject.facts.conversations < 20;
            let foreign = !world
                .desk
                .policy
                .local
                .iter()
                .any(|own| own.contains(&host));
            if subject.standing == Standing::Flagged && (spoofable || foreign) {
                prop_assert!(unsaid.contains(&host), "{host} is told about");
            }
        }
        for notice in &world.desk.book.notices {
            for host in &notice.hosts {
                let local = &world.desk.policy.local;
                prop_assert!(
                    local.iter().any(|own| own.contains(host)),
                    "{host} is none of ours"
                );
            }
            if !notice.kind.accuses() || notice.has_left() {
                continue;
            }
            for host in &notice.hosts {
                let subject = subjects.iter().find(|subject| subject.facts.host == *host);
                prop_assert_eq!(
                    subject.map(|subject| subject.standing),
                    Some(Standing::Flagged)
                );
            }
        }
        // No host is accused in two notices that have not left.
        let mut pending: Vec<IpNet> = world
            .desk
            .book
            .notices
            .iter()
            .filter(|notice| notice.kind.accuses() && !notice.has_left())
            .flat_map(|notice| notice.hosts.clone())
            .collect();
        let number = pending.len();
        pending.sort();
        pending.dedup();
        prop_assert_eq!(pending.len(), number);
        world
            .desk
            .send(|_, _| turns.next().unwrap_or(Outcome::Taken));
    }
    Ok(world)
}

/// What has arrived keeps the limits, by a clock that only goes forward.
fn check_limits(desk: &Desk) -> Result<(), TestCaseError> {
    let per_hour = desk.policy.settings.per_hour as usize;
    let arrived = &desk.arrived;
    for (number, (at, notice)) in arrived.iter().enumerate() {
        let within = arrived
            .iter()
            .filter(|(other, _)| *other <= *at && at - other < HOUR);
        prop_assert!(
            within.count() <= per_hour,
            "more than {} within an hour",
            per_hour
        );
        for (before, earlier) in &arrived[..number] {
            if earlier.id == notice.id {
                prop_assert_eq!(&earlier.message, &notice.message);
                prop_assert!(at - before >= HOUR);
                continue;
            }
            prop_assert_ne!(&earlier.message_id, &notice.message_id);
            let both = notice.hosts.iter().any(|host| earlier.hosts.contains(host));
            prop_assert!(
                !both || at - before >= 24 * HOUR,
                "{earlier:?} and {notice:?}"
            );
        }
    }
    Ok(())
}

/// Nobody gets one again who has it, nor who does not want it.
fn check_recipients(desk: &Desk) -> Result<(), TestCaseError> {
    for notice in &desk.all {
        let has = |fate| {
            notice
                .recipients
                .iter()
                .any(|recipient| recipient.fate == fate)
        };
        match notice.state {
            NoticeState::Sent => prop_assert!(has(Fate::Taken) && !has(Fate::Pending)),
            NoticeState::Failed => prop_assert!(!has(Fate::Taken) && !has(Fate::Pending)),
            _ => {}
        }
    }
    Ok(())
}

fn forward(events: Vec<Event>) -> Vec<Event> {
    let is_back = |event: &Event| matches!(event, Event::Back(_));
    events.into_iter().filter(|event| !is_back(event)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn limits_hold_when_nobody_approves(
        events in proptest::collection::vec(event(), 1..60),
        relay in relay(),
        per_hour in 1_u32..4,
    ) {
        let mut policy = automatic();
        policy.settings.per_hour = per_hour;
        let world = run(policy, &forward(events), &relay)?;
        check_limits(&world.desk)?;
        check_recipients(&world.desk)?;
    }

    #[test]
    fn limits_hold_when_somebody_approves(
        events in proptest::collection::vec(event(), 1..60),
        relay in relay(),
    ) {
        let world = run(policy(), &forward(events), &relay)?;
        check_limits(&world.desk)?;
        check_recipients(&world.desk)?;
        // Nothing left that nobody approved.
        for (_, notice) in &world.desk.arrived {
            prop_assert_eq!(notice.state, NoticeState::Approved);
        }
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_more_of_it(
        events in proptest::collection::vec(event(), 1..60),
        relay in relay(),
    ) {
        // Set back once, and by less than a day.
        let mut backs = 0;
        let is_first = |event: &Event| {
            backs += u32::from(matches!(event, Event::Back(_)));
            !matches!(event, Event::Back(_)) || backs == 1
        };
        let events: Vec<Event> = events.into_iter().filter(is_first).collect();
        let world = run(automatic(), &events, &relay)?;
        check_recipients(&world.desk)?;
        let mut told: BTreeMap<IpNet, Vec<u64>> = BTreeMap::new();
        for (at, notice) in &world.desk.arrived {
            for host in &notice.hosts {
                told.entry(*host).or_default().push(*at);
            }
        }
        for (host, mut times) in told {
            times.sort_unstable();
            let ids: Vec<_> = world.desk.arrived.iter().filter(|(_, n)| n.hosts.contains(&host)).map(|(_, n)| n.id).collect();
            let mut distinct = ids.clone();
            distinct.dedup();
            // By the labels of the clock as well: two different notices are never within a day of each other.
            if distinct.len() == ids.len() {
                for pair in times.windows(2) {
                    prop_assert!(pair[1] - pair[0] >= 24 * HOUR, "{host}: {times:?}");
                }
            }
        }
    }
}

#[test]
fn ten_thousand_triggers_in_a_minute_are_twenty_messages_in_the_hour() {
    let mut policy = automatic();
    policy.local = vec![host("10.0.0.0/8")];
    let mut desk = Desk::new(policy);
    let subjects: Vec<Subject> = (0..10_000_u32)
        .map(|number| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            let mut subject = subject("10.0.0.0/32", owner(&format!("o{number}@x.example")));
            subject.facts.host = IpNet::from(std::net::IpAddr::from(address));
            subject
        })
        .collect();
    let plan = desk.look(&subjects);
    assert!(plan.changes.len() < 5000, "{} changes", plan.changes.len());
    for minute in 0..59 {
        desk.now = NOW + minute * 60_000;
        desk.send_all();
    }
    assert_eq!(desk.arrived.len(), 20);
    assert_eq!(desk.kinds()[0], NoticeKind::Digest);
}
