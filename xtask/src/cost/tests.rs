//! A report made by hand, read, judged and drawn.

use super::*;

fn row(section: &str, subject: &str, sources: u64, over: Option<&str>, rounds: &[f64]) -> Row {
    Row {
        section: section.to_owned(),
        case: name::DATA.to_owned(),
        subject: subject.to_owned(),
        sources,
        unit: "ns/packet".to_owned(),
        over: over.map(str::to_owned),
        rounds: rounds.to_vec(),
        counts: None,
    }
}

const BASE: [f64; 7] = [30.0, 31.0, 90.0, 32.0, 33.0, 34.0, 35.0];

fn report() -> Report {
    let plus = |cost: f64| BASE.map(|base| base + cost);
    let mut nftables = row(
        name::VETH,
        name::NFTABLES,
        16,
        Some(name::NOTHING),
        &plus(180.0),
    );
    nftables.counts = Some(Counts {
        sent: 100,
        counted: 90,
        unattributed: 0,
        note: "a <note>".to_owned(),
    });
    Report {
        machine: Machine::this(),
        quick: false,
        rows: vec![
            row(name::KERNEL, name::BARE_PASS, 1, None, &BASE),
            row(
                name::KERNEL,
                name::SMTPFLOW,
                1,
                Some(name::BARE_PASS),
                &plus(6.0),
            ),
            row(name::SOURCES, name::CONTROL, 1, None, &BASE),
            row(
                name::SOURCES,
                name::SMTPFLOW,
                1,
                Some(name::CONTROL),
                &plus(7.0),
            ),
            row(name::SOURCES, name::CONTROL, 1024, None, &BASE),
            row(
                name::SOURCES,
                name::SMTPFLOW,
                1024,
                Some(name::CONTROL),
                &plus(9.0),
            ),
            row(name::VETH, name::NOTHING, 16, None, &BASE),
            row(
                name::VETH,
                name::SMTPFLOW,
                16,
                Some(name::NOTHING),
                &plus(10.0),
            ),
            nftables,
        ],
    }
}

#[test]
fn a_cost_is_taken_round_by_round() {
    let report = report();
    report.check().expect("complete");
    // The round that was slow as a whole does not show.
    assert_eq!(report.cost(&report.rows[1]), 6.0);
    assert_eq!(report.ratio(&report.rows[0]), None);
    assert_eq!(report.cost(&report.rows[0]), 33.0);
    let ratio = report.ratio(&report.rows[1]).expect("it has a base");
    assert!((ratio - 39.0 / 33.0).abs() < 1e-9);
}

#[test]
fn a_report_survives_its_json() {
    let report = report();
    let json = report.to_json().expect("plain data");
    assert_eq!(Report::from_json(&json).expect("its own JSON"), report);
    assert!(Report::from_json("[]").is_err());
}

#[test]
fn what_is_measured_again_takes_the_place_of_its_section() {
    let mut report = report();
    let rows = report.rows.len();
    let new = row(name::SOURCES, name::CONTROL, 1, None, &BASE);
    report.replace(vec![new.clone()]);
    assert_eq!(report.rows.len(), rows - 3);
    assert_eq!(report.rows.last(), Some(&new));
    // A section that is new comes to the others.
    report.replace(vec![row(name::READERS, name::NO_READERS, 1, None, &BASE)]);
    assert_eq!(report.rows.len(), rows - 2);
    let mut other = report.clone();
    assert!(other.is_of(&report));
    other.machine.cpus += 1;
    assert!(!other.is_of(&report));
}

#[test]
fn what_is_missing_is_refused() {
    let mut few = report();
    few.rows[1].rounds.pop();
    let error = few.check().expect_err("six rounds").to_string();
    assert!(error.contains("6 rounds"), "{error}");
    let mut alone = report();
    alone.rows.remove(0);
    let error = alone.check().expect_err("no base").to_string();
    assert!(error.contains(name::BARE_PASS), "{error}");
    let mut broken = report();
    broken.rows[0].rounds[3] = f64::NAN;
    assert!(broken.check().is_err());
    broken.rows.clear();
    assert!(broken.check().is_err());
}

#[test]
fn goals_are_judged_by_what_was_measured() {
    let mut report = report();
    let verdict = |report: &Report, text: &str| {
        let goals = goals(report);
        let goal = goals.iter().find(|goal| goal.text == text);
        goal.expect("a goal").verdict()
    };
    assert_eq!(verdict(&report, "SMTP, SOURCES only"), Verdict::Met);
    assert_eq!(
        verdict(&report, "/metrics with a million sources"),
        Verdict::Open
    );
    let times = "cheaper than the nftables set, 16 sources";
    assert_eq!(verdict(&report, times), Verdict::Met);
    report.rows[7].rounds = BASE.map(|base| base + 20.0).to_vec();
    assert_eq!(verdict(&report, times), Verdict::Missed);
    report.rows[7].rounds = BASE.to_vec();
    assert_eq!(verdict(&report, times), Verdict::Open);
}

#[test]
fn a_flood_whose_totals_are_wrong_misses_its_goal() {
    let mut report = report();
    let mut flood = row(
        name::FLOOD,
        name::SMTPFLOW,
        1 << 22,
        Some(name::BARE_DROP),
        &BASE,
    );
    let base = row(name::FLOOD, name::BARE_DROP, 1 << 22, None, &BASE);
    for (counted, expected) in [(9, Verdict::Met), (8, Verdict::Missed)] {
        flood.counts = Some(Counts {
            sent: 10,
            counted,
            unattributed: 1,
            note: String::new(),
        });
        report.rows.truncate(9);
        report.rows.extend([flood.clone(), base.clone()]);
        let goal = goals(&report).into_iter().find(|goal| goal.exact.is_some());
        assert_eq!(goal.expect("the flood's goal").verdict(), expected);
    }
}

#[test]
fn text_and_chart_show_every_subject() {
    let report = report();
    let (text, chart) = (text(&report), chart(&report));
    for row in &report.rows {
        assert!(text.contains(&row.subject), "{} in {text}", row.subject);
    }
    assert!(text.contains("WRONG: 90 of 100"), "{text}");
    for subject in [name::SMTPFLOW, name::NFTABLES] {
        assert!(chart.contains(subject), "{subject} in {chart}");
    }
    assert!(chart.contains("loses packets") && chart.ends_with("</svg>\n"));
    let table = readme_table(&report);
    assert!(table.contains("| SMTP, SOURCES only | 6.0 ns |"), "{table}");
}

#[test]
fn a_report_without_a_row_is_not_complete() {
    let error = report().check_complete().expect_err("rows are missing");
    assert!(format!("{error}").contains("no row: kernel"), "{error}");
}

#[test]
fn every_element_of_the_chart_ends_where_it_began() {
    let chart = chart(&report());
    let mut open: Vec<&str> = Vec::new();
    for tag in chart.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').expect("a tag ends");
        assert!(!text.contains('&') || text.contains(';'), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    assert!(median(&[]).is_nan());
}
