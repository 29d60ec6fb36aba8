//! An error message of the server.

use std::fmt;

/// What PostgreSQL said in an ErrorResponse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerError {
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The primary message, in the server's language.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What the server proposes.
    pub hint: Option<String>,
}

impl ServerError {
    /// Whether the same request may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let class = self.code.get(..2).unwrap_or_default();
        match class {
            // Connection, rollback, operator intervention, system, internal.
            "08" | "40" | "57" | "58" | "XX" => true,
            // Too many connections or no memory pass; a configured limit (53400) does not.
            "53" => self.code != "53400",
            // Object in use, lock not available.
            "55" => matches!(self.code.as_str(), "55006" | "55P03"),
            _ => false,
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL: {} (SQLSTATE {})", self.message, self.code)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sqlstate_says_whether_time_helps() {
        for (code, expected) in [
            ("57P01", true),
            ("57P03", true),
            ("53300", true),
            ("08006", true),
            ("55006", true),
            ("XX000", true),
            ("53400", false),
            ("55000", false),
            ("28P01", false),
            ("3D000", false),
            ("42501", false),
            ("", false),
            ("é", false),
        ] {
            let error = ServerError {
                code: code.to_owned(),
                message: String::new(),
                detail: None,
                hint: None,
            };
            assert_eq!(error.is_transient(), expected, "{code}");
        }
    }
}
