//! Values of the section about mail logs.
//!
//! Contract: as in `value`.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde::de::Deserializer;

use super::Maillog;
use super::value::{Checked, check_range, checked};

impl Maillog {
    /// Whether the agent follows anything.
    pub fn is_on(&self) -> bool {
        !self.files.is_empty() || self.journal
    }
}

/// More files than this are none of mail servers.
const MAX_LOGS: usize = 32;

pub(super) fn check_files(files: &[PathBuf]) -> Checked {
    if files.len() > MAX_LOGS {
        return Err(format!(
            "{} files: expected at most {MAX_LOGS}",
            files.len()
        ));
    }
    for (i, file) in files.iter().enumerate() {
        let shown = file.display().to_string();
        let folder = file.as_os_str().as_encoded_bytes().ends_with(b"/");
        if !file.is_absolute() || file.file_name().is_none() || folder {
            return Err(format!(
                "{shown:?} is no absolute path of a file, such as /var/log/mail.log"
            ));
        }
        if files[..i].contains(file) {
            return Err(format!("{shown:?} is named twice; name each file once"));
        }
    }
    Ok(())
}

pub(super) fn files<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    checked(from, |files: &Vec<PathBuf>| check_files(files))
}

pub(super) fn check_queue_ids(count: u32) -> Checked {
    check_range(count, &(100..=1 << 22))
}

pub(super) fn queue_ids<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |count: &u32| check_queue_ids(*count))
}

pub(super) fn check_clients(count: u32) -> Checked {
    check_range(count, &(1..=1 << 20))
}

pub(super) fn clients<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |count: &u32| check_clients(*count))
}

/// A time zone by its name in the database of the machine (tzdata).
pub fn parse_time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        format!(
            "{name:?} is no time zone of this machine: name one of `timedatectl list-timezones`, such as \
             Europe/Berlin or UTC (Debian's package tzdata has them)"
        )
    })
}

pub(super) fn time_zone<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked(from, |name: &String| parse_time_zone(name).map(drop)).map(Some)
}

pub(super) fn check_state(folder: &Path) -> Checked {
    if folder.is_absolute() {
        return Ok(());
    }
    Err(format!(
        "{:?} is no absolute path of a folder; the default is {}",
        folder.display().to_string(),
        super::DEFAULT_MAILLOG_STATE
    ))
}

pub(super) fn state<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    checked(from, |folder: &PathBuf| check_state(folder))
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn what_is_no_log_is_refused_with_a_way_out() {
        for (text, expected) in [
            (
                "files = [\"mail.log\"]",
                "no absolute path of a file, such as",
            ),
            (
                "files = [\"/var/log/\"]",
                "no absolute path of a file, such as",
            ),
            ("files = [\"/a\", \"/a\"]", "named twice"),
            (
                "addresses = \"some\"",
                "expected one of `none`, `domain`, `full`",
            ),
            ("queue_ids = 99", "expected 100 to 4194304"),
            ("sources = 0", "expected 1 to 1048576"),
            ("time_zone = \"Mars/Base\"", "timedatectl"),
            ("state = \"maillog\"", "no absolute path of a folder"),
        ] {
            let failure = Config::from_toml("c", &format!("[maillog]\n{text}\n")).expect_err(text);
            let shown = failure.to_string();
            assert!(
                shown.starts_with("c:2:") && shown.contains(expected),
                "{shown}"
            );
        }
    }
}
