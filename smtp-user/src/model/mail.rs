//! What is kept of the mail addresses of people.

use serde::{Deserialize, Serialize};

/// How much of a mail address is kept, the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptAddresses {
    /// Nothing: messages and recipients are counted, and that is all.
    #[default]
    None,
    /// What is behind the last `@`.
    Domain,
    /// All of it.
    Full,
}
