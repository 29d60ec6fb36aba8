//! The one table of deliberate differences: where walcast answers otherwise than the reference, and
//! which decision says so.
//!
//! A difference belongs to a rule, not to a case: [`super::oracle`] works out what walcast has to
//! send in a case by its own rules, and names the rules it needed. A case passes when the reference
//! and these rules agree and walcast does what both say. It is a deliberate difference when they
//! disagree by a rule of this table and walcast does what the rule says. Everything else fails.

/// A rule by which walcast differs from the reference.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Difference {
    /// A row is shown or hidden as it was committed.
    RowImageDecides,
    /// An UPDATE's old image needs the policies' consent.
    OldRecordAuthorised,
    /// A DELETE needs the policies' consent where it can be had.
    DeleteAuthorised,
    /// One subscriber's error is nobody else's.
    ErrorsAreIsolated,
    /// char(n) and bit(n) are delivered and compared whole.
    WholeCharacters,
    /// Error 400 and 401 carry the commit time.
    CommitTimestamp,
    /// A table's name is no pattern.
    ExactNames,
    /// The root of a partitioned table can be subscribed to.
    PartitionRoot,
    /// A filter sees an unchanged large value through the old row.
    UnchangedValueFiltered,
    /// like, ilike, match and imatch work on everything that is text.
    PatternOperators,
    /// A filter without an operator for its type is refused.
    NoSuchOperator,
    /// PostgreSQL applies the publication's row filters and column lists.
    PublicationApplied,
    /// PostgreSQL below 18 does not stream stored generated columns.
    GeneratedColumnMissing,
    /// Names, privileges and policies are those of the commit.
    StateAtCommit,
    /// Dates are in ISO style and floats keep all their digits, whatever the database's settings.
    OutputStyles,
    /// A role's name is taken as it is, capital letters included.
    RoleVerbatim,
    /// `\x6162` on a bytea column means the bytes, as the reference takes `6162`.
    HexadecimalBytes,
    /// Without USAGE on a schema nothing in it can be selected.
    SchemaUsage,
    /// Subscriptions are not rows that SQL can add or delete.
    SubscriptionsInMemory,
    /// Over the wire a table outside the publication is refused.
    NotInPublication,
    /// `null` for table or filter means that it is absent.
    NullIsAbsent,
}

/// Every difference with its reason and the passage it follows.
const TABLE: [(Difference, &str, &str); 21] = [
    (
        Difference::RowImageDecides,
        "row-level security decides on the row as committed, not on what became of it",
        "decisions, row-level security 1",
    ),
    (
        Difference::OldRecordAuthorised,
        "the old row is sent whole only to those whom the policies let see it",
        "decisions, row-level security 2",
    ),
    (
        Difference::DeleteAuthorised,
        "a DELETE reaches only those who could see the row, with the whole old image",
        "decisions, row-level security 3",
    ),
    (
        Difference::ErrorsAreIsolated,
        "what fails for one subscriber denies that row to it and loses nothing of others",
        "decisions, row-level security 4",
    ),
    (
        Difference::WholeCharacters,
        "char(n) and bit(n) are delivered and compared whole",
        "decisions, payloads",
    ),
    (
        Difference::CommitTimestamp,
        "error 400 and 401 carry a real commit_timestamp",
        "decisions, payloads",
    ),
    (
        Difference::ExactNames,
        "a table's name is exact, * is the only wildcard",
        "decisions, payloads",
    ),
    (
        Difference::PartitionRoot,
        "the root of a partitioned table can be subscribed to",
        "decisions, payloads",
    ),
    (
        Difference::UnchangedValueFiltered,
        "a filter on an unchanged TOAST column uses the old value",
        "decisions, payloads",
    ),
    (
        Difference::PatternOperators,
        "like and match work on varchar, domains over text and enums",
        "decisions, payloads",
    ),
    (
        Difference::NoSuchOperator,
        "a filter that has no operator for its type is refused",
        "decisions, payloads",
    ),
    (
        Difference::PublicationApplied,
        "PostgreSQL applies the publication's row filters and column lists",
        "postgres-changes 14.2",
    ),
    (
        Difference::GeneratedColumnMissing,
        "stored generated columns are not in the stream",
        "decisions, payloads",
    ),
    (
        Difference::StateAtCommit,
        "names, privileges and policies are those of the commit",
        "decisions, row-level security 1 and 5",
    ),
    (
        Difference::OutputStyles,
        "dates come in ISO style and floats with all their digits, whatever the database's settings",
        "postgres-changes 14.6",
    ),
    (
        Difference::RoleVerbatim,
        "a role is found by its name as the token has it, capital letters included",
        "decisions, row-level security 6",
    ),
    (
        Difference::HexadecimalBytes,
        "bytes may be written as PostgreSQL writes them, too: \\x6162 as well as 6162",
        "postgres-changes 8",
    ),
    (
        Difference::SchemaUsage,
        "without USAGE on the schema nothing in it can be selected",
        "decisions, row-level security 6",
    ),
    (
        Difference::SubscriptionsInMemory,
        "subscriptions and claims are stored nowhere that SQL can reach",
        "decisions, payloads",
    ),
    (
        Difference::NotInPublication,
        "the case writes a subscription that no client can make",
        "postgres-changes 5",
    ),
    (Difference::NullIsAbsent, "a table or filter of null counts as absent", "protocol 5.3"),
];

impl Difference {
    /// The reason, and the passage it follows.
    pub fn reason(self) -> String {
        TABLE
            .iter()
            .find(|(difference, ..)| *difference == self)
            .map(|(_, reason, passage)| format!("{reason} ({passage})"))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_difference_once() {
        let mut listed: Vec<Difference> =
            TABLE.iter().map(|(difference, ..)| *difference).collect();
        listed.sort_unstable();
        let before = listed.len();
        listed.dedup();
        assert_eq!(listed.len(), before);
        for difference in listed {
            assert!(difference.reason().contains('('), "{difference:?}");
        }
    }
}
