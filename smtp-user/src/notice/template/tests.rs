//! Texts that are shipped, and such as operators may write.

use super::*;

fn error(text: &str) -> (usize, String) {
    Language::parse(text).expect_err("wrong")
}

#[test]
fn what_is_shipped_is_good_and_no_line_of_it_is_long() {
    for (name, text) in SHIPPED {
        let language = Language::parse(text);
        assert!(language.is_ok(), "{name}: {language:?}");
        let of_body = |line: &&str| !line.starts_with("Subject: ") && !line.starts_with('#');
        for line in text.lines().filter(of_body) {
            // A character of Chinese is two columns wide; what is filled in is shorter than its name.
            let wide = |c: char| if c < '\u{1100}' { 1 } else { 2 };
            let columns: usize = line.chars().map(wide).sum();
            assert!(columns <= 96, "{name}: {columns} columns: {line}");
        }
    }
}

#[test]
fn every_language_says_the_same_things() {
    let words = |text: &str| -> Vec<Vec<String>> {
        let mut sections = Vec::new();
        for line in text.lines() {
            if line.starts_with("== ") {
                sections.push(vec![line.to_owned()]);
            } else if let Some(section) = sections.last_mut() {
                let words = line
                    .split('{')
                    .skip(1)
                    .filter_map(|rest| rest.split_once('}'));
                section.extend(words.map(|(word, _)| word.to_owned()));
            }
        }
        for section in &mut sections {
            section.sort();
            section.dedup();
        }
        sections
    };
    let english = words(SHIPPED[0].1);
    for (name, text) in SHIPPED {
        assert_eq!(words(text), english, "{name}");
    }
}

#[test]
fn a_word_on_its_own_line_is_as_many_lines_as_it_has() {
    let section = Section {
        subject: Vec::new(),
        lines: ["a {host}", "  {rules}", "{log}", "", "z"]
            .map(|line| pieces(line, IN_HOST).expect(line))
            .to_vec(),
    };
    let values = Values::from([
        ("host", "{rules}".to_owned()),
        ("rules", "one\n\ntwo".to_owned()),
        ("log", String::new()),
    ]);
    assert_eq!(section.fill(&values), "a {rules}\n  one\n\n  two\n\nz\n");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let good = SHIPPED[0].1;
    assert_eq!(error("hello"), (1, error("hello").1));
    for (text, line, expected) in [
        ("hello", 1, "above all sections"),
        ("# c\n== nothing", 2, "there is no section \"nothing\""),
        ("== host\na\n== host", 3, "there is another section"),
        ("== first\nHello", 2, "begins with its subject"),
        (
            "== host\n{nobody}",
            2,
            "{nobody} is nothing that can be filled in here",
        ),
        ("== host\n{host", 2, "not closed"),
        ("== host\na\u{7}", 2, "control character"),
        ("== host\na", 2, "\"== digest\" is missing"),
    ] {
        let (number, error) = error(text);
        assert_eq!(number, line, "{text}: {error}");
        assert!(error.contains(expected), "{text}: {error}");
    }
    let empty = good.replace("{number}  to {mail}: {subject}\n", "");
    assert!(error(&empty).1.contains("\"waiting\" has no text"));
}

#[test]
fn the_operators_own_texts_come_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = Settings {
        templates: Some(folder.path().to_owned()),
        languages: vec!["en".to_owned(), "nl".to_owned()],
        ..Settings::default()
    };
    let failure = Templates::load(&settings).expect_err("no nl.txt");
    assert_eq!(failure.kind, Kind::BadConfig);
    assert!(failure.to_string().contains("nl.txt"), "{failure}");
    let own = SHIPPED[0].1.replace(": solved\n", ": opgelost\n");
    std::fs::write(folder.path().join("nl.txt"), &own).expect("written");
    let templates = Templates::load(&settings).expect("both");
    let (subject, _) = templates.languages()[1].message(NoticeKind::Solved, &Values::new());
    assert!(subject.ends_with("opgelost"), "{subject}");
    std::fs::write(folder.path().join("nl.txt"), "== first\nx").expect("written");
    let failure = Templates::load(&settings).expect_err("no text");
    assert!(failure.to_string().contains("nl.txt:2: "), "{failure}");
    std::fs::write(folder.path().join("nl.txt"), vec![b'#'; MAX_TEXT + 1]).expect("written");
    let failure = Templates::load(&settings).expect_err("too long");
    assert!(
        failure.to_string().contains("longer than 64 KiB"),
        "{failure}"
    );
    settings.languages.pop();
    Templates::load(&settings).expect("English is shipped");
}
