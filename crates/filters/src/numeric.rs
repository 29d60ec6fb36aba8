//! PostgreSQL's `numeric`, of any size: read from text, ordered, with one canonical spelling.

use std::cmp::Ordering;

/// Largest decimal exponent that is read; beyond it PostgreSQL's own limits come into play.
const MAX_EXPONENT: i32 = 1000;

/// A numeric; the order of the variants is PostgreSQL's: NaN is greater than everything.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Numeric {
    NegativeInfinity,
    Finite(Decimal),
    Infinity,
    NaN,
}

/// `±0.digits × 10^point`, without zeros at either end of the digits; zero has no digits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Decimal {
    is_negative: bool,
    point: i32,
    digits: Box<str>,
}

impl Numeric {
    /// Reads a numeric without surrounding blanks; `None` when it has another form.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (is_negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case("infinity") || unsigned.eq_ignore_ascii_case("inf") {
            return Some(if is_negative { Self::NegativeInfinity } else { Self::Infinity });
        }
        if text.eq_ignore_ascii_case("nan") {
            return Some(Self::NaN);
        }
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
            None => (unsigned, 0_i32),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = whole.len() + fraction.len() > 0
            && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if !is_number || exponent.abs() > MAX_EXPONENT {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let significant = digits.trim_start_matches('0');
        let leading = i32::try_from(digits.len() - significant.len()).ok()?;
        let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_sub(leading)?;
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            let zero = Decimal { is_negative: false, point: 0, digits: "".into() };
            return Some(Self::Finite(zero));
        }
        Some(Self::Finite(Decimal { is_negative, point, digits: digits.into() }))
    }

    /// The nearest float; `None` when it is out of a float's range.
    pub(crate) fn to_float(&self) -> Option<f64> {
        match self {
            Self::NegativeInfinity => Some(f64::NEG_INFINITY),
            Self::Infinity => Some(f64::INFINITY),
            Self::NaN => Some(f64::NAN),
            Self::Finite(Decimal { digits, .. }) if digits.is_empty() => Some(0.0),
            Self::Finite(Decimal { is_negative, point, digits }) => {
                let sign = if *is_negative { "-" } else { "" };
                let float: f64 = format!("{sign}0.{digits}e{point}").parse().ok()?;
                float.is_normal().then_some(float)
            }
        }
    }

    /// The same text for equal numerics only.
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::NegativeInfinity => "-i".to_owned(),
            Self::Infinity => "i".to_owned(),
            Self::NaN => "n".to_owned(),
            Self::Finite(Decimal { is_negative, point, digits }) => {
                format!("{}{digits}e{point}", if *is_negative { "-" } else { "" })
            }
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |decimal: &Self| match (decimal.digits.is_empty(), decimal.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        // Digits have no trailing zeros, so a prefix is the smaller number, as strings order it.
        let magnitude = || (self.point, &self.digits).cmp(&(other.point, &other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => magnitude(),
            _ => magnitude().reverse(),
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn orders_as_postgresql_does() {
        let ascending = [
            "-Infinity",
            "-1e30",
            "-10",
            "-9.99",
            "-0.1",
            "-0.01",
            "0",
            "1e-20",
            "0.01",
            "0.1",
            "0.12",
            "1",
            "1.5",
            "9",
            "10",
            "123456789012345678901234567890",
            "1e30",
            "inf",
            "NaN",
        ];
        let values: Vec<_> = ascending.iter().map(|text| Numeric::read(text).unwrap()).collect();
        for pair in values.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
    }

    #[test]
    fn spellings_of_one_number_are_equal() {
        for (left, right) in [
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("-0", "0.000"),
            (".5", "0.5"),
            ("5.", "5"),
            ("+7", "007"),
            ("12.5e-1", "1.25"),
            ("nan", "NaN"),
        ] {
            let (left, right) = (Numeric::read(left).unwrap(), Numeric::read(right).unwrap());
            assert_eq!((&left, left.canonical()), (&right, right.canonical()));
        }
    }

    #[test]
    fn floats_are_the_nearest() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(Numeric::read(text).unwrap().to_float(), expected, "{text}");
        };
        check("1.5", Some(1.5));
        check("-0.1", Some(-0.1));
        check("9007199254740993", Some(9_007_199_254_740_992.0));
        check("0.000", Some(0.0));
        check("-inf", Some(f64::NEG_INFINITY));
        check("1e400", None);
        check("1e-400", None);
    }

    #[test]
    fn other_forms_are_not_read() {
        for text in ["", ".", "-", "x", "1x", "0x1", "1_0", "1e", "1e9999", "1.2.3", "--1", "+nan"]
        {
            assert_eq!(Numeric::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_order_alike(left in i64::MIN..i64::MAX, right in -1000_i64..1000) {
            let read = |number: i64| Numeric::read(&number.to_string()).unwrap();
            prop_assert_eq!(read(left).cmp(&read(right)), left.cmp(&right));
            prop_assert_eq!(read(left % 1000).cmp(&read(right)), (left % 1000).cmp(&right));
        }
    }
}
