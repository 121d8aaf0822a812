//! Whose host an address is, as a document.

use super::document::{Document, Table, text};
use crate::model::owner::{Contact, Finding, Outcome, Owner, Route};

/// The answer, and under it what each source says.
pub fn document(owner: &Owner) -> Document {
    let mut tables = Vec::new();
    let notes = match owner.contact() {
        Some(contact) => {
            tables.push(Table::facts("contact", "contact", &facts(contact)));
            vec![format!("owner: {}", contact.name)]
        }
        None => vec!["owner: nobody is named".to_owned()],
    };
    tables.push(Table {
        name: "sources",
        title: "what the sources say".to_owned(),
        columns: vec![
            text("source"),
            text("outcome"),
            text("what"),
            text("age"),
            text("from"),
        ],
        rows: owner.findings.iter().map(row).collect(),
        ..Table::default()
    });
    Document {
        title: format!("owner of {}", owner.address),
        notes,
        tables,
    }
}

/// Who, and how to reach them: what each text is, and the text.
pub fn facts(contact: &Contact) -> Vec<(&'static str, String)> {
    let Contact {
        name,
        mail,
        phone,
        note,
    } = contact;
    let mut facts = vec![("name", name.clone())];
    facts.extend(mail.iter().map(|mail| ("mail", mail.clone())));
    facts.extend(phone.iter().map(|phone| ("phone", phone.clone())));
    facts.extend(note.iter().map(|note| ("note", note.clone())));
    facts
}

/// Of a source: which one, its outcome, what it says, how old that is, where it is from.
pub fn row(finding: &Finding) -> Vec<String> {
    let (outcome, what) = match &finding.outcome {
        Outcome::Found {
            contact,
            network,
            route,
        } => {
            let mut what = contact.name.clone();
            if let Some(network) = network {
                what = format!("{what} for {network}");
            }
            if let Some(route) = route {
                what = format!("{what}, {}", shown(route));
            }
            ("found", what)
        }
        Outcome::Nobody { reason, route } => {
            let what = match route {
                Some(route) => format!("{reason} ({})", shown(route)),
                None => reason.clone(),
            };
            ("nobody", what)
        }
        Outcome::Failed { reason } => ("failed", reason.clone()),
    };
    vec![
        finding.source.name().to_owned(),
        outcome.to_owned(),
        what,
        finding.age.map_or_else(|| "-".to_owned(), age),
        finding.provenance.clone(),
    ]
}

fn shown(route: &Route) -> String {
    let mut text = format!("route {}", route.destination);
    if let Some(hop) = route.next_hop {
        text = format!("{text} via {hop}");
    }
    if let Some(interface) = &route.interface {
        text = format!("{text} on {interface}");
    }
    text
}

/// In the largest unit that it fills twice.
fn age(seconds: u64) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= 2 * length {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::HOSTILE;
    use super::*;
    use crate::model::owner::OwnerSource;

    #[test]
    fn the_answer_says_who_and_how_that_is_known() {
        let owner = Owner {
            address: "192.0.2.7".parse().expect("an address"),
            findings: vec![
                Finding {
                    source: OwnerSource::Contacts,
                    provenance: "the files with contacts".to_owned(),
                    age: None,
                    outcome: Outcome::Failed {
                        reason: HOSTILE.to_owned(),
                    },
                },
                Finding {
                    source: OwnerSource::Routers,
                    provenance: "the router border, a.toml:3".to_owned(),
                    age: Some(7300),
                    outcome: Outcome::Found {
                        contact: Contact {
                            name: "Physics".to_owned(),
                            mail: vec!["abuse@physics.example".to_owned()],
                            phone: None,
                            note: Some("by day".to_owned()),
                        },
                        network: Some("192.0.2.0/24".to_owned()),
                        route: Some(Route {
                            destination: "192.0.2.0/24".parse().expect("a prefix"),
                            next_hop: Some("198.51.100.7".parse().expect("an address")),
                            interface: None,
                        }),
                    },
                },
            ],
        };
        let text = document(&owner).text();
        for part in [
            "owner of 192.0.2.7\nowner: Physics\n",
            "abuse@physics.example",
            "by day",
            "Physics for 192.0.2.0/24, route 192.0.2.0/24 via 198.51.100.7",
            "2 h  the router border, a.toml:3",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text:?}");
        let nobody = document(&Owner {
            findings: Vec::new(),
            ..owner
        });
        assert!(nobody.text().contains("nobody is named"));
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, expected) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 m"),
            (7300, "2 h"),
            (200_000, "2 d"),
        ] {
            assert_eq!(age(seconds), expected);
        }
    }
}
