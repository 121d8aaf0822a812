//! What was found on each kernel, as the page `docs/kernels.md`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use xtask::guest::Line;

use super::qemu::Accelerator;

/// The page until the table.
const HEAD: &str = "\
# Kernels

Made by `cargo xtask vm --output docs/kernels.md`; do not edit. Each column is a kernel of Debian's for the
cloud in virtual machines of its own, without network, in which the checks of `tests/src/guest` ran. A
machine has two CPUs, unless a row says otherwise. Any other kernel is tried with `cargo xtask vm --kernel FILE`.

The stage `vm` of `cargo xtask test` fails where this page is not what it found. Of releases and counts of
instructions it compares only whether there is one, since they change when Debian's archive has a new release.

";

/// Before who ran the machines.
const PROCESSOR: &str = "The processor was that of";
/// How a check that failed is shown.
const FAILED: &str = "**failed**";

/// A row of the table.
struct Row {
    title: &'static str,
    check: &'static str,
    /// The figures that are shown: the name, and what stands behind the value. None shows how the check
    /// ended.
    figures: &'static [(&'static str, &'static str)],
    /// Whether the figures are those of one release of the kernel, which Debian's archive replaces by the next.
    moves: bool,
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
        moves: false,
    }
}

const fn moving(
    title: &'static str,
    check: &'static str,
    figures: &'static [(&'static str, &'static str)],
) -> Row {
    Row {
        moves: true,
        ..row(title, check, figures)
    }
}

const ROWS: &[Row] = &[
    moving("release", "kernel", &[("release", "")]),
    row("describes its own types (BTF)", "kernel", &[("btf", "")]),
    moving(
        "instructions that the verifier walks in section `xdp`, at most 20,000 allowed",
        "load",
        &[("instructions_xdp", "")],
    ),
    moving(
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
        "root with these alone: ready and in driver mode",
        "capabilities",
        &[("needs", "")],
    ),
    row(
        "nobody with these alone: loads, pins and attaches",
        "least",
        &[("load", "")],
    ),
    row(
        "and then drains, attaches anew and detaches with",
        "least",
        &[("run", "")],
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
    /// One of which nothing is known.
    pub fn new(kernel: &str) -> Self {
        Self {
            kernel: kernel.to_owned(),
            lines: Vec::new(),
        }
    }

    /// How many checks ended how, in a line.
    pub fn summary(&self, failed: usize) -> String {
        let count = |is: fn(&Line) -> bool| self.lines.iter().filter(|line| is(line)).count();
        let ok = count(|line| matches!(line, Line::Ok(_)));
        let without = count(|line| matches!(line, Line::Without(..)));
        let release = self.figure("kernel", "release").unwrap_or_default();
        let Self { kernel, .. } = self;
        format!("{kernel:<10} {ok} ok, {without} without, {failed} failed {release}")
            .trim_end()
            .to_owned()
    }

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

/// The first line of the page `old` that is not what `new` says, with both. Of the rows that move with the
/// releases in Debian's archive, it is compared whether there is a figure; who ran the machines is not.
pub fn difference(old: &str, new: &str) -> Option<String> {
    let moves = |line: &str| {
        let mut rows = ROWS.iter().filter(|row| row.moves);
        rows.any(|row| line.starts_with(&format!("| {} |", row.title)))
    };
    let stable = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.starts_with(PROCESSOR))
            .map(|line| match moves(line) {
                true => {
                    let mut cells: Vec<&str> = line.split(" | ").collect();
                    for cell in &mut cells[1..] {
                        if cell.starts_with(|c: char| c.is_ascii_digit()) {
                            *cell = "a figure";
                        }
                    }
                    cells.join(" | ")
                }
                false => line.to_owned(),
            })
            .collect()
    };
    let (old, new) = (stable(old), stable(new));
    let nothing = String::from("nothing");
    (0..old.len().max(new.len())).find_map(|at| {
        let [old, new] = [&old, &new].map(|lines| lines.get(at).unwrap_or(&nothing));
        (old != new).then(|| format!("line {}\n  it says    {old}\n  was found  {new}", at + 1))
    })
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
    let _ = writeln!(text, "\n{PROCESSOR} {accelerator}.");
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
    fn a_page_is_compared_but_for_what_moves_with_a_release() {
        let good = |release: &str, instructions: &str, memory: &str| {
            let mut column = column("6.1", |check| Line::Ok(check.to_owned()));
            column
                .lines
                .retain(|line| !matches!(line, Line::Figure(..)));
            for (check, name, value) in [
                ("kernel", "release", release),
                ("load", "instructions_xdp", instructions),
                ("many-cpus", "mebibytes", memory),
            ] {
                let figure = Line::Figure(check.to_owned(), name.to_owned(), value.to_owned());
                column.lines.push(figure);
            }
            column
        };
        let emulated = |column| page(&[column], Accelerator::Tcg).expect("a page");
        let old = emulated(good("6.1.0-50", "17345", "345"));
        let newer = emulated(good("6.1.0-51", "17001", "345"));
        assert_eq!(difference(&old, &newer), None);
        let kvm = page(&[good("6.1.0-50", "17345", "345")], Accelerator::Kvm);
        assert_eq!(difference(&old, &kvm.expect("a page")), None);

        let more = difference(&old, &emulated(good("6.1.0-50", "17345", "346")));
        assert!(more.expect("memory is compared").contains("346 MiB"));
        let unknown = old.replace("| 17345 |", "| no |");
        let unknown = difference(&old, &unknown).expect("no figure is no figure");
        assert!(unknown.contains("| no |"), "{unknown}");
        let longer = difference(&old, &format!("{old}\n- 6.1: nothing\n"));
        assert!(longer.expect("more lines").contains("says    nothing"));
        assert!(difference(&old.replace("yes", "no"), &old).is_some());
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
