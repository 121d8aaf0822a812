//! `/notices` and `/notices/ID`: what owners are told, and what waits for somebody to let it leave.
//!
//! Contract: what waits comes first. Before somebody approves a notice he sees all of it, as it would leave, and
//! whom it goes to. What is in it was partly written by strangers (names, rules, replies of relays), and is text
//! here, never markup.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;

use super::life::Event;
use super::link::link;
use super::{Layout, Screen, filters, show};
use crate::model::notice::{Fate, Notice, NoticeEvent, NoticeState};
use crate::model::person::SMTPFLOW;
use crate::model::prefix;
use crate::serve::App;
use crate::serve::notices::{Query, one_of, rows};
use crate::serve::problem::Problem;
use crate::serve::query::{List, Params};

/// Lists that are often asked for: name and filter.
const LISTS: [(&str, &str); 5] = [
    ("All", ""),
    ("Waiting", "state:waiting"),
    ("Approved", "state:approved"),
    ("Sent", "state:sent"),
    ("Failed", "state:failed"),
];
/// Rows of a page.
const LIMIT: usize = 50;
/// Hosts that a row names.
const HOSTS: usize = 3;
/// Lines of the whole message that are shown; `smtpflow notice show ID --message` has all.
const LINES: usize = 2000;

#[derive(Template)]
#[template(path = "notices.html")]
struct Page {
    layout: Layout,
    /// Named links, of which one may be the current one.
    lists: Vec<(&'static str, String, bool)>,
    filter: String,
    total: usize,
    rows: Vec<Row>,
    json: String,
    csv: String,
    earlier: Option<String>,
    later: Option<String>,
    /// Whether notices are made at all.
    enabled: bool,
}

/// A notice in a list.
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) state: &'static str,
    pub(super) kind: &'static str,
    pub(super) case: Option<u64>,
    /// The first of its hosts, each with its page.
    pub(super) hosts: Vec<(String, IpAddr)>,
    /// Those that are not named.
    pub(super) more: usize,
    pub(super) made_at: u64,
    pub(super) left_at: Option<u64>,
    pub(super) to: String,
    pub(super) subject: String,
}

impl From<&Notice> for Row {
    fn from(notice: &Notice) -> Self {
        let mails: Vec<_> = notice.recipients.iter().map(|to| &*to.mail).collect();
        Self {
            id: notice.id,
            state: notice.state.name(),
            kind: notice.kind.name(),
            case: notice.case,
            hosts: hosts(notice).take(HOSTS).collect(),
            more: notice.hosts.len().saturating_sub(HOSTS),
            made_at: notice.made_at,
            left_at: notice.left_at,
            to: mails.join(", "),
            subject: notice.subject.clone(),
        }
    }
}

/// Its hosts, each with whose page tells of it.
fn hosts(notice: &Notice) -> impl Iterator<Item = (String, IpAddr)> {
    let hosts = notice.hosts.iter();
    hosts.map(|host| (prefix::show(host), host.addr()))
}

/// `GET /notices`
pub(super) async fn page(State(app): State<App>, uri: Uri) -> Response {
    show(&app, make(&app, &uri).await)
}

async fn make(app: &App, uri: &Uri) -> Result<Page, Problem> {
    let mut params = Params::of(uri)?;
    let has_order = params.has("order") || params.has("sort");
    let mut list = List::parse(&mut params, "state")?;
    params.finish()?;
    // In the order of a notice's life, what waits first.
    list.ascending |= !has_order;
    list.limit = list.limit.min(LIMIT);
    let query = Query { list };
    let (rows, total) = rows(app, &query).await?;
    let filter = query.list.filter.to_string();
    let List { limit, offset, .. } = query.list;
    let at = |offset: usize| {
        let offset = offset.to_string();
        link("/notices", &[("filter", &*filter), ("offset", &*offset)])
    };
    Ok(Page {
        layout: Layout::new(&app.snapshot(), Screen::Notices),
        lists: LISTS
            .iter()
            .map(|(name, of)| (*name, link("/notices", &[("filter", *of)]), *of == filter))
            .collect(),
        json: link("/api/v1/notices", &[("filter", &*filter)]),
        csv: link(
            "/api/v1/notices",
            &[("filter", &*filter), ("format", "csv")],
        ),
        earlier: (offset > 0).then(|| at(offset.saturating_sub(limit))),
        later: (offset + limit < total).then(|| at(offset + limit)),
        total,
        rows: rows.iter().map(Row::from).collect(),
        filter,
        enabled: app.config().notice.enabled,
    })
}

#[derive(Template)]
#[template(path = "notice.html")]
struct One {
    layout: Layout,
    life: Life,
}

/// A notice, all of it.
struct Life {
    id: u64,
    state: &'static str,
    kind: &'static str,
    case: Option<u64>,
    subject: String,
    message_id: String,
    /// Address, and what became of it there.
    recipients: Vec<(String, &'static str)>,
    hosts: Vec<(String, IpAddr)>,
    made_at: u64,
    expires_at: u64,
    left_at: Option<u64>,
    next_at: Option<u64>,
    attempts: u32,
    last_reply: Option<String>,
    may_approve: bool,
    may_reject: bool,
    text: Vec<String>,
    message: Vec<String>,
    /// Lines of the message that are not shown.
    cut: usize,
    /// What has happened to it, the earliest first, and how many before these.
    events: Vec<Event>,
    earlier: usize,
}

impl Life {
    fn new(notice: &Notice, events: &[NoticeEvent]) -> Self {
        let message = String::from_utf8_lossy(&notice.message);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut shown = lines(&message);
        let cut = shown.len().saturating_sub(LINES);
        shown.truncate(LINES);
        let may = |to| notice.state.may_become(to);
        Self {
            id: notice.id,
            state: notice.state.name(),
            kind: notice.kind.name(),
            case: notice.case,
            subject: notice.subject.clone(),
            message_id: notice.message_id.clone(),
            recipients: notice
                .recipients
                .iter()
                .map(|to| (to.mail.clone(), fate(to.fate)))
                .collect(),
            hosts: hosts(notice).collect(),
            made_at: notice.made_at,
            expires_at: notice.expires_at,
            left_at: notice.left_at,
            next_at: (notice.state == NoticeState::Approved).then_some(notice.next_at),
            attempts: notice.attempts,
            last_reply: notice.last_reply.clone(),
            may_approve: may(NoticeState::Approved),
            may_reject: may(NoticeState::Rejected),
            text: lines(&notice.text),
            message: shown,
            cut,
            events: events.iter().map(Event::from).collect(),
            earlier: 0,
        }
    }
}

impl From<&NoticeEvent> for Event {
    fn from(event: &NoticeEvent) -> Self {
        let NoticeEvent {
            notice: _,
            at,
            who,
            from: _,
            to,
            why,
        } = event;
        Self {
            at: *at,
            who: who.clone(),
            person: who != SMTPFLOW,
            to: to.name(),
            why: why.clone(),
        }
    }
}

const fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Pending => "",
        Fate::Taken => "the relay has it",
        Fate::Refused => "the relay has refused it",
    }
}

/// `GET /notices/{id}`
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> Response {
    show(&app, make_one(&app, &id).await)
}

async fn make_one(app: &App, text: &str) -> Result<One, Problem> {
    let id: u64 = text
        .parse()
        .map_err(|_| Problem::parameter("id", text, "the number of a notice"))?;
    let (notice, events) = one_of(app, id).await?;
    Ok(One {
        layout: Layout::new(&app.snapshot(), Screen::Notices).of(format!("#{id}")),
        life: Life::new(&notice, &events),
    })
}

#[cfg(test)]
mod tests;
