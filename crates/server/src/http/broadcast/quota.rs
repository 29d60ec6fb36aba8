//! How many broadcasts may come over HTTP.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{http::HeaderValue, response::Response};
use walcast_channels::TokenBucket;

/// The seconds that the reference averages over: so many seconds' worth may come at once.
const WINDOW_SECONDS: u32 = 60;

/// One quota for all requests: they have no connection that could have one of its own.
#[derive(Debug)]
pub(super) struct Quota {
    per_second: u32,
    started: Instant,
    bucket: Mutex<TokenBucket>,
}

impl Quota {
    pub(super) fn new(per_second: u32) -> Self {
        let bucket = TokenBucket::new(per_second, per_second.saturating_mul(WINDOW_SECONDS));
        Self { per_second, started: Instant::now(), bucket: Mutex::new(bucket) }
    }

    /// Whether one message could be taken.
    pub(super) fn has_room(&self) -> bool {
        self.bucket().available(self.started.elapsed()) > 0
    }

    /// Takes so many messages, or none.
    pub(super) fn take(&self, n_messages: usize) -> bool {
        let n_messages = u32::try_from(n_messages).unwrap_or(u32::MAX);
        self.bucket().take_many(self.started.elapsed(), n_messages)
    }

    /// Adds the headers that tell clients how near the limit is.
    pub(super) fn describe(&self, mut answer: Response) -> Response {
        let burst = self.per_second.saturating_mul(WINDOW_SECONDS);
        let available = self.bucket().available(self.started.elapsed());
        let rolling = burst.saturating_sub(available) / WINDOW_SECONDS;
        let headers = answer.headers_mut();
        headers.insert("x-rate-rolling", HeaderValue::from(rolling));
        headers.insert("x-rate-limit", HeaderValue::from(self.per_second));
        let remaining = self.per_second.saturating_sub(rolling);
        headers.insert("x-rate-limit-remaining", HeaderValue::from(remaining));
        answer
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        // Each call leaves the bucket whole.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
