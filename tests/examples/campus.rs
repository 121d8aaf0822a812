//! A campus with a past, for a person to look at.
//!
//! `campus DAYS STORE CONFIG INTERFACE [KIND=ADDRESS]...` writes the past into a new store, then its
//! configuration into a file, and then sends the campus' traffic from an interface of its network namespace until
//! it is killed. A host with an address of its own has a past, and sends nothing: there is a real one.
//! `cargo xtask demo --days N` runs it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, anyhow, bail};
use smtpflow_tests::campus::Campus;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [days, store, config, interface, placed @ ..] = words.as_slice() else {
        bail!("campus DAYS STORE CONFIG INTERFACE [KIND=ADDRESS]...");
    };
    let mut campus = Campus::new(days.parse().context("days")?);
    for place in placed {
        let (kind, address) = place.split_once('=').context("KIND=ADDRESS")?;
        campus.place(kind, address.parse().context("an address")?);
    }
    campus
        .write_past(Path::new(store))
        .map_err(|failure| anyhow!("{failure}"))?;
    // Whoever waits for the file must not see a part of it.
    let part = format!("{config}.part");
    std::fs::write(&part, campus.configuration())
        .and_then(|()| std::fs::rename(&part, config))
        .with_context(|| format!("cannot write {config}"))?;
    campus.send(interface, &AtomicBool::new(false));
    Ok(())
}
