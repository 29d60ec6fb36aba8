//! The policies: how many of them only PostgreSQL can decide.

use crate::doctor::finding::Finding;
use crate::policies::Listed;

pub(super) fn check(policies: &[Listed]) -> Vec<Finding> {
    if policies.is_empty() {
        return Vec::new();
    }
    let n_asked = policies.iter().filter(|policy| policy.is_asked()).count();
    let n_policies = policies.len();
    vec![if n_asked == 0 {
        Finding::good(format!("policies: PostgreSQL is asked about none of {n_policies}"))
    } else {
        Finding::note(format!(
            "policies: PostgreSQL is asked about {n_asked} of {n_policies}, which costs a question \
             for each change; `walcast policies` says about which, and why"
        ))
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::tests::listed;

    #[test]
    fn the_policies_that_postgresql_is_asked_about_are_counted() {
        let (decided, asked) = (listed("a", false), listed("b", true));
        let check = |policies: &[Listed], expected: &[&str]| {
            let findings: Vec<String> = check(policies).iter().map(ToString::to_string).collect();
            assert_eq!(findings, expected);
        };
        check(&[], &[]);
        check(
            std::slice::from_ref(&decided),
            &["ok    policies: PostgreSQL is asked about none of 1"],
        );
        check(
            &[decided, asked.clone(), asked],
            &["note  policies: PostgreSQL is asked about 2 of 3, which costs a question for each \
               change; `walcast policies` says about which, and why"],
        );
    }
}
