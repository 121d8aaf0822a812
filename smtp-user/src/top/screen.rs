//! What stands on the screen: a pure function of the sample, the time and the size.
//!
//! Contract: no line is wider than the screen and there are no more of them than it has; all is ASCII,
//! so that a column is a column on every terminal. Colours say nothing that words do not.

use std::time::{Duration, Instant};

use super::sample::{Row, Sample, Sort, SortKey, Span};
use crate::model::verdict::Severity;

/// Columns where nobody says how many there are. The table is laid out for them: the longest IPv6
/// address has 39 characters.
pub(super) const WIDTH: u16 = 80;
/// Columns of the table but for the address.
const FIGURES: usize = 41;
/// A drain is late after this many windows, as for the agent itself.
const LATE_WINDOWS: u32 = 3;
const KEYS: &str = "sort: c p b s a, r reverses | w window, h hour, d day, t total | q quits";

/// That the agent gave no answer.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// Whether it is not there, or has said that it will not.
    pub(super) away: bool,
    /// Since when.
    pub(super) since: Instant,
    /// What was said the last time.
    pub(super) text: String,
}

/// All that is shown.
pub(super) struct Screen {
    /// Where the agent is.
    pub(super) place: String,
    pub(super) sort: Sort,
    pub(super) span: Span,
    pub(super) sample: Option<Sample>,
    pub(super) trouble: Option<Trouble>,
    pub(super) colour: bool,
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    Bold,
    Reverse,
    Red,
    Yellow,
}

impl Look {
    /// Its code for "select graphic rendition" (ECMA-48, 8.3.117).
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Reverse => "7",
            Self::Red => "1;31",
            Self::Yellow => "33",
        }
    }
}

impl Screen {
    /// What a key changes; whether the agent has to be asked anew.
    pub(super) fn press(&mut self, key: u8) -> bool {
        let key_of = |key| match key {
            b'c' => Some(SortKey::Connections),
            b'p' => Some(SortKey::Packets),
            b'b' => Some(SortKey::Bytes),
            b's' => Some(SortKey::Servers),
            b'a' => Some(SortKey::Address),
            _ => None,
        };
        let span_of = |key| match key {
            b'w' => Some(Span::Window),
            b'h' => Some(Span::Hour),
            b'd' => Some(Span::Day),
            b't' => Some(Span::All),
            _ => None,
        };
        let (sort, span) = (self.sort, self.span);
        if let Some(key) = key_of(key) {
            let reversed = false;
            self.sort = Sort { key, reversed };
        } else if let Some(span) = span_of(key) {
            self.span = span;
        } else if key == b'r' {
            self.sort.reversed = !self.sort.reversed;
        }
        (sort, span) != (self.sort, self.span)
    }

    /// The lines of a screen of this size.
    pub(super) fn frame(&self, (columns, rows): (u16, u16)) -> Vec<String> {
        let (columns, rows) = (usize::from(columns), usize::from(rows));
        let mut lines = self.lines(columns);
        // The last line is for the keys.
        lines.truncate(rows.saturating_sub(1));
        lines.resize(rows.saturating_sub(1), (Look::Plain, String::new()));
        lines.push((Look::Plain, KEYS.to_owned()));
        lines.truncate(rows);
        let painted = lines.into_iter().map(|(look, line)| {
            let line = fit(&line, columns);
            if self.colour && look != Look::Plain {
                format!("\x1b[{}m{line}\x1b[0m", look.code())
            } else {
                line
            }
        });
        painted.collect()
    }

    /// The same as a text of its own.
    pub(super) fn page(&self, columns: u16) -> String {
        let mut text = String::new();
        for (_, line) in self.lines(usize::from(columns)) {
            text.push_str(fit(&line, usize::from(columns)).trim_end());
            text.push('\n');
        }
        text
    }

    fn lines(&self, columns: usize) -> Vec<(Look, String)> {
        let now = Instant::now();
        let mut lines = vec![(Look::Bold, format!("smtpflow top - {}", self.place))];
        if let Some(Trouble { away, since, text }) = &self.trouble {
            let what = if *away { "AGENT AWAY" } else { "NO ANSWER" };
            let time = show(now.saturating_duration_since(*since));
            lines.push((Look::Red, format!("{what} for {time}: {text}")));
        }
        let Some(sample) = &self.sample else {
            if self.trouble.is_none() {
                lines.push((Look::Plain, "asking the agent ...".to_owned()));
            }
            return lines;
        };
        let since = now.saturating_duration_since(sample.at);
        lines.push(if self.trouble.is_some() {
            (
                Look::Yellow,
                format!("What follows is {} old.", show(since)),
            )
        } else {
            state(sample, since)
        });
        lines.push((Look::Plain, figures(sample)));
        if !sample.head.warnings.is_empty() {
            lines.push((Look::Red, format!("! {}", sample.head.warnings.join("; "))));
        }
        lines.push((Look::Plain, self.caption()));
        let address = columns.saturating_sub(FIGURES).max(15);
        lines.push((Look::Reverse, header(address)));
        lines.extend(sample.rows.iter().map(|row| {
            let look = match row.severity {
                Some(Severity::Critical) => Look::Red,
                Some(_) => Look::Yellow,
                None => Look::Plain,
            };
            (look, line(row, address))
        }));
        if sample.rows.is_empty() {
            lines.push((Look::Plain, "nobody".to_owned()));
        }
        lines
    }

    fn caption(&self) -> String {
        let order = match (self.sort.key, self.sort.reversed) {
            (SortKey::Connections, false) => "most connections first",
            (SortKey::Connections, true) => "fewest connections first",
            (SortKey::Packets, false) => "most packets first",
            (SortKey::Packets, true) => "fewest packets first",
            (SortKey::Bytes, false) => "most bytes first",
            (SortKey::Bytes, true) => "fewest bytes first",
            (SortKey::Servers, false) => "most servers first",
            (SortKey::Servers, true) => "fewest servers first",
            (SortKey::Address, false) => "by address",
            (SortKey::Address, true) => "by address, the last first",
        };
        format!("Sources, {}, {order}:", self.span.name())
    }
}

/// Whether mail is counted.
fn state(sample: &Sample, since: Duration) -> (Look, String) {
    let head = &sample.head;
    let age = head.age.map(|age| age + since);
    let drained = match age {
        Some(age) => format!("last drain {} ago", show(age)),
        None => "no drain yet".to_owned(),
    };
    let window = show(head.window);
    let on = head.counting.join(", ");
    let late = age.is_some_and(|age| age > head.window * LATE_WINDOWS);
    if !head.missing.is_empty() || head.counting.is_empty() {
        let missing = match head.missing.as_slice() {
            [] => "no interface".to_owned(),
            missing => missing.join(", "),
        };
        let rest = match on.as_str() {
            "" => String::new(),
            on => format!("; counting on {on}"),
        };
        return (
            Look::Red,
            format!("NOT COUNTING: {missing}{rest}; {drained}"),
        );
    }
    if late {
        let text = format!("LATE: {drained}, windows are {window}; counting on {on}");
        return (Look::Red, text);
    }
    let text = format!("counting on {on}; {drained}, windows of {window}");
    (Look::Plain, text)
}

fn figures(sample: &Sample) -> String {
    let head = &sample.head;
    let rate = head
        .rate
        .map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    let sources = head.sources.map_or("-".to_owned(), |count| short(count, 9));
    let flagged = match head.open {
        None => "nobody is judged (networks.local)".to_owned(),
        Some(open) => {
            let mut parts: Vec<_> = Severity::ALL
                .iter()
                .zip(open)
                .map(|(severity, count)| format!("{count} {}", severity.name()))
                .collect();
            parts.reverse();
            format!("flagged: {}", parts.join(", "))
        }
    };
    format!("{rate} connections/s   {sources} sources   {flagged}")
}

fn header(address: usize) -> String {
    format!(
        "{:<address$} {:>7} {:>7} {:>7} {:>5} {:>5} {:<4}",
        "ADDRESS", "CONNS", "PACKETS", "BYTES", "SERVS", "B/PKT", "FLAG"
    )
}

fn line(row: &Row, address: usize) -> String {
    let shown =
        |count: Option<u64>, width| count.map_or("-".to_owned(), |count| short(count, width));
    let mean = row
        .bytes
        .zip(row.packets)
        .and_then(|(bytes, packets)| bytes.checked_div(packets));
    let flag = match row.severity {
        Some(Severity::Critical) => "crit",
        Some(Severity::Warning) => "warn",
        Some(Severity::Notice) => "note",
        None => "",
    };
    format!(
        "{:<address$} {:>7} {:>7} {:>7} {:>5} {:>5} {flag:<4}",
        cut(&row.address, address),
        shown(row.connections, 7),
        shown(row.packets, 7),
        shown(row.bytes, 7),
        shown(row.servers, 5),
        shown(mean, 5),
    )
}

/// At most `width` characters, of which the last one says if there were more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}~")
}

/// A line of ASCII that is no wider than the screen.
fn fit(line: &str, columns: usize) -> String {
    let ascii: String = line
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect();
    cut(ascii.trim_end(), columns)
}

/// A count in at most `width` characters, of which there are 5 or more: in full, or as `1.2M`.
fn short(count: u64, width: usize) -> String {
    let full = count.to_string();
    if full.len() <= width {
        return full;
    }
    let mut value = count;
    for unit in ["k", "M", "G", "T", "P", "E"] {
        let tenths = value / 100;
        value /= 1000;
        let text = if value < 100 {
            format!("{value}.{}{unit}", tenths % 10)
        } else {
            format!("{value}{unit}")
        };
        if value < 1000 {
            return text;
        }
    }
    full
}

/// A duration in its largest unit.
fn show(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::sample::Head;
    use super::*;

    const LONGEST: &str = "2001:db8:1111:2222:3333:4444:5555:6666";

    fn row(address: &str, connections: u64) -> Row {
        Row {
            address: address.to_owned(),
            connections: Some(connections),
            packets: Some(connections * 6),
            bytes: Some(connections * 500),
            servers: Some(3),
            severity: None,
        }
    }

    fn screen() -> Screen {
        let mut spammer = row(LONGEST, 123_456_789);
        spammer.severity = Some(Severity::Critical);
        spammer.servers = Some(123_456);
        Screen {
            place: "http://127.0.0.1:12525".to_owned(),
            sort: Sort {
                key: SortKey::Connections,
                reversed: false,
            },
            span: Span::Window,
            sample: Some(Sample {
                at: Instant::now(),
                head: Head {
                    counting: vec!["eth0 (driver)".to_owned(), "eth1 (skb)".to_owned()],
                    missing: Vec::new(),
                    age: Some(Duration::from_secs(3)),
                    window: Duration::from_secs(10),
                    rate: Some(12.34),
                    sources: Some(1_234_567),
                    open: Some([3, 2, 1]),
                    warnings: Vec::new(),
                },
                rows: vec![spammer, row("192.0.2.7", 12)],
                json: Value::Null,
            }),
            trouble: None,
            colour: false,
        }
    }

    #[test]
    fn at_80_columns_everything_has_its_place() {
        assert_eq!(
            screen().page(80),
            "\
smtpflow top - http://127.0.0.1:12525
counting on eth0 (driver), eth1 (skb); last drain 3 s ago, windows of 10 s
12.3 connections/s   1234567 sources   flagged: 1 critical, 2 warning, 3 notice
Sources, last window, most connections first:
ADDRESS                                   CONNS PACKETS   BYTES SERVS B/PKT FLAG
2001:db8:1111:2222:3333:4444:5555:6666     123M    740M   61.7G  123k    83 crit
192.0.2.7                                    12      72    6000     3    83
"
        );
    }

    #[test]
    fn no_screen_is_written_beyond_its_edges() {
        let mut screen = screen();
        let sample = screen.sample.as_mut().expect("a sample");
        sample.rows[0].address = "2001:1111:1111:2222:3333:4444:5555:6666".to_owned();
        assert_eq!(sample.rows[0].address.len(), 39, "the longest there is");
        sample.head.warnings = vec!["w\u{4e2d}".repeat(100)];
        let rows = sample.rows.clone();
        for _ in 0..100 {
            sample.rows.extend_from_slice(&rows);
        }
        for trouble in [false, true] {
            screen.trouble = trouble.then(|| Trouble {
                away: true,
                since: Instant::now(),
                text: "x".repeat(300),
            });
            for columns in [1, 20, 79, 80, 81, 200] {
                for rows in [1, 2, 7, 24, 100] {
                    let frame = screen.frame((columns, rows));
                    assert_eq!(frame.len(), usize::from(rows));
                    for line in frame {
                        assert!(line.is_ascii(), "{line}");
                        assert!(line.len() <= usize::from(columns), "{columns}: {line}");
                    }
                }
            }
        }
        screen.trouble = None;
        let whole = screen.frame((80, 24)).join("\n");
        assert!(
            whole.contains("2001:1111:1111:2222:3333:4444:5555:6666 "),
            "{whole}"
        );
        assert!(whole.ends_with(KEYS), "{whole}");
    }

    #[test]
    fn who_does_not_count_or_is_late_or_away_is_told() {
        let mut screen = screen();
        let said = |screen: &Screen| screen.page(200);
        screen.sample.as_mut().expect("a sample").head.missing = vec!["eth2 is missing".to_owned()];
        let text = said(&screen);
        assert!(
            text.contains("NOT COUNTING: eth2 is missing; counting on eth0 (driver)"),
            "{text}"
        );
        let head = &mut screen.sample.as_mut().expect("a sample").head;
        head.missing.clear();
        head.age = Some(Duration::from_secs(31));
        let text = said(&screen);
        assert!(text.contains("LATE: last drain 31 s ago"), "{text}");
        screen.trouble = Some(Trouble {
            away: true,
            since: Instant::now(),
            text: "no answer".to_owned(),
        });
        let text = said(&screen);
        assert!(
            text.contains("AGENT AWAY for 0 s: no answer\nWhat follows is 0 s old."),
            "{text}"
        );
        screen.sample = None;
        assert!(said(&screen).contains("no answer"));
    }

    #[test]
    fn colours_come_on_top_of_words() {
        let mut screen = screen();
        let plain = screen.frame((80, 24));
        assert!(!plain.join("").contains('\x1b'));
        screen.colour = true;
        let colours = screen.frame((80, 24));
        assert!(colours.join("").contains("\x1b[1;31m2001:db8:1111"));
        let bare = colours.iter().map(|line| {
            let mut line = line.clone();
            while let Some(start) = line.find('\x1b') {
                let end = start + line[start..].find('m').expect("an end");
                line.replace_range(start..=end, "");
            }
            line
        });
        assert!(bare.eq(plain));
    }

    #[test]
    fn keys_sort_and_choose_the_time() {
        let mut screen = screen();
        assert!(!screen.press(b'c'), "as it is");
        assert!(screen.press(b'r') && screen.sort.reversed);
        assert!(screen.press(b's'));
        assert_eq!(screen.sort.key, SortKey::Servers);
        assert!(!screen.sort.reversed, "another key begins at its usual end");
        assert!(screen.press(b'h'));
        assert!(screen.caption().contains("last hour, most servers first"));
        assert!(!screen.press(b'x'));
    }

    #[test]
    fn counts_are_short_and_never_wrong_by_more_than_their_last_digit() {
        for (count, width, text) in [
            (0, 7, "0"),
            (9_999_999, 7, "9999999"),
            (10_000_000, 7, "10.0M"),
            (99_999, 5, "99999"),
            (100_000, 5, "100k"),
            (1_250_000, 5, "1.2M"),
            (999_999_999, 7, "999M"),
            (u64::MAX, 7, "18.4E"),
        ] {
            assert_eq!(short(count, width), text);
            assert!(short(count, width).len() <= width);
        }
    }
}
