//! A share of a few, and how far it can be trusted.
//!
//! Contract: computed from counts. A share of nothing is none, and its interval says nothing: 0 to 1.

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proportion {
    /// The part.
    pub part: u64,
    /// What it is a part of; at least as many.
    pub whole: u64,
}

impl Proportion {
    /// From 0 to 1; `None` of nothing.
    pub fn value(self) -> Option<f64> {
        (self.whole != 0).then(|| self.part as f64 / self.whole as f64)
    }

    /// In percent with one decimal, a half up; `-` of nothing.
    pub fn percent(self) -> String {
        let (part, whole) = (u128::from(self.part), u128::from(self.whole));
        match (2000 * part + whole).checked_div(2 * whole) {
            Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
            None => "-".to_owned(),
        }
    }

    /// Between which the share is of all that these few stand for, with 95 % confidence: the score
    /// interval (Wilson, Journal of the American Statistical Association 22, 1927).
    pub fn interval(self) -> (f64, f64) {
        self.value()
            .map_or((0.0, 1.0), |share| interval(share, self.whole))
    }

    /// The interval in percent, as `50.5 to 89.8`; `-` of nothing.
    pub fn interval_percent(self) -> String {
        if self.whole == 0 {
            return "-".to_owned();
        }
        let (low, high) = self.interval();
        format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)
    }
}

impl std::ops::AddAssign for Proportion {
    fn add_assign(&mut self, other: Self) {
        let Self { part, whole } = other;
        self.part += part;
        self.whole += whole;
    }
}

/// The median, and between which it is with 95 % confidence; `None` of nothing.
///
/// The ends are values of the sample: those at the ranks that the score interval of one half gives, so of
/// fewer than six they are the least and the greatest.
pub fn median(mut sample: Vec<u64>) -> Option<(u64, (u64, u64))> {
    sample.sort_unstable();
    let count = sample.len();
    let last = count.checked_sub(1)?;
    let (low, high) = (sample[last / 2], sample[count / 2]);
    let (from, to) = interval(0.5, count as u64);
    let rank = |rank: f64| (rank as usize).min(last);
    let ends = (
        sample[rank((from * count as f64).floor())],
        sample[rank((to * count as f64).ceil() - 1.0)],
    );
    Some((low + (high - low) / 2, ends))
}

/// The interval of a share of so many, which are more than none.
fn interval(share: f64, whole: u64) -> (f64, f64) {
    // The 97.5 % point of the normal distribution.
    const Z: f64 = 1.959_963_984_540_054;
    let n = whole as f64;
    let middle = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (
        ((middle - reach) / scale).max(0.0),
        ((middle + reach) / scale).min(1.0),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proportion(part: u64, whole: u64) -> Proportion {
        Proportion { part, whole }
    }

    #[test]
    fn the_interval_is_the_published_one() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        for (part, whole, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (from, to) = proportion(part, whole).interval();
            assert!((from - low).abs() < 5e-5, "{part} of {whole}: {from}");
            assert!((to - high).abs() < 5e-5, "{part} of {whole}: {to}");
        }
    }

    #[test]
    fn the_months_of_the_ancestor_come_out_figure_by_figure() {
        let months = [(12, 16), (15, 22), (6, 8), (7, 8), (7, 9)].map(|(p, w)| proportion(p, w));
        let mut all = Proportion::default();
        for month in months {
            all += month;
        }
        assert_eq!(all, proportion(47, 63));
        let shown: Vec<String> = months
            .into_iter()
            .chain([all])
            .map(Proportion::percent)
            .collect();
        assert_eq!(shown, ["75.0", "68.2", "75.0", "87.5", "77.8", "74.6"]);
    }

    #[test]
    fn nothing_is_no_part_of_nothing() {
        let none = Proportion::default();
        assert_eq!((none.value(), none.interval()), (None, (0.0, 1.0)));
        assert_eq!(
            (none.percent(), none.interval_percent()),
            ("-".into(), "-".into())
        );
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_median_is_the_middle_one_or_between_two() {
        assert_eq!(median(vec![7]), Some((7, (7, 7))));
        assert_eq!(median(vec![9, 1, 5]), Some((5, (1, 9))));
        assert_eq!(median(vec![4, 2]), Some((3, (2, 4))));
        assert_eq!(
            median(vec![u64::MAX, u64::MAX]),
            Some((u64::MAX, (u64::MAX, u64::MAX)))
        );
        // Of 100 the score interval of a half is 0.4038 to 0.5962.
        let hundred = median((1..=100).rev().collect());
        assert_eq!(hundred, Some((50, (41, 60))));
    }

    proptest! {
        #[test]
        fn a_share_is_inside_its_interval(whole in 1_u64..100_000, seed: u64) {
            let share = proportion(seed % (whole + 1), whole);
            let (low, high) = share.interval();
            let value = share.value().expect("of something");
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low <= value + 1e-12 && value <= high + 1e-12, "{low} {value} {high}");
        }

        #[test]
        fn a_median_is_inside_its_interval(sample in prop::collection::vec(any::<u64>(), 1..50)) {
            let (middle, (low, high)) = median(sample.clone()).expect("of something");
            prop_assert!(low <= middle && middle <= high);
            prop_assert!(sample.contains(&low) && sample.contains(&high));
        }
    }
}
