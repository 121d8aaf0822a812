//! The account in the file: one row per count, by name, so that a count that is new in a later
//! version needs no new table and one that an earlier version has not written is 0.

use rusqlite::{Connection, Transaction, params};
use smtp_common::counter::Counter;
use smtp_common::flow::Totals;

use super::integer;
use crate::distribution::FROM;
use crate::model::{Bin, Bins, ByFamily, FlowTally, Tally};

const ADD: &str = "
    INSERT INTO account (name, value) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET value = min(value + excluded.value, 9223372036854775807)";

/// The counts of all windows together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) tally: Tally,
    /// Counts of sources that are not listed.
    pub(super) untracked: Totals,
    /// Counts of sources that are.
    pub(super) tracked: Totals,
}

impl Account {
    /// Every count with its name.
    fn counts(&mut self) -> Vec<(String, &mut u64)> {
        // In full, so that a new count cannot be forgotten here.
        let Self {
            tally:
                Tally {
                    frames,
                    outcomes,
                    segment_bytes,
                    sources,
                    families: ByFamily { ipv4, ipv6 },
                    bins: Bins(bins),
                    overflow,
                    spilled,
                    spill_refused,
                    flows,
                },
            untracked,
            tracked,
        } = self;
        let FlowTally {
            segments,
            segment_bytes: flow_segment_bytes,
            packets,
            bytes,
            refused_packets,
            refused_bytes,
        } = flows;
        let mut counts = vec![
            ("frames".to_owned(), frames),
            ("segment_bytes".to_owned(), segment_bytes),
            ("spilled".to_owned(), spilled),
            ("spill_refused".to_owned(), spill_refused),
            ("flows.segments".to_owned(), segments),
            ("flows.segment_bytes".to_owned(), flow_segment_bytes),
            ("flows.packets".to_owned(), packets),
            ("flows.bytes".to_owned(), bytes),
            ("flows.refused_packets".to_owned(), refused_packets),
            ("flows.refused_bytes".to_owned(), refused_bytes),
        ];
        // By name: places in the array may change from one version to the next.
        for (counter, count) in Counter::ALL.iter().zip(outcomes) {
            let name = match counter {
                Counter::Segment => "segments".to_owned(),
                Counter::Skip(skip) => format!("skipped.{}", skip.name()),
            };
            counts.push((name, count));
        }
        for (from, bin) in FROM.iter().zip(bins) {
            let Bin {
                sources,
                connections,
                bytes,
            } = bin;
            counts.push((format!("bin.{from}.sources"), sources));
            counts.push((format!("bin.{from}.connections"), connections));
            counts.push((format!("bin.{from}.bytes"), bytes));
        }
        for (group, totals) in [
            ("sources", sources),
            ("ipv4", ipv4),
            ("ipv6", ipv6),
            ("overflow", overflow),
            ("untracked", untracked),
            ("tracked", tracked),
        ] {
            let Totals {
                connections,
                syn_retx,
                c2s_packets,
                c2s_bytes,
                s2c_packets,
                s2c_bytes,
                answered,
                refused,
            } = totals;
            for (name, count) in [
                ("connections", connections),
                ("syn_retx", syn_retx),
                ("c2s_packets", c2s_packets),
                ("c2s_bytes", c2s_bytes),
                ("s2c_packets", s2c_packets),
                ("s2c_bytes", s2c_bytes),
                ("answered", answered),
                ("refused", refused),
            ] {
                counts.push((format!("{group}.{name}"), count));
            }
        }
        counts
    }

    /// What is in the file. Counts that this version does not know stay there, unread.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut account = Self::default();
        let mut select = connection.prepare("SELECT value FROM account WHERE name = ?1")?;
        for (name, count) in account.counts() {
            let mut rows = select.query([&name])?;
            if let Some(row) = rows.next()? {
                *count = row.get::<_, u64>(0)?;
            }
        }
        Ok(account)
    }

    /// Adds these counts to those in the file.
    pub(super) fn add_to(mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut add = transaction.prepare(ADD)?;
        for (name, count) in self.counts() {
            if *count != 0 {
                add.execute(params![name, integer(*count)])?;
            }
        }
        Ok(())
    }
}

/// Makes counts that were those of listed sources untracked.
pub(super) fn unlist(transaction: &Transaction<'_>, sum: &Totals) -> rusqlite::Result<()> {
    let mut moved = Account {
        untracked: *sum,
        tracked: *sum,
        ..Account::default()
    };
    let mut add = transaction.prepare(ADD)?;
    for (name, count) in moved.counts() {
        let count = integer(*count);
        let count = if name.starts_with("tracked.") {
            -count
        } else {
            count
        };
        if count != 0 {
            add.execute(params![name, count])?;
        }
    }
    Ok(())
}
