//! What an expression reads of the claims, so that audiences it cannot tell apart share a verdict.

use std::collections::BTreeSet;

use super::{
    expression::{Expression, Function},
    json::{self, JsonKind},
    shape::Datum,
};
use crate::{claims::Claims, value::Value};

/// What an expression reads of the claims.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimsRead {
    /// The values at these paths of member names; none when it reads no claim.
    Paths(BTreeSet<Path>),
    /// Anything.
    Everything,
}

/// Names of members, from the outermost in.
pub type Path = Box<[Box<str>]>;

/// The part of one audience's claims that an expression reads.
///
/// For the same role, row and [`ClaimsRead`], equal projections mean equal verdicts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Projection {
    /// The JSON of the values at the paths, in the order of the paths; `None` where there is none.
    Values(Box<[Option<Box<str>>]>),
    /// The claims themselves.
    Everything(Claims),
}

impl ClaimsRead {
    /// No claim at all.
    pub const NOTHING: Self = Self::Paths(BTreeSet::new());

    /// What `claims` hold of what is read.
    #[must_use]
    pub fn project(&self, claims: &Claims) -> Projection {
        match self {
            Self::Paths(paths) if paths.is_empty() => Projection::Values(Box::default()),
            Self::Paths(paths) if claims.is_certain() => {
                let values = paths.iter().map(|path| value(claims, path).map(Into::into));
                Projection::Values(values.collect())
            }
            // PostgreSQL may refuse these claims for anything that is in them.
            Self::Paths(_) | Self::Everything => Projection::Everything(claims.clone()),
        }
    }

    pub(super) fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Paths(mut paths), Self::Paths(more)) => {
                paths.extend(more);
                Self::Paths(paths)
            }
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
        }
    }
}

/// The JSON at a path of certain claims.
fn value<'c>(claims: &'c Claims, path: &[Box<str>]) -> Option<&'c str> {
    let (first, rest) = path.split_first()?;
    let mut found = claims.member(first)??;
    for name in rest {
        if json::kind(found)? != JsonKind::Object {
            return None;
        }
        found = json::member(found, name)??;
    }
    Some(found)
}

/// What a compiled expression reads.
pub(super) fn claims_read(expression: &Expression) -> ClaimsRead {
    let mut paths = BTreeSet::new();
    if collect(expression, &mut paths) { ClaimsRead::Paths(paths) } else { ClaimsRead::Everything }
}

/// Collects the paths; false when any claim may be read.
fn collect(expression: &Expression, paths: &mut BTreeSet<Path>) -> bool {
    match path(expression) {
        Some(path) if path.is_empty() => false,
        Some(path) => {
            paths.insert(path.into());
            true
        }
        None if matches!(expression, Expression::ClaimsText) => false,
        None => expression.each_child(&mut |child| collect(child, paths)),
    }
}

/// The path of what an expression takes out of the claims; empty for the claims as a whole.
fn path(expression: &Expression) -> Option<Vec<Box<str>>> {
    if matches!(expression, Expression::Claims { .. }) {
        return Some(Vec::new());
    }
    let Expression::Apply(function, arguments) = expression else { return None };
    let [from, Expression::Constant(Some(name))] = &**arguments else { return None };
    match (function, name) {
        (Function::JsonMember(_), Datum::Value(Value::Text(name))) => {
            let mut path = path(from)?;
            path.push((**name).into());
            Some(path)
        }
        (Function::JsonPath(_), Datum::Array(names)) => {
            let mut path = path(from)?;
            for name in names.as_slice() {
                match name {
                    // A number may be a position in an array: all of the array is read.
                    Some(Value::Text(name)) if !name.bytes().any(|byte| byte.is_ascii_digit()) => {
                        path.push((**name).into());
                    }
                    _ => break,
                }
            }
            Some(path)
        }
        _ => None,
    }
}
