//! `/verdicts` and `/verdicts/ID`: what was found, where it stands, what has become of it.
//!
//! Contract: all state is in the address bar. Several can be changed at once, and each keeps its own audit
//! trail.
#![forbid(unsafe_code)]

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::host::RuleRow;
use super::life::{ACTS, Act, Life};
use super::link::link;
use super::span;
use super::timeline::Timeline;
use super::{Layout, Screen, filters, show};
use crate::failure::Failure;
use crate::model::verdict::{Verdict, VerdictEvent, VerdictState};
use crate::serve::App;
use crate::serve::problem::Problem;
use crate::serve::query::{Chooser, Filter, List, Params, Span};
use crate::serve::verdicts::{Rows, all};
use crate::store::Reader;

/// Lists that are often asked for: name and filter.
const LISTS: [(&str, &str); 5] = [
    ("Open", "state:open"),
    ("New", "state:new"),
    ("Critical", "state:open severity:critical"),
    ("False positives", "state:false_positive"),
    ("All", ""),
];
/// The columns that can be sorted by.
const SORTS: [(&str, &str); 5] = [
    ("subject", "Host"),
    ("detector", "Finding"),
    ("severity", "Severity"),
    ("state", "State"),
    ("opened_at", "Opened"),
];
const PERIODS: [(&str, &str); 3] = [("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days")];
/// What the timeline shows if nothing is said.
const TIMELINE: Span = Span::Last(30 * 86_400_000);
/// Rows of a page if nothing is said.
const LIMIT: usize = 50;

#[derive(Template)]
#[template(path = "verdicts.html")]
struct Page {
    layout: Layout,
    /// Named links, of which one may be the current one.
    lists: Vec<(&'static str, String, bool)>,
    periods: Vec<(&'static str, String, bool)>,
    sorts: Vec<Sorted>,
    filter: String,
    period_value: String,
    shown: Shown,
    json: String,
    csv: String,
    earlier: Option<String>,
    later: Option<String>,
    acts: &'static [(VerdictState, Act)],
}

/// A column that can be sorted by.
struct Sorted {
    name: &'static str,
    link: String,
    /// As for `aria-sort`.
    sorted: Option<&'static str>,
}

/// What the store has.
struct Shown {
    total: usize,
    first: usize,
    rows: Vec<Row>,
    timeline: Timeline,
}

struct Row {
    life: Life,
    /// Who has changed it last, if a person has.
    person: Option<String>,
}

/// What was asked for.
#[derive(Clone)]
struct Asked {
    list: List<Rows>,
    filter: String,
    span: Span,
}

/// `GET /verdicts`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    show(&app, make(&app, &uri).await)
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let asked = Asked::parse(uri)?;
    let question = asked.clone();
    let verdicts = all(app).await?;
    let shown = app
        .look_up(move |archive| archive.read(|reader| Shown::read(reader, &verdicts, &question)))
        .await?;
    let (periods, period_value) = span::offered(&PERIODS, asked.span);
    let List {
        sort,
        ascending,
        limit,
        offset,
        ..
    } = asked.list;
    let order = if ascending { "asc" } else { "desc" };
    let to = |filter: &str, period: &str, sort: &str, order: &str, offset: usize| {
        let mut parameters = vec![
            ("filter", filter),
            ("period", period),
            ("sort", sort),
            ("order", order),
        ];
        let offset = offset.to_string();
        if offset != "0" {
            parameters.push(("offset", &offset));
        }
        link("/verdicts", &parameters)
    };
    let here = |offset| to(&asked.filter, &period_value, sort.name, order, offset);
    let of_list = [
        ("filter", asked.filter.as_str()),
        ("sort", sort.name),
        ("order", order),
    ];
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Verdicts),
        lists: LISTS
            .iter()
            .map(|(name, filter)| {
                let link = to(filter, &period_value, sort.name, order, 0);
                (*name, link, *filter == asked.filter)
            })
            .collect(),
        periods: periods
            .iter()
            .map(|period| {
                let link = to(&asked.filter, period.value, sort.name, order, offset);
                (period.name, link, period.current)
            })
            .collect(),
        sorts: SORTS
            .iter()
            .map(|(field, name)| {
                let sorted = *field == sort.name;
                let turned = if sorted && !ascending { "asc" } else { "desc" };
                Sorted {
                    name,
                    link: to(&asked.filter, &period_value, field, turned, 0),
                    sorted: sorted.then_some(if ascending { "ascending" } else { "descending" }),
                }
            })
            .collect(),
        json: link("/api/v1/verdicts", &of_list),
        csv: link(
            "/api/v1/verdicts",
            &[of_list[0], of_list[1], of_list[2], ("format", "csv")],
        ),
        earlier: (offset > 0).then(|| here(offset.saturating_sub(limit))),
        later: (offset + limit < shown.total).then(|| here(offset + limit)),
        shown,
        period_value: period_value.clone(),
        filter: asked.filter.clone(),
        acts: &ACTS,
    })
}

impl Asked {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        let mut params = Params::of(uri)?;
        let span = params.take("period", Span::KEPT_ALLOWED, Span::parse_kept)?;
        let has_filter = params.has("filter");
        let mut list = List::<Rows>::parse(&mut params, "severity")?;
        params.finish()?;
        if !has_filter {
            list.filter = Filter::parse(LISTS[0].1).map_err(|fault| Problem::filter(&fault))?;
        }
        list.limit = list.limit.min(LIMIT);
        Ok(Self {
            filter: list.filter.to_string(),
            list,
            span: span.unwrap_or(TIMELINE),
        })
    }
}

impl Shown {
    fn read(reader: &Reader, verdicts: &[Verdict], asked: &Asked) -> Result<Self, Failure> {
        let now = reader.now();
        let mut chooser = Chooser::new(&asked.list);
        for (place, verdict) in verdicts.iter().enumerate() {
            chooser.add(&verdict, (std::cmp::Reverse(verdict.last_at), place));
        }
        let (chosen, total) = chooser.finish();
        let mut rows = Vec::new();
        for (_, place) in chosen {
            let verdict = &verdicts[place];
            let events = reader.verdict_events(verdict.id)?;
            let life = Life::new(verdict, &events, now);
            let last = life.events.iter().rfind(|event| event.person);
            rows.push(Row {
                person: last.map(|event| event.who.clone()),
                life,
            });
        }
        let (period, _) = span::periods(asked.span, now);
        let mut lives: Vec<(Verdict, Vec<VerdictEvent>)> = Vec::new();
        for verdict in verdicts {
            // The others were over before.
            let over = !verdict.state.is_open() && verdict.changed_at < period.from;
            if !over && asked.list.filter.holds(&verdict) {
                let events = reader.verdict_events(verdict.id)?;
                lives.push((verdict.clone(), events));
            }
        }
        Ok(Self {
            total,
            first: asked.list.offset,
            rows,
            timeline: Timeline::new(&lives, period),
        })
    }
}

#[derive(Template)]
#[template(path = "verdict.html")]
struct One {
    layout: Layout,
    life: Life,
    rule: RuleRow,
    acts: &'static [(VerdictState, Act)],
}

/// `GET /verdicts/{id}`
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    show(&app, make_one(&app, &id).await)
}

async fn make_one(app: &App, text: &str) -> Result<One, Problem> {
    let id: u64 = text
        .parse()
        .map_err(|_| Problem::parameter("id", text, "the number of a verdict"))?;
    let found = app
        .look_up(move |archive| {
            archive.read(|reader| {
                let found = reader.verdict(id)?;
                Ok(found.map(|(verdict, events)| (verdict, events, reader.now())))
            })
        })
        .await?;
    let Some((verdict, events, now)) = found else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no verdict {id}; /verdicts lists those that there are"),
        ));
    };
    Ok(One {
        layout: Layout::new(&app.snapshot(), Screen::Verdicts).of(format!("#{id}")),
        life: Life::new(&verdict, &events, now),
        rule: RuleRow::from(&verdict.rule),
        acts: &ACTS,
    })
}
