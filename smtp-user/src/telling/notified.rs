//! Verdicts whose owners were told because a person wanted it.
//!
//! Contract: what a person has approved and the relay has taken makes the open verdicts that it was about
//! `notified`, in the name of that person; done again, it changes nothing. What left by itself
//! (`notice.mode = "automatic"`) changes none: nobody has judged it.

use crate::failure::Failure;
use crate::model::notice::{Book, Notice, NoticeEvent, NoticeState};
use crate::model::person::SMTPFLOW;
use crate::model::verdict::{Verdict, VerdictFilter, VerdictState};
use crate::store::{NoticeLedger, PersonalChange, Unchanged, change_verdict};

/// Makes them notified, of all notices that have left within a day; `now` in milliseconds since 1970.
///
/// # Errors
///
/// The store cannot be read or written.
pub(super) fn note(ledger: &NoticeLedger, book: &Book, now: u64) -> Result<(), Failure> {
    let reader = ledger.reader()?;
    let untold = VerdictFilter {
        states: vec![VerdictState::New, VerdictState::Acknowledged],
        ..VerdictFilter::default()
    };
    let verdicts = reader.verdicts(&untold)?;
    for departure in &book.departures {
        let about = |verdict: &&Verdict| departure.hosts.contains(&verdict.subject);
        if !verdicts.iter().any(|verdict| about(&verdict)) {
            continue;
        }
        let Some((notice, events)) = reader.notice(departure.notice)? else {
            continue;
        };
        let Some(person) = approver(&notice, &events) else {
            continue;
        };
        let why = format!("notice {} was sent", notice.id);
        let told = |verdict: &&Verdict| verdict.opened_at <= notice.made_at;
        for verdict in verdicts.iter().filter(about).filter(told) {
            let change = PersonalChange {
                id: verdict.id,
                to: VerdictState::Notified,
                who: person,
                why: &why,
                at: now,
            };
            match change_verdict(ledger.path(), &change) {
                Ok(_) => tracing::info!(
                    notice = notice.id,
                    verdict = verdict.id,
                    "a verdict is notified: its owner was told"
                ),
                Err(Unchanged::Store(failure)) => return Err(failure),
                // Somebody was faster.
                Err(unchanged) => tracing::debug!("{}", Failure::from(unchanged)),
            }
        }
    }
    Ok(())
}

/// The person who approved what was sent and accuses somebody.
fn approver<'a>(notice: &Notice, events: &'a [NoticeEvent]) -> Option<&'a str> {
    if !notice.kind.accuses() || notice.state != NoticeState::Sent {
        return None;
    }
    let mut people = events
        .iter()
        .filter(|event| event.to == NoticeState::Approved && event.who != SMTPFLOW);
    people.next_back().map(|event| &*event.who)
}
