//! Complaints in CSV (RFC 4180), as a spreadsheet or a ticket system writes it.
//!
//! Contract: the first record names the fields, in any order; lines that begin with `#` are remarks. A
//! record that cannot be read is refused alone, with its line; names that are not known are an error of
//! the whole file, since what they mean is not known either.

use std::io::Read;

use csv::{ByteRecord, ReaderBuilder, Trim};

use super::{Intake, source};
use crate::model::complaint::{Complaint, ComplaintForm};
use crate::model::period::parse_time;

/// Most octets of a field: no good one comes near.
const MAX_FIELD: usize = 4096;
/// The fields; the first three must be there.
const FIELDS: [&str; 7] = [
    "address",
    "time",
    "kind",
    "reporter",
    "reference",
    "happened",
    "incidents",
];
const NEEDED: usize = 3;
/// Who complains where there is no field for it.
const NOBODY: &str = "unknown";

/// Whether a file that begins like this is one.
pub(super) fn is_one(start: &[u8]) -> bool {
    let mut lines = start.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let names = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    let names = names.map(|line| String::from_utf8_lossy(line).to_ascii_lowercase());
    names.is_some_and(|names| {
        let mut names = names.split(',').map(|name| name.trim().trim_matches('"'));
        names.any(|name| name == FIELDS[0])
    })
}

/// Reads all records; `name` is that of the file.
///
/// # Errors
///
/// It is no CSV, or its first record does not name the fields.
pub(super) fn read(name: &str, from: impl Read, intake: &mut Intake) -> Result<(), String> {
    let mut reader = ReaderBuilder::new()
        .trim(Trim::All)
        .comment(Some(b'#'))
        .flexible(true)
        .from_reader(from);
    let broken = |error: csv::Error| format!("it is no CSV: {error}");
    let columns = columns(reader.byte_headers().map_err(broken)?)?;
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(broken)? {
        if intake.is_full() {
            return Err(source::TOO_MANY.to_owned());
        }
        let line = record.position().map_or(0, csv::Position::line);
        intake.take(
            &|| format!("{name}, line {line}"),
            complaint(&record, &columns),
        );
    }
    Ok(())
}

/// Which field stands in which column.
fn columns(names: &ByteRecord) -> Result<Vec<usize>, String> {
    let mut columns = Vec::new();
    for name in names {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let name = name.trim_start_matches('\u{feff}').trim().trim_matches('"');
        let place = FIELDS.iter().position(|field| *field == name);
        let place = place.ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            format!(
                "there is no field {shown:?}: expected {}",
                FIELDS.join(", ")
            )
        })?;
        if columns.contains(&place) {
            return Err(format!("the field {name} is named twice"));
        }
        columns.push(place);
    }
    match (0..NEEDED).find(|place| !columns.contains(place)) {
        Some(missing) => Err(format!(
            "there is no field {}: the first record names {}, and may name {}",
            FIELDS[missing],
            FIELDS[..NEEDED].join(", "),
            FIELDS[NEEDED..].join(", ")
        )),
        None => Ok(columns),
    }
}

fn complaint(record: &ByteRecord, columns: &[usize]) -> Result<Complaint, String> {
    if record.len() != columns.len() {
        return Err(format!(
            "{} fields, but the first record names {}",
            record.len(),
            columns.len()
        ));
    }
    let mut fields = [""; FIELDS.len()];
    for (place, value) in columns.iter().zip(record) {
        let name = FIELDS[*place];
        if value.len() > MAX_FIELD {
            return Err(format!("{name} is longer than {MAX_FIELD} octets"));
        }
        fields[*place] =
            std::str::from_utf8(value).map_err(|_| format!("{name} is no text in UTF-8"))?;
    }
    let [
        address,
        time,
        kind,
        reporter,
        reference,
        happened,
        incidents,
    ] = fields;
    let happened_at = match happened {
        "" => None,
        text => Some(parse_time(text).map_err(|error| format!("happened: {error}"))?),
    };
    Ok(Complaint {
        address: address
            .parse()
            .map_err(|_| format!("address: {address:?} is no address"))?,
        at: parse_time(time).map_err(|error| format!("time: {error}"))?,
        happened_at,
        kind: kind.parse().map_err(|error| format!("kind: {error}"))?,
        form: ComplaintForm::Csv,
        reporter: match reporter {
            "" => NOBODY.to_owned(),
            reporter => reporter.to_owned(),
        },
        reference: reference.to_owned(),
        incidents: match incidents {
            "" => 1,
            text => text
                .parse()
                .map_err(|_| format!("incidents: {text:?} is no number"))?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BOT, intake};
    use super::*;
    use crate::model::complaint::ComplaintKind;

    fn of(text: &str) -> (Result<(), String>, super::super::Taken) {
        let mut intake = intake();
        let read = read("c.csv", text.as_bytes(), &mut intake);
        (read, intake.done())
    }

    #[test]
    fn records_are_read_in_the_order_that_the_first_one_says() {
        let (read, taken) = of(
            "\u{feff}Time, Kind ,\"address\",reporter,reference,happened,incidents\r\n\
             # from the ticket system\r\n\
             2026-11-24 14:00,spam,192.0.2.66,\"ISP.example\",\"T-1, late\",2026-11-23,3\r\n\
             \r\n\
             2026-11-24T14:00:00+08:00,syn_flood,::ffff:192.0.2.67,,,,\r\n",
        );
        read.expect("read");
        assert_eq!(taken.refusals, []);
        let [first, second] = &taken.complaints[..] else {
            panic!("{taken:?}");
        };
        assert_eq!(
            (first.address.to_string(), first.kind),
            (BOT.to_owned(), ComplaintKind::Spam)
        );
        assert_eq!(
            (&*first.reporter, &*first.reference),
            ("isp.example", "T-1, late")
        );
        assert_eq!((first.at, first.incidents), (1_795_528_800_000, 3));
        assert_eq!(first.happened_at, Some(1_795_392_000_000));
        assert_eq!(second.address.to_string(), "192.0.2.67");
        assert_eq!(
            (second.at, &*second.reporter),
            (1_795_500_000_000, "unknown")
        );
        assert_eq!(
            second.reference, "2026-11-24T06:00:00.000Z",
            "by which it is known again"
        );
    }

    #[test]
    fn a_bad_record_is_refused_alone_with_its_line() {
        let (read, taken) = of("address,time,kind\n\
             bot.example.org,2026-11-24,spam\n\
             192.0.2.66,soon,spam\n\
             192.0.2.66,2026-11-24,murder\n\
             192.0.2.66,2026-11-24\n\
             192.0.2.66,2026-11-24,spam,more\n\
             \"192.0.2.66\n\",2026-11-24,spam\n\
             198.51.100.9,2026-11-24,spam\n\
             192.0.2.66,2027-11-24,spam\n");
        read.expect("read");
        assert_eq!(taken.complaints.len(), 1, "{taken:?}");
        let told: Vec<_> = taken
            .refusals
            .iter()
            .map(|r| format!("{}: {}", r.place, r.why))
            .collect();
        for (i, expected) in [
            "line 2: address: \"bot.example.org\" is no address",
            "line 3: time: \"soon\" is no time",
            "line 4: kind: \"murder\" is no kind of complaint: expected one of spam, syn_flood",
            "line 5: 2 fields, but the first record names 3",
            "line 6: 4 fields",
            "line 9: 198.51.100.9 is none of your hosts",
            "line 10: 2027-11-24T00:00:00.000Z is no time of a complaint",
        ]
        .into_iter()
        .enumerate()
        {
            assert!(told[i].contains(expected), "{expected}: {told:#?}");
        }
    }

    #[test]
    fn a_first_record_that_names_no_fields_is_an_error_with_the_way_out() {
        for (text, expected) in [
            ("", "no field address"),
            (
                "192.0.2.66,2026-11-24,spam\n",
                "no field \"192.0.2.66\": expected address, time",
            ),
            (
                "address,time\n",
                "no field kind: the first record names address, time, kind",
            ),
            ("address,address,time,kind\n", "named twice"),
            ("address,time,kind,password\n", "no field \"password\""),
        ] {
            let (read, taken) = of(text);
            let error = read.expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(taken.complaints.is_empty());
        }
    }

    #[test]
    fn a_giant_field_is_refused() {
        let long = "x".repeat(MAX_FIELD + 1);
        let (read, taken) = of(&format!(
            "address,time,kind,reporter\n192.0.2.66,2026-11-24,spam,{long}\n192.0.2.66,2026-11-24,spam,a\n"
        ));
        read.expect("read");
        assert_eq!((taken.complaints.len(), taken.refused), (1, 1));
        // A quote that does not end takes the rest with it, and no more.
        let (read, taken) =
            of("address,time,kind\n192.0.2.66,2026-11-24,spam\n\"192.0.2.66,2026\n");
        read.expect("read");
        assert_eq!((taken.complaints.len(), taken.refused), (1, 1));
    }
}
