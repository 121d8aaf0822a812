//! What becomes of verdicts when their owners were told.

use super::*;
use crate::model::verdict::VerdictEvent;
use crate::telling::notified::note;

fn states(ledger: &NoticeLedger) -> Vec<(u64, VerdictState)> {
    let reader = ledger.reader().expect("a reader");
    let verdicts = reader.verdicts(&VerdictFilter::default()).expect("read");
    let mut states: Vec<_> = verdicts
        .iter()
        .filter(|verdict| verdict.state.is_open())
        .map(|verdict| (verdict.id, verdict.state))
        .collect();
    states.sort_by_key(|(id, _)| *id);
    states
}

fn noted(ledger: &NoticeLedger, now: u64) {
    let book = ledger.book(now).expect("read");
    note(ledger, &book, now).expect("noted");
}

fn last(ledger: &NoticeLedger, id: u64) -> VerdictEvent {
    let reader = ledger.reader().expect("a reader");
    let mut events = reader.verdict_events(id).expect("read");
    events.pop().expect("an event")
}

#[test]
fn who_has_an_owner_told_has_the_verdicts_notified() {
    let office = Office::new();
    let ledger = office.ledger();
    let now = now();
    let before = states(&ledger);
    assert!(!before.is_empty());
    office.look(&ledger, now);
    let told = ledger.book(now).expect("read").notices[0].hosts.clone();
    office.decide(NoticeState::Approved).expect("approved");
    noted(&ledger, now);
    assert_eq!(states(&ledger), before, "nothing has left yet");
    let later = now + HOUR;
    assert_eq!(office.send(&ledger, later), 1);
    noted(&ledger, later);
    let after = states(&ledger);
    let reader = ledger.reader().expect("a reader");
    for (id, state) in &after {
        let verdict = reader.verdicts(&VerdictFilter::default()).expect("read");
        let verdict = verdict.iter().find(|verdict| verdict.id == *id);
        let is_told = told.contains(&verdict.expect("there").subject);
        assert_eq!(*state == VerdictState::Notified, is_told, "{id}");
        if is_told {
            let event = last(&ledger, *id);
            assert_eq!((&*event.who, &*event.why), ("ada", "notice 1 was sent"));
        }
    }
    let events = |ids: &[(u64, VerdictState)]| -> Vec<VerdictEvent> {
        ids.iter().map(|(id, _)| last(&ledger, *id)).collect()
    };
    let noted_once = events(&after);
    noted(&ledger, later + 1);
    assert_eq!(events(&after), noted_once);
}

#[test]
fn what_leaves_by_itself_judges_nothing() {
    let mut office = Office::new();
    office.place.config.notice.mode = notice::Mode::Automatic;
    let ledger = office.ledger();
    let now = now();
    let before = states(&ledger);
    office.look(&ledger, now);
    assert_eq!(office.send(&ledger, now), 1);
    noted(&ledger, now);
    assert_eq!(states(&ledger), before);
}
