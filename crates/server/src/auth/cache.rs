//! Tokens that were verified, so that a storm of reconnects costs no signatures.

use std::collections::HashMap;

use aws_lc_rs::digest;

use super::claims::Accepted;

/// The SHA-256 of a token. The tokens themselves are kept nowhere.
pub(super) type Digest = [u8; digest::SHA256_OUTPUT_LEN];

/// Tokens per generation. Two generations of 8,192 tokens with 1 kB of claims each are 16 MB.
const GENERATION: usize = 8192;

/// The tokens used last, in two generations: when the young one is full it becomes the old one,
/// and whatever was not used since is forgotten. Whether a token has expired is asked at each use.
#[derive(Default)]
pub(super) struct TokenCache {
    young: HashMap<Digest, Accepted>,
    old: HashMap<Digest, Accepted>,
    /// How often everything was forgotten.
    generation: u64,
}

impl TokenCache {
    pub(super) fn digest(token: &str) -> Digest {
        let mut bytes = Digest::default();
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        bytes
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Accepted> {
        self.young.get(digest).or_else(|| self.old.get(digest)).cloned()
    }

    /// Forgets all tokens: the keys are others.
    pub(super) fn forget(&mut self) {
        *self = Self { generation: self.generation + 1, ..Self::default() };
    }

    /// How often everything was forgotten.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Keeps a token, or keeps it longer; not one that was verified before a generation ended.
    pub(super) fn insert(&mut self, digest: Digest, accepted: Accepted, generation: u64) {
        if generation != self.generation {
            return;
        }
        if self.young.len() >= GENERATION && !self.young.contains_key(&digest) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, accepted);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::claims::{self, ClaimValidators};

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let claims = json!({"role": "anon", "exp": 2});
        let accepted =
            claims::accept(claims.as_object().unwrap(), "{}", &ClaimValidators::default(), 1)
                .unwrap();
        let mut cache = TokenCache::default();
        let used = TokenCache::digest("used");
        let unused = TokenCache::digest("unused");
        cache.insert(unused, accepted.clone(), 0);
        for number in 0..3 * GENERATION {
            cache.insert(used, accepted.clone(), 0);
            cache.insert(TokenCache::digest(&number.to_string()), accepted.clone(), 0);
            assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION);
        }
        assert!(cache.find(&used).is_some());
        assert!(cache.find(&unused).is_none());
        cache.forget();
        assert!(cache.find(&used).is_none());
        cache.insert(used, accepted.clone(), 0);
        assert!(cache.find(&used).is_none(), "verified with keys of before");
        cache.insert(used, accepted, 1);
        assert!(cache.find(&used).is_some());
    }
}
