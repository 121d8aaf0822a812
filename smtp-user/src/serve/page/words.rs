//! Numbers and lengths of time in words, as they stand on pages.
#![forbid(unsafe_code)]

use std::fmt::Display;

/// 1,234,567
pub(super) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 1.2 MB
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// 2 h 5 min
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1 host`, `2 hosts`
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped(number),
        if number == 1 { one } else { many }
    )
}

/// A figure of a rule: a share in percent, anything else with at most one decimal.
pub(super) fn figure(value: f64, unit: &str) -> String {
    if unit == "share" {
        return format!("{:.0} %", 100.0 * value);
    }
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        grouped(value.round())
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_ambiguous() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(-123_456), "-123,456");
        assert_eq!(figure(1655.0, "connections"), "1,655");
        assert_eq!(figure(12.34, "connections per second"), "12.3");
        assert_eq!(figure(0.301, "share"), "30 %");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_234_567), "1.2 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_661), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
        assert_eq!(count(1, "host", "hosts"), "1 host");
        assert_eq!(count(2, "host", "hosts"), "2 hosts");
    }
}
