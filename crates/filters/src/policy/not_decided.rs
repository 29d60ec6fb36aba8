//! Why a policy is left to PostgreSQL.

use std::fmt;

/// Why a policy cannot be decided in process; `Display` completes "PostgreSQL is asked because …".
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotDecided {
    /// The catalogue gave no expression to compile.
    NotRead,
    /// It is larger or nests deeper than what is compiled.
    TooLarge,
    /// The stored form has something that no known version of PostgreSQL writes.
    Unfamiliar,
    /// The server's architecture or encoding is not one whose stored constants are read.
    Server,
    /// Somebody may no longer run one of PostgreSQL's own functions.
    Revoked,
    /// It has a subquery.
    Subquery,
    /// It refers to the row as a whole.
    WholeRow,
    /// It reads a system column, or one whose type the catalogue does not know.
    Column,
    /// It calls this function.
    Calls(Box<str>),
    /// It uses this operator.
    Operator(Box<str>),
    /// It has this sort of expression, by PostgreSQL's name for it.
    Construct(Box<str>),
    /// It converts between types in a way that is not known here.
    Conversion,
    /// It has a constant of a type that is not read here, or an array that is too long.
    Constant,
    /// A part without columns and claims may raise an error.
    MayRaise,
    /// It compares texts under a collation that only PostgreSQL knows.
    Collation,
    /// The settings it reads may have defaults in this database.
    Settings,
    /// The role may not run a function that it calls.
    MayNotRun,
}

impl fmt::Display for NotDecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRead => "its expression could not be read",
            Self::TooLarge => "it is too large or nests too deeply",
            Self::Unfamiliar => "its stored form is not one that is known here",
            Self::Server => "the server's architecture or encoding is not one that is known here",
            Self::Revoked => "EXECUTE on a function of PostgreSQL was revoked from PUBLIC",
            Self::Subquery => "it has a subquery, which may read other rows",
            Self::WholeRow => "it refers to the row as a whole",
            Self::Column => "it reads a column whose type is not known here",
            Self::Calls(name) => {
                return write!(f, "it calls {name}, which only PostgreSQL can run");
            }
            Self::Operator(name) => {
                return write!(
                    f,
                    "it uses the operator {name}, which only PostgreSQL can evaluate"
                );
            }
            Self::Construct(name) => {
                return write!(f, "it uses {name}, which only PostgreSQL can evaluate");
            }
            Self::Conversion => "it converts a value in a way that only PostgreSQL knows",
            Self::Constant => "it has a constant that only PostgreSQL can read",
            Self::MayRaise => "a constant part of it may raise an error",
            Self::Collation => "it compares texts in an order that only PostgreSQL knows",
            Self::Settings => "a setting that it reads has a default in this database",
            Self::MayNotRun => "the role may not run a function that it calls",
        })
    }
}

impl std::error::Error for NotDecided {}
