//! The one message of a relay test.
//!
//! Contract: it goes to the operator's own mailbox alone, says what it is and by which host it came, and
//! bears a token by which it is recognised. No line of it begins with a dot.

use std::net::IpAddr;

use super::settings::Mailbox;

/// The header field with the token.
pub const FIELD: &str = "X-Smtpflow-Relay-Test";

/// What a message is made from.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Unique: 32 hexadecimal digits.
    pub(super) token: String,
    /// When it is written, as RFC 5322 has it.
    pub(super) date: String,
}

impl Message {
    /// Its lines, header first, without the final dot.
    pub(super) fn lines(
        &self,
        target: IpAddr,
        pattern: &str,
        sender: &Mailbox,
        recipient: &Mailbox,
        helo: &str,
    ) -> Vec<String> {
        let Self { token, date } = self;
        vec![
            format!("From: <{sender}>"),
            format!("To: <{recipient}>"),
            format!("Subject: smtpflow relay test of {target}"),
            format!("Date: {date}"),
            format!("Message-ID: <{token}@{helo}>"),
            // Nobody answers it by a program (RFC 3834, section 5).
            "Auto-Submitted: auto-generated".to_owned(),
            format!("{FIELD}: {token}"),
            String::new(),
            format!(
                "The mail server at {target} was asked to relay this message by smtpflow relay-test,"
            ),
            format!(
                "with the pattern {pattern}. If you read it, the server relays mail for strangers."
            ),
        ]
    }
}
