//! Cuts octets into lines.
//!
//! Contract: a line ends with LF and nothing else, and has at most [`LINE_LIMIT`] octets, or as many as are asked
//! for. A longer one is
//! dropped whole and counted: cut off it could mislead, since some fields are found from the end of the line.
//! Memory is bounded by that limit, whatever comes in.
#![forbid(unsafe_code)]

/// Most octets of a line without its end: what rsyslog takes unless it is told otherwise.
pub const LINE_LIMIT: usize = 8192;

/// See the module.
#[derive(Debug)]
pub struct Lines {
    /// Most octets of a line.
    limit: usize,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Whether what comes up to the next LF belongs to a line that was dropped.
    dropping: bool,
    /// Lines that were dropped.
    dropped: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self::limited(LINE_LIMIT)
    }
}

impl Lines {
    /// With another limit.
    pub const fn limited(limit: usize) -> Self {
        Self {
            limit,
            begun: Vec::new(),
            dropping: false,
            dropped: 0,
        }
    }

    /// Begins in the middle of a line that is being dropped, or at the beginning of one.
    pub fn new(dropping: bool) -> Self {
        Self {
            dropping,
            ..Self::default()
        }
    }

    /// Takes octets and hands over each line that is whole by them.
    pub fn push(&mut self, mut octets: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = octets.iter().position(|octet| *octet == b'\n') {
            let (part, rest) = octets.split_at(end);
            octets = &rest[1..];
            if self.dropping {
                self.dropping = false;
            } else if self.begun.len() + part.len() > self.limit {
                self.dropped += 1;
                self.begun.clear();
            } else if self.begun.is_empty() {
                line(part);
            } else {
                self.begun.extend_from_slice(part);
                line(&self.begun);
                self.begun.clear();
            }
        }
        if self.dropping {
            return;
        }
        if self.begun.len() + octets.len() > self.limit {
            self.begun.clear();
            self.dropping = true;
            self.dropped += 1;
        } else {
            self.begun.extend_from_slice(octets);
        }
    }

    /// Hands over what has no end, at the end of a file that nobody writes to any more.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            line(&self.begun);
        }
        self.begun.clear();
        self.dropping = false;
    }

    /// Octets that were taken and not handed over: the beginning of a line.
    pub const fn pending(&self) -> usize {
        self.begun.len()
    }

    /// Whether a line is being dropped whose end has not come yet.
    pub const fn dropping(&self) -> bool {
        self.dropping
    }

    /// Lines that were too long.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| found.push(line.to_vec()));
        }
        lines.finish(|line| found.push(line.to_vec()));
        (found, lines.dropped())
    }

    #[test]
    fn lines_end_with_lf_alone() {
        let (lines, dropped) = cut(&[b"one\ntw", b"", b"o\r\n\nla\0st"]);
        assert_eq!(
            lines,
            [&b"one"[..], b"two\r", b"", b"la\0st"].map(<[u8]>::to_vec)
        );
        assert_eq!(dropped, 0);
    }

    #[test]
    fn a_line_at_the_limit_is_taken_and_one_above_is_dropped_whole() {
        let (longest, longer) = (vec![b'x'; LINE_LIMIT], vec![b'x'; LINE_LIMIT + 1]);
        let (lines, dropped) = cut(&[&longest, b"\n", &longer, b" forged\nnext\n"]);
        assert_eq!(lines, [longest.clone(), b"next".to_vec()]);
        assert_eq!(dropped, 1);
        let whole = [longer.as_slice(), b"\n", &longest, b"\n"].concat();
        assert_eq!(cut(&[&whole]), (vec![longest], 1));
    }

    #[test]
    fn a_line_that_is_being_dropped_stays_so_over_a_restart() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; LINE_LIMIT + 9], |_| panic!("a line"));
        assert!(lines.dropping());
        let mut after = Lines::new(lines.dropping());
        let mut found = Vec::new();
        after.push(b"Nov 27 10:00:00 mx postfix/qmgr[1]: A\nB\n", |line| {
            found.push(line.to_vec());
        });
        assert_eq!(found, [b"B".to_vec()]);
    }

    proptest! {
        #[test]
        fn where_the_octets_are_cut_makes_no_difference(
            octets in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
            at in any::<prop::sample::Index>(),
        ) {
            let (one, two) = octets.split_at(at.index(octets.len() + 1));
            prop_assert_eq!(cut(&[one, two]), cut(&[&octets]));
        }
    }
}
