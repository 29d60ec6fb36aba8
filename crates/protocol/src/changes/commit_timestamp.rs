//! The commit time as clients read it.

use std::io::Write as _;

const DAY_US: i64 = 86_400_000_000;

/// Appends `YYYY-MM-DDTHH:MM:SS.mmmZ`, UTC, with the milliseconds cut off.
pub(super) fn write(timestamp_us: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_date(timestamp_us.div_euclid(DAY_US));
    let of_day = timestamp_us.rem_euclid(DAY_US) / 1000;
    let (seconds, milliseconds) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if !(0..=9999).contains(&year) {
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            "{year:05}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"
        );
        return;
    }
    // Several times as fast as the formatting machinery, and every event has one.
    let ([y1, y2], [y3, y4]) = (two_digits(year / 100), two_digits(year % 100));
    let ([mo1, mo2], [d1, d2]) = (two_digits(month), two_digits(day));
    let ([h1, h2], [mi1, mi2], [s1, s2]) =
        (two_digits(hour), two_digits(minute), two_digits(second));
    let ([_, ms1], [ms2, ms3]) = (two_digits(milliseconds / 100), two_digits(milliseconds % 100));
    out.extend_from_slice(&[
        y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2,
        b'.', ms1, ms2, ms3, b'Z',
    ]);
}

/// The digits of a number below 100.
fn two_digits(value: i64) -> [u8; 2] {
    let value = u8::try_from(value).unwrap_or_default();
    [b'0' + value / 10 % 10, b'0' + value % 10]
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil_date(days: i64) -> (i64, i64, i64) {
    // Years start in March here, so that the day of a leap year is the last of its year; an era is
    // the calendar's period of 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(timestamp_us: i64) -> String {
        let mut out = Vec::new();
        write(timestamp_us, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn milliseconds_are_truncated() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_787_307_630_123_999), "2026-08-21T10:20:30.123Z");
        assert_eq!(text(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_709_251_199_999_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(text(4_107_542_400_000_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(text(-62_135_596_800_000_000), "0001-01-01T00:00:00.000Z");
    }

    #[test]
    fn days_follow_each_other_without_gaps() {
        let mut previous = civil_date(-800_000);
        for day in -799_999..800_000 {
            let date = civil_date(day);
            let (year, month, number) = previous;
            let expected = [(year, month, number + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(expected.contains(&date) && date.2 <= 31 && date.1 <= 12, "{date:?}");
            previous = date;
        }
    }

    #[test]
    fn times_out_of_range_do_not_panic() {
        assert_eq!(text(i64::MAX), "294247-01-10T04:00:54.775Z");
        assert_eq!(text(i64::MIN), "-290308-12-21T19:59:05.224Z");
    }
}
