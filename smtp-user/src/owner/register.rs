//! `smtpflow serve-rwhois`: what the operator's files and routes say, for others to ask.
//!
//! Contract: only what lies in the operator's own prefixes; files and routes are read at the start and again
//! after the operator's time, beside the answers, and what was read before stays in use if that fails.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;

use super::desk::Desk;
use super::rwhois::server::{Register, Registered, serve};
use super::settings::{Settings, Time};
use crate::failure::{Failure, Kind, ResultExt as _};

/// A table is never too old by itself: the whole desk is made anew.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

struct Own {
    local: Vec<IpNet>,
    desk: Mutex<Desk>,
}

impl Register for Own {
    fn of(&self, network: IpNet) -> Option<Registered> {
        let own = self.local.iter().find(|own| own.contains(&network))?;
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let (prefix, contact) = desk.registered(network)?;
        // Who has a larger network is told for the part of it that is ours.
        let prefix = if own.contains(&prefix) { prefix } else { *own };
        Some(Registered { prefix, contact })
    }
}

/// A desk whose tables are read, each time anew.
fn warm(settings: &Settings, netns: Option<&str>) -> Result<Desk, Failure> {
    let mut desk = Desk::new(
        &Settings {
            keep: Time(FOR_EVER),
            ..settings.clone()
        },
        netns,
    )?
    .fresh();
    for error in desk.read_routes() {
        tracing::warn!("{error}");
    }
    Ok(desk)
}

/// Answers RWhois queries for own prefixes, for as long as the program runs. `told` is called with the address
/// that is listened on.
pub fn serve_rwhois(
    settings: Settings,
    local: Vec<IpNet>,
    netns: Option<String>,
    told: impl FnOnce(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(listen) = settings.serve_rwhois else {
        return Err(Failure::new(
            Kind::BadConfig,
            "nobody has said where to answer RWhois: name an address and a port in owner.serve_rwhois",
        ));
    };
    if local.is_empty() {
        return Err(Failure::new(
            Kind::BadConfig,
            "there is nothing to answer for: name your own prefixes in networks.local",
        ));
    }
    let desk = warm(&settings, netns.as_deref())?;
    let listener = TcpListener::bind(listen)
        .with_context(|| {
            format!("cannot answer RWhois at {listen} (owner.serve_rwhois): is the port taken, or below 1024?")
        })
        .kind(Kind::Unavailable)?;
    told(listener.local_addr().unwrap_or(listen))?;
    let own = Arc::new(Own {
        local,
        desk: Mutex::new(desk),
    });
    let again = Arc::clone(&own);
    thread::Builder::new()
        .name("refresh".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(settings.keep.0);
                match warm(&settings, netns.as_deref()) {
                    Ok(desk) => *again.desk.lock().unwrap_or_else(PoisonError::into_inner) = desk,
                    Err(failure) => tracing::error!("what was read before stays in use: {failure}"),
                }
            }
        })
        .context("cannot start a thread")?;
    serve(&listener, own, "smtpflow");
    Ok(())
}
