//! One host as a report in XARF, version 4, of the type `connection/infected_host`.
//!
//! Contract: what the schema asks for is there, and nothing that was not counted: flows show neither a sender nor a
//! kind of malware. The same notice has the same number of a report for the same host, in every attempt and
//! every time it is made anew.
//! Source: xarf-spec, schemas/v4/xarf-core.json and types/connection-infected-host.json.

use std::num::Wrapping;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::evidence::shown;
use super::settings::domain_of;
use crate::counted::counted;
use crate::model::notice::Facts;
use crate::model::period::rfc3339;

/// The version of the schemas that this was written by.
const VERSION: &str = "4.2.0";
/// The port that is counted.
const PORT: u16 = 25;

/// Who reports.
pub(super) struct Reporter<'a> {
    pub(super) organisation: &'a str,
    pub(super) mail: &'a str,
}

/// The report about a host, in the notice of this Message-ID; `evidence` is what its owner reads.
pub(super) fn report(
    reporter: &Reporter<'_>,
    message_id: &str,
    facts: &Facts,
    evidence: &str,
) -> Value {
    let contact = json!({
        "org": reporter.organisation,
        "contact": reporter.mail,
        "domain": domain_of(reporter.mail),
    });
    let host = shown(facts.host);
    let seconds = facts.period.length() as f64 / 1000.0;
    let mut report = json!({
        "xarf_version": VERSION,
        "report_id": report_id(message_id, &host),
        "timestamp": rfc3339(facts.last_at),
        "reporter": contact,
        "sender": contact,
        "source_identifier": host,
        "category": "connection",
        "type": "infected_host",
        "protocol": "tcp",
        "destination_port": PORT,
        "bot_type": "unknown",
        "first_seen": rfc3339(facts.first_at.min(facts.last_at)),
        "last_seen": rfc3339(facts.last_at),
        "total_requests": facts.connections.max(1),
        "evidence_source": "flow_analysis",
        "description": format!(
            "{} to TCP port {PORT} of {} from {} to {}; servers sent data on {} of them",
            counted(facts.connections, "connection"),
            counted(facts.servers, "server"),
            rfc3339(facts.period.from),
            rfc3339(facts.period.to),
            facts.conversations,
        ),
        "evidence": [{
            "content_type": "text/plain",
            "description": "Counts of the gateway for this source",
            "payload": STANDARD.encode(evidence),
            "size": evidence.len(),
        }],
        "tags": [format!("smtpflow:{}", facts.severity.name())],
    });
    if seconds > 0.0 {
        report["request_rate"] = json!(facts.connections as f64 / seconds);
    }
    report
}

/// The number of a report, in the form of a UUID of version 4 (RFC 9562), made from what is to be the same.
fn report_id(message_id: &str, host: &str) -> String {
    // FNV-1a of 128 bits: this is a name, and keeps nothing secret.
    let mut hash = Wrapping(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128);
    let octets = message_id.bytes().chain([0]).chain(host.bytes());
    for octet in octets {
        hash ^= u128::from(octet);
        hash *= 0x0000_0000_0100_0000_0000_0000_0000_013b_u128;
    }
    let version = 0x4_u128 << 76;
    let variant = 0b10_u128 << 62;
    let id = hash.0 & !(0xf << 76) & !(0b11 << 62) | version | variant;
    let hex = format!("{id:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_number_of_its_notice_and_host() {
        let one = report_id("a@example.org", "192.0.2.1");
        assert_eq!(one, report_id("a@example.org", "192.0.2.1"));
        assert_ne!(one, report_id("b@example.org", "192.0.2.1"));
        assert_ne!(one, report_id("a@example.org", "192.0.2.2"));
        assert_ne!(report_id("a", "b1"), report_id("ab", "1"));
        let octets: Vec<char> = one.chars().collect();
        assert_eq!(octets.len(), 36, "{one}");
        assert_eq!(octets[14], '4', "{one}");
        assert!("89ab".contains(octets[19]), "{one}");
    }
}
