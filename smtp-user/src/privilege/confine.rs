//! Giving up every privilege, thread by thread.
//!
//! Contract: what a thread has given up it cannot get back, and neither can what it starts: capabilities
//! are gone from all five sets, no program that is run brings any (`no_new_privs`), and the user is
//! another one for good. Capabilities, user, `no_new_privs` and Landlock belong to a thread in Linux and
//! are handed on to those that it starts. So the calls here are those of the kernel and not the C
//! library's, which would change all threads at once: each thread that exists confines itself, and
//! everything else is started after that. What was given up is looked at afterwards, and an agent that
//! still has more than it should does not run.
#![forbid(unsafe_code)]

use std::io;

use anyhow::{Context as _, ensure};
use rustix::process::{DumpableBehavior, Gid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, no_new_privs, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::account::Account;
use super::rules::{Held, Prepared};

/// What threads are to be held to.
pub struct Confinement {
    account: Option<Account>,
    /// Numbers of the groups beside the user's own that are not left.
    groups: Vec<u32>,
    rules: Option<Prepared>,
}

/// What a thread is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// The user that it has become.
    pub account: Option<Account>,
    /// The capabilities that it has kept.
    pub kept: Vec<&'static str>,
    /// How much of the rules is held.
    pub landlock: Held,
}

impl Confinement {
    /// Threads become this user, and are held to these rules.
    pub const fn new(account: Option<Account>, rules: Option<Prepared>) -> Self {
        Self {
            account,
            groups: Vec::new(),
            rules,
        }
    }

    /// The same user, in these groups and held to other rules, for what the thread starts.
    pub fn beside(&self, groups: Vec<u32>, rules: Option<Prepared>) -> Self {
        Self {
            account: self.account.clone(),
            groups,
            rules,
        }
    }

    /// The user that threads become.
    pub const fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Confines the calling thread for good. It keeps `CAP_BPF` where that is asked for and it has it.
    pub fn thread(&self, keep_bpf: bool) -> anyhow::Result<Confined> {
        let before = capabilities(None).context("cannot read the capabilities")?;
        let keep = if keep_bpf {
            CapabilitySet::BPF & before.permitted
        } else {
            CapabilitySet::empty()
        };
        set_no_new_privs(true).context("cannot set no_new_privs")?;
        let landlock = match &self.rules {
            Some(rules) => rules.hold()?,
            None => Held::Unwanted,
        };
        if before.effective.contains(CapabilitySet::SETPCAP) {
            empty_bounding_set().context("cannot empty the bounding set")?;
        }
        // Linux 4.3; what it would hand on is taken away below in any case.
        clear_ambient_capability_set().context("cannot empty the ambient set")?;
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        if let Some(account) = &self.account {
            let name = &account.name;
            let (uid, gid) = (
                rustix::process::Uid::from_raw(account.uid),
                Gid::from_raw(account.gid),
            );
            set_keep_capabilities(!keep.is_empty()).context("cannot keep capabilities")?;
            set_thread_groups(&groups).context("cannot leave the other groups")?;
            set_thread_res_gid(gid, gid, gid)
                .with_context(|| format!("cannot take the group of {name}"))?;
            set_thread_res_uid(uid, uid, uid)
                .with_context(|| format!("cannot become user {name}"))?;
        } else if before.effective.contains(CapabilitySet::SETGID) {
            set_thread_groups(&groups).context("cannot leave the other groups")?;
        }
        let sets = CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).context("cannot give up the capabilities")?;
        // Tokens are in its memory: no core file, and no look into it by others of the same user. The
        // kernel does the same by itself for whoever becomes another user.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot refuse core files")?;
        self.check(sets)?;
        Ok(Confined {
            account: self.account.clone(),
            kept: if keep.is_empty() {
                Vec::new()
            } else {
                vec!["CAP_BPF"]
            },
            landlock,
        })
    }

    /// Fails if the thread has more than it should.
    fn check(&self, wanted: CapabilitySets) -> anyhow::Result<()> {
        let left = capabilities(None).context("cannot read the capabilities")?;
        ensure!(left == wanted, "capabilities are left: {left:?}");
        ensure!(
            no_new_privs().context("cannot read no_new_privs")?,
            "no_new_privs is not set"
        );
        let Some(account) = &self.account else {
            return Ok(());
        };
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        ensure!(
            (uid.as_raw(), gid.as_raw()) == (account.uid, account.gid),
            "user and group are {uid:?} and {gid:?}"
        );
        ensure!(
            set_thread_res_uid(
                rustix::process::Uid::ROOT,
                rustix::process::Uid::ROOT,
                rustix::process::Uid::ROOT
            )
            .is_err(),
            "root can be had back"
        );
        Ok(())
    }
}

/// What the calling thread cannot do without capabilities: runs this with none in effect, and gives them
/// back.
pub fn without_capabilities<T>(look: impl FnOnce() -> T) -> anyhow::Result<T> {
    let before = capabilities(None).context("cannot read the capabilities")?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        ..before
    };
    set_capabilities(None, none).context("cannot lay down the capabilities")?;
    let seen = look();
    set_capabilities(None, before).context("cannot take up the capabilities again")?;
    Ok(seen)
}

/// Takes every capability that the kernel knows out of the bounding set.
fn empty_bounding_set() -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The first that it does not know.
            Err(_) => break,
        }
    }
    Ok(())
}
