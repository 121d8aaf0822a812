//! The user that the agent becomes once it needs root no more.
//!
//! Contract: an account is looked up while the agent is still root, and only by name. Root is none:
//! whoever asks for another user wants fewer rights.
#![forbid(unsafe_code)]

use nix::unistd::{Group, User, geteuid};

use crate::failure::{Failure, Kind};

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// Number of the user.
    pub uid: u32,
    /// Number of the user's own group.
    pub gid: u32,
}

impl Account {
    /// Looks up a user.
    pub fn find(name: &str) -> Result<Self, Failure> {
        let user = User::from_name(name).map_err(|error| {
            Failure::new(
                Kind::Failed,
                format!("cannot look up the user {name} (agent.user): {error}"),
            )
        })?;
        let Some(user) = user else {
            return Err(Failure::new(
                Kind::BadConfig,
                format!(
                    "there is no user {name} (agent.user): make one (useradd --system \
                     --shell /usr/sbin/nologin {name}), or leave it out"
                ),
            ));
        };
        if user.uid.is_root() {
            return Err(Failure::new(
                Kind::BadConfig,
                format!("the user {name} (agent.user) is root: name one that is not, or none"),
            ));
        }
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    /// The number of a group, if it is there and names this user as one of its own.
    pub fn group(&self, name: &str) -> Option<u32> {
        let group = Group::from_name(name).ok().flatten()?;
        let is_member = group.mem.contains(&self.name);
        is_member.then(|| group.gid.as_raw())
    }

    /// The account of this name, or none where this process has that user already.
    pub fn to_become(name: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(account) = name.map(Self::find).transpose()? else {
            return Ok(None);
        };
        let me = geteuid();
        if me.as_raw() == account.uid {
            return Ok(None);
        }
        if !me.is_root() {
            return Err(Failure::new(
                Kind::NoPermission,
                format!(
                    "cannot become user {} (agent.user) as user {me}: start as root, or as that \
                     user with the capabilities that it needs (smtpflow doctor)",
                    account.name
                ),
            ));
        }
        Ok(Some(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_the_numbers_of_its_user() {
        let account = Account::find("nobody").unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((account.name.as_str(), account.uid), ("nobody", 65534));
    }

    #[test]
    fn a_group_is_one_that_names_the_user() {
        let account = Account::find("nobody").unwrap_or_else(|failure| panic!("{failure}"));
        for name in ["root", "surely-there-is-none"] {
            assert_eq!(account.group(name), None, "{name}");
        }
    }

    #[test]
    fn root_and_strangers_are_refused_with_the_way_out() {
        let failure = Account::find("root").expect_err("root");
        assert!(failure.to_string().contains("is root"), "{failure}");
        let failure = Account::find("surely-there-is-none").expect_err("nobody");
        assert_eq!(failure.kind, Kind::BadConfig);
        assert!(
            failure.to_string().contains("useradd --system"),
            "{failure}"
        );
    }
}
