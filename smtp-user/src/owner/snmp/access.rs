//! What opens a router: a community, or a user and its passphrases.
//!
//! Contract: secrets come from files that nobody else may read, and are in no message.

use std::time::Duration;

use snmp2::{SyncSession, v3};

use crate::failure::{Failure, Kind};
use crate::owner::settings::{Auth, Privacy, Router, Version};
use crate::secret::Secret;

/// Longest community (a limit of ours) and passphrase.
const LONGEST_SECRET: usize = 255;
/// Shortest passphrase (RFC 3414, section 11.2).
const SHORTEST_PASSPHRASE: usize = 8;

/// What opens a router.
pub(super) enum Access {
    Community(Secret),
    User {
        auth: Secret,
        privacy: Option<Secret>,
    },
}

impl Access {
    /// Reads the files that the router names.
    pub(super) fn load(router: &Router) -> Result<Self, Failure> {
        let missing = || {
            Failure::new(
                Kind::BadConfig,
                format!(
                    "the router {} has no file with its secret (owner.router)",
                    router.name
                ),
            )
        };
        let passphrase = |file| {
            Secret::load(
                file,
                "SNMP passphrase",
                SHORTEST_PASSPHRASE..=LONGEST_SECRET,
            )
        };
        match router.version {
            Version::V2c => {
                let file = router.community_file.as_ref().ok_or_else(missing)?;
                Secret::load(file, "SNMP community", 1..=LONGEST_SECRET).map(Self::Community)
            }
            Version::V3 => Ok(Self::User {
                auth: passphrase(router.auth_file.as_ref().ok_or_else(missing)?)?,
                privacy: match &router.privacy_file {
                    Some(file) => Some(passphrase(file)?),
                    None => None,
                },
            }),
        }
    }
}

/// A session with it, which waits for so long for an answer; `first` is the number of its first question.
pub(super) fn open(
    router: &Router,
    access: &Access,
    patience: Duration,
    first: i32,
) -> Result<Box<SyncSession>, String> {
    let opened = match access {
        Access::Community(community) => {
            SyncSession::new_v2c(router.address, community.bytes(), Some(patience), first)
        }
        Access::User { auth, privacy } => {
            let user = router.user.as_deref().unwrap_or_default();
            let mut security = v3::Security::new(user.as_bytes(), auth.bytes())
                .with_auth_protocol(hash(router.auth))
                .with_context_name(&router.context);
            security = match (router.privacy, privacy) {
                (Some(cipher), Some(privacy)) => security.with_auth(v3::Auth::AuthPriv {
                    cipher: match cipher {
                        Privacy::Des => v3::Cipher::Des,
                        Privacy::Aes128 => v3::Cipher::Aes128,
                        Privacy::Aes256 => v3::Cipher::Aes256,
                    },
                    privacy_password: privacy.bytes().to_vec(),
                }),
                _ => security.with_auth(v3::Auth::AuthNoPriv),
            };
            SyncSession::new_v3(router.address, Some(patience), first, security)
        }
    };
    opened
        .map(Box::new)
        .map_err(|error| format!("cannot open a socket to it: {error}"))
}

fn hash(auth: Option<Auth>) -> v3::AuthProtocol {
    match auth {
        Some(Auth::Md5) => v3::AuthProtocol::Md5,
        Some(Auth::Sha1) => v3::AuthProtocol::Sha1,
        Some(Auth::Sha224) => v3::AuthProtocol::Sha224,
        Some(Auth::Sha384) => v3::AuthProtocol::Sha384,
        Some(Auth::Sha512) => v3::AuthProtocol::Sha512,
        Some(Auth::Sha256) | None => v3::AuthProtocol::Sha256,
    }
}
