//! Detectors: which hosts send mail like a spammer, and why.
//!
//! Contract: data in, findings out; no clock, no I/O, no store. The same rules, from the same
//! [`Facts`], flag a source ([`Judge`]), answer why it is flagged or not ([`Policy::why`]), for live
//! traffic as for a replay. Only own hosts are judged; where nobody has said which are own, nobody is.
//!
//! A detector is one file: its parameters with the shipped thresholds, whose documentation is that of
//! `smtpflow config print`, its rules, and its [`Entry`]. It has one line in [`DETECTORS`] and one in
//! [`Settings`].
#![forbid(unsafe_code)]

pub mod burst;
pub mod failure;
pub mod fanout;
pub mod messages;
pub mod persistence;
pub mod rejection;
pub mod size;
pub mod volume;

mod court;
mod docket;
mod facts;
mod hour;
mod judge;
mod policy;
mod relay;
mod rules;
mod value;

#[cfg(test)]
mod tests;

pub use self::court::Court;
pub use self::docket::Docket;
pub use self::facts::{Facts, Frame, Kept, Past, Peers, REACH};
pub use self::judge::{Finding, Judge};
pub use self::policy::Policy;
pub use self::relay::{EXAMPLE as RELAY_EXAMPLE, check_relays};
pub use self::rules::Rules;
pub use self::value::{Share, Span, Within};
pub use crate::model::relay::Relay;

/// A detector.
pub struct Entry {
    /// As in verdicts and in the configuration, `[detect.NAME]`.
    pub name: &'static str,
    /// What it looks at, in half a sentence.
    pub summary: &'static str,
    /// Why that tells a spammer, and why by these thresholds.
    pub why: &'static str,
    /// Whether it flags sources; else it only says more about those that others flag.
    pub accuses: bool,
    /// What its section of the configuration is about, line by line.
    pub(crate) about: &'static [&'static str],
    /// The keys of its section, with the lines of their documentation.
    pub(crate) keys: &'static [(&'static str, &'static [&'static str])],
    /// Gives its rules.
    rules: fn(&Settings, &Facts, &mut Rules),
}

/// All detectors, in the order of reports and of the configuration.
pub const DETECTORS: &[Entry] = &[
    volume::ENTRY,
    persistence::ENTRY,
    burst::ENTRY,
    fanout::ENTRY,
    failure::ENTRY,
    rejection::ENTRY,
    messages::ENTRY,
    size::ENTRY,
];

section! {
    /// Which hosts are flagged. Only hosts in `networks.local` are, and never a known relay. Every
    /// limit is strict: a source with exactly as many is not flagged. Each detector has a section.
    pub struct Settings {
        /// A verdict is resolved when its rule did not hold for this long.
        pub quiet: Span = Span::hours(24);
        /// A verdict that was resolved is opened again if its rule holds again within this time;
        /// after it, a new one is opened.
        pub reopen: Span = Span::days(7);
        /// A detector that was wrong about a source is not heard about it for this long.
        pub mute: Span = Span::days(30);
        /// IPv6 addresses are judged together by prefixes of this length, because a host has as many
        /// as it likes: 1 to 128. With 128 each is judged alone.
        pub ipv6_prefix: Within<1, 128> = Within::new(64);
        /// Most own hosts that are watched at a time, 1 to 1048576, at 0.1 to 2 kB each. Those that
        /// come later are not judged, and counted.
        pub subjects: Within<1, 1_048_576> = Within::new(65_536);
    }
    tables {
        /// See [`volume`].
        pub volume: volume::Params;
        /// See [`persistence`].
        pub persistence: persistence::Params;
        /// See [`burst`].
        pub burst: burst::Params;
        /// See [`fanout`].
        pub fanout: fanout::Params;
        /// See [`failure`].
        pub failure: failure::Params;
        /// See [`rejection`].
        pub rejection: rejection::Params;
        /// See [`messages`].
        pub messages: messages::Params;
        /// See [`size`].
        pub size: size::Params;
    }
}

impl Settings {
    /// Checks what one key alone does not show; gives the key and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let persistence = &self.persistence;
        for (key, hours, of) in [
            (
                "detect.persistence.hours",
                persistence.hours.get(),
                persistence.of.get(),
            ),
            (
                "detect.persistence.slow_hours",
                persistence.slow_hours.get(),
                persistence.slow_of.get(),
            ),
        ] {
            if hours > of {
                return Err((key, format!("there are no {hours} hours among {of}")));
            }
        }
        Ok(())
    }
}

/// A row for each detector: its name, what it looks at, its shipped parameters, and why.
pub fn table() -> Vec<[String; 4]> {
    let settings =
        toml::Table::try_from(Settings::default()).expect("every parameter has a form in TOML");
    DETECTORS
        .iter()
        .map(|entry| {
            let parameters = &settings[entry.name];
            let defaults: Vec<_> = entry
                .keys
                .iter()
                .map(|(key, _)| format!("`{key} = {}`", parameters[*key]))
                .collect();
            [
                format!("`{}`", entry.name),
                entry.summary.to_owned(),
                defaults.join(", "),
                entry.why.to_owned(),
            ]
        })
        .collect()
}
