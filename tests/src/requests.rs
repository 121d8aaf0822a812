//! Requests that no client should send: HTTP that is nearly right, and HTTP that is not.
//!
//! Contract: the same seed and number make the same octets. Most are good HTTP, so that whatever is behind
//! it is reached, with targets, fields and bodies of any kind; the rest is wrong as HTTP as well.

use smtp_user::serve::routes;

use crate::hostile::{CONTROL, CORPUS};
use crate::random::Random;
use crate::tokens::{ACT, READ, WRONG};

/// What is sent on one connection.
#[derive(Clone, Debug)]
pub struct Case {
    /// All octets.
    pub octets: Vec<u8>,
    /// Whether an answer says how long a body is that does not come: one to `HEAD` is in it.
    pub heads: bool,
}

impl Case {
    /// Number `number` of this seed.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut maker = Maker(Random::new(
            seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ));
        // One after the other, without waiting for an answer.
        let requests = if maker.0.chance(8) {
            2 + maker.0.below(8)
        } else {
            1
        };
        let mut case = Self {
            octets: Vec::new(),
            heads: false,
        };
        for left in (0..requests).rev() {
            let (octets, head) = maker.request(left == 0);
            case.octets.extend(octets);
            case.heads |= head;
        }
        if maker.0.chance(12) {
            for _ in 0..=maker.0.below(4) {
                maker.damage(&mut case.octets);
            }
            // A letter of another method may now be another's.
            case.heads |= case.octets.windows(4).any(|four| four == b"HEAD");
        }
        if maker.0.chance(1) {
            // Beyond every limit, at any place.
            let place = maker.0.below(case.octets.len());
            let count = maker.0.of(&[20_000, 70_000, 300_000]);
            let octet = maker.0.of(b"A/%\0 \xff");
            case.octets.splice(place..place, vec![octet; count]);
        }
        case
    }
}

/// Names of parameters, of fields in filters, of operators, and values of all of them.
const PARAMETERS: &[&str] = &[
    "filter", "sort", "order", "limit", "offset", "format", "period", "tier", "item", "compare",
    "table", "addr", "month", "since", "", "FILTER", "filter[]",
];
const VALUES: &[&str] = &[
    "addr",
    "asc",
    "desc",
    "connections",
    "servers",
    "score",
    "csv",
    "json",
    "html",
    "text",
    "yes",
    "1h",
    "24h",
    "7d",
    "30d",
    "now",
    "hour",
    "bin",
    "window",
    "day",
    "source",
    "pair",
    "previous",
    "none",
    "0",
    "1",
    "100",
    "10000",
    "10001",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "1e3",
    "0x10",
    "NaN",
    "2026-11",
    "2026-13",
    "0000-00",
    "9999-12",
    "+1",
    "1.5",
    "%",
    "%2",
    "%zz",
    "%00",
    "%ff%fe",
    "%C3%28",
];
const WORDS: &[&str] = &[
    "addr",
    "net",
    "scope",
    "state",
    "connections",
    "servers",
    "hours",
    "active_hours",
    "score",
    "outcome",
    "client",
    "server",
    "detector",
    "severity",
    "first_seen",
    "previous_connections",
    "prefix",
    "owner",
    "reason",
    "colour",
    "count",
];
const OPERATORS: &[&str] = &[":", ">", "<", ">=", "<=", "=", "!=", "::", "", "~", ">>"];
const TERMS: &[&str] = &[
    "192.0.2.0/24",
    "192.0.2.0/33",
    "2001:db8::/32",
    "::",
    "::/0",
    "::ffff:192.0.2.1",
    "0.0.0.0/0",
    "local",
    "remote",
    "open",
    "new",
    "resolved",
    "warning",
    "volume",
    "1",
    "0",
    "-1",
    "99999999999999999999",
    "1e9",
    "\"",
    "'",
    "(",
    ")",
    "*",
    "é",
    "\u{202e}",
];
const METHODS: &[&str] = &[
    "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE",
    "PATCH", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "G\0T", "GET\t", "",
];
const VERSIONS: &[&str] = &[
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.0",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/1.2",
    "HTTP/1.",
    "http/1.1",
    "HTTP/99999999999.1",
    "",
    "SSH-2.0",
];
const HOSTS: &[&str] = &[
    "localhost",
    "localhost",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "[::1",
    "localhost:0",
    "localhost:99999",
    "evil.example",
    "",
    "a b",
    "user@localhost",
    "127.0.0.1:x",
    "\u{e9}",
    "[::ffff:127.0.0.1]",
    "0x7f.1",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "17",
    "16384",
    "16385",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999",
    "-1",
    "+5",
    "0x10",
    "1e3",
    "",
    " ",
    "5, 5",
    "5, 6",
    "\0",
];
const EVENTS: &[&str] = &[
    "",
    "drain-0-0",
    "drain-99999999999999999999-1",
    "verdict-1-1-new",
    "\0",
    "\u{feff}",
    "drain-",
    "config-1",
    "-",
    "ffffffff",
];

struct Maker(Random);

impl Maker {
    fn text(&mut self, texts: &[&str]) -> String {
        self.0.of(texts).to_owned()
    }

    /// Something that nobody expects.
    fn odd(&mut self) -> String {
        match self.0.below(6) {
            0 => self.text(CORPUS),
            1 => self.text(CONTROL),
            2 => self.text(VALUES),
            3 => {
                let count = self.0.of(&[1, 5, 50, 255, 256, 1000]);
                self.text(&["A", "%41", "é", "[", "/", "\u{202e}"])
                    .repeat(count)
            }
            4 => {
                let count = self.0.below(24);
                let octets = self.0.octets(count);
                String::from_utf8_lossy(&octets).into_owned()
            }
            _ => self.0.bits().to_string(),
        }
    }

    /// As a part of a URL, mostly.
    fn coded(&mut self, text: &str) -> String {
        match self.0.below(10) {
            0 => text.to_owned(),
            1 => text.bytes().map(|octet| format!("%{octet:02x}")).collect(),
            _ => text
                .bytes()
                .map(|octet| match octet {
                    b'a'..=b'z'
                    | b'A'..=b'Z'
                    | b'0'..=b'9'
                    | b'-'
                    | b'.'
                    | b'_'
                    | b':'
                    | b'/'
                    | b'%' => char::from(octet).to_string(),
                    _ => format!("%{octet:02X}"),
                })
                .collect(),
        }
    }

    fn filter(&mut self) -> String {
        let count = self.0.of(&[1, 1, 1, 1, 1, 2, 2, 3, 3, 8, 8, 100]);
        let terms: Vec<String> = (0..count)
            .map(|_| {
                let sign = self.text(&["", "", "", "-", "!", "+"]);
                let value = match self.0.below(8) {
                    0 => self.odd(),
                    _ => self.text(TERMS),
                };
                let value: String = value.chars().take(200).collect();
                sign + &self.text(WORDS) + &self.text(OPERATORS) + &value
            })
            .collect();
        terms.join(&self.text(&[" ", " ", "+", ",", " OR ", "  "]))
    }

    fn target(&mut self, method: &str) -> String {
        let routes: Vec<_> = routes()
            .into_iter()
            .filter(|(_, methods)| method != "POST" || methods.contains("POST"))
            .collect();
        let (route, _) = self.0.of(&routes);
        let mut path = String::new();
        for part in route.split_inclusive('/') {
            if !part.starts_with('{') {
                path.push_str(part);
                continue;
            }
            let value = match self.0.below(4) {
                0 => self.odd(),
                1 => self.text(&[
                    "1",
                    "0",
                    "999",
                    "18446744073709551616",
                    "2026-11",
                    "1970-01",
                ]),
                _ => self.text(&[
                    "192.0.2.1",
                    "2001:db8::1",
                    "::ffff:192.0.2.1",
                    "fe80::1%25eth0",
                ]),
            };
            path.push_str(&self.coded(&value));
            path.push_str(part.trim_start_matches(|c| c != '/'));
        }
        if self.0.chance(5) {
            path = match self.0.below(6) {
                0 => format!("http://{}{path}", self.text(HOSTS)),
                1 => format!("/..{path}/../%2e%2e/"),
                2 => format!("//{path}"),
                3 => "*".to_owned(),
                4 => self.odd(),
                _ => format!("{path}/"),
            };
        }
        if self.0.chance(if method == "POST" { 10 } else { 60 }) {
            let count = self.0.of(&[1, 1, 1, 1, 1, 1, 2, 2, 3, 60]);
            let pairs: Vec<String> = (0..count)
                .map(|_| {
                    let name = match self.0.below(12) {
                        0 => self.odd(),
                        _ => self.text(PARAMETERS),
                    };
                    let value = match (name.as_str(), self.0.below(8)) {
                        (_, 0) => self.odd(),
                        ("filter", _) => self.filter(),
                        _ => self.text(VALUES),
                    };
                    let between = self.text(&["=", "=", "=", "=", "=", "", "=="]);
                    self.coded(&name) + &between + &self.coded(&value)
                })
                .collect();
            path.push('?');
            path.push_str(&pairs.join(&self.text(&["&", "&", "&", ";", "&&"])));
        }
        path
    }

    fn body(&mut self, target: &str) -> Vec<u8> {
        let names = [
            "prefix",
            "reason",
            "owner",
            "who",
            "why",
            "expires",
            "connections",
            "state",
            "addr",
            "kind",
            "reporter",
            "\u{0}",
            "__proto__",
        ];
        let kinds = ["relays", "expire", "verdicts", "complaints", "withdraw"];
        let kind = match self.0.below(8) {
            0 => self.0.below(6),
            _ => kinds
                .iter()
                .rposition(|part| target.contains(part))
                .unwrap_or(5),
        };
        let (wanted, mostly): (&[&str], _) = match kind {
            0 => (&["prefix", "reason", "owner", "who"], true),
            1 => (&["prefix", "who", "why"], true),
            2 => (&["state", "who", "why"], true),
            3 => (&["addr", "kind", "reporter", "who"], true),
            4 => (&["who", "why"], true),
            _ => (&names, false),
        };
        let mut fields: Vec<String> = Vec::new();
        let extra = usize::from(self.0.chance(15));
        let extra: Vec<&str> = (0..extra).map(|_| self.0.of(&names)).collect();
        for name in wanted.iter().chain(&extra) {
            if !mostly && self.0.chance(50) {
                continue;
            }
            let value = match (*name, self.0.below(16)) {
                (_, 0) => serde_json::Value::from(self.odd()),
                (_, 1) => self.0.of(&[0, 1, u64::MAX]).into(),
                ("prefix", _) => self
                    .text(&[
                        "192.0.2.0/24",
                        "198.51.100.8/29",
                        "198.51.100.1/32",
                        "2001:db8::/32",
                        "::/0",
                        "0.0.0.0/0",
                        "x",
                    ])
                    .into(),
                ("addr", _) => self.text(&["192.0.2.7", "2001:db8::7", "x"]).into(),
                ("kind", _) => self.text(&["spam", "other", "x"]).into(),
                ("state", _) => self
                    .text(&["acknowledged", "resolved", "false_positive", "new", "x"])
                    .into(),
                ("expires", _) => self
                    .text(&["2027-01-01", "2027-02-30", "9999-12-31", "-1"])
                    .into(),
                _ => self.text(&["anna", "a relay of ours", "x"]).into(),
            };
            fields.push(format!("{name:?}:{value}"));
        }
        let text = format!("{{{}}}", fields.join(","));
        match self.0.below(12) {
            0 => format!("{}1{}", "[".repeat(9000), "]".repeat(9000)).into_bytes(),
            1 => vec![b' '; 20_000],
            2 => self.odd().into_bytes(),
            3 => text
                .into_bytes()
                .split_last()
                .map_or(Vec::new(), |(_, all)| all.to_vec()),
            4 => b"{\"prefix\":\"\\ud800\",\"who\":1e999}".to_vec(),
            _ => text.into_bytes(),
        }
    }

    /// A body in chunks, some of which are none.
    fn chunked(&mut self, body: &[u8]) -> Vec<u8> {
        let mut chunks = Vec::new();
        for part in body.chunks(1 + self.0.below(4000)) {
            let length = match self.0.below(12) {
                0 => self.text(&[
                    "-1",
                    "ffffffffffffffff",
                    "10000000000000000",
                    "",
                    "g",
                    " 5",
                    "0x5",
                    "5;a=\"b",
                ]),
                _ => format!("{:x}", part.len()),
            };
            chunks.extend(length.bytes());
            chunks.extend(
                self.0
                    .of(&[&b"\r\n"[..], b"\r\n", b"\r\n", b"\n", b"\r", b";x=y\r\n"]),
            );
            chunks.extend(part);
            chunks.extend(
                self.0
                    .of(&[&b"\r\n"[..], b"\r\n", b"\r\n", b"\r\n", b"\n", b""]),
            );
        }
        chunks.extend(self.0.of(&[
            &b"0\r\n\r\n"[..],
            b"0\r\n\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"0\r\n",
            b"",
        ]));
        chunks
    }

    /// One request, and whether it is for a head.
    fn request(&mut self, last: bool) -> (Vec<u8>, bool) {
        let good = self.0.chance(70);
        let method = match (good, self.0.below(40)) {
            (true, _) => self.text(&["GET", "GET", "HEAD", "POST"]),
            (false, 0) => self.odd(),
            _ => self.text(METHODS),
        };
        let target = self.target(&method);
        let version = if good {
            "HTTP/1.1".to_owned()
        } else {
            self.text(VERSIONS)
        };
        let mut lines = vec![format!("{method} {target} {version}")];
        let host = if good {
            "localhost".to_owned()
        } else {
            self.text(HOSTS)
        };
        if good || !self.0.chance(5) {
            lines.push(format!("Host: {host}"));
        }
        let token = self.0.of(&[READ, ACT, ACT, ACT, WRONG]);
        if good || self.0.chance(80) {
            lines.push(match self.0.below(20) {
                0 => "Authorization: Basic OkZ".to_owned(),
                1 => format!("Authorization: Basic {}", self.odd()),
                2 => format!("authorization:bearer\t{token} "),
                _ => format!("Authorization: Bearer {token}"),
            });
        }
        if last || self.0.chance(5) {
            lines.push("Connection: close".to_owned());
        }
        for _ in 0..self.0.of(&[0, 0, 1, 2, 3, 150]) {
            let mut value = self.odd();
            if good {
                value.retain(|c| matches!(c, ' '..='~'));
                value.truncate(500);
            }
            let kinds = if good { 8 } else { 14 };
            lines.push(match self.0.below(kinds) {
                0 => format!(
                    "Last-Event-ID: {}",
                    match good {
                        true => value,
                        false => self.text(EVENTS),
                    }
                ),
                1 => format!("If-None-Match: {value}"),
                2 => format!("Accept: {value}"),
                3 => format!("Origin: http://{host}"),
                4 => {
                    "Sec-Fetch-Site: ".to_owned()
                        + &self.text(&["same-origin", "none", "cross-site"])
                }
                5 => "Expect: 100-continue".to_owned(),
                6 => "Connection: Upgrade\r\nUpgrade: h2c".to_owned(),
                7 => format!("Range: bytes={}-{}", self.text(NUMBERS), self.text(NUMBERS)),
                8 => format!("Cookie: {value}"),
                9 => format!("{value}: {value}"),
                10 => " folded".to_owned(),
                11 => format!("Host: {}", self.text(HOSTS)),
                12 => format!("Accept-Encoding: {value}"),
                _ => format!("X-{}: {value}", self.0.bits()),
            });
        }
        let mut body = Vec::new();
        if method == "POST" || self.0.chance(3) {
            body = self.body(&target);
            lines.push(match self.0.below(10) {
                0 => format!("Content-Type: {}", self.odd()),
                1 => "Content-Type: APPLICATION/JSON ; charset=\"".to_owned(),
                _ => "Content-Type: application/json".to_owned(),
            });
            let both = self.0.chance(5);
            if both || (!good && self.0.chance(30)) {
                lines.push(
                    "Transfer-Encoding: ".to_owned()
                        + &self.text(&[
                            "chunked",
                            "chunked",
                            "chunked",
                            "gzip, chunked",
                            "chunked, chunked",
                            "x",
                        ]),
                );
                body = self.chunked(&body);
            }
            if both
                || !lines
                    .last()
                    .is_some_and(|line| line.starts_with("Transfer"))
            {
                let length = match (good, self.0.below(8)) {
                    (false, 0) => self.text(NUMBERS),
                    (false, 1) => (body.len() + 1 + self.0.below(1000)).to_string(),
                    (false, 2) => (body.len() / 2).to_string(),
                    _ => body.len().to_string(),
                };
                lines.push(format!("Content-Length: {length}"));
            }
        }
        let end = if good {
            "\r\n"
        } else {
            self.0.of(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"])
        };
        let mut octets = lines.join(end).into_bytes();
        octets.extend(end.repeat(2).bytes());
        octets.extend(body);
        (octets, method == "HEAD")
    }

    /// Changes octets at one place.
    fn damage(&mut self, octets: &mut Vec<u8>) {
        let place = self.0.below(octets.len());
        let end = (place + 1 + self.0.below(16)).min(octets.len());
        match self.0.below(7) {
            0 => octets.truncate(place),
            1 => drop(octets.drain(place..end)),
            2 => {
                let again = octets[place..end].to_vec();
                octets.splice(place..place, again);
            }
            3 => {
                let count = self.0.below(16);
                let new = self.0.octets(count);
                octets.splice(place..place, new);
            }
            4 => octets.insert(
                place,
                self.0
                    .of(&[0, 0x0b, 0x1b, 0x7f, 0x80, 0xc0, 0xff, b'\r', b'\n']),
            ),
            _ => {
                if let Some(octet) = octets.get_mut(place) {
                    *octet ^= 1 << self.0.below(8);
                }
            }
        }
    }
}
