//! The table of the demo: the agent's answers as text of at most 100 columns.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

/// Rows that are shown.
const ROWS: usize = 12;

/// Two lines on the agent's state, then a row per source. `names` says who has an address.
pub fn render(
    status: &Value,
    sources: &Value,
    names: &BTreeMap<String, String>,
    page: SocketAddr,
) -> String {
    let mut text = String::new();
    let interfaces: Vec<String> = status["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|i| format!("{} ({})", word(&i["name"]), word(&i["mode"])))
        .collect();
    let conservation = &status["conservation"];
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "smtpflow {} on {}   http://{page}/   Ctrl-C ends",
        word(&status["version"]),
        interfaces.join(", ")
    );
    let _ = writeln!(
        text,
        "frames {} = SMTP {} + other {}   unaccounted {}   overflow {}   last drain {} ms\n",
        number(&conservation["frames"]),
        number(&conservation["segments"]),
        number(&conservation["skipped"]),
        word(&conservation["error"]),
        number(&status["overflow"]["packets"]),
        milliseconds(&status["last_drain"]["duration_seconds"]),
    );
    let _ = writeln!(
        text,
        "{:<20} {:>7} {:>7} {:>8} {:>8} {:>8} {:>9} {:>6}  WHO",
        "SOURCE", "CONN", "/WINDOW", "ANSWERED", "REFUSED", "PACKETS", "BYTES", "B/PKT"
    );
    let rows = sources["sources"].as_array();
    for row in rows.into_iter().flatten().take(ROWS) {
        let total = &row["total"];
        let address = word(&row["addr"]);
        let who = names.get(&address).map_or("", String::as_str);
        let _ = writeln!(
            text,
            "{address:<20} {:>7} {:>7} {:>8} {:>8} {:>8} {:>9} {:>6}  {who}",
            number(&total["connections"]),
            number(&row["window"]["connections"]),
            number(&total["answered"]),
            number(&total["refused"]),
            number(&total["c2s_packets"]),
            number(&total["c2s_bytes"]),
            mean(&total["c2s_bytes"], &total["c2s_packets"]),
        );
    }
    let shown = rows.map_or(0, Vec::len).min(ROWS);
    let all = sources["total"].as_u64().unwrap_or(0);
    let more = all.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX));
    if more > 0 {
        let _ = writeln!(text, "... and {more} more");
    }
    text
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn milliseconds(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |s| format!("{:.1}", s * 1000.0))
}

fn mean(bytes: &Value, packets: &Value) -> String {
    match (bytes.as_u64(), packets.as_u64()) {
        (Some(bytes), Some(packets)) if packets > 0 => (bytes / packets).to_string(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_names_hosts_and_survives_missing_fields() {
        let sources = json!({"total": 14, "sources": [{
            "addr": "198.51.100.13",
            "total": {"connections": 400, "answered": 400, "refused": 0,
                      "c2s_packets": 4000, "c2s_bytes": 500_000},
            "window": {"connections": 20}
        }]});
        let names = [("198.51.100.13".to_owned(), "SPAMMER".to_owned())];
        let page = "127.0.0.1:12525".parse().expect("an address");
        let text = render(&json!({}), &sources, &names.into(), page);
        let row = text
            .lines()
            .find(|line| line.starts_with("198.51.100.13"))
            .expect("a row for the host");
        for part in ["400", "20", "125", "SPAMMER"] {
            assert!(row.contains(part), "{part} in {row}");
        }
        assert!(text.contains("13 more"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
