//! A campus with a past, for a person to look at: `campus past DAYS STORE CONFIG [KIND=ADDRESS]...`
//! writes its store and its configuration. `cargo xtask demo --days N` runs it.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use smtpflow_tests::campus::Campus;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [verb, days, store, config, placed @ ..] = words.as_slice() else {
        bail!("campus past DAYS STORE CONFIG [KIND=ADDRESS]...");
    };
    anyhow::ensure!(verb == "past", "no verb {verb} (have: past)");
    let mut campus = Campus::new(days.parse().context("days")?);
    for place in placed {
        let (kind, address) = place.split_once('=').context("KIND=ADDRESS")?;
        campus.place(kind, address.parse().context("an address")?);
    }
    let begun = std::time::Instant::now();
    let verdicts = campus
        .write_past(Path::new(store))
        .map_err(|failure| anyhow!("{failure}"))?;
    std::fs::write(config, campus.configuration()).context("cannot write the configuration")?;
    println!(
        "{days} days, {verdicts} verdicts, in {:.1} s; the spammer is {}",
        begun.elapsed().as_secs_f64(),
        campus.spammer()
    );
    Ok(())
}
