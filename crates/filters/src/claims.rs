//! Verified token contents, and everyone who must get the same verdict.

use std::{collections::HashMap, fmt, sync::Arc};

/// The PostgreSQL role a token asks to act as (its `role` claim).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Role(Arc<str>);

impl Role {
    /// Wraps a role name, verbatim.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The role's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The claims of a verified token, as the JSON text policies see in `request.jwt.claims`.
///
/// `Debug` does not show them: they are personal.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Claims(Arc<str>);

impl Claims {
    /// Wraps the JSON text of verified claims.
    #[must_use]
    pub fn new(json: &str) -> Self {
        Self(json.into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(…)")
    }
}

/// All subscribers that must get the same verdict: the same role with the same claims.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Audience {
    /// The role they act as.
    pub role: Role,
    /// What their policies can read about them.
    pub claims: Claims,
}

/// The short name of an interned [`Audience`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AudienceId(usize);

/// The audiences in use, each once, counted by how many hold it.
#[derive(Debug, Default)]
pub struct Audiences {
    by_value: HashMap<Arc<Audience>, AudienceId>,
    entries: Vec<Option<Entry>>,
    free: Vec<AudienceId>,
}

#[derive(Debug)]
struct Entry {
    audience: Arc<Audience>,
    n_holders: usize,
}

impl Audiences {
    /// Takes hold of an audience; every `enter` needs one `leave`.
    pub fn enter(&mut self, audience: Audience) -> AudienceId {
        if let Some(&id) = self.by_value.get(&audience) {
            if let Some(Some(entry)) = self.entries.get_mut(id.0) {
                entry.n_holders += 1;
            }
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            AudienceId(self.entries.len() - 1)
        });
        let audience = Arc::new(audience);
        self.by_value.insert(Arc::clone(&audience), id);
        if let Some(slot) = self.entries.get_mut(id.0) {
            *slot = Some(Entry { audience, n_holders: 1 });
        }
        id
    }

    /// Lets go of an audience; the last holder frees it.
    pub fn leave(&mut self, id: AudienceId) {
        let Some(slot) = self.entries.get_mut(id.0) else { return };
        let Some(entry) = slot else { return };
        entry.n_holders -= 1;
        if entry.n_holders == 0 {
            self.by_value.remove(&entry.audience);
            *slot = None;
            self.free.push(id);
        }
    }

    /// The audience, while somebody holds it.
    #[must_use]
    pub fn find(&self, id: AudienceId) -> Option<&Arc<Audience>> {
        self.entries.get(id.0)?.as_ref().map(|entry| &entry.audience)
    }

    /// How many audiences are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_value.len()
    }

    /// Whether no audience is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_value.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(role: &str, claims: &str) -> Audience {
        Audience { role: Role::new(role), claims: Claims::new(claims) }
    }

    #[test]
    fn equal_audiences_share_an_id_until_the_last_leaves() {
        let mut audiences = Audiences::default();
        let first = audiences.enter(audience("anon", "{}"));
        assert_eq!(audiences.enter(audience("anon", "{}")), first);
        let other = audiences.enter(audience("anon", r#"{"sub":"1"}"#));
        assert_ne!(other, first);
        audiences.leave(first);
        assert!(audiences.find(first).is_some());
        audiences.leave(first);
        assert!(audiences.find(first).is_none());
        assert_eq!(audiences.len(), 1);
        assert_eq!(audiences.enter(audience("service_role", "{}")), first);
        assert_eq!(audiences.find(other).map(|found| found.role.as_str()), Some("anon"));
    }

    #[test]
    fn claims_do_not_show_in_debug_output() {
        let shown = format!("{:?}", audience("anon", r#"{"email":"a@example.com"}"#));
        assert!(!shown.contains("example.com"), "{shown}");
    }
}
