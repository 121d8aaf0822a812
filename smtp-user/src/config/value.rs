//! Single values of the configuration: how they are written, and what they may be.
//!
//! Contract: a `parse_` function is for flags, the function without it for serde, a `check_` function
//! for values that are there already; the three of one value agree. Errors say what is there, what
//! was expected and what to write instead; where it stands is added by the caller.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

use crate::detect::Span;

use crate::model::prefix;
pub use crate::model::prefix::parse as parse_prefix;

/// Nothing, or what is wrong.
pub(super) type Checked = Result<(), String>;

/// Shorter windows cost more than they show; longer ones outlive the 32-bit counters of one line.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// Shorter ones end connections whose client thinks; RFC 5321 (section 4.5.3.2) lets it do so for
/// five minutes, and ten after the message.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3600);
/// How often alerts are sent again: an Alertmanager is no place for a stream.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3600);
/// Most sources with series of their own: each costs Prometheus memory as long as its blocks live.
const MAX_METRIC_SOURCES: u32 = 50;
/// What the kernel program has room for.
const MAX_PORTS: usize = 4;
/// `IFNAMSIZ` without its final zero.
const MAX_INTERFACE_NAME: usize = 15;

/// The name of an interface.
pub fn parse_interface(text: &str) -> Result<String, String> {
    check_interface(text)?;
    Ok(text.to_owned())
}

fn check_interface(name: &str) -> Checked {
    // As dev_valid_name of the kernel.
    let valid = !name.is_empty()
        && name.len() <= MAX_INTERFACE_NAME
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if valid {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be the name of an interface: 1 to {MAX_INTERFACE_NAME} bytes without `/`, \
         `:` and spaces; `ip link` lists those that exist"
    ))
}

pub(super) fn check_interfaces(names: &[String]) -> Checked {
    for (i, name) in names.iter().enumerate() {
        check_interface(name)?;
        if names[..i].contains(name) {
            return Err(format!("{name:?} is named twice; name each interface once"));
        }
    }
    Ok(())
}

pub(super) fn interfaces<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    checked(from, |names: &Vec<String>| check_interfaces(names))
}

/// A duration such as `10s`, `1m` or `1m 30s`, within the limits of a window.
pub fn parse_window(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    check_window(duration)?;
    Ok(duration)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as \"10s\" or \"1m 30s\"";
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| format!("{text:?} is no duration: {expected}"))?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} lies in the past: {expected}"))
}

pub(super) fn check_window(window: Duration) -> Checked {
    if WINDOW.contains(&window) {
        return Ok(());
    }
    Err(format!(
        "a window of {} is out of range: expected {} to {}",
        show_duration(window),
        show_duration(*WINDOW.start()),
        show_duration(*WINDOW.end())
    ))
}

/// As [`parse_window`] reads it.
fn show_duration(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(
        |_| format!("{} s", duration.as_secs()),
        |duration| format!("{duration:#}"),
    )
}

/// For `#[serde(with = ...)]`.
pub(super) mod window {
    use super::*;

    pub(in super::super) fn serialize<S: serde::Serializer>(
        window: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show_duration(*window))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        from.deserialize_str(Text {
            expected: "a duration as text, such as \"10s\"",
            parse: parse_window,
        })
    }
}

/// A duration such as `5m`, after which a quiet connection has ended.
pub fn parse_idle(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    check_idle(duration)?;
    Ok(duration)
}

pub(super) fn check_idle(idle: Duration) -> Checked {
    if IDLE.contains(&idle) {
        return Ok(());
    }
    Err(format!(
        "{} is out of range: expected {} to {}",
        show_duration(idle),
        show_duration(*IDLE.start()),
        show_duration(*IDLE.end())
    ))
}

/// Detectors look back three days.
const LEAST_HOURS: Span = Span::days(3);

pub(super) fn check_keep_hours(hours: Span, bins: Span) -> Checked {
    if hours.milliseconds() < LEAST_HOURS.milliseconds() {
        return Err(format!(
            "{hours} is out of range: expected {LEAST_HOURS} or more, as detectors look back so far"
        ));
    }
    check_coarser(hours, "keep_bins", bins)
}

pub(super) fn check_keep_days(days: Span, hours: Span) -> Checked {
    check_coarser(days, "keep_hours", hours)
}

fn check_coarser(coarse: Span, name: &str, fine: Span) -> Checked {
    if coarse.milliseconds() >= fine.milliseconds() {
        return Ok(());
    }
    Err(format!(
        "{coarse} is shorter than {name} = {fine}: what is coarser is kept as long or longer"
    ))
}

/// For `#[serde(with = ...)]`.
pub(super) mod idle {
    use super::*;
    pub(in super::super) use window::serialize;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        from.deserialize_str(Text {
            expected: "a duration as text, such as \"5m\"",
            parse: parse_idle,
        })
    }
}

pub(super) fn check_every(every: Duration) -> Checked {
    if EVERY.contains(&every) {
        return Ok(());
    }
    Err(format!(
        "{} is out of range: expected {} to {}",
        show_duration(every),
        show_duration(*EVERY.start()),
        show_duration(*EVERY.end())
    ))
}

/// For `#[serde(with = ...)]`.
pub(super) mod every {
    use super::*;
    pub(in super::super) use window::serialize;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        from.deserialize_str(Text {
            expected: "a duration as text, such as \"1m\"",
            parse: |text| {
                let every = parse_duration(text)?;
                check_every(every).map(|()| every)
            },
        })
    }
}

pub(super) fn check_gateway(name: &str) -> Checked {
    let length = name.chars().count();
    if (1..=64).contains(&length) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a gateway: expected 1 to 64 characters on one line"
    ))
}

pub(super) fn gateway<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked(from, |name: &String| check_gateway(name)).map(Some)
}

/// As useradd takes them, and no more.
pub(super) fn check_user(name: &str) -> Checked {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=32).contains(&name.len()) && name.chars().all(is_of_name) && !name.starts_with('-') {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of a user: expected one such as \"smtpflow\""
    ))
}

/// The name of a user.
pub fn parse_user(text: &str) -> Result<String, String> {
    check_user(text)?;
    Ok(text.to_owned())
}

pub(super) fn user<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    checked(from, |name: &String| check_user(name)).map(Some)
}

pub(super) fn check_metric_sources(sources: u32) -> Checked {
    check_range(sources, &(0..=MAX_METRIC_SOURCES))
}

pub(super) fn metric_sources<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |sources: &u32| check_metric_sources(*sources))
}

pub(super) fn check_ipv4_length(length: u8) -> Checked {
    check_range(length.into(), &(8..=32))
}

pub(super) fn ipv4_length<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    checked(from, |length: &u8| check_ipv4_length(*length))
}

pub(super) fn check_ipv6_length(length: u8) -> Checked {
    check_range(length.into(), &(16..=128))
}

pub(super) fn ipv6_length<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    checked(from, |length: &u8| check_ipv6_length(*length))
}

pub(super) fn check_pins(pins: &Path) -> Checked {
    if pins.is_absolute() && pins.parent().is_some() {
        return Ok(());
    }
    Err(format!(
        "{} is no absolute path of a directory; the default is {}",
        pins.display(),
        super::DEFAULT_PINS
    ))
}

pub(super) fn pins<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    checked(from, |pins: &PathBuf| check_pins(pins))
}

/// The path of a store.
pub fn parse_store(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    check_store(&path)?;
    Ok(path)
}

pub(super) fn check_store(path: &Path) -> Checked {
    // A trailing slash names a folder, and Path forgets it.
    let folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if path.is_absolute() && path.file_name().is_some() && !folder {
        return Ok(());
    }
    Err(format!(
        "{:?} is no absolute path of a file; the default is {}",
        path.display().to_string(),
        super::DEFAULT_STORE
    ))
}

pub(super) fn store<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    checked(from, |path: &PathBuf| check_store(path))
}

/// A TCP port.
pub fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{text:?} is no TCP port: expected 1 to 65535")),
    }
}

/// One to four different TCP ports.
pub fn check_ports(ports: &[u16]) -> Checked {
    if ports.is_empty() || ports.len() > MAX_PORTS {
        return Err(format!(
            "{} ports: expected one to {MAX_PORTS}, for example [25, 465, 587]",
            ports.len()
        ));
    }
    for (i, port) in ports.iter().enumerate() {
        if *port == 0 {
            return Err("0 is no TCP port: expected 1 to 65535".to_owned());
        }
        if ports[..i].contains(port) {
            return Err(format!("port {port} is named twice; name each port once"));
        }
    }
    Ok(())
}

pub(super) fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u16>, D::Error> {
    checked(from, |ports: &Vec<u16>| check_ports(ports))
}

fn check_power_of_two(value: u32, range: RangeInclusive<u32>) -> Checked {
    if value.is_power_of_two() && range.contains(&value) {
        return Ok(());
    }
    let nearest = value
        .clamp(*range.start(), *range.end())
        .next_power_of_two();
    Err(format!(
        "{value} does not fit: expected a power of two from {} to {}, for example {nearest}",
        range.start(),
        range.end()
    ))
}

pub(super) fn check_range(value: u32, range: &RangeInclusive<u32>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{value} is out of range: expected {} to {}",
        range.start(),
        range.end()
    ))
}

pub(super) fn check_sets_per_cpu(sets: u32) -> Checked {
    check_power_of_two(sets, 1 << 6..=1 << 22)
}

pub(super) fn check_flow_sets_per_cpu(sets: u32) -> Checked {
    if sets == 0 {
        return Ok(());
    }
    check_power_of_two(sets, 1 << 6..=1 << 20)
}

pub(super) fn check_syn_slots(slots: u32) -> Checked {
    check_power_of_two(slots, 1 << 10..=1 << 26)
}

pub(super) fn check_spill(entries: u32) -> Checked {
    check_range(entries, &(1..=1 << 20))
}

pub(super) fn check_sources(sources: u32) -> Checked {
    check_range(sources, &(1..=1 << 24))
}

pub(super) fn check_cache(mib: u32) -> Checked {
    check_range(mib, &(1..=4096))
}

pub(super) fn cache<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |mib: &u32| check_cache(*mib))
}

pub(super) fn sets_per_cpu<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    checked(from, |sets: &u32| check_sets_per_cpu(*sets)).map(Some)
}

pub(super) fn flow_sets_per_cpu<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<u32>, D::Error> {
    checked(from, |sets: &u32| check_flow_sets_per_cpu(*sets)).map(Some)
}

pub(super) fn syn_slots<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |slots: &u32| check_syn_slots(*slots))
}

pub(super) fn spill<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |entries: &u32| check_spill(*entries))
}

pub(super) fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |pairs: &u32| check_sources(*pairs))
}

pub(super) fn sources<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    checked(from, |sources: &u32| check_sources(*sources))
}

pub(super) fn check_prefixes(prefixes: &[IpNet]) -> Checked {
    prefixes
        .iter()
        .try_for_each(|prefix| prefix::check(*prefix))
}

pub(super) fn prefixes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    /// One prefix, so that an error points at it and not at the list.
    struct Prefix(IpNet);

    impl<'de> Deserialize<'de> for Prefix {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            from.deserialize_str(Text {
                expected: "a prefix as text, such as \"192.0.2.0/24\"",
                parse: prefix::parse,
            })
            .map(Self)
        }
    }

    let prefixes = Vec::<Prefix>::deserialize(from)?;
    Ok(prefixes.into_iter().map(|prefix| prefix.0).collect())
}

/// Address and port to listen on.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address with a port: expected one such as {} or [::1]:12525",
            super::DEFAULT_LISTEN
        )
    })
}

pub(super) fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    from.deserialize_str(Text {
        expected: "an address with a port as text, such as \"127.0.0.1:12525\"",
        parse: parse_listen,
    })
}

/// A value of a type that serde knows, with a check behind it.
pub(super) fn checked<'de, T, D>(from: D, check: fn(&T) -> Checked) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let value = T::deserialize(from)?;
    check(&value).map_err(D::Error::custom)?;
    Ok(value)
}

/// A value that is written as text.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}
