//! Comparing what came with what should have come, down to the first difference.

use walcast_tests::Json;

/// Stands for any commit time in a recorded payload.
pub const ANY_COMMIT_TIMESTAMP: &str = "<commit_timestamp>";

/// The first difference between two lists of payloads.
pub fn first_difference(expected: &[Json], actual: &[Json]) -> Option<String> {
    for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
        if let Some(difference) = difference(expected, actual, &format!("[{index}]")) {
            return Some(difference);
        }
    }
    match expected.len().cmp(&actual.len()) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => expected
            .get(actual.len())
            .map(|missing| format!("[{}] is missing: {}", actual.len(), excerpt(missing))),
        std::cmp::Ordering::Less => actual
            .get(expected.len())
            .map(|extra| format!("[{}] is too much: {}", expected.len(), excerpt(extra))),
    }
}

/// The first difference between two values.
pub fn difference(expected: &Json, actual: &Json, path: &str) -> Option<String> {
    match (expected, actual) {
        _ if expected == actual => None,
        (Json::String(pattern), Json::String(text)) if pattern == ANY_COMMIT_TIMESTAMP => {
            (!is_commit_timestamp(text))
                .then(|| format!("{path}: {text:?} is no commit time (YYYY-MM-DDTHH:MM:SS.mmmZ)"))
        }
        (Json::Object(expected), Json::Object(actual)) => expected
            .iter()
            .find_map(|(key, value)| match actual.get(key) {
                Some(other) => difference(value, other, &format!("{path}.{key}")),
                None => Some(format!("{path}.{key} is missing, expected {}", excerpt(value))),
            })
            .or_else(|| {
                let extra = actual.iter().find(|(key, _)| !expected.contains_key(*key))?;
                Some(format!("{path}.{} is too much: {}", extra.0, excerpt(extra.1)))
            }),
        (Json::Array(expected), Json::Array(actual)) if expected.len() == actual.len() => {
            expected.iter().zip(actual).enumerate().find_map(|(index, (left, right))| {
                difference(left, right, &format!("{path}[{index}]"))
            })
        }
        _ => Some(format!("{path}: expected {}, got {}", excerpt(expected), excerpt(actual))),
    }
}

/// Whether a text is `YYYY-MM-DDTHH:MM:SS.mmmZ`.
fn is_commit_timestamp(text: &str) -> bool {
    const SHAPE: &str = "0000-00-00T00:00:00.000Z";
    text.len() == SHAPE.len()
        && text.chars().zip(SHAPE.chars()).all(|(letter, shape)| {
            if shape == '0' { letter.is_ascii_digit() } else { letter == shape }
        })
}

fn excerpt(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &str, actual: &str, difference: Option<&str>) {
        let list = |text: &str| Json::parse(text).unwrap().items().to_vec();
        assert_eq!(first_difference(&list(expected), &list(actual)).as_deref(), difference);
    }

    #[test]
    fn the_first_difference_is_named_by_its_path() {
        check(r#"[{"a":1.10}]"#, r#"[{"a":1.10}]"#, None);
        check(r#"[{"a":1.10}]"#, r#"[{"a":1.1}]"#, Some("[0].a: expected 1.10, got 1.1"));
        check(r#"[{"a":1}]"#, r#"[{}]"#, Some("[0].a is missing, expected 1"));
        check(r#"[{}]"#, r#"[{"b":2}]"#, Some("[0].b is too much: 2"));
        check("[1,2]", "[1]", Some("[1] is missing: 2"));
        check("[1]", "[1,2]", Some("[1] is too much: 2"));
    }

    #[test]
    fn a_commit_time_has_milliseconds_and_is_in_utc() {
        let pattern = r#"["<commit_timestamp>"]"#;
        check(pattern, r#"["2026-11-25T10:00:00.123Z"]"#, None);
        for wrong in ["2026-11-25T10:00:00Z", "2026-11-25 10:00:00.123Z", ""] {
            let actual = format!("[{wrong:?}]");
            let list = |text: &str| Json::parse(text).unwrap().items().to_vec();
            assert!(first_difference(&list(pattern), &list(&actual)).is_some(), "{wrong}");
        }
    }
}
