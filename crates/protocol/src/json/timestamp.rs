//! Timestamps as `to_jsonb` writes them: ISO 8601 with a `T`, the zone always with minutes.

use super::string::write_escaped;

/// Appends a `timestamp`: `2024-01-02 03:04:05` becomes `"2024-01-02T03:04:05"`.
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    match split(text) {
        Some((date, time)) => {
            write_escaped(date, out);
            out.push(b'T');
            write_escaped(time, out);
        }
        None => write_escaped(text, out),
    }
    out.push(b'"');
}

/// Appends a `timestamptz`: `2024-01-02 03:04:05+00` becomes `"2024-01-02T03:04:05+00:00"`.
pub(super) fn write_with_zone(text: &str, out: &mut Vec<u8>) {
    let Some((date, time)) = split(text) else {
        return write(text, out);
    };
    let (time, era) = time.strip_suffix(" BC").map_or((time, ""), |time| (time, " BC"));
    out.push(b'"');
    write_escaped(date, out);
    out.push(b'T');
    write_escaped(time, out);
    let zone = time.rfind(['+', '-']).and_then(|sign| time.get(sign..)).unwrap_or_default();
    if zone.len() == 3 {
        out.extend_from_slice(b":00");
    }
    out.extend_from_slice(era.as_bytes());
    out.push(b'"');
}

/// Date and time; `None` for `infinity` and whatever else has no time.
fn split(text: &str) -> Option<(&str, &str)> {
    let starts_with_digit = |part: &str| part.starts_with(|first: char| first.is_ascii_digit());
    text.split_once(' ').filter(|(date, time)| starts_with_digit(date) && starts_with_digit(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_and_time_are_joined_by_a_t() {
        let check = |text: &str, plain: &str, zoned: &str| {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            write(text, &mut one);
            write_with_zone(text, &mut other);
            assert_eq!(String::from_utf8(one).unwrap(), format!("\"{plain}\""));
            assert_eq!(String::from_utf8(other).unwrap(), format!("\"{zoned}\""));
        };
        check("infinity", "infinity", "infinity");
        check("-infinity", "-infinity", "-infinity");
        check("2024-01-02 03:04:05.6", "2024-01-02T03:04:05.6", "2024-01-02T03:04:05.6");
        check("2024-01-02 03:04:05+00", "2024-01-02T03:04:05+00", "2024-01-02T03:04:05+00:00");
        check(
            "0044-03-15 12:00:00-04 BC",
            "0044-03-15T12:00:00-04 BC",
            "0044-03-15T12:00:00-04:00 BC",
        );
        check(
            "2024-01-02 03:04:05+05:30",
            "2024-01-02T03:04:05+05:30",
            "2024-01-02T03:04:05+05:30",
        );
        check(
            "1800-01-02 03:04:05-04:56:02",
            "1800-01-02T03:04:05-04:56:02",
            "1800-01-02T03:04:05-04:56:02",
        );
        check("not a time", "not a time", "not a time");
        check("1 2\"", "1T2\\\"", "1T2\\\"");
    }
}
