//! How a section of the configuration is declared.

/// Declares a section: its documentation, and for each key the documentation, the type and the
/// default; behind `tables`, the sections below it.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($($serde:tt)+)])?
                pub $key:ident: $type:ty = $default:expr;
            )+
        }
        $(tables {
            $(
                $(#[doc = $table_doc:literal])+
                pub $table:ident: $table_type:ty;
            )+
        })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                $(#[serde($($serde)+)])?
                pub $key: $type,
            )+
            $($(
                $(#[doc = $table_doc])+
                pub $table: $table_type,
            )+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($key: $default,)+
                    $($($table: <$table_type>::default(),)+)?
                }
            }
        }

        impl $name {
            /// What the section is about, line by line.
            pub(crate) const ABOUT: &[&str] = &[$($about),+];
            /// Its keys, with the lines of their documentation.
            pub(crate) const KEYS: &[(&str, &[&str])] =
                &[$((stringify!($key), &[$($doc),+])),+];
        }
    };
}
