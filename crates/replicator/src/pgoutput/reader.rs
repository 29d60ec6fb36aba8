//! A checked cursor over bytes of the server: the only place that touches offsets.

use crate::pgoutput::Problem;

/// A problem and where it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed {
    pub(crate) offset: usize,
    pub(crate) problem: Problem,
}

/// Reads values of network byte order from the front of a message.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    n_bytes: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, n_bytes: bytes.len() }
    }

    /// Position of the next byte.
    pub(crate) fn offset(&self) -> usize {
        self.n_bytes - self.rest.len()
    }

    /// The problem, at the current position.
    pub(crate) fn malformed(&self, problem: Problem) -> Malformed {
        Malformed { offset: self.offset(), problem }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.malformed(Problem::UnexpectedEnd { n_missing: N - self.rest.len() }));
        };
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A 16-bit count, which may not be negative.
    #[inline]
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let at = self.offset();
        let count = self.i16()?;
        usize::try_from(count).map_err(|_| negative(at, count.into()))
    }

    /// A 32-bit length, which may not be negative.
    #[inline]
    pub(crate) fn length(&mut self) -> Result<usize, Malformed> {
        let at = self.offset();
        let length = self.i32()?;
        usize::try_from(length).map_err(|_| negative(at, length))
    }

    #[inline]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            let n_missing = length - self.rest.len();
            return Err(self.malformed(Problem::UnexpectedEnd { n_missing }));
        };
        self.rest = rest;
        Ok(head)
    }

    /// UTF-8 text of a known length.
    #[inline]
    pub(crate) fn text(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let at = self.offset();
        std::str::from_utf8(self.bytes(length)?).map_err(|error| not_utf8(at, error))
    }

    /// UTF-8 text that ends with a zero byte.
    pub(crate) fn c_string(&mut self) -> Result<&'a str, Malformed> {
        let Some(length) = self.rest.iter().position(|byte| *byte == 0) else {
            return Err(self.malformed(Problem::NoTerminator));
        };
        let text = self.text(length)?;
        self.u8()?;
        Ok(text)
    }

    /// Everything that is left.
    pub(crate) fn remainder(self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.malformed(Problem::TrailingBytes { n_bytes: self.rest.len() }))
    }
}

fn negative(offset: usize, value: i32) -> Malformed {
    Malformed { offset, problem: Problem::NegativeLength { value } }
}

fn not_utf8(start: usize, error: std::str::Utf8Error) -> Malformed {
    Malformed { offset: start + error.valid_up_to(), problem: Problem::NotUtf8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_network_byte_order() {
        let mut reader = Reader::new(b"\x01\xff\xfe\x00\x00\x00\x02ab\0cd");
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.i16(), Ok(-2));
        assert_eq!(reader.u32(), Ok(2));
        assert_eq!(reader.c_string(), Ok("ab"));
        assert_eq!(reader.offset(), 10);
        assert!(reader.end().is_err());
        assert_eq!(reader.remainder(), b"cd");
    }

    #[test]
    fn problems_name_their_place() {
        fn check<T: std::fmt::Debug>(result: Result<T, Malformed>, offset: usize, of: Problem) {
            assert_eq!(
                result.map_err(|found| (found.offset, found.problem)).err(),
                Some((offset, of))
            );
        }
        let mut reader = Reader::new(b"\xff\xfe\x80abc\xff");
        check(reader.clone().count(), 0, Problem::NegativeLength { value: -2 });
        check(reader.clone().u64(), 0, Problem::UnexpectedEnd { n_missing: 1 });
        check(reader.clone().bytes(9), 0, Problem::UnexpectedEnd { n_missing: 2 });
        check(reader.c_string(), 0, Problem::NoTerminator);
        assert_eq!(reader.bytes(3), Ok(&b"\xff\xfe\x80"[..]));
        check(reader.text(4), 6, Problem::NotUtf8);
    }
}
