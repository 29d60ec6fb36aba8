//! How often something may happen.

use std::time::Duration;

/// Lets something happen so many times at once, and so often in the long run: a bucket of `burst` tokens that refills at a steady pace, kept as one point in time.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// How long one token takes to come back.
    interval: Duration,
    /// How far ahead of time the bucket may be: all tokens but one.
    tolerance: Duration,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl TokenBucket {
    /// A full bucket that refills with `per_second` tokens a second up to `burst`; of a rate or burst
    /// of zero, one is kept.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self::refilling(Duration::from_secs(1) / per_second.max(1), burst)
    }

    /// A full bucket that refills once in this time; of a size of zero, one is kept.
    #[must_use]
    pub fn filling_in(window: Duration, burst: u32) -> Self {
        Self::refilling(window / burst.max(1), burst)
    }

    fn refilling(interval: Duration, burst: u32) -> Self {
        let tolerance = interval.saturating_mul(burst.max(1) - 1);
        Self { interval, tolerance, full_at: Duration::ZERO }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        self.take_many(now, 1)
    }

    /// Takes so many tokens if all of them are there.
    pub fn take_many(&mut self, now: Duration, n_tokens: u32) -> bool {
        if n_tokens > self.available(now) {
            return false;
        }
        let taken = self.interval.saturating_mul(n_tokens);
        self.full_at = self.full_at.max(now).saturating_add(taken);
        true
    }

    /// How many tokens there are.
    #[must_use]
    pub fn available(&self, now: Duration) -> u32 {
        let ahead = self.full_at.saturating_sub(now);
        match self.tolerance.checked_sub(ahead) {
            // The interval is at least 1/u32::MAX of a second, which is no nanosecond.
            Some(left) => {
                let n_intervals = left.as_nanos() / self.interval.as_nanos().max(1);
                u32::try_from(n_intervals).unwrap_or(u32::MAX).saturating_add(1)
            }
            None => 0,
        }
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
    fn many_are_taken_together_or_not_at_all() {
        let mut bucket = TokenBucket::new(10, 5);
        let at = Duration::from_millis;
        assert_eq!(bucket.available(at(1_000)), 5);
        assert!(!bucket.take_many(at(1_000), 6));
        assert!(bucket.take_many(at(1_000), 4));
        assert_eq!(bucket.available(at(1_000)), 1);
        assert!(!bucket.take_many(at(1_000), 2));
        assert!(bucket.take(at(1_000)));
        assert_eq!(bucket.available(at(1_000)), 0);
        assert_eq!(bucket.available(at(1_250)), 2);
        assert_eq!(bucket.available(at(60_000)), 5);
        assert!(bucket.take_many(at(60_000), 0));
        assert_eq!(bucket.available(at(60_000)), 5);
    }

    #[test]
    fn a_window_lets_its_number_through_at_once_and_in_the_long_run() {
        let mut bucket = TokenBucket::filling_in(Duration::from_secs(30), 5);
        let at = Duration::from_secs;
        let taken =
            |bucket: &mut TokenBucket, now| (0..10).filter(|_| bucket.take(at(now))).count();
        assert_eq!(taken(&mut bucket, 100), 5);
        assert_eq!(taken(&mut bucket, 105), 0);
        assert_eq!(taken(&mut bucket, 106), 1);
        assert_eq!(taken(&mut bucket, 136), 5);
        assert!(TokenBucket::filling_in(Duration::ZERO, 0).take(Duration::ZERO));
    }

    #[test]
    fn a_rate_of_zero_still_lets_one_through() {
        let mut bucket = TokenBucket::new(0, 0);
        assert!(bucket.take(Duration::ZERO));
        assert!(!bucket.take(Duration::from_millis(999)));
        assert!(bucket.take(Duration::from_secs(1)));
    }
}
