//! `/metrics`: every metric by name, for Prometheus; and `/metrics/sources`, see `per_source`.
//!
//! Contract: all names stand in [`METRICS`], and nothing is exported that does not. An address is
//! never a label there; the number of series depends on the configured interfaces alone, not on traffic.
//! Names and meanings stay. All samples of a scrape are of the last drain, but for what is said of
//! the process itself.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use self::per_source::PerSource;
pub use self::per_source::SOURCE_METRICS;
pub(super) use self::process::Process;
use self::sample::{Buckets, Samples, Scrape, Value};
pub use self::sample::{Metric, Type};
pub use self::table::METRICS;
use super::App;
use super::problem::Problem;
use crate::model::Snapshot;

mod per_source;
mod process;
mod sample;
mod table;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders metrics of a snapshot.
#[derive(Debug)]
struct SnapshotCollector {
    metrics: &'static [Metric],
    snapshot: Arc<Snapshot>,
    process: Process,
    per_source: PerSource,
}

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let scrape = Scrape {
            snapshot: &self.snapshot,
            process: self.process,
            per_source: &self.per_source,
        };
        for metric in self.metrics {
            let mut samples = Samples::default();
            (metric.samples)(&scrape, &mut samples);
            let (name, kind) = match metric.kind {
                // The encoder puts it back behind each sample, as OpenMetrics wants it.
                Type::Counter => (
                    metric.name.strip_suffix("_total").unwrap_or(metric.name),
                    MetricType::Counter,
                ),
                Type::Gauge => (metric.name, MetricType::Gauge),
                Type::Histogram => (metric.name, MetricType::Histogram),
            };
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (values, value) in samples.0 {
                let labels: Vec<(&str, String)> =
                    metric.labels.iter().copied().zip(values).collect();
                if labels.is_empty() {
                    encode(metric.kind, &value, &mut family)?;
                } else {
                    encode(metric.kind, &value, &mut family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(kind: Type, value: &Value, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    match (kind, value) {
        (Type::Counter, Value::Integer(value)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (Type::Counter, Value::Float(value)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (Type::Gauge, Value::Integer(value)) => encoder.encode_gauge(value),
        (Type::Gauge, Value::Float(value)) => encoder.encode_gauge(value),
        (Type::Histogram, Value::Buckets(Buckets { sum, buckets })) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(*sum as f64, count, buckets, None)
        }
        // A metric of the table with values of another type: the tests of the page would not pass.
        (Type::Histogram, _) | (_, Value::Buckets(_)) => Err(fmt::Error),
    }
}

/// The page of [`METRICS`] in OpenMetrics.
fn open_metrics(snapshot: Arc<Snapshot>) -> Result<String, fmt::Error> {
    rendered(SnapshotCollector {
        metrics: METRICS,
        snapshot,
        process: Process::read(),
        per_source: PerSource::default(),
    })
}

fn rendered(collector: SnapshotCollector) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

/// The same page in the text format 0.0.4, which names a counter in full where it says its type, and
/// knows neither units nor an end.
fn plain_text(page: &str) -> String {
    let counters: HashSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(keyword @ ("HELP" | "TYPE")), Some(name), rest) => {
                let suffix = if counters.contains(name) {
                    "_total"
                } else {
                    ""
                };
                text.extend([
                    "# ",
                    keyword,
                    " ",
                    name,
                    suffix,
                    " ",
                    rest.unwrap_or_default(),
                ]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Whether a client would rather have OpenMetrics than text, by its `Accept` headers.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let (mut open, mut plain) = (0.0_f32, 0.0_f32);
    for range in headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
        let best = match name.as_str() {
            "application/openmetrics-text" => &mut open,
            "text/plain" | "text/*" | "*/*" => &mut plain,
            _ => continue,
        };
        *best = best.max(quality);
    }
    open > 0.0 && open >= plain
}

/// A page in the format that a client would rather have.
fn answer(headers: &HeaderMap, page: Result<String, fmt::Error>) -> Result<Response, Problem> {
    let page = page.map_err(|error| Problem::internal(&error))?;
    let (kind, page) = if wants_open_metrics(headers) {
        (OPEN_METRICS, page)
    } else {
        (TEXT, plain_text(&page))
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::VARY, "accept")];
    Ok((headers, page).into_response())
}

pub(super) async fn metrics(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&headers, open_metrics(app.snapshot()))
}

pub(super) async fn sources(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let options = app.config().metrics.clone();
    if options.sources == 0 {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no source has metrics of its own here (metrics.sources = 0); say in the configuration \
             how many may have them"
                .to_owned(),
        ));
    }
    let page = app
        .scan(move |snapshot, list| {
            rendered(SnapshotCollector {
                metrics: SOURCE_METRICS,
                snapshot: Arc::new(snapshot.clone()),
                process: Process::default(),
                per_source: PerSource::new(&options, &snapshot.open, list),
            })
        })
        .await?;
    answer(&headers, page)
}

#[cfg(test)]
mod tests;
