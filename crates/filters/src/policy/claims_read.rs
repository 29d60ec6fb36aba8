//! What an expression reads of the claims, so that audiences it cannot tell apart share a verdict.

use std::collections::BTreeSet;

use crate::claims::Claims;

/// What an expression reads of the claims.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimsRead {
    /// The values at these paths of member names; none when it reads no claim.
    Paths(BTreeSet<Box<[Box<str>]>>),
    /// Anything.
    Everything,
}

/// The part of one audience's claims that an expression reads.
///
/// For the same role, row and [`ClaimsRead`], equal projections mean equal verdicts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Projection {
    /// Nothing: claims play no part.
    Nothing,
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
            Self::Paths(paths) if paths.is_empty() => Projection::Nothing,
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
