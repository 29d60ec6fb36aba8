//! Numbers with exactly PostgreSQL's digits.

/// The longest number a float8 needs without an exponent has 343 characters (-5e-324 and its 17
/// digits), so every float is written as `numeric` would print it. The bound keeps a text of a few
/// bytes, which only a JSON document can hold, from growing without end.
pub(super) const FLOAT_DIGITS_MAX: usize = 400;

/// Appends a number that has no exponent; false when the text is none.
pub(super) fn write_plain(text: &str, out: &mut Vec<u8>) -> bool {
    let plain = Decimal::parse(text).is_some_and(|decimal| decimal.exponent.is_none());
    if plain {
        out.extend_from_slice(text.as_bytes());
    }
    plain
}

/// Appends a number as `numeric` prints it, without exponent and without the sign of a zero; false
/// when the text is no number. A number that would have more than `digits_max` digits keeps its
/// exponent, which JSON allows.
pub(super) fn write_expanded(text: &str, digits_max: usize, out: &mut Vec<u8>) -> bool {
    let Some(decimal) = Decimal::parse(text) else { return false };
    if decimal.exponent.is_none() && !(decimal.is_negative && decimal.is_zero()) {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    match decimal.expand(digits_max) {
        Some(digits) => digits.write(out),
        None => out.extend_from_slice(text.as_bytes()),
    }
    true
}

/// How many bytes [`write_expanded`] appends for a float; the text's length when it is no number.
pub(crate) fn expanded_len(text: &str) -> usize {
    let Some(decimal) = Decimal::parse(text) else { return text.len() };
    if decimal.exponent.is_none() && !(decimal.is_negative && decimal.is_zero()) {
        return text.len();
    }
    decimal.expand(FLOAT_DIGITS_MAX).map_or(text.len(), |digits| digits.len())
}

/// Whether the text is one of the values that are no JSON numbers.
pub(crate) fn is_finite(text: &str) -> bool {
    !matches!(text, "NaN" | "Infinity" | "-Infinity")
}

/// A number of JSON's grammar, in parts.
struct Decimal<'a> {
    is_negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: Option<i64>,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (is_negative, bytes) =
            bytes.strip_prefix(b"-").map_or((false, bytes), |rest| (true, rest));
        let (integer, bytes) = split_digits(bytes);
        if integer.is_empty() || (integer.len() > 1 && integer.first() == Some(&b'0')) {
            return None;
        }
        let (fraction, bytes) = match bytes.strip_prefix(b".") {
            Some(rest) => {
                let (fraction, rest) = split_digits(rest);
                if fraction.is_empty() {
                    return None;
                }
                (fraction, rest)
            }
            None => (bytes.get(..0).unwrap_or_default(), bytes),
        };
        let exponent = match bytes {
            [] => None,
            [b'e' | b'E', rest @ ..] => Some(parse_exponent(rest)?),
            _ => return None,
        };
        Some(Self { is_negative, integer, fraction, exponent })
    }

    fn is_zero(&self) -> bool {
        self.integer.iter().chain(self.fraction).all(|digit| *digit == b'0')
    }

    /// The digits with the point moved by the exponent; `None` when there would be too many.
    fn expand(&self, digits_max: usize) -> Option<Expanded<'a>> {
        let n_integer = i64::try_from(self.integer.len()).ok()?;
        let n_fraction = i64::try_from(self.fraction.len()).ok()?;
        let point = n_integer.checked_add(self.exponent.unwrap_or(0))?;
        let expanded = Expanded {
            is_negative: self.is_negative && !self.is_zero(),
            integer: self.integer,
            fraction: self.fraction,
            zeros_before: usize::try_from(point.saturating_neg()).unwrap_or(0),
            zeros_after: usize::try_from(point.saturating_sub(n_integer + n_fraction)).unwrap_or(0),
            point: usize::try_from(point).unwrap_or(0),
        };
        let n_digits = expanded.zeros_before.saturating_add(expanded.zeros_after);
        let n_digits = n_digits.saturating_add(self.integer.len() + self.fraction.len());
        (n_digits <= digits_max).then_some(expanded)
    }
}

/// Digits around a point, without exponent.
struct Expanded<'a> {
    is_negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    zeros_before: usize,
    zeros_after: usize,
    /// How many of the digits (after `zeros_before`) stand before the point.
    point: usize,
}

impl Expanded<'_> {
    fn digits(&self) -> impl Iterator<Item = u8> {
        let digits = self.integer.iter().chain(self.fraction).copied();
        digits.chain(std::iter::repeat_n(b'0', self.zeros_after))
    }

    /// Zeros that `numeric` does not print before the point; one digit always stays there.
    fn n_leading_zeros(&self) -> usize {
        let before_point = self.digits().take(self.point.saturating_sub(1));
        before_point.take_while(|digit| *digit == b'0').count()
    }

    fn len(&self) -> usize {
        let n_digits = self.integer.len() + self.fraction.len() + self.zeros_after;
        let n_after = n_digits - self.point.min(n_digits) + self.zeros_before;
        let n_before = self.point.saturating_sub(self.n_leading_zeros()).max(1);
        usize::from(self.is_negative) + n_before + usize::from(n_after > 0) + n_after
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.is_negative {
            out.push(b'-');
        }
        if self.point == 0 {
            out.push(b'0');
        }
        out.extend(self.digits().take(self.point).skip(self.n_leading_zeros()));
        let n_digits = self.integer.len() + self.fraction.len() + self.zeros_after;
        if n_digits > self.point {
            out.push(b'.');
            out.extend(std::iter::repeat_n(b'0', self.zeros_before));
            out.extend(self.digits().skip(self.point));
        }
    }
}

fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// The exponent after its `e`; one beyond 64 bits saturates, since no such number is expanded.
fn parse_exponent(bytes: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(*digit - b'0'))
    });
    Some(if is_negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_expanded_as_numeric_prints_them() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            assert!(write_expanded(text, FLOAT_DIGITS_MAX, &mut out), "{text}");
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
            assert_eq!(expanded_len(text), expected.len(), "{text}");
        };
        check("0", "0");
        check("-0", "0");
        check("-0.00", "0.00");
        check("1.10", "1.10");
        check("-12.5", "-12.5");
        check("1e+15", "1000000000000000");
        check("1e-07", "0.0000001");
        check("1.6777216e+07", "16777216");
        check("9.007199254740992e+15", "9007199254740992");
        check("1.25e+1", "12.5");
        check("1.50e1", "15.0");
        check("-1.5e-3", "-0.0015");
        check("12.5e-1", "1.25");
        check("0.5e1", "5");
        check("0.05e1", "0.5");
        check("0e5", "0");
        check("-0.0e-2", "0.000");
        check("1e300", &format!("1{}", "0".repeat(300)));
        check("5e-324", &format!("0.{}5", "0".repeat(323)));
    }

    #[test]
    fn a_number_too_long_to_expand_keeps_its_exponent() {
        for text in ["1e401", "1e-401", "1e99999999999999999999", "1e-99999999999999999999"] {
            let mut out = Vec::new();
            assert!(write_expanded(text, FLOAT_DIGITS_MAX, &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_json_number_is_refused() {
        for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "NaN", "1 ", "0x1", "1_000"] {
            assert!(!write_expanded(text, FLOAT_DIGITS_MAX, &mut Vec::new()), "{text}");
            assert!(!write_plain(text, &mut Vec::new()), "{text}");
        }
        assert!(!write_plain("1e5", &mut Vec::new()));
    }
}
