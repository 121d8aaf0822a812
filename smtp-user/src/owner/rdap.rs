//! RDAP (RFC 9082): asking the server that a bootstrap file names, and where nobody is named for abuse, for
//! the networks around.
//!
//! Contract: one GET for the address, at most [`REFERRALS`] more for redirections and parents together, over at the deadline.
//! A server in the world leads only to servers in the world, one of `https` only to others of `https`.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::directory::REFERRALS;
use super::web::{self, Url};
use super::wire::{Deadline, Reach};
use crate::model::owner::Contact;

mod answer;
mod bootstrap;

pub(super) use self::bootstrap::Bootstrap;

/// The longest that a server may ask to be left alone.
const LONGEST_REST: u64 = 86_400;

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Who is named, and for what network.
    pub(super) found: Option<(Contact, Option<String>)>,
    /// The address that was asked last.
    pub(super) by: String,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unheard {
    pub(super) why: String,
    /// How long the server wants to be left alone.
    pub(super) rest: Option<Duration>,
}

impl From<String> for Unheard {
    fn from(why: String) -> Self {
        Self { why, rest: None }
    }
}

/// Asks about an address.
pub(super) fn ask(
    server: &Url,
    address: IpAddr,
    authorities: &Path,
    deadline: Deadline,
) -> Result<Heard, Unheard> {
    let address = address.to_canonical();
    let mut asked: Vec<Url> = Vec::new();
    let mut next = server.below(&format!("ip/{address}"));
    let mut reach = Reach::Anywhere;
    // Whether a network was described already; then what its parents fail in does not matter.
    let mut described: Option<String> = None;
    loop {
        let step = one(&next, address, reach, authorities, deadline);
        asked.push(next.clone());
        let (to, from) = match step {
            Ok(Step::Named(contact, network)) => {
                return Ok(Heard {
                    found: Some((contact, network)),
                    by: next.to_string(),
                });
            }
            Ok(Step::Nobody) => {
                return Ok(Heard {
                    found: None,
                    by: described.unwrap_or_else(|| next.to_string()),
                });
            }
            Ok(Step::Parent(to, from)) => {
                described.get_or_insert_with(|| next.to_string());
                (to, from)
            }
            Ok(Step::Moved(to, from)) => (to, from),
            Err(unheard) => {
                return match described {
                    Some(by) => Ok(Heard { found: None, by }),
                    None => Err(Unheard {
                        why: format!("{next}: {}", unheard.why),
                        ..unheard
                    }),
                };
            }
        };
        let refused = match next.to(&to) {
            Err(error) => Some(error),
            Ok(url) if asked.contains(&url) => Some(format!(
                "it leads to {url}, which was asked already: a circle"
            )),
            Ok(url) if next.tls && !url.tls => {
                Some(format!("it leads to {url}, which is not https"))
            }
            Ok(_) if asked.len() > REFERRALS => {
                Some(format!("it leads on more than {REFERRALS} times"))
            }
            Ok(url) => {
                next = url;
                reach = Reach::From(from);
                None
            }
        };
        if let Some(error) = refused {
            return match described {
                Some(by) => Ok(Heard { found: None, by }),
                None => Err(format!("{next}: {error}").into()),
            };
        }
    }
}

/// Where one answer leads.
enum Step {
    Named(Contact, Option<String>),
    Nobody,
    /// To the network around, by the server at this address.
    Parent(String, IpAddr),
    Moved(String, IpAddr),
}

fn one(
    url: &Url,
    address: IpAddr,
    reach: Reach,
    authorities: &Path,
    deadline: Deadline,
) -> Result<Step, Unheard> {
    let answer = web::get(url, "application/rdap+json", reach, authorities, deadline)?;
    match answer.status {
        200 => {
            let network = answer::read(&answer.body, address)?;
            Ok(match (network.contact, network.parent) {
                (Some(contact), _) => Step::Named(contact, network.network),
                (None, Some(parent)) => Step::Parent(parent, answer.server),
                (None, None) => Step::Nobody,
            })
        }
        301 | 302 | 303 | 307 | 308 => {
            let to = answer
                .location
                .ok_or("it leads on, and does not say where".to_owned())?;
            Ok(Step::Moved(to, answer.server))
        }
        404 => Ok(Step::Nobody),
        status => Err(Unheard {
            why: match status {
                429 => "it wants to be asked less often (status 429)".to_owned(),
                status => format!("it answers with status {status}"),
            },
            rest: answer
                .retry_after
                .map(|seconds| Duration::from_secs(seconds.min(LONGEST_REST))),
        }),
    }
}
