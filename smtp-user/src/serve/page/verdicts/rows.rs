//! What verdicts are filtered and sorted by.

use crate::detect::DETECTORS;
use crate::model::verdict::{Severity, Verdict, VerdictState};
use crate::serve::query::{Field, Table, Value};

/// See the module.
pub(super) struct Rows;

const STATES: [&str; VerdictState::ALL.len() + 1] = [
    VerdictState::ALL[0].name(),
    VerdictState::ALL[1].name(),
    VerdictState::ALL[2].name(),
    VerdictState::ALL[3].name(),
    VerdictState::ALL[4].name(),
    "open",
];
const SEVERITIES: [&str; Severity::ALL.len()] = [
    Severity::ALL[0].name(),
    Severity::ALL[1].name(),
    Severity::ALL[2].name(),
];
const NAMES: [&str; DETECTORS.len()] = {
    let mut names = [""; DETECTORS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = DETECTORS[i].name;
        i += 1;
    }
    names
};

impl Table for Rows {
    type Row<'a> = &'a Verdict;
    const FIELDS: &'static [Field<Self>] = &[
        Field {
            name: "id",
            value: Value::Count(|verdict| verdict.id),
        },
        Field {
            name: "opened_at",
            value: Value::Time(|verdict| Some(verdict.opened_at)),
        },
        Field {
            name: "last_at",
            value: Value::Time(|verdict| Some(verdict.last_at)),
        },
        Field {
            name: "changed_at",
            value: Value::Time(|verdict| Some(verdict.changed_at)),
        },
        Field {
            name: "since",
            value: Value::Since(|verdict| Some(verdict.last_at.max(verdict.changed_at))),
        },
        Field {
            name: "severity",
            value: Value::Word {
                words: &SEVERITIES,
                holds: |verdict, word| verdict.severity as usize == word,
                rank: Some(|verdict| Some(verdict.severity as u64)),
            },
        },
        Field {
            name: "state",
            value: Value::Word {
                words: &STATES,
                holds: |verdict, word| match VerdictState::ALL.get(word) {
                    Some(state) => verdict.state == *state,
                    None => verdict.state.is_open(),
                },
                rank: Some(|verdict| Some(verdict.state as u64)),
            },
        },
        Field {
            name: "detector",
            value: Value::Word {
                words: &NAMES,
                holds: |verdict, word| {
                    NAMES
                        .get(word)
                        .is_some_and(|name| *name == verdict.detector)
                },
                rank: Some(|verdict| {
                    let place = NAMES.iter().position(|name| *name == verdict.detector);
                    place.map(|place| place as u64)
                }),
            },
        },
        Field {
            name: "subject",
            value: Value::Net(|verdict| verdict.subject),
        },
        Field {
            name: "net",
            value: Value::Net(|verdict| verdict.subject),
        },
    ];
}
