//! The scorecard as tables and as JSON.

use super::super::document::{Column, Table, number, text};
use super::super::time;
use super::{Kinds, NEAR, Reported, Scorecard};
use crate::answer::answer;
use crate::counted::counted;
use crate::model::complaint::ComplaintKind;
use crate::model::proportion::Proportion;

/// Kinds that are about mail, together.
const MAIL: &str = "spam and SYN flood";

/// What is shown of reported hosts behind their number.
const FIGURES: [Column; 8] = [
    number("flagged_before"),
    number("after"),
    number("never"),
    number("recall_percent"),
    number("low"),
    number("high"),
    text("median_lead"),
    text("lead_interval"),
];

/// The ends of an interval in percent.
fn ends(share: Proportion) -> [String; 2] {
    if share.whole == 0 {
        return ["-", "-"].map(str::to_owned);
    }
    let (low, high) = share.interval();
    [low, high].map(|end| format!("{:.1}", 100.0 * end))
}

fn figures(reported: &Reported) -> Vec<String> {
    let [low, high] = ends(reported.recall());
    let (lead, interval) = match reported.lead() {
        Some((lead, (low, high))) => (
            time::span(lead),
            format!("{} to {}", time::span(low), time::span(high)),
        ),
        None => ("-".to_owned(), "-".to_owned()),
    };
    vec![
        reported.before.to_string(),
        reported.after.to_string(),
        reported.never.to_string(),
        reported.recall().percent(),
        low,
        high,
        lead,
        interval,
    ]
}

impl Scorecard {
    /// As tables.
    pub fn tables(&self) -> [Table; 3] {
        [self.kinds_table(), self.months_table(), self.flags_table()]
    }

    fn kinds_table(&self) -> Table {
        let row = |(name, reported): (&str, &Reported)| {
            let mut row = vec![name.to_owned(), reported.hosts().to_string()];
            row.extend(figures(reported));
            row
        };
        let each = ComplaintKind::ALL.map(ComplaintKind::title).into_iter();
        let each = each.zip(&self.period.each);
        let each = each.chain([(MAIL, &self.period.mail)]).map(row);
        let rows = match self.complaints {
            0 => Vec::new(),
            _ => each.collect(),
        };
        let mut columns = vec![text("kind"), number("reported")];
        columns.extend(FIGURES);
        Table {
            name: "scorecard",
            title: format!(
                "hosts that were reported, in {}",
                counted(self.complaints, "complaint")
            ),
            notes: vec![
                format!(
                    "flagged before: by a verdict that was open at the first complaint, or up to {} \
                     before it; after: only up to {0} after it",
                    time::span(NEAR)
                ),
                "recall: flagged before, of those that were reported; low and high: where it is with \
                 95 % confidence (Wilson)"
                    .to_owned(),
                "of infringements and others a meter of mail sees nothing: no recall is to be expected"
                    .to_owned(),
            ],
            columns,
            rows,
        }
    }

    fn months_table(&self) -> Table {
        let row = |name: String, kinds: &Kinds| {
            let mut row = vec![name];
            row.extend(kinds.each.iter().map(|kind| kind.hosts().to_string()));
            row.push(kinds.mail.hosts().to_string());
            row.extend(figures(&kinds.mail));
            row
        };
        let mut rows: Vec<_> = self
            .months
            .iter()
            .map(|(month, kinds)| row(month.to_string(), kinds))
            .collect();
        if rows.len() > 1 {
            rows.push(row("all".to_owned(), &self.all));
        }
        let mut columns = vec![text("month")];
        columns.extend(ComplaintKind::ALL.map(|kind| number(kind.name())));
        columns.push(number("spam_or_syn_flood"));
        columns.extend(FIGURES);
        Table {
            name: "scorecard_months",
            title: "hosts that were reported, by month".to_owned(),
            notes: vec![
                "figures from spam or syn flood on are of hosts that were reported for one of these"
                    .to_owned(),
                "all: the sum, in which a host counts once in each month".to_owned(),
            ],
            columns,
            rows,
        }
    }

    fn flags_table(&self) -> Table {
        let Proportion { part, whole } = self.unconfirmed;
        let judged = self.precision;
        let [unconfirmed, precision] = [self.unconfirmed, self.precision]
            .map(|share| format!("{} ({})", share.percent(), share.interval_percent()));
        let mut table = Table::facts(
            "flags",
            "hosts that were flagged",
            &[
                ("flagged", whole.to_string()),
                ("reported_for_spam_or_syn_flood", (whole - part).to_string()),
                ("unconfirmed", part.to_string()),
                ("unconfirmed_percent", unconfirmed),
                ("judged_by_people", judged.whole.to_string()),
                ("found_to_be_right", judged.part.to_string()),
                ("precision_percent", precision),
            ],
        );
        table.notes = vec![
            format!(
                "unconfirmed: nobody has reported it, up to {} before and after the period; that is not \
                 wrong",
                time::span(NEAR)
            ),
            "right: somebody has told its owner or ended a verdict of it; wrong: all that was said is \
             false positive"
                .to_owned(),
        ];
        table
    }

    /// As JSON.
    pub(crate) fn json(&self) -> JsonScorecard {
        let kinds = |kinds: &Kinds| -> Vec<JsonReported> {
            let each = ComplaintKind::ALL.into_iter().zip(&kinds.each);
            each.map(|(kind, reported)| JsonReported::new(kind.name(), reported))
                .collect()
        };
        let month = |name: String, of: &Kinds| JsonMonthScore {
            month: name,
            kinds: kinds(of),
            mail: JsonReported::new("mail", &of.mail),
        };
        JsonScorecard {
            complaints: self.complaints,
            kinds: kinds(&self.period),
            mail: JsonReported::new("mail", &self.period.mail),
            months: self
                .months
                .iter()
                .map(|(name, kinds)| month(name.to_string(), kinds))
                .collect(),
            all: month("all".to_owned(), &self.all),
            unconfirmed: self.unconfirmed.into(),
            precision: self.precision.into(),
        }
    }
}

answer! {
    /// A share of a few, with the interval in which it is with 95 % confidence (Wilson).
    pub(crate) struct JsonShare {
        /// The part.
        part: u64,
        /// What it is a part of.
        whole: u64,
        /// The share, from 0 to 1; null of nothing.
        share: Option<f64>,
        /// The lower end of the interval.
        low: f64,
        /// The upper end.
        high: f64,
    }
}

impl From<Proportion> for JsonShare {
    fn from(share: Proportion) -> Self {
        let (low, high) = share.interval();
        Self {
            part: share.part,
            whole: share.whole,
            share: share.value(),
            low,
            high,
        }
    }
}

answer! {
    /// Hosts that were reported, and when they were flagged.
    pub(crate) struct JsonReported {
        /// What for: spam, syn_flood, infringement, other; mail is the first two, each host once.
        kind: &'static str,
        /// Hosts that were reported.
        hosts: u64,
        /// Hosts that were flagged before they were reported.
        flagged_before: u64,
        /// Hosts that were flagged only after that.
        flagged_after: u64,
        /// Hosts that were not flagged.
        never_flagged: u64,
        /// Those that were flagged before, of all.
        recall: JsonShare [JsonShare],
        /// How long before in the median; null if none was.
        median_lead_milliseconds: Option<u64>,
        /// Between which the median is with 95 % confidence: from this,
        lead_low_milliseconds: Option<u64>,
        /// to this.
        lead_high_milliseconds: Option<u64>,
    }
}

impl JsonReported {
    fn new(kind: &'static str, reported: &Reported) -> Self {
        let lead = reported.lead();
        Self {
            kind,
            hosts: reported.hosts(),
            flagged_before: reported.before,
            flagged_after: reported.after,
            never_flagged: reported.never,
            recall: reported.recall().into(),
            median_lead_milliseconds: lead.map(|(lead, _)| lead),
            lead_low_milliseconds: lead.map(|(_, (low, _))| low),
            lead_high_milliseconds: lead.map(|(_, (_, high))| high),
        }
    }
}

answer! {
    /// Reported hosts of a month, or of several.
    pub(crate) struct JsonMonthScore {
        /// The month, or all.
        month: String,
        /// By kind, each host once for each.
        kinds: Vec<JsonReported> [JsonReported],
        /// Of the kinds that a meter of mail can be expected to see.
        mail: JsonReported [JsonReported],
    }
}

answer! {
    /// How what was flagged compares with what was complained about.
    pub(crate) struct JsonScorecard {
        /// Complaints that were made in the period.
        complaints: u64,
        /// Reported hosts of the period by kind, each host once for each.
        kinds: Vec<JsonReported> [JsonReported],
        /// Of the kinds that a meter of mail can be expected to see.
        mail: JsonReported [JsonReported],
        /// The same month by month, up to that of the period.
        months: Vec<JsonMonthScore> [JsonMonthScore],
        /// All these months together: a host counts once in each.
        all: JsonMonthScore [JsonMonthScore],
        /// Flagged hosts that nobody has reported, of all flagged ones: unconfirmed, not wrong.
        unconfirmed: JsonShare [JsonShare],
        /// Flagged hosts that people have found to be right, of those that they have judged.
        precision: JsonShare [JsonShare],
    }
}
