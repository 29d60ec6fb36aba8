//! Waiting for a condition, always with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test waits for something that must happen. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks at a condition that cannot be waited for otherwise.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Asks `condition` again and again until it answers; fails naming `what` after [`DEADLINE`].
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let started = Instant::now();
    let mut last_error = None;
    while started.elapsed() < DEADLINE {
        match condition().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => last_error = None,
            Err(error) => last_error = Some(error),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    match last_error {
        Some(error) => Err(error.context(format!("waited {DEADLINE:?} for: {what}"))),
        None => bail!("waited {DEADLINE:?} for: {what}"),
    }
}

/// Lets `future` run for at most `limit`; fails naming `what` when it takes longer.
pub async fn within<T>(
    what: &str,
    limit: Duration,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => bail!("waited {limit:?} for: {what}"),
    }
}
