//! Many connections in many hours.
//!
//! An hour counts if the source is over the limit in it, even if the hour has gaps. An hour with gaps
//! in which it is not over the limit says nothing: it counts neither for nor against, and another
//! hour further back is looked at in its place, up to half as many again as are asked for.

use super::rules::{Compared, Draft, Rules};
use super::value::Within;
use super::{Entry, Facts};
use crate::model::period::Period;
use crate::model::verdict::Severity;

/// See the module.
pub const ENTRY: Entry = Entry {
    name: "persistence",
    summary: "hours with many connections among the last 6, or with some among the last 72",
    why: "a mailing or a mistake is over in an hour or two; a spam bot goes on, and a slow one goes on \
          for days",
    accuses: true,
    about: Params::ABOUT,
    keys: Params::KEYS,
    rules: |settings, facts, rules| settings.persistence.rules(facts, rules),
};

section! {
    /// `persistence`: a source that is over a limit of connections again and again. An hour with gaps
    /// in which it is not over the limit counts neither way; one further back is looked at instead.
    pub struct Params {
        /// An hour with more than so many connections is a bad one.
        pub high: u32 = 100;
        /// Critical with so many bad hours: 1 to 72.
        pub hours: Within<1, 72> = Within::new(3);
        /// Among so many hours, the running one included: 1 to 72.
        pub of: Within<1, 72> = Within::new(6);
        /// An hour with more than so many connections is a suspicious one.
        pub low: u32 = 30;
        /// A warning with so many suspicious hours: 1 to 72.
        pub slow_hours: Within<1, 72> = Within::new(12);
        /// Among so many hours, the running one included: 1 to 72.
        pub slow_of: Within<1, 72> = Within::new(72);
    }
}

impl Params {
    fn rules(&self, facts: &Facts, rules: &mut Rules) {
        let fast = (Severity::Critical, self.high, self.hours, self.of);
        let slow = (Severity::Warning, self.low, self.slow_hours, self.slow_of);
        for (severity, limit, least, of) in [fast, slow] {
            let back = LookBack::over(facts, limit, of.get());
            rules.add(
                Draft {
                    severity,
                    period: back.period,
                    covered: f64::from(back.looked_at) / f64::from(of.get()),
                    bar: None,
                    figures: &[Compared::at_least(
                        "hours",
                        back.over.into(),
                        least,
                        "hours",
                    )],
                },
                || {
                    let mut text = format!(
                        "more than {limit} connections in at least {} of the last {} hours",
                        least.get(),
                        of.get()
                    );
                    if back.passed_over > 0 {
                        text.push_str(&format!(
                            "; {} with gaps passed over",
                            hours(back.passed_over)
                        ));
                    }
                    text
                },
            );
        }
    }
}

fn hours(number: u32) -> String {
    match number {
        1 => "1 hour".to_owned(),
        _ => format!("{number} hours"),
    }
}

/// What the last hours say.
struct LookBack {
    /// Hours over the limit.
    over: u32,
    /// Hours that count, for or against.
    looked_at: u32,
    /// Hours with gaps that do not.
    passed_over: u32,
    period: Period,
}

impl LookBack {
    fn over(facts: &Facts, limit: u32, of: u32) -> Self {
        let mut back = Self {
            over: u32::from(facts.counts.totals.connections > u64::from(limit)),
            looked_at: 1,
            passed_over: 0,
            period: facts.hour_so_far(),
        };
        let furthest = (of + of / 2 - 1) as usize;
        let mut past = facts.past.iter().peekable();
        for (place, frame) in facts.frames.iter().enumerate().take(furthest) {
            if back.looked_at == of {
                break;
            }
            let here = past.next_if(|(at, _)| *at == place);
            if here.is_some_and(|(_, past)| past.connections > limit) {
                back.over += 1;
                back.looked_at += 1;
            } else if frame.is_partial() {
                back.passed_over += 1;
            } else {
                back.looked_at += 1;
            }
            back.period.from = frame.start.min(back.period.from);
        }
        back
    }
}
