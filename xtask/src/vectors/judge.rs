//! The verdict on one case.

use std::collections::BTreeSet;

use walcast_tests::Json;

use super::case::{Case, CaseSubscription};
use super::compare::{difference, first_difference};
use super::differences::Difference;
use super::oracle::{Answer, Own};
use super::replay::{Played, Received};

/// What is printed about a case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// As the reference.
    Passed,
    /// Not as the reference, but as the named rules say.
    Deliberate(BTreeSet<Difference>),
    /// Neither.
    Failed(String),
    /// The process ended or panicked.
    Crashed(String),
    /// This PostgreSQL cannot play it.
    LeftOut(String),
}

/// Judges what was received in a case.
pub fn judge(case: &Case, played: &Played) -> Verdict {
    if let Some(crash) = &played.crash {
        return Verdict::Crashed(crash.lines().last().unwrap_or_default().to_owned());
    }
    let mut differences = BTreeSet::new();
    for (subscription, own) in case.subscriptions.iter().zip(&played.own) {
        let nothing = Received::default();
        let received = played.subscriptions.get(&subscription.name).unwrap_or(&nothing);
        match judge_subscription(case, subscription, own, received) {
            Ok(found) => differences.extend(found),
            Err(difference) => {
                return Verdict::Failed(format!("{}: {difference}", subscription.name));
            }
        }
    }
    if differences.is_empty() {
        if let Some(difference) = channel_difference(case, played) {
            return Verdict::Failed(difference);
        }
        return Verdict::Passed;
    }
    Verdict::Deliberate(differences)
}

/// The rules by which a subscription received something else than the reference sent, or what is
/// wrong with it.
fn judge_subscription(
    case: &Case,
    subscription: &CaseSubscription,
    own: &Own,
    received: &Received,
) -> Result<BTreeSet<Difference>, String> {
    let empty = Vec::new();
    let recorded = case.expected.get(&subscription.name).unwrap_or(&empty);
    let own_differs =
        own.answer != Answer::AsReference || first_difference(recorded, &own.payloads).is_some();
    let as_reference = answered_as_reference(subscription, received)
        .map_or_else(|| first_difference(recorded, &received.payloads), Some);
    if own.open.is_some() || !own_differs || own.differences.is_empty() {
        let Some(difference) = as_reference else { return Ok(BTreeSet::new()) };
        let doubt = match &own.open {
            Some(open) => format!(" (walcast's own rules were not applied: {open})"),
            None => String::new(),
        };
        return Err(format!("{difference}{doubt}"));
    }
    if as_reference.is_none() && own.differences.contains(&Difference::StateAtCommit) {
        return Ok(BTreeSet::new());
    }
    match answered_as_own(own, subscription, received)
        .or_else(|| first_difference(&own.payloads, &received.payloads))
    {
        None => Ok(explain(own, recorded)),
        // How quickly a change of the catalogue is noticed is not promised.
        Some(_) if is_of_either_state(own, recorded, received) => Ok(explain(own, recorded)),
        Some(difference) => Err(format!("{difference} (by the rules of decisions.md)")),
    }
}

/// Whether every payload is what the old state of the catalogue asks for, or the new one, which is
/// all that the reference knows.
fn is_of_either_state(own: &Own, recorded: &[Json], received: &Received) -> bool {
    let same_length =
        own.payloads.len() == received.payloads.len() && recorded.len() == received.payloads.len();
    let is_equal = |expected: &Json, actual: &Json| difference(expected, actual, "").is_none();
    own.differences.contains(&Difference::StateAtCommit)
        && same_length
        && received.payloads.iter().enumerate().all(|(index, payload)| {
            own.payloads.get(index).is_some_and(|own| is_equal(own, payload))
                || recorded
                    .get(index)
                    .is_some_and(|recorded| is_equal(&with_commit_time(recorded), payload))
        })
}

/// A recorded error with the commit time that walcast sends and the reference does not.
fn with_commit_time(payload: &Json) -> Json {
    let mut payload = payload.clone();
    if let Json::Object(members) = &mut payload
        && members.get("commit_timestamp") == Some(&Json::Null)
    {
        let pattern = super::compare::ANY_COMMIT_TIMESTAMP.to_owned();
        members.insert("commit_timestamp".to_owned(), Json::String(pattern));
    }
    payload
}

/// Leaves out rules that cannot be what made the difference.
fn explain(own: &Own, recorded: &[Json]) -> BTreeSet<Difference> {
    let mut found = own.differences.clone();
    let has_refusals = recorded
        .iter()
        .chain(&own.payloads)
        .any(|payload| payload.member("errors").is_some_and(|errors| !errors.items().is_empty()));
    if !has_refusals {
        found.remove(&Difference::CommitTimestamp);
    }
    let updates_differ = of_kind(recorded, "UPDATE") != of_kind(&own.payloads, "UPDATE");
    if !updates_differ && found.len() > 1 {
        found.remove(&Difference::OldRecordAuthorised);
    }
    let deletes_differ = of_kind(recorded, "DELETE") != of_kind(&own.payloads, "DELETE");
    if !deletes_differ && found.len() > 1 {
        found.remove(&Difference::DeleteAuthorised);
    }
    let inserts_differ = of_kind(recorded, "INSERT") != of_kind(&own.payloads, "INSERT");
    if !inserts_differ && !updates_differ && found.len() > 1 {
        found.remove(&Difference::RowImageDecides);
    }
    found
}

fn of_kind<'a>(payloads: &'a [Json], kind: &str) -> Vec<&'a Json> {
    payloads
        .iter()
        .filter(|payload| payload.member("type").and_then(Json::as_str) == Some(kind))
        .collect()
}

fn answered_as_reference(subscription: &CaseSubscription, received: &Received) -> Option<String> {
    match (&subscription.error, &received.error) {
        (None, None) => None,
        (Some(wanted), Some(given)) if wanted == given => None,
        // The reference's tests show PostgreSQL's words without what clients get around them.
        (Some(wanted), Some(given))
            if subscription.is_written_directly && given.contains(wanted) =>
        {
            None
        }
        (Some(wanted), Some(given)) => Some(format!("expected error {wanted:?}, got {given:?}")),
        (Some(wanted), None) => Some(format!("subscribed, expected error {wanted:?}")),
        (None, Some(given)) => Some(format!("refused with {given:?}")),
    }
}

fn answered_as_own(
    own: &Own,
    subscription: &CaseSubscription,
    received: &Received,
) -> Option<String> {
    match (own.answer, &received.error) {
        (Answer::AsReference, _) => answered_as_reference(subscription, received),
        (Answer::Accepted, None) | (Answer::Refused, Some(_)) => None,
        (Answer::Accepted, Some(error)) => Some(format!("refused with {error:?}")),
        (Answer::Refused, None) => Some("subscribed, expected a refusal".to_owned()),
    }
}

/// The first difference in the messages of shared channels. In which order a message lists its ids
/// means nothing, and neither does the order of two messages about one change; each subscription's
/// own order has been compared before.
fn channel_difference(case: &Case, played: &Played) -> Option<String> {
    let channels: BTreeSet<&str> =
        case.channel_messages.iter().map(|message| message.channel.as_str()).collect();
    for channel in channels {
        let expected: Vec<_> =
            case.channel_messages.iter().filter(|message| message.channel == channel).collect();
        let nothing = Vec::new();
        let actual = played.channels.get(channel).unwrap_or(&nothing);
        if expected.len() != actual.len() {
            return Some(format!(
                "channel {channel}: {} messages, expected {}",
                actual.len(),
                expected.len()
            ));
        }
        let mut left: Vec<_> = actual.iter().collect();
        for message in expected {
            let wanted: BTreeSet<&String> = message.ids.iter().collect();
            let found = left.iter().position(|actual| {
                wanted == actual.names.iter().collect()
                    && difference(&message.data, &actual.data, "").is_none()
            });
            match found {
                Some(index) => drop(left.remove(index)),
                None => {
                    return Some(format!("channel {channel}: no {} for {wanted:?}", message.data));
                }
            }
        }
    }
    None
}
