//! The agent in its ups and downs, under load: killed, replaced, and on a machine that takes CPUs away.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use smtp_user::crash;

use super::checks::figure;
use super::kernel;
use crate::load::Rig;
use crate::random::Random;

/// Packets per second: what an emulated CPU sends beside all else that it does. A pair of interfaces keeps 256 frames
/// for a CPU that has no time for them, and drops more: with these, one may be away for a second.
const PER_SECOND: u64 = 250;
/// Kills at random, beside those at each point: most of a check's time goes into the starts of agents.
const KILLS: u64 = 1;
/// Agents that end and leave all attached; the one that [`Rig::under_load`] compares with takes over from the last.
const UPGRADES: u64 = 1;
const CYCLES: u64 = 2;
/// A killed agent has lived for up to this long.
const LONGEST_LIFE: Duration = Duration::from_secs(3);

/// Tables that an emulated CPU reads in no time.
const TABLES: &str = "[table]\nsets_per_cpu = 4096\nflow_sets_per_cpu = 2048\n";
const CONFIGURATION: &str = "/run/guest.toml";

fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name, PER_SECOND);
    // The emulated CPUs have more to do than to look.
    rig.look = Duration::from_millis(20);
    rig
}

fn small_rig(name: &str) -> Rig {
    std::fs::write(CONFIGURATION, TABLES)
        .unwrap_or_else(|error| panic!("{CONFIGURATION}: {error}"));
    let mut rig = rig(name);
    let words = ["--config", CONFIGURATION].map(str::to_owned);
    rig.options.extra.extend(words);
    rig
}

/// Killed at each point of a drain and at random.
pub fn killed() {
    let mut random = Random::new(0x5eed_c4a5);
    let packets = small_rig("guestkill").under_load(|rig| {
        for point in crash::POINTS {
            rig.die_at(point);
        }
        for _ in 0..KILLS {
            let mut agent = rig.start();
            thread::sleep(LONGEST_LIFE * random.below(1000) as u32 / 1000);
            Rig::kill(&mut agent);
        }
    });
    figure("kills", KILLS + crash::POINTS.len() as u64);
    figure("packets", packets);
}

/// Replaced by the next, which takes links and maps over.
pub fn upgraded() {
    let packets = small_rig("guestup").under_load(|rig| {
        for _ in 0..UPGRADES {
            let mut agent = rig.ready();
            agent.stop().expect("it ends and stays attached");
        }
    });
    figure("upgrades", UPGRADES);
    figure("packets", packets);
}

/// The second CPU goes and comes back while packets are counted on it.
pub fn hotplug() {
    let switch = PathBuf::from("/sys/devices/system/cpu/cpu1/online");
    let set = |value: &str| {
        std::fs::write(&switch, value)
            .unwrap_or_else(|error| panic!("{value} > {}: {error}", switch.display()));
    };
    let packets = small_rig("guestcpu").under_load(|rig| {
        let mut agent = rig.ready();
        for _ in 0..CYCLES {
            for value in ["0", "1"] {
                set(value);
                // Long enough for packets and for a window to end.
                thread::sleep(Duration::from_millis(700));
            }
        }
        agent
            .wait_drained(Duration::from_secs(60))
            .expect("windows");
        agent.stop().expect("it ends and stays attached");
    });
    figure("cycles", CYCLES);
    figure("packets", packets);
}

/// Two CPUs of 72 that there may be, each with its part of every table, in the sizes that the agent chooses.
pub fn many_cpus() {
    assert_eq!(kernel::cpus("online"), "0-1");
    assert_eq!(kernel::cpus("possible"), "0-71");
    let packets = rig("guestmany").under_load(|rig| {
        let mut agent = rig.ready();
        agent
            .wait_drained(Duration::from_secs(60))
            .expect("windows");
        let status = agent.json("/api/v1/status").expect("status");
        let table = &status["table"];
        assert_eq!(table["cpus"], 72, "{status}");
        let bytes = table["memory_bytes"].as_u64().expect("bytes");
        figure("mebibytes", bytes >> 20);
        agent.stop().expect("it ends and stays attached");
    });
    figure("packets", packets);
}
