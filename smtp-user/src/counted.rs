//! Numbers beside what they count.
#![forbid(unsafe_code)]

/// As `1 notice` or `2 notices`; `one` is the word for a single one, which gets an s.
pub(crate) fn counted(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(counted(0, "notice"), "0 notices");
        assert_eq!(counted(1, "notice"), "1 notice");
        assert_eq!(counted(2, "notice"), "2 notices");
    }
}
