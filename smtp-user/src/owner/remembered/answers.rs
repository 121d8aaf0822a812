//! Answers of servers, as they are kept.
//!
//! Contract: at most [`MOST`], the newest. Each text is as harmless as those that servers' answers are made into, and
//! each mail address one that can stand in the header of a message; where one is not, no part of the file is used.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::model::owner::{Contact, MAX_MAILS, Outcome, OwnerSource, check_mail, is_harmless};
use crate::owner::cache::{Answer, MOST};

/// The file.
pub(super) const NAME: &str = "answers.kept";
/// Longest text in octets: the address of an answer, or what a server says instead of one.
const LONGEST: usize = 4096;

/// Who is asked, by the settings: an answer is used only where the same are.
pub(crate) type Asked = BTreeMap<OwnerSource, Vec<String>>;

/// The file, as it is read.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct All {
    asked: Asked,
    answers: Vec<Kept>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) source: OwnerSource,
    pub(super) address: IpAddr,
    /// When it came, in milliseconds since 1970.
    pub(super) at: u64,
    provenance: String,
    said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Said {
    Found {
        name: String,
        mail: Vec<String>,
        phone: Option<String>,
        network: Option<String>,
    },
    Nobody {
        reason: String,
    },
}

impl All {
    /// Those of sources that are asked in the same way.
    pub(super) fn of(self, asked: &Asked) -> impl Iterator<Item = Kept> {
        let Self {
            asked: then,
            answers,
        } = self;
        answers.into_iter().filter(move |kept| {
            let servers = asked.get(&kept.source);
            servers.is_some() && servers == then.get(&kept.source)
        })
    }
}

impl Kept {
    fn new(source: OwnerSource, address: IpAddr, answer: &Answer) -> Option<Self> {
        let said = match &answer.outcome {
            // A note is the operator's, and a route too.
            Outcome::Found {
                contact:
                    Contact {
                        name,
                        mail,
                        phone,
                        note: _,
                    },
                network,
                route: _,
            } => Said::Found {
                name: name.clone(),
                mail: mail.clone(),
                phone: phone.clone(),
                network: network.clone(),
            },
            Outcome::Nobody { reason, route: _ } => Said::Nobody {
                reason: reason.clone(),
            },
            Outcome::Failed { .. } => return None,
        };
        let kept = Self {
            source,
            address,
            at: answer.came,
            provenance: answer.provenance.clone(),
            said,
        };
        // What would not be read again is not written.
        kept.check().is_ok().then_some(kept)
    }

    fn check(&self) -> Result<(), String> {
        let mut texts = vec![&self.provenance];
        match &self.said {
            Said::Found {
                name,
                mail,
                phone,
                network,
            } => {
                texts.push(name);
                texts.extend(phone);
                texts.extend(network);
                if mail.len() > MAX_MAILS {
                    return Err(format!(
                        "an answer has more than {MAX_MAILS} mail addresses"
                    ));
                }
                for address in mail {
                    check_mail(address)?;
                }
            }
            Said::Nobody { reason } => texts.push(reason),
        }
        match texts.into_iter().find(|text| !is_harmless(text, LONGEST)) {
            Some(text) => Err(format!("{text:?} is no text of an answer")),
            None => Ok(()),
        }
    }

    /// The answer, which came at this time.
    pub(super) fn answer(self, at: Instant) -> Answer {
        let outcome = match self.said {
            Said::Found {
                name,
                mail,
                phone,
                network,
            } => Outcome::Found {
                contact: Contact {
                    name,
                    mail,
                    phone,
                    note: None,
                },
                network,
                route: None,
            },
            Said::Nobody { reason } => Outcome::Nobody {
                reason,
                route: None,
            },
        };
        Answer {
            provenance: self.provenance,
            outcome,
            at,
            came: self.at,
        }
    }
}

/// What the file holds.
pub(super) fn decode(body: &[u8]) -> Result<All, String> {
    let all: All = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if all.answers.len() > MOST {
        return Err(format!("it has more than {MOST} answers"));
    }
    all.answers.iter().try_for_each(Kept::check)?;
    Ok(all)
}

/// The file with these answers, and of others those that are newer, but not from the future.
pub(super) fn encode<'a>(
    asked: &Asked,
    now: u64,
    others: Option<All>,
    ours: impl Iterator<Item = (OwnerSource, IpAddr, &'a Answer)>,
) -> Vec<u8> {
    let others = others.into_iter().flat_map(|all| all.of(asked));
    let others = others.filter(|kept| kept.at <= now);
    let ours = ours.filter_map(|(source, address, answer)| Kept::new(source, address, answer));
    let mut newest: HashMap<(OwnerSource, IpAddr), Kept> = HashMap::new();
    for kept in others.chain(ours) {
        let key = (kept.source, kept.address);
        if newest.get(&key).is_none_or(|other| other.at <= kept.at) {
            newest.insert(key, kept);
        }
    }
    let mut answers: Vec<Kept> = newest.into_values().collect();
    answers.sort_unstable_by_key(|kept| (std::cmp::Reverse(kept.at), kept.source, kept.address));
    answers.truncate(MOST);
    let all = All {
        asked: asked.clone(),
        answers,
    };
    serde_json::to_vec(&all).unwrap_or_default()
}
