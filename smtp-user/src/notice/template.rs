//! Texts of notices, in the operator's languages.
//!
//! Contract: a text that was let through has every section and no word in braces that is not filled, so filling
//! cannot fail. What is filled in is text of one line, or of several on a line of its own, which get its
//! indentation; it is never looked at for braces again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::settings::Settings;
use crate::failure::{Failure, Kind};
use crate::model::notice::NoticeKind;

/// The languages that are shipped, and their texts.
pub const SHIPPED: &[(&str, &str)] = &[
    ("en", include_str!("languages/en.txt")),
    ("de", include_str!("languages/de.txt")),
    ("fr", include_str!("languages/fr.txt")),
    ("zh_tw", include_str!("languages/zh_tw.txt")),
];
/// The longest text of a language, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// What stands between two languages.
const BETWEEN: &str = "\n* * *\n\n";

/// Words that may stand in the text of a message.
const IN_MESSAGE: &[&str] = &[
    "case",
    "hosts",
    "window",
    "name",
    "organisation",
    "evidence",
    "filter",
    "list",
];
/// Words that may stand in that of a digest.
const IN_DIGEST: &[&str] = &["count", "organisation", "waiting"];
const IN_HOST: &[&str] = &[
    "host",
    "severity",
    "rules",
    "first",
    "last",
    "from",
    "to",
    "connections",
    "servers",
    "conversations",
    "delivered",
    "rejected",
    "packets",
    "bytes",
    "mean",
    "log",
    "complaint",
];
const IN_LOG: &[&str] = &["messages", "recipients", "rejects", "since"];
const IN_COMPLAINT: &[&str] = &["address"];
const IN_WAITING: &[&str] = &["number", "mail", "subject"];

/// What is filled in.
pub(super) type Values<'a> = BTreeMap<&'a str, String>;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Word(&'static str),
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    /// Of a message.
    subject: Vec<Piece>,
    lines: Vec<Vec<Piece>>,
}

/// The texts of one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Language {
    messages: Vec<(NoticeKind, Section)>,
    host: Section,
    log: Section,
    complaint: Section,
    waiting: Section,
}

/// The texts of all languages that a notice is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates {
    languages: Vec<Language>,
}

impl Templates {
    /// Those of these settings: the operator's own files, and what is shipped where he has none.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is no such text.
    pub fn load(settings: &Settings) -> Result<Self, Failure> {
        let mut languages = Vec::new();
        for name in &settings.languages {
            let shipped = SHIPPED.iter().find(|(shipped, _)| shipped == name);
            let own = match &settings.templates {
                Some(folder) => {
                    let path = folder.join(format!("{name}.txt"));
                    read(&path)?.map(|text| (path.display().to_string(), text))
                }
                None => None,
            };
            let (from, text) = match (own, shipped) {
                (Some(own), _) => own,
                (None, Some((name, text))) => ((*name).to_owned(), (*text).to_owned()),
                (None, None) => {
                    let folder = settings.templates.clone().unwrap_or_default();
                    return Err(Failure::new(
                        Kind::BadConfig,
                        format!(
                            "there is no text in {name:?}: no {} and none that is shipped; write one \
                             (`smtpflow notice templates` prints one to begin with), or change notice.languages",
                            folder.join(format!("{name}.txt")).display()
                        ),
                    ));
                }
            };
            let language = Language::parse(&text).map_err(|(line, error)| {
                Failure::new(Kind::BadConfig, format!("{from}:{line}: {error}"))
            })?;
            languages.push(language);
        }
        Ok(Self { languages })
    }

    /// The languages, the first one first.
    pub(super) fn languages(&self) -> &[Language] {
        &self.languages
    }

    /// Bodies of several languages as one.
    pub(super) fn join(bodies: &[String]) -> String {
        bodies.join(BETWEEN)
    }
}

/// The text of a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |error: &dyn std::fmt::Display, kind| {
        Failure::new(
            kind,
            format!(
                "cannot read the text of notices {} (notice.templates): {error}",
                path.display()
            ),
        )
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(failed(&error, Kind::NoPermission));
        }
        Err(error) => return Err(failed(&error, Kind::BadConfig)),
    };
    let mut text = String::new();
    file.take(MAX_TEXT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(&error, Kind::BadConfig))?;
    if text.len() > MAX_TEXT {
        let error = format!("it is longer than {} KiB", MAX_TEXT >> 10);
        return Err(failed(&error, Kind::BadConfig));
    }
    Ok(Some(text))
}

impl Language {
    /// A text, or the line that is wrong and why.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut sections: BTreeMap<&str, (usize, Section)> = BTreeMap::new();
        let mut current: Option<(&str, &[&str], bool)> = None;
        let mut number = 0;
        for line in text.lines() {
            number += 1;
            let wrong = |error: String| (number, error);
            if line.contains(|c: char| c.is_control() && c != '\t') {
                return Err(wrong("there is a control character in it".to_owned()));
            }
            if let Some(name) = line.strip_prefix("== ") {
                let name = name.trim();
                let (words, message) = words_of(name).ok_or_else(|| {
                    let names: Vec<_> = all_sections().collect();
                    wrong(format!(
                        "there is no section {name:?}: expected one of {}",
                        names.join(", ")
                    ))
                })?;
                let empty = Section {
                    subject: Vec::new(),
                    lines: Vec::new(),
                };
                if sections.insert(name, (number, empty)).is_some() {
                    return Err(wrong(format!("there is another section {name:?}")));
                }
                current = Some((name, words, message));
                continue;
            }
            let Some((name, words, message)) = current else {
                if line.trim().is_empty() || line.starts_with('#') {
                    continue;
                }
                return Err(wrong(
                    "this is above all sections: begin one, as \"== first\", or make it a comment with #".to_owned(),
                ));
            };
            let Some((_, section)) = sections.get_mut(name) else {
                continue;
            };
            let is_first = message && section.subject.is_empty();
            let part = match (is_first, line.strip_prefix("Subject: ")) {
                (false, _) => line,
                (true, Some(subject)) if !subject.trim().is_empty() => subject.trim(),
                (true, _) => {
                    return Err(wrong(format!(
                        "the section {name:?} begins with its subject, as \"Subject: {{hosts}}\""
                    )));
                }
            };
            let pieces = pieces(part, words).map_err(wrong)?;
            match is_first {
                true => section.subject = pieces,
                false => section.lines.push(pieces),
            }
        }
        for (_, section) in sections.values_mut() {
            let is_empty = |line: &Vec<Piece>| line.is_empty();
            while section.lines.last().is_some_and(is_empty) {
                section.lines.pop();
            }
            let empty = section
                .lines
                .iter()
                .take_while(|line| is_empty(line))
                .count();
            section.lines.drain(..empty);
        }
        let mut take = |name: &'static str| {
            let (line, section) = sections
                .remove(name)
                .ok_or_else(|| (number, format!("the section \"== {name}\" is missing")))?;
            match section.lines.is_empty() {
                true => Err((line, format!("the section {name:?} has no text"))),
                false => Ok(section),
            }
        };
        let mut messages = Vec::new();
        for kind in NoticeKind::ALL {
            messages.push((kind, take(kind.name())?));
        }
        Ok(Self {
            messages,
            host: take("host")?,
            log: take("log")?,
            complaint: take("complaint")?,
            waiting: take("waiting")?,
        })
    }

    /// Subject and body of a message.
    pub(super) fn message(&self, kind: NoticeKind, values: &Values<'_>) -> (String, String) {
        let found = self.messages.iter().find(|(of, _)| *of == kind);
        found.map_or_else(Default::default, |(_, section)| {
            (filled(&section.subject, values), section.fill(values))
        })
    }

    pub(super) fn host(&self, values: &Values<'_>) -> String {
        self.host.fill(values)
    }

    pub(super) fn log(&self, values: &Values<'_>) -> String {
        self.log.fill(values)
    }

    pub(super) fn complaint(&self, values: &Values<'_>) -> String {
        self.complaint.fill(values)
    }

    pub(super) fn waiting(&self, values: &Values<'_>) -> String {
        self.waiting.fill(values)
    }
}

/// The names of all sections.
fn all_sections() -> impl Iterator<Item = &'static str> {
    let kinds = NoticeKind::ALL.into_iter().map(NoticeKind::name);
    kinds.chain(["host", "log", "complaint", "waiting"])
}

/// The words that may stand in a section, and whether it is a message.
fn words_of(section: &str) -> Option<(&'static [&'static str], bool)> {
    match section {
        "host" => Some((IN_HOST, false)),
        "log" => Some((IN_LOG, false)),
        "complaint" => Some((IN_COMPLAINT, false)),
        "waiting" => Some((IN_WAITING, false)),
        "digest" => Some((IN_DIGEST, true)),
        name => {
            let mut kinds = NoticeKind::ALL.into_iter();
            kinds
                .any(|kind| kind.name() == name)
                .then_some((IN_MESSAGE, true))
        }
    }
}

/// A line as text and words.
fn pieces(line: &str, words: &[&'static str]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = line.trim_end();
    while let Some((text, behind)) = rest.split_once('{') {
        let Some((word, behind)) = behind.split_once('}') else {
            return Err("a brace is opened and not closed".to_owned());
        };
        let known = words.iter().find(|known| **known == word).ok_or_else(|| {
            format!(
                "{{{word}}} is nothing that can be filled in here: expected one of {}",
                words.join(", ")
            )
        })?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        pieces.push(Piece::Word(known));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn value<'a>(values: &'a Values<'_>, word: &str) -> &'a str {
    values.get(word).map_or("", String::as_str)
}

/// A line with its words replaced.
fn filled(line: &[Piece], values: &Values<'_>) -> String {
    line.iter()
        .map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Word(word) => value(values, word),
        })
        .collect()
}

impl Section {
    fn fill(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for line in &self.lines {
            // A word on a line of its own may be of several lines, or of none.
            let (indentation, word) = match &line[..] {
                [Piece::Word(word)] => ("", *word),
                [Piece::Text(space), Piece::Word(word)] if space.trim().is_empty() => {
                    (&**space, *word)
                }
                _ => {
                    text.push_str(&filled(line, values));
                    text.push('\n');
                    continue;
                }
            };
            for line in value(values, word).lines() {
                if !line.is_empty() {
                    text.push_str(indentation);
                    text.push_str(line);
                }
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
