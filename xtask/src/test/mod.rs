//! `cargo xtask test`: every check and test of the project, one line per stage with its time, and at
//! last `N passed, N failed` alone on a line.
//!
//! [`STAGES`] is the list; after it comes one stage per file of `tests/tests`, so that a new file is
//! a new stage. A stage that fails does not stop the others, except those that need it. What a stage
//! wrote is in `target/xtask/STAGE.log`; the end of it is shown when the stage fails.

mod nightly;
mod report;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::setpriority_process;
use xtask::command::{self, Ended};
use xtask::interrupt;

use crate::{apt, bench, package, setup, tools, vm, workspace};
use report::Counts;

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Run only this stage and those that it needs; may be given several times
    #[arg(long = "stage", value_name = "NAME")]
    stages: Vec<String>,
    /// Show the stages and end
    #[arg(long)]
    list: bool,
    /// Run the proofs at their full size: hours, not minutes
    #[arg(long)]
    long: bool,
}

/// What a stage does.
#[derive(Debug, Clone)]
enum Work {
    /// A function of this program.
    Call(fn() -> Result<()>),
    /// Cargo with these arguments; it passes or it fails.
    Check(&'static [&'static str]),
    /// Cargo with these arguments; its tests are counted.
    Tests(&'static [&'static str]),
    /// The same with the cargo of the nightly toolchain.
    Nightly(&'static [&'static str]),
    /// The tests of one file of `tests/tests`. They share the machine's kernel: one at a time.
    File,
}

#[derive(Debug, Clone)]
struct Stage {
    name: String,
    needs: &'static [&'static str],
    limit: Duration,
    work: Work,
}

/// The stages before the integration tests: name, what must have passed, minutes, work. The limits
/// are for a cold build on two slow cores.
const STAGES: &[(&str, &[&str], u64, Work)] = &[
    ("setup", &[], 30, Work::Call(setup::run)),
    ("packages", &[], 30, Work::Call(packages)),
    ("fmt", &[], 5, Work::Check(FMT)),
    ("build", &["setup"], 30, Work::Check(&["build", "--locked"])),
    ("tests", &["build"], 30, Work::Check(TESTS)),
    ("nightly", &["setup"], 60, Work::Call(nightly::provide)),
    ("vm", &["setup"], 40, Work::Call(vm::stage)),
    ("clippy", &["setup"], 30, Work::Check(CLIPPY)),
    ("clippy-ebpf", &[], 15, Work::Check(CLIPPY_EBPF)),
    ("doc", &["setup"], 15, Work::Check(DOC)),
    ("unit", &["setup"], 30, Work::Tests(UNIT)),
    ("bench", &["setup"], 30, Work::Call(bench::smoke)),
    ("packagers", &["packages"], 30, Work::Call(packagers)),
    ("miri", &["nightly"], 30, Work::Nightly(MIRI)),
    (
        "libfuzzer",
        &["nightly", "packages", "build"],
        180,
        Work::Call(nightly::libfuzzer),
    ),
];

/// Run with `--long` only, or when named: libFuzzer's build of everything takes longer than CI has.
const LONG_ONLY: &[&str] = &["libfuzzer"];

/// Run beside the others, row beside row: they need processors' time, and the other stages, which mostly wait,
/// leave much of it. What is judged by a clock does not feel what has the lowest priority.
const BESIDE: [Row; 2] = [
    Row {
        after: BEFORE,
        stages: &["packagers", "miri", "gateway", "package"],
    },
    Row {
        after: COMPILED,
        stages: &[
            "scenarios",
            "replay",
            "owner",
            "owner_servers",
            "relay_test",
            "evidence",
            "maillog",
            "complaints",
            "notice",
            "story",
            "http",
            "monitoring",
            "netns",
            "privileges",
            "service",
            "targets",
            "top",
            "refresh",
            "reload",
            "reports",
            "store",
            "transparency",
            "verdicts",
            "visitor",
        ],
    },
];
/// Run before anything is beside: machines run by emulation fall behind their own clocks where they have to
/// share, and one that gets a hundredth of a processor does nothing any more but answer its timer.
const BEFORE: &str = "vm";
/// The last of those that compile, which leave nothing for agents and servers that answer within a limit.
const COMPILED: &str = "bench";
/// Run when nothing is beside any more: it judges how an agent does on a machine of its own.
const AFTER: &str = "soak";
/// The lowest priority (setpriority(2)).
const LOWEST: i32 = 19;

const FMT: &[&str] = &["fmt", "--check", "--", "--color=never"];

/// All files of `tests/tests` at once, before anything is beside: who compiles at the lowest priority holds up
/// every other who wants to compile.
const TESTS: &[&str] = &["test", "--locked", "--no-run", "--package=smtpflow-tests"];

const CLIPPY: &[&str] = &[
    "clippy",
    "--locked",
    "--all-targets",
    "--package=smtp-common",
    "--package=smtp-user",
    "--package=xtask",
    "--package=smtpflow-tests",
    "--",
    "--deny=warnings",
];

// Apart from the rest: together with a std crate, its panic handler would be defined twice. For the
// host, since the compiler for the bpf target has no clippy; a host program without std cannot unwind.
const CLIPPY_EBPF: &[&str] = &[
    "clippy",
    "--config=profile.dev.panic='abort'",
    "--locked",
    "--package=smtp-ebpf",
    "--",
    "--deny=warnings",
];

/// Links in the documentation that lead nowhere are errors (`[workspace.lints.rustdoc]`).
const DOC: &[&str] = &[
    "doc",
    "--locked",
    "--no-deps",
    "--package=smtp-common",
    "--package=smtp-user",
    "--package=xtask",
    "--package=smtpflow-tests",
];

const UNIT: &[&str] = &[
    "test",
    "--locked",
    // Or the packages behind a failure would not be counted.
    "--no-fail-fast",
    "--package=smtp-common",
    "--package=smtp-user",
    "--package=xtask",
];

/// The cursor and the tables, under an interpreter that looks at every access. Left out is what counts
/// to a million for its statistics or enumerates 65,536 ports: it reaches no access that others do not.
const MIRI: &[&str] = &[
    "miri",
    "test",
    "--locked",
    "--no-fail-fast",
    "--package=smtp-common",
    "--lib",
    "--tests",
    "--",
    "--skip=spread_over",
    "--skip=are_missed_as_often",
    "--skip=every_combination_of_flags",
    "--skip=exactly_when_it_is_named",
    "--skip=most_whole_frames_and_some_damaged",
];

/// What the integration tests need, and how long one file of them may take.
const FILE_NEEDS: &[&str] = &["packages", "build"];
/// What the files about the package need.
const PACKAGE_NEEDS: &[&str] = &["packagers", "build"];
const FILE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What tells a test to run at its full size; `smtpflow_tests::long` reads it.
const LONG: &str = "SMTPFLOW_LONG";
/// How many times longer than in its usual form a stage may take with `--long`.
const LONG_FACTOR: u32 = 12;

/// Stages that run beside the others, one after the other in this order.
struct Row {
    /// The stage before which they do not begin.
    after: &'static str,
    stages: &'static [&'static str],
}

/// How a stage ended.
#[derive(Debug)]
struct Outcome {
    counts: Counts,
    /// Why it failed, with what it wrote last.
    problem: Option<String>,
}

/// Runs the stages and says how many tests passed and failed.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let mut stages = chosen(all_stages()?, &args.stages)?;
    if !args.long && args.stages.is_empty() {
        stages.retain(|stage| !LONG_ONLY.contains(&stage.name.as_str()));
    }
    if args.list {
        for stage in &stages {
            println!("{}", stage.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    apt::require_root("`cargo xtask test`", "cargo xtask test")?;
    let begun = Instant::now();
    let (beside, stages) = if args.stages.is_empty() {
        apart(stages)
    } else {
        (Vec::new(), stages)
    };
    let (after, stages): (Vec<_>, Vec<_>) =
        stages.into_iter().partition(|stage| stage.name == AFTER);
    let mut lane = both(&stages, &beside, args.long);
    lane.run_all(&after);
    let total = lane.total;
    println!("{:<14} {:>8}", "total", seconds(begun.elapsed()));
    println!("{total}");
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Those of each row of [`BESIDE`], in its order, and the rest.
fn apart(mut stages: Vec<Stage>) -> (Vec<(&'static str, Vec<Stage>)>, Vec<Stage>) {
    let mut rows = Vec::new();
    for row in &BESIDE {
        let place = |stage: &Stage| row.stages.iter().position(|name| *name == stage.name);
        let (mut own, rest): (Vec<_>, Vec<_>) =
            stages.into_iter().partition(|stage| place(stage).is_some());
        own.sort_by_key(place);
        rows.push((row.after, own));
        stages = rest;
    }
    (rows, stages)
}

/// Runs stages one after the other, and rows of others beside them as soon as they may begin and what they need has
/// run.
fn both(stages: &[Stage], beside: &[(&'static str, Vec<Stage>)], long: bool) -> Lane {
    let own = |need: &&&str| stages.iter().any(|stage| stage.name == **need);
    let mut waiting: Vec<(Vec<&str>, &[Stage])> = beside
        .iter()
        .map(|(after, row)| {
            let needs = row.iter().flat_map(|stage| stage.needs).chain([after]);
            (needs.filter(own).copied().collect(), &row[..])
        })
        .collect();
    let mut lane = Lane::new(long);
    thread::scope(|scope| {
        let mut others = Vec::new();
        for (at, stage) in stages.iter().enumerate() {
            if lane.is_stopped() {
                break;
            }
            lane.run(stage);
            waiting.retain(|(needs, row)| {
                let has_run = |need: &&str| stages[..=at].iter().any(|stage| stage.name == **need);
                if !needs.iter().all(has_run) {
                    return true;
                }
                let (mut own, row) = (lane.beside(), *row);
                others.push(scope.spawn(move || {
                    // Of this thread, and so of all that it starts.
                    if let Err(error) = setpriority_process(None, LOWEST) {
                        println!(
                            "cannot lower the priority of what runs beside the stages: {error}"
                        );
                    }
                    own.run_all(row);
                    own.total
                }));
                false
            });
        }
        for other in others {
            // A stage that panics has said so.
            lane.total
                .add(other.join().unwrap_or_else(|_| Counts::one_failed()));
        }
    });
    lane
}

/// Stages that run one after the other.
struct Lane {
    long: bool,
    total: Counts,
    failed: Vec<String>,
    stopped: bool,
}

impl Lane {
    fn new(long: bool) -> Self {
        Self {
            long,
            total: Counts::default(),
            failed: Vec::new(),
            stopped: false,
        }
    }

    /// Another, which knows what has failed in this one.
    fn beside(&self) -> Self {
        Self {
            failed: self.failed.clone(),
            ..Self::new(self.long)
        }
    }

    /// Whether no more is to be run, on request. It says so, and what was left out is a failure.
    fn is_stopped(&mut self) -> bool {
        if interrupt::requested() && !self.stopped {
            println!("stopped on request");
            self.total.add(Counts::one_failed());
            self.stopped = true;
        }
        self.stopped
    }

    /// Runs these.
    fn run_all(&mut self, stages: &[Stage]) {
        for stage in stages {
            if self.is_stopped() {
                break;
            }
            self.run(stage);
        }
    }

    /// Runs one, if what it needs has not failed, and shows how that ended.
    fn run(&mut self, stage: &Stage) {
        let missing = stage
            .needs
            .iter()
            .find(|need| self.failed.iter().any(|name| name == *need));
        let outcome = match missing {
            Some(need) => Outcome {
                counts: Counts::one_failed(),
                problem: Some(format!(
                    "{}: not run: it needs the stage {need}",
                    stage.name
                )),
            },
            None => perform(stage, self.long),
        };
        self.total.add(outcome.counts);
        if let Some(problem) = outcome.problem {
            self.failed.push(stage.name.clone());
            println!("{}\n", indent(&problem));
        }
    }
}

/// The table and the files of `tests/tests`.
fn all_stages() -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = STAGES
        .iter()
        .map(|(name, needs, minutes, work)| Stage {
            name: (*name).to_owned(),
            needs,
            limit: Duration::from_secs(minutes * 60),
            work: work.clone(),
        })
        .collect();
    let folder = workspace::root().join("tests/tests");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read the folder {}", folder.display()))?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    files.sort();
    stages.extend(files.into_iter().map(|name| Stage {
        needs: if name == "package" || name == "gateway" {
            PACKAGE_NEEDS
        } else {
            FILE_NEEDS
        },
        name,
        limit: FILE_LIMIT,
        work: Work::File,
    }));
    Ok(stages)
}

fn chosen(all: Vec<Stage>, names: &[String]) -> Result<Vec<Stage>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| all.iter().all(|stage| stage.name != **name))
    {
        let have: Vec<&str> = all.iter().map(|stage| stage.name.as_str()).collect();
        bail!("no stage {unknown} (have: {})", have.join(", "));
    }
    // What a stage needs comes before it, so one pass from the back finds all that is wanted.
    let mut wanted = names.to_vec();
    let mut stages: Vec<Stage> = all
        .into_iter()
        .rev()
        .filter(|stage| {
            let take = names.is_empty() || wanted.contains(&stage.name);
            if take {
                wanted.extend(stage.needs.iter().map(|need| (*need).to_owned()));
            }
            take
        })
        .collect();
    stages.reverse();
    Ok(stages)
}

fn perform(stage: &Stage, long: bool) -> Outcome {
    let begun = Instant::now();
    // On a terminal the name stands there while the stage runs; stages that speak have their say first.
    let live = std::io::stdout().is_terminal() && !matches!(stage.work, Work::Call(_));
    if live {
        print!("{:<14} ...\r", stage.name);
        // A terminal that cannot be written to is no reason to stop testing.
        let _ = std::io::stdout().flush();
    }
    let outcome = attempt(stage, long).unwrap_or_else(|error| Outcome {
        counts: Counts::one_failed(),
        problem: Some(format!("{error:#}")),
    });
    let word = if outcome.problem.is_some() {
        "FAILED"
    } else {
        "ok"
    };
    let counted = match stage.work {
        Work::Tests(_) | Work::Nightly(_) | Work::File => format!("{}", outcome.counts),
        Work::Call(_) | Work::Check(_) => String::new(),
    };
    let line = format!(
        "{:<14} {:>8}  {word:<6} {counted}",
        stage.name,
        seconds(begun.elapsed())
    );
    println!("{}", line.trim_end());
    outcome
}

fn attempt(stage: &Stage, long: bool) -> Result<Outcome> {
    let file = [
        "test",
        "--locked",
        "--package=smtpflow-tests",
        "--test",
        stage.name.as_str(),
        "--",
        "--test-threads=1",
        // What a proof has measured belongs into the log of its stage.
        "--show-output",
    ];
    let (arguments, counted): (&[&str], bool) = match &stage.work {
        Work::Call(function) => {
            return function().map(|()| Outcome {
                counts: Counts::one_passed(),
                problem: None,
            });
        }
        Work::Check(arguments) => (arguments, false),
        Work::Tests(arguments) | Work::Nightly(arguments) => (arguments, true),
        Work::File => (&file, true),
    };
    let log = workspace::log(&stage.name)?;
    let mut command = match stage.work {
        Work::Nightly(_) => nightly::cargo(arguments)?,
        _ => workspace::cargo(arguments)?,
    };
    command
        .env("CARGO_TERM_COLOR", "never")
        .env(LONG, if long { "1" } else { "0" });
    let limit = stage.limit * if long { LONG_FACTOR } else { 1 };
    let ended = command::logged(&mut command, &log, limit)?;
    let text = command::read_lossy(&log);
    let (counts, why) = report::judge(ended_well(ended), counted.then_some(&text));
    let problem = why.map(|why| {
        let why = match ended {
            Ended::Exited(status) => format!("{why} ({status})"),
            Ended::TimedOut => format!("killed after {} s", limit.as_secs()),
            Ended::Interrupted => "stopped on request".to_owned(),
        };
        format!(
            "{why}; the end of {}:\n{}",
            log.display(),
            command::tail(&text, 80)
        )
    });
    Ok(Outcome { counts, problem })
}

fn ended_well(ended: Ended) -> bool {
    matches!(ended, Ended::Exited(status) if status.success())
}

/// The stage `packagers`: what the stage `package` needs.
fn packagers() -> Result<()> {
    apt::provide("the package", &[apt::PACKAGING])?;
    package::provide_tools()
}

/// The stage `packages`.
fn packages() -> Result<()> {
    apt::provide(
        "the tests",
        &[
            apt::LABORATORY,
            apt::ORACLES,
            apt::DAWDLERS,
            apt::ROUTERS,
            apt::RELAYING,
            apt::MONITORING,
            apt::BROWSER,
            apt::PYTHON,
        ],
    )?;
    apt::provide_prometheus()?;
    apt::provide_opensmtpd()?;
    apt::provide_qemu()?;
    tools::provide()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn indent(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stage_needs_comes_before_it() {
        for (at, (name, needs, _, _)) in STAGES.iter().enumerate() {
            for need in *needs {
                assert!(
                    STAGES[..at].iter().any(|(earlier, ..)| earlier == need),
                    "{name} needs {need}, which does not come before it"
                );
            }
        }
        for need in FILE_NEEDS {
            assert!(STAGES.iter().any(|(name, ..)| name == need), "{need}");
        }
    }

    #[test]
    fn what_runs_beside_needs_what_runs_before_it_there_or_in_the_other_lane() {
        let all = all_stages().expect("the folder is there");
        let (beside, rest) = apart(all);
        for ((after, row), wanted) in beside.iter().zip(&BESIDE) {
            assert_eq!(row.len(), wanted.stages.len(), "a stage that is none");
            assert!(rest.iter().any(|stage| stage.name == *after), "{after}");
            for (at, stage) in row.iter().enumerate() {
                for need in stage.needs {
                    let mut before = row[..at].iter().chain(&rest);
                    assert!(
                        before.any(|stage| stage.name == *need),
                        "{} needs {need}",
                        stage.name
                    );
                }
                let later = rest
                    .iter()
                    .find(|other| other.needs.contains(&stage.name.as_str()));
                assert!(later.is_none(), "{later:?} would not wait");
            }
        }
    }

    #[test]
    fn an_unknown_stage_is_refused_with_the_known_ones() {
        let all = || all_stages().expect("the folder is there");
        let error = chosen(all(), &["nonsense".into()]).expect_err("no such stage");
        assert!(format!("{error}").contains("clippy"), "{error}");
    }

    #[test]
    fn a_chosen_stage_brings_what_it_needs() {
        let names = |stage: &str| -> Vec<String> {
            let all = all_stages().expect("the folder is there");
            let stages = chosen(all, &[stage.to_owned()]).expect("a stage");
            stages.into_iter().map(|stage| stage.name).collect()
        };
        assert_eq!(names("fmt"), ["fmt"]);
        assert_eq!(names("unit"), ["setup", "unit"]);
    }
}
