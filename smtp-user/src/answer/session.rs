//! The fields of what is said of connections, for answers.

use serde_json::{Map, Value};

use super::{Field, Schema, Schemas, counts, field};
use crate::model::session::{COMMANDS, Named, Outcome, Outcomes, REPLIES};

static OUTCOME_MEANINGS: [[&str; 1]; Outcome::COUNT] = {
    let mut meanings = [[""]; Outcome::COUNT];
    let mut i = 0;
    while i < meanings.len() {
        meanings[i] = [Outcome::ALL[i].meaning()];
        i += 1;
    }
    meanings
};

impl Outcomes {
    /// The fields with their documentation.
    pub(crate) const FIELDS: &[Field] = &{
        let mut fields = [Field {
            name: "",
            docs: &[],
            inner: &[],
            serde: "",
        }; Outcome::COUNT];
        let mut i = 0;
        while i < fields.len() {
            fields[i].name = Outcome::ALL[i].name();
            fields[i].docs = &OUTCOME_MEANINGS[i];
            i += 1;
        }
        fields
    };
}

impl Schema for Outcomes {
    fn schema(all: &mut Schemas) -> Value {
        all.object::<Self>(
            "Outcomes",
            module_path!(),
            &["Connections by what became of them."],
        )
    }

    fn properties(all: &mut Schemas) -> Map<String, Value> {
        counts(Self::FIELDS, all)
    }
}

impl Schema for Replies {
    fn schema(all: &mut Schemas) -> Value {
        all.object::<Self>("Replies", module_path!(), &["Replies by class."])
    }

    fn properties(all: &mut Schemas) -> Map<String, Value> {
        counts(Self::FIELDS, all)
    }
}

impl Schema for Commands {
    fn schema(all: &mut Schemas) -> Value {
        all.object::<Self>("Commands", module_path!(), &["Commands."])
    }

    fn properties(all: &mut Schemas) -> Map<String, Value> {
        counts(Self::FIELDS, all)
    }
}

/// Replies by class.
pub(crate) type Replies = Named<{ REPLIES.len() }>;

impl Replies {
    /// The fields with their documentation.
    pub(crate) const FIELDS: &[Field] = &[
        field(REPLIES[0].0, &["Replies of positive completion."]),
        field(REPLIES[1].0, &["Replies that wait for more."]),
        field(REPLIES[2].0, &["Replies of a transient failure."]),
        field(REPLIES[3].0, &["Replies of a permanent failure."]),
    ];
}

/// Commands.
pub(crate) type Commands = Named<{ COMMANDS.len() }>;

impl Commands {
    /// The fields with their documentation.
    pub(crate) const FIELDS: &[Field] = &[
        field(COMMANDS[0].0, &["MAIL commands."]),
        field(COMMANDS[1].0, &["RCPT commands."]),
    ];
}
