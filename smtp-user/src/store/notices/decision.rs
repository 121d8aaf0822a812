//! What people decide about notices.
//!
//! Contract: as that of `personal`: beside the agent, whole or not at all. Nobody decides in the name of smtpflow,
//! without a reason, or anything but that a notice may leave or never does.

use std::path::Path;

use super::super::integer;
use super::super::personal::{self, Unchanged};
use super::{note, select, update_state};
use crate::model::notice::{DECISIONS, Notice, NoticeState};
use crate::model::person::check_person;
use crate::model::verdict::Unmoved;

/// What a person has decided about a notice, in the store of an agent that may be running.
pub struct NoticeDecision<'a> {
    /// Which notice.
    pub id: u64,
    /// The state that it gets: approved or rejected.
    pub to: NoticeState,
    /// Who the person is.
    pub who: &'a str,
    /// Why.
    pub why: &'a str,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How long it may take to leave from then on, in milliseconds.
    pub expires_after: u64,
}

/// Notes a decision in the file at `path`; gives the notice as it is now.
///
/// # Errors
///
/// The file is none of ours, or cannot be written; there is no such notice; the state cannot follow on the one
/// that it has; `who` or `why` is no text that can be kept.
pub fn decide_notice(path: &Path, decision: &NoticeDecision<'_>) -> Result<Notice, Unchanged> {
    check_person(decision.who).map_err(Unchanged::Invalid)?;
    if !DECISIONS.contains(&decision.to) {
        return Err(Unchanged::Invalid(format!(
            "a person can approve or reject a notice, and not make it {}",
            decision.to
        )));
    }
    let id = decision.id;
    personal::write(path, &format!("change notice {id}"), |transaction| {
        let found = select(transaction, "WHERE id = ?1", [integer(id)])?.pop();
        let Some(mut notice) = found else {
            return Ok(Err(Unchanged::Absent(format!(
                "there is no notice {id} in the store {}; `smtpflow notice list` lists them",
                path.display()
            ))));
        };
        let event = match notice.move_to(decision.to, decision.who, decision.why, decision.at) {
            Ok(event) => event,
            Err(Unmoved::Text(error)) => return Ok(Err(Unchanged::Invalid(error))),
            Err(Unmoved::State(error)) => return Ok(Err(Unchanged::Conflict(error))),
        };
        if decision.to == NoticeState::Approved {
            notice.next_at = decision.at;
            notice.expires_at = decision.at.saturating_add(decision.expires_after);
        }
        update_state(transaction, &notice, &event)?;
        note(transaction, &event)?;
        Ok(Ok(notice))
    })
}
