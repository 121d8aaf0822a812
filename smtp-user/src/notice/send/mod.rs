//! How a notice leaves: through a relay, or by a command.
//!
//! Contract: over when the time is up, whatever the other side does, and with no more of its words in memory than
//! [`stream::MOST`]. An attempt says of each recipient what became of it, and never that nothing happened where
//! the message may have arrived. Nothing that the other side says leads anywhere else.

mod relay;
mod sendmail;
mod stream;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::relay::Relay;
use self::sendmail::Sendmail;
use super::retry::{Attempt, Outcome};
use super::settings::Settings;
use crate::failure::{Failure, Kind};
use crate::model::notice::{Fate, Notice};
use crate::model::owner::clean;

/// What sends notices.
pub struct Sender {
    from: String,
    timeout: Duration,
    via: Via,
}

enum Via {
    Relay(Box<Relay>),
    Sendmail(Sendmail),
}

/// What is known of an attempt while it is made: all that there is when its time is up.
pub(super) struct Progress {
    /// Of each recipient; `Later` until more is known.
    outcomes: Vec<(String, Outcome)>,
    /// What was done last, for whoever reads what went wrong.
    doing: &'static str,
    /// See [`Attempt::reached`].
    reached: bool,
    /// What was said of the message, once it is known.
    reply: Option<String>,
}

impl Progress {
    fn set(&mut self, mail: &str, outcome: Outcome) {
        for (known, is) in &mut self.outcomes {
            if known == mail {
                *is = outcome;
            }
        }
    }

    /// Sets those that are not decided.
    fn set_open(&mut self, outcome: Outcome) {
        for (_, is) in &mut self.outcomes {
            if matches!(*is, Outcome::Later | Outcome::Unknown) {
                *is = outcome;
            }
        }
    }
}

impl Sender {
    /// As these settings say.
    ///
    /// # Errors
    ///
    /// They do not say how, or a file that they name cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let Some(from) = settings.from.clone() else {
            return Err(Failure::new(
                Kind::BadConfig,
                "nobody is named that notices are from: set notice.from",
            ));
        };
        let via = match (&settings.relay, &settings.sendmail) {
            (Some(server), _) => Via::Relay(Box::new(Relay::new(settings, server, &from)?)),
            (None, Some(command)) => Via::Sendmail(Sendmail::new(command)),
            (None, None) => {
                return Err(Failure::new(
                    Kind::BadConfig,
                    "nothing is named that notices leave by: set notice.relay, or notice.sendmail",
                ));
            }
        };
        Ok(Self {
            from,
            timeout: Duration::from_secs(settings.timeout_seconds.into()),
            via,
        })
    }

    /// Gives a notice to the relay, for those recipients that do not have it yet.
    pub async fn send(&self, notice: &Notice) -> Attempt {
        let pending = notice
            .recipients
            .iter()
            .filter(|recipient| recipient.fate == Fate::Pending);
        let mut progress = Progress {
            outcomes: pending
                .map(|recipient| (recipient.mail.clone(), Outcome::Later))
                .collect(),
            doing: "connecting",
            reached: false,
            reply: None,
        };
        let talk = async {
            match &self.via {
                Via::Relay(relay) => relay.send(&self.from, &notice.message, &mut progress).await,
                Via::Sendmail(command) => {
                    command
                        .send(&self.from, &notice.message, &mut progress)
                        .await
                }
            }
        };
        let reply = match tokio::time::timeout(self.timeout, talk).await {
            Ok(reply) => reply,
            Err(_) => progress.reply.take().unwrap_or_else(|| {
                format!(
                    "nothing came for {} s while {}",
                    self.timeout.as_secs(),
                    progress.doing
                )
            }),
        };
        Attempt {
            outcomes: progress.outcomes,
            // A stranger's words.
            reply: clean(&reply).unwrap_or_else(|| "-".to_owned()),
            reached: progress.reached,
        }
    }
}
