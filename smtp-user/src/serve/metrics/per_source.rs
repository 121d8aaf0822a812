//! `/metrics/sources`: a few sources by address, for those who want series of them.
//!
//! Contract: only who is flagged, and as many of the most active as the configuration says; never more
//! than it allows, and what is left out is counted. A series is there as long as its source is flagged or
//! among the most active, and counts all sources of its prefix since counting began, so that it only
//! grows.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use smtp_common::flow::Totals;
use smtp_common::packet::Address;

use super::sample::{Metric, Samples, counter, gauge};
use crate::config::Metrics as Options;
use crate::model::prefix;
use crate::model::verdict::{Severity, Verdict};
use crate::source_list::SourceList;

/// Every metric of the page, in its order.
pub const SOURCE_METRICS: &[Metric] = &[
    counter(
        "smtpflow_source_connections_total",
        "Connections that the source opened.",
        &["src"],
        |scrape, to| each(scrape.per_source, to, |totals| totals.connections),
    ),
    counter(
        "smtpflow_source_answered_total",
        "SYN-ACKs that came back.",
        &["src"],
        |scrape, to| each(scrape.per_source, to, |totals| totals.answered),
    ),
    counter(
        "smtpflow_source_segments_total",
        "TCP segments to mail ports (c2s) and from mail ports (s2c).",
        &["src", "direction"],
        |scrape, to| {
            both(scrape.per_source, to, |totals| {
                (totals.c2s_packets, totals.s2c_packets)
            });
        },
    ),
    counter(
        "smtpflow_source_segment_bytes_total",
        "Layer-3 bytes of these segments.",
        &["src", "direction"],
        |scrape, to| {
            both(scrape.per_source, to, |totals| {
                (totals.c2s_bytes, totals.s2c_bytes)
            });
        },
    ),
    gauge(
        "smtpflow_source_flagged",
        "Open verdicts about the source.",
        &["src", "detector", "severity"],
        |scrape, to| {
            for (source, flags) in scrape.per_source.named() {
                for (detector, severity, verdicts) in flags {
                    to.with(&[&source, detector, severity.name()], *verdicts);
                }
            }
        },
    ),
    gauge(
        "smtpflow_sources_exported",
        "Sources on this page.",
        &[],
        |scrape, to| to.one(scrape.per_source.sources.len() as u64),
    ),
    gauge(
        "smtpflow_sources_omitted",
        "Flagged or most active sources that found no place on it (metrics.sources).",
        &[],
        |scrape, to| to.one(scrape.per_source.omitted.len() as u64),
    ),
];

fn each(page: &PerSource, to: &mut Samples, count: impl Fn(&Totals) -> u64) {
    for source in &page.sources {
        to.with(&[&prefix::show(&source.prefix)], count(&source.totals));
    }
}

fn both(page: &PerSource, to: &mut Samples, counts: impl Fn(&Totals) -> (u64, u64)) {
    for source in &page.sources {
        let (name, (c2s, s2c)) = (prefix::show(&source.prefix), counts(&source.totals));
        to.with(&[&name, "c2s"], c2s);
        to.with(&[&name, "s2c"], s2c);
    }
}

/// Open verdicts of a source, by detector and severity.
type Flags = Vec<(String, Severity, u64)>;

/// A source of the page.
#[derive(Debug)]
struct Source {
    /// As it is named.
    prefix: IpNet,
    /// Its first and last address as numbers, IPv4 as it is mapped into IPv6.
    range: (u128, u128),
    flags: Flags,
    totals: Totals,
}

/// What is on the page.
#[derive(Debug, Default)]
pub(super) struct PerSource {
    /// Those who are flagged, the worst first, then the most active.
    sources: Vec<Source>,
    omitted: HashSet<IpNet>,
}

impl PerSource {
    /// Chooses, and adds up. It looks at every source once or twice.
    pub(super) fn new(options: &Options, open: &[Verdict], list: &SourceList) -> Self {
        let mut page = Self::default();
        let mut worst: Vec<&Verdict> = open.iter().collect();
        worst.sort_by_key(|verdict| Reverse((verdict.severity, verdict.opened_at, verdict.id)));
        for verdict in worst {
            let prefix = shown_as(verdict.subject, options);
            if let Some(source) = page.enter(prefix, options) {
                source.flag(verdict);
            }
        }
        if options.top > 0 {
            for address in page.most_active(options.top as usize, list) {
                page.enter(shown_as(IpNet::from(address), options), options);
            }
        }
        page.add_up(list);
        page
    }

    /// The source with this prefix, or a place for it if there is one.
    fn enter(&mut self, prefix: IpNet, options: &Options) -> Option<&mut Source> {
        let range = range_of(prefix);
        let known = self
            .sources
            .iter()
            .position(|source| source.range.0 <= range.0 && range.1 <= source.range.1);
        if let Some(known) = known {
            return Some(&mut self.sources[known]);
        }
        if self.sources.len() >= options.sources as usize {
            self.omitted.insert(prefix);
            return None;
        }
        // Whoever lies inside is counted with it.
        let mut source = Source {
            prefix,
            range,
            flags: Flags::new(),
            totals: Totals::default(),
        };
        self.sources.retain_mut(|inner| {
            let inside = range.0 <= inner.range.0 && inner.range.1 <= range.1;
            if inside {
                source.flags.append(&mut inner.flags);
            }
            !inside
        });
        self.sources.push(source);
        self.sources.last_mut()
    }

    /// Those with the most connections in the last window that are not there yet.
    fn most_active(&self, number: usize, list: &SourceList) -> Vec<IpAddr> {
        let ranges = self.ranges();
        let mut most: Vec<(Reverse<u64>, IpAddr)> = Vec::with_capacity(number + 1);
        for source in list.iter() {
            let connections = Reverse(source.window().connections);
            let last = most.last().map(|(least, _)| *least);
            let full = most.len() == number;
            if connections.0 == 0 || (full && last.is_some_and(|last| last <= connections)) {
                continue;
            }
            if find(&ranges, source.address()).is_some() {
                continue;
            }
            let entry = (connections, IpAddr::from(source.address()));
            let place = most.partition_point(|other| *other < entry);
            most.insert(place, entry);
            most.truncate(number);
        }
        most.into_iter().map(|(_, address)| address).collect()
    }

    /// First and last address, and place, of all, by the first address. No two overlap.
    fn ranges(&self) -> Vec<(u128, u128, usize)> {
        let ranges = self.sources.iter().enumerate();
        let mut ranges: Vec<_> = ranges
            .map(|(place, source)| (source.range.0, source.range.1, place))
            .collect();
        ranges.sort_unstable();
        ranges
    }

    fn add_up(&mut self, list: &SourceList) {
        let ranges = self.ranges();
        if ranges.is_empty() {
            return;
        }
        for source in list.iter() {
            if let Some(place) = find(&ranges, source.address()) {
                self.sources[place].totals.merge(source.total());
            }
        }
    }

    fn named(&self) -> impl Iterator<Item = (String, &Flags)> {
        let sources = self.sources.iter();
        sources.map(|source| (prefix::show(&source.prefix), &source.flags))
    }
}

impl Source {
    fn flag(&mut self, verdict: &Verdict) {
        let same = |flag: &&mut (String, Severity, u64)| {
            flag.0 == verdict.detector && flag.1 == verdict.severity
        };
        match self.flags.iter_mut().find(same) {
            Some((_, _, verdicts)) => *verdicts += 1,
            None => self
                .flags
                .push((verdict.detector.clone(), verdict.severity, 1)),
        }
    }
}

/// The place of the range that this address is in.
fn find(ranges: &[(u128, u128, usize)], address: Address) -> Option<usize> {
    let number = u128::from_be_bytes(address.octets());
    let behind = ranges.partition_point(|(first, _, _)| *first <= number);
    let (_, last, place) = ranges.get(behind.checked_sub(1)?)?;
    (number <= *last).then_some(*place)
}

/// A prefix as it is shown: no longer than configured.
fn shown_as(prefix: IpNet, options: &Options) -> IpNet {
    let most = match prefix {
        IpNet::V4(_) => options.ipv4_prefix,
        IpNet::V6(_) => options.ipv6_prefix,
    };
    let length = prefix.prefix_len().min(most);
    IpNet::new(prefix.addr(), length).map_or(prefix, |shorter| shorter.trunc())
}

fn range_of(prefix: IpNet) -> (u128, u128) {
    let number = |address: IpAddr| u128::from_be_bytes(Address::from(address).octets());
    (number(prefix.network()), number(prefix.broadcast()))
}

#[cfg(test)]
mod tests;
