//! `/api/v1/config`: the configuration in force, without its secrets.
//!
//! Contract: a value is shown only if its key is on the list of those that hold no secret ([`PUBLIC`]).
//! Whatever is added to the configuration is hidden until somebody has thought about it, and a test says
//! that nobody has.
#![forbid(unsafe_code)]

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::App;
use super::api::{SCHEMA, rfc3339};
use super::document::{Schema, Schemas, answer, flatten};
use super::openapi::Operation;
use super::problem::Problem;
use super::query::Params;
use crate::config::Config;
use crate::detect::DETECTORS;
use crate::model::ConfigState;

/// Stands for what is not shown.
const HIDDEN: &str = "(hidden)";

/// Keys whose values are no secrets; a file with a token is one by its content, not by its name. The
/// parameters of detectors are none either.
const PUBLIC: &[&str] = &[
    "meter.interfaces",
    "meter.mode",
    "meter.window",
    "meter.netns",
    "meter.pins",
    "meter.keep_attached",
    "meter.attached",
    "meter.ports",
    "agent.user",
    "agent.landlock",
    "table.sets_per_cpu",
    "table.flow_sets_per_cpu",
    "table.syn_slots",
    "table.spill",
    "networks.local",
    "history.sources",
    "history.pairs",
    "history.idle",
    "history.keep_bins",
    "history.keep_hours",
    "history.keep_days",
    "store.enabled",
    "store.path",
    "store.cache_mib",
    "serve.listen",
    "serve.token_file",
    "serve.act_token_file",
    "serve.public_url",
    "metrics.sources",
    "metrics.top",
    "metrics.ipv4_prefix",
    "metrics.ipv6_prefix",
    // It has no place for a user and a password.
    "alertmanager.url",
    "alertmanager.every",
    "alertmanager.gateway",
    "owner.order",
    "owner.contacts",
    "owner.rwhois",
    "owner.whois",
    "owner.rdap_bootstrap",
    "owner.authorities",
    "owner.timeout",
    "owner.keep",
    "owner.keep_nobody",
    "owner.state",
    "owner.serve_rwhois",
    // Secrets of routers are in files.
    "owner.router.name",
    "owner.router.address",
    "owner.router.version",
    "owner.router.community_file",
    "owner.router.user",
    "owner.router.auth",
    "owner.router.auth_file",
    "owner.router.privacy",
    "owner.router.privacy_file",
    "owner.router.context",
    "owner.router.table",
    "owner.router.repetitions",
    "owner.router.time",
    "relay_test.enabled",
    "relay_test.recipient",
    "relay_test.sender",
    "relay_test.helo",
    "relay_test.data",
    "relay_test.state",
    "maillog.files",
    "maillog.journal",
    "maillog.addresses",
    "maillog.queue_ids",
    "maillog.keep_open",
    "maillog.sources",
    "maillog.time_zone",
    "maillog.state",
    "complaint.keep",
    "notice.enabled",
    "notice.mode",
    "notice.from",
    "notice.organisation",
    "notice.operator",
    "notice.escalate_to",
    "notice.languages",
    "notice.templates",
    "notice.domains",
    "notice.severity",
    "notice.conversations",
    "notice.quiet_hours",
    "notice.time_zone",
    "notice.per_hour",
    "notice.escalate_hours",
    "notice.expire_hours",
    "notice.relay",
    "notice.tls",
    "notice.authorities",
    "notice.user",
    // The password is in a file.
    "notice.password_file",
    "notice.helo",
    "notice.sendmail",
    "notice.timeout_seconds",
    "notice.every_seconds",
    "notice.hook_timeout_seconds",
    "detect.quiet",
    "detect.reopen",
    "detect.mute",
    "detect.ipv6_prefix",
    "detect.subjects",
    "relay.prefix",
    "relay.reason",
    "relay.owner",
    "relay.expires",
    "relay.connections",
];

/// The sections of the configuration with their keys.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub(super) struct Sections(Value);

impl Schema for Sections {
    fn schema(_: &mut Schemas) -> Value {
        serde_json::json!({"type": "object", "additionalProperties": true})
    }
}

answer! {
    /// `/api/v1/config`.
    pub(super) struct InForce {
        /// Version of the form of this answer.
        schema: u32,
        /// When it was read.
        loaded_at: String,
        /// Whether that was the last time: false if the file was read again and could not be taken.
        last_reload_successful: bool,
        /// Keys whose values in the file take a restart, as SECTION.KEY.
        restart: Vec<String>,
        /// The sections with their keys, as `smtpflow config print` documents them; null is a key that is not set.
        config: Sections,
        /// The keys whose values are not shown, as SECTION.KEY.
        hidden: Vec<String>,
    }
}

/// Path and meaning of every field of `/api/v1/config`.
pub fn config_fields() -> Vec<(String, String)> {
    flatten(InForce::FIELDS)
}

fn is_public(path: &str) -> bool {
    let of_detector = || {
        DETECTORS.iter().any(|entry| {
            path.strip_prefix("detect.")
                .and_then(|rest| rest.strip_prefix(entry.name)?.strip_prefix('.'))
                .is_some_and(|key| entry.keys.iter().any(|(known, _)| *known == key))
        })
    };
    PUBLIC.contains(&path) || of_detector()
}

/// Hides what is not known to be public.
fn masked(value: Value, path: &str, hidden: &mut Vec<String>) -> Value {
    match value {
        _ if is_public(path) => value,
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let inner = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                (name, masked(value, &inner, hidden))
            })
            .collect(),
        // Tables of one name.
        Value::Array(items) if items.iter().all(Value::is_object) => items
            .into_iter()
            .map(|item| masked(item, path, hidden))
            .collect(),
        Value::Null => Value::Null,
        _ => {
            if !hidden.iter().any(|other| other == path) {
                hidden.push(path.to_owned());
            }
            HIDDEN.into()
        }
    }
}

impl InForce {
    fn new(config: &Config, state: &ConfigState) -> Result<Self, Problem> {
        let value = serde_json::to_value(config).map_err(|error| Problem::internal(&error))?;
        let mut hidden = Vec::new();
        let config = Sections(masked(value, "", &mut hidden));
        Ok(Self {
            schema: SCHEMA,
            loaded_at: rfc3339(state.loaded_at),
            last_reload_successful: state.successful,
            restart: state.restart.to_vec(),
            config,
            hidden,
        })
    }
}

/// The configuration in force.
pub(super) fn view(app: &App) -> Result<InForce, Problem> {
    InForce::new(&app.config(), &app.snapshot().config)
}

pub(super) async fn config(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    Ok(Json(view(&app)?).into_response())
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/config",
            "config",
            "The configuration in force, without secrets",
        )
        .json::<InForce>(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_key_of_today_is_shown() {
        let mut config = Config::default();
        config.meter.netns = Some("lab".to_owned());
        config.agent.user = Some("smtpflow".to_owned());
        config.table.sets_per_cpu = Some(64);
        config.table.flow_sets_per_cpu = Some(64);
        config.serve.token_file = Some("/etc/smtpflow/token".into());
        config.serve.act_token_file = Some("/etc/smtpflow/act".into());
        let toml = "[serve]\npublic_url = \"https://watch.example.org\"\n[alertmanager]\n\
                    url = \"http://127.0.0.1:9093\"\ngateway = \"border\"\n[relay_test]\n\
                    recipient = \"a@example.org\"\nsender = \"b@example.org\"\nhelo = \"mx.example.org\"\n";
        let other = Config::from_toml("test", toml).unwrap_or_else(|failure| panic!("{failure}"));
        config.serve.public_url = other.serve.public_url;
        config.alertmanager = other.alertmanager;
        config.relay_test = other.relay_test;
        config.relay.push(crate::detect::Relay {
            prefix: "192.0.2.25/32".parse().expect("a prefix"),
            reason: "the relay".to_owned(),
            owner: "postmaster".to_owned(),
            expires: Some("2027-06-30".parse().expect("a date")),
            connections: Some(7),
        });
        let toml = "[owner]\norder = [\"routers\"]\nserve_rwhois = \"127.0.0.1:4321\"\n[[owner.router]]\nname = \"a\"\n\
                    address = \"192.0.2.1:161\"\nversion = \"3\"\nuser = \"u\"\nauth = \"sha256\"\nauth_file = \"/a\"\n\
                    privacy = \"aes128\"\nprivacy_file = \"/p\"\ncontext = \"c\"\n[[owner.router]]\nname = \"b\"\n\
                    address = \"192.0.2.2:161\"\ncommunity_file = \"/c\"\n";
        let other = Config::from_toml("test", toml).unwrap_or_else(|failure| panic!("{failure}"));
        config.owner = other.owner;
        let toml = "[notice]\nfrom = \"abuse@example.org\"\norganisation = \"o\"\noperator = \"n@example.org\"\n\
                    templates = \"/t\"\nquiet_hours = \"22:00-07:00\"\ntime_zone = \"UTC\"\n\
                    relay = \"mail.example.org:587\"\nuser = \"u\"\npassword_file = \"/p\"\n\
                    helo = \"gateway.example.org\"\n";
        let other = Config::from_toml("test", toml).unwrap_or_else(|failure| panic!("{failure}"));
        config.notice = other.notice;
        config.notice.sendmail = Some("/usr/sbin/sendmail".into());
        let state = ConfigState::loaded(std::time::UNIX_EPOCH);
        let in_force = InForce::new(&config, &state).expect("JSON");
        assert!(
            in_force.hidden.is_empty(),
            "think about {:?}: a key that holds no secret belongs to PUBLIC",
            in_force.hidden
        );
        assert_eq!(
            in_force.config.0,
            serde_json::to_value(&config).expect("JSON")
        );
    }

    #[test]
    fn what_nobody_has_thought_about_is_hidden_wherever_it_stands() {
        let value = json!({
            "serve": {"token_file": "/path", "token": "s3cret", "listen": {"password": "s3cret"}},
            "mail": {"user": "s3cret", "port": 587, "set": null},
            "relay": [{"reason": "shown", "password": "s3cret"}, {"password": "s3cret"}],
            "detect": {"volume": {"notice": 30, "key": "s3cret"}, "volume.notice": ["s3cret"]},
            "keys": ["s3cret"],
        });
        let mut hidden = Vec::new();
        let shown = masked(value, "", &mut hidden);
        assert_eq!(shown["serve"]["token_file"], "/path");
        assert_eq!(shown["relay"][0]["reason"], "shown");
        assert_eq!(shown["detect"]["volume"]["notice"], 30);
        assert_eq!(shown["mail"]["port"], HIDDEN);
        assert_eq!(shown["mail"]["set"], Value::Null);
        // A section that takes the place of a public key would be shown: there is none.
        let text = shown.to_string().replace(r#""password":"s3cret"}},"#, "");
        assert_eq!(
            hidden,
            [
                "detect.volume.key",
                "keys",
                "mail.port",
                "mail.user",
                "relay.password",
                "serve.token"
            ],
            "{text}"
        );
    }
}
