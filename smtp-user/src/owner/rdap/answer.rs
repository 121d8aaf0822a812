//! What an answer of RDAP about a network says (RFC 9083), with contacts as jCards (RFC 7095).
//!
//! Contract: a pure function. However an answer is nested, at most [`ENTITIES`] entities in [`DEPTH`] levels
//! are looked at. Only who has the role `abuse` is somebody to complain to.

use std::net::IpAddr;

use serde_json::Value;

use super::super::whois::add;
use crate::model::owner::{Contact, clean};

/// Most levels of entities in entities.
const DEPTH: usize = 8;
/// Most entities.
const ENTITIES: usize = 1000;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    /// Who is to be told of abuse.
    pub(super) contact: Option<Contact>,
    /// What it is called and where it begins and ends.
    pub(super) network: Option<String>,
    /// Where the network around it is described.
    pub(super) parent: Option<String>,
}

/// Reads an answer about the network of an address; one about another network is an error.
pub(super) fn read(body: &[u8], address: IpAddr) -> Result<Network, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("this is no JSON: {error}"))?;
    if json["objectClassName"] != "ip network" {
        return Err("this is no answer about a network".to_owned());
    }
    let end = |name: &str| -> Result<IpAddr, String> {
        let text = json[name].as_str().unwrap_or_default();
        text.parse()
            .map_err(|_| format!("its {name} is no address"))
    };
    let (first, last) = (end("startAddress")?, end("endAddress")?);
    // Ordered only within a family.
    let about = first.is_ipv4() == address.is_ipv4()
        && last.is_ipv4() == address.is_ipv4()
        && (first..=last).contains(&address);
    if !about {
        return Err(format!(
            "the answer is about {first} - {last}, which is another network"
        ));
    }
    let name = json["name"].as_str().and_then(clean);
    let network = match &name {
        Some(name) => format!("{name}, {first} - {last}"),
        None => format!("{first} - {last}"),
    };
    // As RFC 9083 has it, and as registries write it that can be searched upwards (extension rirSearch1).
    let parent = ["up", "rdap-up"].iter().find_map(|rel| {
        let mut links = json["links"].as_array().into_iter().flatten();
        let link = links.find(|link| link["rel"] == *rel)?;
        link["href"].as_str().map(str::to_owned)
    });
    Ok(Network {
        contact: abuse(&json).map(|contact| Contact {
            name: if contact.name.is_empty() {
                name.unwrap_or_else(|| contact.mail[0].clone())
            } else {
                contact.name
            },
            ..contact
        }),
        network: Some(network),
        parent,
    })
}

/// The contact for abuse that is the least deep, with an address.
fn abuse(json: &Value) -> Option<Contact> {
    let mut level: Vec<&Value> = vec![json];
    let mut seen = 0;
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for entity in level.iter().copied().flat_map(entities) {
            seen += 1;
            if seen > ENTITIES {
                return None;
            }
            let roles = entity["roles"].as_array();
            if roles.is_some_and(|roles| roles.iter().any(|role| role == "abuse"))
                && let Some(contact) = card(entity)
            {
                return Some(contact);
            }
            below.push(entity);
        }
        if below.is_empty() {
            return None;
        }
        level = below;
    }
    None
}

fn entities(above: &Value) -> impl Iterator<Item = &Value> {
    above["entities"].as_array().into_iter().flatten()
}

/// The contact of a jCard, if it has a mail address: `["vcard", [[NAME, PARAMETERS, TYPE, VALUE], ...]]`.
fn card(entity: &Value) -> Option<Contact> {
    let mut contact = Contact::default();
    for property in entity["vcardArray"][1].as_array()? {
        // Some properties have values in parts.
        let value = property[3].as_str().unwrap_or_default();
        match property[0].as_str() {
            Some("fn") => contact.name = clean(value).unwrap_or_default(),
            Some("email") => add(&mut contact.mail, value.trim()),
            Some("tel") if contact.phone.is_none() => {
                contact.phone = clean(value.strip_prefix("tel:").unwrap_or(value));
            }
            _ => {}
        }
    }
    (!contact.mail.is_empty()).then_some(contact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// An answer as registries give it: the registrant, in whom the contact for abuse is.
    fn recorded() -> Value {
        serde_json::json!({
            "objectClassName": "ip network",
            "handle": "NET-192-0-2-0-1",
            "startAddress": "192.0.2.0",
            "endAddress": "192.0.2.255",
            "name": "EXAMPLE",
            "links": [
                {"rel": "self", "href": "https://rdap.example/ip/192.0.2.0/24"},
                {"rel": "up", "href": "https://rdap.example/ip/192.0.0.0/16"}
            ],
            "entities": [{
                "objectClassName": "entity",
                "handle": "EX-1",
                "roles": ["registrant"],
                "vcardArray": ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", "Example Ltd"],
                    ["adr", {}, "text", ["", "", "Street 1", "Town", "", "1", "X"]]]],
                "entities": [{
                    "roles": ["technical", "abuse"],
                    "vcardArray": ["vcard", [["fn", {}, "text", "Abuse\r\nDesk"], ["email", {}, "text", "abuse@example.net"],
                        ["email", {}, "text", "x@y\r\nBcc: z@z"], ["tel", {"type": "voice"}, "uri", "tel:+1-555-0100"]]]
                }]
            }]
        })
    }

    fn of(json: &Value, address: &str) -> Result<Network, String> {
        read(json.to_string().as_bytes(), ip(address))
    }

    #[test]
    fn the_contact_for_abuse_is_found_where_it_is_nested() {
        let network = of(&recorded(), "192.0.2.7").expect("an answer");
        let contact = network.contact.expect("somebody");
        assert_eq!(contact.name, "Abuse\u{fffd}\u{fffd}Desk");
        assert_eq!(contact.mail, ["abuse@example.net"]);
        assert_eq!(contact.phone.as_deref(), Some("+1-555-0100"));
        assert_eq!(
            network.network.as_deref(),
            Some("EXAMPLE, 192.0.2.0 - 192.0.2.255")
        );
        assert_eq!(
            network.parent.as_deref(),
            Some("https://rdap.example/ip/192.0.0.0/16")
        );
    }

    #[test]
    fn the_network_around_is_named_in_either_way() {
        let mut json = recorded();
        json["links"] = serde_json::json!([
            {"rel": "rdap-up rdap-active", "href": "https://rdap.example/active"},
            {"rel": "rdap-up", "href": "https://rdap.example/ips/rirSearch1/rdap-up/192.0.2.0%20-%20192.0.2.255"},
        ]);
        let parent = |json: &Value| of(json, "192.0.2.7").expect("an answer").parent;
        assert_eq!(
            parent(&json).as_deref(),
            Some("https://rdap.example/ips/rirSearch1/rdap-up/192.0.2.0%20-%20192.0.2.255")
        );
        let up = serde_json::json!({"rel": "up", "href": "https://rdap.example/up"});
        json["links"].as_array_mut().expect("links").push(up);
        assert_eq!(parent(&json).as_deref(), Some("https://rdap.example/up"));
        json["links"] =
            serde_json::json!([{"rel": "rdap-top", "href": "https://rdap.example/top"}]);
        assert_eq!(parent(&json), None);
    }

    #[test]
    fn who_has_another_role_is_not_complained_to() {
        let mut json = recorded();
        json["entities"][0]["entities"][0]["roles"] = serde_json::json!(["technical"]);
        assert_eq!(of(&json, "192.0.2.7").expect("an answer").contact, None);
    }

    #[test]
    fn an_answer_about_something_else_is_none() {
        for address in ["192.0.3.0", "2001:db8::1"] {
            let error = of(&recorded(), address).expect_err("another network");
            assert!(error.contains("another network"), "{error}");
        }
        for body in [
            &b""[..],
            b"{}",
            b"[]",
            b"null",
            br#"{"objectClassName": "domain"}"#,
            br#"{"objectClassName": "ip network"}"#,
        ] {
            assert!(
                read(body, ip("192.0.2.1")).is_err(),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        // Deeper than the parser goes.
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(read(&deep, ip("192.0.2.1")).is_err());
    }

    #[test]
    fn entities_without_end_are_not_looked_at() {
        let mut json = recorded();
        let who = json["entities"][0]["entities"][0].clone();
        let mut nested = who.clone();
        for _ in 0..20 {
            nested = serde_json::json!({"roles": [], "entities": [nested]});
        }
        json["entities"] = serde_json::json!([nested]);
        assert_eq!(of(&json, "192.0.2.7").expect("an answer").contact, None);
        let mut many: Vec<Value> = vec![serde_json::json!({"roles": []}); ENTITIES];
        many.push(who);
        json["entities"] = many.into();
        assert_eq!(of(&json, "192.0.2.7").expect("an answer").contact, None);
    }
}
