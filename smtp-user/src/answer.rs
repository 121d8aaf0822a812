//! The form of JSON answers, with the documentation of every field.
//!
//! Contract: a field stands in one place with its type and its text; the struct, its serialisation
//! and the list that documentation and tests are made from cannot differ.

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

/// Declares an answer. `[Inner]` behind a type names the answer that it holds.
macro_rules! answer {
    (@inner) => { &[] };
    (@inner $inner:ident) => { $inner::FIELDS };
    (
        $(#[doc = $about:literal])+
        $visible:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                $field:ident: $type:ty $([$inner:ident])?,
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, serde::Serialize)]
        $visible struct $name {
            $(
                $(#[doc = $doc])+
                $(#[serde($($serde)+)])?
                $visible $field: $type,
            )+
        }

        impl $name {
            /// The fields with their documentation.
            $visible const FIELDS: &[$crate::answer::Field] = &[
                $($crate::answer::Field {
                    name: stringify!($field),
                    docs: &[$($doc),+],
                    inner: $crate::answer::answer!(@inner $($inner)?),
                    serde: stringify!($($($serde)+)?),
                },)+
            ];
        }
    };
}
pub(crate) use answer;
