//! The document is the one that is kept, and it is of the routes that there are.
//!
//! `SMTPFLOW_UPDATE_OPENAPI=1 cargo test -p smtp-user --lib serve::openapi` writes it anew.

use std::collections::BTreeSet;

use super::*;

const KEPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/serve/openapi/openapi.json"
);

#[test]
fn the_document_is_the_one_that_is_kept() {
    if std::env::var_os("SMTPFLOW_UPDATE_OPENAPI").is_some() {
        std::fs::write(KEPT, text()).expect("openapi.json can be written");
    }
    let kept = std::fs::read_to_string(KEPT).expect("openapi.json");
    assert!(
        kept == text(),
        "{KEPT} is out of date: SMTPFLOW_UPDATE_OPENAPI=1 writes it anew; read the difference"
    );
}

/// The routes that are for programs, with their methods, but for HEAD, which is as GET.
fn routes() -> BTreeSet<(String, String)> {
    let programs = ["/api/", "/healthz", "/readyz", "/metrics"];
    super::super::routes()
        .into_iter()
        .filter(|(path, _)| programs.iter().any(|begin| path.starts_with(begin)))
        .flat_map(|(path, methods)| methods.split(", ").map(move |method| (path, method)))
        .filter(|(_, method)| *method != "HEAD")
        .map(|(path, method)| (path.to_owned(), method.to_lowercase()))
        .collect()
}

#[test]
fn every_route_is_in_the_document_and_none_else() {
    let operations = operations();
    let documented: BTreeSet<_> = operations
        .iter()
        .map(|operation| (operation.path.to_owned(), operation.method.to_owned()))
        .collect();
    assert_eq!(documented.len(), operations.len(), "one is there twice");
    assert_eq!(documented, routes());
    let ids: BTreeSet<_> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations.len(), "two have one operationId");
}

/// Every reference, and every schema that has no type.
fn check(value: &Value, document: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let pointer = reference.strip_prefix('#').expect("one of this document");
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            if let (Some(Value::Object(properties)), Some(Value::Array(required))) =
                (fields.get("properties"), fields.get("required"))
            {
                for name in required {
                    assert!(
                        properties.contains_key(name.as_str().expect("text")),
                        "{name}"
                    );
                }
                for (name, property) in properties {
                    let description = property["description"].as_str().unwrap_or_default();
                    assert!(description.len() > 3, "{name} is not described: {property}");
                }
            }
            for inner in fields.values() {
                check(inner, document);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check(item, document)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_properties_are_described() {
    let document = document();
    check(&document, &document);
}
