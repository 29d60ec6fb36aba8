//! Dates and times: ISO 8601 as PostgreSQL prints it, and what it reads the same way everywhere.
//!
//! Everything else (`yesterday`, time zone names, other orders of day and month) depends on
//! settings or on the clock and is left to PostgreSQL.

const MICROSECONDS: i64 = 1_000_000;
const DAY: i64 = 86_400 * MICROSECONDS;
/// PostgreSQL reads later years of timestamps, but not much later ones.
const MAX_YEAR: i64 = 290_000;
/// Julian day numbers, and with them PostgreSQL's dates, start in 4714 BC.
const MAX_YEAR_BC: i64 = 4_700;
/// PostgreSQL's limit is below 16 hours.
const MAX_ZONE_HOURS: i64 = 15;

/// `infinity` for every type here.
const INFINITY: i64 = i64::MAX;
const MINUS_INFINITY: i64 = i64::MIN;

/// A point in time, with the offset it was written with (seconds east of UTC).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Timestamp {
    /// µs since 1970 as the clock showed it.
    pub(crate) local: i64,
    /// The offset, when there was one.
    pub(crate) offset: Option<i64>,
}

impl Timestamp {
    /// µs since 1970 UTC, if the offset is known or does not matter.
    pub(crate) fn instant(self) -> Option<i64> {
        if self.local == INFINITY || self.local == MINUS_INFINITY {
            return Some(self.local);
        }
        self.offset.map(|offset| self.local - offset * MICROSECONDS)
    }
}

/// A date, in days since 1970.
pub(crate) fn date(text: &str) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity);
    }
    let (text, is_bc) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let (days, rest) = calendar_day(text, is_bc)?;
    rest.is_empty().then_some(days)
}

/// A timestamp, with or without a time of day and a zone.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    if let Some(local) = infinity(text) {
        return Some(Timestamp { local, offset: None });
    }
    let (text, is_bc) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let (days, rest) = calendar_day(text, is_bc)?;
    if rest.is_empty() {
        return Some(Timestamp { local: days * DAY, offset: None });
    }
    let (time, rest) = time_of_day(rest.strip_prefix(['T', ' '])?)?;
    if time >= DAY {
        return None;
    }
    let offset = if rest.is_empty() { None } else { Some(zone(rest)?) };
    Some(Timestamp { local: days * DAY + time, offset })
}

/// A time without zone, in µs since midnight.
pub(crate) fn time(text: &str) -> Option<i64> {
    let (time, rest) = time_of_day(text)?;
    rest.is_empty().then_some(time)
}

/// A time with zone: the time in UTC (which may leave the day) and the seconds west of UTC, in the
/// order in which PostgreSQL compares them.
pub(crate) fn time_with_zone(text: &str) -> Option<(i64, i64)> {
    let (time, rest) = time_of_day(text)?;
    let offset = zone(rest)?;
    Some((time - offset * MICROSECONDS, -offset))
}

fn infinity(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("infinity") {
        return Some(INFINITY);
    }
    text.eq_ignore_ascii_case("-infinity").then_some(MINUS_INFINITY)
}

/// `YYYY-MM-DD` at the start: a year of four digits or more is a year in every `DateStyle`.
fn calendar_day(text: &str, is_bc: bool) -> Option<(i64, &str)> {
    let (year, rest) = number(text, 4, 6)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 1, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 1, 2)?;
    let in_range =
        if is_bc { (1..=MAX_YEAR_BC).contains(&year) } else { (1..=MAX_YEAR).contains(&year) };
    let year = if is_bc { 1 - year } else { year };
    let is_leap =
        year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if !in_range || !(1..=length).contains(&day) {
        return None;
    }
    // Years that start in March put the leap day at their end.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let shifted_month = (month + 9) % 12;
    let days = shifted_year * 365 + shifted_year.div_euclid(4) - shifted_year.div_euclid(100)
        + shifted_year.div_euclid(400)
        + (shifted_month * 153 + 2) / 5
        + day
        - 1;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    Some((days - EPOCH, rest))
}

/// `HH:MM[:SS[.ffffff]]` at the start.
fn time_of_day(text: &str) -> Option<(i64, &str)> {
    let (hours, rest) = number(text, 1, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(':')?, 2, 2)?;
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest, 2, 2)?,
        None => (0, rest),
    };
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (fraction, after) = number(rest, 1, 6)?;
            let digits = u32::try_from(rest.len() - after.len()).ok()?;
            (fraction * 10_i64.pow(6 - digits), after)
        }
        None => (0, rest),
    };
    if hours > 24 || minutes > 59 || seconds > 59 {
        return None;
    }
    let time = ((hours * 60 + minutes) * 60 + seconds) * MICROSECONDS + fraction;
    (time <= DAY).then_some((time, rest))
}

/// `Z`, `±HH`, `±HHMM`, `±HH:MM`, `±HH:MM:SS`: all of the text.
fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let text = text.strip_prefix(' ').unwrap_or(text);
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = number(text.get(1..)?, 2, 4)?;
    let (hours, minutes, seconds, rest) = match text.len() - rest.len() {
        3 => match rest.strip_prefix(':') {
            Some(rest) => {
                let (minutes, rest) = number(rest, 2, 2)?;
                match rest.strip_prefix(':') {
                    Some(rest) => {
                        let (seconds, rest) = number(rest, 2, 2)?;
                        (hours, minutes, seconds, rest)
                    }
                    None => (hours, minutes, 0, rest),
                }
            }
            None => (hours, 0, 0, rest),
        },
        5 => (hours / 100, hours % 100, 0, rest),
        _ => return None,
    };
    let in_range = hours <= MAX_ZONE_HOURS && minutes <= 59 && seconds <= 59;
    (in_range && rest.is_empty()).then_some(sign * ((hours * 60 + minutes) * 60 + seconds))
}

/// Between `min` and `max` digits, and no digit after them.
fn number(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(min..=max).contains(&length) {
        return None;
    }
    Some((text.get(..length)?.parse().ok()?, text.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        let check = |text: &str, days: i64| assert_eq!(date(text), Some(days), "{text}");
        check("1970-01-01", 0);
        check("2000-02-29", 11_016);
        check("2024-1-1", 19_723);
        check("1969-12-31", -1);
        check("0001-01-01", -719_162);
        check("0001-12-31 BC", -719_163);
        check("0044-03-15 BC", -735_160);
        check("12345-01-01", 3_789_391);
        check("infinity", i64::MAX);
        check("-Infinity", i64::MIN);
    }

    #[test]
    fn what_is_not_certain_is_not_read() {
        for text in [
            "",
            "now",
            "2024",
            "24-01-01",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-01 10:00",
            "01/02/2024",
            "2024-01-01x",
            "0000-01-01",
            "20240101",
            "5000-01-01 BC",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
        for text in [
            "2024-01-01 24:00:00",
            "2024-01-01 10",
            "2024-01-01 10:60",
            "2024-01-01 10:00 UTC",
            "2024-01-01 10:00+16",
            "2024-01-01 10:00:00.1234567",
            "2024-01-01Z",
            "2024-01-01 10:00 AM",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
        assert_eq!(
            (time("24:00:01"), time("12:00+02"), time_with_zone("12:00")),
            (None, None, None)
        );
    }

    #[test]
    fn zones_shift_to_utc() {
        let utc = timestamp("2024-01-01 00:00:00+00").and_then(Timestamp::instant);
        for text in [
            "2024-01-01T01:00:00+01:00",
            "2023-12-31 19:00:00-05",
            "2024-01-01T00:00Z",
            "2024-01-01 05:30+0530",
            "2024-01-01 00:00:00 +00",
            "2024-01-01 00:09:21.0+00:09:21",
        ] {
            assert_eq!(timestamp(text).and_then(Timestamp::instant), utc, "{text}");
        }
        assert_eq!(timestamp("2024-01-01").and_then(Timestamp::instant), None);
        assert_eq!(timestamp("infinity").and_then(Timestamp::instant), Some(i64::MAX));
    }

    #[test]
    fn times_with_zones_order_by_utc_first() {
        let earlier = time_with_zone("12:00:00+02").unwrap();
        assert!(earlier < time_with_zone("12:00:00+00").unwrap());
        // The same moment: further west is greater.
        assert!(time_with_zone("12:00+02").unwrap() < time_with_zone("10:00+00").unwrap());
        assert_eq!(time("24:00:00"), Some(DAY));
    }
}
