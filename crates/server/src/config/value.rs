//! The text forms of option values.

use std::time::Duration;

use super::options::Kind;

/// Why a text is no value of its kind: a fragment that fits after "must be".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConversionError(pub(super) String);

impl From<&str> for ConversionError {
    fn from(expected: &str) -> Self {
        Self(expected.to_owned())
    }
}

/// Checks that `text` is a value of `kind`.
pub(super) fn check(kind: Kind, text: &str) -> Result<(), ConversionError> {
    match kind {
        Kind::Text | Kind::Secret | Kind::File | Kind::List | Kind::Json => Ok(()),
        Kind::Number { min, max } => number(text, min, max).map(drop),
        Kind::Bytes => bytes(text).map(drop),
        Kind::Duration => duration(text).map(drop),
        Kind::Boolean => boolean(text).map(drop),
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => Err(ConversionError(format!("one of {}", words.join(", ")))),
    }
}

pub(super) fn number(text: &str, min: u64, max: u64) -> Result<u64, ConversionError> {
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| ConversionError(format!("a whole number from {min} to {max}")))
}

pub(super) fn boolean(text: &str) -> Result<bool, ConversionError> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true or false".into()),
    }
}

pub(super) fn bytes(text: &str) -> Result<u64, ConversionError> {
    scaled(text, |unit| match unit {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1000),
        "MB" => Some(1000 * 1000),
        "GB" => Some(1000 * 1000 * 1000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    })
    .ok_or_else(|| "a size such as 512kB, 64MiB or 1GiB, at least one byte".into())
}

/// The longest duration an option takes: ten years.
const DURATION_MAX_MS: u64 = 10 * 365 * 24 * 3600 * 1000;

pub(super) fn duration(text: &str) -> Result<Duration, ConversionError> {
    scaled(text, |unit| match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" | "min" => Some(60 * 1000),
        "h" => Some(3600 * 1000),
        "d" => Some(24 * 3600 * 1000),
        _ => None,
    })
    .filter(|milliseconds| *milliseconds <= DURATION_MAX_MS)
    .map(Duration::from_millis)
    .ok_or_else(|| "a duration with its unit, such as 500ms, 10s, 5m or 1h".into())
}

fn scaled(text: &str, scale: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let value = number.parse::<u64>().ok()?.checked_mul(scale(unit.trim_start())?)?;
    (value > 0).then_some(value)
}

pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether PostgreSQL takes this as the name of a replication slot.
pub(super) fn is_slot_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

pub(super) fn unchanged(text: &str) -> Result<String, ConversionError> {
    Ok(text.to_owned())
}

pub(super) fn ssl_mode_from_boolean(text: &str) -> Result<String, ConversionError> {
    Ok(if boolean(text)? { "require" } else { "disable" }.to_owned())
}

pub(super) fn slot_from_suffix(suffix: &str) -> Result<String, ConversionError> {
    Ok(format!("walcast_{suffix}"))
}

/// A bare number of milliseconds, as the reference takes durations.
pub(super) fn milliseconds(text: &str) -> Result<String, ConversionError> {
    number(text, 1, DURATION_MAX_MS).map(|number| format!("{number}ms"))
}

/// Maps the level names of the reference onto ours.
pub(super) fn log_level(text: &str) -> Result<String, ConversionError> {
    Ok(match text {
        "warning" => "warn",
        "notice" => "info",
        "critical" | "alert" | "emergency" => "error",
        "none" => "off",
        other => other,
    }
    .to_owned())
}

/// The candidate nearest to a misspelt name, when one is near.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let normal = name.to_lowercase().replace('_', "-");
    candidates
        .map(|candidate| {
            let other = candidate.to_lowercase().replace('_', "-");
            (edit_distance(&normal, &other), candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left_char) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        if let Some(first) = row.first_mut() {
            *first = previous;
        }
        for (cell, right_char) in row.iter_mut().skip(1).zip(&right) {
            let cost = diagonal + usize::from(left_char != *right_char);
            diagonal = *cell;
            previous = cost.min(*cell + 1).min(previous + 1);
            *cell = previous;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let check = |text, expected: Option<u64>| {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("500ms", Some(500));
        check("10s", Some(10_000));
        check("10 s", Some(10_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("1d", Some(86_400_000));
        for bad in ["", "10", "s", "-1s", "1.5s", "0s", "99999999999999999999s", "9999999d", "1w"] {
            check(bad, None);
        }
    }

    #[test]
    fn sizes_take_both_families_of_units() {
        let check = |text, expected: Option<u64>| assert_eq!(bytes(text).ok(), expected, "{text}");
        check("5000000", Some(5_000_000));
        check("512kB", Some(512_000));
        check("1MiB", Some(1_048_576));
        check("1 GiB", Some(1_073_741_824));
        for bad in ["", "0", "1TB", "MiB", "1mib", "99999999999999999GiB", "-1"] {
            check(bad, None);
        }
    }

    #[test]
    fn misspelt_names_find_their_neighbour() {
        let names = ["port", "host", "jwt-secret", "max-connections"];
        let check = |name, expected: Option<&str>| {
            assert_eq!(nearest(name, names.into_iter()), expected, "{name}");
        };
        check("prot", None);
        check("prt", Some("port"));
        check("jwt_secret", Some("jwt-secret"));
        check("jwt-secrt", Some("jwt-secret"));
        check("max-connection", Some("max-connections"));
        check("completely-different", None);
    }

    #[test]
    fn slot_names_are_those_postgres_takes() {
        for (name, legal) in [
            ("walcast", true),
            ("walcast_2", true),
            ("", false),
            ("Walcast", false),
            ("wal-cast", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(is_slot_name(name), legal, "{name}");
        }
    }
}
