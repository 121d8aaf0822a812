//! What counting costs: the rows that `cargo xtask bench` measures, and the report made of them.
//!
//! Contract: a [`Row`] holds the value of every round as it was measured. Rows of one case that are
//! compared were measured in the same rounds, one after the other, so a difference or a ratio is taken
//! round by round and the median of these is reported; what slows a whole round down cancels out.

mod chart;
mod goals;
mod machine;
mod text;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

pub use chart::chart;
pub use goals::{Goal, Verdict, goals};
pub use machine::Machine;
pub use text::{readme_table, text};

/// Fewest rounds of a run whose figures count.
pub const ROUNDS: usize = 7;

/// The names that rows go by. A measurement and the report must agree on them.
pub mod name {
    /// Kernel path: one frame again and again.
    pub const KERNEL: &str = "kernel";
    /// Kernel path: many sources.
    pub const SOURCES: &str = "sources";
    /// End to end over a veth pair.
    pub const VETH: &str = "veth";
    /// A flood from forged addresses.
    pub const FLOOD: &str = "flood";
    /// A running agent.
    pub const AGENT: &str = "agent";
    /// Readers of the API.
    pub const READERS: &str = "readers";

    /// The program that passes every packet.
    pub const BARE_PASS: &str = "bare XDP_PASS";
    /// The program that drops every packet.
    pub const BARE_DROP: &str = "bare XDP_DROP";
    /// What makes one frame stand for many, without counting.
    pub const CONTROL: &str = "frames varied, not counted";
    /// smtpflow with the table of sources alone.
    pub const SMTPFLOW: &str = "smtpflow";
    /// smtpflow with the table of sources in a size that holds all sources.
    pub const SMTPFLOW_LARGE: &str = "smtpflow, a line for every source";
    /// smtpflow with the table of connections as well.
    pub const SMTPFLOW_FLOWS: &str = "smtpflow with FLOWS";
    /// smtpflow that keeps nothing on disk.
    pub const SMTPFLOW_NO_STORE: &str = "smtpflow --no-store";
    /// The same counting in a hash of the kernel's with a value for each CPU.
    pub const PERCPU_HASH: &str = "PERCPU_HASH";
    /// The same with eviction.
    pub const LRU_PERCPU_HASH: &str = "LRU_PERCPU_HASH";
    /// Nothing that counts.
    pub const NOTHING: &str = "no program";
    /// A dynamic set with counters at the ingress hook.
    pub const NFTABLES: &str = "nftables set";
    /// A set with counters, filled by rules.
    pub const IPSET: &str = "ipset";
    /// A capture.
    pub const TCPDUMP: &str = "tcpdump";
    /// A flow exporter on a capture.
    pub const SOFTFLOWD: &str = "softflowd";

    /// Nobody who reads.
    pub const NO_READERS: &str = "no readers";
    /// Readers that take their time.
    pub const PACED_READERS: &str = "100 requests a second";
    /// Readers that ask again as soon as they have an answer.
    pub const MANY_READERS: &str = "200 readers";
    /// The same, whose own program leaves the processors to others: what they do to the agent, without
    /// what it does to the machine.
    pub const NICE_READERS: &str = "200 readers, at nice 19";
    /// Keys that the list of sources is sorted by, and the subjects that they make: a count, one of the
    /// window, a mean, one that needs the connections, one in words, the address.
    pub const SORTS: [(&str, &str); 7] = [
        ("connections", "sources by connections"),
        ("c2s_bytes", "sources by c2s_bytes"),
        ("window.connections", "sources by window.connections"),
        ("bytes_per_packet", "sources by bytes_per_packet"),
        ("servers", "sources by servers"),
        ("state", "sources by state"),
        ("addr", "sources by addr"),
    ];
    /// The list of verdicts, of which there are ten thousand.
    pub const VERDICTS: &str = "verdicts";

    /// Data of a known source.
    pub const DATA: &str = "SMTP data, known source";
    /// The same over IPv6.
    pub const DATA_IPV6: &str = "SMTP data, IPv6";
    /// The same in a VLAN.
    pub const DATA_VLAN: &str = "SMTP data, one VLAN tag";
    /// A SYN that was seen before.
    pub const SYN_AGAIN: &str = "SYN, retransmitted";
    /// A SYN of an address that was not seen before.
    pub const SYN_NEW: &str = "SYN, new source";
    /// A server's answer.
    pub const SYN_ACK: &str = "SYN-ACK";
    /// TCP that is not mail.
    pub const TCP: &str = "TCP, not a mail port";
    /// UDP.
    pub const UDP: &str = "UDP";

    /// Processor time of a window: its drain, the merging and the publication.
    pub const DRAIN_CPU: &str = "drain, merge and publish: CPU";
    /// Time from the flip to the end of the drain.
    pub const DRAIN_WALL: &str = "drain: wall clock";
    /// Time from the end of a window to the first answer that has it.
    pub const NEWS: &str = "end of a window to an answer with it";
    /// Half of the answers are there in this time.
    pub const ANSWER_MEDIAN: &str = "GET sources?limit=100: p50";
    /// All but one of a hundred answers are there in this time.
    pub const ANSWER_P99: &str = "GET sources?limit=100: p99";
    /// Answers that readers got.
    pub const ANSWERS: &str = "GET sources?limit=100: answers";
    /// Time of the first GET of a list after a drain.
    pub const FIRST: &str = "GET, the first after a drain";
    /// Time of the next one.
    pub const NEXT: &str = "GET, the next one";
    /// Time of a GET of the metrics.
    pub const SCRAPE: &str = "GET /metrics";
    /// Memory of the agent in RAM, apart from the kernel's tables.
    pub const RESIDENT: &str = "resident, without the kernel's tables";
    /// The kernel's tables, as far as they are in RAM for the agent.
    pub const TABLES: &str = "resident, the kernel's tables";
}

/// One thing measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which part of the report: a section of [`name`].
    pub section: String,
    /// What was done.
    pub case: String,
    /// Who did it.
    pub subject: String,
    /// Number of source addresses.
    pub sources: u64,
    /// Unit of the values.
    pub unit: String,
    /// The subject, of the same section, case and number of sources, that this one is measured over.
    pub over: Option<String>,
    /// The value of each round.
    pub rounds: Vec<f64>,
    /// Packets sent and counted, where the subject counts.
    pub counts: Option<Counts>,
}

/// Packets sent, and those that the subject says it has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that reached the subject, by the interface's own count or by construction.
    pub sent: u64,
    /// Packets on a source's account.
    pub counted: u64,
    /// Packets counted, but on no source's account, and said so: overflow.
    pub unattributed: u64,
    /// What there is to say about it.
    pub note: String,
}

impl Counts {
    /// Whether every packet is accounted for.
    pub const fn exact(&self) -> bool {
        self.counted + self.unattributed == self.sent
    }
}

/// All of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// Whether it was a smoke run, whose times mean nothing.
    pub quick: bool,
    /// What was measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// A report from its JSON.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("this is no report of cargo xtask bench")
    }

    /// The JSON that [`Report::from_json`] takes.
    pub fn to_json(&self) -> Result<String> {
        let mut json = serde_json::to_string_pretty(self).context("a report is plain data")?;
        json.push('\n');
        Ok(json)
    }

    /// Whether figures of both can stand side by side: the same machine, the same kind of run.
    pub fn is_of(&self, other: &Self) -> bool {
        self.machine == other.machine && self.quick == other.quick
    }

    /// Puts rows in the place of all earlier ones of their sections.
    pub fn replace(&mut self, rows: Vec<Row>) {
        let again = |row: &Row| rows.iter().any(|new| new.section == row.section);
        self.rows.retain(|row| !again(row));
        self.rows.extend(rows);
    }

    /// The row of this section, case, subject and number of sources.
    pub fn row(&self, section: &str, case: &str, subject: &str, sources: u64) -> Option<&Row> {
        self.rows.iter().find(|row| {
            (row.section.as_str(), row.case.as_str()) == (section, case)
                && (row.subject.as_str(), row.sources) == (subject, sources)
        })
    }

    /// The row that this one is measured over.
    pub fn base(&self, row: &Row) -> Option<&Row> {
        let over = row.over.as_deref()?;
        self.row(&row.section, &row.case, over, row.sources)
    }

    /// What this row costs over its base, in its unit, round by round; the values themselves if it
    /// has none.
    pub fn costs(&self, row: &Row) -> Vec<f64> {
        match self.base(row) {
            Some(base) => pairs(row, base).map(|(this, base)| this - base).collect(),
            None => row.rounds.clone(),
        }
    }

    /// The median of [`Report::costs`].
    pub fn cost(&self, row: &Row) -> f64 {
        median(&self.costs(row))
    }

    /// How many times the value of its base this row's value is.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let base = self.base(row)?;
        let ratios: Vec<f64> = pairs(row, base).map(|(this, base)| this / base).collect();
        Some(median(&ratios))
    }

    /// Refuses a report in which a row is missing.
    pub fn check_complete(&self) -> Result<()> {
        for (section, cases, subjects) in COMPLETE {
            for (case, subject) in cases
                .iter()
                .flat_map(|case| subjects.iter().map(move |subject| (case, subject)))
            {
                let row = self.rows.iter().find(|row| {
                    (
                        row.section.as_str(),
                        row.case.as_str(),
                        row.subject.as_str(),
                    ) == (*section, *case, *subject)
                });
                ensure!(row.is_some(), "no row: {section}, {case}, {subject}");
            }
        }
        if !self.quick {
            for goal in goals(self) {
                ensure!(goal.value.is_some(), "not measured: {}", goal.text);
            }
        }
        Ok(())
    }

    /// Refuses a report in which something belongs to a row and is missing: a base, a round, a number.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.rows.is_empty(), "the report has no rows");
        for row in &self.rows {
            let what = format!(
                "{}, {}, {}, {} sources",
                row.section, row.case, row.subject, row.sources
            );
            let rounds = if self.quick { 1 } else { ROUNDS };
            ensure!(
                row.rounds.len() >= rounds,
                "{what}: {} rounds, not {rounds}",
                row.rounds.len()
            );
            ensure!(
                row.rounds.iter().all(|value| value.is_finite()),
                "{what}: a value is no number"
            );
            ensure!(
                row.over.is_none() || self.base(row).is_some(),
                "{what}: what it is measured over is missing: {:?}",
                row.over
            );
        }
        Ok(())
    }
}

/// What has to be in a report, whatever its size: section, cases, subjects.
const COMPLETE: &[(&str, &[&str], &[&str])] = &[
    (
        name::KERNEL,
        &[
            name::TCP,
            name::UDP,
            name::DATA,
            name::DATA_IPV6,
            name::DATA_VLAN,
            name::SYN_AGAIN,
            name::SYN_NEW,
            name::SYN_ACK,
        ],
        &[name::SMTPFLOW, name::SMTPFLOW_FLOWS],
    ),
    (
        name::SOURCES,
        &[name::DATA],
        &[
            name::SMTPFLOW,
            name::SMTPFLOW_LARGE,
            name::SMTPFLOW_FLOWS,
            name::PERCPU_HASH,
            name::LRU_PERCPU_HASH,
        ],
    ),
    (
        name::VETH,
        &[name::DATA],
        &[
            name::NOTHING,
            name::BARE_PASS,
            name::SMTPFLOW,
            name::SMTPFLOW_FLOWS,
            name::NFTABLES,
            name::IPSET,
            name::TCPDUMP,
            name::SOFTFLOWD,
        ],
    ),
    (
        name::FLOOD,
        &[name::DATA],
        &[name::BARE_DROP, name::SMTPFLOW, name::SMTPFLOW_FLOWS],
    ),
    (
        name::AGENT,
        &[
            name::DRAIN_CPU,
            name::DRAIN_WALL,
            name::SCRAPE,
            name::RESIDENT,
            name::TABLES,
        ],
        &[name::SMTPFLOW, name::SMTPFLOW_NO_STORE],
    ),
    (
        name::READERS,
        &[name::DRAIN_WALL, name::NEWS],
        &[
            name::NO_READERS,
            name::PACED_READERS,
            name::MANY_READERS,
            name::NICE_READERS,
        ],
    ),
    (
        name::READERS,
        &[name::ANSWER_MEDIAN, name::ANSWER_P99, name::ANSWERS],
        &[name::PACED_READERS, name::MANY_READERS, name::NICE_READERS],
    ),
    (
        name::READERS,
        &[name::FIRST, name::NEXT],
        &[
            name::SORTS[0].1,
            name::SORTS[1].1,
            name::SORTS[2].1,
            name::SORTS[3].1,
            name::SORTS[4].1,
            name::SORTS[5].1,
            name::SORTS[6].1,
            name::VERDICTS,
        ],
    ),
];

fn pairs<'a>(a: &'a Row, b: &'a Row) -> impl Iterator<Item = (f64, f64)> + 'a {
    a.rounds.iter().copied().zip(b.rounds.iter().copied())
}

/// The median; the mean of the two in the middle where their number is even. Not a number if there
/// is none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => f64::NAN,
        values if values.len() % 2 == 1 => values[values.len() / 2],
        values => (values[values.len() / 2 - 1] + values[values.len() / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests;
