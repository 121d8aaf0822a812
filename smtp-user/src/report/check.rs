//! The state of an agent for a monitoring system, by the rules for plug-ins of Nagios and those who
//! speak as it does.
//!
//! Contract: one line, `smtpflow STATE - TEXT | PERFDATA`, and the exit code of the state: 0, 1, 2, 3.
//! (<https://www.monitoring-plugins.org/doc/guidelines.html>, sections 2 and 3.) Pure: from what the
//! agent has said.

use std::fmt::Write as _;

use super::document::printable;
use super::status::Said;

/// The states, with the least bad first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Ok,
    /// Somebody should look.
    Warning,
    /// Mail traffic is not counted, or not right.
    Critical,
}

impl State {
    /// As in the line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }

    /// The exit code.
    pub const fn exit_code(self) -> u8 {
        self as u8
    }
}

/// The exit code where the state cannot be told.
pub const UNKNOWN: u8 = 3;

/// A line for a state that cannot be told, or for an agent that is not there.
pub fn line(state: &str, text: &str) -> String {
    // The line ends at a bar.
    format!("smtpflow {state} - {}\n", printable(text).replace('|', "/"))
}

/// When to warn. A limit is passed by more than it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Age of the last drain in seconds: warning [3 windows].
    pub warning_age: Option<f64>,
    /// And critical [10 windows].
    pub critical_age: Option<f64>,
    /// Packets that found no place in the kernel's table: warning.
    pub warning_overflow: Option<u64>,
    /// And critical.
    pub critical_overflow: Option<u64>,
    /// Open verdicts: warning.
    pub warning_verdicts: Option<u64>,
    /// And critical.
    pub critical_verdicts: Option<u64>,
}

/// A state with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The worst that was found.
    pub state: State,
    /// The line, with its end.
    pub line: String,
}

struct Findings {
    state: State,
    texts: Vec<String>,
}

impl Findings {
    fn add(&mut self, state: State, text: String) {
        self.state = self.state.max(state);
        self.texts.push(text);
    }

    /// Compares a value with its two limits.
    fn compare<T: PartialOrd + Copy + std::fmt::Display>(
        &mut self,
        value: T,
        (warning, critical): (Option<T>, Option<T>),
        text: &str,
    ) {
        let found = [(State::Critical, critical), (State::Warning, warning)]
            .into_iter()
            .find_map(|(state, limit)| limit.filter(|limit| value > *limit).map(|l| (state, l)));
        if let Some((state, limit)) = found {
            self.add(state, format!("{text} (limit {limit})"));
        }
    }
}

/// Judges what an agent has said.
///
/// # Errors
///
/// It has not said what there has to be; the text says what is missing.
pub fn check(said: &Said, limits: &Limits) -> Result<Checked, String> {
    let status = &said.status;
    let count = |pointer: &str| {
        status
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .ok_or_else(|| format!("the agent does not say {pointer} in its status"))
    };
    let number = |pointer: &str| {
        status
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64)
            .ok_or_else(|| format!("the agent does not say {pointer} in its status"))
    };
    let window = number("/window_seconds")?;
    let uptime = number("/uptime_seconds")?;
    let segments = count("/conservation/segments")?;
    let error = count("/conservation/error")?;
    let overflow = count("/overflow/packets")?;
    let sources = count("/sources_kept")?;
    let age = status["last_drain"]["age_seconds"].as_f64();
    let ages = (
        limits.warning_age.unwrap_or(3.0 * window),
        limits.critical_age.unwrap_or(10.0 * window),
    );
    let mut findings = Findings {
        state: State::Ok,
        texts: Vec::new(),
    };

    let points = status["interfaces"].as_array();
    let points = points.ok_or("the agent does not say its interfaces")?;
    let attached = |point: &&serde_json::Value| point["state"] == "attached";
    for point in points.iter().filter(|point| !attached(point)) {
        findings.add(
            State::Critical,
            format!(
                "{} is {}",
                point["configured"].as_str().unwrap_or("an interface"),
                point["state"].as_str().unwrap_or("in no known state")
            ),
        );
    }
    if points.is_empty() {
        findings.add(State::Critical, "nothing is attached".to_owned());
    }
    if error != 0 {
        findings.add(
            State::Critical,
            format!("conservation error {error}: the counts are wrong"),
        );
    }
    match age {
        Some(age) => findings.compare(
            age,
            (Some(ages.0), Some(ages.1)),
            &format!("the last drain was {age:.1} s ago"),
        ),
        // The first drain comes at the end of the first window.
        None if uptime <= ages.0 => findings.add(State::Warning, "no drain yet".to_owned()),
        None => findings.add(State::Critical, "there was no drain at all".to_owned()),
    }
    if let Some(failure) = status["store"]["failure"].as_str() {
        // Counting goes on, and the counts wait in memory.
        findings.add(
            State::Warning,
            format!("the store cannot be written: {failure}"),
        );
    }
    findings.compare(
        overflow,
        (limits.warning_overflow, limits.critical_overflow),
        &format!("{overflow} packets found no place"),
    );
    let severities = ["notice", "warning", "critical"];
    let open = severities.map(|severity| said.open_verdicts(severity));
    let all_open = open.into_iter().sum::<Option<u64>>();
    match all_open {
        Some(all_open) => findings.compare(
            all_open,
            (limits.warning_verdicts, limits.critical_verdicts),
            &format!("{all_open} open verdicts"),
        ),
        None if limits
            .warning_verdicts
            .or(limits.critical_verdicts)
            .is_some() =>
        {
            return Err("the agent does not say how many verdicts are open".to_owned());
        }
        None => {}
    }

    let text = if findings.texts.is_empty() {
        let open = all_open.map_or_else(String::new, |open| format!(", {open} open verdicts"));
        format!(
            "{sources} sources, {} interfaces attached{open}",
            points.len()
        )
    } else {
        findings.texts.join("; ")
    };
    let mut line = line(findings.state.name(), &text);
    line.pop();
    let _ = write!(
        line,
        " | sources={sources};;;0 segments={segments}c;;;0 overflow={overflow}c;{};{};0 \
         conservation_error={error};;0;0 drain_age={}s;{};{};0",
        limit(limits.warning_overflow),
        limit(limits.critical_overflow),
        // What is not known is U.
        age.map_or_else(|| "U".to_owned(), |age| format!("{age:.3}")),
        ages.0,
        ages.1,
    );
    for (severity, open) in severities.into_iter().zip(open) {
        let open = open.map_or_else(|| "U".to_owned(), |open| open.to_string());
        let _ = write!(line, " verdicts_{severity}={open};;;0");
    }
    if let Some(waiting) = status["store"]["pending_sources"].as_u64() {
        let _ = write!(line, " waiting_sources={waiting};;;0");
    }
    line.push('\n');
    Ok(Checked {
        state: findings.state,
        line,
    })
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said() -> Said {
        Said {
            status: json!({
                "window_seconds": 10.0,
                "uptime_seconds": 500.0,
                "conservation": { "segments": 1234, "error": 0 },
                "overflow": { "packets": 7 },
                "sources_kept": 55,
                "last_drain": { "age_seconds": 4.25 },
                "interfaces": [
                    { "configured": "eth0", "state": "attached" },
                    { "configured": "eth1", "state": "attached" },
                ],
                "store": { "failure": null, "pending_sources": 0 },
                "verdicts": { "open": { "notice": 3, "warning": 2, "critical": 1 } },
            }),
            ready: json!({ "ready": true, "checks": [] }),
        }
    }

    fn checked(said: &Said, limits: &Limits) -> Checked {
        check(said, limits).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn all_is_well_in_one_line_with_perfdata() {
        let checked = checked(&said(), &Limits::default());
        assert_eq!(checked.state.exit_code(), 0);
        assert_eq!(
            checked.line,
            "smtpflow OK - 55 sources, 2 interfaces attached, 6 open verdicts | sources=55;;;0 \
             segments=1234c;;;0 overflow=7c;;;0 conservation_error=0;;0;0 drain_age=4.250s;30;100;0 \
             verdicts_notice=3;;;0 verdicts_warning=2;;;0 verdicts_critical=1;;;0 \
             waiting_sources=0;;;0\n"
        );
    }

    #[test]
    fn each_fault_has_its_state_and_is_named() {
        type Break = fn(&mut Value);
        let cases: [(Break, State, &str); 8] = [
            (
                |status| status["interfaces"][1]["state"] = "missing".into(),
                State::Critical,
                "eth1 is missing",
            ),
            (
                |status| status["interfaces"] = json!([]),
                State::Critical,
                "nothing is attached",
            ),
            (
                |status| status["conservation"]["error"] = 5.into(),
                State::Critical,
                "conservation error 5",
            ),
            (
                |status| status["last_drain"]["age_seconds"] = 30.5.into(),
                State::Warning,
                "the last drain was 30.5 s ago",
            ),
            (
                |status| status["last_drain"]["age_seconds"] = 100.5.into(),
                State::Critical,
                "the last drain was 100.5 s ago",
            ),
            (
                |status| status["last_drain"] = Value::Null,
                State::Critical,
                "there was no drain at all",
            ),
            (
                |status| {
                    status["last_drain"] = Value::Null;
                    status["uptime_seconds"] = 3.into();
                },
                State::Warning,
                "no drain yet",
            ),
            (
                |status| status["store"]["failure"] = "disk | full\nx".into(),
                State::Warning,
                "disk / full\u{fffd}x",
            ),
        ];
        for (break_it, state, text) in cases {
            let mut said = said();
            break_it(&mut said.status);
            let checked = checked(&said, &Limits::default());
            assert_eq!(checked.state, state, "{}", checked.line);
            let begin = format!("smtpflow {} - ", state.name());
            assert!(checked.line.starts_with(&begin), "{}", checked.line);
            assert!(checked.line.contains(text), "{}", checked.line);
            assert_eq!(checked.line.matches('|').count(), 1, "{}", checked.line);
            assert_eq!(checked.line.lines().count(), 1, "{}", checked.line);
        }
    }

    #[test]
    fn limits_are_passed_by_more_than_them() {
        let limits = |warning, critical| Limits {
            warning_verdicts: Some(warning),
            critical_verdicts: critical,
            ..Limits::default()
        };
        for (limits, state) in [
            (limits(6, None), State::Ok),
            (limits(5, None), State::Warning),
            (limits(4, Some(6)), State::Warning),
            (limits(4, Some(5)), State::Critical),
        ] {
            let checked = checked(&said(), &limits);
            assert_eq!(checked.state, state, "{}", checked.line);
        }
        let overflow = Limits {
            warning_overflow: Some(6),
            critical_overflow: Some(7),
            ..Limits::default()
        };
        let checked = checked(&said(), &overflow);
        assert_eq!(checked.state, State::Warning);
        assert!(
            checked.line.contains("overflow=7c;6;7;0"),
            "{}",
            checked.line
        );
    }

    #[test]
    fn the_worst_of_several_counts_and_all_are_named() {
        let mut said = said();
        said.status["store"]["failure"] = "no space".into();
        said.status["interfaces"][0]["state"] = "detached".into();
        let checked = checked(&said, &Limits::default());
        assert_eq!(checked.state, State::Critical);
        assert!(
            checked
                .line
                .contains("eth0 is detached; the store cannot be written: no space"),
            "{}",
            checked.line
        );
    }

    #[test]
    fn what_the_agent_does_not_say_is_unknown_and_not_well() {
        let mut without = said();
        without.status["verdicts"] = Value::Null;
        let line = checked(&without, &Limits::default()).line;
        assert!(line.contains("verdicts_notice=U;;;0"), "{line}");
        let limits = Limits {
            warning_verdicts: Some(1),
            ..Limits::default()
        };
        let error = check(&without, &limits).expect_err("no verdicts");
        assert!(error.contains("does not say how many"), "{error}");
        let mut other = said();
        other.status = json!({ "hello": "world" });
        let error = check(&other, &Limits::default()).expect_err("no status");
        assert!(error.contains("/window_seconds"), "{error}");
    }
}
