//! What axe-core finds in a page that keeps people out of it.

use std::fmt;

use serde_json::Value;
use xtask::browser::Page;

use crate::watched::tools;

/// A rule that a page breaks.
#[derive(Clone, Debug)]
pub struct Violation {
    /// minor, moderate, serious or critical.
    pub impact: String,
    /// The rule's name, as in axe-core's list of rules.
    pub rule: String,
    /// What breaks it: the first elements, as HTML.
    pub elements: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            impact,
            rule,
            elements,
        } = self;
        write!(to, "{impact}: {rule}: {}", elements.join("\n    "))
    }
}

/// Everything that axe-core finds.
pub fn violations(page: &Page<'_>) -> Vec<Violation> {
    let file = tools().join("axe.min.js");
    let axe = std::fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask test --stage packages` fetches it",
            file.display()
        )
    });
    let run = || -> anyhow::Result<Value> {
        if page.evaluate("typeof axe === 'undefined'")? == true {
            page.run(&axe)?;
        }
        page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
                violations.map(({id, impact, nodes}) => ({id, impact, elements: nodes.slice(0, 5).map(
                    (node) => `${node.html.slice(0, 200)} (${node.any.concat(node.all, node.none)
                        .map((check) => check.message).join('; ').slice(0, 200)})`)})))",
        )
    };
    let found = run().unwrap_or_else(|error| panic!("axe-core: {error:#}"));
    let found = found.as_array().expect("a list of violations");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found
        .iter()
        .map(|violation| Violation {
            impact: text(&violation["impact"]),
            rule: text(&violation["id"]),
            elements: violation["elements"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect(),
        })
        .collect()
}
