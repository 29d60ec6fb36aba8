//! What all connections and requests together may do.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use walcast_channels::TokenBucket;

/// The seconds that the reference averages over: so many seconds' worth may come at once.
const WINDOW_SECONDS: u32 = 60;

/// How often something may happen on the whole server, averaged over a minute.
#[derive(Debug)]
pub struct Quota {
    per_second: u32,
    started: Instant,
    bucket: Mutex<TokenBucket>,
}

impl Quota {
    /// So many per second; a minute's worth at once.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let bucket = TokenBucket::new(per_second, per_second.saturating_mul(WINDOW_SECONDS));
        Self { per_second, started: Instant::now(), bucket: Mutex::new(bucket) }
    }

    /// Whether one more could be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bucket().available(self.started.elapsed()) > 0
    }

    /// Takes so many, or none.
    #[must_use]
    pub fn take(&self, n: usize) -> bool {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.bucket().take_many(self.started.elapsed(), n)
    }

    /// How many per second there may be.
    #[must_use]
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// How many per second there were, averaged over the last minute.
    #[must_use]
    pub fn rolling(&self) -> u32 {
        let burst = self.per_second.saturating_mul(WINDOW_SECONDS);
        burst.saturating_sub(self.bucket().available(self.started.elapsed())) / WINDOW_SECONDS
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        // Each call leaves the bucket whole.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bounds on what all clients do together.
#[derive(Debug)]
pub struct ServerQuotas {
    /// Joins, long-polling included.
    pub joins: Quota,
    /// Broadcasts of clients and over HTTP; `None` without a bound.
    pub events: Option<Quota>,
}

impl ServerQuotas {
    /// Takes so many broadcasts, or none.
    #[must_use]
    pub fn take_events(&self, n: usize) -> bool {
        self.events.as_ref().is_none_or(|events| events.take(n))
    }
}
