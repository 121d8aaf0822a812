//! A table of routes: what lies behind which next hop.
//!
//! Contract: bounded by a number of routes; a next hop is kept once, however many routes it has. Of routes
//! to the same destination those with the best metric stay, all of them where several are as good.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::prefixes::{Drafts, PrefixTable};
use crate::model::owner::Route;

/// Most routes of one router: twice what the largest tables of today have.
pub(super) const MOST_ROUTES: usize = 2_000_000;

/// What leads to a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    /// The neighbour; `None` if the destination is reached directly, or not at all.
    pub(super) next_hop: Option<IpAddr>,
    /// The interface.
    pub(super) interface: Option<String>,
}

/// Collects the routes of a table.
#[derive(Debug)]
pub(super) struct Routes {
    drafts: Drafts,
    hops: Vec<Hop>,
    numbers: HashMap<Hop, u32>,
    most: usize,
}

impl Routes {
    /// None yet, and not more than so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            drafts: Drafts::default(),
            hops: Vec::new(),
            numbers: HashMap::new(),
            most,
        }
    }

    /// Adds a route; an error if there are too many.
    pub(super) fn add(&mut self, destination: IpNet, metric: u32, hop: Hop) -> Result<(), String> {
        if self.drafts.len() == self.most {
            return Err(format!(
                "there are more than {} routes, which is more than is taken",
                self.most
            ));
        }
        let number = match self.numbers.get(&hop) {
            Some(number) => *number,
            None => {
                // Not more hops than routes, and those fit.
                let number = u32::try_from(self.hops.len()).unwrap_or(u32::MAX);
                self.hops.push(hop.clone());
                self.numbers.insert(hop, number);
                number
            }
        };
        self.drafts.add(destination, metric, number);
        Ok(())
    }

    /// The table.
    pub(super) fn finish(self) -> RouteTable {
        RouteTable::of(self.hops, self.drafts)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteTable {
    prefixes: PrefixTable,
    hops: Vec<Hop>,
}

impl RouteTable {
    /// One of these next hops, and of destinations with the number of their next hop.
    pub(super) fn of(hops: Vec<Hop>, rows: Drafts) -> Self {
        Self {
            prefixes: rows.finish(),
            hops,
        }
    }

    /// Its next hops.
    pub(super) fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Its destinations with the numbers of their next hops, the larger ones first where they begin together.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.prefixes.iter()
    }

    /// The routes to an address: those with its longest prefix, all if several are as good.
    pub(super) fn to(&self, address: IpAddr) -> Vec<Route> {
        let matches = self.prefixes.matches(address);
        let Some((longest, _)) = matches.first().copied() else {
            return Vec::new();
        };
        matches
            .into_iter()
            .take_while(|(prefix, _)| *prefix == longest)
            .map(|(prefix, hop)| self.route(prefix, hop))
            .collect()
    }

    /// All routes, by destination.
    pub(super) fn iter(&self) -> impl Iterator<Item = Route> {
        self.prefixes
            .iter()
            .map(|(prefix, hop)| self.route(prefix, hop))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    fn route(&self, destination: IpNet, hop: u32) -> Route {
        let hop = self.hops.get(hop as usize).cloned().unwrap_or_default();
        Route {
            destination,
            next_hop: hop.next_hop,
            interface: hop.interface,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use ipnet::Ipv4Net;

    use super::*;
    use crate::model::owner::slash_24s;

    fn prefix(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn hop(text: &str) -> Hop {
        Hop {
            next_hop: Some(text.parse().expect("an address")),
            interface: None,
        }
    }

    #[test]
    fn the_row_of_the_ancestor_has_four() {
        // 203.68.52.0 with 255.255.252.0 behind 203.71.2.209: 4.
        for (text, expected) in [
            ("203.68.52.0/22", Some(4)),
            ("0.0.0.0/0", Some(1 << 24)),
            ("10.0.0.0/8", Some(65_536)),
            ("192.0.2.0/24", Some(1)),
            ("192.0.2.128/25", Some(1)),
            ("2001:db8::/32", None),
        ] {
            assert_eq!(slash_24s(prefix(text)), expected, "{text}");
        }
    }

    #[test]
    fn routes_that_are_as_good_are_all_there() {
        let mut routes = Routes::new(10);
        routes
            .add(prefix("0.0.0.0/0"), 0, hop("192.0.2.9"))
            .expect("room");
        routes
            .add(prefix("10.0.0.0/8"), 5, hop("192.0.2.1"))
            .expect("room");
        routes
            .add(prefix("10.0.0.0/8"), 5, hop("192.0.2.2"))
            .expect("room");
        routes
            .add(prefix("10.0.0.0/8"), 9, hop("192.0.2.3"))
            .expect("room");
        let table = routes.finish();
        let to = |address: &str| -> Vec<_> {
            let routes = table.to(address.parse().expect("an address"));
            routes
                .into_iter()
                .filter_map(|route| route.next_hop)
                .collect()
        };
        let all =
            ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        assert_eq!(to("10.9.9.9"), all);
        assert_eq!(to("11.0.0.0").len(), 1);
        assert_eq!(table.len(), 3);
        assert_eq!(table.to("::1".parse().expect("an address")), []);
    }

    #[test]
    fn one_too_many_is_an_error() {
        let mut routes = Routes::new(1);
        routes
            .add(prefix("10.0.0.0/8"), 0, Hop::default())
            .expect("room");
        let error = routes
            .add(prefix("11.0.0.0/8"), 0, Hop::default())
            .expect_err("full");
        assert!(error.contains("more than 1 routes"), "{error}");
    }

    #[test]
    fn half_a_million_routes_are_made_and_looked_up_in_seconds() {
        let begun = Instant::now();
        let mut routes = Routes::new(MOST_ROUTES);
        for i in 0..500_000_u32 {
            // Every /24 from 1.0.0.0 on, in an order of its own.
            let number = (u64::from(i) * 48_271 % 500_000) as u32;
            let network = (1 << 24) + number * 256;
            let net = Ipv4Net::new(Ipv4Addr::from(network), 24).expect("a length");
            routes
                .add(net.into(), 0, hop(&format!("192.0.2.{}", i % 200)))
                .expect("room");
        }
        let table = routes.finish();
        assert_eq!((table.len(), table.hops.len()), (500_000, 200));
        for i in 0..500_000_u32 {
            let address = Ipv4Addr::from((1 << 24) + i * 256 + 7);
            assert_eq!(table.to(address.into()).len(), 1, "{address}");
        }
        // A hundred times what it takes in a debug build on a slow machine would still be caught.
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
    }
}
