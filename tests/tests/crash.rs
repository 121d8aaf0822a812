//! The agent is killed, at random and at each point of a drain, and replaced, under load: no packet
//! is lost, none is counted twice, and the program is never off the interface.

use std::thread;
use std::time::{Duration, Instant};

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
