//! The smtpflow agent: drains what the XDP program counts, keeps it, and serves it.
//!
//! Arrows go one way: `main -> evidence -> agent, replay, mail_report, reading, telling, whose, doctor -> serve, client ->
//! archive, relay_test -> report -> meter, history, store, detect, owner, maillog, complaint, notice -> connections, source_list -> model ->
//! smtp-common`. aya is known to
//! `meter::xdp` alone, SQLite to `store` alone, axum to `serve` alone, clap to `args` and `main` alone.
#![deny(unsafe_code)]

#[macro_use]
mod section;

pub mod admission;
pub mod agent;
pub mod alertmanager;
mod answer;
pub mod archive;
pub mod args;
pub mod client;
pub mod clock;
pub mod complaint;
pub mod config;
pub mod connections;
mod counted;
pub mod crash;
pub mod detect;
pub mod distribution;
pub mod doctor;
pub mod evidence;
pub mod failure;
pub mod history;
mod http;
pub mod journal;
pub mod kernel;
pub mod link;
pub mod mail_report;
pub mod maillog;
pub mod meter;
pub mod model;
pub mod notice;
pub mod owner;
pub mod privilege;
pub mod reading;
pub mod relay_test;
pub mod replay;
pub mod report;
pub mod secret;
pub mod serve;
pub mod server;
mod service;
pub mod source_list;
pub mod store;
pub mod telling;
mod tls;
pub mod top;
pub mod whose;
mod written;
