//! The distribution table: how many items opened how many connections, and with how many bytes.
//!
//! Contract: a pure function. An item is whatever the caller counts by, and says so beside the
//! table; one without connections is none. Every share is computed from counts, never by adding
//! rounded shares, and printed by [`percent`].

/// The lowest number of connections of each row; a row ends where the next begins, the last never.
/// The bounds are those of the system that smtpflow descends from.
pub(crate) const FROM: [u64; 7] = [1, 11, 31, 71, 101, 201, 1001];

/// One row: the items with `from..=to` connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The fewest connections of an item in this row.
    pub from: u64,
    /// The most; `None` where there is no most.
    pub to: Option<u64>,
    /// Items.
    pub items: u64,
    /// Items in this row and all above.
    pub cumulative_items: u64,
    /// Connections of the items of this row.
    pub connections: u64,
    /// Their client-to-server bytes, layer 3.
    pub bytes: u64,
}

/// The rows, and what their shares are shares of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// In rising order of connections.
    pub rows: [Row; FROM.len()],
    /// All items.
    pub items: u64,
    /// All connections.
    pub connections: u64,
    /// All client-to-server bytes of items.
    pub bytes: u64,
}

impl Distribution {
    /// Without an item.
    pub fn empty() -> Self {
        Self {
            rows: std::array::from_fn(|i| Row {
                from: FROM[i],
                to: FROM.get(i + 1).map(|next| next - 1),
                ..Row::default()
            }),
            items: 0,
            connections: 0,
            bytes: 0,
        }
    }

    /// Sorts an item, given as its connections and client-to-server bytes, into its row.
    pub fn add(&mut self, connections: u64, bytes: u64) {
        let Some(place) = FROM.iter().rposition(|from| *from <= connections) else {
            return;
        };
        let row = &mut self.rows[place];
        row.items += 1;
        row.connections += connections;
        row.bytes += bytes;
        for row in &mut self.rows[place..] {
            row.cumulative_items += 1;
        }
        self.items += 1;
        self.connections += connections;
        self.bytes += bytes;
    }

    /// Sorts all of these.
    pub fn of(items: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut distribution = Self::empty();
        for (connections, bytes) in items {
            distribution.add(connections, bytes);
        }
        distribution
    }

    /// The row's items as a share of all items, from 0 to 1.
    pub fn item_share(&self, row: &Row) -> f64 {
        share(row.items, self.items)
    }

    /// The row's connections as a share of all connections, from 0 to 1.
    pub fn connection_share(&self, row: &Row) -> f64 {
        share(row.connections, self.connections)
    }

    /// The row's bytes as a share of all bytes, from 0 to 1.
    pub fn byte_share(&self, row: &Row) -> f64 {
        share(row.bytes, self.bytes)
    }

    /// The items of this row and all above as a share of all items, from 0 to 1.
    pub fn cumulative_share(&self, row: &Row) -> f64 {
        share(row.cumulative_items, self.items)
    }
}

/// A share in percent with three decimals, as it is printed everywhere: counted in millionths, to the
/// nearest one, and then to the nearest thousandth of a percent, where a half goes down. So it is at
/// most 0.00055 points off, and the table of the system that smtpflow descends from comes out figure
/// by figure: it has 0.157 for 226 of 143,492, which are 0.157500070 %.
pub fn percent(part: u64, whole: u64) -> String {
    let (part, whole) = (u128::from(part), u128::from(whole));
    let millionths = (2_000_000 * part + whole).checked_div(2 * whole);
    // Ten millionths are a thousandth of a percent.
    let thousandths = (millionths.unwrap_or(0) + 4) / 10;
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Nothing is no part of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_printed_to_the_nearest_thousandth_of_a_percent() {
        for (part, whole, expected) in [
            (0, 0, "0.000"),
            (0, 7, "0.000"),
            (7, 7, "100.000"),
            (1, 3, "33.333"),
            (2, 3, "66.667"),
            (226, 143_492, "0.157"),
            (u64::MAX, u64::MAX, "100.000"),
            (1, u64::MAX, "0.000"),
        ] {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
        for part in 0..=997_u64 {
            let printed: f64 = percent(part, 997).parse().expect("a number");
            let off = printed - part as f64 / 9.97;
            assert!(off.abs() < 0.000_551, "{part}: {printed}");
        }
    }

    #[test]
    fn the_published_table_comes_out_from_its_counts() {
        let counts = [136_003, 5_502, 1_370, 231, 226, 145, 15];
        let items = FROM
            .iter()
            .zip(counts)
            .flat_map(|(from, count)| std::iter::repeat_n((*from, 0), count));
        let table = Distribution::of(items);

        assert_eq!(table.items, 143_492);
        let shares = table.rows.map(|row| percent(row.items, table.items));
        assert_eq!(
            shares,
            [
                "94.781", "3.834", "0.955", "0.161", "0.157", "0.101", "0.010"
            ]
        );
        let cumulative = table
            .rows
            .map(|row| percent(row.cumulative_items, table.items));
        assert_eq!(cumulative[1], "98.615", "below 31");
        assert_eq!(cumulative[3], "99.731", "below 101");
        assert_eq!(cumulative[6], "100.000");
    }

    #[test]
    fn both_ends_of_every_row_belong_to_it() {
        let ends = [
            (1, 10),
            (11, 30),
            (31, 70),
            (71, 100),
            (101, 200),
            (201, 1000),
            (1001, u64::MAX),
        ];
        for (i, (from, to)) in ends.into_iter().enumerate() {
            let row = Distribution::of([(from, 3)]).rows[i];
            assert_eq!((row.from, row.items, row.bytes), (from, 1, 3));
            assert_eq!(row.to.unwrap_or(u64::MAX), to);
            assert_eq!(Distribution::of([(to, 3)]).rows[i].items, 1, "{to}");
        }
    }

    #[test]
    fn what_opened_no_connection_is_no_item() {
        let table = Distribution::of([(0, 999), (2, 40), (5, 60), (300, 300)]);
        assert_eq!((table.items, table.connections, table.bytes), (3, 307, 400));
        assert_eq!(table.rows[0].connections, 7);
        assert_eq!(percent(table.rows[0].bytes, table.bytes), "25.000");
        assert_eq!(percent(table.rows[0].items, table.items), "66.667");
    }

    #[test]
    fn an_empty_table_has_shares_of_zero() {
        let table = Distribution::of([]);
        for row in &table.rows {
            assert_eq!(table.item_share(row), 0.0);
            assert_eq!(table.byte_share(row), 0.0);
            assert_eq!(table.cumulative_share(row), 0.0);
        }
    }
}
