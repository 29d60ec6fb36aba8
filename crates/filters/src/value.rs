//! Values read from PostgreSQL's text forms, and how PostgreSQL compares them.

use std::{borrow::Cow, cmp::Ordering};

use walcast_change::{Collation, PgType, TypeKind, oid};

use crate::{
    FilterError,
    array::is_blank,
    datetime,
    like::{Case, LikePattern},
    numeric::Numeric,
};

/// Furthest a zone is from UTC, in µs.
const MAX_ZONE: i64 = 16 * 3600 * 1_000_000;
/// Bytes of a `name`; PostgreSQL cuts what is longer.
const MAX_NAME_BYTES: usize = 63;

/// How the values of a column are read and compared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Name,
    Bpchar,
    Char,
    Citext,
    Uuid,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Bits,
    Bytea,
    Enum,
    Composite,
    /// PostgreSQL is asked about everything but NULL.
    Other,
}

/// A value of a known kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Bool(bool),
    /// Integers, oids, `"char"`, days, µs.
    Integer(i64),
    Float(f64),
    Numeric(Numeric),
    /// Texts, labels, bits, bytes in hexadecimal.
    Text(Cow<'a, str>),
    Uuid([u8; 16]),
    TimeTz(i64, i64),
    /// A timestamp of a time zone that only the session knows.
    SomeZone(i64),
}

/// What a text says as a value of a kind.
#[derive(Debug, PartialEq)]
pub(crate) enum Reading<'a> {
    /// This value.
    Value(Value<'a>),
    /// Nothing: PostgreSQL refuses it with this error.
    Invalid(FilterError),
    /// Only PostgreSQL knows.
    Unknown,
}

/// What is equal if and only if the values are: a number or a text.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Key<'a> {
    Number(u128),
    Text(Cow<'a, str>),
}

impl Kind {
    /// The kind of a type that is no domain.
    pub(crate) fn of(base: &PgType) -> Self {
        match &base.kind {
            TypeKind::Enum { .. } => return Self::Enum,
            TypeKind::Composite { .. } => return Self::Composite,
            TypeKind::Base => {}
            TypeKind::Domain { .. }
            | TypeKind::Array { .. }
            | TypeKind::Range
            | TypeKind::Multirange
            | TypeKind::Pseudo => return Self::Other,
        }
        match base.id {
            oid::BOOL => Self::Bool,
            oid::INT2 => Self::Int2,
            oid::INT4 => Self::Int4,
            oid::INT8 => Self::Int8,
            oid::OID => Self::Oid,
            oid::FLOAT4 => Self::Float4,
            oid::FLOAT8 => Self::Float8,
            oid::NUMERIC => Self::Numeric,
            oid::TEXT | oid::VARCHAR => Self::Text,
            oid::NAME => Self::Name,
            oid::BPCHAR => Self::Bpchar,
            oid::CHAR => Self::Char,
            oid::UUID => Self::Uuid,
            oid::DATE => Self::Date,
            oid::TIME => Self::Time,
            oid::TIMETZ => Self::TimeTz,
            oid::TIMESTAMP => Self::Timestamp,
            oid::TIMESTAMPTZ => Self::TimestampTz,
            oid::BIT | oid::VARBIT => Self::Bits,
            oid::BYTEA => Self::Bytea,
            // An extension's type has an oid of its own in each database.
            _ if &*base.name == "citext" => Self::Citext,
            _ => Self::Other,
        }
    }

    /// Whether values are texts with patterns: like, ilike, match, imatch.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Name | Self::Bpchar | Self::Citext | Self::Enum)
    }

    /// Reads an operand; `type_name` is for the error.
    pub(crate) fn read_operand<'a>(self, text: &'a str, type_name: &str) -> Reading<'a> {
        let trimmed = text.trim_matches(is_blank);
        let invalid = || Reading::Invalid(FilterError::invalid_input(type_name, text));
        let value = match self {
            Self::Int2 | Self::Int4 | Self::Int8 => match integer(trimmed) {
                Integer::Value(value) if self.has_integer(value) => Some(Value::Integer(value)),
                Integer::Value(_) | Integer::TooLarge => {
                    let message = format!("value \"{text}\" is out of range for type {type_name}");
                    return Reading::Invalid(FilterError::new("22003", message));
                }
                Integer::Other => None,
                Integer::Invalid => return invalid(),
            },
            Self::Float4 | Self::Float8 | Self::Numeric => {
                let value = self.read(trimmed);
                if value.is_none() && !trimmed.bytes().any(|byte| byte.is_ascii_digit()) {
                    return invalid();
                }
                value
            }
            Self::Bool => match boolean(trimmed) {
                Some(value) => Some(Value::Bool(value)),
                None => return invalid(),
            },
            Self::Uuid => match uuid(text) {
                Some(value) => Some(Value::Uuid(value)),
                None => return invalid(),
            },
            Self::Bytea => bytes_operand(text).map(Value::Text),
            Self::Name => (text.len() <= MAX_NAME_BYTES).then_some(Value::Text(text.into())),
            Self::Oid
            | Self::Date
            | Self::Time
            | Self::TimeTz
            | Self::Timestamp
            | Self::TimestampTz => self.read(trimmed),
            Self::Text
            | Self::Bpchar
            | Self::Char
            | Self::Citext
            | Self::Bits
            | Self::Enum
            | Self::Composite
            | Self::Other => self.read(text),
        };
        value.map_or(Reading::Unknown, Reading::Value)
    }

    /// Reads a value in the type's output form; `None` when it looks different.
    pub(crate) fn read(self, text: &str) -> Option<Value<'_>> {
        Some(match self {
            Self::Bool => Value::Bool(boolean(text)?),
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Oid => match integer(text) {
                Integer::Value(value) if self.has_integer(value) => Value::Integer(value),
                Integer::Value(_) | Integer::TooLarge | Integer::Other | Integer::Invalid => {
                    return None;
                }
            },
            Self::Float4 => Value::Float(f64::from(float::<f32>(text)?)),
            Self::Float8 => Value::Float(float::<f64>(text)?),
            Self::Numeric => Value::Numeric(Numeric::read(text)?),
            Self::Text | Self::Name | Self::Citext | Self::Enum => Value::Text(text.into()),
            Self::Bpchar => Value::Text(text.trim_end_matches(' ').into()),
            // PostgreSQL 16 and later read and print bytes beyond ASCII in octal.
            Self::Char if text.is_ascii() && !text.starts_with('\\') => {
                Value::Integer(text.bytes().next().unwrap_or_default().into())
            }
            Self::Uuid => Value::Uuid(uuid(text)?),
            Self::Date => Value::Integer(datetime::date(text)?),
            Self::Time => Value::Integer(datetime::time(text)?),
            Self::TimeTz => {
                let (utc, west) = datetime::time_with_zone(text)?;
                Value::TimeTz(utc, west)
            }
            // PostgreSQL ignores a zone here.
            Self::Timestamp => Value::Integer(datetime::timestamp(text)?.local),
            Self::TimestampTz => {
                let timestamp = datetime::timestamp(text)?;
                timestamp.instant().map_or(Value::SomeZone(timestamp.local), Value::Integer)
            }
            Self::Bits if text.bytes().all(|byte| matches!(byte, b'0' | b'1')) => {
                Value::Text(text.into())
            }
            Self::Bytea => Value::Text(hexadecimal(text)?),
            Self::Char | Self::Bits | Self::Composite | Self::Other => return None,
        })
    }

    fn has_integer(self, value: i64) -> bool {
        (self != Self::Int2 || i16::try_from(value).is_ok())
            && (self != Self::Int4 || i32::try_from(value).is_ok())
            && (self != Self::Oid || u32::try_from(value).is_ok())
    }

    /// Whether two values are equal; `None` when only PostgreSQL can tell.
    pub(crate) fn equal(
        self,
        left: &Value<'_>,
        right: &Value<'_>,
        collation: Collation,
    ) -> Option<bool> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) if self == Self::Citext => {
                citext_equal(left, right, collation)
            }
            (Value::Text(left), Value::Text(right)) => (!self.is_collated()
                || collation != Collation::NonDeterministic)
                .then(|| left == right),
            _ => Some(self.order(left, right, collation)? == Ordering::Equal),
        }
    }

    /// How two values are ordered; `None` when only PostgreSQL can tell. Enums are ordered by their
    /// labels' places, which the caller knows.
    pub(crate) fn order(
        self,
        left: &Value<'_>,
        right: &Value<'_>,
        collation: Collation,
    ) -> Option<Ordering> {
        Some(match (left, right) {
            (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
            (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
            // NaN equals itself and is greater than everything; zero has no sign.
            (Value::Float(left), Value::Float(right)) => {
                left.partial_cmp(right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
            }
            (Value::Numeric(left), Value::Numeric(right)) => left.cmp(right),
            (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
            (Value::TimeTz(left, left_zone), Value::TimeTz(right, right_zone)) => {
                (left, left_zone).cmp(&(right, right_zone))
            }
            (Value::Integer(instant), Value::SomeZone(local)) => {
                if instant.saturating_sub(MAX_ZONE) > *local {
                    Ordering::Greater
                } else if instant.saturating_add(MAX_ZONE) < *local {
                    Ordering::Less
                } else {
                    return None;
                }
            }
            (Value::Text(left), Value::Text(right)) => {
                let is_plain = matches!(self, Self::Text | Self::Name | Self::Bpchar);
                let by_bytes = matches!(self, Self::Bits | Self::Bytea)
                    || (is_plain && collation == Collation::Bytes);
                if !by_bytes {
                    return None;
                }
                left.cmp(right)
            }
            _ => return None,
        })
    }

    fn is_collated(self) -> bool {
        matches!(self, Self::Text | Self::Name | Self::Bpchar | Self::Citext)
    }

    /// The key of a value, if the kind has keys under the collation.
    pub(crate) fn key<'a>(self, value: Value<'a>, collation: Collation) -> Option<Key<'a>> {
        if self.is_collated() && (collation == Collation::NonDeterministic || self == Self::Citext)
        {
            return None;
        }
        Some(match value {
            Value::Bool(value) => Key::Number(value.into()),
            Value::Integer(value) => Key::Number(u64::from_ne_bytes(value.to_ne_bytes()).into()),
            Value::Float(value) if value.is_nan() => Key::Number(u128::MAX),
            // Adding zero takes the sign off a negative zero.
            Value::Float(value) => Key::Number((value + 0.0).to_bits().into()),
            Value::Numeric(value) => Key::Text(value.canonical().into()),
            Value::Text(value) => Key::Text(value),
            Value::Uuid(value) => Key::Number(u128::from_be_bytes(value)),
            Value::TimeTz(..) | Value::SomeZone(_) => return None,
        })
    }
}

impl Value<'_> {
    /// The same value, borrowing its text.
    pub(crate) fn borrowed(&self) -> Value<'_> {
        if let Value::Text(text) = self { Value::Text(Cow::Borrowed(text)) } else { self.clone() }
    }

    /// The value without a borrow.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Float(value) => Value::Float(value),
            Self::Numeric(value) => Value::Numeric(value),
            Self::Text(value) => Value::Text(value.into_owned().into()),
            Self::Uuid(value) => Value::Uuid(value),
            Self::TimeTz(utc, west) => Value::TimeTz(utc, west),
            Self::SomeZone(local) => Value::SomeZone(local),
        }
    }
}

/// How the case of letters counts in a column with that collation.
pub(crate) fn insensitive_case(collation: Collation) -> Case {
    if collation == Collation::Bytes { Case::Insensitive } else { Case::InsensitiveInSomeLocale }
}

/// citext compares lower-cased texts in the database's default collation.
fn citext_equal(left: &str, right: &str, collation: Collation) -> Option<bool> {
    if left == right {
        return Some(true);
    }
    let escaped = right.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    LikePattern::new(&escaped)?.matches(left, insensitive_case(collation))
}

enum Integer {
    Value(i64),
    TooLarge,
    /// A form that only some versions of PostgreSQL read: `0x1F`, `1_000`.
    Other,
    Invalid,
}

fn integer(text: &str) -> Integer {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_or(Integer::TooLarge, Integer::Value);
    }
    let n_digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let is_modern = unsigned.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // More digits than every type has room for are out of range before what follows them is read.
    let is_short = n_digits <= 4;
    if is_short && (n_digits == 0 || !is_modern) { Integer::Invalid } else { Integer::Other }
}

/// A unique beginning of true, false, yes, no, on, off; 1 or 0.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| lower.len() >= least && word.starts_with(&*lower);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || lower == "1" {
        return Some(true);
    }
    let is_false = begins("false", 1) || begins("no", 1) || begins("off", 2) || lower == "0";
    is_false.then_some(false)
}

/// A decimal number, NaN or an infinity. Hexadecimal, over- and underflow are PostgreSQL's.
fn float<T: std::str::FromStr + Into<f64> + Copy>(text: &str) -> Option<T> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_special =
        ["nan", "inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word));
    let is_decimal = unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    if !is_special && !is_decimal {
        return None;
    }
    let value: T = text.parse().ok()?;
    let number: f64 = value.into();
    let mantissa = unsigned.split(['e', 'E']).next().unwrap_or_default();
    let underflows = number == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    let overflows = number.is_infinite() && !is_special;
    (!underflows && !overflows).then_some(value)
}

/// 32 hexadecimal digits, a hyphen allowed after every fourth, braces around.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut bytes = [0_u8; 16];
    let mut digits = inner.bytes().peekable();
    for (index, byte) in bytes.iter_mut().enumerate() {
        let high = char::from(digits.next()?).to_digit(16)?;
        let low = char::from(digits.next()?).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
        if index % 2 == 1 && index < 15 && digits.peek() == Some(&b'-') {
            digits.next();
        }
    }
    digits.next().is_none().then_some(bytes)
}

/// The digits of `\x6162` in lower case.
fn hexadecimal(text: &str) -> Option<Cow<'_, str>> {
    let digits = text.strip_prefix("\\x")?;
    let is_hexadecimal = digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hexadecimal {
        return None;
    }
    let is_lower = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if is_lower { digits.into() } else { digits.to_ascii_lowercase().into() })
}

/// A bytea operand: PostgreSQL's `\x6162`, or the bare hexadecimal that payloads show, which is
/// compared as the text it is.
fn bytes_operand(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('\\') { hexadecimal(text) } else { Some(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Option<Value<'static>> {
        match kind.read_operand(text, "t") {
            Reading::Value(value) => Some(value.into_owned()),
            Reading::Invalid(_) | Reading::Unknown => None,
        }
    }

    #[test]
    fn spellings_of_one_value_are_equal_and_have_one_key() {
        for (kind, left, right) in [
            (Kind::Int4, " 7 ", "+007"),
            (Kind::Bool, "t", "yes"),
            (Kind::Bool, "OF", "0"),
            (Kind::Float8, "0.1", "1e-1"),
            (Kind::Float8, "-0", "0"),
            (Kind::Float8, "NaN", "nan"),
            (Kind::Float4, "0.1", "0.10000000149"),
            (Kind::Numeric, "1.0", "1"),
            (Kind::Bpchar, "ab  ", "ab"),
            (
                Kind::Uuid,
                "ACE23052568E4951ACC8FD510EC667F9",
                "{ace23052-568e-4951-acc8-fd510ec667f9}",
            ),
            (Kind::Timestamp, "2024-01-01", "2024-01-01T00:00:00Z"),
            (Kind::TimestampTz, "2024-01-01T01:00:00+01:00", "2024-01-01 00:00:00+00"),
            (Kind::Bytea, r"\xAB", "ab"),
            (Kind::Char, "a", "abc"),
        ] {
            let (left, right) = (read(kind, left).unwrap(), read(kind, right).unwrap());
            assert_eq!(kind.equal(&left, &right, Collation::Locale), Some(true), "{left:?}");
            let key = |value: Value<'static>| kind.key(value, Collation::Locale).unwrap();
            assert_eq!(key(left), key(right));
        }
    }

    #[test]
    fn values_are_ordered_as_postgresql_orders_them() {
        let check = |kind: Kind, left: &str, right: &str, expected: Option<Ordering>| {
            let (left, right) = (read(kind, left).unwrap(), read(kind, right).unwrap());
            assert_eq!(
                kind.order(&left, &right, Collation::Locale),
                expected,
                "{left:?} {right:?}"
            );
        };
        check(Kind::Int8, "100", "9", Some(Ordering::Greater));
        check(Kind::Float8, "NaN", "Infinity", Some(Ordering::Greater));
        check(Kind::Bits, "10", "1", Some(Ordering::Greater));
        check(Kind::Bits, "01", "1", Some(Ordering::Less));
        check(Kind::Bytea, r"\x01ff", r"\x02", Some(Ordering::Less));
        check(Kind::Text, "a", "b", None);
        check(Kind::TimestampTz, "2024-01-02 00:00+00", "2024-01-01", Some(Ordering::Greater));
        check(Kind::TimestampTz, "2024-01-01 15:59+00", "2024-01-01", None);
        check(Kind::TimestampTz, "infinity", "2024-01-01", Some(Ordering::Greater));
    }

    #[test]
    fn bad_operands_are_refused_and_doubtful_ones_are_left_to_postgresql() {
        let check = |kind: Kind, text: &str, expected: Option<&str>| {
            let reading = match kind.read_operand(text, "t") {
                Reading::Invalid(error) => Some(error.to_string()),
                Reading::Unknown => None,
                Reading::Value(value) => panic!("{value:?}"),
            };
            assert_eq!(reading.as_deref(), expected, "{text}");
        };
        let syntax = "ERROR 22P02 (invalid_text_representation) invalid input syntax for type t: ";
        for (kind, text) in [
            (Kind::Int4, "abc"),
            (Kind::Int4, ""),
            (Kind::Int8, "1.5"),
            (Kind::Bool, "o"),
            (Kind::Bool, ""),
            (Kind::Uuid, "123"),
            (Kind::Numeric, "x"),
            (Kind::Float8, "x"),
        ] {
            check(kind, text, Some(&format!("{syntax}\"{text}\"")));
        }
        check(
            Kind::Int4,
            "99999999999",
            Some(
                "ERROR 22003 (numeric_value_out_of_range) value \"99999999999\" is out of range for type t",
            ),
        );
        for (kind, text) in [
            (Kind::Int4, "0x1F"),
            (Kind::Int4, "1_000"),
            // Out of range before the point is met.
            (Kind::Int4, "99999999999.5"),
            (Kind::Float8, "1e400"),
            (Kind::Float8, "1e-400"),
            (Kind::Numeric, "1e9999"),
            (Kind::Date, "yesterday"),
            (Kind::TimestampTz, "now"),
            (Kind::Bits, "x1F"),
            (Kind::Bytea, r"\141"),
            (Kind::Char, r"\303"),
            (Kind::Other, "x"),
        ] {
            check(kind, text, None);
        }
    }

    #[test]
    fn citext_is_decided_where_every_locale_agrees() {
        let check = |left: &str, right: &str, expected: Option<bool>| {
            let text = |text: &'static str| Value::Text(text.into());
            let (left, right) = (text(Box::leak(left.into())), text(Box::leak(right.into())));
            assert_eq!(Kind::Citext.equal(&left, &right, Collation::Locale), expected);
        };
        check("Hello", "HELLO", Some(true));
        check("Hello", "h%", Some(false));
        check("IN", "in", None);
        check("É", "é", None);
        check("É", "É", Some(true));
    }
}
