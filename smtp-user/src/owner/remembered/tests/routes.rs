//! Routes of routers.

use std::fs;

use proptest::prelude::*;

use super::super::routes;
use super::*;
use crate::owner::routes::{Hop, MOST_ROUTES, Routes};
use crate::owner::snmp;

fn router(name: &str) -> Router {
    let text = format!("name = {name:?}\naddress = \"192.0.2.1:161\"\ncommunity_file = \"/x\"\n");
    toml::from_str(&text).expect("a router")
}

fn reading(rows: &[(&str, Option<&str>)]) -> Reading {
    let mut table = Routes::new(MOST_ROUTES);
    for (destination, hop) in rows {
        let hop = Hop {
            next_hop: hop.map(ip),
            interface: None,
        };
        table
            .add(destination.parse().expect("a prefix"), 0, hop)
            .expect("room");
    }
    Reading {
        table: table.finish(),
        of: snmp::TABLES[1],
        unfit: 3,
    }
}

const ROWS: [(&str, Option<&str>); 7] = [
    ("0.0.0.0/0", Some("192.0.2.9")),
    ("10.0.0.0/8", Some("2001:db8::1")),
    ("10.1.2.3/32", Some("192.0.2.9")),
    ("192.0.2.0/24", None),
    ("::/0", Some("2001:db8::1")),
    ("2001:db8::/32", None),
    ("2001:db8::7/128", Some("192.0.2.9")),
];

#[test]
fn routes_come_back_as_they_were() {
    let folder = folder();
    let (border, other) = (router("border"), router("other"));
    let reading = reading(&ROWS);
    let at = SystemTime::now() - 400 * SECOND;
    remembered(folder.path()).keep_routes(&border, &reading, at, KEEP);
    let recall = |router: &Router, keep: Duration| remembered(folder.path()).routes(router, keep);
    let (kept, age) = recall(&border, KEEP).expect("routes");
    assert!((400..410).contains(&age.as_secs()), "{age:?}");
    assert_eq!(kept.of, "ipCidrRouteTable");
    let all = |reading: &Reading| reading.table.iter().collect::<Vec<_>>();
    assert_eq!(all(&kept), all(&reading));
    assert_eq!(
        kept.table.to(ip("10.1.2.3"))[0].next_hop,
        Some(ip("192.0.2.9"))
    );
    assert!(recall(&border, 400 * SECOND).is_none(), "too old");
    assert!(recall(&other, KEEP).is_none(), "another router");
    // Under the name of another one as well.
    let file = |router: &Router| folder.path().join(routes::name(router));
    fs::copy(file(&border), file(&other)).expect("copied");
    assert!(recall(&other, KEEP).is_none(), "another router");
    let future = SystemTime::now() + 60 * SECOND;
    remembered(folder.path()).keep_routes(&border, &reading, future, KEEP);
    assert!(recall(&border, KEEP).is_none(), "from the future");
}

#[test]
fn what_holds_no_routes_is_refused() {
    let border = router("border");
    let good = routes::encode(&border, &reading(&ROWS), 7);
    assert_eq!(routes::decode(&border, &good).map(|(_, at)| at), Ok(7));
    for length in 0..good.len() {
        routes::decode(&border, &good[..length]).expect_err("cut");
    }
    let longer = [&good[..], b"x"].concat();
    routes::decode(&border, &longer).expect_err("more behind it");
    // Behind the router and the time: the table, the count of next hops, the kind of the first one.
    for (place, octet) in [(40, 9), (41, 0xff), (45, 5)] {
        let mut bad = good.clone();
        bad[place] = octet;
        routes::decode(&border, &bad).expect_err("no table");
    }
}

proptest! {
    #[test]
    fn octets_of_any_kind_are_routes_or_refused(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let border = router("border");
        let mut octets = routes::encode(&border, &reading(&ROWS), 7);
        for (place, octet) in places {
            let place = place.index(octets.len());
            octets[place] = octet;
        }
        if let Ok((reading, _)) = routes::decode(&border, &octets) {
            prop_assert!(reading.table.len() <= ROWS.len());
            for route in reading.table.iter() {
                reading.table.to(route.destination.addr());
            }
        }
    }
}

#[test]
fn half_a_million_routes_are_kept_and_read_in_moments() {
    let folder = folder();
    let mut table = Routes::new(MOST_ROUTES);
    for i in 0..500_000_u32 {
        let network = std::net::Ipv4Addr::from((1 << 24) + (i << 8));
        let hop = Hop {
            next_hop: Some(IpAddr::from([192, 0, 2, (i % 200) as u8])),
            interface: None,
        };
        let net = ipnet::Ipv4Net::new(network, 24).expect("a length");
        table.add(net.into(), 0, hop).expect("room");
    }
    let reading = Reading {
        table: table.finish(),
        of: snmp::TABLES[0],
        unfit: 0,
    };
    let border = router("border");
    let begun = Instant::now();
    remembered(folder.path()).keep_routes(&border, &reading, SystemTime::now(), KEEP);
    let written = begun.elapsed();
    let size = fs::metadata(folder.path().join(routes::name(&border)))
        .expect("a file")
        .len();
    let begun = Instant::now();
    let (kept, _) = remembered(folder.path())
        .routes(&border, KEEP)
        .expect("routes");
    let read = begun.elapsed();
    println!("500,000 routes: {size} octets, kept in {written:?}, read in {read:?}");
    assert_eq!(kept.table.len(), 500_000);
    assert!(size < 9 * 500_000 + 2000, "{size}");
    // Far above what it takes, also without the compiler's help.
    assert!(
        written < 20 * SECOND && read < 20 * SECOND,
        "{written:?} {read:?}"
    );
}
