//! What of a new configuration comes into force while the agent runs.
//!
//! Contract: what the kernel's tables, the meter's thread, the store's file or the listener were made by
//! stays until a restart, and is named; all else is as in the new configuration. A new key has to be
//! thought about here, or this does not compile.

use super::{Alertmanager, Config, History, Meter, Serve};
use crate::owner;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// What is in force from now on.
    pub config: Config,
    /// The keys that have another value by that, as SECTION.KEY.
    pub changed: Vec<String>,
    /// The keys whose new values take a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// What comes into force of `new`, where `self` is.
    pub fn reload(&self, new: Self) -> Reload {
        let config = self.with(&new);
        Reload {
            changed: differing(self, &config),
            restart: differing(&config, &new),
            config,
        }
    }

    fn with(&self, new: &Self) -> Self {
        let old = self.clone();
        let Self {
            meter:
                Meter {
                    interfaces: _,
                    mode: _,
                    window: _,
                    netns: _,
                    pins: _,
                    keep_attached,
                    ports: _,
                    attached: _,
                },
            table: _,
            agent: _,
            networks,
            history:
                History {
                    sources: _,
                    pairs: _,
                    idle: _,
                    keep_bins,
                    keep_hours,
                    keep_days,
                },
            store: _,
            serve:
                Serve {
                    listen: _,
                    token_file,
                    act_token_file,
                    public_url,
                },
            metrics,
            alertmanager:
                Alertmanager {
                    url,
                    every,
                    gateway,
                },
            owner: new_owner,
            // Read by the command alone, each time.
            relay_test,
            maillog: _,
            // Read by the commands alone, each time.
            complaint,
            notice,
            detect,
            relay,
        } = new.clone();
        // The kernel holds the agent to the port of the Alertmanager that it started with.
        let url = match old.agent.landlock {
            true => old.alertmanager.url,
            false => url,
        };
        // And to the files and ports of those who are asked about owners.
        let owner = match old.agent.landlock {
            true => owner::Settings {
                order: new_owner.order,
                timeout: new_owner.timeout,
                keep: new_owner.keep,
                keep_nobody: new_owner.keep_nobody,
                serve_rwhois: new_owner.serve_rwhois,
                ..old.owner
            },
            false => new_owner,
        };
        Self {
            meter: Meter {
                keep_attached,
                ..old.meter
            },
            table: old.table,
            networks,
            history: History {
                keep_bins,
                keep_hours,
                keep_days,
                ..old.history
            },
            store: old.store,
            serve: Serve {
                token_file,
                act_token_file,
                public_url,
                ..old.serve
            },
            metrics,
            alertmanager: Alertmanager {
                url,
                every,
                gateway,
            },
            // The kernel holds the agent to the files that it started with.
            maillog: old.maillog,
            agent: old.agent,
            owner,
            relay_test,
            complaint,
            notice,
            detect,
            relay,
        }
    }
}

/// The keys of which two configurations have different values. A list is one value.
fn differing(one: &Config, other: &Config) -> Vec<String> {
    let table = |config| toml::Table::try_from(config).expect("every value has a form in TOML");
    let mut keys = Vec::new();
    compare("", &table(one), &table(other), &mut keys);
    keys
}

fn compare(path: &str, one: &toml::Table, other: &toml::Table, keys: &mut Vec<String>) {
    // A key that is not set is in neither.
    let gone = other.keys().filter(|key| !one.contains_key(*key));
    for key in one.keys().chain(gone) {
        let inner = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match (one.get(key), other.get(key)) {
            (Some(toml::Value::Table(one)), Some(toml::Value::Table(other))) => {
                compare(&inner, one, other, keys);
            }
            (one, other) if one != other => keys.push(inner),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml("test", text).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn what_the_kernel_and_the_store_were_made_by_takes_a_restart() {
        let old = config("[serve]\npublic_url = \"https://a.example\"");
        let new = config(
            "[meter]\ninterfaces = [\"eth0\"]\nwindow = \"5s\"\nkeep_attached = true\n\
             [table]\nspill = 5\n[networks]\nlocal = [\"192.0.2.0/24\"]\n\
             [history]\npairs = 7\nidle = \"10s\"\nkeep_bins = \"12h\"\n\
             [store]\nenabled = false\n\
             [serve]\nlisten = \"127.0.0.1:9\"\ntoken_file = \"/t\"\n\
             [metrics]\nsources = 3\n[alertmanager]\nevery = \"5s\"\n\
             url = \"http://127.0.0.1:9093\"\n[agent]\nuser = \"nobody\"\n\
             [owner]\norder = [\"kernel\"]\nwhois = [\"whois.example:43\"]\n\
             [detect]\nquiet = \"1h\"\n[detect.volume]\nnotice = 5\n\
             [[relay]]\nprefix = \"192.0.2.1/32\"\nreason = \"r\"\nowner = \"o\"\n",
        );
        let reload = old.reload(new.clone());
        assert_eq!(
            reload.changed,
            [
                "alertmanager.every",
                "detect.quiet",
                "detect.volume.notice",
                "history.keep_bins",
                "meter.keep_attached",
                "metrics.sources",
                "networks.local",
                "owner.order",
                "relay",
                "serve.public_url",
                "serve.token_file",
            ]
        );
        assert_eq!(
            reload.restart,
            [
                "agent.user",
                "alertmanager.url",
                "history.idle",
                "history.pairs",
                "meter.interfaces",
                "meter.window",
                "owner.whois",
                "serve.listen",
                "store.enabled",
                "table.spill",
            ]
        );
        // Each of both is what it is called.
        let Config { meter, serve, .. } = &reload.config;
        assert_eq!(
            (meter.window, meter.keep_attached),
            (old.meter.window, true)
        );
        assert_eq!((serve.listen, &serve.public_url), (old.serve.listen, &None));
        assert_eq!(reload.config.detect, new.detect);
        let mut free = old.clone();
        free.agent.landlock = false;
        let reload_of_free = free.reload(new.clone());
        assert_eq!(reload_of_free.config.alertmanager, new.alertmanager);
        assert_eq!(reload_of_free.config.owner, new.owner);
        // Said again each time, as it is true each time.
        let again = reload.config.reload(new);
        assert_eq!(again.changed, [""; 0]);
        assert_eq!(again.restart, reload.restart);
    }

    #[test]
    fn of_the_same_file_nothing_changes() {
        let text = config("[[relay]]\nprefix = \"192.0.2.1/32\"\nreason = \"r\"\nowner = \"o\"\n");
        let Reload {
            config,
            changed,
            restart,
        } = text.reload(text.clone());
        assert_eq!((config, changed.len(), restart.len()), (text, 0, 0));
    }
}
