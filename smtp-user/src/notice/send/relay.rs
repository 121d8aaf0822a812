//! One message through a relay (RFC 5321).
//!
//! Contract: as in the module above. A relay without STARTTLS gets nothing where that is asked for, and a password
//! goes through TLS alone, to a relay that one of the operator's authorities vouches for. What a relay says about
//! itself or us (greeting, EHLO, AUTH, MAIL) decides about no recipient: it is tried again until it is repaired.

use std::error::Error as _;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::retry::Outcome;
use super::super::settings::{Settings, Tls, domain_of};
use super::Progress;
use super::stream::Bounded;
use crate::failure::{Failure, Kind};
use crate::secret::Secret;
use crate::server::Server;

/// The longest file of authorities, in bytes; that of a distribution has 220 KiB.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// How long the reply to QUIT is waited for.
const GOODBYE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Relay {
    server: Server,
    helo: ClientId,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
}

impl Relay {
    pub(super) fn new(settings: &Settings, server: &Server, from: &str) -> Result<Self, Failure> {
        let credentials = match (&settings.user, &settings.password_file) {
            (Some(user), Some(file)) => {
                let secret = Secret::load(file, "password of the relay", 1..=1024)?;
                let password = String::from_utf8(secret.bytes().to_vec()).map_err(|_| {
                    Failure::new(
                        Kind::BadConfig,
                        format!(
                            "the password of the relay in {} is no text in UTF-8",
                            file.display()
                        ),
                    )
                })?;
                Some(Credentials::new(user.clone(), password))
            }
            _ => None,
        };
        let tls = match settings.tls {
            Tls::Starttls => Some(tls(settings, &server.host)?),
            Tls::Off => None,
        };
        let helo = settings
            .helo
            .clone()
            .unwrap_or_else(|| domain_of(from).to_owned());
        Ok(Self {
            server: server.clone(),
            helo: ClientId::Domain(helo),
            tls,
            credentials,
        })
    }

    /// Sends a message to those in `progress`, and keeps what becomes of them in it; gives the last reply.
    pub(super) async fn send(&self, from: &str, message: &[u8], progress: &mut Progress) -> String {
        match self.talk(from, message, progress).await {
            Ok(reply) => reply,
            Err(error) => format!("{} failed: {error}", progress.doing),
        }
    }

    async fn talk(
        &self,
        from: &str,
        message: &[u8],
        progress: &mut Progress,
    ) -> Result<String, String> {
        let Server { host, port } = &self.server;
        let stream = TcpStream::connect((&**host, *port))
            .await
            .map_err(|error| format!("{}: {error}", self.server))?;
        progress.doing = "greeting the relay";
        let stream = Box::new(Bounded::new(stream));
        let mut relay = AsyncSmtpConnection::connect_with_transport(stream, &self.helo)
            .await
            .map_err(shown)?;
        if let Some(tls) = &self.tls {
            progress.doing = "STARTTLS";
            relay
                .starttls(tls.clone(), &self.helo)
                .await
                .map_err(shown)?;
        }
        if let Some(credentials) = &self.credentials {
            progress.doing = "AUTH";
            relay
                .auth(&[Mechanism::Plain, Mechanism::Login], credentials)
                .await
                .map_err(shown)?;
        }
        progress.doing = "MAIL";
        let from: Address = from.parse().map_err(|error| format!("{from}: {error}"))?;
        let reply = relay
            .command(Mail::new(Some(from), Vec::new()))
            .await
            .map_err(shown)?;
        done(&reply)?;
        progress.doing = "RCPT";
        let mut accepted = Vec::new();
        let mut refusal = None;
        for (mail, _) in progress.outcomes.clone() {
            let Ok(address) = mail.parse::<Address>() else {
                progress.set(&mail, Outcome::Refused);
                refusal = Some(format!("{mail} is no address that the relay could be told"));
                continue;
            };
            let reply = relay.command(Rcpt::new(address, Vec::new())).await;
            progress.reached |= match &reply {
                Ok(_) => true,
                Err(error) => error.is_permanent() || error.is_transient(),
            };
            match reply {
                Ok(reply) => {
                    done(&reply)?;
                    accepted.push(mail);
                }
                Err(error) if error.is_permanent() => {
                    progress.set(&mail, Outcome::Refused);
                    refusal = Some(format!("{mail}: {}", shown(error)));
                }
                Err(error) if error.is_transient() => {
                    refusal = Some(format!("{mail}: {}", shown(error)));
                }
                Err(error) => return Err(shown(error)),
            }
        }
        if accepted.is_empty() {
            goodbye(relay, progress).await;
            return Ok(refusal.unwrap_or_else(|| "there is no recipient".to_owned()));
        }
        progress.doing = "DATA";
        let reply = relay.command(Data).await.map_err(shown)?;
        if !reply.has_code(354) {
            return Err(format!("unexpected reply: {}", said(&reply)));
        }
        progress.doing = "sending the message";
        // From here on until the relay has said something, it may have it.
        for mail in &accepted {
            progress.set(mail, Outcome::Unknown);
        }
        let (outcome, reply) = match relay.message(message).await {
            Ok(reply) => {
                done(&reply)?;
                (Outcome::Taken, said(&reply))
            }
            Err(error) if error.is_permanent() => (Outcome::Refused, shown(error)),
            Err(error) if error.is_transient() => (Outcome::Later, shown(error)),
            Err(error) => return Err(shown(error)),
        };
        for mail in &accepted {
            progress.set(mail, outcome);
        }
        let reply = match refusal {
            Some(refusal) => format!("{reply}; {refusal}"),
            None => reply,
        };
        progress.reply = Some(reply.clone());
        goodbye(relay, progress).await;
        Ok(reply)
    }
}

/// Whether it is a 2xx: lettre takes 3xx for good as well.
fn done(reply: &Response) -> Result<(), String> {
    match reply.code().severity {
        Severity::PositiveCompletion => Ok(()),
        _ => Err(format!("unexpected reply: {}", said(reply))),
    }
}

/// A reply in one line.
fn said(reply: &Response) -> String {
    let text: Vec<_> = reply.message().collect();
    format!("{} {}", reply.code(), text.join(" "))
}

/// Ends the conversation; what comes of that changes nothing.
async fn goodbye(mut relay: AsyncSmtpConnection, progress: &mut Progress) {
    progress.doing = "QUIT";
    let _ = timeout(GOODBYE, relay.quit()).await;
}

/// An error with what is behind it.
fn shown(error: Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// How the relay is to prove who it is.
fn tls(settings: &Settings, host: &str) -> Result<TlsParameters, Failure> {
    let path = &settings.authorities;
    let failed = |why: String| {
        Failure::new(
            Kind::BadConfig,
            format!(
                "cannot use the certificates of authorities in {}: {why}; name a file of such in \
                 notice.authorities (Debian's package ca-certificates has one)",
                path.display()
            ),
        )
    };
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_AUTHORITIES + 1).read_to_end(&mut pem))
        .map_err(|error| failed(error.to_string()))?;
    if pem.len() as u64 > MAX_AUTHORITIES {
        return Err(failed(format!(
            "it is longer than {} MiB",
            MAX_AUTHORITIES >> 20
        )));
    }
    let certificates = Certificate::from_pem(&pem).map_err(|error| failed(shown(error)))?;
    TlsParameters::builder(host.to_owned())
        .certificate_store(CertificateStore::None)
        .add_root_certificate(certificates)
        .build()
        .map_err(|error| failed(shown(error)))
}
