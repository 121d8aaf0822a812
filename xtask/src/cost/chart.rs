//! The report as a picture: SVG that stands on a light page and on a dark one.
//!
//! Two panels. On the left what a packet costs inside the kernel as sources grow, for the line table
//! and for the kernel's own hashes; on the right what a packet costs end to end, for smtpflow and for
//! what people use otherwise. No fill behind: the page shows through.

use std::fmt::Write as _;

use super::{Machine, Report, name};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;

/// Colours by subject: a class of the style sheet.
const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}\
.title{font-size:15px;font-weight:600}.small{font-size:11px;fill:#59636e}.strong{font-weight:600}\
.grid{stroke:#d1d9e0;stroke-width:1}.line{fill:none;stroke-width:2.5;stroke-linejoin:round}\
.a{stroke:#0969da;fill:#0969da}.b{stroke:#1a7f37;fill:#1a7f37}.c{stroke:#bc4c00;fill:#bc4c00}\
.d{stroke:#8250df;fill:#8250df}.e{stroke:#818b98;fill:#818b98}\
.line.a,.line.b,.line.c,.line.d,.line.e{fill:none}text.a,text.b,text.c,text.d,text.e{stroke:none}\
rect{stroke:none!important}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.grid{stroke:#3d444d}\
.a{stroke:#4493f8;fill:#4493f8}.b{stroke:#3fb950;fill:#3fb950}.c{stroke:#f0883e;fill:#f0883e}\
.d{stroke:#ab7df8;fill:#ab7df8}.e{stroke:#9198a1;fill:#9198a1}\
.line.a,.line.b,.line.c,.line.d,.line.e{fill:none}}";

/// The chart.
pub fn chart(report: &Report) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"What counting a packet costs\">\n<style>{STYLE}</style>\n"
    );
    lines(&mut svg, report);
    bars(&mut svg, report);
    let Machine {
        cpu, cpus, kernel, ..
    } = &report.machine;
    let caption = if report.quick {
        "A smoke run: these times mean nothing.".to_owned()
    } else {
        format!(
            "Medians of one run, CPU time in nanoseconds per packet. {cpus} CPUs ({cpu}), Linux {kernel}."
        )
    };
    label(&mut svg, 24.0, HEIGHT - 14.0, "small", "start", &caption);
    svg.push_str("</svg>\n");
    svg
}

fn label(svg: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

/// Costs by number of sources, on a logarithmic scale from 1 ns to 1 microsecond.
fn lines(svg: &mut String, report: &Report) {
    const LEFT: f64 = 60.0;
    const RIGHT: f64 = 330.0;
    const TOP: f64 = 76.0;
    const BOTTOM: f64 = 340.0;
    const SUBJECTS: [(&str, &str); 4] = [
        (name::SMTPFLOW, "a"),
        (name::SMTPFLOW_FLOWS, "b"),
        (name::PERCPU_HASH, "c"),
        (name::LRU_PERCPU_HASH, "d"),
    ];
    let rows = || {
        report
            .rows
            .iter()
            .filter(|row| row.section == name::SOURCES)
    };
    let mut sources: Vec<u64> = rows().map(|row| row.sources).collect();
    sources.sort_unstable();
    sources.dedup();
    label(svg, 24.0, 28.0, "title", "start", "Inside the kernel");
    label(
        svg,
        24.0,
        48.0,
        "small",
        "start",
        "ns per SMTP packet over the same packet not counted, by number of sources",
    );
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value.max(1.0).log10().min(3.0) / 3.0;
    for value in [1.0, 10.0, 100.0, 1000.0] {
        let at = y(value);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>");
        label(
            svg,
            LEFT - 8.0,
            at + 4.0,
            "small",
            "end",
            &value.to_string(),
        );
    }
    let steps = sources.len().saturating_sub(1).max(1) as f64;
    let x = |index: usize| LEFT + 14.0 + (RIGHT - LEFT - 28.0) * index as f64 / steps;
    for (index, sources) in sources.iter().enumerate() {
        label(
            svg,
            x(index),
            BOTTOM + 20.0,
            "small",
            "middle",
            &power(*sources),
        );
    }
    let mut ends = Vec::new();
    for (subject, class) in SUBJECTS {
        let points: Vec<(f64, f64, f64)> = sources
            .iter()
            .enumerate()
            .filter_map(|(index, &sources)| {
                let row = report.row(name::SOURCES, name::DATA, subject, sources)?;
                let cost = report.cost(row);
                Some((x(index), y(cost), cost))
            })
            .collect();
        let Some(&(last_x, last_y, cost)) = points.last() else {
            continue;
        };
        let path: Vec<String> = points
            .iter()
            .map(|(x, y, _)| format!("{x:.1} {y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<path class=\"line {class}\" d=\"M{}\"/>",
            path.join("L")
        );
        for (x, y, _) in &points {
            let _ = writeln!(
                svg,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            );
        }
        ends.push((last_x, last_y, format!("{subject}, {cost:.0}"), class));
    }
    // From the top to the bottom, each label at least a line below the one before.
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = f64::NEG_INFINITY;
    for (x, y, text, class) in ends {
        let at = (y + 4.0).max(free);
        free = at + 15.0;
        label(
            svg,
            x + 10.0,
            at,
            &format!("strong {class}"),
            "start",
            &text,
        );
    }
}

/// Costs end to end, as bars.
fn bars(svg: &mut String, report: &Report) {
    const LEFT: f64 = 705.0;
    const RIGHT: f64 = 845.0;
    const TOP: f64 = 76.0;
    const ROW: f64 = 46.0;
    const SUBJECTS: [(&str, &str); 6] = [
        (name::SMTPFLOW, "a"),
        (name::SMTPFLOW_FLOWS, "b"),
        (name::NFTABLES, "c"),
        (name::IPSET, "c"),
        (name::TCPDUMP, "e"),
        (name::SOFTFLOWD, "e"),
    ];
    label(svg, 560.0, 28.0, "title", "start", "End to end");
    label(
        svg,
        560.0,
        48.0,
        "small",
        "start",
        "ns per packet on the receiving CPU; 16 and 16,384 sources",
    );
    let cost = |subject, sources| {
        let row = report.row(name::VETH, name::DATA, subject, sources)?;
        let right = row.counts.as_ref().is_none_or(super::Counts::exact);
        Some((report.cost(row).max(0.0), right))
    };
    let most = SUBJECTS
        .iter()
        .flat_map(|(subject, _)| [cost(subject, 16), cost(subject, 1 << 14)])
        .flatten()
        .map(|(cost, _)| cost)
        .fold(1.0, f64::max);
    for (index, (subject, class)) in SUBJECTS.iter().enumerate() {
        let top = TOP + ROW * index as f64;
        label(svg, LEFT - 10.0, top + 23.0, "strong", "end", subject);
        for (bar, sources) in [16, 1 << 14].into_iter().enumerate() {
            let Some((cost, right)) = cost(subject, sources) else {
                continue;
            };
            let y = top + 17.0 * bar as f64;
            let width = ((RIGHT - LEFT) * cost / most).max(2.0);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" \
                 height=\"14\" rx=\"2\"/>"
            );
            let mut text = format!("{cost:.0}");
            if !right {
                text.push_str(", loses packets");
            }
            label(svg, LEFT + width + 6.0, y + 11.0, "small", "start", &text);
        }
    }
}

/// A number of sources for an axis.
fn power(sources: u64) -> String {
    match sources {
        0..1024 => sources.to_string(),
        1024..1_048_576 => format!("{}Ki", sources >> 10),
        _ => format!("{}Mi", sources >> 20),
    }
}
