//! Small charts, as SVG in the page.
//!
//! Contract: `None` is a time that was not counted and stays empty; 0 is drawn as 0. Every chart says in
//! words what it shows, for who does not see it. Coordinates have one decimal, so a chart of a day takes
//! a few hundred bytes. Text is escaped here; nothing else in a chart comes from outside. Colours are those
//! of the style sheet, by class.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use askama::filters::{Safe, escape};

use super::filters::Text;

/// A chart, ready for a template.
pub(super) type Svg = Safe<String>;

/// Begins a chart of this size with its class, and what it shows in words.
fn begin(class: &str, width: u32, height: u32, stretch: bool, words: &str) -> String {
    let mut svg = format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\"{}><title>",
        if stretch {
            " preserveAspectRatio=\"none\""
        } else {
            ""
        }
    );
    push(&mut svg, words);
    svg.push_str("</title>");
    svg
}

fn end(svg: String) -> Svg {
    Safe(svg + "</svg>")
}

/// Text, escaped.
fn push(svg: &mut String, text: &str) {
    let Ok(safe) = escape(text, Text);
    let _ = write!(svg, "{safe}");
}

/// A sparkline has this much width for each value, so that all coordinates are whole.
const STEP: usize = 2;
const SPARK_HEIGHT: u32 = 80;

/// A line over time, with the same time of the day before behind it. It is stretched to its place.
pub(super) fn spark(line: &[Option<f64>], before: &[Option<f64>], words: &str) -> Svg {
    let all = line.iter().chain(before).flatten();
    let most = all.copied().fold(f64::MIN_POSITIVE, f64::max);
    let width = STEP * line.len().max(before.len()).max(1);
    let width = u32::try_from(width).unwrap_or(u32::MAX);
    let mut svg = begin("spark", width, SPARK_HEIGHT, true, words);
    for (class, values) in [("ghost", before), ("line", line)] {
        let path = path(values, most, SPARK_HEIGHT.into());
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    end(svg)
}

/// A stroke for every stretch without a gap. A single value between gaps is a short one. Points on a
/// level stretch are left out.
fn path(values: &[Option<f64>], most: f64, height: f64) -> String {
    let level = |value: f64| ((height - 4.0) * (1.0 - value / most) + 2.0).round();
    let at = |i: usize| values.get(i).copied().flatten().map(level);
    let mut path = String::new();
    for i in 0..values.len() {
        let Some(y) = at(i) else {
            continue;
        };
        let (x, before, after) = (STEP * i + 1, i.checked_sub(1).and_then(at), at(i + 1));
        let _ = match (before, after) {
            (None, None) => write!(path, "M{} {y}h{STEP}", x - 1),
            (None, Some(_)) => write!(path, "M{x} {y}"),
            (Some(before), Some(after)) if before == y && after == y => Ok(()),
            _ => write!(path, "L{x} {y}"),
        };
    }
    path
}

/// Two shares of the same thing, from 0 to 1, one bar above the other.
pub(super) fn bars(upper: f64, lower: f64, words: &str) -> Svg {
    let mut svg = begin("bars", 100, 12, true, words);
    for (class, y, share) in [("upper", 0, upper), ("lower", 7, lower)] {
        let width = (share.clamp(0.0, 1.0) * 100.0).max(if share > 0.0 { 0.5 } else { 0.0 });
        let _ = write!(
            svg,
            "<rect class=\"{class}\" y=\"{y}\" width=\"{width:.1}\" height=\"5\"/>"
        );
    }
    end(svg)
}

/// Something on a lane. Places are shares of the lane's time, from 0 to 1.
pub(super) enum Mark {
    /// From here to there, in a colour by class.
    Span(f64, f64, &'static str),
    /// At one time: a symbol, in a colour by class.
    Point(f64, &'static str, &'static str),
}

/// A lane of a timeline: as wide as its place, whatever that is, with symbols that are not stretched.
pub(super) fn lane(marks: &[Mark], words: &str) -> Svg {
    let mut svg = "<svg class=\"lane\" role=\"img\"><title>".to_owned();
    push(&mut svg, words);
    svg.push_str("</title>");
    let percent = |share: f64| 100.0 * share.clamp(0.0, 1.0);
    for mark in marks {
        let _ = match mark {
            Mark::Span(from, to, class) => {
                let (from, to) = (percent(*from), percent(*to));
                let width = (to - from).max(0.3);
                write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{from:.2}%\" y=\"7\" width=\"{width:.2}%\" height=\"8\"/>"
                )
            }
            Mark::Point(at, symbol, class) => write!(
                svg,
                "<text class=\"{class}\" x=\"{:.2}%\" y=\"16\">{symbol}</text>",
                percent(*at)
            ),
        };
    }
    end(svg)
}

/// Steps of a heat strip.
const HEATS: usize = 4;

/// A cell for each hour of a day, the darker the more; 0 is an empty cell and a gap is none.
pub(super) fn heat(hours: &[Option<u64>], words: &str) -> Svg {
    let most = hours.iter().flatten().copied().max().unwrap_or(0).max(1);
    let mut cells: [String; HEATS + 1] = Default::default();
    for (hour, count) in hours.iter().enumerate() {
        let Some(count) = count else {
            continue;
        };
        let step = if *count == 0 {
            0
        } else {
            // Of the root: a busy hour must not make all others look alike.
            let share = (*count as f64 / most as f64).sqrt();
            ((share * HEATS as f64).ceil() as usize).clamp(1, HEATS)
        };
        let _ = write!(cells[step], "M{} 0v12", 5 * hour + 2);
    }
    let width = 5 * u32::try_from(hours.len()).unwrap_or(24);
    let mut svg = begin("heat", width, 12, false, words);
    for (step, path) in cells
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.is_empty())
    {
        let _ = write!(svg, "<path class=\"h{step}\" d=\"{path}\"/>");
    }
    end(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_gap_and_zero_is_zero() {
        let values = [1, 2, -1, 0, -1, 2, 2, 2, 2];
        let values = values.map(|value| (value >= 0).then_some(f64::from(value)));
        // Three strokes: a rise, a short one at the bottom, a level one at the top.
        let strokes = path(&values, 2.0, 44.0);
        assert_eq!(strokes, "M1 22L3 2M6 42h2M11 2L17 2");
        assert!(path(&[None, None], 1.0, 44.0).is_empty());
        let empty = spark(&[], &[], "nothing").0;
        assert!(
            !empty.contains("<path") && !empty.contains("NaN"),
            "{empty}"
        );
        let zero = spark(&[Some(0.0), Some(0.0)], &[], "nothing").0;
        assert!(zero.contains("M1 78L3 78"), "{zero}");
    }

    #[test]
    fn an_hour_that_was_not_counted_has_no_cell() {
        let svg = heat(&[Some(0), None, Some(1), Some(100)], "hours").0;
        assert!(svg.contains("class=\"h0\" d=\"M2 0v12\""), "{svg}");
        assert!(svg.contains("class=\"h1\" d=\"M12 0v12\""), "{svg}");
        assert!(svg.contains("class=\"h4\" d=\"M17 0v12\""), "{svg}");
        assert!(!svg.contains("M7 "), "{svg}");
    }

    #[test]
    fn words_are_escaped_and_bars_are_seen() {
        let svg = bars(0.0001, 2.0, "<b>&\"").0;
        assert!(
            svg.contains("<title>&#60;b&#62;&#38;&#34;</title>"),
            "{svg}"
        );
        assert!(
            svg.contains("width=\"0.5\"") && svg.contains("width=\"100.0\""),
            "{svg}"
        );
        assert!(bars(0.0, 0.5, "").0.contains("width=\"0.0\""));
    }
}
