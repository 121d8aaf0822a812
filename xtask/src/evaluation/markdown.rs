//! The report as the page `docs/evaluation/README.md`.

use std::fmt::Write as _;

use super::text::{interval, seconds, times};
use super::{Method, Report, Score, goals, score};
use crate::traffic::{KINDS, Kind, Label};

const HEAD: &str = "\
# Who is found, and who is accused wrongly

Made by `cargo xtask evaluate`; do not edit. It needs no privileges, and gives the same on every
machine: the traffic comes from seeds. Repeat it with

```
cargo xtask evaluate --seeds SEEDS --output docs/evaluation
```

Each seed is a population of labelled hosts in 10.20.0.0/16 and 2001:db8:20::/48 with DAYS days of
traffic. It goes through smtpflow's follower of connections, its detectors and its life of verdicts with the
shipped parameters, in windows of 10 s; a test compares these windows with what the meter counts in a
capture of the same traffic. A host is an IPv4 address or an IPv6 /64.

- *Recall*: bots that are accused after their abuse begins, of all bots. One that is accused before counts
  as missed, and as accused wrongly.
- *Precision*: these bots, of all who are accused. Addresses that no host has, as in a spoofed flood,
  count as accused wrongly.
- *Time*: from the start of abuse to the end of the window, or hour, in which the host is accused first. A
  bot that is missed takes for ever. *Of the found* leaves those out, so that a method that finds only the
  loudest looks quick. *Fast* is the median of all bots above one connection a second.
- Intervals are Wilson's, at 95 %, over the hosts of all seeds.

The simpler methods see the same traffic and have the same list of known relays. They read hourly tables of
NetFlow and judge when the hour closes, as smtpflow's ancestor did; a flow ends with a pause of more than
15 s, so a SYN that is sent again 16 s later is one more. A relay with a limit of its own is judged by its
flows and that limit. Without the list, such a relay is accused before its bot begins.

Parameters may be tuned on the first half of the seeds only; the second half is reported. These are figures
of made-up traffic: they say how the methods compare and what each kind of host meets with, not how many
spammers are in yours.
";

/// The page.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let last = report.parts().last().map_or(0, |part| part.last);
    let head = HEAD
        .replace("SEEDS", &last.to_string())
        .replace("DAYS", &report.days.to_string());
    out.push_str(&head);
    for part in report.parts().iter().rev() {
        writeln!(out, "\n## {}", part.title)?;
        for listed in [true, false] {
            let which = if listed {
                "With the operator's list of known relays:"
            } else {
                "Without it, nobody having said who relays mail:"
            };
            writeln!(out, "\n{which}\n")?;
            writeln!(
                out,
                "| method | recall | precision | found | missed | accused wrongly | time: median, 90 % | \
                 of the found | fast |\n|---|---|---|---|---|---|---|---|---|"
            )?;
            let hosts = report.hosts(part, listed);
            for method in Method::ALL {
                let score = Score::of(&hosts, method);
                writeln!(
                    out,
                    "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                    method.name(),
                    interval(score.recall(), score.recall_interval()),
                    interval(score.precision(), score.precision_interval()),
                    score.found,
                    score.missed,
                    score.wrong,
                    times(score.times),
                    times(score.times_of_found),
                    seconds(score.times_of_fast.median),
                )?;
            }
        }
        let hosts = report.all_hosts(part, true);
        let columns = Method::ALL.map(|method| score::kinds(&hosts, method));
        writeln!(
            out,
            "\nAccused hosts of each kind, with the list, and the median time of bots:\n"
        )?;
        let names = Method::ALL.map(Method::name).join(" | ");
        writeln!(
            out,
            "| kind | label | hosts | {names} |\n|---|---|---|---|---|---|---|---|"
        )?;
        for (row, kind) in KINDS.iter().enumerate() {
            write!(
                out,
                "| `{}` | {} | {} |",
                kind.name,
                label(kind),
                columns[0][row].hosts
            )?;
            for column in &columns {
                let score = &column[row];
                let time = score.times.median;
                match time {
                    Some(_) => write!(out, " {} ({}) |", score.accused, seconds(time))?,
                    None => write!(out, " {} |", score.accused)?,
                }
            }
            writeln!(out)?;
        }
        let mistakes = score::mistakes(report, part);
        if mistakes.is_empty() {
            writeln!(out, "\nsmtpflow made no mistake on these seeds.")?;
        } else {
            writeln!(
                out,
                "\nWhere smtpflow was wrong:\n\n| seed | host | kind | what | detectors |\n|---|---|---|---|---|"
            )?;
        }
        for mistake in mistakes {
            writeln!(
                out,
                "| {} | {} | `{}` | {} | {} |",
                mistake.seed,
                mistake.host,
                mistake.kind,
                mistake.what,
                mistake.detectors.join(", ")
            )?;
        }
        writeln!(out, "\n| goal | measured | |\n|---|---|---|")?;
        for goal in goals(report, part) {
            let mark = if goal.reached {
                "reached"
            } else {
                "**missed**"
            };
            writeln!(out, "| {} | {} | {mark} |", goal.goal, goal.measured)?;
        }
    }
    writeln!(
        out,
        "\n## The kinds of hosts\n\n| kind | label | of them in a seed | what it does |\n|---|---|---|---|"
    )?;
    for kind in KINDS {
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            kind.name,
            label(kind),
            kind.usual,
            kind.definition
        )?;
    }
    writeln!(
        out,
        "\nEvery bot but `behind_nat` is an ordinary user's machine as well. Its abuse begins in the first \
         half of the time.\nThe kinds are defined in `xtask/src/traffic`, with no look at what detectors \
         do.\nThose at the limits are ones that no count of connections can tell from the others; they are \
         in no score and no\ngoal, and stand here so that nobody expects it."
    )
}

fn label(kind: &Kind) -> &'static str {
    match (kind.label, kind.limit, kind.fast) {
        (Label::Innocent, false, _) => "innocent",
        (Label::Innocent, true, _) => "innocent, at the limits",
        (Label::Nobody, ..) => "no host",
        (Label::Bot, false, true) => "bot, fast",
        (Label::Bot, false, false) => "bot",
        (Label::Bot, true, _) => "bot, at the limits",
    }
}
