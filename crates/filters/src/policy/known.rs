//! The functions of schemas `auth` and `realtime` whose definitions are known: walcast's own and
//! Supabase's.
//!
//! A function is known by its whole definition, word for word; one that a user wrote under the same
//! name is PostgreSQL's to run.

use walcast_change::oid;

use super::{
    FunctionId,
    environment::{Environment, FunctionFacts},
    expression::{Expression, Function, JsonResult},
    shape::{Datum, JsonForm, Shape},
};
use crate::value::Kind;

/// One definition.
struct Definition {
    name: &'static str,
    source: &'static str,
    meaning: Meaning,
    /// Whether it calls `auth.jwt()`.
    calls_jwt: bool,
}

/// What a definition comes to where no `request.jwt.claim…` setting is set.
#[derive(Clone, Copy)]
enum Meaning {
    /// The claims.
    Jwt,
    /// A claim as text.
    Claim(&'static str),
    /// The claim `sub` as a uuid; an empty text is NULL in walcast's own, an error in Supabase's.
    Uid { empty_is_null: bool },
    /// NULL: only the settings are read.
    Null,
    /// The topic of the channel that is asked about.
    Topic,
}

/// In order of `source`'s history: walcast's, then Supabase's from the newest to the oldest. Those of
/// 2022 that read `coalesce(current_setting('request.jwt.claim.sub', true), …)` are left out: what
/// they make of a setting that is empty, rather than unset, cannot be seen from outside. The last is
/// the one that people write by hand.
const DEFINITIONS: [Definition; 13] = [
    Definition {
        name: "jwt",
        source: "select nullif(current_setting('request.jwt.claims', true), '')::jsonb",
        meaning: Meaning::Jwt,
        calls_jwt: false,
    },
    Definition {
        name: "uid",
        source: "select (nullif(auth.jwt() ->> 'sub', ''))::uuid",
        meaning: Meaning::Uid { empty_is_null: true },
        calls_jwt: true,
    },
    Definition {
        name: "role",
        source: "select auth.jwt() ->> 'role'",
        meaning: Meaning::Claim("role"),
        calls_jwt: true,
    },
    Definition {
        name: "email",
        source: "select auth.jwt() ->> 'email'",
        meaning: Meaning::Claim("email"),
        calls_jwt: true,
    },
    Definition {
        name: "jwt",
        source: "select coalesce(nullif(current_setting('request.jwt.claim', true), ''), \
                 nullif(current_setting('request.jwt.claims', true), ''))::jsonb",
        meaning: Meaning::Jwt,
        calls_jwt: false,
    },
    Definition {
        name: "uid",
        source: "select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), \
                 (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid",
        meaning: Meaning::Uid { empty_is_null: false },
        calls_jwt: false,
    },
    Definition {
        name: "role",
        source: "select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), \
                 (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text",
        meaning: Meaning::Claim("role"),
        calls_jwt: false,
    },
    Definition {
        name: "email",
        source: "select coalesce(nullif(current_setting('request.jwt.claim.email', true), ''), \
                 (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'))::text",
        meaning: Meaning::Claim("email"),
        calls_jwt: false,
    },
    Definition {
        name: "uid",
        source: "select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid",
        meaning: Meaning::Null,
        calls_jwt: false,
    },
    Definition {
        name: "role",
        source: "select nullif(current_setting('request.jwt.claim.role', true), '')::text",
        meaning: Meaning::Null,
        calls_jwt: false,
    },
    Definition {
        name: "email",
        source: "select nullif(current_setting('request.jwt.claim.email', true), '')::text",
        meaning: Meaning::Null,
        calls_jwt: false,
    },
    Definition {
        name: "uid",
        source: "select (auth.jwt() ->> 'sub')::uuid",
        meaning: Meaning::Uid { empty_is_null: false },
        calls_jwt: true,
    },
    Definition {
        name: "topic",
        source: "select nullif(current_setting('realtime.topic', true), '')::text",
        meaning: Meaning::Topic,
        calls_jwt: false,
    },
];

/// What a known function comes to.
pub(super) struct Known {
    pub(super) expression: Expression,
    pub(super) shape: Shape,
    /// The functions that the role must be allowed to run.
    pub(super) calls: Vec<FunctionId>,
}

/// The meaning of a call without arguments, if the function is known.
pub(super) fn meaning(id: FunctionId, environment: &Environment) -> Option<Known> {
    let facts = environment.functions.get(&id)?;
    let definition = definition(facts, environment)?;
    let mut calls = vec![id];
    if definition.calls_jwt {
        let (jwt, facts) = environment
            .functions
            .iter()
            .find(|(_, facts)| (&*facts.schema, &*facts.name) == ("auth", "jwt"))?;
        if !matches!(self::definition(facts, environment)?.meaning, Meaning::Jwt) {
            return None;
        }
        calls.push(*jwt);
    }
    let (expression, kind, result_type) = match definition.meaning {
        Meaning::Jwt => (claims(), None, oid::JSONB),
        Meaning::Claim(name) => (claim(name), Some(Kind::Text), oid::TEXT),
        Meaning::Uid { empty_is_null } => (uid(empty_is_null), Some(Kind::Uuid), oid::UUID),
        // Some of the settings are set there; the others are no constants to PostgreSQL.
        Meaning::Null if environment.has_channel_settings => return None,
        Meaning::Topic if environment.has_channel_settings => {
            (Expression::Topic, Some(Kind::Text), oid::TEXT)
        }
        Meaning::Topic => return None,
        Meaning::Null if definition.name == "uid" => {
            (Expression::Constant(None), Some(Kind::Uuid), oid::UUID)
        }
        Meaning::Null => (Expression::Constant(None), Some(Kind::Text), oid::TEXT),
    };
    let shape = kind.map_or(Shape::Json(JsonForm::Jsonb), Shape::Scalar);
    (facts.result_type == result_type.0).then_some(Known { expression, shape, calls })
}

fn definition(facts: &FunctionFacts, environment: &Environment) -> Option<&'static Definition> {
    let has_usual_names = match &*facts.settings {
        [] => environment.has_usual_names,
        [only] => matches!(&**only, "search_path=" | "search_path=\"\""),
        _ => false,
    };
    let is_of_realtime = match &*facts.schema {
        "auth" => false,
        "realtime" => true,
        _ => return None,
    };
    if !facts.is_plain || !has_usual_names {
        return None;
    }
    let source = words(&facts.source)?;
    let found = DEFINITIONS.iter().find(|definition| {
        definition.name == &*facts.name
            && matches!(definition.meaning, Meaning::Topic) == is_of_realtime
            && words(definition.source).as_ref() == Some(&source)
    })?;
    let reads_legacy =
        facts.source.contains("request.jwt.claim.") || facts.source.contains("'request.jwt.claim'");
    (environment.has_no_claim_defaults || !reads_legacy).then_some(found)
}

fn claims() -> Expression {
    Expression::Claims { form: JsonForm::Jsonb, empty_is_null: true }
}

fn claim(name: &'static str) -> Expression {
    let name = Expression::Constant(Some(Datum::text(name)));
    Expression::Apply(Function::JsonMember(JsonResult::Text), [claims(), name].into())
}

fn uid(empty_is_null: bool) -> Expression {
    let mut sub = claim("sub");
    if empty_is_null {
        sub = Expression::NullIf(
            super::expression::Comparison::text(),
            Box::new([sub, Expression::Constant(Some(Datum::text("")))]),
        );
    }
    Expression::Apply(Function::Read(Shape::Scalar(Kind::Uuid)), [sub].into())
}

/// The words of a definition, so that blanks and the case of keywords do not count; `None` when it
/// has comments or other quotes than plain literals.
fn words(source: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = source.trim_end().trim_end_matches(';');
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Some(words) };
        let is_word = |next: char| next.is_ascii_alphanumeric() || matches!(next, '_' | '.');
        let is_symbol = |next: char| matches!(next, '-' | '>' | ':' | '=' | '<' | '/' | '*');
        let length = match first {
            '\'' => rest.get(1..)?.find('\'')? + 2,
            '(' | ')' | ',' => 1,
            _ if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
            _ if is_symbol(first) => rest.find(|next| !is_symbol(next)).unwrap_or(rest.len()),
            _ => return None,
        };
        let (word, after) = rest.split_at_checked(length)?;
        if word.starts_with("--") || word.contains("/*") {
            return None;
        }
        words.push(if first == '\'' { word.to_owned() } else { word.to_ascii_lowercase() });
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_case_do_not_count_in_a_definition() {
        let supabase = "
  select
  coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
";
        assert_eq!(words(supabase), words(DEFINITIONS[5].source));
        assert_eq!(words("SELECT auth.jwt()->>'role';"), words(DEFINITIONS[2].source));
        for other in [
            "select auth.jwt() ->> 'Role'",
            "select auth.jwt() - >> 'role'",
            "select auth.jwt() ->> 'ro''le'",
            "select auth.jwt() ->> 'role' -- x",
            "select auth.jwt() /* x */ ->> 'role'",
            "select \"auth\".jwt() ->> 'role'",
            "select auth.jwt() ->> E'role'",
        ] {
            assert_ne!(words(other), words(DEFINITIONS[2].source), "{other}");
        }
    }
}
