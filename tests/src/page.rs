//! A page of the documentation that is played: the files that it shows, its commands in their order, and what it shows
//! of what they say.
//!
//! Contract: a command is a line of a block `console` that begins with `$ `, and what follows it is what it says, shortened by
//! lines with nothing but `...`. Numbers and times may differ from run to run, words and addresses may not.

use std::net::IpAddr;

use ipnet::IpNet;

/// A line that stands for any number of lines.
const CUT: &str = "...";

/// A command, and what the page shows of what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As it is typed.
    pub command: String,
    /// Lines, of which some are `CUT`.
    pub says: Vec<String>,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// Of this text in Markdown.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// All blocks of a language, one behind the other.
    pub fn blocks(&self, language: &str) -> String {
        let fence = format!("```{language}\n");
        let blocks = self.text.split(&fence).skip(1);
        blocks
            .map(|block| block.split("```").next().expect("a part"))
            .collect()
    }

    /// The page with this in the place of what its commands say, in their order.
    pub fn with(&self, said: &[Vec<String>]) -> String {
        let mut said = said.iter();
        let mut text = String::new();
        let mut is_said = false;
        for line in self.text.lines() {
            if line.starts_with("```") || line.starts_with("$ ") {
                is_said = false;
            }
            if !is_said {
                text.push_str(line);
                text.push('\n');
            }
            if line.starts_with("$ ") {
                is_said = true;
                for line in said.next().into_iter().flatten() {
                    text.push_str(line.trim_end());
                    text.push('\n');
                }
            }
        }
        text
    }

    /// The commands in their order.
    pub fn commands(&self) -> Vec<Shown> {
        let mut commands: Vec<Shown> = Vec::new();
        for line in self.blocks("console").lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push(Shown {
                    command: command.to_owned(),
                    says: Vec::new(),
                }),
                (None, Some(last)) => last.says.push(line.to_owned()),
                (None, None) => panic!("{line:?} stands before the first command"),
            }
        }
        commands
    }
}

impl Shown {
    /// What was said, shortened as the page has it.
    ///
    /// # Errors
    ///
    /// The page shows what was not said.
    pub fn shorten(&self, said: &str) -> Result<Vec<String>, String> {
        let mut rest = said.lines().filter(|line| !line.trim().is_empty());
        let mut shortened = Vec::new();
        let mut is_cut = false;
        for line in &self.says {
            if line.trim() == CUT {
                is_cut = true;
            }
            if line.trim() == CUT || line.trim().is_empty() {
                shortened.push(line.clone());
                continue;
            }
            let expected = form(line);
            let found = match is_cut {
                true => rest.find(|said| form(said) == expected),
                false => rest.next().filter(|said| form(said) == expected),
            };
            shortened.push(
                found
                    .ok_or_else(|| format!("the page shows {line:?}"))?
                    .to_owned(),
            );
            is_cut = false;
        }
        match rest.next() {
            Some(line) if !is_cut => Err(format!("the page does not show {line:?}")),
            _ => Ok(shortened),
        }
    }
}

/// Whether this looks like a queue id, of which some have no digit.
fn is_id(word: &str) -> bool {
    word.len() >= 8 && word.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F'))
}

/// Whether this is a length of time, of which `1m 10s` has two.
fn is_length(word: &str) -> bool {
    let number = word.strip_suffix(['d', 'h', 'm', 's']);
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// What is the same in every run: the words of a line, in which `#` stands for those with a digit that are no addresses.
fn form(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_address = bare.parse::<IpAddr>().is_ok() || bare.parse::<IpNet>().is_ok();
        let word = if word.chars().all(|c| c == '-') {
            // As long as the column is wide.
            "-"
        } else if is_length(word) {
            "#s"
        } else if !is_address && (is_id(bare) || word.chars().any(|c| c.is_ascii_digit())) {
            "#"
        } else {
            word
        };
        if word != "#s" || words.last() != Some(&word) {
            words.push(word);
        }
    }
    words.join(" ")
}
