//! Times as logs have them.
//!
//! Contract: a time is a number of seconds since 1970 in UTC, or `None` where the text is no time. RFC 3164
//! has neither year nor zone: the zone is the operator's, and the year the latest one by which the time is
//! not more than a day after the reference, which is now for a log that is being written and the time of
//! the last change for an old file.
#![forbid(unsafe_code)]

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How far a log may be ahead of the reference: clocks differ, and zones are set wrong.
const AHEAD: i64 = 86_400;
/// How many years back a time of RFC 3164 may lie: from one 29 February to the next, over a year like 2100.
const YEARS: i16 = 8;

/// A time as it stands in a line, not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp<'a> {
    /// `Nov 27 10:00:00`, 15 octets (RFC 3164, section 4.1.2).
    Bsd(&'a [u8; 15]),
    /// `2026-11-27T10:00:00.123456+01:00` (RFC 5424, section 6.2.3).
    Iso(&'a [u8]),
    /// `2026-11-27 10:00:00`, perhaps with `.123` and ` +0100`: Exim's own log.
    Exim(&'a [u8]),
    /// Known already, as from the journal.
    Known(i64),
}

/// Makes times of stamps.
#[derive(Debug)]
pub struct Clock {
    zone: TimeZone,
    reference: i64,
    /// The last text and its time: a busy log has many lines of one second.
    last: ([u8; 15], Option<i64>),
}

impl Clock {
    /// For logs that are written in this zone, with this reference.
    pub fn new(zone: TimeZone, reference: i64) -> Self {
        Self {
            zone,
            reference,
            last: ([0; 15], None),
        }
    }

    /// Makes this the reference.
    pub fn set_reference(&mut self, reference: i64) {
        if self.reference / 3600 != reference / 3600 {
            self.last = ([0; 15], None);
        }
        self.reference = reference;
    }

    /// The time of a stamp.
    pub fn time(&mut self, stamp: Stamp<'_>) -> Option<i64> {
        match stamp {
            Stamp::Known(time) => Some(time),
            Stamp::Iso(text) => iso(text),
            Stamp::Exim(text) => self.exim(text),
            Stamp::Bsd(text) => {
                if self.last.0 != *text {
                    self.last = (*text, self.bsd(text));
                }
                self.last.1
            }
        }
    }

    fn bsd(&self, text: &[u8; 15]) -> Option<i64> {
        let month = month(&text[..3])?;
        let day = match text[4] {
            b' ' => number(&text[5..6])?,
            _ => number(&text[4..6])?,
        };
        let [hour, minute, second] = hms(&text[7..15])?;
        let newest = jiff::Timestamp::from_second(self.reference.checked_add(AHEAD)?).ok()?;
        let year = self.zone.to_datetime(newest).year();
        (0..=YEARS).find_map(|back| {
            let time = self.local(year - back, month, day, hour, minute, second)?;
            (time <= newest.as_second()).then_some(time)
        })
    }

    fn exim(&self, text: &[u8]) -> Option<i64> {
        let [year, month, day] = ymd(text.get(..10)?)?;
        let [hour, minute, second] = hms(text.get(11..19)?)?;
        match zone_behind(&text[19..])? {
            Some(offset) => Some(utc(year, month, day, hour, minute, second)? - offset),
            None => {
                let year = i16::try_from(year).ok()?;
                let small = |n: i64| i8::try_from(n).ok();
                self.local(
                    year,
                    small(month)?,
                    small(day)?,
                    small(hour)?,
                    small(minute)?,
                    small(second)?,
                )
            }
        }
    }

    fn local(
        &self,
        year: i16,
        month: i8,
        day: i8,
        hour: i8,
        minute: i8,
        second: i8,
    ) -> Option<i64> {
        // A leap second has no number of its own.
        let civil = DateTime::new(year, month, day, hour, minute, second.min(59), 0).ok()?;
        Some(self.zone.to_timestamp(civil).ok()?.as_second())
    }
}

/// The zone behind the seconds of Exim's times, in seconds: nothing, `.123`, ` +0100`, or both.
fn zone_behind(mut text: &[u8]) -> Option<Option<i64>> {
    if let Some(rest) = text.strip_prefix(b".") {
        let digits = rest
            .iter()
            .take_while(|octet| octet.is_ascii_digit())
            .count();
        text = &rest[digits..];
    }
    match text {
        [] => Some(None),
        [b' ', sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            offset(*sign, &[*h1, *h2], &[*m1, *m2]).map(Some)
        }
        _ => None,
    }
}

/// RFC 3339 as RFC 5424 narrows it: with T and Z in upper case and a zone.
fn iso(text: &[u8]) -> Option<i64> {
    let [year, month, day] = ymd(text.get(..10)?)?;
    if *text.get(10)? != b'T' {
        return None;
    }
    let [hour, minute, second] = hms(text.get(11..19)?)?;
    let mut zone = &text[19..];
    if let Some(rest) = zone.strip_prefix(b".") {
        let digits = rest
            .iter()
            .take_while(|octet| octet.is_ascii_digit())
            .count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        zone = &rest[digits..];
    }
    let offset = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => offset(*sign, &[*h1, *h2], &[*m1, *m2])?,
        _ => return None,
    };
    Some(utc(year, month, day, hour, minute, second)? - offset)
}

fn offset(sign: u8, hours: &[u8], minutes: &[u8]) -> Option<i64> {
    let (hours, minutes): (i64, i64) = (number(hours)?, number(minutes)?);
    let seconds = 60 * (60 * hours + minutes);
    (hours < 24 && minutes < 60).then_some(if sign == b'-' { -seconds } else { seconds })
}

fn ymd(text: &[u8]) -> Option<[i64; 3]> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else {
        return None;
    };
    Some([
        number(&[y1, y2, y3, y4])?,
        number(&[m1, m2])?,
        number(&[d1, d2])?,
    ])
}

fn hms<T: TryFrom<u8>>(text: &[u8]) -> Option<[T; 3]> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *text else {
        return None;
    };
    let two = |a: u8, b: u8, most: u8| {
        let valid = a.is_ascii_digit() && b.is_ascii_digit();
        let value = valid.then(|| 10 * (a - b'0') + (b - b'0'))?;
        if value > most {
            return None;
        }
        T::try_from(value).ok()
    };
    Some([two(h1, h2, 23)?, two(m1, m2, 59)?, two(s1, s2, 60)?])
}

/// A number of at most four digits.
fn number<T: TryFrom<u16>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_u16, |value, digit| 10 * value + u16::from(digit - b'0'));
    T::try_from(value).ok()
}

fn month(name: &[u8]) -> Option<i8> {
    const NAMES: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = NAMES.chunks(3).position(|known| known == name)?;
    i8::try_from(at + 1).ok()
}

/// Seconds since 1970 of a time in UTC. The days by the rule of the Gregorian calendar, counted from 1 March,
/// so that the day that may not be is the last one.
fn utc(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let most = *DAYS.get(usize::try_from(month - 1).ok()?)? + i64::from(leap && month == 2);
    if !(1..=most).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27T10:00:00Z.
    const NOW: i64 = 1_795_773_600;

    fn clock() -> Clock {
        Clock::new(TimeZone::UTC, NOW)
    }

    fn shown(time: Option<i64>) -> String {
        time.map_or_else(String::new, |time| {
            let time = jiff::Timestamp::from_second(time).expect("a time");
            time.to_string()
        })
    }

    #[test]
    fn the_year_is_the_latest_that_is_not_in_the_future() {
        for (text, expected) in [
            (b"Nov 27 10:00:00", "2026-11-27T10:00:00Z"),
            (b"Nov 28 09:59:59", "2026-11-28T09:59:59Z"),
            (b"Nov 28 10:00:01", "2025-11-28T10:00:01Z"),
            (b"Dec 31 23:59:60", "2025-12-31T23:59:59Z"),
            (b"Jan  1 00:00:00", "2026-01-01T00:00:00Z"),
            (b"Feb 29 12:00:00", "2024-02-29T12:00:00Z"),
        ] {
            assert_eq!(shown(clock().time(Stamp::Bsd(text))), expected);
        }
        let mut clock = Clock::new(TimeZone::UTC, NOW - 400 * 86_400);
        assert_eq!(
            shown(clock.time(Stamp::Bsd(b"Nov 27 10:00:00"))),
            "2024-11-27T10:00:00Z"
        );
        clock.set_reference(NOW);
        assert_eq!(
            shown(clock.time(Stamp::Bsd(b"Nov 27 10:00:00"))),
            "2026-11-27T10:00:00Z"
        );
    }

    #[test]
    fn times_of_rfc_5424_and_of_exim_carry_what_they_need() {
        for (text, expected) in [
            ("2026-11-27T10:00:00Z", "2026-11-27T10:00:00Z"),
            ("2026-11-27T10:00:00.123456+01:00", "2026-11-27T09:00:00Z"),
            ("2024-02-29T23:30:00.5-02:30", "2024-03-01T02:00:00Z"),
            ("1999-12-31T23:59:60Z", "2000-01-01T00:00:00Z"),
        ] {
            assert_eq!(shown(clock().time(Stamp::Iso(text.as_bytes()))), expected);
        }
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let mut clock = Clock::new(zone, NOW);
        for (text, expected) in [
            ("2026-11-27 10:00:00", "2026-11-27T08:00:00Z"),
            ("2026-11-27 10:00:00.123", "2026-11-27T08:00:00Z"),
            ("2026-11-27 10:00:00 +0100", "2026-11-27T09:00:00Z"),
            ("2026-11-27 10:00:00.123 -0130", "2026-11-27T11:30:00Z"),
        ] {
            assert_eq!(shown(clock.time(Stamp::Exim(text.as_bytes()))), expected);
        }
        assert_eq!(
            shown(clock.time(Stamp::Bsd(b"Nov 27 10:00:00"))),
            "2026-11-27T08:00:00Z"
        );
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            b"Nov 31 10:00:00",
            b"Nev 27 10:00:00",
            b"Nov 27 24:00:00",
            b"Nov 27 10:60:00",
            b"Nov 27 10-00-00",
            b"Nov  0 10:00:00",
            b"Nov xx 10:00:00",
        ] {
            assert_eq!(clock().time(Stamp::Bsd(text)), None);
        }
        for text in [
            "",
            "2026-11-27",
            "2026-11-27T10:00:00",
            "2026-11-27t10:00:00Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-00-01T10:00:00Z",
            "2026-11-27T10:00:00.Z",
            "2026-11-27T10:00:00.1234567890Z",
            "2026-11-27T10:00:00+24:00",
        ] {
            assert_eq!(clock().time(Stamp::Iso(text.as_bytes())), None, "{text}");
        }
        for text in [
            "2026-11-27 10:00",
            "2026-11-27 10:00:00 +1",
            "2026-11-27 10:00:00x",
        ] {
            assert_eq!(clock().time(Stamp::Exim(text.as_bytes())), None, "{text}");
        }
    }
}
