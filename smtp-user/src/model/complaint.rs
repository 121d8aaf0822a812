//! Complaints about own hosts, by those who were bothered.
//!
//! Contract: what is kept of a complaint is an address, times, what it is about, and who complains as far
//! as a domain: no message, no address of a person. A complaint of the store is never deleted: it is
//! withdrawn, by whom, when and why.

use std::net::IpAddr;

use super::period::{Period, rfc3339};
use super::relay::Ended;

/// Most characters of who complains: those of a domain.
pub const MAX_REPORTER: usize = 253;
/// Most characters of a reference; longer ones are cut.
pub const MAX_REFERENCE: usize = 200;
/// Complaints are younger than this, 2000-01-01T00:00:00Z.
const EARLIEST: u64 = 946_684_800_000;
/// So far a clock elsewhere may be ahead, in milliseconds.
const AHEAD: u64 = 86_400_000;

/// What a host is reported for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComplaintKind {
    /// Mail that nobody wanted.
    Spam,
    /// Connections that were opened and nothing else, or far too many.
    SynFlood,
    /// Copies of what is not free to copy.
    Infringement,
    /// Anything else.
    Other,
}

impl ComplaintKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Spam, Self::SynFlood, Self::Infringement, Self::Other];

    /// As in JSON, CSV, on the command line and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::SynFlood => "syn_flood",
            Self::Infringement => "infringement",
            Self::Other => "other",
        }
    }

    /// As people call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::SynFlood => "SYN flood",
            Self::Infringement => "infringement",
            Self::Other => "other",
        }
    }

    /// Whether who watches mail traffic can be expected to have seen it.
    pub const fn is_about_mail(self) -> bool {
        matches!(self, Self::Spam | Self::SynFlood)
    }
}

impl std::str::FromStr for ComplaintKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no kind of complaint: expected one of {names}")
        })
    }
}

/// In which form a complaint came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ComplaintForm {
    /// Mail as in RFC 5965.
    Arf,
    /// JSON of version 4, in a mail or alone.
    Xarf,
    /// A line of CSV.
    Csv,
    /// A person wrote it down.
    Hand,
}

impl ComplaintForm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Arf, Self::Xarf, Self::Csv, Self::Hand];

    /// As in JSON and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arf => "arf",
            Self::Xarf => "xarf",
            Self::Csv => "csv",
            Self::Hand => "hand",
        }
    }
}

impl std::str::FromStr for ComplaintForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|form| form.name() == text);
        found.ok_or_else(|| format!("{text:?} is no form of a complaint"))
    }
}

/// A complaint. All times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Complaint {
    /// The host that it is about, in its canonical form.
    pub address: IpAddr,
    /// When it was made: when it reached the operator, as far as that is known.
    pub at: u64,
    /// When that happened which it is about, if it says so.
    pub happened_at: Option<u64>,
    /// What for.
    pub kind: ComplaintKind,
    /// In which form it came.
    pub form: ComplaintForm,
    /// Who complains: a domain, or what the operator calls him.
    pub reporter: String,
    /// By what the reporter knows it; two complaints that agree in address, kind, reporter and reference
    /// are one.
    pub reference: String,
    /// How many incidents it stands for.
    pub incidents: u32,
}

impl Complaint {
    /// Brings it into the form in which it is kept, and checks whether it can be.
    ///
    /// # Errors
    ///
    /// It is about no single host, or of no time that can be; a text is empty or of several lines.
    pub fn checked(mut self, now: u64) -> Result<Self, String> {
        self.address = self.address.to_canonical();
        let address = self.address;
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            return Err(format!("{address} is the address of no host in a network"));
        }
        check_time(self.at, now)?;
        // What happened is told by strangers, and only shown.
        self.happened_at = self.happened_at.filter(|at| check_time(*at, now).is_ok());
        self.incidents = self.incidents.max(1);
        self.reporter = one_line(&self.reporter, MAX_REPORTER).to_ascii_lowercase();
        self.reference = one_line(&self.reference, MAX_REFERENCE);
        if self.reporter.is_empty() {
            return Err("it does not say who complains".to_owned());
        }
        if self.reference.is_empty() {
            self.reference = rfc3339(self.happened_at.unwrap_or(self.at));
        }
        Ok(self)
    }
}

fn check_time(at: u64, now: u64) -> Result<(), String> {
    if (EARLIEST..=now.saturating_add(AHEAD)).contains(&at) {
        return Ok(());
    }
    Err(format!(
        "{} is no time of a complaint: expected one since 2000, and not in the future",
        rfc3339(at)
    ))
}

/// A text without what does something to a terminal, cut to so many characters.
fn one_line(text: &str, most: usize) -> String {
    let text = text.trim();
    let kept = text.chars().filter(|c| !c.is_control() && *c != '\u{fffd}');
    kept.take(most).collect::<String>().trim().to_owned()
}

/// A complaint of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredComplaint {
    /// Its number, never given again.
    pub id: u64,
    /// The complaint.
    pub complaint: Complaint,
    /// When it was noted.
    pub added_at: u64,
    /// Who noted it.
    pub added_by: String,
    /// How it was withdrawn, if it was.
    pub withdrawn: Option<Ended>,
}

/// Which complaints: those to which all of this applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComplaintFilter {
    /// Made in this time.
    pub period: Option<Period>,
    /// About this host.
    pub address: Option<IpAddr>,
    /// Those that were withdrawn as well.
    pub withdrawn: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-25T00:00:00Z.
    pub const NOW: u64 = 1_795_564_800_000;

    pub fn complaint(address: &str, at: u64) -> Complaint {
        Complaint {
            address: address.parse().expect("an address"),
            at,
            happened_at: None,
            kind: ComplaintKind::Spam,
            form: ComplaintForm::Hand,
            reporter: "isp.example".to_owned(),
            reference: format!("{address} {at}"),
            incidents: 1,
        }
    }

    #[test]
    fn what_is_kept_is_of_one_form() {
        let mut made = complaint("::ffff:192.0.2.66", NOW);
        made.happened_at = Some(NOW + 2 * AHEAD);
        made.reporter = " ISP.example\r\n".to_owned();
        made.reference = String::new();
        made.incidents = 0;
        let kept = made.checked(NOW).expect("good");
        assert_eq!(kept.address.to_string(), "192.0.2.66");
        assert_eq!(kept.happened_at, None, "it is in the future");
        assert_eq!(kept.reporter, "isp.example");
        assert_eq!(kept.reference, "2026-11-25T00:00:00.000Z");
        assert_eq!(kept.incidents, 1);
    }

    #[test]
    fn what_is_no_complaint_about_a_host_is_refused() {
        let of = |address: &str, at| complaint(address, at).checked(NOW);
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "::1",
            "224.0.0.1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ] {
            let error = of(address, NOW).expect_err(address);
            assert!(error.contains("no host"), "{error}");
        }
        for at in [0, EARLIEST - 1, NOW + AHEAD + 1, u64::MAX] {
            let error = of("192.0.2.66", at).expect_err("no time");
            assert!(error.contains("no time of a complaint"), "{error}");
        }
        let mut nobody = complaint("192.0.2.66", NOW);
        nobody.reporter = "\u{1b} \n".to_owned();
        assert!(nobody.checked(NOW).is_err());
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in ComplaintKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        for form in ComplaintForm::ALL {
            assert_eq!(form.name().parse(), Ok(form));
        }
        assert!("SPAM".parse::<ComplaintKind>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_checked_is_bounded_and_stays_as_it_is(
            octets: [u8; 16], at: u64, happened_at: Option<u64>,
            reporter in "\\PC{0,300}|.{0,300}", reference in ".{0,400}", incidents: u32,
        ) {
            let made = Complaint {
                address: IpAddr::from(octets), at, happened_at, reporter, reference, incidents,
                kind: ComplaintKind::Spam, form: ComplaintForm::Arf,
            };
            if let Ok(kept) = made.checked(NOW) {
                prop_assert!(kept.reporter.chars().count() <= MAX_REPORTER);
                prop_assert!(kept.reference.chars().count() <= MAX_REFERENCE);
                for text in [&kept.reporter, &kept.reference] {
                    prop_assert!(!text.contains(char::is_control) && !text.is_empty());
                }
                prop_assert_eq!(kept.clone().checked(NOW), Ok(kept));
            }
        }
    }
}
