//! A notice as a message (RFC 5322).
//!
//! Contract: what accuses a host is a `multipart/report` (RFC 6522) of the text, a `message/feedback-report` that
//! says that what follows is XARF, and one report in XARF for each host; what does not is plain text. Where there are
//! messages that somebody has complained about, that report is followed by one of each of them (`arf`). Every
//! message says that a program has made it (`Auto-Submitted`, RFC 3834) and belongs to the thread of its case.
//! Its Message-ID is made of numbers that are never given again, so it is the same whenever it is made. Whatever
//! names and addresses hold, each header is one header: they were checked, and are encoded where need be.

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};

use super::arf;
use super::evidence::shown;
use super::plan::Draft;
use super::settings::{Settings, domain_of};
use super::template::{Language, Templates, Values};
use super::xarf::{Reporter, report};
use crate::failure::{Failure, Kind};
use crate::model::notice::{Case, Facts, LogFacts, NoticeKind};
use crate::model::owner::clean;
use crate::model::period::{Period, rfc3339};
use crate::model::sample::Sample;

/// Most characters of a subject.
const MAX_SUBJECT: usize = 300;
/// Rules of a host that are told.
const MAX_RULES: usize = 8;
/// Notices that a digest names.
const MAX_WAITING: usize = 200;

/// Makes messages.
#[derive(Clone, Debug)]
pub struct Composer {
    from: String,
    organisation: String,
    templates: Templates,
}

/// A message that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Without its brackets.
    pub message_id: String,
    /// The subject.
    pub subject: String,
    /// What people read.
    pub text: String,
    /// All of it, as it leaves.
    pub message: Vec<u8>,
}

impl Composer {
    /// For these settings.
    ///
    /// # Errors
    ///
    /// It is not said who writes, or a text cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let (Some(from), Some(organisation)) = (&settings.from, &settings.organisation) else {
            return Err(Failure::new(
                Kind::BadConfig,
                "nobody is named that notices are from: set notice.from and notice.organisation in the \
                 configuration, and name its file with --config",
            ));
        };
        Ok(Self {
            from: from.clone(),
            organisation: clean(organisation).unwrap_or_else(|| from.clone()),
            templates: Templates::load(settings)?,
        })
    }

    /// The message of a notice.
    pub fn compose(&self, draft: &Draft) -> Rendered {
        let message_id = self.message_id(draft);
        let (subject, text) = self.text(draft);
        let mut builder = MessageBuilder::new()
            .from(Address::new_address(Some(&*self.organisation), &*self.from))
            .to(Address::new_list(
                draft
                    .recipients
                    .iter()
                    .map(|mail| Address::from(&**mail))
                    .collect(),
            ))
            .subject(&*subject)
            .date(draft.at / 1000)
            .message_id(&*message_id)
            .header("Auto-Submitted", Raw::new("auto-generated"))
            // What answers by itself in Exchange looks at this one.
            .header("X-Auto-Response-Suppress", Raw::new("All"));
        if let Some(case) = &draft.case {
            let thread = self.thread(case);
            let mut references = vec![thread];
            if let Some(last) = &case.last_message_id {
                builder = builder.in_reply_to(&**last);
                references.push(last.clone());
            }
            builder = builder.references(references);
        }
        let plain = MimePart::new("text/plain", BodyPart::Text((&*text).into()));
        let body = match draft.kind.accuses() {
            true => {
                let mut parts = vec![self.report(plain, draft, &message_id)];
                parts.extend(draft.samples.iter().map(arf::report));
                match parts.len() {
                    1 => parts.remove(0),
                    // Each report is whole, with its three parts, for whoever reads one of them.
                    _ => MimePart::new("multipart/mixed", parts),
                }
            }
            false => plain,
        };
        let mut message = Vec::new();
        builder.body(body).serialize(&mut message);
        Rendered {
            message_id,
            subject,
            text,
            message,
        }
    }

    /// What all messages of a case refer to; none has it as its own.
    fn thread(&self, case: &Case) -> String {
        format!(
            "smtpflow.{}.{}@{}",
            case.opened_at,
            case.id,
            domain_of(&self.from)
        )
    }

    fn message_id(&self, draft: &Draft) -> String {
        let domain = domain_of(&self.from);
        match &draft.case {
            // A number alone would come again with a new store.
            Some(case) => format!(
                "smtpflow.{}.{}.{}@{domain}",
                case.opened_at, case.id, case.sequence
            ),
            None => format!("smtpflow.{}.{}.digest@{domain}", draft.at, draft.id),
        }
    }

    /// Subject and text, in all languages.
    fn text(&self, draft: &Draft) -> (String, String) {
        let mut subjects = Vec::new();
        let mut bodies = Vec::new();
        for language in self.templates.languages() {
            let (subject, body) = language.message(draft.kind, &self.values(language, draft));
            subjects.push(subject);
            bodies.push(body);
        }
        let subject = subjects.into_iter().next().unwrap_or_default();
        let subject = subject
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_SUBJECT)
            .collect();
        (subject, Templates::join(&bodies))
    }

    fn values<'a>(&self, language: &Language, draft: &Draft) -> Values<'a> {
        let text = |text: &str| clean(text).unwrap_or_else(|| "-".to_owned());
        let organisation = ("organisation", text(&self.organisation));
        if draft.kind == NoticeKind::Digest {
            let mut lines: Vec<String> = draft
                .waiting
                .iter()
                .take(MAX_WAITING)
                .map(|(number, mail, subject)| {
                    language.waiting(&Values::from([
                        ("number", number.to_string()),
                        ("mail", text(mail)),
                        ("subject", text(subject)),
                    ]))
                })
                .collect();
            if draft.waiting.len() > MAX_WAITING {
                lines.push("...\n".to_owned());
            }
            return Values::from([
                organisation,
                ("count", draft.waiting.len().to_string()),
                ("waiting", lines.concat()),
            ]);
        }
        let hosts: Vec<String> = draft.hosts.iter().map(|facts| shown(facts.host)).collect();
        let evidence: Vec<String> = draft
            .hosts
            .iter()
            .map(|facts| self.evidence(language, facts, &draft.samples))
            .collect();
        let case = draft.case.as_ref().map_or(0, |case| case.id);
        Values::from([
            organisation,
            ("case", case.to_string()),
            ("hosts", few(&hosts)),
            ("window", window(&draft.hosts)),
            ("name", text(&draft.name)),
            ("evidence", evidence.join("\n")),
            ("filter", filter(&draft.hosts)),
            ("list", hosts.join("\n")),
        ])
    }

    /// What was counted of a host, in a language, and which of these messages is of it.
    fn evidence(&self, language: &Language, facts: &Facts, samples: &[Sample]) -> String {
        let mut complaints = samples
            .iter()
            .filter(|sample| facts.host.contains(&sample.address));
        let complaint = complaints.next().map(|sample| {
            language.complaint(&Values::from([("address", sample.address.to_string())]))
        });
        let log = facts.log.map(|log| {
            let LogFacts {
                since,
                messages,
                recipients,
                rejects,
            } = log;
            language.log(&Values::from([
                ("messages", messages.to_string()),
                ("recipients", recipients.to_string()),
                ("rejects", rejects.to_string()),
                ("since", minute(since)),
            ]))
        });
        let rules: Vec<String> = facts
            .rules
            .iter()
            .take(MAX_RULES)
            .filter_map(|rule| clean(rule))
            .collect();
        let mean = match facts.packets {
            0 => "-".to_owned(),
            packets => format!("{:.0}", facts.bytes as f64 / packets as f64),
        };
        language.host(&Values::from([
            ("host", shown(facts.host)),
            ("severity", facts.severity.name().to_owned()),
            ("rules", rules.join("\n")),
            ("first", minute(facts.first_at)),
            ("last", minute(facts.last_at)),
            ("from", minute(facts.period.from)),
            ("to", minute(facts.period.to)),
            ("connections", facts.connections.to_string()),
            ("servers", facts.servers.to_string()),
            ("conversations", facts.conversations.to_string()),
            ("delivered", facts.delivered.to_string()),
            ("rejected", facts.rejected.to_string()),
            ("packets", facts.packets.to_string()),
            ("bytes", facts.bytes.to_string()),
            ("mean", mean),
            ("log", log.unwrap_or_default()),
            ("complaint", complaint.unwrap_or_default()),
        ]))
    }

    /// The text, and what machines read.
    fn report<'a>(&self, text: MimePart<'a>, draft: &Draft, message_id: &str) -> MimePart<'a> {
        let reporter = Reporter {
            organisation: &self.organisation,
            mail: &self.from,
        };
        let mut parts: Vec<MimePart<'a>> = Vec::new();
        let several = draft.hosts.len() > 1;
        for (number, facts) in draft.hosts.iter().enumerate() {
            let evidence = match self.templates.languages().first() {
                Some(language) => self.evidence(language, facts, &draft.samples),
                None => String::new(),
            };
            let json = report(&reporter, message_id, facts, &evidence).to_string();
            let name = match several {
                true => format!("xarf-{}.json", number + 1),
                false => "xarf.json".to_owned(),
            };
            let kind = ContentType::new("application/json").attribute("name", name.clone());
            parts.push(MimePart::new(kind, json.into_bytes()).attachment(name));
        }
        // A report has three parts at most (RFC 6522, section 3).
        let attached = match several {
            true => MimePart::new("multipart/mixed", parts),
            false => parts
                .pop()
                .unwrap_or_else(|| MimePart::new("application/json", Vec::<u8>::new())),
        };
        let feedback = MimePart::new(
            "message/feedback-report",
            feedback(&draft.hosts).into_bytes(),
        )
        .transfer_encoding("7bit");
        MimePart::new(
            ContentType::new("multipart/report").attribute("report-type", "feedback-report"),
            vec![text, feedback, attached],
        )
    }
}

/// The fields of the second part (RFC 5965, section 3). The type says that the third one is no message.
fn feedback(hosts: &[Facts]) -> String {
    let mut text = format!(
        "Feedback-Type: xarf\r\nUser-Agent: smtpflow/{}\r\nVersion: 1\r\n",
        env!("CARGO_PKG_VERSION")
    );
    // At most once, and an address alone.
    if let [facts] = hosts {
        let host = facts.host;
        if host.prefix_len() == host.max_prefix_len() {
            text.push_str(&format!("Source-IP: {}\r\n", host.addr()));
        }
    }
    text
}

/// The first of several, and how many there are more.
fn few(hosts: &[String]) -> String {
    match hosts {
        [] => String::new(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} (+{})", more.len()),
    }
}

/// What of traffic is of these hosts, for tcpdump.
fn filter(hosts: &[Facts]) -> String {
    let of = |facts: &Facts| {
        let host = facts.host;
        match host.prefix_len() == host.max_prefix_len() {
            true => format!("src host {}", host.addr()),
            false => format!("src net {host}"),
        }
    };
    match hosts {
        [one] => of(one),
        several => {
            let several: Vec<_> = several.iter().take(4).map(of).collect();
            format!("({})", several.join(" or "))
        }
    }
}

/// The time that hosts were counted in.
fn window(hosts: &[Facts]) -> String {
    let period = hosts
        .iter()
        .map(|facts| facts.period)
        .reduce(|one, other| Period {
            from: one.from.min(other.from),
            to: one.to.max(other.to),
        });
    period.map_or_else(String::new, |period| {
        format!("{} - {}", minute(period.from), minute(period.to))
    })
}

/// A time to the minute, in UTC.
fn minute(milliseconds: u64) -> String {
    let text = rfc3339(milliseconds);
    match text.split_once('T') {
        Some((day, time)) => format!("{day} {} UTC", time.get(..5).unwrap_or(time)),
        None => text,
    }
}
