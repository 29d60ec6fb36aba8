//! The operators of a filter, each declared once: name, SQL, documentation.

use std::fmt;

macro_rules! operators {
    ($($variant:ident $name:literal $sql:literal $doc:literal $example:literal)*) => {
        /// An operator of a filter condition.
        ///
        /// The order is the one in which the reference sorts stored conditions.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Operator {
            $(#[doc = $doc] $variant,)*
        }

        impl Operator {
            /// Every operator.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in a filter: `eq`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The SQL operator it stands for.
            #[must_use]
            pub fn sql(self) -> &'static str {
                match self { $(Self::$variant => $sql,)* }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }

            /// A filter that uses it.
            #[must_use]
            pub fn example(self) -> &'static str {
                match self { $(Self::$variant => $example,)* }
            }
        }
    };
}

operators! {
    Eq "eq" "=" "Equal." "id=eq.42"
    Neq "neq" "!=" "Not equal." "status=neq.done"
    Lt "lt" "<" "Less." "price=lt.10.50"
    Lte "lte" "<=" "Less or equal." "price=lte.10.50"
    Gt "gt" ">" "Greater." "created_at=gt.2026-01-01T00:00:00Z"
    Gte "gte" ">=" "Greater or equal." "age=gte.18"
    In "in" "= ANY" "Equal to one of at most 100 values; a value with a comma is put in double quotes." "status=in.(new,open,\"on, hold\")"
    Like "like" "LIKE" "Matches a pattern in which `%` is any text and `_` any one character." "name=like.A%"
    Ilike "ilike" "ILIKE" "Like `like`, whatever the case of the letters." "name=ilike.%smith%"
    Is "is" "IS" "Is `null`, or, for a boolean column, `true`, `false` or `unknown`." "deleted_at=is.null"
    Match "match" "~" "Matches a POSIX regular expression as PostgreSQL reads it." "code=match.^[A-Z]+$"
    Imatch "imatch" "~*" "Like `match`, whatever the case of the letters." "code=imatch.^ab"
    IsDistinct "isdistinct" "IS DISTINCT FROM" "Not equal, where NULL counts as a value that differs from the operand." "owner=isdistinct.7"
}

impl Operator {
    /// The operator of that name; names are lower case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operator| operator.name() == name)
    }

    /// Whether it matches a pattern: like, ilike, match, imatch.
    #[must_use]
    pub fn is_pattern(self) -> bool {
        matches!(self, Self::Like | Self::Ilike | Self::Match | Self::Imatch)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_is_found_by_its_name_and_shown_in_its_example() {
        for operator in Operator::ALL {
            assert_eq!(Operator::from_name(operator.name()), Some(*operator));
            assert!(operator.example().contains(&format!("={}.", operator.name())), "{operator}");
        }
        assert_eq!(Operator::ALL.len(), 13);
        assert_eq!(Operator::from_name("EQ"), None);
    }
}
