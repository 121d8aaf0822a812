use super::*;

fn judged(kind: &str, abuse: Option<u64>, accused: Option<u64>) -> Judged {
    Judged {
        host: "10.20.0.1".to_owned(),
        kind: kind.to_owned(),
        abuse,
        accused: accused
            .map(|at| (Method::Smtpflow, at))
            .into_iter()
            .collect(),
        detectors: Vec::new(),
    }
}

fn report(hosts: Vec<Judged>) -> Report {
    Report {
        days: 1,
        tuned: 0,
        runs: vec![Run {
            seed: 1,
            listed: true,
            hosts,
        }],
    }
}

#[test]
fn wilsons_interval_is_the_published_one() {
    // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for (part, whole, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ] {
        let (from, to) = wilson(part, whole);
        assert!((from - low).abs() < 5e-5, "{part} of {whole}: {from}");
        assert!((to - high).abs() < 5e-5, "{part} of {whole}: {to}");
    }
    assert_eq!(wilson(0, 0), (0.0, 1.0));
}

#[test]
fn every_host_counts_once_and_an_early_accusation_is_two_mistakes() {
    let report = report(vec![
        judged("slow", Some(1_000), Some(61_000)),
        judged("slow", Some(1_000), None),
        judged("hammer", Some(1_000), Some(500)),
        judged("hammer", Some(1_000), Some(11_000)),
        judged("hammer", Some(1_000), Some(21_000)),
        judged("ordinary", None, Some(5_000)),
        judged("ordinary", None, None),
        judged("spoofed", None, Some(5_000)),
    ]);
    let hosts = report.hosts(&report.parts()[0], true);
    let score = Score::of(&hosts, Method::Smtpflow);
    assert_eq!((score.found, score.missed, score.wrong), (3, 2, 3));
    assert_eq!(score.recall(), 0.6);
    assert_eq!(score.precision(), 0.5);
    // 10, 20 and 60 s, and two that take for ever.
    assert_eq!(score.times.median, Some(60.0));
    assert_eq!(score.times.p90, None);
    let of_found = score.times_of_found;
    assert_eq!((of_found.median, of_found.p90), (Some(20.0), Some(60.0)));
    assert_eq!(score.times_of_fast.median, Some(20.0));
    let nothing = Score::of(&hosts, Method::Flows30);
    assert_eq!((nothing.found, nothing.missed, nothing.wrong), (0, 5, 0));
    assert_eq!(nothing.times_of_found, Times::default());
}

#[test]
fn the_page_and_the_text_name_every_mistake() {
    let report = report(vec![
        judged("slow", Some(1_000), None),
        judged("hammer", Some(1_000), Some(2_000)),
    ]);
    for page in [text(&report), markdown(&report)] {
        assert!(
            page.contains("missed") && page.contains("10.20.0.1"),
            "{page}"
        );
    }
    let missed = goals(&report, &report.parts()[0]);
    assert!(!missed[0].reached && missed[1].reached && missed[2].reached);
    for kind in crate::traffic::KINDS {
        assert!(markdown(&report).contains(kind.definition));
    }
}

#[test]
fn the_page_in_the_documentation_is_of_these_kinds() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/evaluation/README.md");
    let page = std::fs::read_to_string(&path).expect("docs/evaluation/README.md");
    // What it says of the kinds, and how it says it; the figures take minutes to make anew.
    let made = markdown(&report(Vec::new()));
    let kinds = made.split("## The kinds of hosts").nth(1).expect("a table");
    assert!(
        page.ends_with(kinds),
        "{} is old: `cargo xtask evaluate --output docs/evaluation` makes it anew",
        path.display()
    );
}
