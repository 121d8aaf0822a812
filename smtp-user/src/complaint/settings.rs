//! What the operator says about complaints: the section `[complaint]`.
#![forbid(unsafe_code)]

/// What is kept of the message that a complaint is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptMessages {
    /// Nothing.
    #[default]
    None,
    /// Its header, for a week.
    Headers,
}

section! {
    /// Complaints about own hosts (`smtpflow complaint`).
    pub struct Settings {
        /// What is kept of the message that came with a complaint in ARF: "none", or "headers", at most
        /// 8 KiB of its header for a week, with as much of the addresses of people as
        /// `maillog.addresses` says. A notice about the host has it with it then, as ARF.
        pub keep: KeptMessages = KeptMessages::None;
    }
}
