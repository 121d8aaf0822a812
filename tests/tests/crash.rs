//! The agent is killed, at random and at each point of a drain, and replaced, under load: no packet
//! is lost, none is counted twice, and the program is never off the interface.

use std::mem::offset_of;
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use smtp_common::LAYOUT_VERSION;
use smtp_common::flow::{FLOW_WAYS, FlowLine, FlowSet, Header};
use smtp_common::table::{Line, Set, WAYS};
use smtp_user::crash;
use smtpflow_tests::load::Rig;
use smtpflow_tests::long;
use smtpflow_tests::random::Random;

const PER_SECOND: u64 = 50_000;
/// A killed agent has lived for up to this long. A window lasts one second, so that some are killed
/// while they start, some while they drain, and some in between.
const LONGEST_LIFE: Duration = Duration::from_millis(1300);

/// The counts of 200 kills are asked for; the shorter form has every kind as well.
fn times(full: u32, short: u32) -> u32 {
    if long() { full } else { short }
}

#[test]
fn killed_at_random_the_agent_loses_and_doubles_nothing() {
    let kills = times(200, 40);
    let mut random = Random::new(0x5eed_c4a5);
    let begun = Instant::now();
    let packets = Rig::new("crashr", PER_SECOND).under_load(|rig| {
        for _ in 0..kills {
            let mut agent = rig.start();
            let life = LONGEST_LIFE * random.below(1000) as u32 / 1000;
            thread::sleep(life);
            let runs = agent.process().is_running();
            assert!(runs, "it ended by itself: {}", agent.process().log_text());
            Rig::kill(&mut agent);
        }
    });
    println!(
        "{kills} kills at random, {packets} packets in {:.0?}: 0 lost, 0 doubled",
        begun.elapsed()
    );
}

#[test]
fn killed_at_each_point_of_a_drain_the_agent_loses_and_doubles_nothing() {
    let kills = times(20, 5);
    let begun = Instant::now();
    let packets = Rig::new("crashp", PER_SECOND).under_load(|rig| {
        for point in crash::POINTS {
            for _ in 0..kills {
                rig.die_at(point);
            }
        }
        // One after the other as well: what was left by one point is met by the next.
        for point in crash::POINTS {
            rig.die_at(&format!("{point}:2"));
        }
    });
    println!(
        "{kills} kills at each of {} points, {packets} packets in {:.0?}: 0 lost, 0 doubled",
        crash::POINTS.len(),
        begun.elapsed()
    );
}

#[test]
fn killed_in_the_midst_of_a_set_the_agent_doubles_nothing() {
    let kills = times(20, 5);
    let mut left = 0;
    let packets = Rig::new("crashs", PER_SECOND).under_load(|rig| {
        for _ in 0..kills {
            // The first window may be one that was taken over, without counts.
            rig.die_at("after_commit:2");
            left += begin_to_clear(rig);
        }
    });
    println!("{kills} kills with {left} lines behind an empty one, {packets} packets: 0 doubled");
    assert!(left > 1000, "{left} lines behind an empty one");
}

/// Empties the first line of each set in the silent half, as the agent does first when it clears it. Says
/// how many lines behind such a line are not empty.
fn begin_to_clear(rig: &Rig) -> usize {
    const EPOCH: usize = offset_of!(Header, epoch) / 8;
    let epoch = |name| array::<{ size_of::<Header>() / 8 }>(rig, name).get(&0, 0);
    let epochs = ["COUNTERS_0", "COUNTERS_1"].map(|name| epoch(name).expect("a header")[EPOCH]);
    let silent = u32::from(epochs[1] < epochs[0]);
    empty_first_lines::<{ size_of::<Set>() / 8 }>(rig, "SOURCES", silent, WAYS, size_of::<Line>())
        + empty_first_lines::<{ size_of::<FlowSet>() / 8 }>(
            rig,
            "FLOWS",
            silent,
            FLOW_WAYS,
            size_of::<FlowLine>(),
        )
}

fn empty_first_lines<const WORDS: usize>(
    rig: &Rig,
    name: &str,
    half: u32,
    ways: usize,
    line_bytes: usize,
) -> usize {
    let mut sets = array::<WORDS>(rig, name);
    let of_half = sets.len() / 2;
    let words_of_line = line_bytes / 8;
    assert_eq!(ways * words_of_line, WORDS);
    let mut behind = 0;
    for index in half * of_half..(half + 1) * of_half {
        let mut set = sets.get(&index, 0).expect("a set");
        let (first, others) = set.split_at_mut(words_of_line);
        if first.iter().all(|word| *word == 0) {
            continue;
        }
        first.fill(0);
        let others = others.chunks(words_of_line);
        behind += others
            .filter(|line| line.iter().any(|word| *word != 0))
            .count();
        sets.set(index, set, 0).expect("a set is written");
    }
    behind
}

fn array<const WORDS: usize>(rig: &Rig, name: &str) -> Array<MapData, [u64; WORDS]> {
    let pins = rig.options.pins.join(format!("v{LAYOUT_VERSION}"));
    let map = MapData::from_pin(pins.join(name)).expect("a pinned map");
    Array::try_from(Map::Array(map)).expect("an array")
}

#[test]
fn upgraded_under_load_the_agent_misses_nothing() {
    let upgrades = times(100, 20);
    let begun = Instant::now();
    let packets = Rig::new("upgrade", PER_SECOND).under_load(|rig| {
        for _ in 0..upgrades {
            let mut agent = rig.ready();
            agent.stop().expect("it ends and stays attached");
        }
    });
    println!(
        "{upgrades} upgrades, {packets} packets in {:.0?}: 0 missed",
        begun.elapsed()
    );
}
