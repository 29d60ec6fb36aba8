//! Why a filter is refused for a table, in the words PostgreSQL uses.

use std::{error, fmt};

/// A refusal, printed as the reference prints a PostgreSQL error:
/// `ERROR P0001 (raise_exception) invalid column for filter x`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterError {
    sqlstate: Box<str>,
    message: Box<str>,
    constraint: Option<Box<str>>,
    hint: Option<Box<str>>,
    detail: Option<Box<str>>,
}

impl FilterError {
    /// An error PostgreSQL gave, by its SQLSTATE and message.
    #[must_use]
    pub fn new(sqlstate: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self {
            sqlstate: sqlstate.into(),
            message: message.into(),
            constraint: None,
            hint: None,
            detail: None,
        }
    }

    /// Adds the constraint's name.
    #[must_use]
    pub fn with_constraint(mut self, constraint: impl Into<Box<str>>) -> Self {
        self.constraint = Some(constraint.into());
        self
    }

    /// Adds the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The five characters of the SQLSTATE.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        &self.sqlstate
    }

    /// The message without SQLSTATE, hint and detail.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What `raise exception` gives.
    pub(crate) fn raised(message: impl Into<Box<str>>) -> Self {
        Self::new("P0001", message)
    }

    /// The type's input function does not understand the operand.
    pub(crate) fn invalid_input(type_name: &str, operand: &str) -> Self {
        Self::new("22P02", format!("invalid input syntax for type {type_name}: \"{operand}\""))
    }

    /// There is no such operator.
    pub(crate) fn no_operator(left: &str, operator: &str, right: &str) -> Self {
        Self::new("42883", format!("operator does not exist: {left} {operator} {right}")).with_hint(
            "No operator matches the given name and argument types. \
             You might need to add explicit type casts.",
        )
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {}", self.sqlstate)?;
        if let Some(name) = condition_name(&self.sqlstate) {
            write!(f, " ({name})")?;
        }
        write!(f, " {}", self.message)?;
        if self.constraint.is_some() || self.hint.is_some() {
            f.write_str("\n")?;
        }
        if let Some(constraint) = &self.constraint {
            write!(f, "\n    constraint: {constraint}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, "\n\n{detail}"))
    }
}

impl error::Error for FilterError {}

/// The condition's name for the SQLSTATEs that operands and their checks can give
/// (PostgreSQL's `errcodes.txt`).
fn condition_name(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "0A000" => "feature_not_supported",
        "21000" => "cardinality_violation",
        "22000" => "data_exception",
        "22001" => "string_data_right_truncation",
        "22003" => "numeric_value_out_of_range",
        "22004" => "null_value_not_allowed",
        "22007" => "invalid_datetime_format",
        "22008" => "datetime_field_overflow",
        "22009" => "invalid_time_zone_displacement_value",
        "2200G" => "most_specific_type_mismatch",
        "2200N" => "invalid_xml_content",
        "22012" => "division_by_zero",
        "22015" => "interval_field_overflow",
        "22018" => "invalid_character_value_for_cast",
        "22019" => "invalid_escape_character",
        "2201B" => "invalid_regular_expression",
        "22021" => "character_not_in_repertoire",
        "22023" => "invalid_parameter_value",
        "22025" => "invalid_escape_sequence",
        "22026" => "string_data_length_mismatch",
        "22P02" => "invalid_text_representation",
        "22P03" => "invalid_binary_representation",
        "23502" => "not_null_violation",
        "23514" => "check_violation",
        "42501" => "insufficient_privilege",
        "42601" => "syntax_error",
        "42703" => "undefined_column",
        "42704" => "undefined_object",
        "42725" => "ambiguous_function",
        "42804" => "datatype_mismatch",
        "42846" => "cannot_coerce",
        "42883" => "undefined_function",
        "42P22" => "indeterminate_collation",
        "53200" => "out_of_memory",
        "54000" => "program_limit_exceeded",
        "54001" => "statement_too_complex",
        "57014" => "query_canceled",
        "P0001" => "raise_exception",
        "XX000" => "internal_error_",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_reference_does() {
        let check = |error: FilterError, expected: &str| assert_eq!(error.to_string(), expected);
        check(
            FilterError::raised("invalid column for filter x"),
            "ERROR P0001 (raise_exception) invalid column for filter x",
        );
        check(
            FilterError::new("23514", "value for domain posint violates").with_constraint("pc"),
            "ERROR 23514 (check_violation) value for domain posint violates\n\n    constraint: pc",
        );
        check(
            FilterError::no_operator("json", "=", "json"),
            "ERROR 42883 (undefined_function) operator does not exist: json = json\n\n    hint: No \
             operator matches the given name and argument types. You might need to add explicit \
             type casts.",
        );
        check(
            FilterError::new("22P02", "malformed array literal: \"1\"").with_detail("Wrong."),
            "ERROR 22P02 (invalid_text_representation) malformed array literal: \"1\"\n\nWrong.",
        );
        check(FilterError::new("ZZ999", "new"), "ERROR ZZ999 new");
    }
}
