//! Reads what cargo's test harness wrote, and judges a stage by it.

use std::fmt;

/// Tests that passed and tests that failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and stages that failed without naming a test.
    pub failed: u64,
}

impl Counts {
    /// A stage that is one check, and passed.
    pub fn one_passed() -> Self {
        Self {
            passed: 1,
            failed: 0,
        }
    }

    /// A stage that is one check, and failed.
    pub fn one_failed() -> Self {
        Self {
            passed: 0,
            failed: 1,
        }
    }

    /// Adds another stage's counts.
    pub fn add(&mut self, other: Self) {
        let Self { passed, failed } = other;
        self.passed += passed;
        self.failed += failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed } = self;
        write!(f, "{passed} passed, {failed} failed")
    }
}

/// What a stage counts for, and why it failed if it did. `well` is whether the command ended with
/// success; `log` is what it wrote if its tests are to be counted. A stage that should have run tests
/// and ran none has failed: silence proves nothing.
pub fn judge(well: bool, log: Option<&str>) -> (Counts, Option<&'static str>) {
    let Some(log) = log else {
        return if well {
            (Counts::one_passed(), None)
        } else {
            (Counts::one_failed(), Some("failed"))
        };
    };
    let mut counts = count(log);
    let why = if !well && counts.failed == 0 {
        counts.failed = 1;
        Some("failed before or beside its tests")
    } else if !well || counts.failed > 0 {
        Some("tests failed")
    } else if counts.passed == 0 {
        counts.failed = 1;
        Some("no test was run")
    } else {
        None
    };
    (counts, why)
}

/// The sum over the lines "test result: ok. 12 passed; 0 failed; 1 ignored; ...".
fn count(log: &str) -> Counts {
    let mut counts = Counts::default();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once("test result: ") else {
            continue;
        };
        let figure = |what: &str| -> u64 {
            rest.split([';', '.'])
                .filter_map(|part| part.trim().strip_suffix(what))
                .find_map(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        counts.add(Counts {
            passed: figure("passed"),
            failed: figure("failed"),
        });
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "running 3 tests\n\
        test a ... ok\n\
        test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s\n\
        \n   Doc-tests x\n\
        test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1s\n";

    #[test]
    fn the_results_of_all_binaries_are_summed() {
        let counts = Counts {
            passed: 13,
            failed: 2,
        };
        assert_eq!(count(LOG), counts);
        assert_eq!(counts.to_string(), "13 passed, 2 failed");
        assert_eq!(count("error: could not compile"), Counts::default());
    }

    #[test]
    fn a_stage_without_tests_or_with_a_broken_build_fails() {
        let empty = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(judge(true, Some(empty)).0.failed, 1);
        assert_eq!(judge(false, Some("error[E0425]")).0.failed, 1);
        assert_eq!(judge(false, Some(LOG)).0.failed, 2);
    }

    #[test]
    fn a_crash_behind_passed_tests_is_a_failure() {
        let passed = "test result: ok. 5 passed; 0 failed; 0 ignored\n";
        let (counts, why) = judge(false, Some(passed));
        assert_eq!((counts.passed, counts.failed), (5, 1));
        assert!(why.is_some());
        assert!(judge(true, Some(passed)).1.is_none());
    }

    #[test]
    fn a_check_counts_once() {
        assert_eq!(judge(true, None), (Counts::one_passed(), None));
        assert_eq!(judge(false, None).0, Counts::one_failed());
    }
}
