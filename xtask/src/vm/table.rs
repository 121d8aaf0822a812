//! What was found on each kernel, as the page `docs/kernels.md`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use xtask::guest::Line;

use super::qemu::Accelerator;

/// The page until the table.
const HEAD: &str = "\
# Kernels

Made by `cargo xtask vm --output docs/kernels.md`; do not edit. Each column is a kernel of Debian's for the
cloud in a virtual machine of its own, without network, in which the checks of `tests/src/guest` ran. The
machine has two CPUs, unless a row says otherwise. Any other kernel is tried with `cargo xtask vm --kernel FILE`.

";

/// How a check that failed is shown.
const FAILED: &str = "**failed**";

/// A row of the table.
struct Row {
    title: &'static str,
    check: &'static str,
    /// The figures that are shown: the name, and what stands behind the value. None shows how the check
    /// ended.
    figures: &'static [(&'static str, &'static str)],
}

const fn row(
    title: &'static str,
    check: &'static str,
    figures: &'static [(&'static str, &'static str)],
) -> Row {
    Row {
        title,
        check,
        figures,
    }
}

const ROWS: &[Row] = &[
    row("release", "kernel", &[("release", "")]),
    row("describes its own types (BTF)", "kernel", &[("btf", "")]),
    row(
        "instructions that the verifier walks in section `xdp`, at most 20,000 allowed",
        "load",
        &[("instructions_xdp", "")],
    ),
    row(
        "the same in section `xdp.frags`",
        "load",
        &[("instructions_xdp.frags", "")],
    ),
    row(
        "every kind of frame passes unchanged and ends as expected",
        "frames",
        &[],
    ),
    row(
        "driver mode, MTU 1500: counts are exact",
        "driver",
        &[("section", "")],
    ),
    row("skb mode: counts are exact", "skb", &[]),
    row("driver mode, MTU 9000: counts are exact", "jumbo", &[]),
    row("the same where BTF is hidden", "no-btf", &[]),
    row("flips under load lose and double nothing", "flips", &[]),
    row("killed at each point of a drain and at random", "kill", &[]),
    row("upgraded under load", "upgrade", &[]),
    row("a CPU goes and comes back under load", "hotplug", &[]),
    row(
        "2 CPUs of 72 possible: counts are exact; kernel memory of all tables",
        "many-cpus",
        &[("mebibytes", " MiB")],
    ),
    row(
        "capabilities to load and attach",
        "capabilities",
        &[("needs", "")],
    ),
];

/// What was found on one kernel.
pub struct Column {
    /// What the kernel is called.
    pub kernel: String,
    /// What all its machines said.
    pub lines: Vec<Line>,
}

impl Column {
    fn figure(&self, check: &str, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| match line {
            Line::Figure(of, figure, value) if of == check && figure == name => Some(&**value),
            _ => None,
        })
    }

    /// How a check ended, in a word.
    fn end(&self, check: &str) -> Option<&'static str> {
        self.lines.iter().find_map(|line| match line {
            Line::Ok(of) if of == check => Some("yes"),
            Line::Without(of, _) if of == check => Some("no"),
            Line::Failed(of, _) if of == check => Some(FAILED),
            _ => None,
        })
    }

    fn cell(&self, row: &Row) -> Result<String> {
        let end = self
            .end(row.check)
            .with_context(|| format!("{}: the check {} did not run", self.kernel, row.check))?;
        let figures: Vec<String> = row
            .figures
            .iter()
            .filter_map(|(name, unit)| Some(format!("{}{unit}", self.figure(row.check, name)?)))
            .collect();
        Ok(match (row.figures.is_empty(), end) {
            (true, _) => end.to_owned(),
            (false, FAILED) => format!("{} {FAILED}", figures.join(", ")).trim().to_owned(),
            (false, _) if figures.is_empty() => "no".to_owned(),
            (false, _) => figures.join(", "),
        })
    }
}

/// The whole page.
pub fn page(columns: &[Column], accelerator: Accelerator) -> Result<String> {
    let mut text = HEAD.to_owned();
    let names: Vec<&str> = columns
        .iter()
        .map(|column| column.kernel.as_str())
        .collect();
    // Writing to a string does not fail.
    let _ = writeln!(text, "| | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
    for row in ROWS {
        let cells = columns
            .iter()
            .map(|column| column.cell(row))
            .collect::<Result<Vec<_>>>()?;
        let _ = writeln!(text, "| {} | {} |", row.title, cells.join(" | "));
    }
    let _ = writeln!(text, "\nThe processor was that of {accelerator}.");
    let _ = writeln!(text, "\n## What a kernel has not\n");
    let mut all = true;
    for column in columns {
        for line in &column.lines {
            if let Line::Without(_, why) = line {
                all = false;
                let _ = writeln!(text, "- {}: {why}", column.kernel);
            }
        }
    }
    if all {
        let _ = writeln!(text, "Nothing that is used here.");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kernel: &str, ends: impl Fn(&str) -> Line) -> Column {
        let mut checks: Vec<&str> = ROWS.iter().map(|row| row.check).collect();
        checks.dedup();
        let mut lines: Vec<Line> = checks.into_iter().map(ends).collect();
        let figure = |check: &str, name: &str, value: &str| {
            Line::Figure(check.to_owned(), name.to_owned(), value.to_owned())
        };
        lines.push(figure("kernel", "release", "5.10.0-32"));
        lines.push(figure("many-cpus", "mebibytes", "300"));
        Column {
            kernel: kernel.to_owned(),
            lines,
        }
    }

    #[test]
    fn a_page_has_a_column_for_each_kernel_and_says_what_one_has_not() {
        let good = column("6.1", |check| Line::Ok(check.to_owned()));
        let poor = column("5.10", |check| match check {
            "jumbo" => Line::Without(check.to_owned(), "skb mode in its place".to_owned()),
            "skb" => Line::Failed(check.to_owned(), "lost".to_owned()),
            _ => Line::Ok(check.to_owned()),
        });
        let page = page(&[poor, good], Accelerator::Tcg).expect("every check has ended");
        for part in [
            "| | 5.10 | 6.1 |\n|---|---|---|\n",
            "| release | 5.10.0-32 | 5.10.0-32 |\n",
            "| driver mode, MTU 9000: counts are exact | no | yes |\n",
            "| skb mode: counts are exact | **failed** | yes |\n",
            "tables | 300 MiB | 300 MiB |\n",
            "- 5.10: skb mode in its place\n",
        ] {
            assert!(page.contains(part), "{part} in:\n{page}");
        }
    }

    #[test]
    fn a_check_that_did_not_run_makes_no_page() {
        let mut column = column("6.1", |check| Line::Ok(check.to_owned()));
        column
            .lines
            .retain(|line| *line != Line::Ok("flips".to_owned()));
        let error = page(&[column], Accelerator::Tcg).expect_err("flips is missing");
        assert!(error.to_string().contains("flips"), "{error}");
    }
}
