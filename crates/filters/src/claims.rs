//! Verified token contents, and everyone who must get the same verdict.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    ops::Range,
    sync::{Arc, OnceLock},
};

use crate::policy::json;

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
#[derive(Clone)]
pub struct Claims(Arc<ClaimsText>);

struct ClaimsText {
    json: Box<str>,
    /// Where the members of the object are, found when first asked for; `None` when the text is no
    /// object that PostgreSQL surely accepts. 16 bytes per claim, where a tree takes hundreds.
    members: OnceLock<Option<Box<[Member]>>>,
}

/// Where in the text a claim's name (without quotes) and value stand.
struct Member {
    name: (u32, u32),
    value: (u32, u32),
}

impl Claims {
    /// Wraps the JSON text of verified claims.
    #[must_use]
    pub fn new(json: &str) -> Self {
        Self(Arc::new(ClaimsText { json: json.into(), members: OnceLock::new() }))
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.json
    }

    /// The JSON of the claim with this name, `None` inside when there is none; `None` when
    /// PostgreSQL may refuse the claims.
    pub(crate) fn member(&self, name: &str) -> Option<Option<&str>> {
        let members = self.members()?;
        // PostgreSQL takes the last of several with one name.
        let found = members.iter().rev().find(|member| self.slice(member.name) == Some(name));
        found.map_or(Some(None), |member| self.slice(member.value).map(Some))
    }

    /// Whether the claims are an object that PostgreSQL surely accepts.
    pub(crate) fn is_certain(&self) -> bool {
        self.members().is_some()
    }

    fn members(&self) -> Option<&[Member]> {
        self.0.members.get_or_init(|| find_members(&self.0.json)).as_deref()
    }

    fn slice(&self, (start, end): (u32, u32)) -> Option<&str> {
        let range: Range<usize> = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        self.0.json.get(range)
    }
}

fn find_members(text: &str) -> Option<Box<[Member]>> {
    let object =
        json::check(text).filter(|value| json::kind(value) == Some(json::JsonKind::Object))?;
    let place = |part: &str| {
        let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        Some((u32::try_from(start).ok()?, u32::try_from(start + part.len()).ok()?))
    };
    let mut members = Vec::new();
    let mut is_plain = true;
    json::members(object, |name, value| match (name, place(value)) {
        (Cow::Borrowed(name), Some(value)) => match place(name) {
            Some(name) => members.push(Member { name, value }),
            None => is_plain = false,
        },
        // A name with an escape is not in the text as it is.
        (Cow::Owned(_), _) | (_, None) => is_plain = false,
    })?;
    is_plain.then(|| members.into())
}

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.json == other.0.json
    }
}

impl Eq for Claims {}

impl Hash for Claims {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.json.hash(state);
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
    fn claims_are_found_by_name() {
        let claims = Claims::new(r#" {"sub" : "a", "app":{"sub":1}, "sub":null,"n":2} "#);
        assert_eq!(claims.member("sub"), Some(Some("null")));
        assert_eq!(claims.member("app"), Some(Some(r#"{"sub":1}"#)));
        assert_eq!(claims.member("role"), Some(None));
        for doubtful in ["", "[]", "1", "{\"a\":\"\\u0000\"}", r#"{"\u0061":1}"#, "{\"a\":1e9999}"]
        {
            assert_eq!(Claims::new(doubtful).member("a"), None, "{doubtful}");
        }
    }

    #[test]
    fn claims_do_not_show_in_debug_output() {
        let shown = format!("{:?}", audience("anon", r#"{"email":"a@example.com"}"#));
        assert!(!shown.contains("example.com"), "{shown}");
    }
}
