//! What became of connections, as the report has it: a table in the text, an object in the JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::session::{COMMANDS, Named, Outcomes, REPLIES, Servers, Sessions};
use crate::report::counts;

/// A client, or all together, of which the number of servers is not known.
pub(super) struct Row {
    pub(super) client: String,
    pub(super) sessions: Sessions,
    pub(super) servers: Option<Servers>,
}

/// The share of connections with any packet of the server, as a text.
pub(super) fn visibility(outcomes: Outcomes) -> String {
    outcomes
        .visibility()
        .map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

impl Row {
    /// Its cells under their names.
    fn cells(&self) -> Vec<(&'static str, String)> {
        let servers = self.servers.map_or_else(|| "-".to_owned(), counts::servers);
        let mut cells = vec![
            ("client", self.client.clone()),
            ("servers", servers),
            ("visibility", visibility(self.sessions.outcomes)),
        ];
        cells.extend(counts::conduct(&self.sessions));
        cells
    }
}

/// Writes rows with their names above them, as wide as they need to be.
pub(super) fn write(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let rows: Vec<_> = rows.iter().map(Row::cells).collect();
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let names: Vec<String> = first.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut lines = vec![names];
    lines.extend(rows.into_iter().map(|cells| {
        let cells = cells.into_iter().map(|(_, cell)| cell);
        cells.collect()
    }));
    let columns = lines[0].len();
    let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    for line in &lines {
        write!(out, "  {:<width$}", line[0], width = widths[0])?;
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Named as in the API.
#[derive(Serialize)]
pub(super) struct JsonConduct {
    outcomes: Outcomes,
    unfollowed: u64,
    visibility: Option<f64>,
    replies: Named<{ REPLIES.len() }>,
    commands: Named<{ COMMANDS.len() }>,
    accepted: u64,
}

impl From<&Sessions> for JsonConduct {
    fn from(sessions: &Sessions) -> Self {
        let Sessions {
            outcomes,
            unfollowed,
            said,
            accepted,
        } = *sessions;
        Self {
            outcomes,
            unfollowed,
            visibility: outcomes.visibility(),
            replies: said.named(REPLIES),
            commands: said.named(COMMANDS),
            accepted,
        }
    }
}
