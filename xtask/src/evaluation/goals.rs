//! What smtpflow is to reach with its shipped parameters.

use serde::Serialize;

use super::{Method, Part, Report, Score};

/// A goal, and whether it is reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// What is to be reached.
    pub goal: String,
    /// What was.
    pub measured: String,
    /// Whether it is.
    pub reached: bool,
}

/// The goals on these seeds, with the list of known relays.
pub fn goals(report: &Report, part: &Part) -> Vec<Goal> {
    let hosts = report.hosts(part, true);
    let mine = Score::of(&hosts, Method::Smtpflow);
    let mut goals = Vec::new();
    let mut add = |goal: String, measured: String, reached| {
        goals.push(Goal {
            goal,
            measured,
            reached,
        });
    };
    let (recall, precision) = (mine.recall(), mine.precision());
    add(
        "recall of hosts at least 0.95".into(),
        format!("{recall:.4}"),
        recall >= 0.95,
    );
    add(
        "precision of hosts at least 0.95".into(),
        format!("{precision:.4}"),
        precision >= 0.95,
    );
    add(
        "median time to the first notice below 300 s for bots above one connection a second".into(),
        show(mine.times_of_fast.median),
        mine.times_of_fast
            .median
            .is_some_and(|seconds| seconds < 300.0),
    );
    for method in Method::BASELINES {
        let theirs = Score::of(&hosts, method);
        let pairs = [
            ("recall", recall, theirs.recall()),
            ("precision", precision, theirs.precision()),
        ];
        for (what, mine, theirs) in pairs {
            add(
                format!("better {what} than \"{}\"", method.name()),
                format!("{mine:.4} and {theirs:.4}"),
                // Nothing is better than perfect.
                mine > theirs || mine == 1.0,
            );
        }
        for (what, mine, theirs) in [
            ("median time", mine.times.median, theirs.times.median),
            ("90 % time", mine.times.p90, theirs.times.p90),
        ] {
            let never = f64::INFINITY;
            add(
                format!("shorter {what}, of all bots, than \"{}\"", method.name()),
                format!("{} and {}", show(mine), show(theirs)),
                mine.unwrap_or(never) < theirs.unwrap_or(never),
            );
        }
    }
    goals
}

fn show(seconds: Option<f64>) -> String {
    seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.0} s"))
}
