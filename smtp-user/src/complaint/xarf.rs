//! A report of XARF, version 4 (<https://xarf.org>).
//!
//! Contract: of the fields that every report must have, those that say who, when and what are needed; all
//! others are passed over, evidence above all. A report about a name or an URL is about no address.

use jiff::Timestamp;
use serde::Deserialize;

use crate::model::complaint::{Complaint, ComplaintForm, ComplaintKind};

/// The fields that are looked at.
#[derive(Deserialize)]
struct Report {
    xarf_version: String,
    report_id: String,
    timestamp: String,
    reporter: Contact,
    source_identifier: String,
    category: String,
    #[serde(rename = "type")]
    kind: String,
    protocol: Option<String>,
    attack_vector: Option<String>,
    destination_port: Option<u16>,
}

#[derive(Deserialize)]
struct Contact {
    domain: String,
}

/// Reads a report that was made at `at`, or else when it says that it all happened.
pub(super) fn read(json: &[u8], at: Option<u64>) -> Result<Complaint, String> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let report: Report = serde_json::from_slice(json)
        .map_err(|error| format!("it is no report of XARF, version 4: {error}"))?;
    if !is_version_4(&report.xarf_version) {
        return Err(format!(
            "it is a report of XARF, version {:?}: expected 4",
            report.xarf_version
        ));
    }
    if !is_uuid(&report.report_id) {
        return Err(format!("report_id: {:?} is no UUID", report.report_id));
    }
    let source = &report.source_identifier;
    let address = source
        .parse()
        .map_err(|_| format!("source_identifier: {source:?} is no address"))?;
    let happened_at = report
        .timestamp
        .parse::<Timestamp>()
        .ok()
        .and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .ok_or_else(|| format!("timestamp: {:?} is no time", report.timestamp))?;
    Ok(Complaint {
        address,
        at: at.unwrap_or(happened_at),
        happened_at: Some(happened_at),
        kind: report.kind(),
        form: ComplaintForm::Xarf,
        reporter: report.reporter.domain,
        reference: report.report_id.to_ascii_lowercase(),
        incidents: 1,
    })
}

impl Report {
    /// Mail ports, RFC 5321 and RFC 8314.
    const MAIL_PORTS: [u16; 3] = [25, 465, 587];

    fn kind(&self) -> ComplaintKind {
        let mail = || {
            self.destination_port
                .is_some_and(|port| Self::MAIL_PORTS.contains(&port))
        };
        match (&*self.category, &*self.kind) {
            ("messaging", _) => ComplaintKind::Spam,
            ("connection", "ddos") if self.is_syn_flood() => ComplaintKind::SynFlood,
            ("connection", "infected_host") if mail() => ComplaintKind::Spam,
            ("copyright", _) | ("content", "brand_infringement") => ComplaintKind::Infringement,
            _ => ComplaintKind::Other,
        }
    }

    fn is_syn_flood(&self) -> bool {
        let vector = self.attack_vector.as_deref().unwrap_or("syn_flood");
        self.protocol.as_deref() == Some("tcp")
            && vector
                .split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| word.eq_ignore_ascii_case("syn"))
    }
}

/// As the schema has it: `^4\.[0-9]+\.[0-9]+$`.
fn is_version_4(version: &str) -> bool {
    let mut numbers = version.split('.');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.next() == Some("4")
        && numbers.next().is_some_and(number)
        && numbers.next().is_some_and(number)
        && numbers.next().is_none()
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The sample connection-ddos.json of the specification, shortened.
    fn sample() -> Value {
        json!({
            "xarf_version": "4.2.0",
            "report_id": "9ac39cd1-85f3-4c31-ae87-a0a95f3ebc83",
            "timestamp": "2025-01-11T09:21:23Z",
            "reporter": {
                "org": "DDoS Protection Service",
                "contact": "ddos@ddos-monitor.example",
                "domain": "ddos-monitor.example"
            },
            "sender": {
                "org": "DDoS Protection Service",
                "contact": "ddos@ddos-monitor.example",
                "domain": "ddos-monitor.example"
            },
            "source_identifier": "192.0.2.155",
            "source_port": 1,
            "category": "connection",
            "type": "ddos",
            "destination_ip": "203.0.113.100",
            "destination_port": 80,
            "protocol": "tcp",
            "attack_vector": "syn_flood",
            "evidence": [{"content_type": "text/plain", "payload": "RERvUw=="}],
            "tags": ["attack:syn_flood"],
            "first_seen": "2025-01-11T08:45:00Z"
        })
    }

    fn read_with(key: &str, value: Value) -> Result<Complaint, String> {
        let mut report = sample();
        report[key] = value;
        read(report.to_string().as_bytes(), None)
    }

    #[test]
    fn the_sample_of_the_specification_is_read() {
        let read = read(sample().to_string().as_bytes(), None).expect("a report");
        let expected = Complaint {
            address: "192.0.2.155".parse().expect("an address"),
            at: 1_736_587_283_000,
            happened_at: Some(1_736_587_283_000),
            kind: ComplaintKind::SynFlood,
            form: ComplaintForm::Xarf,
            reporter: "ddos-monitor.example".to_owned(),
            reference: "9ac39cd1-85f3-4c31-ae87-a0a95f3ebc83".to_owned(),
            incidents: 1,
        };
        assert_eq!(read, expected);
        let later = super::read(sample().to_string().as_bytes(), Some(7)).expect("a report");
        assert_eq!((later.at, later.happened_at), (7, expected.happened_at));
    }

    #[test]
    fn categories_and_types_have_their_kinds() {
        for (fields, expected) in [
            (
                json!({"category": "messaging", "type": "spam"}),
                ComplaintKind::Spam,
            ),
            (
                json!({"category": "messaging", "type": "bulk_messaging"}),
                ComplaintKind::Spam,
            ),
            (
                json!({"protocol": "udp", "attack_vector": "udp_flood"}),
                ComplaintKind::Other,
            ),
            (json!({"attack_vector": "http_flood"}), ComplaintKind::Other),
            (
                json!({"attack_vector": "synthetic_flood"}),
                ComplaintKind::Other,
            ),
            (json!({"attack_vector": null}), ComplaintKind::SynFlood),
            (json!({"attack_vector": "tcp-SYN"}), ComplaintKind::SynFlood),
            (json!({"type": "infected_host"}), ComplaintKind::Other),
            (
                json!({"type": "infected_host", "destination_port": 25}),
                ComplaintKind::Spam,
            ),
            (json!({"type": "port_scan"}), ComplaintKind::Other),
            (
                json!({"category": "copyright", "type": "p2p"}),
                ComplaintKind::Infringement,
            ),
            (
                json!({"category": "content", "type": "brand_infringement"}),
                ComplaintKind::Infringement,
            ),
            (
                json!({"category": "content", "type": "phishing"}),
                ComplaintKind::Other,
            ),
        ] {
            let mut report = sample();
            for (key, value) in fields.as_object().expect("fields") {
                report[key] = value.clone();
            }
            let read = read(report.to_string().as_bytes(), None).expect("a report");
            assert_eq!(read.kind, expected, "{fields}");
        }
    }

    #[test]
    fn what_is_no_report_about_an_address_is_refused() {
        for (key, value, expected) in [
            ("xarf_version", json!("3.1"), "version \"3.1\""),
            ("xarf_version", json!("4.2"), "version \"4.2\""),
            ("xarf_version", json!("4.2.0.1"), "version"),
            ("xarf_version", json!("4..0"), "version"),
            ("xarf_version", json!(4), "no report of XARF"),
            ("report_id", json!("../../etc/passwd"), "no UUID"),
            (
                "report_id",
                json!("9ac39cd1-85f3-4c31-ae87-a0a95f3ebc8\u{20ac}"),
                "no UUID",
            ),
            ("source_identifier", json!("example.com"), "no address"),
            ("source_identifier", json!("192.0.2.155/24"), "no address"),
            ("timestamp", json!("yesterday"), "no time"),
            ("timestamp", json!("1066-10-14T09:00:00Z"), "no time"),
            ("reporter", json!("me"), "no report of XARF"),
            ("destination_port", json!(65_536), "no report of XARF"),
        ] {
            let error = read_with(key, value.clone()).expect_err(key);
            assert!(error.contains(expected), "{key} {value}: {error}");
        }
        // Version 3 has none of these fields.
        let old = br#"{"Version": "3", "ReporterInfo": {}, "Report": {}}"#;
        assert!(read(old, None).is_err());
        let deep = [b"{\"evidence\":".as_slice(), &b"[".repeat(1 << 20)].concat();
        assert!(read(&deep, None).is_err(), "no recursion without end");
    }

    #[test]
    fn a_mark_before_it_and_space_around_it_are_nothing() {
        let text = format!("\u{feff}  {}\n", sample());
        assert!(read(text.as_bytes(), None).is_ok());
    }
}
