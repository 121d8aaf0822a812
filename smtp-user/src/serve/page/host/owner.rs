//! Whose host it is, as the page shows it.

use crate::model::owner::Owner;
use crate::report::owner::{facts, row};
use crate::serve::owners::Known;

/// What there is to show.
pub(super) enum Shown {
    /// Nothing: owners are not looked for.
    Off,
    /// Why there is no answer.
    Not(String),
    /// What the sources say.
    Said(Said),
}

/// An answer.
pub(super) struct Said {
    /// Who is named, and how to reach them: what each text is, and the text.
    pub(super) contact: Vec<(&'static str, String)>,
    /// Of each source: which one, its outcome, what it says, how old that is, where it is from.
    pub(super) sources: Vec<Vec<String>>,
}

impl From<Known> for Shown {
    fn from(known: Known) -> Self {
        match known {
            Known::Off => Self::Off,
            Known::Not(why) => Self::Not(why),
            Known::Answer(owner) => Self::Said(Said::from(&owner)),
        }
    }
}

impl From<&Owner> for Said {
    fn from(owner: &Owner) -> Self {
        Self {
            contact: owner.contact().map(facts).unwrap_or_default(),
            sources: owner.findings.iter().map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use askama::Template;

    use super::*;
    use crate::model::owner::{Contact, Finding, Outcome, OwnerSource};
    use crate::serve::page::filters;
    use crate::serve::page::tests::{HOSTILE, assert_escaped};

    #[derive(Template)]
    #[template(path = "owner.html")]
    struct Part {
        owner: Shown,
    }

    fn part(known: Known) -> String {
        let owner = known.into();
        Part { owner }.render().expect("a part of a page")
    }

    #[test]
    fn who_is_named_stands_there_with_what_each_source_says() {
        assert_eq!(part(Known::Off).trim(), "");
        for text in HOSTILE {
            let page = part(Known::Not(text.to_owned()));
            assert_escaped(&page, text);
            assert!(page.contains("Whose host it is"), "{page}");
            let finding = |outcome| Finding {
                source: OwnerSource::Whois,
                provenance: text.to_owned(),
                age: Some(7300),
                outcome,
            };
            let found = Outcome::Found {
                contact: Contact {
                    name: text.to_owned(),
                    mail: vec!["abuse@example.net".to_owned()],
                    phone: Some(text.to_owned()),
                    note: Some(text.to_owned()),
                },
                network: Some(text.to_owned()),
                route: None,
            };
            let failed = Outcome::Failed {
                reason: text.to_owned(),
            };
            let owner = |findings| {
                Known::Answer(Owner {
                    address: [192, 0, 2, 7].into(),
                    findings,
                })
            };
            let page = part(owner(vec![finding(failed.clone()), finding(found)]));
            assert_escaped(&page, text);
            for words in [
                "abuse@example.net",
                ">2 h<",
                ">whois<",
                ">failed<",
                ">found<",
            ] {
                let shown = page.replace("<bdi>", "").replace("</bdi>", "");
                assert!(shown.contains(words), "no {words} in:\n{page}");
            }
            let page = part(owner(vec![finding(failed)]));
            assert!(page.contains("Nobody is named."), "{page}");
        }
    }
}
