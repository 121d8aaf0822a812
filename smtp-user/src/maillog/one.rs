//! What is known of one client, or how far the journal was read, out of the file that the agent keeps.
//!
//! Contract: of the file, which may be large, no more is held in memory than what is said of that client. It is the
//! agent's file, so what else stands in it is passed over and not checked.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::books::{DAY, NAME};
use super::figures::Figures;
use super::journal::follow::Place;
use crate::model::mail::KeptAddresses;

/// What the agent knows of a client from logs, of yesterday and today by the days of UTC; `now` is in seconds since
/// 1970. Of mail addresses there is no more than `kept` says. `None`: the agent has kept nothing yet.
///
/// # Errors
///
/// The file cannot be read.
pub fn client(
    folder: &Path,
    address: IpAddr,
    now: i64,
    kept: KeptAddresses,
) -> anyhow::Result<Option<Option<Figures>>> {
    let what = || what(folder);
    let name = address.to_canonical().to_string();
    let found = values(
        folder,
        [
            &["day"],
            &["joiner", "limits", "addresses"],
            &["yesterday", "figures", &name],
            &["joiner", "clients", "figures", &name],
        ],
    )?;
    let Some([day, from, before, last]) = found else {
        return Ok(None);
    };
    let day: i64 = serde_json::from_value(day).with_context(what)?;
    let from: KeptAddresses = serde_json::from_value(from).with_context(what)?;
    let of_day = |figures| -> anyhow::Result<Option<Figures>> {
        serde_json::from_value(figures).with_context(what)
    };
    let (before, last) = (of_day(before)?, of_day(last)?);
    let figures = match now.div_euclid(DAY) - day {
        ..=0 => match (before, last) {
            (Some(mut before), Some(last)) => {
                before.merge(last);
                Some(before)
            }
            (before, last) => before.or(last),
        },
        1 => last,
        _ => None,
    };
    Ok(Some(figures.map(|mut figures| {
        figures.narrow(from, kept);
        figures
    })))
}

/// How far the journal was read when the books were kept. `None`: it was not followed.
///
/// # Errors
///
/// The file cannot be read.
pub fn journal(folder: &Path) -> anyhow::Result<Option<Place>> {
    match values(folder, [&["journal"]])? {
        Some([place]) => serde_json::from_value(place).with_context(|| what(folder)),
        None => Ok(None),
    }
}

fn what(folder: &Path) -> String {
    format!(
        "cannot read what is known from mail logs in {}",
        folder.join(NAME).display()
    )
}

/// The values at the ends of these ways, null where there is none; `None` if there is no file.
fn values<const N: usize>(folder: &Path, ways: [&[&str]; N]) -> anyhow::Result<Option<[Value; N]>> {
    let what = || what(folder);
    let file = match File::open(folder.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.with_context(what)?,
    };
    let mut found = [const { Value::Null }; N];
    let mut read = serde_json::Deserializer::from_reader(BufReader::new(file));
    let wanted: Vec<Way<'_>> = ways.into_iter().enumerate().collect();
    let object = Object {
        wanted: &wanted,
        found: &mut found,
    };
    object.deserialize(&mut read).with_context(what)?;
    Ok(Some(found))
}

/// The number of a value, and the names on the way to it that are still to go.
type Way<'w> = (usize, &'w [&'w str]);

/// Takes some values out of an object.
struct Object<'w, 'f> {
    wanted: &'f [Way<'w>],
    found: &'f mut [Value],
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { wanted, found } = self;
        while let Some(key) = map.next_key::<String>()? {
            let mut inside = Vec::new();
            let mut here = None;
            for (number, left) in wanted {
                match left.split_first() {
                    Some((first, [])) if *first == key => here = Some(*number),
                    Some((first, rest)) if *first == key => inside.push((*number, rest)),
                    _ => {}
                }
            }
            if let Some(place) = here.and_then(|number: usize| found.get_mut(number)) {
                *place = map.next_value()?;
            } else if inside.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Object {
                    wanted: &inside,
                    found: &mut *found,
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::books::Books;
    use super::super::join::Limits;
    use super::*;

    /// 2026-11-27T12:00:00Z.
    const NOW: i64 = 1_795_780_800;

    fn books(clients: u8) -> Books {
        let limits = Limits {
            queue_ids: 100,
            keep_open: DAY,
            sources: 100,
            addresses: KeptAddresses::Full,
        };
        let mut books = Books::new(TimeZone::UTC, NOW, limits);
        for day in [0, 1] {
            books.set_now(NOW + day * DAY);
            for client in 1..=clients {
                let date = 27 + day;
                let id = format!("4ABCDEF1{day}{client}");
                for line in [
                    format!(
                        "Nov {date} 10:00:00 mx postfix/smtpd[1]: {id}: client=x[192.0.2.{client}]"
                    ),
                    format!(
                        "Nov {date} 10:00:00 mx postfix/qmgr[1]: {id}: from=<ann@example.org>, size=10, nrcpt=1 \
                         (queue active)"
                    ),
                ] {
                    books.line(line.as_bytes());
                }
            }
        }
        books
    }

    #[test]
    fn what_is_known_of_one_is_what_the_books_say_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let kept = KeptAddresses::Full;
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let known = |last, day| client(path, address(last), NOW + day * DAY, kept).expect("read");
        assert_eq!(known(1, 0), None, "there are no books");
        let books = books(9);
        books.save(path).expect("saved");
        let all = books.clients();
        assert_eq!(all.len(), 9);
        for last in 1..=9 {
            assert_eq!(known(last, 1), Some(all.get(&address(last)).cloned()));
        }
        assert_eq!(all[&address(1)].messages, 2);
        assert_eq!(known(10, 1), Some(None));
        // Days that are over are forgotten, also if the agent is not there to do so.
        let messages = |day| known(1, day).flatten().map(|figures| figures.messages);
        assert_eq!([messages(2), messages(3)], [Some(1), None]);
        // Less is kept now than then.
        let less = client(path, address(1), NOW + DAY, KeptAddresses::None).expect("read");
        let less = less.flatten().expect("figures");
        assert!(less.senders.is_empty() && less.latest.iter().all(|one| one.sender.is_none()));
        std::fs::write(path.join(NAME), "{\"day\": 1, ").expect("written");
        let error = client(path, address(1), NOW, kept).expect_err("torn");
        assert!(format!("{error:#}").contains("books.json"), "{error:#}");
    }
}
