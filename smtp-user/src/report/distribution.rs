//! The distribution of one kind of item, as a table and as JSON.
//!
//! Contract: the kind of item and the denominators are always stated. Printed shares are those of
//! [`percent`]; JSON has the counts, the exact shares and the printed ones.

use serde::Serialize;

use super::document::{Table, number, text};
use crate::answer::answer;
use crate::distribution::{Distribution, Row, percent};
use crate::model::Counts;

/// What is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// An address that opened connections.
    Source,
    /// A client and a server between which connections were opened.
    Pair,
}

impl Item {
    const fn table(self) -> &'static str {
        match self {
            Self::Source => "distribution_by_source",
            Self::Pair => "distribution_by_pair",
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::Source => "sources",
            Self::Pair => "pairs of source and server",
        }
    }
}

/// A distribution, with what its items are and what could not be sorted into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemDistribution {
    /// What an item is.
    pub item: Item,
    /// The rows.
    pub distribution: Distribution,
    /// Connections of items that are not kept one by one.
    pub unsorted_connections: u64,
}

answer! {
    /// A row of a distribution. Shares are from 0 to 1, percentages as they are printed.
    pub struct JsonRow {
        /// The fewest connections of an item in this row.
        from: u64,
        /// The most; null where there is no most.
        to: Option<u64>,
        /// Items in this row.
        items: u64,
        /// Their share of all items.
        item_share: f64,
        /// The same in percent.
        item_percent: String,
        /// Items in this row and all above.
        cumulative_items: u64,
        /// Their share of all items.
        cumulative_share: f64,
        /// The same in percent.
        cumulative_percent: String,
        /// Connections of the items of this row.
        connections: u64,
        /// Their share of all connections.
        connection_share: f64,
        /// The same in percent.
        connection_percent: String,
        /// Client-to-server bytes of the items of this row, layer 3.
        bytes: u64,
        /// Their share of all bytes.
        byte_share: f64,
        /// The same in percent.
        byte_percent: String,
    }
}

answer! {
    /// How many items opened how many connections.
    pub struct JsonDistribution {
        /// What an item is: source, or pair of client and server.
        item: Item,
        /// All items, which item shares are shares of.
        items: u64,
        /// All connections of items.
        connections: u64,
        /// All client-to-server bytes of items, layer 3.
        bytes: u64,
        /// Connections of items that are not kept one by one; they are in no row.
        unsorted_connections: u64,
        /// The rows, in rising order of connections.
        rows: Vec<JsonRow> [JsonRow],
    }
}

impl From<&ItemDistribution> for JsonDistribution {
    fn from(of: &ItemDistribution) -> Self {
        let ItemDistribution {
            item,
            distribution,
            unsorted_connections,
        } = of;
        let row = |row: &Row| JsonRow {
            from: row.from,
            to: row.to,
            items: row.items,
            item_share: distribution.item_share(row),
            item_percent: percent(row.items, distribution.items),
            cumulative_items: row.cumulative_items,
            cumulative_share: distribution.cumulative_share(row),
            cumulative_percent: percent(row.cumulative_items, distribution.items),
            connections: row.connections,
            connection_share: distribution.connection_share(row),
            connection_percent: percent(row.connections, distribution.connections),
            bytes: row.bytes,
            byte_share: distribution.byte_share(row),
            byte_percent: percent(row.bytes, distribution.bytes),
        };
        Self {
            item: *item,
            items: distribution.items,
            connections: distribution.connections,
            bytes: distribution.bytes,
            unsorted_connections: *unsorted_connections,
            rows: distribution.rows.iter().map(row).collect(),
        }
    }
}

impl Serialize for ItemDistribution {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        JsonDistribution::from(self).serialize(to)
    }
}

/// How many connections the items of a row have, as text.
pub fn range(row: &Row) -> String {
    match row.to {
        Some(to) => format!("{}-{to}", row.from),
        None => format!("{}-", row.from),
    }
}

impl ItemDistribution {
    /// Without an item.
    pub fn empty(item: Item) -> Self {
        Self {
            item,
            distribution: Distribution::empty(),
            unsorted_connections: 0,
        }
    }

    /// Sorts an item in, or what is not `kept` one by one.
    pub fn add(&mut self, kept: bool, counts: &Counts) {
        let totals = &counts.totals;
        if kept {
            self.distribution.add(totals.connections, totals.c2s_bytes);
        } else {
            self.unsorted_connections =
                self.unsorted_connections.saturating_add(totals.connections);
        }
    }

    /// As a table.
    pub fn table(&self) -> Table {
        let Self {
            item,
            distribution,
            unsorted_connections,
        } = self;
        let plural = item.plural();
        let mut notes = vec![format!(
            "shares are of {} {plural} that opened connections, {} connections and {} c2s bytes",
            distribution.items, distribution.connections, distribution.bytes
        )];
        if *unsorted_connections != 0 {
            notes.push(format!(
                "{unsorted_connections} more connections are of {plural} that are not kept one by one"
            ));
        }
        let row = |row: &Row| {
            vec![
                range(row),
                row.items.to_string(),
                percent(row.items, distribution.items),
                percent(row.cumulative_items, distribution.items),
                row.connections.to_string(),
                row.bytes.to_string(),
                percent(row.bytes, distribution.bytes),
            ]
        };
        Table {
            name: item.table(),
            title: format!("{plural} by how many connections they opened"),
            notes,
            columns: vec![
                text("opened"),
                number("items"),
                number("item_percent"),
                number("cumulative_percent"),
                number("connections"),
                number("c2s_bytes"),
                number("byte_percent"),
            ],
            rows: distribution.rows.iter().map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    /// The table of the system that smtpflow descends from.
    fn published(item: Item) -> ItemDistribution {
        let counts = [
            (1, 136_003),
            (11, 5_502),
            (31, 1_370),
            (71, 231),
            (101, 226),
            (201, 145),
            (1001, 15),
        ];
        let items = counts
            .into_iter()
            .flat_map(|(from, count)| std::iter::repeat_n((from, 60), count));
        ItemDistribution {
            item,
            distribution: Distribution::of(items),
            unsorted_connections: 0,
        }
    }

    const SHARES: [(&str, &str, &str); 7] = [
        ("1-10", "94.781", "94.781"),
        ("11-30", "3.834", "98.615"),
        ("31-70", "0.955", "99.570"),
        ("71-100", "0.161", "99.731"),
        ("101-200", "0.157", "99.888"),
        ("201-1000", "0.101", "99.989"),
        ("1001-", "0.010", "100.000"),
    ];

    fn document(distribution: &ItemDistribution) -> Document {
        Document {
            title: "distribution".to_owned(),
            notes: Vec::new(),
            tables: vec![distribution.table()],
        }
    }

    #[test]
    fn the_published_table_comes_out_as_text() {
        let text = document(&published(Item::Source)).text();
        assert!(
            text.contains("143492 sources that opened connections"),
            "{text}"
        );
        for (range, share, cumulative) in SHARES {
            let line = text
                .lines()
                .find(|line| line.split_whitespace().next() == Some(range))
                .unwrap_or_else(|| panic!("no {range} in:\n{text}"));
            let cells: Vec<_> = line.split_whitespace().collect();
            assert_eq!((cells[2], cells[3]), (share, cumulative), "{text}");
        }
    }

    #[test]
    fn the_published_table_comes_out_as_csv() {
        let csv = document(&published(Item::Pair)).csv();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(
            lines[0],
            "distribution_by_pair,opened,items,item_percent,cumulative_percent,connections,c2s_bytes,\
             byte_percent"
        );
        for ((range, share, cumulative), line) in SHARES.iter().zip(&lines[1..]) {
            let cells: Vec<_> = line.split(',').collect();
            assert_eq!(
                [cells[1], cells[3], cells[4]],
                [*range, *share, *cumulative]
            );
        }
        assert_eq!(
            lines[5],
            "distribution_by_pair,101-200,226,0.157,99.888,22826,13560,0.157"
        );
    }

    #[test]
    fn the_published_table_comes_out_as_json() {
        let json = serde_json::to_value(published(Item::Source)).expect("JSON");
        assert_eq!(json["item"], "source");
        assert_eq!(json["items"], 143_492);
        for (i, (_, share, cumulative)) in SHARES.iter().enumerate() {
            assert_eq!(json["rows"][i]["item_percent"], *share);
            assert_eq!(json["rows"][i]["cumulative_percent"], *cumulative);
        }
        let exact = json["rows"][4]["item_share"].as_f64().expect("a number");
        assert_eq!(exact, 226.0 / 143_492.0);
        assert_eq!(json["rows"][6]["to"], serde_json::Value::Null);
    }

    #[test]
    fn what_is_not_sorted_is_told() {
        let mut distribution = published(Item::Pair);
        assert!(!document(&distribution).text().contains("one by one"));
        distribution.unsorted_connections = 17;
        let text = document(&distribution).text();
        assert!(
            text.contains(
                "17 more connections are of pairs of source and server that are not kept"
            ),
            "{text}"
        );
    }
}
