//! `/api/v1/reports/{month}`: the report of a month, in four forms.
//!
//! Contract: the same as `smtpflow report`, from the same data. The HTML is one file that loads nothing;
//! it is for keeping and printing, not a page of this server.
#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::document::flatten;
use super::openapi::Operation;
use super::problem::Problem;
use super::query::{Params, Span};
use crate::report::document::Form;
use crate::report::month::{JsonReport, PeriodReport};
use crate::report::time::Month;

/// Path and meaning of every field of `/api/v1/reports/{month}`.
pub fn report_fields() -> Vec<(String, String)> {
    flatten(JsonReport::FIELDS)
}

/// The report of a month.
pub(super) async fn view(app: &App, month: Month) -> Result<Arc<PeriodReport>, Problem> {
    let make = app.look_up(move |archive| {
        archive.read(|reader| {
            PeriodReport::read(reader, Some(month), month.period(), &archive.policy())
        })
    });
    let weight = |report: &PeriodReport| {
        let listed = report.cases.hosts.len()
            + report.gaps.gaps.len()
            + report.scorecard.all.mail.leads.len();
        8192 + 256 * listed
    };
    app.once(&format!("report {month}"), weight, make).await
}

pub(super) async fn report(
    State(app): State<App>,
    Path(month): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let month = Month::parse(&month)
        .map_err(|_| Problem::parameter("month", &month, "a month such as 2026-11"))?;
    let mut params = Params::of(&uri)?;
    let form = params.take("format", "json, csv, html, text", |text| match text {
        "json" => Some(None),
        "csv" => Some(Some(Form::Csv)),
        "html" => Some(Some(Form::Html)),
        "text" => Some(Some(Form::Text)),
        _ => None,
    })?;
    params.finish()?;
    let report = view(&app, month).await?;
    let Some(form) = form.flatten() else {
        return Ok(Json(report.json()).into_response());
    };
    let (kind, ending) = match form {
        Form::Text => ("text/plain; charset=utf-8", "txt"),
        Form::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
        Form::Html => ("text/html; charset=utf-8", "html"),
    };
    let file = format!("attachment; filename=\"smtpflow-{month}.{ending}\"");
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, report.document().render(form)).into_response())
}

pub(super) fn operations() -> Vec<Operation> {
    let month = serde_json::json!({"type": "string", "pattern": Span::month_pattern()});
    vec![
        Operation::get("/api/v1/reports/{month}", "report", "The report of a month")
            .path("month", "The month, UTC, such as 2026-11.", month)
            .choice(
                "format",
                "The form.",
                &["json", "csv", "html", "text"],
                "json",
            )
            .json::<JsonReport>()
            .text("text/csv")
            .text("text/html")
            .text("text/plain")
            .problems(&[404]),
    ]
}
