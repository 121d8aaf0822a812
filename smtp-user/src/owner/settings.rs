//! What the operator says about owners: the section `[owner]` and the tables `[[owner.router]]`.
//!
//! Contract: values that were read can be used without looking at them again, once [`Settings::check`] has
//! let them through. Nothing is asked, read or listened on by default.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::model::owner::{OwnerSource, check_text};
use crate::server::Server;

/// How long one source may take for an address.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// How long answers and routes are used.
const KEPT: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
/// How long a router may take for all of its routes.
const WALK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(1800);
/// Where what others have said is kept.
const DEFAULT_STATE: &str = "/var/lib/smtpflow/owner";
/// Most routers.
const MAX_ROUTERS: usize = 64;
/// Most servers and files of a kind.
const MAX_NAMED: usize = 16;

section! {
    /// Whose hosts are whose: who is to be told about an address. Off until an order of sources is named;
    /// then `smtpflow owner` answers.
    pub struct Settings {
        /// Where owners are looked for, in this order, until somebody is named: "contacts" (files of
        /// yours), "kernel" and "routers" (routes, and who your files name for the next hop), "rwhois",
        /// "whois", "rdap".
        pub order: Vec<OwnerSource> = Vec::new();
        /// Files with contacts, .toml or .csv, for example ["/etc/smtpflow/contacts.csv"].
        pub contacts: Vec<PathBuf> = Vec::new();
        /// RWhois servers, HOST:PORT, for example ["rwhois.example.net:4321"].
        pub rwhois: Vec<Server> = Vec::new();
        /// Where whois begins, HOST:PORT, for example ["whois.iana.org:43"].
        pub whois: Vec<Server> = Vec::new();
        /// Bootstrap files of RDAP (RFC 9224), which say whose server knows a prefix, for example
        /// ["/var/lib/smtpflow/ipv4.json"]; IANA publishes them.
        pub rdap_bootstrap: Vec<PathBuf> = Vec::new();
        /// File with the certificates of the authorities that servers of RDAP are believed by.
        pub authorities: PathBuf = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
        /// The longest that one source may take for an address, referrals included: "1s" to "60s".
        pub timeout: Time = Time(Duration::from_secs(10));
        /// How long routes and answers of servers are used before they are asked for again: "1m" to "30d".
        pub keep: Time = Time(Duration::from_secs(86_400));
        /// The same for the answer that nobody is named.
        pub keep_nobody: Time = Time(Duration::from_secs(3600));
        /// Folder in which routes of routers and answers of servers are kept from one call to the next,
        /// if it is there. Its files are for the owner of the folder alone.
        pub state: PathBuf = PathBuf::from(DEFAULT_STATE);
        /// Address and port where `smtpflow serve-rwhois` answers for your own prefixes
        /// (`networks.local`), such as "192.0.2.1:4321". Unset: nowhere.
        pub serve_rwhois: Option<SocketAddr> = None;
    }
    tables {
        /// Routers whose routes are read.
        pub router: Vec<Router>;
    }
}

/// How a router is written in a configuration.
pub const ROUTER_EXAMPLE: &str = r#"# A router whose routes are read by SNMP, for the source "routers" of `owner.order`.
# [[owner.router]]
# name = "border"
# address = "192.0.2.1:161"
# version = "2c"                      # or "3", with a user
# community_file = "/etc/smtpflow/border.community"
# user = "smtpflow"
# auth = "sha256"                     # md5, sha1, sha224, sha256, sha384, sha512
# auth_file = "/etc/smtpflow/border.auth"
# privacy = "aes128"                  # des, aes128, aes256
# privacy_file = "/etc/smtpflow/border.privacy"
# context = ""
# table = "auto"                      # inet_cidr, ip_cidr, ip_route
# repetitions = 50                    # rows in one answer, 1 to 500
# time = "2m"                         # the longest that all routes may take
"#;

/// A router, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    /// As answers call it.
    pub name: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// In which version of SNMP.
    #[serde(default)]
    pub version: Version,
    /// The file with the community of version 2c.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub community_file: Option<PathBuf>,
    /// The user of version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How that user proves to be it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// The file with the passphrase for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_file: Option<PathBuf>,
    /// How messages are kept secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// The file with the passphrase for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_file: Option<PathBuf>,
    /// The context that the table is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// Which table is read.
    #[serde(default)]
    pub table: Table,
    /// Rows in one answer.
    #[serde(default = "repetitions")]
    pub repetitions: u32,
    /// The longest that all routes may take.
    #[serde(default = "walk")]
    pub time: Time,
}

const fn repetitions() -> u32 {
    50
}

const fn walk() -> Time {
    Time(Duration::from_secs(120))
}

/// A version of SNMP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// With a community.
    #[default]
    #[serde(rename = "2c")]
    V2c,
    /// With a user (RFC 3414).
    #[serde(rename = "3")]
    V3,
}

/// A hash that authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the hashes")]
pub enum Auth {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the ciphers")]
pub enum Privacy {
    Des,
    Aes128,
    Aes256,
}

/// A table of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// The first of the others that has a route.
    #[default]
    Auto,
    /// `inetCidrRouteTable` (RFC 4292), which alone has IPv6.
    InetCidr,
    /// `ipCidrRouteTable` (RFC 2096).
    IpCidr,
    /// `ipRouteTable` (RFC 1213), which has one route for each address of a network only.
    IpRoute,
}

impl Settings {
    /// Whether owners are looked for at all.
    pub fn enabled(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether routes are read.
    pub fn reads_routes(&self) -> bool {
        let routes = [OwnerSource::Kernel, OwnerSource::Routers];
        self.order.iter().any(|source| routes.contains(source))
    }

    /// The first key that is wrong, and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let Self {
            order,
            contacts,
            rwhois,
            whois,
            rdap_bootstrap,
            authorities: _,
            timeout,
            keep,
            keep_nobody,
            state,
            serve_rwhois: _,
            router,
        } = self;
        for (i, source) in order.iter().enumerate() {
            let name = source.name();
            if order[..i].contains(source) {
                return Err(("owner.order", format!("{name:?} is named twice")));
            }
            let needs = match source {
                OwnerSource::Contacts => contacts.is_empty().then_some("owner.contacts"),
                OwnerSource::Kernel => None,
                OwnerSource::Routers => router.is_empty().then_some("[[owner.router]]"),
                OwnerSource::Rwhois => rwhois.is_empty().then_some("owner.rwhois"),
                OwnerSource::Whois => whois.is_empty().then_some("owner.whois"),
                OwnerSource::Rdap => rdap_bootstrap.is_empty().then_some("owner.rdap_bootstrap"),
            };
            if let Some(needs) = needs {
                let what = format!("{name:?} needs {needs}; name it there, or leave {name:?} out");
                return Err(("owner.order", what));
            }
        }
        for (key, named) in [
            ("owner.contacts", contacts.len()),
            ("owner.rwhois", rwhois.len()),
            ("owner.whois", whois.len()),
            ("owner.rdap_bootstrap", rdap_bootstrap.len()),
        ] {
            if named > MAX_NAMED {
                return Err((
                    key,
                    format!("{named} are named: expected at most {MAX_NAMED}"),
                ));
            }
        }
        for (key, time, range) in [
            ("owner.timeout", timeout, &TIMEOUT),
            ("owner.keep", keep, &KEPT),
            ("owner.keep_nobody", keep_nobody, &KEPT),
        ] {
            time.check(range).map_err(|error| (key, error))?;
        }
        if !state.is_absolute() {
            let what = format!(
                "{:?} is no absolute path of a folder; the default is {DEFAULT_STATE}",
                state.display().to_string()
            );
            return Err(("owner.state", what));
        }
        if router.len() > MAX_ROUTERS {
            let what = format!("{} routers: expected at most {MAX_ROUTERS}", router.len());
            return Err(("owner.router", what));
        }
        for (i, one) in router.iter().enumerate() {
            let twice = router[..i].iter().any(|other| other.name == one.name);
            let checked = match twice {
                true => Err("there is another router of this name".to_owned()),
                false => one.check(),
            };
            let name = &one.name;
            checked.map_err(|error| ("owner.router", format!("{name:?}: {error}")))?;
        }
        Ok(())
    }
}

impl Router {
    fn check(&self) -> Result<(), String> {
        check_text(&self.name)?;
        self.time.check(&WALK)?;
        if !(1..=500).contains(&self.repetitions) {
            return Err(format!(
                "repetitions: {} is out of range: expected 1 to 500",
                self.repetitions
            ));
        }
        // RFC 3411 (section 5) allows 32 octets for both.
        if self.context.len() > 32
            || self
                .user
                .as_ref()
                .is_some_and(|user| !(1..=32).contains(&user.len()))
        {
            return Err("user and context have at most 32 bytes".to_owned());
        }
        match self.version {
            Version::V2c => {
                if self.community_file.is_none() {
                    return Err(
                        "version 2c needs community_file, a file with the community".to_owned()
                    );
                }
                if self.user.is_some() || self.auth.is_some() || self.privacy.is_some() {
                    return Err("user, auth and privacy are of version \"3\"".to_owned());
                }
            }
            Version::V3 => {
                if self.community_file.is_some() {
                    return Err("community_file is of version \"2c\"".to_owned());
                }
                if self.user.is_none() {
                    return Err("version 3 needs a user".to_owned());
                }
                // Without it anybody on the way could name owners.
                let (Some(auth), Some(_)) = (self.auth, &self.auth_file) else {
                    return Err("version 3 needs auth and auth_file".to_owned());
                };
                if self.privacy.is_some() != self.privacy_file.is_some() {
                    return Err("privacy and privacy_file belong together".to_owned());
                }
                // How a shorter hash becomes a longer key, vendors do not agree on.
                let long = matches!(auth, Auth::Sha256 | Auth::Sha384 | Auth::Sha512);
                if self.privacy == Some(Privacy::Aes256) && !long {
                    return Err("aes256 needs auth sha256, sha384 or sha512".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// A length of time, written as `10s` or `1m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl Time {
    fn check(self, range: &RangeInclusive<Duration>) -> Result<(), String> {
        if range.contains(&self.0) {
            return Ok(());
        }
        let (least, most) = (Self(*range.start()), Self(*range.end()));
        Err(format!(
            "{self} is out of range: expected {least} to {most}"
        ))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(duration) => write!(f, "{duration:#}"),
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let duration = text.parse::<SignedDuration>().ok();
        duration
            .and_then(|duration| Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "{text:?} is no duration: expected one such as \"10s\" or \"1m 30s\""
                ))
            })
    }
}

#[cfg(test)]
mod tests;
