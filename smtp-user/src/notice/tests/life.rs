//! Cases from their first notice to their last.

use super::*;
use crate::notice::{QuietHours, Silence, Wait};

const IT: &str = "it@dep.example";
const A: (&str, &str) = ("192.0.2.1/32", IT);
const B: (&str, &str) = ("192.0.2.2/32", IT);

#[test]
fn nothing_is_made_unless_it_is_enabled() {
    let mut policy = automatic();
    policy.settings.enabled = false;
    let mut desk = Desk::new(policy);
    let flagged = desk.flagged(&[A]);
    assert_eq!(desk.look(&flagged), Plan::default());
}

#[test]
fn nothing_leaves_when_it_is_switched_off_or_a_host_is_no_own_one_any_more() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    let notice = desk.book.notices[0].clone();
    let local = std::mem::take(&mut desk.policy.local);
    assert_eq!(desk.send_all(), 0);
    let shut = |desk: &Desk| Gate::of(&desk.policy, &desk.book, &notice, desk.now);
    assert_eq!(shut(&desk), Gate::Shut(Wait::Foreign(host(A.0))));
    desk.policy.local = local;
    desk.policy.settings.enabled = false;
    assert_eq!(desk.send_all(), 0);
    assert_eq!(shut(&desk), Gate::Shut(Wait::Off));
    desk.policy.settings.enabled = true;
    assert_eq!(desk.send_all(), 1);
}

#[test]
fn nothing_leaves_that_nobody_has_approved() {
    let mut desk = Desk::new(policy());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Waiting, 1)]);
    assert_eq!(desk.send_all(), 0);
    let notice = desk.book.notices[0].clone();
    assert_eq!(
        Gate::of(&desk.policy, &desk.book, &notice, desk.now),
        Gate::Shut(Wait::Approval)
    );
    desk.approve_all();
    assert_eq!(desk.send_all(), 1);
    assert_eq!(desk.kinds(), [NoticeKind::First]);
    assert!(desk.book.notices.is_empty());
    assert_eq!(desk.book.cases[0].hosts[0].told_at, Some(NOW));
}

#[test]
fn an_owner_gets_one_notice_about_all_of_its_hosts() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[
        A,
        B,
        ("192.0.2.3/32", "IT@DEP.example"),
        ("192.0.2.4/32", "other@x.example"),
    ]);
    desk.look(&flagged);
    let mut open = desk.open();
    open.sort();
    assert_eq!(
        open,
        [
            (NoticeKind::First, NoticeState::Approved, 1),
            (NoticeKind::First, NoticeState::Approved, 3)
        ]
    );
    // Nothing new, nothing made.
    let flagged = desk.flagged(&[A, B]);
    assert_eq!(
        desk.look(&flagged).changes.len(),
        0,
        "facts of the same time"
    );
}

#[test]
fn what_has_not_left_gives_way_to_what_says_more() {
    let mut desk = Desk::new(policy());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.now += HOUR;
    let flagged = desk.flagged(&[A, B]);
    desk.look(&flagged);
    assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Waiting, 2)]);
    assert_eq!(desk.all[0].state, NoticeState::Superseded);
    assert_ne!(desk.all[0].message_id, desk.all[1].message_id);
}

#[test]
fn who_was_told_is_told_of_further_hosts_in_the_same_thread() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send_all();
    desk.now += HOUR;
    let flagged = desk.flagged(&[A, B]);
    desk.look(&flagged);
    desk.send_all();
    assert_eq!(desk.kinds(), [NoticeKind::First, NoticeKind::More]);
    let (_, more) = &desk.arrived[1];
    assert_eq!(more.hosts, [host(B.0)]);
    let text = String::from_utf8(more.message.clone()).expect("ASCII");
    let first = &desk.arrived[0].1.message_id;
    assert!(text.contains(&format!("In-Reply-To: <{first}>")), "{text}");
}

#[test]
fn a_host_that_goes_on_is_told_of_again_after_three_days_and_others_get_a_copy() {
    let mut desk = Desk::new(automatic());
    for hour in 0..=145 {
        desk.now = NOW + hour * HOUR;
        let flagged = desk.flagged(&[A]);
        desk.look(&flagged);
        desk.send_all();
    }
    assert_eq!(
        desk.kinds(),
        [
            NoticeKind::First,
            NoticeKind::Escalation,
            NoticeKind::Escalation
        ]
    );
    let times: Vec<u64> = desk
        .arrived
        .iter()
        .map(|(at, _)| (at - NOW) / HOUR)
        .collect();
    assert_eq!(times, [0, 72, 144]);
    let to: Vec<_> = desk.arrived[1]
        .1
        .recipients
        .iter()
        .map(|to| &*to.mail)
        .collect();
    assert_eq!(to, [IT, "security@example.org"]);
    assert_eq!(desk.arrived[0].1.recipients.len(), 1);
    assert_eq!(desk.book.cases[0].pressed, 2);
}

#[test]
fn a_host_whose_rule_holds_no_more_is_not_said_to_go_on() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send_all();
    desk.now += 80 * HOUR;
    // Its verdict is open still, but nothing has happened since.
    desk.look(&flagged);
    assert!(desk.open().is_empty());
}

#[test]
fn when_all_is_quiet_the_owner_is_told_so_once_and_the_case_is_closed() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A, B]);
    desk.look(&flagged);
    desk.send_all();
    desk.now += 23 * HOUR;
    let mut subjects = desk.seen(&[A], Standing::Quiet);
    subjects.extend(desk.flagged(&[B]));
    desk.look(&subjects);
    assert!(desk.open().is_empty(), "one goes on");
    let quiet = desk.seen(&[A, B], Standing::Quiet);
    desk.look(&quiet);
    assert!(
        desk.open().is_empty(),
        "another one about these hosts left within the day"
    );
    desk.now += HOUR;
    desk.look(&quiet);
    desk.look(&quiet);
    desk.send_all();
    assert_eq!(desk.kinds(), [NoticeKind::First, NoticeKind::Solved]);
    assert!(desk.book.cases.is_empty());
    // And a new one is another case.
    desk.now += 25 * HOUR;
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send_all();
    assert_eq!(desk.kinds()[2..], [NoticeKind::First]);
    assert_ne!(desk.arrived[0].1.case, desk.arrived[2].1.case);
}

#[test]
fn a_mistake_is_taken_back() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send_all();
    desk.now += 24 * HOUR;
    let wrong = desk.seen(&[A], Standing::Mistaken);
    desk.look(&wrong);
    desk.send_all();
    assert_eq!(desk.kinds(), [NoticeKind::First, NoticeKind::Withdrawn]);
}

#[test]
fn what_is_not_so_any_more_does_not_leave() {
    for standing in [Standing::Quiet, Standing::Mistaken] {
        let mut desk = Desk::new(policy());
        let flagged = desk.flagged(&[A, B]);
        desk.look(&flagged);
        let mut subjects = desk.seen(&[A], standing);
        subjects.extend(desk.flagged(&[B]));
        desk.look(&subjects);
        assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Waiting, 1)]);
        assert_eq!(desk.book.notices[0].hosts, [host(B.0)]);
        // Nothing was told, so nothing is said at the end.
        let over = desk.seen(&[A, B], standing);
        desk.look(&over);
        assert!(desk.open().is_empty());
        assert!(desk.book.cases.is_empty());
    }
}

#[test]
fn solved_does_not_leave_when_it_begins_again() {
    let mut desk = Desk::new(policy());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.approve_all();
    desk.send_all();
    desk.now += 24 * HOUR;
    let quiet = desk.seen(&[A], Standing::Quiet);
    desk.look(&quiet);
    assert_eq!(desk.open(), [(NoticeKind::Solved, NoticeState::Waiting, 1)]);
    desk.now += HOUR;
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Waiting, 1)]);
}

#[test]
fn hosts_that_may_not_be_told_about_are_named_with_the_reason() {
    let mut desk = Desk::new(automatic());
    let mut subjects = desk.flagged(&[("198.51.100.1/32", IT), A, B]);
    subjects[1].facts.conversations = 0;
    let plan = desk.look(&subjects);
    assert_eq!(
        plan.silences,
        [
            (
                host(A.0),
                Silence::Spoofable {
                    conversations: 0,
                    needed: 20
                }
            ),
            (host("198.51.100.1/32"), Silence::Foreign),
        ]
    );
    assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Approved, 1)]);
}

#[test]
fn nothing_leaves_in_quiet_hours() {
    let mut policy = automatic();
    policy.settings.quiet_hours = Some(QuietHours::parse("22:00-07:00").expect("hours"));
    let mut desk = Desk::new(policy);
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    for minutes in 0..420 {
        desk.now = NOW + minutes * 60_000;
        assert_eq!(desk.send_all(), 0, "minute {minutes}");
    }
    let notice = desk.book.notices[0].clone();
    assert_eq!(
        Gate::of(&desk.policy, &desk.book, &notice, desk.now),
        Gate::Shut(Wait::Quiet(NOW + 7 * HOUR))
    );
    desk.now = NOW + 7 * HOUR;
    assert_eq!(desk.send_all(), 1);
}

#[test]
fn what_is_beyond_the_limit_of_an_hour_waits_and_the_operator_gets_a_digest() {
    let mut desk = Desk::new(automatic());
    let owners: Vec<(String, String)> = (1..=50)
        .map(|number| {
            (
                format!("192.0.2.{number}/32"),
                format!("o{number}@x.example"),
            )
        })
        .collect();
    let owners: Vec<(&str, &str)> = owners
        .iter()
        .map(|(host, mail)| (&**host, &**mail))
        .collect();
    let flagged = desk.flagged(&owners);
    for minute in 0..=180 {
        desk.now = NOW + minute * 60_000;
        desk.look(&flagged);
        desk.send_all();
    }
    let per_hour: Vec<usize> = (0..3)
        .map(|hour| {
            let of = |at: &u64| (at - NOW) / HOUR == hour;
            desk.arrived.iter().filter(|(at, _)| of(at)).count()
        })
        .collect();
    // 19 and a digest, 19 and a digest, the last 12.
    assert_eq!(per_hour, [20, 20, 12]);
    let digests: Vec<&Notice> = desk
        .arrived
        .iter()
        .map(|(_, notice)| notice)
        .filter(|notice| notice.kind == NoticeKind::Digest)
        .collect();
    assert_eq!(digests.len(), 2);
    assert_eq!(digests[0].recipients[0].mail, "noc@example.org");
    assert_eq!(digests[0].subject, "Notices to owners that wait: 31");
    assert_eq!(digests[1].subject, "Notices to owners that wait: 12");
}

#[test]
fn a_relay_that_is_down_for_half_an_hour_loses_and_doubles_nothing() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A, ("192.0.2.9/32", "o@x.example")]);
    let mut attempts = 0;
    for minute in 0..120 {
        desk.now = NOW + minute * 60_000;
        desk.look(&flagged);
        attempts += desk.send(|_, _| match minute {
            0..30 => Outcome::Later,
            _ => Outcome::Taken,
        });
    }
    assert_eq!(desk.arrived.len(), 2);
    // At 0, 1, 3, 8, 18 and 38 minutes.
    assert_eq!(attempts, 2 * 6);
    assert!(desk.arrived.iter().all(|(at, _)| *at == NOW + 38 * 60_000));
}

#[test]
fn what_may_have_arrived_is_tried_again_with_the_same_message_and_not_within_the_hour() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    for minute in 0..=300 {
        desk.now = NOW + minute * 60_000;
        desk.look(&flagged);
        desk.send(|_, _| match minute {
            0..150 => Outcome::Unknown,
            _ => Outcome::Taken,
        });
    }
    let times: Vec<u64> = desk
        .arrived
        .iter()
        .map(|(at, _)| (at - NOW) / 60_000)
        .collect();
    assert_eq!(times, [0, 60, 120, 180]);
    let first = &desk.arrived[0].1;
    for (_, again) in &desk.arrived {
        assert_eq!(
            (&again.message_id, &again.message),
            (&first.message_id, &first.message)
        );
    }
    assert_eq!(desk.all.len(), 1);
    assert_eq!(desk.all[0].state, NoticeState::Sent);
}

#[test]
fn a_recipient_that_is_refused_does_not_stop_the_others_and_nobody_gets_it_twice() {
    let mut desk = Desk::new(automatic());
    let mut flagged = desk.flagged(&[A]);
    if let Some(owner) = &mut flagged[0].owner {
        owner.mail = ["gone@x.example", "good@x.example", "slow@x.example"]
            .map(str::to_owned)
            .to_vec();
    }
    let mut given = Vec::new();
    for minute in 0..10 {
        desk.now = NOW + minute * 60_000;
        desk.look(&flagged);
        desk.send(|_, mail| {
            given.push(mail.to_owned());
            match mail {
                "gone@x.example" => Outcome::Refused,
                "slow@x.example" if minute < 2 => Outcome::Later,
                _ => Outcome::Taken,
            }
        });
    }
    // The rest an hour later, as something has left.
    desk.now = NOW + HOUR;
    desk.send(|_, mail| {
        given.push(mail.to_owned());
        Outcome::Taken
    });
    assert_eq!(
        given,
        [
            "gone@x.example",
            "good@x.example",
            "slow@x.example",
            "slow@x.example"
        ]
    );
    assert_eq!(desk.all[0].state, NoticeState::Sent);
}

#[test]
fn who_wants_it_for_nobody_has_failed_and_it_is_not_made_again_at_once() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send(|_, _| Outcome::Refused);
    assert_eq!(desk.all[0].state, NoticeState::Failed);
    assert!(desk.arrived.is_empty());
    desk.now += 60_000;
    desk.look(&flagged);
    assert!(desk.open().is_empty());
    desk.now += 24 * HOUR;
    desk.look(&flagged);
    assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Approved, 1)]);
}

#[test]
fn a_person_who_said_no_is_not_asked_again_for_three_days() {
    let mut desk = Desk::new(policy());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    let mut notice = desk.book.notices[0].clone();
    let event = notice.move_to(NoticeState::Rejected, "ada", "a test of ours", desk.now);
    desk.note(&[NoticeChange::Moved(notice, event.expect("it can be"))]);
    for (hours, open) in [(1, 0), (71, 0), (72, 1)] {
        desk.now = NOW + hours * HOUR;
        let flagged = desk.flagged(&[A]);
        desk.look(&flagged);
        assert_eq!(desk.open().len(), open, "after {hours} hours");
    }
}

#[test]
fn what_cannot_leave_expires_and_is_made_anew() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.now += 72 * HOUR;
    desk.look(&flagged);
    assert_eq!(desk.all[0].state, NoticeState::Expired);
    assert_eq!(desk.open(), [(NoticeKind::First, NoticeState::Approved, 1)]);
}

#[test]
fn a_clock_that_is_set_back_tells_nothing_twice() {
    let mut desk = Desk::new(automatic());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send_all();
    desk.now -= 10 * HOUR;
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    desk.send_all();
    assert_eq!(desk.arrived.len(), 1);
    // By more than a day: what was noted then is nothing to wait for.
    let notice = Notice {
        left_at: Some(NOW + 400 * 24 * HOUR),
        ..desk.all[0].clone()
    };
    desk.book.apply(&[NoticeChange::Tried(notice)]);
    desk.now = NOW + 80 * HOUR;
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    assert_eq!(desk.send_all(), 1);
}

#[test]
fn a_person_who_was_faster_is_not_told_to_the_owner_twice() {
    let mut desk = Desk::new(policy());
    let flagged = desk.flagged(&[A]);
    desk.look(&flagged);
    let old = desk.book.notices[0].clone();
    let flagged = desk.flagged(&[A, B]);
    desk.look(&flagged);
    // The file had the old one approved by then, so it was not superseded.
    let approved = Notice {
        state: NoticeState::Approved,
        ..old
    };
    desk.book.notices.push(approved.clone());
    if let Some(known) = desk.all.iter_mut().find(|known| known.id == approved.id) {
        known.state = NoticeState::Approved;
    }
    desk.send_all();
    desk.now += 60_000;
    let flagged = desk.flagged(&[A, B]);
    desk.look(&flagged);
    desk.approve_all();
    desk.send_all();
    assert_eq!(desk.kinds(), [NoticeKind::First, NoticeKind::More]);
    assert_eq!(desk.arrived[1].1.hosts, [host(B.0)]);
}

#[test]
fn a_host_that_changes_hands_is_told_to_its_new_owner_alone() {
    let mut desk = Desk::new(policy());
    let flagged = desk.flagged(&[A, B]);
    desk.look(&flagged);
    let flagged = desk.flagged(&[(A.0, "new@x.example"), B]);
    desk.look(&flagged);
    let to: Vec<(&str, &[IpNet])> = desk
        .book
        .notices
        .iter()
        .map(|notice| (&*notice.recipients[0].mail, &*notice.hosts))
        .collect();
    assert_eq!(
        to,
        [(IT, &[host(B.0)][..]), ("new@x.example", &[host(A.0)][..])]
    );
}
