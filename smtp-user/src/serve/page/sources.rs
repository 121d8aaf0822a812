//! `/sources`: who sends, sorted, filtered and in pages, of a period.
//!
//! Contract: what stands in the address bar is all of it; the links to CSV and JSON are of exactly these rows.
//! A filter that is not understood stays in its box, with the place of the mistake.
#![forbid(unsafe_code)]

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query as Pairs, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::super::App;
use super::super::problem::Problem;
use super::super::query::Span;
use super::super::sources::{self, Query, Sources};
use super::link::link;
use super::rows::{Row, period_of};
use super::{Layout, Screen, filters, show};
use crate::model::period::Period;
use crate::report::time::Month;

/// Rows of a page if nothing is said.
const ROWS: usize = 50;
/// What the page can be asked for at once.
const LIMITS: [usize; 4] = [20, 50, 100, 500];
const DAY: u64 = 86_400_000;

/// The periods to choose from; the month is added.
const PERIODS: [(&str, &str); 6] = [
    ("5m", "5 min"),
    ("1h", "1 h"),
    ("24h", "24 h"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("all", "all"),
];

/// Filters to begin with.
const FILTERS: [(&str, &str); 4] = [
    ("", "everybody"),
    ("state:open", "flagged"),
    ("state:new", "nobody has acted"),
    ("scope:local relay:no", "own hosts but relays"),
];

/// A column: what it is sorted by, its head, what it says, its classes.
type Named = (&'static str, &'static str, &'static str, &'static str);

const COLUMNS: [Named; 14] = [
    ("addr", "Address", "", "text"),
    (
        "severity",
        "State",
        "The worst open verdict, and what was done about it",
        "text",
    ),
    (
        "score",
        "Score",
        "The worst figure of its verdicts in shares of its limit",
        "wide",
    ),
    (
        "connections",
        "Connections",
        "Opened by it in the period",
        "",
    ),
    (
        "previous_connections",
        "Change",
        "Against the period of the same length before; sorted by what it was",
        "",
    ),
    (
        "window.connections",
        "Now",
        "Connections in the last window",
        "wide",
    ),
    (
        "servers",
        "Servers",
        "Different servers that it went to; ~ is an estimate",
        "",
    ),
    (
        "answered",
        "Answered",
        "Share of its connections that a server took; sorted by their number",
        "wide",
    ),
    ("c2s_packets", "Packets", "Sent to servers", "wide"),
    ("c2s_bytes", "Bytes", "Sent to servers, layer 3", "wide"),
    (
        "bytes_per_packet",
        "B/packet",
        "Mean size of a packet to servers",
        "wide",
    ),
    (
        "active_hours",
        "Last 24 hours",
        "Hours with connections, of the last 24; the darker the more",
        "text",
    ),
    ("", "First seen", "In history", "wide"),
    ("", "Last seen", "In history", "wide"),
];

struct Column {
    name: &'static str,
    meaning: &'static str,
    class: &'static str,
    /// Where it leads; empty where it does not sort.
    link: String,
    /// `ascending` or `descending` if it is the one.
    sorted: &'static str,
}

struct Choice {
    name: String,
    link: String,
    current: bool,
}

/// A filter that is not understood.
struct Mistake {
    error: String,
    before: String,
    at: String,
}

#[derive(Template)]
#[template(path = "sources.html")]
struct Page {
    layout: Layout,
    state: Asked,
    columns: Vec<Column>,
    periods: Vec<Choice>,
    filters: Vec<Choice>,
    limits: Vec<(usize, bool)>,
    mistake: Option<Mistake>,
    answer: Option<Arc<Sources>>,
    counted: Option<Period>,
    fields: String,
    /// Whether the rows are from history, which knows more of them.
    kept: bool,
}

/// What stands in the address bar.
#[derive(Clone, Default)]
struct Asked {
    period: String,
    filter: String,
    sort: String,
    order: String,
    limit: String,
    offset: String,
}

impl Asked {
    fn of(uri: &Uri) -> Self {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|Pairs(pairs)| pairs)
            .unwrap_or_default();
        let mut asked = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "period" => asked.period = value,
                "filter" => asked.filter = value,
                "sort" => asked.sort = value,
                "order" => asked.order = value,
                "limit" => asked.limit = value,
                "offset" => asked.offset = value,
                _ => {}
            }
        }
        asked
    }

    /// What is said.
    fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = vec![
            ("period", self.period.as_str()),
            ("filter", &self.filter),
            ("sort", &self.sort),
            ("order", &self.order),
            ("limit", &self.limit),
            ("offset", &self.offset),
        ];
        pairs.retain(|(_, value)| !value.is_empty());
        pairs
    }

    /// The same with a change, from the first row on.
    fn with(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut other = Self {
            offset: String::new(),
            ..self.clone()
        };
        change(&mut other);
        link("/sources", &other.pairs())
    }
}

impl Page {
    fn rows(&self) -> Vec<Row<'_>> {
        let sources = self.answer.iter().flat_map(|answer| &answer.sources);
        sources.map(Row::of).collect()
    }

    /// Exactly these rows, in another form.
    fn download(&self, format: &str) -> String {
        let limit = self.answer.as_ref().map_or(ROWS, |answer| answer.limit);
        let mut pairs = self.state.pairs();
        let limit = limit.to_string();
        pairs.retain(|(name, _)| *name != "limit");
        pairs.push(("limit", &limit));
        pairs.push(("format", format));
        link("/api/v1/sources", &pairs)
    }

    /// The page before or behind this one.
    fn other_page(&self, forward: bool) -> Option<String> {
        let answer = self.answer.as_ref()?;
        let offset = if forward {
            let next = answer.offset + answer.limit;
            (next < answer.total).then_some(next)?
        } else {
            (answer.offset > 0).then(|| answer.offset.saturating_sub(answer.limit))?
        };
        let text = if offset == 0 {
            String::new()
        } else {
            offset.to_string()
        };
        Some(self.state.with(|state| state.offset = text))
    }
}

/// `GET /sources`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    let made = make(&app, &uri).await;
    let mistaken = made.as_ref().is_ok_and(|page| page.mistake.is_some());
    let mut response = show(&app, made);
    if mistaken {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let kept = app.archive.is_some();
    let (usual, usual_name) = if kept {
        (Span::Last(DAY), "24h")
    } else {
        (Span::All, "all")
    };
    let mut state = Asked::of(uri);
    let parsed = match Query::parse(uri, usual) {
        Ok(mut query) => {
            if state.limit.is_empty() {
                query.list.limit = ROWS;
            }
            Ok(query)
        }
        Err(problem) => Err(mistake(problem, &state.filter)?),
    };
    let (answer, mistake, sort, ascending, span) = match parsed {
        Ok(query) => {
            let answer = sources::view(app, &query).await?;
            let list = &query.list;
            (
                Some(answer),
                None,
                list.sort.name,
                list.ascending,
                query.span,
            )
        }
        Err(mistake) => (None, Some(mistake), "connections", false, usual),
    };
    // Links, and those to other forms above all, say the period even where it is the usual one.
    if state.period.is_empty() {
        usual_name.clone_into(&mut state.period);
    }
    let layout = Layout::new(&app.snapshot(), Screen::Sources);
    let shown = answer.as_ref().map_or(ROWS, |answer| answer.limit);
    let counted = answer
        .as_ref()
        .and_then(|answer| answer.counted_period.as_ref());
    Ok(Page {
        columns: columns(&state, sort, ascending),
        periods: periods(&state, span, kept, layout.now()),
        filters: choices(&state),
        limits: LIMITS.map(|limit| (limit, limit == shown)).into(),
        counted: counted.and_then(period_of),
        fields: super::super::query::List::<sources::Rows>::sorts().join(", "),
        kept: !matches!(span, Span::All | Span::Window),
        layout,
        state,
        mistake,
        answer,
    })
}

/// What is wrong with the filter, if it is that.
fn mistake(problem: Problem, filter: &str) -> Result<Mistake, Problem> {
    let position = match (
        problem.body["parameter"].as_str(),
        problem.body["position"].as_u64(),
    ) {
        (Some("filter"), Some(position)) => usize::try_from(position).unwrap_or(1),
        _ => return Err(problem),
    };
    let place = filter
        .char_indices()
        .nth(position.saturating_sub(1))
        .map_or(filter.len(), |(place, _)| place);
    let (before, at) = filter.split_at(place);
    Ok(Mistake {
        error: format!("Not understood from character {position} on"),
        before: before.to_owned(),
        at: at.to_owned(),
    })
}

fn columns(state: &Asked, sort: &str, ascending: bool) -> Vec<Column> {
    let column = |(field, name, meaning, class): Named| {
        let current = field == sort && !field.is_empty();
        // Addresses begin at the lowest; of everything else the most is of interest.
        let ascend = if current { !ascending } else { field == "addr" };
        let link = state.with(|state| {
            field.clone_into(&mut state.sort);
            if ascend { "asc" } else { "desc" }.clone_into(&mut state.order);
        });
        Column {
            name,
            meaning,
            class,
            link: if field.is_empty() {
                String::new()
            } else {
                link
            },
            sorted: match (current, ascending) {
                (false, _) => "",
                (true, true) => "ascending",
                (true, false) => "descending",
            },
        }
    };
    COLUMNS.map(column).into()
}

fn periods(state: &Asked, span: Span, kept: bool, now: u64) -> Vec<Choice> {
    let month = Month::of(now).to_string();
    let all = PERIODS.map(|(value, name)| (value, name.to_owned()));
    let mut all = all.to_vec();
    all.insert(all.len() - 1, (month.as_str(), month.clone()));
    let current = span.to_string();
    let choice = |(value, name): (&str, String)| Choice {
        current: Span::parse(value) == Some(span),
        link: state.with(|state| value.clone_into(&mut state.period)),
        name,
    };
    let mut choices: Vec<_> = all
        .into_iter()
        .filter(|(value, _)| kept || *value == "all")
        .map(choice)
        .collect();
    if !choices.iter().any(|choice| choice.current) {
        choices.push(choice((&current, current.clone())));
    }
    choices
}

fn choices(state: &Asked) -> Vec<Choice> {
    FILTERS
        .map(|(filter, name)| Choice {
            name: name.to_owned(),
            link: state.with(|state| filter.clone_into(&mut state.filter)),
            current: state.filter.trim() == filter,
        })
        .into()
}
