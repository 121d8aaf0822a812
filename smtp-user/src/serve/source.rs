//! `/api/v1/sources/{addr}`: one source, its pairs and its last connections.
//!
//! Contract: 404 for an address that was not seen, 400 for what is no address. The cost is one pass
//! over the pairs and the connections under way.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use smtp_common::packet::Address;

use super::App;
use super::api::{Counts, SCHEMA, rfc3339};
use super::document::{answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, Params};
use super::session::{Commands, Conduct, Replies, Traffic};
use crate::connections::{ConnectionRow, Connections, PairRow};
use crate::model::session::{COMMANDS, Outcome, Outcomes, REPLIES, flag_names};
use crate::model::verdict::Verdict;
use crate::model::{Scope, SourceRow};
use crate::report::verdicts::JsonBrief;

answer! {
    /// A client and a server.
    pub(super) struct Pair {
        /// The address of the client.
        client: IpAddr,
        /// The address of the server.
        server: IpAddr,
        /// Connections, packets and bytes.
        #[serde(flatten)]
        traffic: Traffic [Traffic],
        /// Connections by what became of them, as far as they could be followed.
        outcomes: Outcomes [Outcomes],
        /// Replies by class.
        replies: Replies [Replies],
        /// Commands.
        commands: Commands [Commands],
        /// Messages that the server took.
        accepted: u64,
        /// When the first segment came.
        first: String,
        /// When the last segment came.
        last: String,
    }
}

impl From<&PairRow> for Pair {
    fn from(row: &PairRow) -> Self {
        let PairRow {
            key,
            volume,
            outcomes,
            said,
            accepted,
            first,
            last,
        } = row;
        Self {
            client: key.client.into(),
            server: key.server.into(),
            traffic: (*volume).into(),
            outcomes: *outcomes,
            replies: said.named(REPLIES),
            commands: said.named(COMMANDS),
            accepted: *accepted,
            first: rfc3339(*first),
            last: rfc3339(*last),
        }
    }
}

answer! {
    /// A connection, or a flow whose beginning was not seen.
    pub(super) struct RecentConnection {
        /// The port of the client.
        client_port: u16,
        /// The address of the server.
        server: IpAddr,
        /// The port of the server.
        server_port: u16,
        /// When the first segment came.
        first: String,
        /// When the last segment came.
        last: String,
        /// Whether it has not ended.
        open: bool,
        /// Whether its SYN was not seen: then it is no connection.
        midstream: bool,
        /// What became of it, or null if it is no connection.
        outcome: Option<Outcome>,
        /// Packets of the client.
        c2s_packets: u64,
        /// Layer-3 bytes of these.
        c2s_bytes: u64,
        /// All TCP flags of the client.
        c2s_flags: String,
        /// Packets of the server.
        s2c_packets: u64,
        /// Layer-3 bytes of these.
        s2c_bytes: u64,
        /// All TCP flags of the server.
        s2c_flags: String,
        /// SYNs that were sent again.
        syn_retx: u64,
        /// Replies by class.
        replies: Replies [Replies],
        /// Commands.
        commands: Commands [Commands],
        /// Messages that the server took.
        accepted: u64,
    }
}

impl From<&ConnectionRow> for RecentConnection {
    fn from(row: &ConnectionRow) -> Self {
        let ConnectionRow {
            key,
            connection,
            open,
        } = row;
        let (first, last) = connection.times();
        let volume = connection.volume();
        let (c2s_flags, s2c_flags) = connection.flags();
        let said = connection.said();
        let midstream = connection.midstream();
        Self {
            client_port: key.client_port,
            server: key.server.into(),
            server_port: key.server_port,
            first: rfc3339(first),
            last: rfc3339(last),
            open: *open,
            midstream,
            outcome: (!midstream).then(|| connection.outcome()),
            c2s_packets: volume.c2s_packets,
            c2s_bytes: volume.c2s_bytes,
            c2s_flags: flag_names(c2s_flags),
            s2c_packets: volume.s2c_packets,
            s2c_bytes: volume.s2c_bytes,
            s2c_flags: flag_names(s2c_flags),
            syn_retx: connection.syn_retx(),
            replies: said.named(REPLIES),
            commands: said.named(COMMANDS),
            accepted: connection.accepted(),
        }
    }
}

answer! {
    /// `/api/v1/sources/{addr}`.
    pub(super) struct OneSource {
        /// Version of the form of this answer.
        schema: u32,
        /// The address.
        addr: IpAddr,
        /// local, remote, or unknown where no prefixes are configured.
        scope: Scope,
        /// Counts of all windows, since counting_since of the status.
        total: Counts [Counts],
        /// Counts of the last window.
        window: Counts [Counts],
        /// What its connections came to.
        #[serde(flatten)]
        conduct: Conduct [Conduct],
        /// Pairs in which it is client or server.
        pairs_total: usize,
        /// Most pairs shown.
        limit: usize,
        /// These pairs, by connections, then by packets.
        pairs: Vec<Pair> [Pair],
        /// Its open verdicts, or those of the prefix that it is judged with, the lowest number first.
        verdicts: Vec<JsonBrief> [JsonBrief],
        /// Its last connections as a client, the latest first, at most 32.
        connections: Vec<RecentConnection> [RecentConnection],
    }
}

impl OneSource {
    fn new(row: &SourceRow, connections: &Connections, open: &[Verdict], limit: usize) -> Self {
        let address = Address::from(row.address);
        let client = connections.client(address);
        let (pairs, pairs_total) = connections.pairs_of(address, limit);
        let recent = connections.recent_of(address);
        Self {
            schema: SCHEMA,
            addr: row.address,
            scope: row.scope,
            total: (&row.total).into(),
            window: (&row.window).into(),
            conduct: Conduct::new(&client.sessions, client.servers),
            pairs_total,
            limit,
            pairs: pairs.iter().map(Pair::from).collect(),
            verdicts: open
                .iter()
                .filter(|verdict| verdict.subject.contains(&row.address))
                .map(JsonBrief::from)
                .collect(),
            connections: recent.iter().map(RecentConnection::from).collect(),
        }
    }
}

/// Path and meaning of every field of `/api/v1/sources/{addr}`.
pub fn source_fields() -> Vec<(String, String)> {
    flatten(OneSource::FIELDS)
}

/// The address in a path.
pub(super) fn address(text: &str) -> Result<IpAddr, Problem> {
    let address: Result<IpAddr, _> = text.parse();
    address
        .map(|address| address.to_canonical())
        .map_err(|_| Problem::parameter("addr", text, "an IPv4 or IPv6 address as text, no name"))
}

pub(super) async fn source(
    State(app): State<App>,
    Path(address): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let address = self::address(&address)?;
    let mut params = Params::of(&uri)?;
    let limit = params.number("limit", (1, MAX_LIMIT))?;
    params.finish()?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    let connections = app.connections.clone();
    let answer = app
        .scan(move |snapshot, list| {
            let row = list.of(address.into())?.to_row();
            let connections = connections.read();
            Some(OneSource::new(&row, &connections, &snapshot.open, limit))
        })
        .await?;
    match answer {
        Some(answer) => Ok(Json(answer).into_response()),
        None => Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "{address} was not seen, or came when the list of sources was full; /api/v1/sources \
                 lists those that were"
            ),
        )),
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/sources/{addr}",
            "source",
            "One source, its pairs and its last connections",
        )
        .address()
        .number("limit", "Most pairs.", (1, MAX_LIMIT), DEFAULT_LIMIT)
        .json::<OneSource>(),
    ]
}
