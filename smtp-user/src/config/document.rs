//! The configuration as it is written down, with the documentation of every key.
//!
//! Contract: what is printed is read back as it was.

use std::fmt::Write as _;

use super::{
    Agent, Alertmanager, Config, History, Maillog, Meter, Metrics, Networks, Serve, Store, Table,
};
use crate::detect::{self, DETECTORS, RELAY_EXAMPLE};
use crate::{complaint, notice, owner, relay_test};

/// A section as it is printed: its name, what it is about, its keys with their documentation.
type Section = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static [&'static str])],
);

/// The sections in the order in which they are printed, but for those of the detectors.
pub(super) const SECTIONS: &[Section] = &[
    ("meter", Meter::ABOUT, Meter::KEYS),
    ("agent", Agent::ABOUT, Agent::KEYS),
    ("table", Table::ABOUT, Table::KEYS),
    ("networks", Networks::ABOUT, Networks::KEYS),
    ("history", History::ABOUT, History::KEYS),
    ("store", Store::ABOUT, Store::KEYS),
    ("serve", Serve::ABOUT, Serve::KEYS),
    ("metrics", Metrics::ABOUT, Metrics::KEYS),
    ("alertmanager", Alertmanager::ABOUT, Alertmanager::KEYS),
    ("owner", owner::Settings::ABOUT, owner::Settings::KEYS),
    (
        "relay_test",
        relay_test::Settings::ABOUT,
        relay_test::Settings::KEYS,
    ),
    ("maillog", Maillog::ABOUT, Maillog::KEYS),
    (
        "complaint",
        complaint::Settings::ABOUT,
        complaint::Settings::KEYS,
    ),
    ("notice", notice::Settings::ABOUT, notice::Settings::KEYS),
    ("detect", detect::Settings::ABOUT, detect::Settings::KEYS),
];

impl Config {
    /// Every section with its documentation and its keys, in the order of the file: of each key its
    /// name, the lines of its documentation and its shipped value, if it has one.
    pub fn documentation() -> Vec<DocumentedSection> {
        let table = toml::Table::try_from(Self::default()).expect("every value has a form in TOML");
        let documented =
            |name: String, about: &Lines, keys: &[(&str, &Lines)], values: &toml::Value| {
                DocumentedSection {
                    name,
                    about: join(about),
                    keys: keys
                        .iter()
                        .map(|(key, docs)| DocumentedKey {
                            name: (*key).to_owned(),
                            about: join(docs),
                            default: values.get(key).map(toml::Value::to_string),
                        })
                        .collect(),
                }
            };
        let mut sections = Vec::new();
        for (section, about, keys) in SECTIONS {
            sections.push(documented(
                (*section).to_owned(),
                about,
                keys,
                &table[*section],
            ));
        }
        for entry in DETECTORS {
            let values = &table["detect"][entry.name];
            let name = format!("detect.{}", entry.name);
            sections.push(documented(name, entry.about, entry.keys, values));
        }
        sections
    }

    /// The configuration as a file that [`Config::from_toml`] reads back, with the documentation of
    /// every key above it.
    pub fn to_toml(&self) -> String {
        let table = toml::Table::try_from(self).expect("every value has a form in TOML");
        let mut text = String::new();
        for (section, about, keys) in SECTIONS {
            print(&mut text, section, about, keys, &table[*section]);
        }
        for entry in DETECTORS {
            let section = format!("detect.{}", entry.name);
            let values = &table["detect"][entry.name];
            print(&mut text, &section, entry.about, entry.keys, values);
        }
        text.push('\n');
        text.push_str(RELAY_EXAMPLE);
        for relay in table["relay"].as_array().into_iter().flatten() {
            text.push_str("\n[[relay]]\n");
            text.push_str(
                &relay
                    .as_table()
                    .map(toml::Table::to_string)
                    .unwrap_or_default(),
            );
        }
        text.push('\n');
        text.push_str(owner::ROUTER_EXAMPLE);
        for router in table["owner"]["router"].as_array().into_iter().flatten() {
            text.push_str("\n[[owner.router]]\n");
            text.push_str(
                &router
                    .as_table()
                    .map(toml::Table::to_string)
                    .unwrap_or_default(),
            );
        }
        text
    }
}

/// A section with its documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedSection {
    /// As in brackets.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Its keys, in their order.
    pub keys: Vec<DocumentedKey>,
}

/// A key with its documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedKey {
    /// Its name in the section.
    pub name: String,
    /// What it says.
    pub about: String,
    /// Its shipped value in TOML; `None` where it is not set.
    pub default: Option<String>,
}

type Lines = [&'static str];

/// Lines of documentation, each of which begins with a space, as one text.
fn join(lines: &Lines) -> String {
    lines.concat().trim().to_owned()
}

/// A section with the documentation of all that is in it.
fn print(
    text: &mut String,
    section: &str,
    about: &[&str],
    keys: &[(&str, &[&str])],
    values: &toml::Value,
) {
    if !text.is_empty() {
        text.push('\n');
    }
    comment(text, about);
    let _ = writeln!(text, "[{section}]");
    for (key, docs) in keys {
        comment(text, docs);
        let _ = match values.get(key) {
            Some(value) => writeln!(text, "{key} = {value}"),
            None => writeln!(text, "# {key} = (not set)"),
        };
    }
}

/// Lines of documentation, each of which begins with a space.
fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{line}");
    }
}
