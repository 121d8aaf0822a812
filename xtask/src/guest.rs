//! What a virtual machine says to the task that booted it: one line for each thing, over a serial line
//! of its own.
//!
//! Contract: the guest writes [`Line`]s and nothing else, `begin` before a check and one of `ok`,
//! `failed`, `without` after it, figures in between, and `end` when all is done. A check that began
//! and has no end is a failure, and so is a machine that does not come to `end`. Text is one line.

use std::fmt;
use std::time::Duration;

/// What is before every line, so that nothing else is taken for one.
const MARK: &str = "smtpflow-guest ";
/// The word of the kernel's command line that says what to check, as `smtpflow.checks=a,b`. Words with a dot
/// are taken for options of modules, and nothing else is made of them.
pub const CHECKS: &str = "smtpflow.checks";
/// The device of the line, a second serial port: the kernel's own words have the first.
pub const DEVICE: &str = "/dev/ttyS1";
/// What a check writes to its standard output before the name of a figure and its value.
pub const FIGURE: &str = "figure ";
/// What it writes before the reason why this kernel cannot do what it looks for, and what is done instead.
pub const WITHOUT: &str = "without ";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The guest runs; the kernel's release.
    Hello(String),
    /// A check begins, and may take so long.
    Begin(String, Duration),
    /// What a check found: its name, the figure's, the value.
    Figure(String, String, String),
    /// The check has found what was expected.
    Ok(String),
    /// It has not, and why.
    Failed(String, String),
    /// This kernel cannot do it: why, and what is done instead, which the check has found to work.
    Without(String, String),
    /// All is done, and the machine switches itself off.
    End,
}

impl Line {
    /// Reads a line; `None` is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix(MARK)?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let two = || rest.split_once(' ').unwrap_or((rest, ""));
        let owned = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        Some(match word {
            "hello" => Self::Hello(rest.to_owned()),
            "begin" => {
                let (name, seconds) = two();
                Self::Begin(name.to_owned(), Duration::from_secs(seconds.parse().ok()?))
            }
            "figure" => {
                let (check, figure) = two();
                let (name, value) = owned(figure.split_once(' ')?);
                Self::Figure(check.to_owned(), name, value)
            }
            "ok" => Self::Ok(rest.to_owned()),
            "failed" => {
                let (name, why) = owned(two());
                Self::Failed(name, why)
            }
            "without" => {
                let (name, why) = owned(two());
                Self::Without(name, why)
            }
            "end" => Self::End,
            _ => return None,
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        f.write_str(MARK)?;
        match self {
            Self::Hello(release) => write!(f, "hello {release}"),
            Self::Begin(name, limit) => write!(f, "begin {name} {}", limit.as_secs()),
            Self::Figure(check, name, value) => write!(f, "figure {check} {name} {}", flat(value)),
            Self::Ok(name) => write!(f, "ok {name}"),
            Self::Failed(name, why) => write!(f, "failed {name} {}", flat(why)),
            Self::Without(name, why) => write!(f, "without {name} {}", flat(why)),
            Self::End => f.write_str("end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_as_it_was_written() {
        let text = |text: &str| text.to_owned();
        for line in [
            Line::Hello(text("5.10.0-32-cloud-amd64")),
            Line::Begin(text("load"), Duration::from_secs(60)),
            Line::Figure(text("load"), text("xdp"), text("8123 instructions")),
            Line::Ok(text("load")),
            Line::Failed(text("load"), text("no such program")),
            Line::Without(text("frags"), text("EINVAL; section xdp instead")),
            Line::End,
        ] {
            assert_eq!(Line::parse(&format!("{line}\r\n")), Some(line));
        }
    }

    #[test]
    fn what_has_line_breaks_becomes_one_line() {
        let line = Line::Failed("load".to_owned(), "left: 1\n  right: 2".to_owned());
        assert_eq!(
            line.to_string(),
            "smtpflow-guest failed load left: 1 right: 2"
        );
    }

    #[test]
    fn the_words_of_the_kernel_are_no_lines() {
        for text in [
            "[    0.1] end",
            "end",
            "",
            "smtpflow-guest",
            "smtpflow-guest x",
        ] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
