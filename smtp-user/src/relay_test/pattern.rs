//! The patterns of MAIL and RCPT that are tried, each with why.
//!
//! Contract: the recipient of each is the operator's own mailbox and nobody else, however the server reads
//! it, or a mailbox of the tested host itself. A command is one line of printable ASCII, and no longer than
//! RFC 5321 (section 4.5.3.1.4) allows. A new pattern is one entry in [`PATTERNS`].

use super::settings::{HostName, Mailbox};

/// The longest command, without its end.
#[cfg(test)]
const LONGEST: usize = 510;

/// What patterns are made from.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The sender where a pattern has none of its own.
    pub(super) sender: String,
    /// The local part of the operator's mailbox.
    pub(super) user: String,
    /// Its domain.
    pub(super) domain: String,
    /// What the tested host calls itself, or its literal.
    pub(super) host: String,
    /// The tested host's address as a literal.
    pub(super) literal: String,
}

impl Names {
    pub(super) fn new(
        sender: &Mailbox,
        recipient: &Mailbox,
        host: Option<&HostName>,
        literal: &str,
    ) -> Self {
        Self {
            sender: sender.to_string(),
            user: recipient.local().to_owned(),
            domain: recipient.domain().to_string(),
            host: host.map_or_else(|| literal.to_owned(), HostName::to_string),
            literal: literal.to_owned(),
        }
    }

    /// The operator's mailbox, as it is.
    fn recipient(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }
}

/// A pattern.
pub(super) struct Pattern {
    /// In snake_case; never changed once it was released.
    pub(super) name: &'static str,
    /// Why it is tried.
    pub(super) why: &'static str,
    sender: Sender,
    /// What stands behind `RCPT TO:`.
    recipient: fn(&Names) -> String,
}

/// Whom the mail is from.
#[derive(Clone, Copy)]
enum Sender {
    /// The operator's sender: a stranger to the host.
    Stranger,
    /// Nobody, as a report of non-delivery.
    Null,
    /// A mailbox at what the host calls itself.
    AtHost,
    /// A mailbox at the host's address.
    AtLiteral,
    /// A mailbox without a domain.
    Bare,
    /// A mailbox at `localhost`.
    AtLocalhost,
}

impl Pattern {
    /// The command MAIL.
    pub(super) fn mail(&self, names: &Names) -> String {
        let sender = match self.sender {
            Sender::Stranger => names.sender.clone(),
            Sender::Null => String::new(),
            Sender::AtHost => format!("postmaster@{}", names.host),
            Sender::AtLiteral => format!("postmaster@{}", names.literal),
            Sender::Bare => "postmaster".to_owned(),
            Sender::AtLocalhost => "postmaster@localhost".to_owned(),
        };
        format!("MAIL FROM:<{sender}>")
    }

    /// The command RCPT.
    pub(super) fn rcpt(&self, names: &Names) -> String {
        format!("RCPT TO:{}", (self.recipient)(names))
    }
}

/// Declares a pattern.
macro_rules! pattern {
    ($name:literal, $sender:ident, |$n:ident| $recipient:expr, $($why:literal)+) => {
        Pattern {
            name: $name,
            why: concat!($($why),+),
            sender: Sender::$sender,
            recipient: |$n| $recipient,
        }
    };
}

/// All of them, in the order in which they are tried: the plain ones first, which say most.
pub(super) const PATTERNS: &[Pattern] = &[
    pattern!(
        "plain",
        Stranger,
        |n| format!("<{}>", n.recipient()),
        "a stranger writes to a stranger: who takes this relays for everybody"
    ),
    pattern!(
        "null_sender",
        Null,
        |n| format!("<{}>", n.recipient()),
        "reports of non-delivery have no sender (RFC 5321, section 4.5.5), and rules that look at the sender let \
         them pass"
    ),
    pattern!(
        "sender_at_host",
        AtHost,
        |n| format!("<{}>", n.recipient()),
        "some hosts relay for whoever claims to be one of their own users"
    ),
    pattern!(
        "sender_at_literal",
        AtLiteral,
        |n| format!("<{}>", n.recipient()),
        "the same with the host's address, which lists of own domains may hold by default"
    ),
    pattern!(
        "sender_without_domain",
        Bare,
        |n| format!("<{}>", n.recipient()),
        "hosts that add their own domain to a bare name may take it for a user of theirs"
    ),
    pattern!(
        "sender_at_localhost",
        AtLocalhost,
        |n| format!("<{}>", n.recipient()),
        "localhost is often on the list of what is trusted"
    ),
    pattern!(
        "percent_at_host",
        Stranger,
        |n| format!("<{}%{}@{}>", n.user, n.domain, n.host),
        "the percent hack (RFC 1123, section 5.2.16): the host sees its own domain, takes it off and relays to \
         what the % stands before"
    ),
    pattern!(
        "percent_at_literal",
        Stranger,
        |n| format!("<{}%{}@{}>", n.user, n.domain, n.literal),
        "the percent hack with the host's address in the place of its name"
    ),
    pattern!(
        "percent_at_localhost",
        Stranger,
        |n| format!("<{}%{}@localhost>", n.user, n.domain),
        "the percent hack by a domain that every host takes for its own"
    ),
    pattern!(
        "percent_without_domain",
        Stranger,
        |n| format!("<{}%{}>", n.user, n.domain),
        "a bare local part that holds a domain: it looks local, and is rewritten later"
    ),
    pattern!(
        "percent_quoted",
        Stranger,
        |n| format!("<\"{}%{}\">", n.user, n.domain),
        "the same in quotes, which checks may not look into"
    ),
    pattern!(
        "quoted_at_host",
        Stranger,
        |n| format!("<\"{}@{}\"@{}>", n.user, n.domain, n.host),
        "a quoted local part that is an address itself: the second look-up finds a stranger"
    ),
    pattern!(
        "quoted_at_literal",
        Stranger,
        |n| format!("<\"{}@{}\"@{}>", n.user, n.domain, n.literal),
        "the same at the host's address"
    ),
    pattern!(
        "quoted_without_domain",
        Stranger,
        |n| format!("<\"{}@{}\">", n.user, n.domain),
        "a whole address in quotes: a local part by grammar, a stranger once the quotes are gone"
    ),
    pattern!(
        "two_at_signs",
        Stranger,
        |n| format!("<{}@{}@{}>", n.user, n.domain, n.host),
        "not allowed by the grammar, so that the check and the delivery may split it at different signs"
    ),
    pattern!(
        "two_at_signs_literal",
        Stranger,
        |n| format!("<{}@{}@{}>", n.user, n.domain, n.literal),
        "the same with the host's address"
    ),
    pattern!(
        "route_by_host",
        Stranger,
        |n| format!("<@{}:{}>", n.host, n.recipient()),
        "a source route (RFC 5321, appendix C) through the host: it takes itself off and relays to the rest"
    ),
    pattern!(
        "route_by_literal",
        Stranger,
        |n| format!("<@{}:{}>", n.literal, n.recipient()),
        "a source route by the host's address"
    ),
    pattern!(
        "route_by_two",
        Stranger,
        |n| format!("<@{},@{}:{}>", n.host, n.domain, n.recipient()),
        "a source route of two hosts, of which a check may only see the first"
    ),
    pattern!(
        "bang_without_domain",
        Stranger,
        |n| format!("<{}!{}>", n.domain, n.user),
        "a bang path of UUCP (RFC 976), which sendmail's rules turned into an address of the Internet"
    ),
    pattern!(
        "bang_at_host",
        Stranger,
        |n| format!("<{}!{}@{}>", n.domain, n.user, n.host),
        "a bang path below the host's own domain: by which sign it is split first decides"
    ),
    pattern!(
        "bang_at_literal",
        Stranger,
        |n| format!("<{}!{}@{}>", n.domain, n.user, n.literal),
        "the same with the host's address"
    ),
    pattern!(
        "bang_by_host",
        Stranger,
        |n| format!("<{}!{}!{}>", n.host, n.domain, n.user),
        "a bang path of two hosts that begins with the tested one"
    ),
    pattern!(
        "no_brackets",
        Stranger,
        |n| n.recipient(),
        "without brackets, which old servers take, and checks of what is between them do not see"
    ),
    pattern!(
        "trailing_dot",
        Stranger,
        |n| format!("<{}.>", n.recipient()),
        "a domain with the final dot of DNS is the same domain to a resolver, and another one to a list"
    ),
    pattern!(
        "percent_null_sender",
        Null,
        |n| format!("<{}%{}@{}>", n.user, n.domain, n.host),
        "the percent hack as a report of non-delivery: each alone may be checked, and both together not"
    ),
    pattern!(
        "percent_sender_at_host",
        AtHost,
        |n| format!("<{}%{}@{}>", n.user, n.domain, n.host),
        "the percent hack by a user that the host takes for its own"
    ),
    pattern!(
        "route_null_sender",
        Null,
        |n| format!("<@{}:{}>", n.host, n.recipient()),
        "a source route as a report of non-delivery"
    ),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(host: Option<&str>) -> Names {
        let mailbox = |text| Mailbox::parse(text).expect(text);
        let host = host.map(|host| HostName::parse(host).expect(host));
        Names::new(
            &mailbox("from@probe.example.net"),
            &mailbox("relay-test@example.org"),
            host.as_ref(),
            "[192.0.2.7]",
        )
    }

    #[test]
    fn there_are_enough_and_each_has_a_name_and_a_reason_of_its_own() {
        assert!(PATTERNS.len() >= 20, "{}", PATTERNS.len());
        let names = names(Some("mx.example"));
        for (at, pattern) in PATTERNS.iter().enumerate() {
            assert!(pattern.why.len() > 20, "{}", pattern.name);
            for other in &PATTERNS[..at] {
                assert_ne!(pattern.name, other.name);
                assert_ne!(
                    (pattern.mail(&names), pattern.rcpt(&names)),
                    (other.mail(&names), other.rcpt(&names)),
                    "{} and {} are the same",
                    pattern.name,
                    other.name
                );
            }
        }
    }

    #[test]
    fn the_commands_are_these() {
        let names = names(Some("mx.example"));
        let commands: Vec<String> = PATTERNS
            .iter()
            .map(|pattern| format!("{} {}", pattern.mail(&names), pattern.rcpt(&names)))
            .collect();
        for expected in [
            "MAIL FROM:<from@probe.example.net> RCPT TO:<relay-test@example.org>",
            "MAIL FROM:<> RCPT TO:<relay-test@example.org>",
            "MAIL FROM:<postmaster@[192.0.2.7]> RCPT TO:<relay-test@example.org>",
            "MAIL FROM:<from@probe.example.net> RCPT TO:<relay-test%example.org@mx.example>",
            "MAIL FROM:<from@probe.example.net> RCPT TO:<\"relay-test@example.org\"@mx.example>",
            "MAIL FROM:<from@probe.example.net> RCPT TO:<@mx.example:relay-test@example.org>",
            "MAIL FROM:<from@probe.example.net> RCPT TO:<@mx.example,@example.org:relay-test@example.org>",
            "MAIL FROM:<from@probe.example.net> RCPT TO:<example.org!relay-test@[192.0.2.7]>",
            "MAIL FROM:<from@probe.example.net> RCPT TO:relay-test@example.org",
        ] {
            assert!(
                commands.iter().any(|command| command == expected),
                "{expected} in {commands:#?}"
            );
        }
    }

    #[test]
    fn a_host_without_a_name_is_called_by_its_address() {
        let names = names(None);
        let percent = PATTERNS
            .iter()
            .find(|pattern| pattern.name == "percent_at_host");
        let rcpt = percent.expect("the pattern").rcpt(&names);
        assert_eq!(rcpt, "RCPT TO:<relay-test%example.org@[192.0.2.7]>");
    }

    proptest! {
        #[test]
        fn every_command_is_one_short_line_and_names_only_the_operators_mailbox(
            local in "[a-z0-9]{1,64}",
            labels in prop::collection::vec("[a-z][a-z0-9-]{0,8}[a-z0-9]", 2..11),
            host in prop::collection::vec("[a-z][a-z0-9-]{0,8}[a-z0-9]", 2..11),
        ) {
            let recipient = Mailbox::parse(&format!("{local}@{}", labels.join("."))).expect("a mailbox");
            let host = HostName::parse(&host.join(".")).expect("a name");
            let literal = "[IPv6:2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]";
            let names = Names::new(&recipient, &recipient, Some(&host), literal);
            for pattern in PATTERNS {
                for command in [pattern.mail(&names), pattern.rcpt(&names)] {
                    prop_assert!(command.len() <= LONGEST, "{} octets: {command}", command.len());
                    prop_assert!(command.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{command:?}");
                }
                let rcpt = pattern.rcpt(&names);
                prop_assert!(rcpt.contains(&local) && rcpt.contains(recipient.domain().as_str()), "{rcpt}");
            }
        }
    }
}
