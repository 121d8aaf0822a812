//! The targets of `fuzz/` on a stable compiler: good cases, damaged in every way that proptest finds,
//! and octets that are no case at all. A failing case is shrunk and shown.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use smtpflow_tests::long;
use smtpflow_tests::targets::{TARGETS, Target};

/// How long one target is tried, in its usual form.
const TIME: Duration = Duration::from_secs(12);
/// How much longer in its long form.
const LONGER: u32 = 50;

/// One change to a case.
#[derive(Clone, Debug)]
enum Damage {
    /// Puts an octet in place of another.
    Octet(prop::sample::Index, u8),
    /// Flips a bit.
    Bit(prop::sample::Index, u8),
    /// Puts a number in place of four octets: lengths and counts.
    Word(prop::sample::Index, u32),
    /// Cuts off the end.
    Cut(prop::sample::Index),
    /// Takes octets out.
    Remove(prop::sample::Index, usize),
    /// Puts octets in between.
    Insert(prop::sample::Index, Vec<u8>),
    /// Repeats a part.
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let word = prop_oneof![
        any::<u32>(),
        0..64_u32,
        (0..32_u32).prop_map(|shift| 1 << shift),
        (0..32_u32).prop_map(|shift| (1_u32 << shift).wrapping_sub(1)),
    ];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, octet)| Damage::Octet(at, octet)),
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        3 => (at(), word).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), 1..80_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, octets)| Damage::Insert(at, octets)),
        1 => (at(), 1..80_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

fn damaged(mut case: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if case.is_empty() {
            break;
        }
        match damage {
            Damage::Octet(at, octet) => *at.get_mut(&mut case) = *octet,
            Damage::Bit(at, bit) => *at.get_mut(&mut case) ^= 1 << bit,
            Damage::Word(at, word) => {
                let at = at.index(case.len());
                let end = case.len().min(at + 4);
                case[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
            }
            Damage::Cut(at) => case.truncate(at.index(case.len())),
            Damage::Remove(at, count) => {
                let at = at.index(case.len());
                case.drain(at..case.len().min(at + count));
            }
            Damage::Insert(at, octets) => {
                let at = at.index(case.len());
                case.splice(at..at, octets.iter().copied());
            }
            Damage::Repeat(at, count) => {
                let at = at.index(case.len());
                let part = case[at..case.len().min(at + count)].to_vec();
                case.splice(at..at, part);
            }
        }
    }
    case
}

fn cases(target: &Target) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds = (target.seeds)();
    for seed in &seeds {
        (target.try_case)(seed);
    }
    let damages = prop::collection::vec(damage(), 0..8);
    let from_seeds =
        (prop::sample::select(seeds), damages).prop_map(|(seed, damages)| damaged(seed, &damages));
    prop_oneof![
        9 => from_seeds,
        1 => prop::collection::vec(any::<u8>(), 0..2_000),
    ]
}

fn try_target(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a target of this name");
    let strategy = cases(target);
    let limit = TIME * if long() { LONGER } else { 1 };
    let begun = Instant::now();
    let mut tried = 0;
    while begun.elapsed() < limit {
        let config = Config {
            cases: 200,
            failure_persistence: None,
            ..Config::default()
        };
        let tried_now = TestRunner::new(config).run(&strategy, |case| {
            (target.try_case)(&case);
            Ok::<(), TestCaseError>(())
        });
        if let Err(error) = tried_now {
            match error {
                TestError::Fail(reason, case) => panic!("{name}: {reason}; case: {case:02x?}"),
                TestError::Abort(reason) => panic!("{name}: {reason}"),
            }
        }
        tried += 200;
    }
    println!("{name}: {tried} cases in {} s", begun.elapsed().as_secs());
}

#[test]
fn any_frames_are_counted_as_the_reference_counts_them() {
    try_target("frames");
}

#[test]
fn any_bytes_are_a_capture_or_none() {
    try_target("capture");
}

#[test]
fn any_text_is_a_configuration_or_none() {
    try_target("config");
}

#[test]
fn any_memory_can_be_read_as_pinned_maps() {
    try_target("pins");
}

#[test]
fn any_octets_are_a_mail_log_that_blames_nobody_else() {
    try_target("maillog");
}

#[test]
fn any_file_has_good_complaints_or_none() {
    try_target("complaints");
}

#[test]
fn every_target_is_tried_here_and_there() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest of fuzz/");
    let this = include_str!("targets.rs");
    for target in TARGETS {
        let name = target.name;
        assert!(this.contains(&format!("try_target(\"{name}\")")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let body = fuzz.join(format!("fuzz_targets/{name}.rs"));
        assert!(body.is_file(), "{}", body.display());
    }
}
