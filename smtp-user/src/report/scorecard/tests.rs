//! Complaints against verdicts.

use super::super::cases::Cases;
use super::super::cases::tests::{DAY, lived, verdict};
use super::super::document::{Document, Form, Table};
use super::*;
use crate::detect::Settings;
use crate::model::complaint::tests::complaint;
use crate::model::verdict::VerdictState;

const HOUR: u64 = 3_600_000;
/// 2026-11-01T00:00:00Z.
const NOVEMBER: u64 = 1_793_491_200_000;

fn policy() -> Policy {
    let local =
        ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"].map(|p| p.parse().expect("a prefix"));
    Policy::new(Settings::default(), local.into(), Vec::new())
}

fn november() -> Period {
    Month::of(NOVEMBER).period()
}

type Lived = (Verdict, Vec<VerdictEvent>);

fn opened(id: u64, subject: &str, at: u64) -> Lived {
    lived(verdict(id, subject, "volume", at), &[])
}

fn scorecard(complaints: Vec<Complaint>, verdicts: Vec<Lived>) -> Scorecard {
    let cases = Cases::of(&verdicts, november());
    let record = Record {
        complaints,
        verdicts,
    };
    Scorecard::of(&record, november(), &cases.hosts, &policy())
}

fn flagged(complaint: &Complaint, verdicts: &[Lived]) -> Flagged {
    Flags::of(verdicts).of_complaint(complaint)
}

/// The months of the system that smtpflow descends from: hosts that were flagged before, of those that
/// were reported.
pub(crate) const ANCESTOR: [(u64, u64); 5] = [(12, 16), (15, 22), (6, 8), (7, 8), (7, 9)];

/// Complaints and verdicts of such months, of which November is the last.
pub(crate) fn months_of_the_ancestor() -> (Vec<Complaint>, Vec<Lived>) {
    let (mut complaints, mut verdicts) = (Vec::new(), Vec::new());
    for (number, (before, reported)) in ANCESTOR.into_iter().enumerate() {
        let month = Month::of(NOVEMBER).plus(number as i32 - 4);
        for host in 0..reported {
            let address = format!("10.0.{number}.{host}");
            let at = month.start() + 10 * DAY + host * HOUR;
            complaints.push(complaint(&address, at));
            // Somebody else complains later, which makes no second host.
            complaints.push(complaint(&address, at + 2 * DAY));
            let id = verdicts.len() as u64 + 1;
            let subject = format!("{address}/32");
            if host < before {
                verdicts.push(opened(id, &subject, at - (host + 1) * HOUR));
            } else if host % 2 == 0 {
                verdicts.push(opened(id, &subject, at + HOUR));
            }
        }
    }
    (complaints, verdicts)
}

/// The cells of a column of a table, by its row.
fn column(table: &Table, name: &str) -> Vec<String> {
    let place = table.columns.iter().position(|column| column.name == name);
    let place = place.unwrap_or_else(|| panic!("no {name}"));
    table.rows.iter().map(|row| row[place].clone()).collect()
}

#[test]
fn the_months_of_the_ancestor_come_out_figure_by_figure() {
    let (complaints, verdicts) = months_of_the_ancestor();
    let card = scorecard(complaints, verdicts);
    let [_, months, _] = card.tables();
    assert_eq!(
        column(&months, "month"),
        ["2026-07", "2026-08", "2026-09", "2026-10", "2026-11", "all"]
    );
    assert_eq!(column(&months, "spam"), ["16", "22", "8", "8", "9", "63"]);
    assert_eq!(
        column(&months, "flagged_before"),
        ["12", "15", "6", "7", "7", "47"]
    );
    assert_eq!(
        column(&months, "recall_percent"),
        ["75.0", "68.2", "75.0", "87.5", "77.8", "74.6"]
    );
    // By the formula, with another program's arithmetic.
    assert_eq!(
        column(&months, "low"),
        ["50.5", "47.3", "40.9", "52.9", "45.3", "62.7"]
    );
    assert_eq!(
        column(&months, "high"),
        ["89.8", "83.6", "92.9", "97.8", "93.7", "83.7"]
    );
    assert_eq!(column(&months, "median_lead")[4], "4h");
    let json = serde_json::to_value(card.json()).expect("JSON");
    assert_eq!(json["all"]["mail"]["recall"]["part"], 47);
    assert_eq!(json["all"]["mail"]["recall"]["whole"], 63);
    assert_eq!(json["months"][1]["kinds"][0]["hosts"], 22);
    assert_eq!(json["mail"]["hosts"], 9);
    assert_eq!(json["complaints"], 18);
}

#[test]
fn a_host_was_flagged_before_after_or_never() {
    use VerdictState::{FalsePositive, New, Resolved};
    let at = NOVEMBER + 20 * DAY;
    let about = complaint("192.0.2.66", at);
    let bot = |opened: u64| verdict(1, "192.0.2.66/32", "volume", opened);
    for (lived_of, expected) in [
        (lived(bot(at - HOUR), &[]), Flagged::Before(HOUR)),
        (lived(bot(at), &[]), Flagged::Before(0)),
        (lived(bot(at + 1), &[]), Flagged::After(1)),
        (lived(bot(at + NEAR), &[]), Flagged::After(NEAR)),
        (lived(bot(at + NEAR + 1), &[]), Flagged::Never),
        // It was over; within 30 days the same bot, and before that another story.
        (
            lived(bot(at - 2 * NEAR), &[(Resolved, at - NEAR)]),
            Flagged::Before(2 * NEAR),
        ),
        (
            lived(bot(at - 2 * NEAR), &[(Resolved, at - NEAR - 1)]),
            Flagged::Never,
        ),
        // It is open since long.
        (lived(bot(at - 100 * DAY), &[]), Flagged::Before(100 * DAY)),
        // It came back: before the complaint, or only after it.
        (
            lived(
                bot(at - 90 * DAY),
                &[(Resolved, at - 80 * DAY), (New, at - DAY)],
            ),
            Flagged::Before(DAY),
        ),
        (
            lived(
                bot(at - 90 * DAY),
                &[(Resolved, at - 80 * DAY), (New, at + DAY)],
            ),
            Flagged::After(DAY),
        ),
        (
            lived(bot(at - HOUR), &[(FalsePositive, at + 1)]),
            Flagged::Never,
        ),
    ] {
        assert_eq!(
            flagged(&about, std::slice::from_ref(&lived_of)),
            expected,
            "{lived_of:?}"
        );
    }
    let other = opened(2, "192.0.2.67/32", at - HOUR);
    assert_eq!(
        flagged(&about, &[other]),
        Flagged::Never,
        "that was somebody else"
    );
    // The earliest of all its verdicts counts.
    let two = [
        opened(1, "192.0.2.66/32", at - HOUR),
        opened(2, "192.0.2.66/32", at - DAY),
    ];
    assert_eq!(flagged(&about, &two), Flagged::Before(DAY));
}

#[test]
fn addresses_of_a_prefix_that_is_judged_as_one_are_one_host() {
    let at = NOVEMBER + DAY;
    let complaints = vec![
        complaint("2001:db8::1:1", at),
        complaint("2001:db8::1:2", at + HOUR),
        complaint("2001:db8:0:1::1", at),
    ];
    let verdicts = vec![opened(1, "2001:db8::/64", at - HOUR)];
    let card = scorecard(complaints, verdicts);
    let mail = &card.period.mail;
    assert_eq!((mail.hosts(), mail.before, mail.never), (2, 1, 1));
    assert_eq!(card.unconfirmed, Proportion { part: 0, whole: 1 });
}

#[test]
fn every_kind_has_its_own_row_and_mail_counts_a_host_once() {
    let at = NOVEMBER + DAY;
    let of = |address: &str, kind, at| Complaint {
        kind,
        ..complaint(address, at)
    };
    use ComplaintKind::{Infringement, Other, Spam, SynFlood};
    let complaints = vec![
        of("192.0.2.66", Spam, at),
        of("192.0.2.66", SynFlood, at - 2 * HOUR),
        of("192.0.2.67", SynFlood, at),
        of("192.0.2.68", Infringement, at),
        of("192.0.2.69", Other, at),
        // Of another month, and of none.
        of("192.0.2.70", Spam, NOVEMBER - 1),
        of("192.0.2.71", Spam, november().to),
    ];
    let card = scorecard(complaints, vec![opened(1, "192.0.2.66/32", at - HOUR)]);
    let [kinds, months, _] = card.tables();
    assert_eq!(
        column(&kinds, "kind"),
        [
            "spam",
            "SYN flood",
            "infringement",
            "other",
            "spam and SYN flood"
        ]
    );
    assert_eq!(column(&kinds, "reported"), ["1", "2", "1", "1", "2"]);
    // As a flood it was reported before it was flagged, as spam after that: the first counts.
    assert_eq!(column(&kinds, "flagged_before"), ["1", "0", "0", "0", "0"]);
    assert_eq!(column(&kinds, "after"), ["0", "1", "0", "0", "1"]);
    assert_eq!(
        column(&kinds, "recall_percent"),
        ["100.0", "0.0", "0.0", "0.0", "0.0"]
    );
    assert_eq!(column(&months, "month"), ["2026-10", "2026-11", "all"]);
    assert_eq!(column(&months, "spam_or_syn_flood"), ["1", "2", "3"]);
    assert_eq!(column(&months, "infringement"), ["0", "1", "1"]);
}

#[test]
fn who_was_flagged_and_not_reported_is_unconfirmed() {
    let at = NOVEMBER + DAY;
    let verdicts = (66..=70)
        .map(|host| opened(host, &format!("192.0.2.{host}/32"), at))
        .collect();
    let complaints = vec![
        complaint("192.0.2.66", at + HOUR),
        complaint("192.0.2.67", NOVEMBER - NEAR),
        complaint("192.0.2.68", NOVEMBER - NEAR - 1),
        complaint("192.0.2.69", november().to + NEAR - 1),
        Complaint {
            kind: ComplaintKind::Infringement,
            ..complaint("192.0.2.70", at)
        },
    ];
    let card = scorecard(complaints, verdicts);
    assert_eq!(card.unconfirmed, Proportion { part: 2, whole: 5 });
    let [_, _, flags] = card.tables();
    let facts: Vec<_> = flags.rows.iter().map(|row| row.join(" ")).collect();
    assert_eq!(facts[0], "flagged 5");
    assert_eq!(facts[3], "unconfirmed_percent 40.0 (11.8 to 76.9)");
    assert_eq!(facts[6], "precision_percent - (-)");
}

#[test]
fn precision_is_what_people_have_said_and_nobody_else() {
    use VerdictState::{Acknowledged, FalsePositive, Notified, Resolved};
    let at = NOVEMBER + DAY;
    let of = |host: u64, detector: &str, changes: &[VerdictState]| {
        let subject = format!("192.0.2.{host}/32");
        let changes: Vec<_> = changes.iter().map(|state| (*state, at + HOUR)).collect();
        lived(verdict(host, &subject, detector, at), &changes)
    };
    let mut by_itself = of(70, "volume", &[Resolved]);
    by_itself.1[1].who = crate::model::person::SMTPFLOW.to_owned();
    let mut relay = of(71, "volume", &[Resolved]);
    relay.1[1].why = "known relay 192.0.2.71: the relay of the staff".to_owned();
    let mut long_ago = of(72, "volume", &[Notified]);
    (long_ago.0.opened_at, long_ago.0.last_at) = (NOVEMBER - DAY, NOVEMBER - HOUR);
    let verdicts = vec![
        of(66, "volume", &[Notified]),
        of(67, "volume", &[Acknowledged, Resolved]),
        of(68, "volume", &[FalsePositive]),
        // Wrong by one detector, and right by another: rightly flagged.
        of(69, "volume", &[FalsePositive]),
        of(69, "fanout", &[Notified, Resolved]),
        // Ended, and called wrong afterwards.
        of(73, "volume", &[Resolved, FalsePositive]),
        of(74, "volume", &[Acknowledged]),
        by_itself,
        relay,
        long_ago,
    ];
    let judged = Judged::of(&verdicts, november());
    let right = |host: u64| {
        let subject: IpNet = format!("192.0.2.{host}/32").parse().expect("a prefix");
        judged.right(&subject)
    };
    assert_eq!(
        [66, 67, 68, 69, 73].map(right),
        [true, true, false, true, false].map(Some)
    );
    assert_eq!([70, 71, 72, 74].map(right), [None; 4]);
    assert_eq!(judged.precision(), Proportion { part: 3, whole: 5 });
}

#[test]
fn a_month_without_complaints_has_tables_that_say_so() {
    let card = scorecard(Vec::new(), vec![opened(1, "192.0.2.66/32", NOVEMBER + DAY)]);
    assert!(card.months.is_empty());
    assert_eq!(card.unconfirmed, Proportion { part: 1, whole: 1 });
    let document = Document {
        tables: card.tables().into(),
        ..Document::default()
    };
    for form in [Form::Text, Form::Csv, Form::Html] {
        let text = document.render(form);
        assert!(!text.contains("NaN"), "{text}");
    }
    let json = serde_json::to_value(card.json()).expect("JSON");
    assert_eq!(json["mail"]["recall"]["share"], serde_json::Value::Null);
    assert_eq!(
        json["mail"]["median_lead_milliseconds"],
        serde_json::Value::Null
    );
}

#[test]
fn a_period_of_no_month_is_scored_by_its_own_ends() {
    let at = NOVEMBER + DAY;
    let period = Period {
        from: at,
        to: at + DAY,
    };
    let record = Record {
        complaints: vec![
            complaint("192.0.2.66", at),
            complaint("192.0.2.67", at + DAY),
        ],
        verdicts: Vec::new(),
    };
    let card = Scorecard::of(&record, period, &[], &policy());
    assert_eq!((card.complaints, card.period.mail.hosts()), (1, 1));
    assert_eq!(card.all.mail.hosts(), 2, "of the whole month");
}
