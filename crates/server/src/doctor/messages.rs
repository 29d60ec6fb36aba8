//! What messages from SQL and private channels need.

use crate::database::quote_identifier;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;
use crate::messages::PUBLICATION;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let login = &facts.login.name;
    let Some(messages) = &facts.messages else {
        return vec![Finding::note(
            "realtime.messages does not exist: SQL cannot send messages and there are no private \
             channels, until walcast serve or walcast migrate makes it",
        )];
    };
    let mut findings = Vec::new();
    if !messages.owner_may_be_set {
        let owner = &messages.owner;
        findings.push(
            Finding::failure(format!(
                "{login} cannot act as {owner}, the owner of realtime.messages: there are no private \
                 channels and no replay, and partitions are not looked after"
            ))
            .mend(format!("grant {} to {};", quote_identifier(owner), quote_identifier(login))),
        );
    }
    if !messages.is_partitioned {
        findings.push(Finding::warning(
            "realtime.messages is not partitioned: nothing drops its old rows",
        ));
    }
    if !messages.is_published {
        findings.push(
            Finding::failure(format!(
                "publication {PUBLICATION} does not list realtime.messages: nothing that SQL sends \
                 is passed on"
            ))
            .mend("walcast migrate"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::good("realtime.messages is published"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{facts::Messages, tests::healthy};

    #[test]
    fn what_messages_lack_is_named_with_its_remedy() {
        let check = |change: fn(&mut Messages), expected: [&str; 2]| {
            let mut facts = healthy();
            change(facts.messages.as_mut().unwrap());
            let findings: Vec<String> = check(&facts).iter().map(ToString::to_string).collect();
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].starts_with(expected[0]), "{findings:?}");
            assert!(findings[0].ends_with(expected[1]), "{findings:?}");
        };
        check(|_| {}, ["ok    realtime.messages", "published"]);
        check(
            |messages| messages.owner_may_be_set = false,
            [
                "FAIL  walcast cannot act as supabase_realtime_admin",
                "grant \"supabase_realtime_admin\" to \"walcast\";",
            ],
        );
        check(|messages| messages.is_partitioned = false, ["warn  ", "old rows"]);
        check(|messages| messages.is_published = false, ["FAIL  publication", "walcast migrate"]);
    }

    #[test]
    fn who_does_not_use_messages_gets_a_note() {
        let mut facts = healthy();
        facts.messages = None;
        let findings = check(&facts);
        assert!(findings[0].to_string().starts_with("note  realtime.messages does not exist"));
    }
}
