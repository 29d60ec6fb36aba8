//! When to let rows gather before reading on.
//!
//! The walsender sends one message per system call. A reader that takes each at once wakes every
//! stage behind it for a row or two: draining a backlog to one subscriber then costs 18 µs of CPU
//! per row and reaches 40 k rows/s. With a pause of a millisecond while rows come fast it is 3 µs,
//! and the walsender is the limit. A stream that is slower is never paused.

use std::time::Duration;

/// Over how long the rate is measured.
const WINDOW: Duration = Duration::from_millis(2);

/// From this rate on (20 k items/s) the stream is paused.
const FAST_PER_MILLISECOND: u128 = 20;

/// How long to let rows gather.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// Measures how fast items come.
#[derive(Debug, Default)]
pub(super) struct Pace {
    window_start: Duration,
    n_items: usize,
    is_fast: bool,
}

impl Pace {
    /// Notes a read of `n_items` out of at most `n_max`. Tells whether to pause before the next
    /// one; a read that could have given more is followed at once.
    pub(super) fn should_pause(&mut self, now: Duration, n_items: usize, n_max: usize) -> bool {
        self.n_items += n_items;
        let elapsed = now.saturating_sub(self.window_start);
        if elapsed >= WINDOW {
            let n_fast = FAST_PER_MILLISECOND * elapsed.as_micros() / 1_000;
            self.is_fast = self.n_items as u128 >= n_fast;
            self.window_start = now;
            self.n_items = 0;
        }
        self.is_fast && n_items < n_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the reads, each with `n_items` after `gap_us`, are followed by a pause.
    fn pauses(pace: &mut Pace, from: Duration, gap_us: u64, n_items: usize) -> usize {
        let reads = 1..=100_u32;
        let at = |read| from + Duration::from_micros(gap_us) * read;
        reads.filter(|read| pace.should_pause(at(*read), n_items, 512)).count()
    }

    #[test]
    fn a_slow_stream_is_never_paused() {
        assert_eq!(pauses(&mut Pace::default(), Duration::ZERO, 500, 1), 0);
        assert_eq!(pauses(&mut Pace::default(), Duration::ZERO, 1_000_000, 500), 0);
    }

    #[test]
    fn a_fast_stream_is_paused_until_it_is_slow_again() {
        let mut pace = Pace::default();
        assert!(pauses(&mut pace, Duration::ZERO, 10, 1) == 0, "the first window decides nothing");
        assert!(pauses(&mut pace, Duration::from_millis(1), 1_500, 300) >= 99);
        assert!(pauses(&mut pace, Duration::from_secs(1), 1_500, 1) <= 1);
    }

    #[test]
    fn a_full_batch_is_followed_at_once() {
        assert_eq!(pauses(&mut Pace::default(), Duration::ZERO, 1_000, 512), 0);
    }
}
