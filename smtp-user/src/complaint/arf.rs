//! The machine-readable part of a report: `message/feedback-report` (RFC 5965, section 3).
//!
//! Contract: fields that may stand once and stand twice with different values contradict each other, and
//! nobody is accused by that.

use std::net::IpAddr;

use mail_parser::{DateTime, MessageParser};

use crate::model::complaint::ComplaintKind;

/// Most octets of the part: a page of fields.
const MAX_PART: usize = 64 << 10;
/// How this program is called in reports that it sends itself.
const OURSELVES: &str = "smtpflow";

/// What the part says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// `Source-IP`.
    pub(super) address: IpAddr,
    /// From `Feedback-Type`.
    pub(super) kind: ComplaintKind,
    /// `Arrival-Date`: when the message came that is complained about, in milliseconds since 1970.
    pub(super) happened_at: Option<u64>,
    /// `Incidents`.
    pub(super) incidents: u32,
    /// The first `Reported-Domain`, if it is a domain.
    pub(super) domain: Option<String>,
}

/// Reads the part. What wraps XARF has no address in it: then there is no report.
pub(super) fn read(part: &[u8]) -> Result<Report, String> {
    let fields = Fields::of(part)?;
    let kind = match &*fields.needed("Feedback-Type")?.to_ascii_lowercase() {
        // Reports of this form are about mail.
        "abuse" | "fraud" | "virus" => ComplaintKind::Spam,
        "other" => ComplaintKind::Other,
        "not-spam" => return Err("it says that the mail was no spam (not-spam)".to_owned()),
        other => return Err(format!("a report of type {other:?} is no complaint")),
    };
    let source = fields.needed("Source-IP")?;
    let address = address(source)
        .ok_or_else(|| format!("Source-IP: {source:?} is no address"))?
        .to_canonical();
    let arrival = fields.once("Arrival-Date")?;
    let arrival = match arrival {
        Some(date) => Some(date),
        // As in drafts, and still in use.
        None => fields.once("Received-Date")?,
    };
    let incidents = fields.once("Incidents")?;
    Ok(Report {
        address,
        kind,
        happened_at: arrival.and_then(DateTime::parse_rfc822).and_then(time),
        incidents: incidents.and_then(|text| text.parse().ok()).unwrap_or(1),
        domain: fields
            .all("Reported-Domain")
            .next()
            .filter(|domain| is_domain(domain))
            .map(str::to_ascii_lowercase),
    })
}

fn is_domain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    text.len() <= 253 && text.contains('.') && text.chars().all(plain)
}

/// Refuses what this program has sent itself: a copy of a notice proves nothing.
pub(super) fn check_stranger(part: &[u8]) -> Result<(), String> {
    let Ok(fields) = Fields::of(part) else {
        return Ok(());
    };
    let ourselves = fields.all("User-Agent").any(|agent| {
        let name = agent.split(['/', ' ']).next().unwrap_or_default();
        name.eq_ignore_ascii_case(OURSELVES)
    });
    if ourselves {
        return Err("it is a notice of smtpflow itself (User-Agent)".to_owned());
    }
    Ok(())
}

/// A time of the library in milliseconds since 1970.
pub(super) fn time(date: DateTime) -> Option<u64> {
    if !date.is_valid() {
        return None;
    }
    u64::try_from(date.to_timestamp()).ok()?.checked_mul(1000)
}

/// An address as it is found in reports: plain, in brackets, or as an address literal (RFC 5321,
/// section 4.1.3); what follows is a remark.
fn address(text: &str) -> Option<IpAddr> {
    let word = text.split_whitespace().next()?;
    let word = word
        .strip_prefix('[')
        .map_or(word, |rest| rest.strip_suffix(']').unwrap_or(rest));
    let word = match word.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => &word[5..],
        _ => word,
    };
    word.parse().ok()
}

/// The fields of the part, unfolded.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(part: &[u8]) -> Result<Self, String> {
        if part.len() > MAX_PART {
            return Err(format!("its report is longer than {MAX_PART} octets"));
        }
        // The library wants the empty line that ends a header.
        let mut header = part.to_vec();
        header.extend_from_slice(b"\r\n\r\n");
        let parsed = MessageParser::new()
            .header_raw("Feedback-Type")
            .default_header_raw()
            .parse_headers(&header);
        let parsed = parsed.ok_or("its report has no fields")?;
        let unfolded = |(name, value): (&str, &str)| {
            let words: Vec<_> = value.split_whitespace().collect();
            (name.to_owned(), words.join(" "))
        };
        Ok(Self(parsed.headers_raw().map(unfolded).collect()))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self
            .0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    fn once(&self, name: &'static str) -> Result<Option<&str>, String> {
        let mut values = self.all(name).filter(|value| !value.is_empty());
        let first = values.next();
        if values.any(|other| Some(other) != first) {
            return Err(format!("it has two different {name}"));
        }
        Ok(first)
    }

    fn needed(&self, name: &'static str) -> Result<&str, String> {
        self.once(name)?
            .ok_or_else(|| format!("its report has no {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix B.2 of RFC 5965, the fields that matter.
    const FULL: &str = "Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\n\
        Original-Mail-From: <somespammer@example.net>\r\n\
        Original-Rcpt-To: <user@example.com>\r\n\
        Received-Date: Thu, 8 Mar 2005 14:00:00 EDT\r\n\
        Source-IP: 192.0.2.1\r\n\
        Authentication-Results: mail.example.com\r\n smtp.mail=somespammer@example.com;\r\n spf=fail\r\n\
        Reported-Domain: example.net\r\nReported-Uri: http://example.net/earn_money.html\r\n\
        Removal-Recipient: user@example.com\r\n";

    fn with(fields: &str) -> Result<Report, String> {
        read(format!("Version: 1\nUser-Agent: x/1\n{fields}").as_bytes())
    }

    #[test]
    fn the_example_of_the_standard_is_read() {
        let report = read(FULL.as_bytes()).expect("a report");
        let expected = Report {
            address: "192.0.2.1".parse().expect("an address"),
            kind: ComplaintKind::Spam,
            // 2005-03-08T18:00:00Z
            happened_at: Some(1_110_304_800_000),
            incidents: 1,
            domain: Some("example.net".to_owned()),
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, expected) in [
            ("192.0.2.66", Some("192.0.2.66")),
            ("[192.0.2.66]", Some("192.0.2.66")),
            ("192.0.2.66 (bot.example.org)", Some("192.0.2.66")),
            ("::ffff:192.0.2.66", Some("192.0.2.66")),
            ("2001:db8::66", Some("2001:db8::66")),
            ("[IPv6:2001:db8::66]", Some("2001:db8::66")),
            ("ipv6:2001:db8::66", Some("2001:db8::66")),
            ("bot.example.org", None),
            ("192.0.2.66:25", None),
            ("192.0.2", None),
            ("[", None),
            ("IPv6:", None),
            ("\u{20ac}\u{20ac}\u{20ac}", None),
        ] {
            let read = with(&format!("Feedback-Type: abuse\nSource-IP: {text}\n"));
            let address = read.ok().map(|report| report.address.to_string());
            assert_eq!(address.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_complaint_is_refused() {
        for (fields, expected) in [
            ("Source-IP: 192.0.2.1", "no Feedback-Type"),
            ("Feedback-Type: abuse", "no Source-IP"),
            ("Feedback-Type: abuse\nSource-IP:", "no Source-IP"),
            ("Feedback-Type: not-spam\nSource-IP: 192.0.2.1", "no spam"),
            (
                "Feedback-Type: auth-failure\nSource-IP: 192.0.2.1",
                "\"auth-failure\" is no complaint",
            ),
            (
                "Feedback-Type: abuse\nSource-IP: 192.0.2.1\nSource-IP: 192.0.2.2",
                "two different Source-IP",
            ),
            ("", "no Feedback-Type"),
        ] {
            let error = with(fields).expect_err(fields);
            assert!(error.contains(expected), "{fields}: {error}");
        }
        // Twice the same contradicts nothing, and folding and case change nothing.
        let twice = with("FEEDBACK-TYPE:\n ABUSE\nsource-ip: 192.0.2.1\nSource-IP: 192.0.2.1");
        assert!(twice.is_ok(), "{twice:?}");
        let long = vec![b'x'; MAX_PART + 1];
        assert!(read(&long).expect_err("long").contains("longer than"));
    }

    #[test]
    fn odd_dates_and_numbers_cost_no_complaint() {
        for (field, happened_at, incidents) in [
            (
                "Arrival-Date: Tue, 24 Nov 2026 14:00:00 +0800",
                Some(1_795_500_000_000),
                1,
            ),
            ("Arrival-Date: yesterday", None, 1),
            ("Arrival-Date: Tue, 99 Nov 2026 99:99:99 +9999", None, 1),
            ("Arrival-Date: Thu, 1 Jan 1920 00:00:00 +0000", None, 1),
            ("Incidents: 17", None, 17),
            ("Incidents: -1", None, 1),
            ("Incidents: 99999999999999", None, 1),
        ] {
            let read = with(&format!(
                "Feedback-Type: abuse\nSource-IP: 192.0.2.1\n{field}\n"
            ));
            let report = read.expect(field);
            assert_eq!(
                (report.happened_at, report.incidents),
                (happened_at, incidents),
                "{field}"
            );
        }
    }

    #[test]
    fn a_notice_of_our_own_is_told_apart() {
        for (agent, own) in [
            ("smtpflow/0.1.0", true),
            ("SMTPflow", true),
            ("smtpflow-like/1", false),
            ("SomeGenerator/1.0 (smtpflow)", false),
        ] {
            let part = format!("Feedback-Type: xarf\nUser-Agent: {agent}\n");
            assert_eq!(check_stranger(part.as_bytes()).is_err(), own, "{agent}");
        }
    }
}
