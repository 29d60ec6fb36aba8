//! How often something may happen.

use std::time::Duration;

/// A bucket of `burst` tokens that refills at a steady pace, kept as one point in time.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    /// How long one token takes to come back.
    interval: Duration,
    /// How far ahead of time the bucket may be: all tokens but one.
    tolerance: Duration,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl TokenBucket {
    /// A full bucket; of a rate or burst of zero, one is kept.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let tolerance = interval.saturating_mul(burst.max(1) - 1);
        Self { interval, tolerance, full_at: Duration::ZERO }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let full_at = self.full_at.max(now);
        if full_at - now > self.tolerance {
            return false;
        }
        self.full_at = full_at.saturating_add(self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_the_steady_pace() {
        let mut bucket = TokenBucket::new(10, 3);
        let at = Duration::from_millis;
        let taken =
            |bucket: &mut TokenBucket, now| (0..10).filter(|_| bucket.take(at(now))).count();
        assert_eq!(taken(&mut bucket, 1_000), 3);
        assert_eq!(taken(&mut bucket, 1_099), 0);
        assert_eq!(taken(&mut bucket, 1_100), 1);
        assert_eq!(taken(&mut bucket, 1_300), 2);
        assert_eq!(taken(&mut bucket, 99_000), 3);
    }

    #[test]
    fn a_rate_of_zero_still_lets_one_through() {
        let mut bucket = TokenBucket::new(0, 0);
        assert!(bucket.take(Duration::ZERO));
        assert!(!bucket.take(Duration::from_millis(999)));
        assert!(bucket.take(Duration::from_secs(1)));
    }
}
