//! Positions in the write-ahead log.

use std::{error, fmt, str::FromStr};

/// A byte position in the write-ahead log, written as PostgreSQL writes it: `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(u64);

impl Lsn {
    /// The position before everything; PostgreSQL's `InvalidXLogRecPtr`.
    pub const ZERO: Self = Self(0);

    /// Behind every position there is.
    pub const MAX: Self = Self(u64::MAX);

    /// Wraps a byte position.
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The byte position.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Bytes from `earlier` to this position; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text is not of the form `XXXXXXXX/XXXXXXXX`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LsnParseError(String);

impl fmt::Display for LsnParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parse \"{}\" as a WAL position: expected the form 16/B374D848", self.0)
    }
}

impl error::Error for LsnParseError {}

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || LsnParseError(text.to_owned());
        let half = |digits: &str| {
            let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if digits.is_empty() || digits.len() > 8 || !hexadecimal {
                return Err(wrong());
            }
            u64::from_str_radix(digits, 16).map_err(|_| wrong())
        };
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for position in [0, 1, 0x16_B374_D848, u64::MAX] {
            let lsn = Lsn::new(position);
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        assert_eq!("16/B374D848".parse(), Ok(Lsn::new(0x16_B374_D848)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "/", "1", "1/", "/1", "G/0", "1/123456789", "+1/2", "1/2/3"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
