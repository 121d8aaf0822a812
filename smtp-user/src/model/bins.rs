//! Sources of windows, sorted into bins by their connections.

use crate::distribution::FROM;

/// Counts of the sources of one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Sources, each counted once a window.
    pub sources: u64,
    /// Their connections.
    pub connections: u64,
    /// Their client-to-server bytes, layer 3.
    pub bytes: u64,
}

impl Bin {
    const fn merge(&mut self, other: &Self) {
        let Self {
            sources,
            connections,
            bytes,
        } = self;
        *sources = sources.saturating_add(other.sources);
        *connections = connections.saturating_add(other.connections);
        *bytes = bytes.saturating_add(other.bytes);
    }
}

/// One [`Bin`] for each row of [`crate::distribution`], in the same order: what a source opened in one
/// window decides where it counts. A source without a connection is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bins(pub [Bin; FROM.len()]);

impl Bins {
    /// Adds a source of one window.
    #[inline]
    pub fn add(&mut self, connections: u64, bytes: u64) {
        // Nearly all sources of a window are in the first bin or in none, and which of both cannot be
        // foretold: so there is no branch for it.
        if connections < FROM[1] {
            let counts = u64::from(connections != 0);
            self.0[0].merge(&Bin {
                sources: counts,
                connections,
                bytes: bytes * counts,
            });
            return;
        }
        let place = FROM.iter().filter(|from| **from <= connections).count() - 1;
        self.0[place].merge(&Bin {
            sources: 1,
            connections,
            bytes,
        });
    }

    /// Adds another stretch of time.
    pub const fn merge(&mut self, other: &Self) {
        let mut i = 0;
        while i < self.0.len() {
            self.0[i].merge(&other.0[i]);
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;

    #[test]
    fn bins_are_the_rows_of_the_distribution() {
        let ends = FROM.iter().flat_map(|from| [from - 1, *from, from + 1]);
        for connections in ends.chain([u64::MAX]) {
            let mut bins = Bins::default();
            bins.add(connections, 40);
            let rows = Distribution::of([(connections, 40)]).rows;
            let bins = bins.0.map(|bin| (bin.sources, bin.connections, bin.bytes));
            let rows = rows.map(|row| (row.items, row.connections, row.bytes));
            assert_eq!(bins, rows, "{connections}");
        }
    }
}
