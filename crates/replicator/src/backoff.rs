//! How long to wait before the next attempt to connect.

use std::time::Duration;

const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(30);

/// Waiting times that double with each failure, with jitter so that many servers that lost the same
/// database do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// Starts with the shortest time.
    #[must_use]
    pub fn new() -> Self {
        Self { ceiling: DELAY_MIN }
    }

    /// The next waiting time: between half of the current ceiling and the whole.
    ///
    /// `randomness` is any evenly distributed number; the same number gives the same time.
    pub fn next_delay(&mut self, randomness: u64) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(DELAY_MAX);
        let half = ceiling / 2;
        let share = u32::try_from(randomness % 1001).unwrap_or_default();
        half + half * share / 1000
    }

    /// To be called after a success: the next failure waits the shortest time again.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_double_up_to_half_a_minute() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..11).map(|_| backoff.next_delay(1000).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.next_delay(0), Duration::from_millis(50));
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole() {
        for randomness in [0, 1, 999, 1000, 1001, u64::MAX] {
            let delay = Backoff::new().next_delay(randomness);
            assert!(delay >= DELAY_MIN / 2 && delay <= DELAY_MIN, "{delay:?}");
        }
    }
}
