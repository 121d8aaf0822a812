//! Writes traffic as a capture: classic pcap, microseconds, Ethernet.
//!
//! Contract: frames stand in the order of their times. No more than an hour of them is in memory.

use std::io::{self, Write};

use super::frame;
use super::script::{Script, Step};

const MAGIC: u32 = 0xa1b2_c3d4;
const SNAPLEN: u32 = 65_535;
const ETHERNET: u32 = 1;

/// Writes the scripts of some hours, each hour's in one list, as [`Traffic`](super::Traffic) gives
/// them. Says how many frames there were.
pub fn write(
    hours: impl IntoIterator<Item = (u64, Vec<Script>)>,
    out: &mut impl Write,
) -> io::Result<u64> {
    for word in [MAGIC, 2 | 4 << 16, 0, 0, SNAPLEN, ETHERNET] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut frames = 0;
    in_order(hours, |step, frame| {
        frames += 1;
        let seconds = (step.at / 1_000) as u32;
        let micros = (step.at % 1_000 * 1_000) as u32;
        for word in [seconds, micros, frame.len() as u32, frame.len() as u32] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(frame)
    })?;
    Ok(frames)
}

/// Hands over every frame in the order of time; of the same millisecond, in the order of the scripts.
pub fn in_order<E>(
    hours: impl IntoIterator<Item = (u64, Vec<Script>)>,
    mut take: impl FnMut(&Step, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut waiting: Vec<(Script, Step)> = Vec::new();
    let mut frame = Vec::new();
    let mut flush = |waiting: &mut Vec<(Script, Step)>, until: u64| {
        // Stable: the steps of a script stay in their order.
        waiting.sort_by_key(|(_, step)| step.at);
        let due = waiting.partition_point(|(_, step)| step.at < until);
        for (script, step) in waiting.drain(..due) {
            frame::write(&script, &step, &mut frame);
            take(&step, &frame)?;
        }
        Ok(())
    };
    for (hour, scripts) in hours {
        // What starts from here on comes later.
        flush(&mut waiting, hour)?;
        for script in scripts {
            script.play(|step| waiting.push((script, *step)));
        }
    }
    flush(&mut waiting, u64::MAX)
}
