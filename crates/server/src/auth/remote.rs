//! Key sets that are fetched from URLs, again and again.
//!
//! Verifying a token never waits for the network, with one exception: a token whose key is not known
//! waits for one fetch, which all such tokens share and of which there are only so many.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use reqwest::{Client, Url, header, redirect};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use walcast_channels::TokenBucket;

use super::keys::KeySet;
use crate::{error_chain::chain, telemetry::Metrics};

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a token waits for a fetch: longer than that takes, so that its failure is noted.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The size of a key set; those of identity providers have a few kB.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Between fetches, when the answer says nothing about its age, and the bounds of what it may say.
const MAX_AGE: Duration = Duration::from_mins(10);
const MAX_AGE_MIN: Duration = Duration::from_mins(1);
const MAX_AGE_MAX: Duration = Duration::from_hours(24);

/// Between fetches that fail.
const RETRY_PAUSE: Duration = Duration::from_secs(15);

/// Fetches that tokens with unknown keys cause: so many at once, and one per [`UNKNOWN_KEY_PAUSE`] in
/// the long run. Anybody can make up key ids.
const UNKNOWN_KEY_FETCHES: u32 = 3;
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// Where a key set is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwksUrl {
    url: Url,
    /// Whose tokens its keys are for; any when nothing is said.
    pub issuer: Option<String>,
}

/// Why a URL is not one to fetch keys from.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwksUrlError {
    /// It cannot be read.
    #[error("must be a URL such as https://example.com/.well-known/jwks.json")]
    Malformed,
    /// It has a user name or password, which would be seen in logs.
    #[error("must be a URL without user name and password")]
    Credentials,
    /// Whoever is on the way could put in keys.
    #[error(
        "must begin with https://, since keys from elsewhere decide who is let in; http:// is for \
         loopback and private addresses and for names without a dot"
    )]
    Insecure,
}

impl JwksUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is none, or not a safe one.
    pub fn parse(text: &str, issuer: Option<String>) -> Result<Self, JwksUrlError> {
        let url = Url::parse(text).map_err(|_| JwksUrlError::Malformed)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(JwksUrlError::Credentials);
        }
        match url.scheme() {
            "https" => {}
            "http" if is_near(&url) => {}
            "http" => return Err(JwksUrlError::Insecure),
            _ => return Err(JwksUrlError::Malformed),
        }
        Ok(Self { url, issuer })
    }
}

/// Whether the host is this machine or in a private network.
fn is_near(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(std::net::IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => !host.contains('.'),
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold a key of the provider.
        write!(formatter, "{}://{}{}", self.url.scheme(), self.url.authority(), self.url.path())
    }
}

/// The keys at one URL, as they were when they were fetched last.
pub(super) struct RemoteKeys {
    at: JwksUrl,
    client: Client,
    keys: ArcSwap<KeySet>,
    fetching: Mutex<Fetching>,
    started: Instant,
    metrics: Arc<Metrics>,
}

struct Fetching {
    /// When the last fetch ended.
    ended: Option<Instant>,
    for_unknown_keys: TokenBucket,
    /// Why the last fetch failed, as it was logged.
    said: Option<String>,
}

/// Whether a fetch brought other keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fetched {
    /// It did.
    Changed,
    /// It did not, or failed.
    Unchanged,
    /// Another was done in the meantime; whoever did it saw to what it brought.
    ByOthers,
}

impl RemoteKeys {
    /// Nothing is fetched yet.
    ///
    /// # Errors
    /// When the certificates of the system cannot be read.
    pub(super) fn new(at: JwksUrl, metrics: Arc<Metrics>) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(FETCH_TIMEOUT)
            // Where keys come from is what the configuration says, and nothing that it leads to.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("walcast/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let for_unknown_keys =
            TokenBucket::filling_in(UNKNOWN_KEY_PAUSE * UNKNOWN_KEY_FETCHES, UNKNOWN_KEY_FETCHES);
        let fetching = Mutex::new(Fetching { ended: None, for_unknown_keys, said: None });
        Ok(Self {
            at,
            client,
            keys: ArcSwap::default(),
            fetching,
            started: Instant::now(),
            metrics,
        })
    }

    /// The keys for tokens of this issuer.
    pub(super) fn keys_for(&self, issuer: Option<&str>) -> Option<Arc<KeySet>> {
        self.concerns(issuer).then(|| self.keys.load_full())
    }

    fn concerns(&self, issuer: Option<&str>) -> bool {
        self.at.issuer.as_deref().is_none_or(|bound| Some(bound) == issuer)
    }

    /// Fetches because a token of this issuer names a key that is not known, unless that was done
    /// since `asked` by others, or too often.
    pub(super) async fn look_for_key(&self, issuer: Option<&str>, asked: Instant) -> Fetched {
        if !self.concerns(issuer) {
            return Fetched::Unchanged;
        }
        let looking = async {
            let mut fetching = self.fetching.lock().await;
            if fetching.ended.is_some_and(|ended| ended > asked) {
                return Fetched::ByOthers;
            }
            if !fetching.for_unknown_keys.take(self.started.elapsed()) {
                return Fetched::Unchanged;
            }
            self.fetch(&mut fetching).await.0
        };
        // Others may be before it, each with a fetch of its own.
        timeout(WAIT_MAX, looking).await.unwrap_or(Fetched::Unchanged)
    }

    /// Fetches until `shutdown`, as often as the answers say; `changed` is called after each that
    /// brought other keys.
    pub(super) async fn keep(&self, changed: impl Fn() + Send, shutdown: CancellationToken) {
        loop {
            let fetching = async {
                let mut fetching = self.fetching.lock().await;
                self.fetch(&mut fetching).await
            };
            let Some((fetched, pause)) = until(fetching, &shutdown).await else { return };
            if fetched == Fetched::Changed {
                changed();
            }
            if until(sleep(pause), &shutdown).await.is_none() {
                return;
            }
        }
    }

    /// Fetches once; and when to do it again.
    async fn fetch(&self, fetching: &mut Fetching) -> (Fetched, Duration) {
        let outcome = self.download().await;
        fetching.ended = Some(Instant::now());
        match outcome {
            Ok((keys, max_age)) => {
                self.metrics.jwks_fetches.increment(1);
                if fetching.said.take().is_some() {
                    tracing::info!(url = %self.at, "the key set can be fetched again");
                }
                let fetched = if keys == **self.keys.load() {
                    Fetched::Unchanged
                } else {
                    tracing::info!(url = %self.at, n_keys = keys.len(), "fetched the key set");
                    Fetched::Changed
                };
                self.keys.store(Arc::new(keys));
                (fetched, max_age)
            }
            Err(reason) => {
                self.metrics.jwks_fetches_failed.increment(1);
                if fetching.said.as_ref() != Some(&reason) {
                    let n_keys = self.keys.load().len();
                    tracing::warn!(
                        url = %self.at,
                        n_keys,
                        "failed to fetch the key set, those that are known stay: {reason}"
                    );
                    fetching.said = Some(reason);
                }
                (Fetched::Unchanged, RETRY_PAUSE)
            }
        }
    }

    async fn download(&self) -> Result<(KeySet, Duration), String> {
        let sending = self.client.get(self.at.url.clone()).send();
        let mut answer = sending.await.map_err(|error| chain(&error.without_url()))?;
        if !answer.status().is_success() {
            return Err(format!("the answer is {}", answer.status()));
        }
        let max_age = answer.headers().get(header::CACHE_CONTROL).and_then(|value| {
            let seconds = value.to_str().ok()?.split(',').find_map(|directive| {
                directive.trim().strip_prefix("max-age=")?.parse::<u64>().ok()
            });
            seconds.map(Duration::from_secs)
        });
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| chain(&error.without_url()))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("the answer has more than {BODY_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let text = std::str::from_utf8(&body).map_err(|_| "the answer is no text".to_owned())?;
        let keys = KeySet::parse_published(text).map_err(|error| format!("the answer {error}"))?;
        let max_age = max_age.unwrap_or(MAX_AGE).clamp(MAX_AGE_MIN, MAX_AGE_MAX);
        Ok((keys, max_age))
    }
}

/// The outcome, unless the server stops before.
async fn until<T>(future: impl Future<Output = T>, shutdown: &CancellationToken) -> Option<T> {
    tokio::select! {
        outcome = future => Some(outcome),
        () = shutdown.cancelled() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_nearby() {
        let check = |text: &str, expected: Result<&str, JwksUrlError>| {
            let found = JwksUrl::parse(text, None).map(|url| url.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        };
        for near in [
            "http://localhost:9999/jwks",
            "http://127.0.0.1/jwks",
            "http://10.1.2.3/jwks",
            "http://192.168.1.1:80/jwks",
            "http://[::1]:9/jwks",
            "http://auth:9999/.well-known/jwks.json",
        ] {
            assert!(JwksUrl::parse(near, None).is_ok(), "{near}");
        }
        check("https://example.com/jwks?key=hunter2", Ok("https://example.com/jwks"));
        check("http://example.com/jwks", Err(JwksUrlError::Insecure));
        check("http://8.8.8.8/jwks", Err(JwksUrlError::Insecure));
        check("https://me:hunter2@example.com/", Err(JwksUrlError::Credentials));
        check("ftp://example.com/", Err(JwksUrlError::Malformed));
        check("jwks.json", Err(JwksUrlError::Malformed));
    }
}
