//! Whether a caller may write to private channels.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use walcast_channels::{Extensions, Rights, RightsFailure, RightsRequest, VerifiedClaims};
use walcast_protocol::Topic;

use super::BroadcastParts;

/// Topics of one request that are asked about at a time.
const ASKED_AT_ONCE: usize = 16;

/// Who sends.
pub(super) struct Caller {
    /// What the token says.
    pub(super) claims: VerifiedClaims,
    /// The headers of the request, for policies.
    pub(super) headers: Arc<str>,
}

impl BroadcastParts {
    /// Whether the caller may write to the private channel of a topic without `realtime:`.
    pub(super) async fn may_write(
        &self,
        caller: &Caller,
        topic: &str,
    ) -> Result<bool, RightsFailure> {
        let write = Extensions { broadcast: true, presence: false };
        let request = RightsRequest {
            topic: Topic::of_sub_topic(topic),
            role: caller.claims.role.clone(),
            claims: caller.claims.claims.clone(),
            asked: Rights { read: Extensions::default(), write },
        };
        let rights = self.authorizer.rights(&request, &caller.headers).await?;
        Ok(rights.write.broadcast)
    }

    /// Those of these topics that the caller may write to; an error is a no.
    pub(super) async fn writable<'a>(
        &self,
        caller: &Caller,
        topics: BTreeSet<&'a str>,
    ) -> BTreeSet<&'a str> {
        let topics: Vec<&str> = topics.into_iter().collect();
        let mut writable = BTreeSet::new();
        for topics in topics.chunks(ASKED_AT_ONCE) {
            let asked = topics.iter().map(|topic| self.may_write(caller, topic));
            let answers = join_all(asked).await;
            let allowed = topics.iter().zip(answers).filter(|(_, answer)| *answer == Ok(true));
            writable.extend(allowed.map(|(topic, _)| *topic));
        }
        writable
    }
}

/// The words of the reference for a question without an answer.
pub(super) fn text_of(failure: RightsFailure) -> &'static str {
    match failure {
        RightsFailure::Refused => "RLS policy error",
        RightsFailure::Cancelled => "Query canceled",
        RightsFailure::MissingPartition => "Missing messages partition",
        RightsFailure::Unavailable => "Tenant database unavailable",
    }
}
