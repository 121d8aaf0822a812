//! Takes the pictures of the README: `screenshots FOLDER`. `cargo xtask screenshots` runs it and makes
//! them small.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use smtpflow_tests::watched::{Good as _, fault_free, watch};
use xtask::browser::Look;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("screenshots FOLDER")?;
    watch("sfpictures", "", |watched| {
        let spammer = watched.campus.spammer();
        let tall = |height, look| Look { height, ..look };
        for (name, path, look) in [
            ("overview", "/".to_owned(), tall(900, Look::DESKTOP)),
            (
                "host",
                format!("/host/{spammer}"),
                tall(1000, Look::DESKTOP.dark()),
            ),
            ("overview-phone", "/".to_owned(), Look::PHONE),
        ] {
            let page = watched.page();
            page.look(look).good();
            page.open(&path).good();
            // Some windows of traffic, so that there is something in the newest.
            page.idle(std::time::Duration::from_secs(3)).good();
            fault_free(&page, &path);
            let file = folder.join(format!("{name}.png"));
            std::fs::write(&file, page.picture(false).good()).expect("a picture");
        }
    });
    Ok(())
}
