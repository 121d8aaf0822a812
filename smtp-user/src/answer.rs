//! The form of JSON answers, with the documentation of every field.
//!
//! Contract: a field stands in one place with its type and its text; the struct, its serialisation,
//! its JSON Schema and the list that documentation and tests are made from cannot differ.

pub(crate) mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// A field of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it says, in lines.
    pub docs: &'static [&'static str],
    /// The fields of the object, or of each object of the list, that it holds.
    pub inner: &'static [Self],
    /// What it says to serde; `flatten` puts the inner fields in the place of this one.
    pub serde: &'static str,
}

/// A field that holds a value.
pub(crate) const fn field(name: &'static str, docs: &'static [&'static str]) -> Field {
    Field {
        name,
        docs,
        inner: &[],
        serde: "",
    }
}

/// Path (`interfaces.name`) and meaning of all fields that hold a value, in order.
pub(crate) fn flatten(fields: &[Field]) -> Vec<(String, String)> {
    let mut flat = Vec::new();
    for field in fields {
        let text: String = field.docs.concat();
        let text = text.trim().to_owned();
        if field.inner.is_empty() {
            flat.push((field.name.to_owned(), text));
        } else {
            for (path, text) in flatten(field.inner) {
                let path = match field.serde {
                    "flatten" => path,
                    _ => format!("{}.{path}", field.name),
                };
                flat.push((path, text));
            }
        }
    }
    flat
}

/// What JSON of a type looks like, in JSON Schema 2020-12, the dialect of OpenAPI 3.1.
pub(crate) trait Schema {
    /// The schema, or a reference to that of a named type, which is put into `all`.
    fn schema(all: &mut Schemas) -> Value;

    /// The properties of an object.
    fn properties(_: &mut Schemas) -> Map<String, Value> {
        Map::new()
    }
}

/// Schemas of objects, by their names.
#[derive(Debug, Default)]
pub(crate) struct Schemas(BTreeMap<String, (&'static str, Value)>);

impl Schemas {
    /// Puts an object there, unless it is there already, and gives the reference to it. Of two
    /// objects with one name, the second has the name of its module as well.
    pub(crate) fn object<T: Schema>(
        &mut self,
        name: &str,
        module: &'static str,
        about: &[&str],
    ) -> Value {
        let mut name = name.to_owned();
        if self.0.get(&name).is_some_and(|(other, _)| *other != module) {
            let last = module.rsplit("::").next().unwrap_or(module);
            name = format!("{name}_of_{last}");
        }
        if !self.0.contains_key(&name) {
            // Its place first, so that it can be found in itself.
            self.0.insert(name.clone(), (module, Value::Null));
            let properties = T::properties(self);
            let required: Vec<_> = properties.keys().cloned().collect();
            let object = json!({
                "type": "object",
                "description": text(about),
                "properties": properties,
                "required": required,
            });
            self.0.insert(name.clone(), (module, object));
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// All of them.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        let schemas = self.0.into_iter();
        schemas.map(|(name, (_, schema))| (name, schema)).collect()
    }
}

/// Lines of documentation as one text.
fn text(lines: &[&str]) -> String {
    lines.concat().trim().to_owned()
}

/// A property with what it says.
pub(crate) fn described(mut schema: Value, docs: &[&str]) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.insert("description".to_owned(), text(docs).into());
    }
    schema
}

/// Counts in an object, as fields say.
pub(crate) fn counts(fields: &[Field], all: &mut Schemas) -> Map<String, Value> {
    let count = |field: &Field| {
        let schema = described(u64::schema(all), field.docs);
        (field.name.to_owned(), schema)
    };
    fields.iter().map(count).collect()
}

macro_rules! plain {
    ($($type:ty: $schema:tt,)+) => {
        $(impl Schema for $type {
            fn schema(_: &mut Schemas) -> Value {
                json!($schema)
            }
        })+
    };
}

plain! {
    u64: {"type": "integer", "minimum": 0, "format": "uint64"},
    usize: {"type": "integer", "minimum": 0, "format": "uint64"},
    u32: {"type": "integer", "minimum": 0, "format": "uint32"},
    u16: {"type": "integer", "minimum": 0, "maximum": 65535, "format": "uint16"},
    u8: {"type": "integer", "minimum": 0, "maximum": 255, "format": "uint8"},
    f64: {"type": "number", "format": "double"},
    bool: {"type": "boolean"},
    String: {"type": "string"},
    &'static str: {"type": "string"},
    std::sync::Arc<str>: {"type": "string"},
    IpAddr: {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
    IpNet: {"type": "string"},
}

impl<T: Schema> Schema for Vec<T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "array", "items": T::schema(all)})
    }
}

impl<T: Schema> Schema for BTreeSet<T> {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "array", "items": T::schema(all), "uniqueItems": true})
    }
}

impl<T: Schema, const N: usize> Schema for [T; N] {
    fn schema(all: &mut Schemas) -> Value {
        json!({"type": "array", "items": T::schema(all), "minItems": N, "maxItems": N})
    }
}

impl<T: Schema> Schema for Option<T> {
    fn schema(all: &mut Schemas) -> Value {
        let mut schema = T::schema(all);
        match &mut schema {
            Value::Object(fields) if fields.get("type").is_some_and(Value::is_string) => {
                let of = fields["type"].take();
                fields["type"] = json!([of, "null"]);
                if let Some(Value::Array(words)) = fields.get_mut("enum") {
                    words.push(Value::Null);
                }
                if let Some(Value::Array(others)) = fields.get_mut("anyOf") {
                    others.push(json!({"type": "null"}));
                }
                schema
            }
            _ => json!({"anyOf": [schema, {"type": "null"}]}),
        }
    }
}

/// A time in RFC 3339, UTC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct Time(pub String);

impl Schema for Time {
    fn schema(_: &mut Schemas) -> Value {
        json!({"type": "string", "format": "date-time"})
    }
}

impl std::ops::Deref for Time {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Time {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Words: types whose JSON is one of these names.
macro_rules! words {
    ($($type:ty: $names:expr,)+) => {
        $(impl Schema for $type {
            fn schema(_: &mut Schemas) -> Value {
                json!({"type": "string", "enum": $names})
            }
        })+
    };
}

words! {
    crate::model::Scope: ["local", "remote", "unknown"],
    crate::model::AttachMode: ["driver", "skb"],
    crate::model::PointState: ["attached", "missing", "refused", "detached"],
    crate::model::session::Outcome: crate::model::session::Outcome::ALL.map(crate::model::session::Outcome::name),
    crate::model::verdict::Severity: crate::model::verdict::Severity::ALL.map(crate::model::verdict::Severity::name),
    crate::model::verdict::VerdictState: crate::model::verdict::VerdictState::ALL.map(crate::model::verdict::VerdictState::name),
    crate::report::cases::Class: ["spam", "scan", "open"],
    crate::report::distribution::Item: ["source", "pair"],
}

/// Declares an answer. `[Inner]` behind a type names the answer that it holds; a `derive` before it
/// adds to what every answer is.
macro_rules! answer {
    (@inner) => { &[] };
    (@inner $inner:ident) => { $inner::FIELDS };
    (
        $(#[doc = $about:literal])+
        $(#[derive($($derive:path),+)])?
        $visible:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                $field:ident: $type:ty $([$inner:ident])?,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, serde::Serialize $($(, $derive)+)?)]
        $visible struct $name {
            $(
                $(#[doc = $doc])+
                $(#[serde($($serde)+)])?
                $visible $field: $type,
            )+
        }

        impl $name {
            /// The fields with their documentation.
            pub(crate) const FIELDS: &[$crate::answer::Field] = &[
                $($crate::answer::Field {
                    name: stringify!($field),
                    docs: &[$($doc),+],
                    inner: $crate::answer::answer!(@inner $($inner)?),
                    serde: stringify!($($($serde)+)?),
                },)+
            ];
        }

        impl $crate::answer::Schema for $name {
            fn schema(all: &mut $crate::answer::Schemas) -> serde_json::Value {
                all.object::<Self>(stringify!($name), module_path!(), &[$($about),+])
            }

            fn properties(
                all: &mut $crate::answer::Schemas,
            ) -> serde_json::Map<String, serde_json::Value> {
                let mut properties = serde_json::Map::new();
                $(
                    if stringify!($($($serde)+)?) == "flatten" {
                        properties.extend(<$type as $crate::answer::Schema>::properties(all));
                    } else {
                        let schema = <$type as $crate::answer::Schema>::schema(all);
                        properties.insert(
                            stringify!($field).to_owned(),
                            $crate::answer::described(schema, &[$($doc),+]),
                        );
                    }
                )+
                properties
            }
        }
    };
}
pub(crate) use answer;
