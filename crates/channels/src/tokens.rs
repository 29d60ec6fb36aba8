//! The tokens of a channel: the one in force, the one being checked, the one that waits.

use std::{sync::Arc, time::Duration};

use walcast_filters::claims::{Claims, Role};

use crate::VerifiedClaims;

/// A token in force.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) text: Arc<str>,
    pub(crate) role: Role,
    pub(crate) claims: Claims,
    pub(crate) expires_at: Duration,
}

impl Credentials {
    pub(crate) fn new(now: Duration, text: Arc<str>, verified: VerifiedClaims) -> Self {
        let VerifiedClaims { role, claims, expires_in } = verified;
        Self { text, role, claims, expires_at: now.saturating_add(expires_in) }
    }

    /// Since when the token is over; `None` while it is valid.
    pub(crate) fn expired_since(&self, now: Duration) -> Option<u64> {
        now.checked_sub(self.expires_at).map(|since| since.as_secs())
    }
}

/// The tokens of one channel.
pub(crate) struct Tokens {
    /// `None` until the join's token is checked.
    current: Option<Credentials>,
    verifying: Option<Arc<str>>,
    /// The latest token that came too soon.
    pending: Option<Arc<str>>,
    /// When the next token may be checked.
    next_refresh: Duration,
}

/// What becomes of a token that is offered.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Offered {
    /// It is the one in force, or on its way to be.
    Known,
    /// It waits.
    Later,
    /// It is to be checked.
    Verify(Arc<str>),
}

/// What time has brought.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum TokenDue {
    Nothing,
    /// A token that waited is to be checked.
    Verify(Arc<str>),
    /// The token in force is over and there is no other.
    Expired {
        seconds_ago: u64,
    },
}

impl Tokens {
    /// Starts with a token that was checked before.
    pub(crate) fn verified(credentials: Credentials) -> Self {
        let current = Some(credentials);
        Self { current, verifying: None, pending: None, next_refresh: Duration::ZERO }
    }

    /// Starts with a token that is being checked.
    pub(crate) fn verifying(token: Arc<str>) -> Self {
        let verifying = Some(token);
        Self { current: None, verifying, pending: None, next_refresh: Duration::ZERO }
    }

    /// The token in force.
    pub(crate) fn current(&self) -> Option<&Credentials> {
        self.current.as_ref()
    }

    /// Takes a token from the client. The latest one wins: a known token drops one that waits.
    pub(crate) fn offer(&mut self, now: Duration, token: &str) -> Offered {
        let latest = self.verifying.as_ref().or(self.current.as_ref().map(|current| &current.text));
        if latest.is_some_and(|latest| &**latest == token) {
            self.pending = None;
            return Offered::Known;
        }
        let token = Arc::from(token);
        if self.verifying.is_some() || now < self.next_refresh {
            self.pending = Some(token);
            return Offered::Later;
        }
        // An older token that waited until this very moment is out of date.
        self.pending = None;
        self.verify(token)
    }

    /// Whether an answer about this token is awaited.
    pub(crate) fn is_verifying(&self, token: &str) -> bool {
        self.verifying.as_deref() == Some(token)
    }

    /// Puts the token that was being checked in force. Only a refresh starts the throttle; the
    /// first token after a join is taken at once.
    pub(crate) fn accept(&mut self, now: Duration, verified: VerifiedClaims, throttle: Duration) {
        let Some(text) = self.verifying.take() else { return };
        if self.current.is_some() {
            self.next_refresh = now.saturating_add(throttle);
        }
        self.current = Some(Credentials::new(now, text, verified));
    }

    /// When [`Tokens::fire`] has something to do.
    pub(crate) fn due(&self) -> Duration {
        let Some(current) = &self.current else { return Duration::MAX };
        match (&self.pending, &self.verifying) {
            (Some(_), None) => current.expires_at.min(self.next_refresh),
            _ => current.expires_at,
        }
    }

    /// Does what is due. A token that waits takes the place of one that is over, which stays in
    /// force for `grace`, so that the answer can arrive.
    pub(crate) fn fire(&mut self, now: Duration, grace: Duration) -> TokenDue {
        let Some(current) = &mut self.current else { return TokenDue::Nothing };
        let expired = current.expired_since(now);
        if self.verifying.is_none()
            && (expired.is_some() || self.next_refresh <= now)
            && let Some(token) = self.pending.take()
        {
            if expired.is_some() {
                current.expires_at = now.saturating_add(grace);
            }
            self.verifying = Some(Arc::clone(&token));
            return TokenDue::Verify(token);
        }
        match expired {
            Some(seconds_ago) => TokenDue::Expired { seconds_ago },
            None => TokenDue::Nothing,
        }
    }

    fn verify(&mut self, token: Arc<str>) -> Offered {
        self.verifying = Some(Arc::clone(&token));
        Offered::Verify(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THROTTLE: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn claims(expires_in: u64) -> VerifiedClaims {
        VerifiedClaims {
            role: Role::new("anon"),
            claims: Claims::new("{}"),
            expires_in: at(expires_in),
        }
    }

    fn tokens() -> Tokens {
        Tokens::verified(Credentials::new(at(0), "first".into(), claims(100)))
    }

    #[test]
    fn the_first_refresh_is_checked_at_once_and_the_next_waits() {
        let mut tokens = tokens();
        assert_eq!(tokens.offer(at(1), "first"), Offered::Known);
        assert_eq!(tokens.offer(at(1), "second"), Offered::Verify("second".into()));
        assert_eq!(tokens.offer(at(1), "second"), Offered::Known);
        tokens.accept(at(1), claims(100), THROTTLE);
        assert_eq!(tokens.offer(at(2), "third"), Offered::Later);
        assert_eq!(tokens.offer(at(3), "fourth"), Offered::Later);
        assert_eq!(tokens.due(), at(11));
        assert_eq!(tokens.fire(at(10), GRACE), TokenDue::Nothing);
        assert_eq!(tokens.fire(at(11), GRACE), TokenDue::Verify("fourth".into()));
        assert_eq!(tokens.due(), at(101));
    }

    #[test]
    fn sending_the_token_in_force_drops_one_that_waits() {
        let mut tokens = tokens();
        let _ = tokens.offer(at(1), "second");
        tokens.accept(at(1), claims(100), THROTTLE);
        assert_eq!(tokens.offer(at(2), "third"), Offered::Later);
        assert_eq!(tokens.offer(at(3), "second"), Offered::Known);
        assert_eq!(tokens.fire(at(20), GRACE), TokenDue::Nothing);
    }

    #[test]
    fn a_waiting_token_takes_the_place_of_one_that_is_over() {
        let mut tokens = tokens();
        let _ = tokens.offer(at(95), "second");
        tokens.accept(at(95), claims(3), THROTTLE);
        assert_eq!(tokens.offer(at(96), "third"), Offered::Later);
        assert_eq!(tokens.due(), at(98));
        assert_eq!(tokens.fire(at(98), GRACE), TokenDue::Verify("third".into()));
        assert_eq!(tokens.due(), at(103));
        assert_eq!(tokens.fire(at(104), GRACE), TokenDue::Expired { seconds_ago: 1 });
    }

    #[test]
    fn nothing_is_due_before_the_token_of_the_join_is_checked() {
        let mut tokens = Tokens::verifying("first".into());
        assert_eq!(tokens.offer(at(1), "second"), Offered::Later);
        assert_eq!(tokens.due(), Duration::MAX);
        assert_eq!(tokens.fire(at(1), GRACE), TokenDue::Nothing);
        tokens.accept(at(2), claims(100), THROTTLE);
        assert_eq!(tokens.fire(at(2), GRACE), TokenDue::Verify("second".into()));
    }
}
