//! Writes good cases for libFuzzer to begin with: one folder for each target, below the one that is
//! named.

use std::path::PathBuf;

use smtpflow_tests::targets::TARGETS;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| anyhow::anyhow!("which folder? (seeds FOLDER)"))?;
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
