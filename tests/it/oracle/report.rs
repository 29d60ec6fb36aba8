//! What a run found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use walcast_filters::policy::Verdict;

use super::truth::Shown;

/// Findings printed in full; the others are counted.
const PRINTED_MAX: usize = 25;

/// Verdicts of one sort.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdicts {
    allow: usize,
    deny: usize,
    undecided: usize,
}

/// Everything that was counted, and every disagreement.
#[derive(Debug, Default)]
pub struct Report {
    /// Worlds.
    pub worlds: usize,
    /// Tables.
    pub tables: usize,
    /// Policies that were to be created.
    pub policies: usize,
    /// Policies of which walcast says that it decides them.
    pub policies_decided: usize,
    /// Policies of which it says that it does not.
    pub policies_not_decided: usize,
    /// Verdicts compared with PostgreSQL.
    pub verdicts: Verdicts,
    /// Those where every policy of the table is decided.
    pub verdicts_where_decided: Verdicts,
    /// Answers of PostgreSQL to walcast's questions, compared with the table.
    pub answers: usize,
    /// Answers about rows whose policy raised an error when the table was asked.
    pub answers_where_raised: usize,
    /// Of these, yes.
    pub answers_yes_where_raised: usize,
    /// Answers of lists of members, compared with the table.
    pub members: usize,
    /// Pairs of audiences that a rule cannot tell apart.
    pub pairs: usize,
    /// Rows compared with a necessary condition.
    pub necessities: usize,
    /// Verdicts about rows of which not everything is known.
    pub partial: usize,
    /// Filters that walcast accepted.
    pub filters: usize,
    /// Filters that it refused.
    pub filters_refused: usize,
    /// Filters compared with rows.
    pub matches: usize,
    /// Of these, left to PostgreSQL.
    pub matches_undecided: usize,
    shown: usize,
    hidden: usize,
    raised: usize,
    faulty: usize,
    refusals: BTreeMap<String, (usize, String)>,
    reasons: BTreeMap<String, usize>,
    findings: BTreeMap<&'static str, usize>,
    signatures: BTreeSet<String>,
    printed: usize,
}

impl Verdicts {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Allow => self.allow += 1,
            Verdict::Deny => self.deny += 1,
            Verdict::Undecided => self.undecided += 1,
        }
    }

    fn total(self) -> usize {
        self.allow + self.deny + self.undecided
    }

    fn shares(self) -> String {
        let total = self.total();
        format!(
            "{total}: allow {}, deny {}, undecided {}",
            percent(self.allow, total),
            percent(self.deny, total),
            percent(self.undecided, total)
        )
    }
}

impl Report {
    /// Verdicts so far.
    pub fn decisions(&self) -> usize {
        self.verdicts.total()
    }

    /// How many disagreements there are.
    pub fn wrong(&self) -> usize {
        self.findings.values().sum()
    }

    /// Notes that PostgreSQL does not take a policy.
    pub fn refuse(&mut self, message: &str, condition: &str) {
        let known = self.refusals.entry(message.to_owned()).or_default();
        known.0 += 1;
        if known.1.is_empty() || condition.len() < known.1.len() {
            condition.clone_into(&mut known.1);
        }
    }

    /// Notes why a policy is not decided.
    pub fn not_decided(&mut self, reason: &str) {
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// Notes a verdict and the truth.
    pub fn verdict(&mut self, verdict: Verdict, shown: Shown, is_decided: bool) {
        self.verdicts.count(verdict);
        if is_decided {
            self.verdicts_where_decided.count(verdict);
        }
        match shown {
            Shown::Yes => self.shown += 1,
            Shown::No => self.hidden += 1,
            Shown::Raised => self.raised += 1,
            Shown::Faulty => self.faulty += 1,
        }
    }

    /// Notes a disagreement; `signature` is the same for those with one cause.
    pub fn find(&mut self, what: &'static str, signature: &str, case: impl FnOnce() -> String) {
        if self.is_new(what, signature) {
            self.print(what, &case());
        }
    }

    /// Counts a disagreement; whether it is worth a look.
    pub fn is_new(&mut self, what: &'static str, signature: &str) -> bool {
        *self.findings.entry(what).or_default() += 1;
        self.signatures.insert(format!("{what}: {signature}")) && self.printed < PRINTED_MAX
    }

    /// Shows a case.
    pub fn print(&mut self, what: &str, case: &str) {
        self.printed += 1;
        println!("\nDISAGREEMENT: {what}\n{case}");
    }

    /// The figures.
    pub fn summary(&self, elapsed: Duration) -> String {
        let mut text = String::new();
        let mut line = |what: &str, figures: String| {
            let _ = writeln!(text, "{what:<34} {figures}");
        };
        let refused: usize = self.refusals.values().map(|(count, _)| count).sum();
        let judged = self.decisions();
        line("worlds, tables", format!("{}, {}", self.worlds, self.tables));
        line(
            "policies",
            format!(
                "{}, refused by PostgreSQL {}; decided in process {}, not {}",
                self.policies,
                percent(refused, self.policies),
                self.policies_decided,
                self.policies_not_decided
            ),
        );
        line(
            "PostgreSQL shows, hides, raises",
            format!(
                "{}, {}, {}; fails by its own fault {}",
                percent(self.shown, judged),
                percent(self.hidden, judged),
                percent(self.raised, judged),
                self.faulty
            ),
        );
        line("decisions", self.verdicts.shares());
        line("  where all policies are decided", self.verdicts_where_decided.shares());
        line("answers to questions", self.answers.to_string());
        line("  by lists of members", self.members.to_string());
        line(
            "  where the table raises",
            format!(
                "{}, of which yes {}",
                self.answers_where_raised, self.answers_yes_where_raised
            ),
        );
        line("audiences told not apart", format!("{} pairs", self.pairs));
        line("necessary conditions", format!("{} rows", self.necessities));
        line("rows known in part", self.partial.to_string());
        line("filters", format!("{}, refused {}", self.filters, self.filters_refused));
        line(
            "  decisions of filters",
            format!(
                "{}, undecided {}",
                self.matches,
                percent(self.matches_undecided, self.matches)
            ),
        );
        for (what, count) in &self.findings {
            line("WRONG", format!("{count} times: {what}"));
        }
        line("wrong", self.wrong().to_string());
        line("seconds", format!("{:.1}", elapsed.as_secs_f64()));
        text
    }

    /// Why policies were refused or are not decided, the most frequent reasons first.
    pub fn details(&self) -> String {
        let mut text = String::new();
        let mut refusals: Vec<_> = self.refusals.iter().collect();
        refusals.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (message, (count, condition)) in refusals.into_iter().take(20) {
            let _ = writeln!(text, "refused {count} times: {message}: {condition}");
        }
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (reason, count) in reasons.into_iter().take(40) {
            let _ = writeln!(text, "not decided {count} times: {reason}");
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "0 (0.0 %)".to_owned();
    }
    format!("{part} ({:.1} %)", part as f64 * 100.0 / whole as f64)
}
