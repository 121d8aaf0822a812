//! What the agent still reaches once it counts, and giving up the rest.
//!
//! Contract: the files and ports that the configuration names, what the kernel tells of this process, and
//! nothing else. Made while the agent may still open all of it, after the pins and the folder of the store
//! are there.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, Maillog};
use crate::failure::Failure;
use crate::maillog::watch;
use crate::owner;
use crate::privilege::{Account, Confined, Confinement, Rules};
use crate::secret;
use crate::store::Store;

/// Read by the C library to find the address of a name.
const NAME_LOOKUP: &[&str] = &[
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/ld.so.cache",
    // It loads its modules from there.
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];
/// The port of DNS, for answers that are too long for a datagram.
const DNS: u16 = 53;

/// What an agent with this configuration, from this file, has to reach when it counts.
pub fn rules(config: &Config, file: Option<&Path>) -> Rules {
    let mut rules = Rules {
        // Its own figures, those of the CPUs, the name of the machine, and where SQLite begins its random
        // numbers.
        read: [
            "/proc/self",
            "/proc/sys/kernel",
            "/sys/devices/system/cpu",
            "/dev/urandom",
        ]
        .map(PathBuf::from)
        .to_vec(),
        ..Rules::default()
    };
    if let Some(file) = file {
        rules.read_configured(file);
    }
    let serve = &config.serve;
    for token in [&serve.token_file, &serve.act_token_file] {
        if let Some(path) = token.as_deref().and_then(|name| secret::path(name).ok()) {
            rules.read_configured(&path);
        }
    }
    if config.store.enabled {
        rules
            .write
            .extend(config.store.path.parent().map(Path::to_path_buf));
    }
    let pins = &config.meter.pins;
    if config.meter.attached {
        rules.read.push(pins.clone());
    } else {
        rules.write.push(pins.clone());
        rules.tidy.extend(pins.parent().map(Path::to_path_buf));
    }
    if let Some(url) = &config.alertmanager.url {
        rules.connect.push(url.port());
        if !url.is_address() {
            rules.read.extend(NAME_LOOKUP.iter().map(PathBuf::from));
            rules.connect.push(DNS);
        }
    }
    look_up_owners(&config.owner, &mut rules);
    follow_logs(&config.maillog, &mut rules);
    if config.relay_test.enabled {
        // The page shows the last reports; tests are made by others.
        rules.read.push(config.relay_test.state.clone());
    }
    rules
}

/// Whatever is named may be used, whether it is in the order or not: that can change while the agent runs. What is said
/// is kept.
fn look_up_owners(settings: &owner::Settings, rules: &mut Rules) {
    let secrets = settings.router.iter().flat_map(|router| {
        [
            &router.community_file,
            &router.auth_file,
            &router.privacy_file,
        ]
    });
    let secrets = secrets.flatten().filter_map(|name| secret::path(name).ok());
    for file in settings
        .contacts
        .iter()
        .chain(&settings.rdap_bootstrap)
        .cloned()
        .chain(secrets)
    {
        rules.read_configured(&file);
    }
    let ports = owner::ports(settings);
    if !ports.is_empty() || !settings.router.is_empty() {
        rules.write.push(settings.state.clone());
    }
    if ports.is_empty() {
        return;
    }
    if !settings.rdap_bootstrap.is_empty() {
        rules.read_configured(&settings.authorities);
    }
    rules.connect.extend(ports);
    // Servers refer to others by name.
    rules.read.extend(NAME_LOOKUP.iter().map(PathBuf::from));
    rules.connect.push(DNS);
}

/// Logs of mail servers, in whose folders they are rotated, and the folder of what is known from them. The journal is
/// read by a program of its own, see `journalctl`.
fn follow_logs(maillog: &Maillog, rules: &mut Rules) {
    if !maillog.is_on() {
        return;
    }
    rules.write.push(maillog.state.clone());
    for file in &maillog.files {
        // One that is a link is rotated where it is.
        let there = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        for folder in [file, &there].into_iter().filter_map(|file| file.parent()) {
            // All of it would be too much for one log.
            if folder.parent().is_some() {
                rules.read.push(folder.to_path_buf());
            }
        }
    }
    // Their times are local ones.
    rules
        .read
        .extend(["/etc/localtime", "/usr/share/zoneinfo"].map(PathBuf::from));
}

/// Makes ready what every thread is to be held to; threads are held by [`Confinement::thread`].
pub(super) fn prepare(config: &Config, file: Option<&Path>) -> Result<Arc<Confinement>, Failure> {
    let account = Account::to_become(config.agent.user.as_deref())?;
    if config.store.enabled {
        let owner = account.as_ref().map(|account| (account.uid, account.gid));
        Store::provide_folder(&config.store.path, owner)?;
    }
    if config.maillog.is_on() {
        let owner = account.as_ref().map(|account| (account.uid, account.gid));
        let state = &config.maillog.state;
        // Nothing is counted from logs, and so this ends nothing.
        if let Err(error) = watch::provide_folder(state, owner) {
            tracing::error!(
                "cannot make the folder {} for what is known from mail logs: {error}; name another one \
                 (maillog.state)",
                state.display()
            );
        }
    }
    let rules = match config.agent.landlock {
        true => Some(rules(config, file).prepare()?),
        false => None,
    };
    Ok(Arc::new(Confinement::new(account, rules)))
}

/// Says what is left.
pub(super) fn log(confined: &Confined) {
    let Confined {
        account,
        kept,
        landlock,
    } = confined;
    let user = match account {
        Some(account) => account.name.clone(),
        None => nix::unistd::geteuid().to_string(),
    };
    let capabilities = match kept.as_slice() {
        [] => "none".to_owned(),
        kept => kept.join(" "),
    };
    tracing::info!(user, capabilities, %landlock, "privileges given up");
    if !kept.is_empty() {
        tracing::warn!(
            "the meter keeps {capabilities}: kernels before 5.19 let nobody use maps without it"
        );
    }
}
