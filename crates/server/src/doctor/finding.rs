//! One line of the doctor's report.

use std::fmt;

/// What was found, and the SQL that mends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) text: String,
    pub(super) remedy: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Works, but not as one might expect.
    Warning,
    /// Does not work.
    Failure,
}

impl Finding {
    pub(super) fn good(text: impl Into<String>) -> Self {
        Self { level: Level::Good, text: text.into(), remedy: None }
    }

    pub(super) fn note(text: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into(), remedy: None }
    }

    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into(), remedy: None }
    }

    pub(super) fn failure(text: impl Into<String>) -> Self {
        Self { level: Level::Failure, text: text.into(), remedy: None }
    }

    /// Adds what to do about it.
    pub(super) fn mend(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.level {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Warning => "warn",
            Level::Failure => "FAIL",
        };
        write!(formatter, "{word:<5} {}", self.text)?;
        match &self.remedy {
            Some(remedy) => write!(formatter, " | mend: {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_remedy_at_the_end() {
        assert_eq!(Finding::good("all is well").to_string(), "ok    all is well");
        assert_eq!(
            Finding::failure("it is off").mend("alter system set it = on;").to_string(),
            "FAIL  it is off | mend: alter system set it = on;"
        );
    }
}
