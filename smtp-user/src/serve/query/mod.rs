//! What is asked of a list: filter, order, page, form; one way for all lists.
//!
//! Contract: what is not understood is refused, never ignored; every parameter comes once. Errors
//! name the parameter, its value, what is allowed, and in a filter the position.
//!
//! How a resource uses it: it says in a [`Table`] what its rows are filtered and sorted by, takes its
//! own parameters from [`Params`], has [`List::parse`] take the rest, refuses what is left with
//! [`Params::finish`], shows its rows one by one to a [`Chooser`], makes its answer from those that
//! are chosen, and hands that to [`List::respond`], which is JSON or CSV of the same rows:
//!
//! ```text
//! let mut params = Params::of(&uri)?;
//! let span = params.take("period", Span::ALLOWED, Span::parse)?;
//! let list = List::<Verdicts>::parse(&mut params, "changed_at")?;
//! params.finish()?;
//! let mut chooser = Chooser::new(&list);
//! for verdict in &verdicts { chooser.add(&verdict, verdict.id); }
//! let (ids, total) = chooser.finish();
//! ```
#![forbid(unsafe_code)]

mod choose;
mod csv;
mod filter;
mod span;

use axum::Json;
use axum::extract::Query as Pairs;
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

pub(super) use self::choose::Chooser;
pub(super) use self::csv::csv;
pub(super) use self::filter::{Fault, Field, Filter, Table, Value};
pub(super) use self::span::Span;
use super::problem::Problem;
use crate::answer;

/// Rows if nothing is said.
pub(super) const DEFAULT_LIMIT: usize = 100;
/// Most rows in one answer.
pub(super) const MAX_LIMIT: usize = 10_000;
/// Most rows that can be skipped: as many as sources can be kept.
pub(super) const MAX_OFFSET: usize = 1 << 24;

/// The parameters of a request.
pub(super) struct Params {
    left: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Params {
    /// Reads the query of a target.
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| {
            Problem::parameter(
                "query",
                uri.query().unwrap_or_default(),
                "NAME=VALUE&NAME=VALUE, percent-encoded",
            )
        })?;
        let Pairs(left) = pairs;
        for (i, (name, value)) in left.iter().enumerate() {
            if left[..i].iter().any(|(other, _)| other == name) {
                return Err(Problem::parameter(name, value, "each parameter once"));
            }
        }
        Ok(Self {
            left,
            known: Vec::new(),
        })
    }

    /// Whether a parameter is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.iter().any(|(other, _)| other == name)
    }

    /// Takes the text of a parameter, if it is there.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let place = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.swap_remove(place).1)
    }

    /// Takes a parameter, if it is there.
    ///
    /// # Errors
    ///
    /// `parse` does not understand it; then `allowed` is told.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Problem::parameter(name, &text, allowed)),
        }
    }

    /// Takes a number of this range, if it is there.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        (least, most): (usize, usize),
    ) -> Result<Option<usize>, Problem> {
        self.take(name, &format!("{least} to {most}"), |text| {
            let digits = text.bytes().all(|octet| octet.is_ascii_digit());
            let number = digits.then(|| text.parse().ok()).flatten();
            number.filter(|number| (least..=most).contains(number))
        })
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(self) -> Result<(), Problem> {
        let Some((name, value)) = self.left.first() else {
            return Ok(());
        };
        let allowed = match &self.known[..] {
            [] => "no parameters".to_owned(),
            [one] => format!("the parameter {one}"),
            all => format!("the parameters {}", all.join(", ")),
        };
        Err(Problem::parameter(name, value, &allowed))
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// An object with the rows in a list.
    #[default]
    Json,
    /// See [`csv`].
    Csv,
}

/// What is asked of a list, see the module.
pub(super) struct List<T: Table> {
    /// What it is sorted by.
    pub(super) sort: &'static Field<T>,
    /// Lowest first.
    pub(super) ascending: bool,
    /// Most rows shown.
    pub(super) limit: usize,
    /// Rows skipped.
    pub(super) offset: usize,
    /// Which rows.
    pub(super) filter: Filter<T>,
    /// In which form.
    pub(super) format: Format,
}

impl<T: Table> Clone for List<T> {
    fn clone(&self) -> Self {
        Self {
            filter: self.filter.clone(),
            ..*self
        }
    }
}

impl<T: Table> std::fmt::Debug for List<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.canonical())
    }
}

/// The field of this name that a list can be sorted by.
fn sorting<T: Table>(name: &str) -> Option<&'static Field<T>> {
    T::FIELDS
        .iter()
        .find(|field| field.name == name && field.sorts())
}

impl<T: Table> List<T> {
    /// The first rows by a field of the table, the highest first.
    pub(super) fn by(sort: &str, limit: usize) -> Self {
        Self {
            // Of a table that has no such field, the first one; a test of each table sees to it.
            sort: sorting(sort).unwrap_or(&T::FIELDS[0]),
            ascending: false,
            limit,
            offset: 0,
            filter: Filter::default(),
            format: Format::Json,
        }
    }

    /// Takes the parameters of a list; `sort` is what it is sorted by if nothing is said.
    pub(super) fn parse(params: &mut Params, sort: &str) -> Result<Self, Problem> {
        let mut list = Self::by(sort, DEFAULT_LIMIT);
        let sorts = Self::sorts().join(", ");
        if let Some(field) = params.take("sort", &sorts, sorting::<T>)? {
            list.sort = field;
        }
        let order = params.take("order", "asc, desc", |text| match text {
            "asc" => Some(true),
            "desc" => Some(false),
            _ => None,
        })?;
        list.ascending = order.unwrap_or(false);
        if let Some(limit) = params.number("limit", (1, MAX_LIMIT))? {
            list.limit = limit;
        }
        if let Some(offset) = params.number("offset", (0, MAX_OFFSET))? {
            list.offset = offset;
        }
        if let Some(text) = params.text("filter") {
            list.filter = Filter::parse(&text).map_err(|fault| Problem::filter(&fault))?;
        }
        let format = params.take("format", "json, csv", |text| match text {
            "json" => Some(Format::Json),
            "csv" => Some(Format::Csv),
            _ => None,
        })?;
        list.format = format.unwrap_or_default();
        Ok(list)
    }

    /// The names that can stand after `sort=`.
    pub(super) fn sorts() -> Vec<&'static str> {
        let sorts = T::FIELDS.iter().filter(|field| field.sorts());
        sorts.map(|field| field.name).collect()
    }

    /// Whether a field is looked at before rows are chosen.
    pub(super) fn uses(&self, field: &str) -> bool {
        self.sort.name == field || self.filter.uses(field)
    }

    /// The rows that are asked for, but not their form: the same text for the same question.
    pub(super) fn canonical(&self) -> String {
        format!(
            "sort={} order={} limit={} offset={} filter={}",
            self.sort.name,
            if self.ascending { "asc" } else { "desc" },
            self.limit,
            self.offset,
            self.filter
        )
    }

    /// The answer in its form; `fields` are those of a row.
    pub(super) fn respond<A: Serialize, R: Serialize>(
        &self,
        answer: &A,
        fields: &[answer::Field],
        rows: &[R],
    ) -> Result<Response, Problem> {
        respond(self.format, answer, fields, rows)
    }
}

/// An answer in a form; `fields` are those of a row.
pub(super) fn respond<A: Serialize, R: Serialize>(
    format: Format,
    answer: &A,
    fields: &[answer::Field],
    rows: &[R],
) -> Result<Response, Problem> {
    match format {
        Format::Json => Ok(Json(answer).into_response()),
        Format::Csv => {
            let text = csv(fields, rows).map_err(|error| Problem::internal(&error))?;
            let headers = [
                (
                    header::CONTENT_TYPE,
                    "text/csv; charset=utf-8; header=present",
                ),
                (header::CONTENT_DISPOSITION, "attachment"),
            ];
            Ok((headers, text).into_response())
        }
    }
}

#[cfg(test)]
pub(in crate::serve) mod tests;
