//! The page in a real browser, on a real agent with weeks of history and real frames on its interface.
//!
//! Whatever a visitor should never meet makes a test fail: an error or a warning in the console, an
//! exception, a violation of the content policy, a request to any other host.

use smtpflow_tests::watched::watch;
use xtask::browser::{Look, Page};

/// What must be, or the error that says why it is not.
trait Good<T> {
    fn good(self) -> T;
}

impl<T> Good<T> for anyhow::Result<T> {
    fn good(self) -> T {
        self.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

/// Nothing went wrong in this page since this was asked before.
fn fault_free(page: &Page<'_>, what: &str) {
    let faults = page.faults().good();
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn the_first_screen_names_the_spammer() {
    watch("sfbfirst", "", |watched| {
        let page = watched.page();
        page.look(Look::DESKTOP).good();
        page.open("/").good();
        let spammer = watched.campus.spammer().to_string();
        page.wait(
            "the spammer's address",
            &format!("document.body.innerText.includes('{spammer}')"),
        )
        .good();
        fault_free(&page, "the first screen");
    });
}
