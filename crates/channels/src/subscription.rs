//! The subscription of one channel: asked for, in place, to be tried again, or refused.

use std::{sync::Arc, time::Duration};

use crate::{ChannelId, Output, SubscribeRequest, tokens::Credentials};

/// A channel's wish to hear of the database, and how far it got.
pub(crate) struct Subscription {
    request: Arc<SubscribeRequest>,
    attempt: u32,
    /// Attempts that failed since the last one that did not.
    n_failures: u32,
    state: State,
    /// Whether an attempt, perhaps an earlier one, is known to be in place.
    is_live: bool,
    /// Whether one may be: known, or overtaken by a later attempt before its answer was heard.
    may_be_in_place: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Asked,
    Answered,
    RetryAt(Duration),
}

impl Subscription {
    pub(crate) fn new(request: SubscribeRequest) -> Self {
        Self {
            request: Arc::new(request),
            attempt: 0,
            n_failures: 0,
            state: State::Answered,
            is_live: false,
            may_be_in_place: false,
        }
    }

    pub(crate) fn request(&self) -> &SubscribeRequest {
        &self.request
    }

    /// Whether an answer to this attempt means anything. One that is in place may be announced
    /// again.
    pub(crate) fn expects(&self, attempt: u32) -> bool {
        self.attempt == attempt && (self.state == State::Asked || self.is_live)
    }

    /// Asks for it.
    pub(crate) fn ask(&mut self, channel: ChannelId, out: &mut Vec<Output>) {
        self.attempt = self.attempt.wrapping_add(1);
        self.may_be_in_place |= self.state == State::Asked;
        self.state = State::Asked;
        let request = Arc::clone(&self.request);
        out.push(Output::Subscribe { channel, attempt: self.attempt, request });
    }

    /// Asks for it as somebody else.
    pub(crate) fn ask_as(
        &mut self,
        credentials: &Credentials,
        channel: ChannelId,
        out: &mut Vec<Output>,
    ) {
        let (role, claims) = (credentials.role.clone(), credentials.claims.clone());
        self.request = Arc::new(self.request.with_claims(role, claims));
        self.n_failures = 0;
        self.ask(channel, out);
    }

    /// Asks for it again if it was in place or asked for.
    pub(crate) fn lost(&mut self, channel: ChannelId, out: &mut Vec<Output>) -> bool {
        if !self.is_live && self.state != State::Asked {
            return false;
        }
        self.is_live = false;
        self.ask(channel, out);
        true
    }

    /// Notes that it is in place.
    pub(crate) fn succeeded(&mut self) {
        self.state = State::Answered;
        self.is_live = true;
        self.may_be_in_place = true;
        self.n_failures = 0;
    }

    /// Notes that it cannot be, and takes back an earlier one: its claims are outdated. It may be in
    /// place although its answer was never heard, when a later attempt overtook that.
    pub(crate) fn refused(&mut self, channel: ChannelId, out: &mut Vec<Output>) {
        self.state = State::Answered;
        self.take_back(channel, out);
    }

    /// Notes that it is to be tried again.
    pub(crate) fn failed(
        &mut self,
        channel: ChannelId,
        now: Duration,
        (shortest, longest): (Duration, Duration),
        out: &mut Vec<Output>,
    ) {
        self.take_back(channel, out);
        let doubled = shortest.saturating_mul(1_u32 << (self.n_failures + 1).min(20));
        let range = doubled.min(longest).saturating_sub(shortest);
        let pause = shortest + range.mul_f64(fraction(now, channel, self.attempt));
        self.n_failures = self.n_failures.saturating_add(1);
        self.state = State::RetryAt(now.saturating_add(pause));
    }

    /// When it is to be tried again.
    pub(crate) fn due(&self) -> Duration {
        match self.state {
            State::RetryAt(due) => due,
            State::Asked | State::Answered => Duration::MAX,
        }
    }

    /// Takes it back when the channel goes.
    pub(crate) fn end(&self, channel: ChannelId, out: &mut Vec<Output>) {
        if self.may_be_in_place || self.state == State::Asked {
            out.push(Output::Unsubscribe { channel });
        }
    }

    fn take_back(&mut self, channel: ChannelId, out: &mut Vec<Output>) {
        self.is_live = false;
        if self.may_be_in_place {
            self.may_be_in_place = false;
            out.push(Output::Unsubscribe { channel });
        }
    }
}

/// A number in 0..1 that differs between connections, channels and attempts, so that not all of them
/// try again at the same moment. The clock's small digits are what differs between connections.
fn fraction(now: Duration, channel: ChannelId, attempt: u32) -> f64 {
    // The finaliser of splitmix64.
    let mut bits = (u64::from(now.subsec_nanos()) << 32)
        ^ now.as_secs()
        ^ (u64::from(channel.0) << 16)
        ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let [high, ..] = (bits ^ (bits >> 31)).to_be_bytes();
    f64::from(high) / 256.0
}

#[cfg(test)]
mod tests {
    use walcast_filters::claims::{Claims, Role};
    use walcast_protocol::Topic;

    use super::*;

    const CHANNEL: ChannelId = ChannelId(1);

    fn subscription() -> Subscription {
        Subscription::new(SubscribeRequest {
            topic: Topic::new("realtime:room"),
            bindings: Vec::new(),
            role: Role::new("anon"),
            claims: Claims::new("{}"),
            is_legacy: false,
        })
    }

    #[test]
    fn pauses_grow_to_the_longest_and_never_undercut_the_shortest() {
        let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(10));
        for start in 0..50 {
            let mut subscription = subscription();
            let mut now = Duration::from_nanos(start * 1_234_567_891);
            for failure in 0..40 {
                subscription.ask(CHANNEL, &mut Vec::new());
                subscription.failed(CHANNEL, now, (shortest, longest), &mut Vec::new());
                let pause = subscription.due() - now;
                assert!(pause >= shortest && pause <= longest, "{pause:?}");
                assert!(failure > 0 || pause <= 2 * shortest, "{pause:?}");
                now = subscription.due();
            }
        }
    }

    #[test]
    fn pauses_differ_between_moments_and_channels() {
        let moments: std::collections::BTreeSet<_> = (0..100)
            .map(|n| (fraction(Duration::from_nanos(n), CHANNEL, 1) * 256.0).to_bits())
            .collect();
        assert!(moments.len() > 40, "{}", moments.len());
    }

    #[test]
    fn only_what_was_asked_for_is_taken_back() {
        let ends = |subscription: &Subscription| {
            let mut out = Vec::new();
            subscription.end(CHANNEL, &mut out);
            out.len()
        };
        let mut subscription = subscription();
        assert_eq!(ends(&subscription), 0);
        subscription.ask(CHANNEL, &mut Vec::new());
        assert_eq!(ends(&subscription), 1);
        subscription.succeeded();
        assert_eq!(ends(&subscription), 1);
        let mut out = Vec::new();
        subscription.refused(CHANNEL, &mut out);
        assert_eq!(out, [Output::Unsubscribe { channel: CHANNEL }]);
        assert_eq!(ends(&subscription), 0);
    }
}
