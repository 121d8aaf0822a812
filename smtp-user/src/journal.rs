//! Logs as the journal of systemd reads them: a priority in front of each event (sd-daemon(3)).
//!
//! Contract: that is done only where standard error leads to the journal itself, which then takes the
//! priority off again. A pipe or a file sees no such thing.
#![forbid(unsafe_code)]

use std::fmt;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Holds the device and the inode of the journal's socket, where a stream of the process is one
/// (systemd.exec(5)).
const VARIABLE: &str = "JOURNAL_STREAM";

/// Whether standard error leads to the journal.
pub fn is_stderr() -> bool {
    let Ok(stream) = std::env::var(VARIABLE) else {
        return false;
    };
    // The variable is inherited, standard error may have been led elsewhere since.
    fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The priority of a level (syslog(3)), as it stands in front of a line.
pub const fn prefix(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Puts the priority in front of what another form writes.
#[derive(Debug)]
pub struct Prefixed<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(prefix(event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}
