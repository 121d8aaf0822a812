//! What the operator says about notices: the section `[notice]`.
//!
//! Contract: values that were read can be used without looking at them again, once [`Settings::check`] has let
//! them through. Nothing is made and nothing is sent by default; what is made waits for somebody to approve it.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer};

use super::quiet::QuietHours;
use super::template::SHIPPED;
use crate::config::HttpUrl;
use crate::model::notice::MAX_RECIPIENTS;
use crate::model::owner::{check_mail, check_text};
use crate::model::verdict::Severity;
use crate::server::Server;

/// Most languages of one notice.
const MAX_LANGUAGES: usize = 4;
/// Most domains that strangers' contacts may be of.
const MAX_DOMAINS: usize = 256;
/// Hours after which something is of no use any more, or is said again.
const HOURS: RangeInclusive<u32> = 24..=30 * 24;
/// Notices in an hour.
const PER_HOUR: RangeInclusive<u32> = 1..=1000;
/// Most words of a command.
const MAX_WORDS: usize = 32;
/// How long one conversation with a relay may take, in seconds.
const SECONDS: RangeInclusive<u32> = 5..=600;

/// Who lets a notice leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A person, each of them.
    #[default]
    Approval,
    /// Nobody: it leaves by itself.
    Automatic,
}

/// How the conversation with a relay is kept secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// By STARTTLS (RFC 3207); a relay without it gets nothing.
    #[default]
    Starttls,
    /// Not at all.
    Off,
}

section! {
    /// Notices to the owners of flagged hosts, by mail. Off until it is enabled; then each one
    /// waits to be approved (`smtpflow notice approve`).
    pub struct Settings {
        /// Whether notices are made.
        pub enabled: bool = false;
        /// Who lets a notice leave: "approval" (a person, each one), or "automatic".
        pub mode: Mode = Mode::Approval;
        /// The address that notices are from, such as "abuse@example.org". Bounces and answers go
        /// there: let a person read it.
        pub from: Option<String> = None;
        /// Who you are, such as "Example University, network operations".
        pub organisation: Option<String> = None;
        /// Where a digest goes when there is more to tell than may leave, such as
        /// "noc@example.org". Unset: nowhere, and what waits is listed by `smtpflow notice list`
        /// alone.
        pub operator: Option<String> = None;
        /// Who gets a copy when a host goes on although its owner was told, for example
        /// "security@example.org".
        pub escalate_to: Vec<String> = Vec::new();
        /// The languages of a notice, one behind the other: "en", "de", "fr", "zh_tw", or of your
        /// own files.
        pub languages: Vec<String> = vec!["en".to_owned()];
        /// Folder with texts of your own, as LANGUAGE.txt; `smtpflow notice templates` prints those
        /// that are shipped. Unset: those.
        pub templates: Option<PathBuf> = None;
        /// Domains whose addresses are written to although a stranger's server (whois, RWhois,
        /// RDAP) names them, for example ["customer.example"]. Addresses from your own files are
        /// always written to.
        pub domains: Vec<String> = Vec::new();
        /// The mildest verdicts that owners are told of: "notice", "warning" or "critical".
        pub severity: Severity = Severity::Warning;
        /// The fewest connections on which a server has sent data. SYNs alone can be forged by
        /// anybody, and nobody is accused because of them.
        pub conversations: u32 = 20;
        /// When nothing leaves, as FROM-TO, such as "22:00-07:00". Unset: it may leave at any time.
        pub quiet_hours: Option<QuietHours> = None;
        /// The time zone of the quiet hours, such as "Europe/Berlin". Unset: that of this machine.
        pub time_zone: Option<String> = None;
        /// Most messages in an hour, a digest included (with 1 there is none), 1 to 1000; about one
        /// host there is never more than one in 24 hours.
        pub per_hour: u32 = 20;
        /// Hours after which it is said that a host goes on, 24 to 720.
        pub escalate_hours: u32 = 72;
        /// Hours after which a notice that could not leave, or that nobody approved, is given up,
        /// 24 to 720.
        pub expire_hours: u32 = 72;
        /// The relay that takes them, HOST:PORT, such as "mail.example.org:587".
        pub relay: Option<Server> = None;
        /// How the conversation with it is kept secret: "starttls" (a relay without it gets
        /// nothing), or "off".
        pub tls: Tls = Tls::Starttls;
        /// File with the certificates of the authorities that the relay and a webhook of https are
        /// believed by.
        pub authorities: PathBuf = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
        /// The user that the relay knows (AUTH).
        pub user: Option<String> = None;
        /// File with that user's password, closed to everybody else (chmod 600), or
        /// credential:NAME.
        pub password_file: Option<PathBuf> = None;
        /// What is said at EHLO. Unset: the domain of `from`.
        pub helo: Option<String> = None;
        /// The command that takes them instead of a relay, such as "/usr/sbin/sendmail".
        pub sendmail: Option<PathBuf> = None;
        /// The longest that one message may take, in seconds, 5 to 600.
        pub timeout_seconds: u32 = 120;
        /// How often `smtpflow notice run` looks for what there is to tell, in seconds, 1 to 3600.
        pub every_seconds: u32 = 60;
        /// An HTTP server that gets the JSON of each notice that begins to wait, or was sent, by
        /// POST, such as `https://tickets.example.org/notices`. Unset: none.
        #[serde(deserialize_with = "webhook")]
        pub webhook: Option<HttpUrl> = None;
        /// A command that gets the same JSON on its standard input: its path and its words, such as
        /// ["/usr/local/bin/ticket", "--new"]. Empty: none.
        pub command: Vec<String> = Vec::new();
        /// The longest that one call of either may take, in seconds, 1 to 300.
        pub hook_timeout_seconds: u32 = 30;
    }
}

/// Reads the address of a webhook.
fn webhook<'de, D: Deserializer<'de>>(from: D) -> Result<Option<HttpUrl>, D::Error> {
    let text = String::deserialize(from)?;
    HttpUrl::parse(&text, "\"https://tickets.example.org/notices\"")
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn check_command(words: &[String]) -> Result<(), String> {
    let Some(program) = words.first() else {
        return Ok(());
    };
    if words.len() > MAX_WORDS {
        return Err(format!(
            "{} words are named: expected at most {MAX_WORDS}",
            words.len()
        ));
    }
    if !program.starts_with('/') {
        return Err(format!("{program:?} is no absolute path"));
    }
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(format!("{word:?} has a null character")),
        None => Ok(()),
    }
}

/// Whether this can be the name of a host or a domain: what may stand behind the `@` of an address.
fn is_domain(text: &str) -> bool {
    check_mail(&format!("a@{text}")).is_ok()
}

/// The domain of a mail address that was checked.
pub(super) fn domain_of(mail: &str) -> &str {
    mail.rsplit_once('@').map_or("", |(_, domain)| domain)
}

impl Settings {
    /// The first value that is not allowed: its key, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let Self {
            enabled,
            mode: _,
            from,
            organisation,
            operator,
            escalate_to,
            languages,
            templates,
            domains,
            severity: _,
            conversations,
            quiet_hours: _,
            time_zone,
            per_hour,
            escalate_hours,
            expire_hours,
            relay,
            tls,
            authorities,
            user,
            password_file,
            helo,
            sendmail,
            timeout_seconds,
            every_seconds,
            webhook: _,
            command,
            hook_timeout_seconds,
        } = self;
        for (key, mail) in [("notice.from", from), ("notice.operator", operator)] {
            if let Some(mail) = mail {
                check_mail(mail).map_err(|error| (key, error))?;
            }
        }
        if let Some(organisation) = organisation {
            check_text(organisation).map_err(|error| ("notice.organisation", error))?;
        }
        let few = |key, number: usize, most: usize| match number > most {
            true => Err((key, format!("{number} are named: expected at most {most}"))),
            false => Ok(()),
        };
        few("notice.escalate_to", escalate_to.len(), MAX_RECIPIENTS / 2)?;
        for mail in escalate_to {
            check_mail(mail).map_err(|error| ("notice.escalate_to", error))?;
        }
        few("notice.languages", languages.len(), MAX_LANGUAGES)?;
        if languages.is_empty() {
            let error = "none is named: name one, such as \"en\"".to_owned();
            return Err(("notice.languages", error));
        }
        for language in languages {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !(1..=16).contains(&language.len()) || !language.chars().all(plain) {
                let error = format!(
                    "{language:?} is no language: expected one such as \"en\" or \"zh_tw\""
                );
                return Err(("notice.languages", error));
            }
            if templates.is_none() && !SHIPPED.iter().any(|(name, _)| name == language) {
                let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
                let error = format!(
                    "there is no text in {language:?}: those that are shipped are {}; for others name the folder \
                     of your own (notice.templates)",
                    names.join(", ")
                );
                return Err(("notice.languages", error));
            }
        }
        few("notice.domains", domains.len(), MAX_DOMAINS)?;
        for domain in domains {
            if !is_domain(domain) || !domain.contains('.') {
                let error =
                    format!("{domain:?} is no domain: expected one such as \"customer.example\"");
                return Err(("notice.domains", error));
            }
        }
        let within = |key, value: u32, range: &RangeInclusive<u32>| match range.contains(&value) {
            true => Ok(()),
            false => Err((
                key,
                format!(
                    "{value} is out of range: expected {} to {}",
                    range.start(),
                    range.end()
                ),
            )),
        };
        within("notice.conversations", *conversations, &(1..=1_000_000))?;
        within("notice.per_hour", *per_hour, &PER_HOUR)?;
        within("notice.escalate_hours", *escalate_hours, &HOURS)?;
        within("notice.expire_hours", *expire_hours, &HOURS)?;
        within("notice.timeout_seconds", *timeout_seconds, &SECONDS)?;
        within("notice.every_seconds", *every_seconds, &(1..=3600))?;
        within(
            "notice.hook_timeout_seconds",
            *hook_timeout_seconds,
            &(1..=300),
        )?;
        check_command(command).map_err(|error| ("notice.command", error))?;
        if let Some(name) = time_zone {
            super::quiet::time_zone(name).map_err(|error| ("notice.time_zone", error))?;
        }
        for (key, path) in [
            ("notice.templates", templates.as_ref()),
            ("notice.authorities", Some(authorities)),
            ("notice.sendmail", sendmail.as_ref()),
        ] {
            if let Some(path) = path
                && !path.is_absolute()
            {
                return Err((key, format!("{} is no absolute path", path.display())));
            }
        }
        if let Some(helo) = helo
            && !is_domain(helo)
        {
            let error = format!(
                "{helo:?} is no name of a host: expected one such as \"gateway.example.org\""
            );
            return Err(("notice.helo", error));
        }
        if relay.is_some() && sendmail.is_some() {
            let error = "a relay is named as well: name one of them".to_owned();
            return Err(("notice.sendmail", error));
        }
        match (user, password_file) {
            (Some(_), None) => {
                let error =
                    "it is not set, but notice.user is: name the file with the password".to_owned();
                return Err(("notice.password_file", error));
            }
            (None, Some(_)) => {
                let error = "it is not set, but notice.password_file is: name the user".to_owned();
                return Err(("notice.user", error));
            }
            (Some(user), Some(_)) => {
                if user.is_empty() || user.len() > 255 || user.chars().any(char::is_control) {
                    let error =
                        format!("{user:?} is no user: expected 1 to 255 characters in one line");
                    return Err(("notice.user", error));
                }
                // A password in the clear is everybody's.
                if *tls == Tls::Off {
                    let error = "it is \"off\", and a password (notice.password_file) is not sent in the clear: \
                                 set \"starttls\""
                        .to_owned();
                    return Err(("notice.tls", error));
                }
            }
            (None, None) => {}
        }
        if !enabled {
            return Ok(());
        }
        for (key, missing, what) in [
            (
                "notice.from",
                from.is_none(),
                "the address that notices are from",
            ),
            ("notice.organisation", organisation.is_none(), "who you are"),
            (
                "notice.relay",
                relay.is_none() && sendmail.is_none(),
                "the relay that takes them, or the command (notice.sendmail)",
            ),
        ] {
            if missing {
                return Err((
                    key,
                    format!("it is not set, and notices are enabled: say {what}"),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Settings, String> {
        let settings: Settings =
            toml::from_str(text).map_err(|error| error.message().to_owned())?;
        settings
            .check()
            .map_err(|(key, error)| format!("{key}: {error}"))?;
        Ok(settings)
    }

    const GOOD: &str = "enabled = true\nfrom = \"abuse@example.org\"\norganisation = \"Example\"\n";

    #[test]
    fn nothing_is_sent_by_default_and_what_is_made_waits() {
        let settings = checked("").expect("the default");
        assert!(!settings.enabled);
        assert_eq!(settings.mode, Mode::Approval);
        assert_eq!(settings.per_hour, 20);
        let settings = checked(&format!("{GOOD}relay = \"mail.example.org:587\"\n")).expect("good");
        assert_eq!(
            (settings.mode, settings.tls),
            (Mode::Approval, Tls::Starttls)
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_the_way_out() {
        for (text, expected) in [
            ("enabled = true", "notice.from: it is not set"),
            (GOOD, "notice.relay: it is not set"),
            (
                "from = \"a@b\\r\\nBcc: c@d\"",
                "notice.from: \"a@b\\r\\nBcc: c@d\" is no mail address",
            ),
            ("organisation = \"a\\nb\"", "notice.organisation: "),
            ("languages = []", "name one, such as \"en\""),
            ("languages = [\"tlh\"]", "notice.templates"),
            ("languages = [\"../etc\"]", "is no language"),
            (
                "domains = [\"com\"]",
                "notice.domains: \"com\" is no domain",
            ),
            (
                "per_hour = 0",
                "notice.per_hour: 0 is out of range: expected 1 to 1000",
            ),
            ("escalate_hours = 23", "expected 24 to 720"),
            ("quiet_hours = \"22-7\"", "\"22:00-07:00\""),
            ("time_zone = \"Mars/Base\"", "timedatectl"),
            (
                "relay = \"mail.example.org\"",
                "expected HOST:PORT, such as \"mail.example.org:587\"",
            ),
            ("relay = \"a b:25\"", "is no server"),
            (
                "sendmail = \"sendmail\"",
                "notice.sendmail: sendmail is no absolute path",
            ),
            (
                "relay = \"a.example:25\"\nsendmail = \"/usr/sbin/sendmail\"",
                "name one of them",
            ),
            ("user = \"u\"", "notice.password_file: it is not set"),
            (
                "user = \"u\"\npassword_file = \"/p\"\ntls = \"off\"",
                "notice.tls: it is \"off\", and a password",
            ),
            ("helo = \"a b\"", "notice.helo: "),
            (
                "webhook = \"tickets.example.org\"",
                "expected one such as \"https://tickets.example.org/notices\"",
            ),
            ("timeout_seconds = 1", "expected 5 to 600"),
        ] {
            let error = checked(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
