//! The kinds of hosts: the labels.
//!
//! Each kind is defined by what it does, with no look at what detectors do. A kind is one entry in
//! [`KINDS`]; its definition there is the one in the report.

use super::population::{Host, Maker};
use super::{bots, innocents, limits};

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// Whoever accuses it is wrong.
    Innocent,
    /// Whoever does not accuse it has missed it.
    Bot,
    /// There is no host: whoever accuses an address of it is wrong.
    Nobody,
}

/// A kind of host.
pub struct Kind {
    /// As in reports and tests.
    pub name: &'static str,
    /// What it is.
    pub label: Label,
    /// Whether its abuse is more than one connection a second while it lasts.
    pub fast: bool,
    /// What it does.
    pub definition: &'static str,
    /// How many there are in a mixed population.
    pub usual: u32,
    /// Whether it lies where no count of this kind can tell, and stays out of the goals. It is shown
    /// apart, so that everybody knows what not to expect.
    pub limit: bool,
    /// Makes one.
    pub make: fn(&'static Kind, &mut Maker<'_>) -> Host,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(self.name)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The kind of this name.
pub fn named(name: &str) -> &'static Kind {
    KINDS
        .iter()
        .find(|kind| kind.name == name)
        .unwrap_or_else(|| panic!("there is no kind {name}"))
}

const fn innocent(
    name: &'static str,
    usual: u32,
    make: fn(&'static Kind, &mut Maker<'_>) -> Host,
    definition: &'static str,
) -> Kind {
    Kind {
        name,
        label: Label::Innocent,
        fast: false,
        definition,
        usual,
        limit: false,
        make,
    }
}

const fn bot(
    name: &'static str,
    fast: bool,
    make: fn(&'static Kind, &mut Maker<'_>) -> Host,
    definition: &'static str,
) -> Kind {
    Kind {
        name,
        label: Label::Bot,
        fast,
        definition,
        usual: 3,
        limit: false,
        make,
    }
}

const fn beyond(kind: Kind) -> Kind {
    Kind {
        usual: 5,
        limit: true,
        ..kind
    }
}

/// All kinds, in the order of reports. Every bot but `behind_nat` is an ordinary user's machine as
/// well, before and after its abuse begins.
pub const KINDS: &[Kind] = &[
    innocent(
        "ordinary",
        400,
        innocents::ordinary,
        "A user's machine: in each of 8 to 14 working hours of a day 1 to 10 connections to 1 to 3 \
         servers, 1 or 2 messages in each. Every fifth has IPv6.",
    ),
    innocent(
        "busy",
        60,
        innocents::busy,
        "The same with 11 to 30 connections an hour, to 2 to 5 servers.",
    ),
    innocent(
        "mail_server",
        40,
        innocents::mail_server,
        "A small mail server that nobody has listed: 3 to 25 connections an hour, day and night, to 6 \
         to 15 servers; 5 % of the messages are rejected, half of the connections use TLS.",
    ),
    innocent(
        "relay",
        4,
        innocents::relay,
        "A mail relay, listed by the operator: 150 to 600 connections an hour, day and night, to 120 \
         servers.",
    ),
    innocent(
        "newsletter",
        1,
        innocents::newsletter,
        "A newsletter server, listed: once a day two connections a second for 20 minutes, to 300 \
         servers, 8 % of the messages rejected.",
    ),
    innocent(
        "monitor",
        1,
        innocents::monitor,
        "A monitoring host, listed: every 5 minutes a connection to each of 15 servers, with EHLO and \
         QUIT.",
    ),
    innocent(
        "inbound",
        5,
        innocents::inbound,
        "A mail server that only takes mail: 20 to 200 connections an hour from 200 clients of the \
         world.",
    ),
    innocent(
        "privacy",
        15,
        innocents::privacy,
        "A household in one /64 of IPv6, with 4 to 12 privacy addresses: 2 to 16 connections an hour \
         together.",
    ),
    innocent(
        "one_sided",
        20,
        innocents::one_sided,
        "A user's machine, 1 to 30 connections an hour, whose answers take another way: nothing of \
         them is seen.",
    ),
    innocent(
        "ladder",
        8,
        innocents::ladder,
        "A host that tries dead servers again and again: 8 to 20 connections an hour to 2 or 3 \
         servers, 85 % of them without an answer, each SYN sent 5 or 6 times more, after 1, 2, 4, 8, \
         16 and 32 s. NetFlow sees three flows in each.",
    ),
    innocent(
        "qinq",
        15,
        innocents::qinq,
        "An ordinary user's machine whose frames have two VLAN tags, of 802.1ad and of 802.1Q.",
    ),
    Kind {
        name: "spoofed",
        label: Label::Nobody,
        fast: true,
        definition: "A SYN flood from invented addresses, half of them in the operator's prefix: 200 a \
                     second for a minute at one server, each address once. There is no such host.",
        usual: 2,
        limit: false,
        make: innocents::spoofed,
    },
    bot(
        "hammer",
        true,
        bots::hammer,
        "One server hammered: 2 to 20 connections a second for 10 to 40 minutes, once to three times; \
         20 % refused, 30 % of the messages rejected.",
    ),
    bot(
        "once_each",
        false,
        bots::once_each,
        "150 servers once each, within 20 to 50 minutes, once a day.",
    ),
    bot(
        "slow",
        false,
        bots::slow,
        "Low and slow over days: 30 to 60 connections an hour to 300 servers, a message in each, 15 % \
         rejected.",
    ),
    bot(
        "slower",
        false,
        bots::slower,
        "Lower and slower: 10 to 25 connections an hour to 60 servers, a message in each, 40 % \
         rejected.",
    ),
    bot(
        "burst",
        true,
        bots::burst,
        "Bursts: 60 to 150 connections a second for 5 to 15 seconds, two to five times a day, to 50 \
         servers, 30 % refused.",
    ),
    bot(
        "many_messages",
        false,
        bots::many_messages,
        "2 to 8 connections an hour to 5 servers, with 18 messages in each; 15 % rejected.",
    ),
    bot(
        "behind_nat",
        false,
        bots::behind_nat,
        "A bot behind the same address as a relay of 150 to 400 connections an hour, which is listed \
         with a limit of its own, 1,500 an hour: for 6 hours a day 0.5 to 0.9 connections a second \
         more.",
    ),
    bot(
        "scanner",
        true,
        bots::scanner,
        "A scanner: address after address, 2 to 10 a second for 5 to 20 minutes, 85 % silent, 12 % \
         refused; no SYN is sent again.",
    ),
    bot(
        "syn_flood",
        true,
        bots::syn_flood,
        "A SYN flood of one host, from its own address: 100 to 400 a second for 30 to 120 seconds at \
         one server, no answer.",
    ),
    bot(
        "refused",
        false,
        bots::refused,
        "35 to 90 connections an hour to 30 servers, 90 % of them refused.",
    ),
    bot(
        "privacy_bot",
        false,
        bots::privacy_bot,
        "A bot in one /64 of IPv6 that changes its address after every 7 connections: 60 to 200 an \
         hour to 80 servers.",
    ),
    bot(
        "qinq_bot",
        false,
        bots::qinq_bot,
        "A bot whose frames have two VLAN tags: 0.05 to 0.3 connections a second for 2 to 6 hours, to \
         60 servers.",
    ),
    bot(
        "one_sided_bot",
        false,
        bots::one_sided_bot,
        "A bot whose answers take another way: 60 to 300 connections an hour to 40 servers.",
    ),
    beyond(innocent(
        "eager",
        5,
        limits::eager,
        "A user's machine with 25 connections in each working hour on average, and no ceiling.",
    )),
    beyond(innocent(
        "backlog",
        5,
        limits::backlog,
        "A small mail server that nobody has listed, which was cut off: its queue of about 80 messages \
         goes out within 20 minutes, to its 6 to 15 servers, once.",
    )),
    beyond(innocent(
        "mailing_list",
        5,
        limits::mailing_list,
        "A department's list server that nobody has listed: once a day about 60 connections within 10 \
         minutes, to 40 servers.",
    )),
    beyond(bot(
        "whisper",
        false,
        limits::whisper,
        "3 to 8 connections an hour to 20 servers, a message in each, 20 % rejected.",
    )),
    beyond(bot(
        "encrypted",
        false,
        limits::encrypted,
        "10 to 25 connections an hour to 15 servers, all with TLS: nobody can read that 40 % of the \
         messages are rejected.",
    )),
    beyond(bot(
        "one_server",
        false,
        limits::one_server,
        "10 to 25 connections an hour to one server, 10 % of the messages rejected.",
    )),
];
