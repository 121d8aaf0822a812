//! The release of the kernel.
#![forbid(unsafe_code)]

use std::fmt;

/// A kernel release, as far as features depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// From `6.18.44-cloud` and the like.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        Some(Self(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    }

    /// Of the kernel that runs; `None` if it does not say so in numbers.
    pub fn running() -> Option<Self> {
        let name = nix::sys::utsname::uname().ok()?;
        Self::parse(&name.release().to_string_lossy())
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
