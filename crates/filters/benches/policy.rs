//! Nanoseconds per verdict of row-level security: `cargo bench -p walcast-filters --bench policy`.
//!
//! On two cores that had ten other things to do: constant 1, `auth.uid() = u` 433, that and a second
//! policy 623, `body in ('abc', claim)` 331.
#![expect(clippy::print_stdout, reason = "a benchmark prints what a human compares")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(dead_code, reason = "the tests use more of the recording")]

#[path = "../tests/it/recorded.rs"]
mod recorded;

use std::{hint::black_box, time::Instant};

use recorded::{NEWEST, Recorded};
use walcast_filters::policy::{Compiler, Verdict};

const N_VERDICTS: u32 = 200_000;
/// Measurements, of which the fastest counts: the others were disturbed.
const N_ROUNDS: usize = 7;

/// Titles and the policies, as the recording writes them. The first is the constant: what is left of
/// a verdict without an expression.
const POLICIES: [(&str, &[&str]); 4] = [
    ("constant", &["true"]),
    ("uid = column", &["auth.uid() = u"]),
    ("two policies", &["auth.uid() = u", "body = any (tags)"]),
    ("claim = any", &["body in ('abc', auth.jwt() ->> 'org')"]),
];

fn main() {
    let recorded = recorded::read(NEWEST);
    for (title, policies) in POLICIES {
        measure(&recorded, title, policies);
    }
}

fn measure(recorded: &Recorded, title: &str, policies: &[&str]) {
    let mut compiler = Compiler::new(recorded.environment.clone(), &Compiler::default());
    let policies = policies.iter().map(|using| recorded.compile(&mut compiler, using)).collect();
    let rule = recorded::rule(policies, &recorded.environment);
    let mut verdicts = Vec::new();
    for row in &recorded.rows {
        for audience in &recorded.audiences {
            let verdict = rule.decide(&recorded.table, row, audience);
            // Only what is decided here is measured.
            if verdict != Verdict::Undecided {
                verdicts.push((row, audience));
            }
        }
    }
    assert!(!verdicts.is_empty(), "{title}");
    let (mut fastest, mut n_allowed) = (f64::MAX, 0_u32);
    for _ in 0..N_ROUNDS {
        let started = Instant::now();
        for (row, audience) in verdicts.iter().cycle().take(usize::try_from(N_VERDICTS).unwrap()) {
            let verdict = rule.decide(&recorded.table, black_box(row), black_box(audience));
            n_allowed += u32::from(verdict == Verdict::Allow);
        }
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    black_box(n_allowed);
    println!("{title:<14} {:>6.0} ns", fastest * 1e9 / f64::from(N_VERDICTS));
}
