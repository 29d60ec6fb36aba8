//! The grammar of a filter: `column=[not.]operator.value`, several joined by commas.

use std::{error, fmt};

use crate::{Operator, inspect};

/// Longest filter text, in bytes: a hundred values of 160 bytes each.
pub const MAX_FILTER_BYTES: usize = 16 * 1024;
/// Most conditions in one filter; each costs a comparison per row.
pub const MAX_CONDITIONS: usize = 64;

/// One condition as it was written, not yet checked against a table.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RawCondition {
    /// The column's name, verbatim.
    pub column: String,
    /// The operator.
    pub operator: Operator,
    /// The operand; of `in` PostgreSQL's array literal: `(a,b)` is kept as `{a,b}`.
    pub value: String,
    /// Whether `not.` stood before the operator.
    pub is_negated: bool,
}

/// Why a filter's text is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseError {
    /// The parts that are not `operator.value` with a known operator.
    Malformed(Vec<String>),
    /// Two commas in a row, or one at an end.
    EmptySegment,
    /// The value of `in` lacks its parentheses.
    Parentheses,
    /// The text is longer than [`MAX_FILTER_BYTES`].
    TooLong(usize),
    /// There are more conditions than [`MAX_CONDITIONS`].
    TooManyConditions(usize),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Error parsing `filter` params: ")?;
        match self {
            Self::Malformed(parts) => f.write_str(&inspect::list(parts.iter().map(String::as_str))),
            Self::EmptySegment => {
                f.write_str("filter must not contain empty segments (check for extra commas)")
            }
            Self::Parentheses => f.write_str("`in` filter value must be wrapped by parentheses"),
            Self::TooLong(bytes) => {
                write!(f, "filter must not be longer than {MAX_FILTER_BYTES} bytes, got {bytes}")
            }
            Self::TooManyConditions(conditions) => write!(
                f,
                "filter must not have more than {MAX_CONDITIONS} conditions, got {conditions}"
            ),
        }
    }
}

impl error::Error for ParseError {}

/// Reads a filter; a blank text has no conditions.
///
/// # Errors
///
/// The text does not follow the grammar or passes a bound.
pub fn parse(filter: &str) -> Result<Vec<RawCondition>, ParseError> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(ParseError::TooLong(filter.len()));
    }
    let filter = filter.trim();
    if filter.is_empty() {
        return Ok(Vec::new());
    }
    let segments = segments(filter);
    if segments.len() > MAX_CONDITIONS {
        return Err(ParseError::TooManyConditions(segments.len()));
    }
    segments.into_iter().map(|segment| condition(segment.trim())).collect()
}

/// Splits at commas outside parentheses and quotes. A quote opens only after `.`, `(` or `,`.
fn segments(filter: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let mut rest = filter;
    let mut previous = '\0';
    loop {
        let end = segment_end(rest, previous);
        previous = ',';
        segments.push(rest.get(..end).unwrap_or(rest));
        match rest.get(end + 1..) {
            Some(after_comma) if end < rest.len() => rest = after_comma,
            _ => return segments,
        }
    }
}

/// The position of the comma that ends the first segment, or the length.
fn segment_end(text: &str, mut previous: char) -> usize {
    let mut depth = 0_usize;
    let mut is_quoted = false;
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '\\' if is_quoted => {
                characters.next();
            }
            '"' if is_quoted => is_quoted = false,
            _ if is_quoted => {}
            '"' if matches!(previous, '.' | '(' | ',') => is_quoted = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return position,
            _ => {}
        }
        previous = character;
    }
    text.len()
}

fn condition(segment: &str) -> Result<RawCondition, ParseError> {
    if segment.is_empty() {
        return Err(ParseError::EmptySegment);
    }
    let malformed = |parts: &[&str]| {
        ParseError::Malformed(parts.iter().map(|part| (*part).to_owned()).collect())
    };
    let (column, expression) = segment.split_once('=').ok_or_else(|| malformed(&[segment]))?;
    let (expression, is_negated) =
        expression.strip_prefix("not.").map_or((expression, false), |positive| (positive, true));
    let (name, value) = expression.split_once('.').ok_or_else(|| malformed(&[expression]))?;
    let operator = Operator::from_name(name).ok_or_else(|| malformed(&[name, value]))?;
    let value = if operator == Operator::In {
        let items = value.strip_prefix('(').and_then(|value| value.strip_suffix(')'));
        format!("{{{}}}", items.ok_or(ParseError::Parentheses)?)
    } else {
        unquoted(value).unwrap_or_else(|| value.to_owned())
    };
    Ok(RawCondition { column: column.to_owned(), operator, value, is_negated })
}

/// The text inside, when the whole value is one quoted text.
fn unquoted(value: &str) -> Option<String> {
    let mut characters = value.strip_prefix('"')?.chars();
    let mut text = String::with_capacity(value.len());
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(text),
            '\\' => text.push(characters.next()?),
            character => text.push(character),
        }
    }
}

/// Prints the condition so that it reads back as itself, as long as a filter can express it at all:
/// a column with a comma, an equals sign or blanks at its ends cannot be written.
impl fmt::Display for RawCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.is_negated { "not." } else { "" };
        write!(f, "{}={not}{}.", self.column, self.operator)?;
        if self.operator == Operator::In {
            let items = self.value.strip_prefix('{').and_then(|value| value.strip_suffix('}'));
            return write!(f, "({})", items.unwrap_or(&self.value));
        }
        let is_plain =
            self.value.trim_end() == self.value && !self.value.contains(['"', '\\', ',', '(', ')']);
        if is_plain {
            return f.write_str(&self.value);
        }
        let escaped = self.value.replace('\\', "\\\\").replace('"', "\\\"");
        write!(f, "\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop, prop_assert_eq, proptest};

    use super::*;

    /// `tests/data/parse.json`: filters with what the reference's parser makes of them.
    const CASES: &str = include_str!("../tests/data/parse.json");

    #[test]
    fn reads_what_the_reference_reads_and_refuses_with_its_words() {
        let cases: Vec<serde_json::Value> = serde_json::from_str(CASES).unwrap();
        assert!(cases.len() > 200);
        for case in cases {
            let filter = case["filter"].as_str().unwrap();
            let parsed = parse(filter);
            if let Some(error) = case["error"].as_str() {
                assert_eq!(parsed.map_err(|error| error.to_string()), Err(error.to_owned()));
                continue;
            }
            let conditions: Vec<_> = parsed.unwrap().iter().map(as_json).collect();
            assert_eq!(serde_json::Value::from(conditions), case["filters"], "{filter}");
        }
    }

    fn as_json(condition: &RawCondition) -> serde_json::Value {
        let RawCondition { column, operator, value, is_negated } = condition;
        serde_json::json!([column, operator.name(), value, is_negated])
    }

    #[test]
    fn the_bounds_hold() {
        let long = format!("a=eq.{}", "x".repeat(MAX_FILTER_BYTES));
        assert_eq!(parse(&long), Err(ParseError::TooLong(long.len())));
        let fits = vec!["a=eq.1"; MAX_CONDITIONS];
        assert_eq!(parse(&fits.join(",")).map(|found| found.len()), Ok(MAX_CONDITIONS));
        let more = vec!["a=eq.1"; MAX_CONDITIONS + 1].join(",");
        assert_eq!(parse(&more), Err(ParseError::TooManyConditions(MAX_CONDITIONS + 1)));
    }

    fn conditions() -> impl Strategy<Value = Vec<RawCondition>> {
        let operator = prop::sample::select(Operator::ALL);
        let condition = ("[a-zé_ ]{0,5}[a-z.]", operator, "\\PC{0,20}", prop::bool::ANY).prop_map(
            |(column, operator, value, is_negated)| {
                let column = column.trim_start().to_owned();
                let value = if operator == Operator::In {
                    let plain = |character: &char| !matches!(character, '"' | '(' | ')' | '\\');
                    format!("{{{}}}", value.chars().filter(plain).collect::<String>())
                } else {
                    value
                };
                RawCondition { column, operator, value, is_negated }
            },
        );
        prop::collection::vec(condition, 0..5)
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(conditions in conditions()) {
            let printed: Vec<String> = conditions.iter().map(ToString::to_string).collect();
            prop_assert_eq!(parse(&printed.join(",")), Ok(conditions));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
            if let Ok(conditions) = parse(&text) {
                prop_assert_eq!(conditions.is_empty(), text.trim().is_empty());
            }
        }
    }
}
