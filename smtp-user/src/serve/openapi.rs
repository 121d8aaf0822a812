//! `/api/openapi.json`: what can be asked and what is answered, in OpenAPI 3.1.
//!
//! Contract: made from the types that answers are made of, and from the tables that queries are read
//! with, so that it cannot differ from what the server does. Each resource says its [`Operation`]s; a
//! test holds them against the routes.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::document::{Schema, Schemas};
use super::query::{DEFAULT_LIMIT, Filter, List, MAX_LIMIT, MAX_OFFSET, Span, Table};
use super::{
    api, complaints, config, distribution, events, evidence, interfaces, notices, owner, pairs,
    ready, relays, reports, series, source, sources, verdicts, why,
};
use crate::model::person::MAX_WHO;

/// The schema of a type.
type OfType = fn(&mut Schemas) -> Value;

/// What is answered with this status.
struct Answer {
    status: u16,
    about: &'static str,
    /// Content types, with what is in them.
    content: Vec<(&'static str, OfType)>,
}

/// A parameter of a query or a path.
struct Parameter {
    name: &'static str,
    place: &'static str,
    about: String,
    schema: Value,
    default: Option<Value>,
}

/// A method on a path.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) method: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Parameter>,
    body: Option<OfType>,
    answers: Vec<Answer>,
    problems: Vec<u16>,
}

/// Every way in which there is no proper answer.
const PROBLEMS: [(u16, &str); 12] = [
    (
        400,
        "The query is not understood; `parameter`, `value`, `allowed` and in a filter `position` say what is wrong.",
    ),
    (
        401,
        "A token is needed: `Authorization: Bearer TOKEN`, or `Basic` with the token as password.",
    ),
    (
        403,
        "Changes need the act token and come from the same origin.",
    ),
    (
        404,
        "There is no such thing, or this agent keeps no history.",
    ),
    (408, "The body was not sent in time."),
    (
        409,
        "What is there does not allow it; the sentence has the way out.",
    ),
    (413, "The body is too long."),
    (415, "The body is not JSON, or does not say so."),
    (421, "The agent does not answer under this host name."),
    (422, "The body is not understood, or cannot be kept."),
    (500, "A fault of smtpflow; the agent's log has it."),
    (
        503,
        "It cannot be answered now: the store cannot be read, or too much is asked at a time.",
    ),
];

/// The schema of a problem.
fn problem() -> Value {
    let mut properties = Map::new();
    for (name, schema) in [
        (
            "error",
            json!({"type": "string", "description": "A sentence with the way out."}),
        ),
        (
            "parameter",
            json!({"type": "string", "description": "The parameter that is not understood."}),
        ),
        (
            "value",
            json!({"type": "string", "description": "Its value, or the term of a filter."}),
        ),
        (
            "allowed",
            json!({"type": "string", "description": "What could be there."}),
        ),
        (
            "position",
            json!({
                "type": "integer", "minimum": 1,
                "description": "The character of the filter at which it begins, from 1."
            }),
        ),
    ] {
        properties.insert(name.to_owned(), schema);
    }
    json!({
        "type": "object",
        "description": "Why there is no proper answer.",
        "properties": properties,
        "required": ["error"],
    })
}

impl Operation {
    fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            path,
            method,
            id,
            summary,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: vec![400, 401, 421, 500, 503],
        }
    }

    /// Something that is read.
    pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    /// Something that is changed, by a body of JSON with this schema; what comes back says
    /// [`Operation::answered`].
    pub(super) fn post(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        body: OfType,
    ) -> Self {
        let mut this = Self::new("post", path, id, summary);
        this.body = Some(body);
        this.problems.extend([403, 404, 408, 409, 413, 415, 422]);
        this
    }

    /// It is answered with JSON of this type.
    pub(super) fn json<T: Schema>(self) -> Self {
        self.answered::<T>(200, "The answer.")
    }

    /// It is answered with this status and JSON of this type.
    pub(super) fn answered<T: Schema>(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            about,
            content: vec![("application/json", T::schema)],
        });
        self
    }

    /// It can be answered with text of this type as well, or alone.
    pub(super) fn text(mut self, kind: &'static str) -> Self {
        let text: OfType = |_| json!({"type": "string"});
        match self.answers.first_mut() {
            Some(answer) => answer.content.push((kind, text)),
            None => self.answers.push(Answer {
                status: 200,
                about: "The answer.",
                content: vec![(kind, text)],
            }),
        }
        self
    }

    /// There are these problems as well.
    pub(super) fn problems(mut self, more: &[u16]) -> Self {
        self.problems.extend(more);
        self
    }

    fn parameter(
        mut self,
        name: &'static str,
        place: &'static str,
        about: impl Into<String>,
        schema: Value,
        default: Option<Value>,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            place,
            about: about.into(),
            schema,
            default,
        });
        self
    }

    /// A part of the path.
    pub(super) fn path(self, name: &'static str, about: &'static str, schema: Value) -> Self {
        self.parameter(name, "path", about, schema, None)
    }

    /// The address in the path.
    pub(super) fn address(self) -> Self {
        let schema = json!({"anyOf": [
            {"type": "string", "format": "ipv4"},
            {"type": "string", "format": "ipv6"},
        ]});
        self.path("addr", "An IPv4 or IPv6 address as text, no name.", schema)
            .problems(&[404])
    }

    /// A parameter of the query with a default.
    pub(super) fn query(
        self,
        name: &'static str,
        about: impl Into<String>,
        schema: Value,
        default: impl Into<Value>,
    ) -> Self {
        self.parameter(name, "query", about, schema, Some(default.into()))
    }

    /// One of some words.
    pub(super) fn choice(
        self,
        name: &'static str,
        about: &'static str,
        words: &[&str],
        default: &str,
    ) -> Self {
        self.query(
            name,
            about,
            json!({"type": "string", "enum": words}),
            default,
        )
    }

    /// A number of this range.
    pub(super) fn number(
        self,
        name: &'static str,
        about: &'static str,
        (least, most): (usize, usize),
        default: usize,
    ) -> Self {
        let schema = json!({"type": "integer", "minimum": least, "maximum": most});
        self.query(name, about, schema, default)
    }

    /// The period; `live` with what is in memory.
    pub(super) fn period(self, live: bool, default: &str) -> Self {
        let allowed = if live {
            Span::ALLOWED
        } else {
            Span::KEPT_ALLOWED
        };
        let schema = json!({"type": "string", "pattern": Span::pattern(live)});
        self.query("period", format!("The time: {allowed}."), schema, default)
            .problems(&[404])
    }

    /// The parameters of a list.
    pub(super) fn list<T: Table>(self, sort: &str) -> Self {
        let filter = json!({"type": "string", "pattern": Filter::<T>::pattern()});
        self.choice(
            "sort",
            "What rows are sorted by; what is not known comes last.",
            &List::<T>::sorts(),
            sort,
        )
        .choice("order", "The direction.", &["asc", "desc"], "desc")
        .number("limit", "Most rows.", (1, MAX_LIMIT), DEFAULT_LIMIT)
        .number("offset", "Rows skipped.", (0, MAX_OFFSET), 0)
        .query(
            "filter",
            format!("Which rows: {}.", Filter::<T>::forms()),
            filter,
            "",
        )
        .choice(
            "format",
            "The form: CSV has the same rows and columns.",
            &["json", "csv"],
            "json",
        )
    }

    fn document(&self, all: &mut Schemas) -> Value {
        let parameters: Vec<Value> = self
            .parameters
            .iter()
            .map(|parameter| {
                let mut schema = parameter.schema.clone();
                if let Some(default) = &parameter.default {
                    schema["default"] = default.clone();
                }
                json!({
                    "name": parameter.name,
                    "in": parameter.place,
                    "required": parameter.place == "path",
                    "description": parameter.about,
                    "schema": schema,
                })
            })
            .collect();
        let mut responses = Map::new();
        for answer in &self.answers {
            let content: Map<String, Value> = answer
                .content
                .iter()
                .map(|(kind, schema)| ((*kind).to_owned(), json!({"schema": schema(all)})))
                .collect();
            responses.insert(
                answer.status.to_string(),
                json!({"description": answer.about, "content": content}),
            );
        }
        for status in &self.problems {
            let reference = json!({"$ref": format!("#/components/responses/Problem{status}")});
            let place = responses.entry(status.to_string());
            place.or_insert(reference);
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = self.body {
            operation["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": body(all)}},
            });
            operation["security"] = json!([{"act": []}, {"act_basic": []}]);
        }
        operation
    }
}

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    [
        api::operations(),
        sources::operations(),
        source::operations(),
        why::operations(),
        owner::operations(),
        evidence::operations(),
        series::operations(),
        pairs::operations(),
        distribution::operations(),
        reports::operations(),
        interfaces::operations(),
        config::operations(),
        ready::operations(),
        verdicts::operations(),
        relays::operations(),
        complaints::operations(),
        notices::operations(),
        events::operations(),
        own(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One line that is not blank. Without classes of Unicode, which not every reader of patterns has.
const ONE_LINE: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f]\
    [^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// One line of text of a person, of so many characters at most.
pub(super) fn line(about: &str, most: usize) -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": most,
        "pattern": ONE_LINE, "description": about,
    })
}

/// The name of a person: a line, and not what the agent itself is called.
pub(super) fn person(about: &str) -> Value {
    let mut line = line(about, MAX_WHO);
    line["not"] = json!({"pattern": "^\\s*[sS][mM][tT][pP][fF][lL][oO][wW]\\s*$"});
    line
}

/// A body with these properties, the first so many of which must be there.
pub(super) fn body(properties: &[(&str, Value)], required: usize) -> Value {
    let names: Vec<_> = properties
        .iter()
        .take(required)
        .map(|(name, _)| name)
        .collect();
    let all: Map<String, Value> = properties
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": names,
        "properties": all,
    })
}

/// What has no file of its own.
fn own() -> Vec<Operation> {
    vec![
        Operation::get("/healthz", "healthz", "Whether the server is alive").text("text/plain"),
        Operation::get("/metrics", "metrics", "Metrics for Prometheus")
            .text("text/plain")
            .text("application/openmetrics-text"),
        Operation::get(
            "/metrics/sources",
            "metrics_sources",
            "Metrics of a few sources, for Prometheus",
        )
        .text("text/plain")
        .text("application/openmetrics-text")
        .problems(&[404]),
        Operation::get("/api/openapi.json", "openapi", "This document").json::<Document>(),
    ]
}

/// This document.
struct Document;

impl Schema for Document {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "object"})
    }
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut all = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let place = paths
            .entry(operation.path.to_owned())
            .or_insert_with(|| json!({}));
        place[operation.method] = operation.document(&mut all);
    }
    let mut schemas = all.into_map();
    schemas.insert("Problem".to_owned(), problem());
    let responses: Map<String, Value> = PROBLEMS
        .iter()
        .map(|(status, about)| {
            let content = json!({"application/json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
            }});
            let response = json!({"description": about, "content": content});
            (format!("Problem{status}"), response)
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "smtpflow",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "SMTP traffic at the border, by source.",
            "description": "JSON in snake_case, counts as integers, times in RFC 3339 UTC, addresses as \
                text. Fields may be added within one `schema`, never renamed, removed or given another \
                meaning. Parameters that are not understood are refused, never ignored. From loopback \
                no token is needed to read.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"read": []}, {"read_basic": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": {
                "read": {
                    "type": "http", "scheme": "bearer",
                    "description": "The read token (serve.token_file), or the act token.",
                },
                "read_basic": {
                    "type": "http", "scheme": "basic",
                    "description": "The same as password, with any user name.",
                },
                "act": {
                    "type": "http", "scheme": "bearer",
                    "description": "The act token (serve.act_token_file).",
                },
                "act_basic": {
                    "type": "http", "scheme": "basic",
                    "description": "The same as password, with any user name.",
                },
            },
        },
    })
}

/// The document as it is served and kept.
fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", document()))
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

#[cfg(test)]
mod tests;
